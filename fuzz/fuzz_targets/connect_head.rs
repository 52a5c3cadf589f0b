//! The head of a tunnel between hosts, as strangers would write it: `:authority`, then bytes that may
//! or may not become a PROXY header, in pieces of any size.
#![no_main]

use hbone::head::{self, Gathering};
use libfuzzer_sys::fuzz_target;
use proxy_protocol::{HEADER_BYTES_MAX, Header};

fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (authority, sizes, bytes) = input;
    if let Ok(uri) = authority.parse::<http::Uri>() {
        let mut request = http::Request::new(());
        *request.method_mut() = http::Method::CONNECT;
        *request.uri_mut() = uri;
        let _ = head::destination(&request);
    }
    let mut gathering = Gathering::default();
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    let mut at = 0;
    let found = loop {
        if at == bytes.len() {
            break None;
        }
        let size = sizes.next().unwrap_or(1).min(bytes.len() - at);
        match gathering.push(&bytes[at..at + size]) {
            Ok(Some((header, took))) => {
                assert!(took <= size);
                break Some(Ok((header, at + took)));
            }
            Ok(None) => at += size,
            Err(error) => break Some(Err(error)),
        }
    };
    // In one piece it is the same.
    match (found, Header::decode(&bytes[..bytes.len().min(HEADER_BYTES_MAX)])) {
        (Some(Ok((header, length))), Ok(Some((whole, at_once)))) => {
            assert_eq!((&header, length), (&whole, at_once));
            assert_eq!(gathering.into_head(), bytes[..length]);
            if let Ok(request) = head::request(&header) {
                let destination = head::destination(&request).expect("an address and a port");
                head::check(&header, destination).expect("its own");
            }
        }
        (Some(Ok(_)), other) => panic!("in pieces a header, at once {other:?}"),
        (_, Ok(Some(_))) => panic!("at once a header, in pieces none"),
        (Some(Err(_)) | None, Ok(None) | Err(_)) => {}
    }
});
