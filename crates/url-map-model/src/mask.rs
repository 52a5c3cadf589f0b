//! URL masks (3.2, 3.3), by translation to a regular expression.

use crate::path::regex;
use names::Reason;
use slice::load_balancer::CloudRunEndpoints;

/// Service and tag that a serverless group yields.
#[derive(Clone, Debug, PartialEq)]
pub struct Masked {
    /// The service.
    pub service: String,
    /// The tag.
    pub tag: Option<String>,
}

/// What the group yields for a URL, after rewrites (3.3).
pub fn mask(group: &CloudRunEndpoints, host: &str, path: &str) -> Result<Masked, Reason> {
    let mut service = group.service.clone();
    let mut tag = group.tag.clone();
    if let Some(mask) = &group.url_mask {
        let captured = captures(mask, host, path).ok_or(Reason::UrlMaskNoMatch)?;
        for (name, value) in captured {
            if !legal(&value) {
                return Err(Reason::UrlMaskIllegalName);
            }
            match name {
                "service" => service = Some(value),
                _ => tag = Some(value),
            }
        }
    }
    let service = service.expect("a service or a mask that yields one");
    let known = group.services.iter().find(|known| known.name == service);
    let known = known.ok_or(Reason::CloudRunServiceNotFound)?;
    match tag {
        Some(tag) if !known.tags.contains(&tag) => Err(Reason::CloudRunTagNotFound),
        tag => Ok(Masked { service, tag }),
    }
}

/// `[a-z]([-a-z0-9]*[a-z0-9])?`, at most 49.
fn legal(name: &str) -> bool {
    name.len() <= 49 && regex("^[a-z]([-a-z0-9]*[a-z0-9])?$").is_match(name)
}

fn captures(mask: &str, host: &str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mask_host, mask_path) = mask.split_at(mask.find('/').unwrap_or(mask.len()));
    // The port removed, lower-cased.
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let mut all = Vec::new();
    if !mask_host.is_empty() {
        // Right-anchored, on whole labels.
        all.extend(run(&format!(r"(?:^|\.){}$", pattern(mask_host, "[^./]+?")), &host)?);
    }
    if !mask_path.is_empty() {
        // Left-anchored, on whole segments.
        all.extend(run(&format!("^{}(?:/|$)", pattern(mask_path, "[^/]+?")), path)?);
    }
    Some(all)
}

fn pattern(mask: &str, placeholder: &str) -> String {
    ::regex::escape(mask)
        .replace("<service>", &format!("(?P<service>{placeholder})"))
        .replace("<tag>", &format!("(?P<tag>{placeholder})"))
}

fn run(pattern: &str, text: &str) -> Option<Vec<(&'static str, String)>> {
    let found = regex(pattern).captures(text)?;
    let named =
        |name: &'static str| found.name(name).map(|value| (name, value.as_str().to_owned()));
    Some([named("service"), named("tag")].into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of 3.2, as far as Cloud Run goes.
    #[test]
    fn the_documented_masks_yield_their_services() {
        for (host, path, mask, service, tag) in [
            ("login-home.example.com", "/web", "<service>-home.example.com", "login", None),
            ("example.com", "/login/web", "example.com/<service>", "login", None),
            ("example.com", "/login/web", "/<service>", "login", None),
            (
                "test.login.example.com",
                "/web",
                "<tag>.<service>.example.com",
                "login",
                Some("test"),
            ),
            ("example.com", "/home/login/test", "/home/<service>/<tag>", "login", Some("test")),
            (
                "test.example.com",
                "/home/login/web",
                "<tag>.example.com/home/<service>",
                "login",
                Some("test"),
            ),
            ("foo1.domain.com", "/bar1", "<tag>.domain.com/<service>", "bar1", Some("foo1")),
        ] {
            let mut all = captures(mask, host, path).expect(mask);
            all.sort();
            let mut expected = vec![("service", service.to_owned())];
            expected.extend(tag.map(|tag| ("tag", tag.to_owned())));
            assert_eq!(all, expected, "{mask}");
        }
        assert_eq!(captures("/<service>", "a", "/"), None);
        assert!(!legal("login.html"));
    }
}
