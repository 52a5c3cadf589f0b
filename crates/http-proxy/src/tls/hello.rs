//! Reads the server name out of the first bytes of a TLS connection without ending it (RFC 8446
//! 4.1.2, RFC 6066 3): `google-front-end` chooses by it and hands the socket over untouched.

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SniPeek {
    /// A beginning of a ClientHello: read on.
    NeedMore,
    /// The whole ClientHello, with its server name if it has one (lower case).
    Sni(Option<String>),
    /// No TLS, or a ClientHello that is malformed or larger than [`HELLO_MAX`].
    NotTls,
}

/// Largest ClientHello that is looked at; a post-quantum one has about 2 KiB.
pub const HELLO_MAX: usize = 64 * 1024;

const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_MAX: usize = 16 * 1024 + 256;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_TYPE_HOST: u8 = 0;

/// Looks at what has been read so far, from the first byte of the connection on. Never needs more
/// than [`HELLO_MAX`] bytes.
pub fn client_hello_sni(bytes: &[u8]) -> SniPeek {
    match handshake_message(bytes) {
        Ok(Some(hello)) => match server_name(&hello) {
            Some(name) => SniPeek::Sni(name),
            None => SniPeek::NotTls,
        },
        Ok(None) => SniPeek::NeedMore,
        Err(NotTls) => SniPeek::NotTls,
    }
}

struct NotTls;

/// Joins the fragments of the first handshake message; none while it is incomplete.
fn handshake_message(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    let mut message = Vec::new();
    loop {
        // As much of a record's head as is there must fit, so that plain HTTP is known by one byte.
        let head = &bytes[..bytes.len().min(5)];
        if head.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE)
            || head.get(1).is_some_and(|major| *major != 3)
        {
            return Err(NotTls);
        }
        let [_, _, _, high, low] = *head else { return Ok(None) };
        let length = u16::from_be_bytes([high, low]) as usize;
        if length == 0 || length > RECORD_MAX {
            return Err(NotTls);
        }
        let body = &bytes[5..];
        let fragment = &body[..body.len().min(length)];
        message.extend_from_slice(fragment);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NotTls);
        }
        if let [_, a, b, c, rest @ ..] = &message[..] {
            let wanted = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if wanted > HELLO_MAX {
                return Err(NotTls);
            }
            if rest.len() >= wanted {
                let end = 4 + wanted;
                message.truncate(end);
                message.drain(..4);
                return Ok(Some(message));
            }
        }
        if body.len() < length {
            return Ok(None);
        }
        bytes = &body[length..];
    }
}

/// The server name of a complete ClientHello body; the outer none: malformed.
fn server_name(hello: &[u8]) -> Option<Option<String>> {
    let rest = hello.get(2 + 32..)?; // version, random
    let (_, rest) = vector8(rest)?; // session id
    let (suites, rest) = vector16(rest)?;
    let (compressions, rest) = vector8(rest)?;
    if suites.is_empty() || compressions.is_empty() {
        return None;
    }
    if rest.is_empty() {
        return Some(None); // no extensions: allowed up to TLS 1.2
    }
    let (mut extensions, rest) = vector16(rest)?;
    if !rest.is_empty() {
        return None;
    }
    while !extensions.is_empty() {
        let (kind, after) = number16(extensions)?;
        let (content, after) = vector16(after)?;
        extensions = after;
        if kind != EXTENSION_SERVER_NAME {
            continue;
        }
        let (mut list, _) = vector16(content)?;
        while !list.is_empty() {
            let (&name_type, after) = list.split_first()?;
            let (name, after) = vector16(after)?;
            list = after;
            if name_type == NAME_TYPE_HOST {
                let name = std::str::from_utf8(name).ok().filter(|name| name.is_ascii())?;
                return Some(Some(name.to_ascii_lowercase()).filter(|name| !name.is_empty()));
            }
        }
    }
    Some(None)
}

fn number16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let ([high, low], rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes([*high, *low]), rest))
}

fn vector8(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(length as usize)
}

fn vector16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number16(bytes)?;
    rest.split_at_checked(length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(name: &str, fragment: usize) -> Vec<u8> {
        let config = super::super::client_config_unverified(&["h2", "http/1.1"]).expect("a config");
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
        let mut connection = rustls::ClientConnection::new(config, name).expect("a connection");
        let mut wire = Vec::new();
        connection.write_tls(&mut wire).expect("a hello");
        let body = &wire[5..];
        let mut records = Vec::new();
        for part in body.chunks(fragment) {
            records.extend_from_slice(&wire[..3]);
            records.extend_from_slice(&(part.len() as u16).to_be_bytes());
            records.extend_from_slice(part);
        }
        records
    }

    #[test]
    fn the_name_is_found_in_one_record_or_many() {
        for fragment in [16_000, 100, 7, 1] {
            let bytes = hello("Login-hash-ew.a.run.app", fragment);
            let expected = SniPeek::Sni(Some("login-hash-ew.a.run.app".into()));
            assert_eq!(client_hello_sni(&bytes), expected);
            for end in 0..bytes.len() {
                assert_eq!(client_hello_sni(&bytes[..end]), SniPeek::NeedMore, "{end}");
            }
        }
        assert_eq!(client_hello_sni(&hello("10.0.0.1", 16_000)), SniPeek::Sni(None));
    }

    #[test]
    fn what_is_not_tls_is_known_by_its_first_byte() {
        for bytes in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"\x16\x02",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\xff\xff",
        ] {
            assert_eq!(client_hello_sni(bytes), SniPeek::NotTls, "{bytes:?}");
        }
        assert_eq!(client_hello_sni(b""), SniPeek::NeedMore);
        // a ServerHello, and a ClientHello of 16 MiB
        assert_eq!(client_hello_sni(b"\x16\x03\x03\x00\x04\x02"), SniPeek::NotTls);
        assert_eq!(client_hello_sni(b"\x16\x03\x03\x00\x04\x01\xff\xff\xff"), SniPeek::NotTls);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(mut bytes: Vec<u8>, flip in 0usize..600, by: u8) {
            client_hello_sni(&bytes);
            bytes.splice(0..0, [22, 3, 1]);
            client_hello_sni(&bytes);
            let mut real = hello("a.example.com", 100);
            if let Some(byte) = real.get_mut(flip) { *byte ^= by; }
            client_hello_sni(&real);
        }
    }
}
