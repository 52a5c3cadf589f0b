//! Actions (2.6): rewrites, redirects, header changes, cross-origin requests.

use crate::Request;
use crate::path::{Found, regex};
use slice::load_balancer::{CorsPolicy, HeaderAction, HeaderOption, UrlRedirect, UrlRewrite};

/// How a route was reached: what its actions count as the matched portion.
pub(crate) enum Reached<'c> {
    /// By the default of a matcher or map: prefixes are prepended (trap 10).
    Default,
    /// By a rule.
    Rule(&'c Found),
}

/// `path` with its matched portion replaced.
fn replaced(reached: &Reached, path: &str, with: &str) -> String {
    match reached {
        // The matched prefix is `/`; what is prepended brings its own.
        Reached::Default => format!("{}/{}", with.trim_end_matches('/'), &path[1..]),
        Reached::Rule(found) => format!("{with}{}", &path[found.portion..]),
    }
}

fn with_query(path: String, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// Host and path with query after a rewrite.
pub(crate) fn rewrite(
    action: Option<&UrlRewrite>,
    reached: &Reached,
    request: &Request,
) -> (String, String) {
    let Some(action) = action else {
        return (request.host.clone(), request.path_and_query.clone());
    };
    let path = if let Some(with) = &action.path_prefix_rewrite {
        replaced(reached, request.path(), with)
    } else if let Some(template) = &action.path_template_rewrite {
        let Reached::Rule(found) = reached else { panic!("a template without its match") };
        let variable = |all: String, (name, value): (&String, &String)| {
            all.replace(&format!("{{{name}}}"), value)
        };
        found.variables.iter().fold(template.clone(), variable)
    } else if let Some(rewrite) = &action.regex_rewrite {
        // Groups are `\1` in RE2, `${1}` in the crate.
        let with = regex(r"\\([0-9])");
        let with = with.replace_all(&rewrite.path_substitution, "$${$1}").into_owned();
        let pattern = regex(&rewrite.path_pattern);
        pattern.replace_all(request.path(), with.as_str()).into_owned()
    } else {
        request.path().to_owned()
    };
    let host = action.host_rewrite.as_ref().unwrap_or(&request.host).clone();
    (host, with_query(path, request.query()))
}

/// `Location` of a redirect.
pub(crate) fn redirect(
    action: &UrlRedirect,
    reached: &Reached,
    request: &Request,
    https: bool,
) -> String {
    let scheme = if https || action.https_redirect { "https" } else { "http" };
    // Port 80 is not for https, so it does not outlive the change of scheme (Envoy).
    let kept = match action.https_redirect && !https {
        true => request.host.strip_suffix(":80").unwrap_or(&request.host),
        false => &request.host,
    };
    let host = action.host_redirect.as_deref().unwrap_or(kept);
    let path = match (&action.path_redirect, &action.prefix_redirect) {
        (Some(whole), _) => whole.clone(),
        (None, Some(prefix)) => replaced(reached, request.path(), prefix),
        (None, None) => request.path().to_owned(),
    };
    let query = if action.strip_query { None } else { request.query() };
    format!("{scheme}://{host}{}", with_query(path, query))
}

/// The path without `.` and `..` segments (RFC 3986 5.2.4), asked for where it has `/../` (trap 25).
pub fn collapse(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            "." if last => kept.push(""),
            "." => {}
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// What a policy says to a request of another origin's page: is it a preflight, which the load
/// balancer answers itself, and which headers go into the answer. None where the origin is not
/// allowed: such a request is forwarded as any other, preflights too (Envoy's filter).
pub(crate) fn cross_origin(
    policy: &CorsPolicy,
    request: &Request,
) -> Option<(bool, Vec<(String, String)>)> {
    let header = |name: &str| {
        let mut all = request.headers.iter().filter(|header| header.0 == name);
        all.next().map(|header| header.1.as_str()).filter(|value| !value.is_empty())
    };
    let origin = header("origin")?;
    let allowed = policy.allow_origins.iter().any(|one| one == "*" || one == origin)
        || policy.allow_origin_regexes.iter().any(|one| crate::path::full_match(one, origin));
    if policy.disabled || !allowed {
        return None;
    }
    let preflight =
        request.method == "OPTIONS" && header("access-control-request-method").is_some();
    let mut headers = vec![("access-control-allow-origin".to_owned(), origin.to_owned())];
    if policy.allow_credentials {
        headers.push(("access-control-allow-credentials".to_owned(), "true".to_owned()));
    }
    let lists = match preflight {
        true => &[
            ("access-control-allow-methods", &policy.allow_methods),
            ("access-control-allow-headers", &policy.allow_headers),
            ("access-control-expose-headers", &policy.expose_headers),
        ][..],
        false => &[("access-control-expose-headers", &policy.expose_headers)][..],
    };
    for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        headers.push(((*name).to_owned(), list.join(",")));
    }
    if let Some(seconds) = policy.max_age.filter(|_| preflight) {
        headers.push(("access-control-max-age".to_owned(), seconds.to_string()));
    }
    Some((preflight, headers))
}

/// Headers after the levels, innermost first; within a level what is removed goes first.
pub fn apply_headers(
    levels: &[HeaderAction],
    mut headers: Vec<(String, String)>,
    request: bool,
) -> Vec<(String, String)> {
    for level in levels {
        let (remove, add): (&[String], &[HeaderOption]) = match request {
            true => (&level.request_headers_to_remove, &level.request_headers_to_add),
            false => (&level.response_headers_to_remove, &level.response_headers_to_add),
        };
        for name in remove {
            headers.retain(|header| !header.0.eq_ignore_ascii_case(name));
        }
        for option in add {
            let name = option.header_name.to_ascii_lowercase();
            if option.replace {
                headers.retain(|header| header.0 != name);
            }
            headers.push((name, option.header_value.clone()));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::collapse;

    #[test]
    fn dot_segments_go_as_rfc_3986_says() {
        assert_eq!(collapse("/a/b/c/./../../g"), "/a/g");
        assert_eq!(collapse("/a/../b"), "/b");
        assert_eq!(collapse("/../../x/.."), "/");
        assert_eq!(collapse("/a/../b/"), "/b/");
    }
}
