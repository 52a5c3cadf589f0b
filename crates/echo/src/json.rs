//! The JSON answer: the request as it arrived.

use crate::instance::Instance;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

/// Of a longer body only the length is told; it is read to its end all the same.
const BODY_SHOWN_MAX: usize = 1 << 20;

/// The answer to any request that means nothing special.
pub(crate) async fn answer(
    head: &http::request::Parts,
    body: Incoming,
    instance: &Instance,
) -> Result<http::Response<Bytes>, hyper::Error> {
    let (text, length) = read(body).await?;
    let shown = json!({
        "service": instance.service,
        "revision": instance.revision,
        "instance": instance.id().await,
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "protocol": format!("{:?}", head.version),
        "headers": headers(head),
        "bodyBytes": length,
        "body": text,
    });
    let mut text = shown.to_string();
    text.push('\n');
    let mut response = http::Response::new(Bytes::from(text));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

/// The body as text, where it is text and not too long, and its length.
async fn read(mut body: Incoming) -> Result<(Option<String>, u64), hyper::Error> {
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            length += data.len() as u64;
            if length <= BODY_SHOWN_MAX as u64 {
                kept.extend_from_slice(data);
            }
        }
    }
    let whole = kept.len() as u64 == length;
    let text = String::from_utf8(kept.to_vec()).ok();
    Ok((text.filter(|_| whole), length))
}

/// Header names in their order, repeated values joined (RFC 9110 5.2). HTTP/2 has the host in its
/// target instead; it is shown as `host` for both.
fn headers(head: &http::request::Parts) -> Map<String, Value> {
    let mut shown = Map::new();
    if let Some(authority) = head.uri.authority() {
        shown.insert("host".to_owned(), authority.as_str().into());
    }
    for name in head.headers.keys() {
        let values = head.headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        shown.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    shown
}
