//! Port 80 of Google's front ends: what is asked for without TLS (cloud-run 1.3).

use names::is_run_app;

/// The status of the redirect to HTTPS (302 (unconfirmed); some report 301).
pub const REDIRECT_STATUS: u16 = 302;

/// What a front end answers without looking any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// The same URL with `https:`. Whether the service exists or lets the client in is asked there.
    Redirect {
        /// The URL.
        location: String,
    },
    /// No host that it knows.
    NotFound,
}

/// Decides by `Host`, with or without the port, and the request target.
pub fn plain_http(authority: &str, target: &str) -> PlainHttp {
    let host = authority.strip_suffix(":80").unwrap_or(authority).to_ascii_lowercase();
    match is_run_app(&host) && !host.contains(':') {
        true => PlainHttp::Redirect { location: format!("https://{host}{target}") },
        false => PlainHttp::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::{PlainHttp, plain_http};

    #[test]
    fn a_service_s_name_is_redirected_with_path_and_query() {
        for (authority, target, expected) in [
            ("a-1.europe-west1.run.app", "/x?y=1", Some("https://a-1.europe-west1.run.app/x?y=1")),
            ("A-1.europe-west1.Run.App:80", "/", Some("https://a-1.europe-west1.run.app/")),
            ("a-1.europe-west1.run.app:8080", "/", None),
            ("storage.googleapis.com", "/", None),
            ("", "/", None),
        ] {
            let expected = match expected {
                Some(location) => PlainHttp::Redirect { location: location.to_owned() },
                None => PlainHttp::NotFound,
            };
            assert_eq!(plain_http(authority, target), expected, "{authority}");
        }
    }
}
