//! The PROXY header in front of a connection (private-connectivity 1.5), where the target proxy
//! says that there is one.

use proxy_protocol::{Addresses, Command, HEADER_BYTES_MAX, Header};
use std::net::SocketAddrV4;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A header must have come within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Signature, version, family, length: what every header of version 2 begins with.
const FIXED_BYTES: usize = 16;

/// Reads the header and not a byte more. The client that it names; none: the connection's own
/// (`LOCAL`, or addresses that are not told).
///
/// # Errors
/// A sentence: what came is no such header, or it did not come in time.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddrV4>, String> {
    let header = tokio::time::timeout(HEADER_TIMEOUT, header(io)).await;
    let header = header.map_err(|_| "the PROXY header did not come in time".to_owned())??;
    match (header.command, &header.addresses) {
        (Command::Local, _) | (_, Addresses::Unspecified) => Ok(None),
        (Command::Proxy, Addresses::V4 { source, .. }) => Ok(Some(*source)),
        (Command::Proxy, _) => Err("the PROXY header names a client without IPv4".to_owned()),
    }
}

async fn header(io: &mut (impl AsyncRead + Unpin)) -> Result<Header, String> {
    let mut bytes = vec![0; FIXED_BYTES];
    // One by one at first: what is no header is known by its first bytes, and may be short.
    for end in 1..=FIXED_BYTES {
        let read = io.read_exact(&mut bytes[end - 1..end]).await;
        read.map_err(|error| format!("no PROXY header: {error}"))?;
        if bytes[0] == b'P' {
            return Err("the PROXY header is not of version 2".to_owned());
        }
        Header::decode(&bytes[..end]).map_err(|error| error.to_string())?;
    }
    let rest = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if FIXED_BYTES + rest > HEADER_BYTES_MAX {
        return Err(proxy_protocol::Error::TooLong.to_string());
    }
    bytes.resize(FIXED_BYTES + rest, 0);
    let read = io.read_exact(&mut bytes[FIXED_BYTES..]).await;
    read.map_err(|error| format!("no whole PROXY header: {error}"))?;
    match Header::decode(&bytes) {
        Ok(Some((header, _))) => Ok(header),
        Ok(None) => Err(proxy_protocol::Error::AddressesTruncated.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> (Result<Option<SocketAddrV4>, String>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let mut rest = bytes;
        let read = runtime.expect("a runtime").block_on(read(&mut rest));
        (read, rest.len())
    }

    #[test]
    fn the_header_is_read_and_nothing_behind_it() {
        let (client, balancer) =
            ("192.0.2.7:5000".parse().expect("one"), "10.0.0.5:80".parse().expect("one"));
        let header = Header::tcp(client, balancer).with_psc_connection_id(7).expect("a TLV");
        let mut bytes = header.encode().expect("a header");
        bytes.extend_from_slice(b"GET");
        assert_eq!(run(&bytes), (Ok(Some(client)), 3));
        let local = Header::local().encode().expect("a header");
        assert_eq!(run(&local), (Ok(None), 0));
        for length in 0..bytes.len() - 3 {
            assert!(run(&bytes[..length]).0.is_err(), "{length}");
        }
    }

    #[test]
    fn what_is_no_header_of_version_2_is_known_at_once() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"PROXY TCP4 1.1.1.1 "] {
            let (read, left) = run(bytes);
            assert!(read.is_err() && left + 1 == bytes.len(), "{read:?} {left}");
        }
        let mut long = Header::local().encode().expect("a header");
        (long[14], long[15]) = (0xff, 0xff);
        assert_eq!(run(&long).0, Err(proxy_protocol::Error::TooLong.to_string()));
    }
}
