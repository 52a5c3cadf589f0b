//! For whom a token is: exact comparison, and what nearly matched (cloud-run 5.2).

use crate::Claims;
use std::fmt;

/// A token that is for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudienceMismatch {
    /// The token's audience.
    pub got: String,
    /// Every audience that would do.
    pub accepted: Vec<String>,
    /// The accepted one that it nearly is, and what is wrong with it.
    pub near: Option<(AudienceNearMiss, String)>,
}

/// How an audience just fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudienceNearMiss {
    /// Only a slash at the end.
    TrailingSlash,
    /// A path or query behind the service's URL.
    PathOrQuery,
    /// `http://` or no scheme.
    Scheme,
    /// A tag's URL instead of the service's.
    TagUrl,
    /// A port.
    Port,
    /// Upper-case letters, or spaces around it.
    Spelling,
}

impl fmt::Display for AudienceNearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AudienceNearMiss::TrailingSlash => "has a slash at the end",
            AudienceNearMiss::PathOrQuery => "has a path; the service's URL alone is accepted",
            AudienceNearMiss::Scheme => "does not begin with https://",
            AudienceNearMiss::TagUrl => {
                "is a tag's URL; the service's URL is accepted for its tags too"
            }
            AudienceNearMiss::Port => "has a port",
            AudienceNearMiss::Spelling => "is spelled with other case or spaces",
        })
    }
}

impl fmt::Display for AudienceMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token's audience is `{}`", self.got)?;
        match &self.near {
            Some((near, accepted)) => write!(f, ", which {near}: `{accepted}` is accepted"),
            None if self.accepted.is_empty() => f.write_str("; the service accepts none"),
            None => write!(f, "; accepted: {}", self.accepted.join(", ")),
        }
    }
}

/// Is the token for one of `accepted`? Compared as exact text.
///
/// # Errors
/// What the token says, what would do, and the near miss.
pub fn audience_accepted<S: AsRef<str>>(
    claims: &Claims,
    accepted: &[S],
) -> Result<(), AudienceMismatch> {
    if accepted.iter().any(|audience| audience.as_ref() == claims.aud) {
        return Ok(());
    }
    let near = accepted.iter().find_map(|audience| {
        Some((near_miss(&claims.aud, audience.as_ref())?, audience.as_ref().to_owned()))
    });
    let accepted = accepted.iter().map(|audience| audience.as_ref().to_owned()).collect();
    Err(AudienceMismatch { got: claims.aud.clone(), accepted, near })
}

fn near_miss(got: &str, accepted: &str) -> Option<AudienceNearMiss> {
    let rest_of = |text: &str| text.strip_prefix(accepted).map(str::to_owned);
    if let Some(rest) = rest_of(got) {
        return match rest.as_bytes() {
            b"/" => Some(AudienceNearMiss::TrailingSlash),
            [b'/' | b'?' | b'#', ..] => Some(AudienceNearMiss::PathOrQuery),
            [b':', port @ ..] if port.iter().all(u8::is_ascii_digit) => {
                Some(AudienceNearMiss::Port)
            }
            _ => None,
        };
    }
    if got.trim().eq_ignore_ascii_case(accepted) {
        return Some(AudienceNearMiss::Spelling);
    }
    let host = accepted.strip_prefix("https://")?;
    let bare = got.split_once("://").map_or(got, |(_, rest)| rest);
    if bare.trim_end_matches('/') == host {
        return Some(AudienceNearMiss::Scheme);
    }
    let (_, untagged) = bare.split_once("---")?;
    (untagged.trim_end_matches('/') == host).then_some(AudienceNearMiss::TagUrl)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(audience: &str) -> Result<(), Option<AudienceNearMiss>> {
        let claims = Claims::of_service_account("1", None, audience, 0);
        audience_accepted(&claims, &["https://s-1.r.run.app", "custom"])
            .map_err(|mismatch| mismatch.near.map(|(near, _)| near))
    }

    #[test]
    fn an_audience_is_an_exact_string_and_near_misses_are_named() {
        assert_eq!(check("https://s-1.r.run.app"), Ok(()));
        assert_eq!(check("custom"), Ok(()));
        for (audience, near) in [
            ("https://s-1.r.run.app/", Some(AudienceNearMiss::TrailingSlash)),
            ("https://s-1.r.run.app/orders", Some(AudienceNearMiss::PathOrQuery)),
            ("https://s-1.r.run.app?x", Some(AudienceNearMiss::PathOrQuery)),
            ("https://s-1.r.run.app:443", Some(AudienceNearMiss::Port)),
            ("http://s-1.r.run.app", Some(AudienceNearMiss::Scheme)),
            ("s-1.r.run.app", Some(AudienceNearMiss::Scheme)),
            ("https://tag---s-1.r.run.app", Some(AudienceNearMiss::TagUrl)),
            ("https://S-1.r.run.app", Some(AudienceNearMiss::Spelling)),
            ("https://s-1.r.run.app.example.com", None),
            ("customer", None),
            ("", None),
        ] {
            assert_eq!(check(audience), Err(near), "{audience}");
        }
    }

    #[test]
    fn a_mismatch_says_what_would_do() {
        let claims = Claims::of_service_account("1", None, "elsewhere", 0);
        let mismatch = audience_accepted(&claims, &["a", "b"]).expect_err("another audience");
        assert_eq!(mismatch.to_string(), "the token's audience is `elsewhere`; accepted: a, b");
    }
}
