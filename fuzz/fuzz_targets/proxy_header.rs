//! Any bytes as a PROXY header: no panic; a decision is final (more bytes never change it); what
//! was read as version 2 is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_protocol::{Command, Header, Version};

fuzz_target!(|data: &[u8]| {
    let Ok(Some((header, length))) = Header::decode(data) else { return };
    assert!(length <= data.len());
    assert_eq!(Header::decode(&data[..length]), Ok(Some((header.clone(), length))));
    assert_eq!(Header::decode(&data[..length - 1]), Ok(None));
    let _ = (header.origin(), header.service(), header.region(), header.psc_connection_id());
    if header.version == Version::V2 {
        let wire = header.encode().expect("what was read can be written");
        let (again, _) = Header::decode(&wire).expect("well-formed").expect("complete");
        assert_eq!(again, header);
        // A LOCAL header and an unreadable block of an unspecified family lose what they carried.
        if header.command == Command::Proxy && wire.len() == length {
            assert_eq!(wire, data[..length]);
        }
    }
});
