//! The gRPC health checking protocol, `grpc.health.v1.Health/Check`: one unary call, whose two
//! messages have one field each.

use crate::body::{Body, Incoming};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, TE};
use http::{HeaderMap, Request, Response, StatusCode};

/// The method.
const PATH: &str = "/grpc.health.v1.Health/Check";
/// A `grpc.health.v1.HealthCheckResponse` with the status SERVING (field 1, varint 1).
const SERVING: &[u8] = &[0x08, 0x01];
/// No answer is longer.
const ANSWER_MAX: usize = 1024;

/// Asks for the health of a service; of the server itself where its name is empty. To be sent over
/// HTTP/2.
///
/// # Errors
/// An authority that cannot stand in a header.
pub fn request(authority: &str, service: &str) -> Result<Request<Body>, http::Error> {
    Request::post(PATH)
        .header(HOST, authority)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .body(Body::full(message(service)))
}

/// What the answer says.
///
/// # Errors
/// Why it is not SERVING, in words for a log.
pub async fn serving(response: Response<Incoming>) -> Result<(), String> {
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}, not 200", response.status().as_u16()));
    }
    let mut status = grpc_status(response.headers());
    let mut body = response.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(trailers) = frame.trailers_ref() {
            status = grpc_status(trailers);
        }
        read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if read.len() > ANSWER_MAX {
            return Err("the answer is too long".to_owned());
        }
    }
    match (status.as_deref(), read.get(5..)) {
        (Some("0"), Some(SERVING)) => Ok(()),
        (Some("0"), _) => Err("the health service does not say SERVING".to_owned()),
        (status, _) => Err(format!("grpc-status is {}", status.unwrap_or("missing"))),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().ok()?.to_owned())
}

/// A message frame with a `HealthCheckRequest` (field 1, a string).
fn message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_request_names_the_service() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }
}
