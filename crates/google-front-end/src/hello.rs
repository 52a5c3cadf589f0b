//! A look at a connection's first bytes that leaves them where they are.

use http_proxy::tls::{SniPeek, client_hello_sni};
use nix::sys::socket::{MsgFlags, recv};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The most that is looked at. A client with a post-quantum key share sends about 2 KiB.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a connection began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A ClientHello, with the server name if it has one, in lower case.
    Tls(Option<String>),
    /// Something else, or a ClientHello that is larger than [`HELLO_BYTES_MAX`].
    NotTls,
    /// The client was done before its ClientHello was complete.
    Gone,
}

/// Waits for the ClientHello and reads the server name, without taking a byte off the socket.
///
/// # Errors
/// Those of `recv(2)`.
pub async fn peek(stream: &TcpStream) -> io::Result<Hello> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let looked = stream.try_io(Interest::READABLE, || {
            let hello = BUFFER.with_borrow_mut(|buffer| look(stream, buffer))?;
            // What is there stays there, so the socket must be made to wait for the next bytes.
            hello.ok_or_else(|| ErrorKind::WouldBlock.into())
        });
        match looked {
            Ok(hello) => return Ok(hello),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // No more bytes will come, and the socket would be ready for ever.
                if ready.is_read_closed() {
                    return Ok(Hello::Gone);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// None: more bytes are needed.
fn look(stream: &TcpStream, buffer: &mut Vec<u8>) -> nix::Result<Option<Hello>> {
    buffer.resize(HELLO_BYTES_MAX, 0);
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let count = recv(stream.as_raw_fd(), buffer, flags)?;
    Ok(match client_hello_sni(&buffer[..count]) {
        _ if count == 0 => Some(Hello::Gone),
        SniPeek::Sni(name) => Some(Hello::Tls(name)),
        SniPeek::NotTls => Some(Hello::NotTls),
        SniPeek::NeedMore if count == HELLO_BYTES_MAX => Some(Hello::NotTls),
        SniPeek::NeedMore => None,
    })
}
