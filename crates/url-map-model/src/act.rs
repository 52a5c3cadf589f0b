//! Actions (2.6): rewrites, redirects, header changes, cross-origin requests.

use crate::Request;
use crate::path::Found;
use regex::Regex;
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
    } else if let Some(regex) = &action.regex_rewrite {
        // Groups are `\1` in RE2, `${1}` in the crate.
        let with = Regex::new(r"\\([0-9])").expect("ours");
        let with = with.replace_all(&regex.path_substitution, "$${$1}").into_owned();
        let pattern = Regex::new(&regex.path_pattern).expect("a pattern");
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

/// Does the load balancer answer this request itself, as a preflight? The origin must be allowed;
/// another one's is forwarded as any request (Envoy's filter).
pub(crate) fn is_preflight(policy: &CorsPolicy, request: &Request) -> bool {
    let header = |name: &str| {
        request.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    };
    let Some(origin) = header("origin") else { return false };
    let allowed = policy.allow_origins.iter().any(|one| one == "*" || one == origin)
        || policy.allow_origin_regexes.iter().any(|one| crate::path::full_match(one, origin));
    !policy.disabled
        && request.method == "OPTIONS"
        && header("access-control-request-method").is_some_and(|method| !method.is_empty())
        && allowed
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
