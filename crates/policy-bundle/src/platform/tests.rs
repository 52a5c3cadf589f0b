//! Routing by host and base path (2.1), and what deploying checks.

use super::*;
pub(crate) use crate::testing::organization;
use crate::testing::{BundleText, deployment};

fn proxy(base_path: &str) -> BundleText {
    BundleText::default().file("apiproxy/p.xml", "<APIProxy name=\"p\"/>").file(
        "apiproxy/proxies/default.xml",
        &format!("<ProxyEndpoint name=\"default\"><HTTPProxyConnection><BasePath>{base_path}</BasePath></HTTPProxyConnection><RouteRule name=\"none\"/></ProxyEndpoint>"),
    )
}

fn platform(base_paths: &[&str]) -> Result<Platform, Vec<BundleError>> {
    let mut organization = organization();
    for base_path in base_paths {
        let mut deployment = deployment();
        deployment.api_proxy = base_path.to_string();
        deployment.bundle = base_path.into();
        organization.deployments.push(deployment);
    }
    Platform::compile(&organization, |deployment| {
        Ok(proxy(&deployment.bundle.display().to_string()).files())
    })
}

#[test]
fn the_longest_base_path_wins_by_whole_segments() {
    let platform = platform(&["/payments", "/payments/cards", "/v1/foo", "/v1/*/bar", "/v1/x/bar"])
        .expect("good bundles");
    for (host, path, expected) in [
        ("api.example.com", "/payments/cards/1", Some(("/payments/cards", "/payments/cards"))),
        ("api.example.com", "/payments/card", Some(("/payments", "/payments"))),
        ("api.example.com", "/payments", Some(("/payments", "/payments"))),
        ("api.example.com", "/payments/", Some(("/payments", "/payments"))),
        ("api.example.com:8443", "/v1/foo/bar", Some(("/v1/*/bar", "/v1/foo/bar"))),
        ("API.Example.COM.", "/v1/foo", Some(("/v1/foo", "/v1/foo"))),
        ("api.example.com", "/v1/foobar", None),
        ("api.example.com", "/V1/foo", None),
        ("api.example.com", "/v1/x/bar/1", Some(("/v1/x/bar", "/v1/x/bar"))),
        ("api.example.com", "/v1/y/bar/1", Some(("/v1/*/bar", "/v1/y/bar"))),
        ("api.example.com", "/v1//bar", None),
        ("api.example.com", "/", None),
        ("a.wild.example", "/payments", Some(("/payments", "/payments"))),
        ("wild.example", "/payments", None),
        ("other.example.com", "/payments", None),
        ("", "/payments", None),
    ] {
        let routed = platform.route(host, path).ok();
        let routed = routed
            .as_ref()
            .map(|routed| (&*routed.endpoint.base_path, &path[..routed.base_path_length]));
        assert_eq!(routed, expected, "{host} {path}");
    }
}

#[test]
fn slash_is_a_valid_base_path() {
    let platform = platform(&["/", "/a"]).expect("good bundles");
    for (path, base_path) in [("/", "/"), ("/x/y", "/"), ("/a", "/a"), ("/ab", "/")] {
        assert_eq!(
            &*platform.route("api.example.com", path).expect("a route").endpoint.base_path,
            base_path,
            "{path}"
        );
    }
}

#[test]
fn an_unknown_path_is_application_not_found() {
    let fault = platform(&["/a"])
        .expect("a good bundle")
        .route("api.example.com", "/x")
        .expect_err("no such path");
    assert_eq!((fault.status, fault.name()), (404, "ApplicationNotFound"));
    assert_eq!(fault.text, "Unable to identify proxy for host: api.example.com and url: /x");
}

#[test]
fn a_conflict_of_base_paths_fails_at_deployment() {
    let errors = platform(&["/payments/cards", "/payments/cards/"]).expect_err("a conflict");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].code, "CONFLICTING_DEPLOYMENT");
    assert_eq!(
        (&*errors[0].file, errors[0].line, errors[0].column),
        ("topology/apigee.yaml", 3, 5)
    );
    assert!(errors[0].what.contains(
        "Existing deployment of \"organizations/org/environments/prod/apis//payments/cards/revisions/7\" contains conflicting base paths: [/payments/cards]"
    ), "{}", errors[0].what);
}

#[test]
fn a_token_without_a_service_account_fails_at_deployment() {
    let bundle = BundleText::new("<RouteRule name=\"r\"><TargetEndpoint>default</TargetEndpoint></RouteRule>").target(
        "<HTTPTargetConnection><URL>https://t</URL><Authentication><GoogleIDToken><Audience>https://a</Audience></GoogleIDToken></Authentication></HTTPTargetConnection>",
    );
    let mut organization = organization();
    let mut deployment = deployment();
    deployment.service_account = None;
    organization.deployments.push(deployment);
    let errors =
        Platform::compile(&organization, |_| Ok(bundle.files())).expect_err("no service account");
    assert_eq!(
        errors.iter().map(|error| error.code).collect::<Vec<_>>(),
        ["MISSING_SERVICE_ACCOUNT"]
    );
}
