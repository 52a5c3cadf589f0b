//! A URL map's own `tests[]` (private-connectivity 2.6). Google's internal load balancers do not
//! run them (0, trap 7); here they are run offline, by `check`, and go on through the URL mask to the
//! name of the Cloud Run service.

use crate::compile::{Snapshot, UrlMap};
use crate::decide::{Decision, Outcome};
use crate::request::RequestHead;
use http::{HeaderMap, HeaderName, HeaderValue};
use names::SelfLink;
use slice::load_balancer::UrlMapTest;

/// A test of a compiled map.
#[derive(Clone, Debug)]
pub(crate) struct CompiledTest {
    test: UrlMapTest,
    headers: HeaderMap,
}

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFailure {
    /// `file:line:column` of the test.
    pub at: String,
    /// The URL map.
    pub url_map: SelfLink,
    /// The test's own description.
    pub description: String,
    /// Host asked for.
    pub host: String,
    /// Path asked for.
    pub path: String,
    /// What the test expects.
    pub expected: String,
    /// What the map does.
    pub actual: String,
}

impl std::fmt::Display for TestFailure {
    /// `file:line:column: error CODE: …`, as diagnostics of a topology begin.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TestFailure { at, url_map, host, path, expected, actual, .. } = self;
        let name = url_map.name();
        write!(f, "{at}: error URL_MAP_TEST_FAILED: ")?;
        write!(f, "URL map `{name}`: {host}{path} leads to {actual}, not to {expected}")?;
        if !self.description.is_empty() {
            write!(f, " ({})", self.description)?;
        }
        Ok(())
    }
}

impl CompiledTest {
    /// The test, or the header that no request can have.
    pub(crate) fn new(test: &UrlMapTest) -> Result<CompiledTest, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &test.headers {
            let wrong = || format!("{name}: {value}");
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            headers.append(parsed, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
        // "If headers contains a host header, this field must also match the header value."
        match headers.get(http::header::HOST) {
            Some(host) if host.as_bytes() != test.host.as_bytes() => {
                Err(format!("host: {}", String::from_utf8_lossy(host.as_bytes())))
            }
            _ => Ok(CompiledTest { test: test.clone(), headers }),
        }
    }
}

impl Snapshot {
    /// Runs every test of every URL map; all failures at once.
    pub fn run_tests(&self) -> Vec<TestFailure> {
        let of_map = |map| self.run_tests_of(map);
        self.url_maps.iter().flat_map(of_map).collect()
    }

    fn run_tests_of(&self, map: &UrlMap) -> Vec<TestFailure> {
        map.tests.iter().filter_map(|test| self.run_test(map, test)).collect()
    }

    /// A test of a route with weighted backend services holds if it holds for one that gets
    /// requests ((unconfirmed)).
    fn run_test(&self, map: &UrlMap, compiled: &CompiledTest) -> Option<TestFailure> {
        let test = &compiled.test;
        let head = RequestHead::new(&test.host, &test.path).with_headers(&compiled.headers);
        let route = self.route(map, false, &head).route;
        let places: Vec<_> = match route.map(|route| route.places()).unwrap_or_default() {
            places if places.is_empty() => vec![None],
            places => places.into_iter().map(Some).collect(),
        };
        let roll = |place| route.map_or(0, |route| route.roll_for(place));
        let decide = |place| self.route(map, false, &head.with_roll(roll(place)));
        if places.iter().any(|place| holds(test, &decide(*place), &head)) {
            return None;
        }
        Some(TestFailure {
            at: test.at.clone(),
            url_map: map.self_link.clone(),
            description: test.description.clone(),
            host: test.host.clone(),
            path: test.path.clone(),
            expected: expected(test),
            actual: actual(test, &decide(places.first().copied().flatten()), &head),
        })
    }
}

fn holds(test: &UrlMapTest, decision: &Decision<'_, '_>, head: &RequestHead<'_>) -> bool {
    let service = decision.backend_service.map(|service| &service.self_link);
    let cloud_run = match &decision.outcome {
        Outcome::CloudRun { target, .. } => Some(target.service.name()),
        _ => None,
    };
    let status = match &decision.outcome {
        Outcome::Redirect(redirect) => Some(redirect.status),
        _ => None,
    };
    let wanted = |url: &String| output_url(decision, head).is_some_and(|is| same_url(url, &is));
    (test.service.is_none() || test.service.as_ref() == service)
        && (test.cloud_run_service.is_none() || test.cloud_run_service.as_deref() == cloud_run)
        && (test.expected_redirect_response_code.is_none()
            || test.expected_redirect_response_code == status)
        && test.expected_output_url.as_ref().is_none_or(wanted)
}

/// The URL as the backend gets it, without scheme, or as the redirect says it.
fn output_url(decision: &Decision<'_, '_>, head: &RequestHead<'_>) -> Option<String> {
    if let Outcome::Redirect(redirect) = &decision.outcome {
        return Some(redirect.location.clone());
    }
    decision.backend_service?;
    let host = decision.rewrite.host.unwrap_or(head.host);
    Some(match (&decision.rewrite.path_and_query, head.query) {
        (Some(new), _) => format!("{host}{new}"),
        (None, Some(query)) => format!("{host}{}?{query}", head.path),
        (None, None) => format!("{host}{}", head.path),
    })
}

/// The scheme counts where the map itself makes it https (`httpsRedirect`); else it is that of
/// whatever target proxy uses the map. A path that is not there is `/`.
fn same_url(expected: &str, is: &str) -> bool {
    fn parts(url: &str) -> (Option<&str>, &str, &str) {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, url),
        };
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        (scheme, host, if path.is_empty() { "/" } else { path })
    }
    let ((scheme, host, path), (to, real_host, real_path)) = (parts(expected), parts(is));
    let scheme_agrees = to != Some("https") || scheme == Some("https");
    scheme_agrees && host.eq_ignore_ascii_case(real_host) && path == real_path
}

fn expected(test: &UrlMapTest) -> String {
    let mut all = Vec::new();
    all.extend(test.service.as_ref().map(|link| format!("backend service `{link}`")));
    let name = test.cloud_run_service.as_ref();
    all.extend(name.map(|name| format!("Cloud Run service `{name}`")));
    all.extend(test.expected_redirect_response_code.map(|code| format!("a {code}")));
    all.extend(test.expected_output_url.as_ref().map(|url| format!("the URL `{url}`")));
    all.join(" and ")
}

fn actual(test: &UrlMapTest, decision: &Decision<'_, '_>, head: &RequestHead<'_>) -> String {
    let mut all = Vec::new();
    let service = decision.backend_service.map(|service| &service.self_link);
    all.extend(service.map(|link| format!("backend service `{link}`")));
    match &decision.outcome {
        Outcome::CloudRun { target, .. } => {
            all.push(format!("Cloud Run service `{}`", target.service.name()));
        }
        Outcome::Endpoints { .. } => {}
        Outcome::Preflight => all.push("a CORS preflight's answer".to_owned()),
        Outcome::Redirect(redirect) => {
            all.push(format!("a {} to {}", redirect.status, redirect.location));
        }
        Outcome::Refuse { reason, status, .. } => all.push(format!("{status} {reason}")),
    }
    if test.expected_output_url.is_some() && !matches!(decision.outcome, Outcome::Redirect(_)) {
        all.extend(output_url(decision, head).map(|url| format!("the URL `{url}`")));
    }
    all.join(" and ")
}
