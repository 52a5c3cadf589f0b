//! HTTP/1.1 by hand over httparse: both sockets of an exchange are driven by one task, without
//! channels, and a connection that waits holds no buffer (performance, advice 6 and 9).

mod client;
mod decode;
mod encode;
mod fields;
mod head;
mod server;
mod source;
mod wire;

pub(crate) use client::{Exchange, Home};
pub(crate) use decode::{Decoder, Step};
pub(crate) use encode::parse_length;
pub(crate) use head::{is_authority, request};
pub(crate) use server::serve;
pub(crate) use source::RequestBody;
pub use wire::{BoxIo, Io};
pub(crate) use wire::{Reader, give_back, spare_buffer};
