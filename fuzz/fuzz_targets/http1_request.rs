//! Any bytes as an HTTP/1.1 request: head and body by the server's own parsers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| http_proxy::fuzzing::request_of(data));
