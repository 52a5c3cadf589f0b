//! The redirects that the load balancer answers by itself: `urlRedirect` (private-connectivity
//! 2.6) and the collapsing of `/../` (2.8).

use crate::paths::Matched;
use crate::rewrite::replace_prefix;
use slice::load_balancer::UrlRedirect;

/// The five codes of `redirectResponseCode`.
pub(crate) const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// May the text stand in `Location`?
///
/// # Errors
/// Its first character that may not.
pub fn redirect_text(text: &str) -> Result<(), char> {
    match text.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => Err(c),
        None => Ok(()),
    }
}

/// The scheme as a URL writes it.
fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

/// The `Location` of a `urlRedirect`.
///
/// Chosen as Envoy does it, because the pages do not say (all unconfirmed): a `hostRedirect` drops
/// the request's port; `:80` is dropped when the scheme becomes https; a `pathRedirect` with a
/// query of its own keeps that one.
pub(crate) fn location(
    redirect: &UrlRedirect,
    matched: Matched,
    https: bool,
    host: &str,
    path: &str,
    query: Option<&str>,
) -> String {
    let to_https = https || redirect.https_redirect;
    let host = match &redirect.host_redirect {
        Some(host) => host,
        None if to_https && !https => host.strip_suffix(":80").unwrap_or(host),
        None => host,
    };
    let mut url = String::with_capacity(host.len() + path.len() + 16);
    url.push_str(scheme(to_https));
    url.push_str("://");
    url.push_str(host);
    match (&redirect.path_redirect, &redirect.prefix_redirect) {
        (Some(whole), _) => url.push_str(whole),
        // The matched portion of `/a/*` is `/a/`, that of an exact rule the whole path, that of a
        // default `/`, so that the new prefix is put in front (2.6).
        (None, Some(prefix)) => url.push_str(&replace_prefix(matched, prefix, path)),
        (None, None) => url.push_str(path),
    }
    let own_query = redirect.path_redirect.as_ref().is_some_and(|path| path.contains('?'));
    if let Some(query) = query.filter(|_| !redirect.strip_query && !own_query) {
        url.push('?');
        url.push_str(query);
    }
    url
}

/// Does the path hold `/../` (2.8)? Such a request is redirected before any rule is asked.
pub(crate) fn is_uncollapsed(path: &str) -> bool {
    path.contains("/../")
}

/// The URL with every `.` and `..` segment of its path resolved, as RFC 3986 5.2.4 does it (which
/// form of collapsing Google uses is unconfirmed). The result never holds `/../`, so that the
/// client's next request is not redirected again.
pub(crate) fn collapsed(https: bool, host: &str, path: &str, query: Option<&str>) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            ".." => {
                segments.pop();
            }
            "." => {}
            _ => {
                segments.push(segment);
                continue;
            }
        }
        if last {
            segments.push("");
        }
    }
    let mut url = format!("{}://{host}/{}", scheme(https), segments.join("/"));
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(redirect: &UrlRedirect, matched: Matched, url: &str, expected: &str) {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        assert_eq!(location(redirect, matched, scheme == "https", host, path, query), expected);
    }

    fn redirect() -> UrlRedirect {
        UrlRedirect { status: 301, ..UrlRedirect::default() }
    }

    #[test]
    fn https_redirect_changes_the_scheme_and_keeps_the_rest() {
        let to = UrlRedirect { https_redirect: true, ..redirect() };
        check(&to, Matched::Default, "http://a/b?c=d", "https://a/b?c=d");
        check(&to, Matched::Default, "http://a:80/b", "https://a/b");
        check(&to, Matched::Default, "http://a:8080/b", "https://a:8080/b");
    }

    #[test]
    fn strip_query_drops_the_query() {
        let to = UrlRedirect { strip_query: true, ..redirect() };
        check(&to, Matched::Default, "https://a/b?c=d", "https://a/b");
    }

    #[test]
    fn host_and_path_redirect_replace_the_whole() {
        let to = UrlRedirect {
            host_redirect: Some("new.example.com".into()),
            path_redirect: Some("/new".into()),
            ..redirect()
        };
        check(&to, Matched::Whole, "https://a:8443/b?c", "https://new.example.com/new?c");
        let to = UrlRedirect { path_redirect: Some("/new?x=y".into()), ..redirect() };
        check(&to, Matched::Whole, "http://a/b?c", "http://a/new?x=y");
    }

    #[test]
    fn prefix_redirect_replaces_the_matched_prefix_and_prepends_on_a_default() {
        let to =
            |prefix: &str| UrlRedirect { prefix_redirect: Some(prefix.to_owned()), ..redirect() };
        check(&to("/n/"), Matched::Prefix("/old/".len()), "http://a/old/x?q", "http://a/n/x?q");
        check(&to("/n"), Matched::Whole, "http://a/old", "http://a/n");
        check(&to("/n"), Matched::Default, "http://a/x/y", "http://a/n/x/y");
        check(&to("/n/"), Matched::Default, "http://a/x", "http://a/n/x");
    }

    #[test]
    fn dot_segments_collapse_into_their_parents() {
        for (path, expected) in [
            ("/a/b/../c", "/a/c"),
            ("/a/../../b", "/b"),
            ("/../", "/"),
            ("/a/./b/../", "/a/"),
            ("/a/../b/..", "/"),
            ("/a//../b", "/a/b"),
            ("/a/..b/../c", "/a/c"),
        ] {
            assert_eq!(
                collapsed(true, "h", path, Some("q=/../")),
                format!("https://h{expected}?q=/../")
            );
        }
        assert!(!is_uncollapsed("/a/..") && !is_uncollapsed("/a..b/"));
    }

    proptest! {
        #[test]
        fn a_collapsed_path_is_not_collapsed_again(path in "(/(\\.|\\.\\.|a|)){0,8}/?") {
            prop_assert!(!is_uncollapsed(&collapsed(false, "h", &path, None)["http://h".len()..]));
        }
    }
}
