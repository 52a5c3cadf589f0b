//! A URL map's own `tests[]` (private-connectivity 2.6). Google's internal load balancers do not
//! run them (0, trap 7); here they are run offline, by `check`.

use crate::compile::{Snapshot, UrlMap};
use crate::decide::{Decision, Outcome, RequestHead};
use names::SelfLink;
use slice::load_balancer::UrlMapTest;

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

impl Snapshot {
    /// Runs every test of every URL map; all failures at once.
    pub fn run_tests(&self) -> Vec<TestFailure> {
        let of_map = |map| self.run_tests_of(map);
        self.url_maps.iter().flat_map(of_map).collect()
    }

    fn run_tests_of(&self, map: &UrlMap) -> Vec<TestFailure> {
        map.tests.iter().filter_map(|test| self.run_test(map, test)).collect()
    }

    fn run_test(&self, map: &UrlMap, test: &UrlMapTest) -> Option<TestFailure> {
        let head = RequestHead::new(&test.host, &test.path);
        let decision = self.route(map, false, &head);
        let service = decision.backend_service.map(|service| &service.self_link);
        let cloud_run = match &decision.outcome {
            Outcome::CloudRun { target, .. } => Some(target.service.name()),
            _ => None,
        };
        let service_as_expected = test.service.is_none() || test.service.as_ref() == service;
        let cloud_run_as_expected =
            test.cloud_run_service.is_none() || test.cloud_run_service.as_deref() == cloud_run;
        if service_as_expected && cloud_run_as_expected {
            return None;
        }
        let mut expected = Vec::new();
        expected.extend(test.service.as_ref().map(|link| format!("backend service `{link}`")));
        let name = test.cloud_run_service.as_ref();
        expected.extend(name.map(|name| format!("Cloud Run service `{name}`")));
        Some(TestFailure {
            at: test.at.clone(),
            url_map: map.self_link.clone(),
            description: test.description.clone(),
            host: test.host.clone(),
            path: test.path.clone(),
            expected: expected.join(" and "),
            actual: actual(&decision),
        })
    }
}

fn actual(decision: &Decision<'_, '_>) -> String {
    let service = decision.backend_service.map_or("", |service| service.self_link.as_str());
    match &decision.outcome {
        Outcome::CloudRun { target, .. } => {
            let name = target.service.name();
            format!("backend service `{service}` and Cloud Run service `{name}`")
        }
        Outcome::Endpoints { .. } => format!("backend service `{service}`"),
        Outcome::Preflight => "a CORS preflight's answer".to_owned(),
        Outcome::Redirect(redirect) => format!("a {} to {}", redirect.status, redirect.location),
        Outcome::Refuse { reason, status, .. } if service.is_empty() => {
            format!("{status} {reason}")
        }
        Outcome::Refuse { reason, status, .. } => {
            format!("backend service `{service}` and {status} {reason}")
        }
    }
}
