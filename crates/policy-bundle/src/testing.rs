//! What the tests share: bundles written in place, a clock that stands still, and a call that is
//! driven to its end.

use crate::context::{ClientInfo, Clock};
use crate::counters::Counters;
use crate::execution::{Call, Next, TargetOutcome};
use crate::fault::Fault;
use crate::files::Files;
use crate::message::{Content, Message, Query};
use crate::platform::Platform;
use crate::policies::World;
use crate::target::TargetRequest;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use slice::apigee::{
    ApiProduct, App, Credential, Deployment, Developer, EnvironmentGroup, Organization,
};
use std::cell::Cell;
use std::collections::BTreeMap;

/// A clock that moves only when told.
pub(crate) struct StandingClock(pub Cell<i64>);

impl Clock for StandingClock {
    fn unix_millis(&self) -> i64 {
        self.0.get()
    }
    fn nanos(&self) -> u64 {
        (self.0.get() as u64).wrapping_mul(1_000_000)
    }
}

/// An organisation with two environments, and keys good and bad.
pub(crate) fn organization() -> Organization {
    let attributes = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    };
    let product = |name: &str, proxies: &[&str], resources: &[&str]| ApiProduct {
        name: name.into(),
        display_name: name.into(),
        environments: vec!["prod".into()],
        proxies: proxies.iter().map(|name| name.to_string()).collect(),
        api_resources: resources.iter().map(|name| name.to_string()).collect(),
        quota: Some("5".into()),
        quota_interval: Some("1".into()),
        quota_time_unit: Some("minute".into()),
        attributes: attributes(&[("access", "public")]),
    };
    let developer = |email: &str, status: &str| Developer {
        email: email.into(),
        first_name: "Ada".into(),
        last_name: "L".into(),
        user_name: "ada".into(),
        status: status.into(),
        attributes: BTreeMap::new(),
    };
    let credential =
        |key: &str, status: &str, expires_at: i64, product: &str, approval: &str| Credential {
            consumer_key: key.into(),
            consumer_secret: "secret".into(),
            status: status.into(),
            expires_at,
            api_products: vec![(product.into(), approval.into())],
        };
    let app = |name: &str, developer: &str, status: &str, credentials: Vec<Credential>| App {
        name: name.into(),
        developer: developer.into(),
        status: status.into(),
        attributes: attributes(&[("tier", "gold")]),
        credentials,
    };
    Organization {
        name: "org".into(),
        project: "org-project".into(),
        apigee_project_id: "tenant".into(),
        network: names::NetworkId::new("tenant", "apigee"),
        region: "europe-west1".into(),
        environment_groups: vec![EnvironmentGroup {
            name: "group".into(),
            hostnames: vec!["api.example.com".into(), "*.wild.example".into()],
            environments: vec!["prod".into()],
        }],
        deployments: Vec::new(),
        api_products: vec![
            product("orders-product", &["orders"], &["/**"]),
            product("narrow-product", &["orders"], &["/*/users"]),
            product("all-product", &[], &[]),
        ],
        developers: vec![
            developer("dev@example.com", "active"),
            developer("gone@example.com", "inactive"),
        ],
        apps: vec![
            app(
                "app",
                "dev@example.com",
                "approved",
                vec![
                    credential("good", "approved", -1, "orders-product", "approved"),
                    credential("narrow", "approved", -1, "narrow-product", "approved"),
                    credential("all", "approved", i64::MAX, "all-product", "approved"),
                    credential("revoked", "revoked", -1, "orders-product", "approved"),
                    credential("expired", "approved", 1000, "orders-product", "approved"),
                    credential("pending", "approved", -1, "orders-product", "pending"),
                ],
            ),
            app(
                "old",
                "dev@example.com",
                "revoked",
                vec![credential("revoked-app", "approved", -1, "orders-product", "approved")],
            ),
            app(
                "lost",
                "gone@example.com",
                "approved",
                vec![credential("inactive", "approved", -1, "orders-product", "approved")],
            ),
        ],
    }
}

/// A bundle written in place.
#[derive(Clone, Default)]
pub(crate) struct BundleText {
    files: BTreeMap<String, String>,
}

impl BundleText {
    /// One proxy endpoint `default` under `/v1/crun` with these children.
    pub fn new(proxy: &str) -> BundleText {
        let mut bundle = BundleText::default();
        bundle.files.insert(
            "apiproxy/orders.xml".into(),
            r#"<APIProxy revision="1" name="orders"/>"#.into(),
        );
        bundle.files.insert(
            "apiproxy/proxies/default.xml".into(),
            format!(
                "<ProxyEndpoint name=\"default\"><HTTPProxyConnection><BasePath>/v1/crun</BasePath></HTTPProxyConnection>{proxy}</ProxyEndpoint>"
            ),
        );
        bundle
    }

    /// With a target endpoint `default` with these children, to `https://internal.example.com`.
    pub fn target(self, target: &str) -> BundleText {
        let connection = if target.contains("HTTPTargetConnection") {
            ""
        } else {
            "<HTTPTargetConnection><URL>https://internal.example.com</URL></HTTPTargetConnection>"
        };
        self.file(
            "apiproxy/targets/default.xml",
            &format!("<TargetEndpoint name=\"default\">{connection}{target}</TargetEndpoint>"),
        )
    }

    /// With a policy.
    pub fn policy(self, xml: &str) -> BundleText {
        let number = self.files.len();
        self.file(&format!("apiproxy/policies/p{number}.xml"), xml)
    }

    /// With a file.
    pub fn file(mut self, path: &str, content: &str) -> BundleText {
        self.files.insert(path.into(), content.into());
        self
    }

    /// The files.
    pub fn files(&self) -> Files {
        let mut files = Files::new("bundle");
        for (path, content) in &self.files {
            files.add(path, content.clone().into_bytes()).unwrap_or_else(|error| panic!("{error}"));
        }
        files
    }

    /// Deployed alone.
    pub fn deploy(&self) -> Deployment1 {
        let mut organization = organization();
        organization.deployments.push(deployment());
        let platform =
            Platform::compile(&organization, |_| Ok(self.files())).unwrap_or_else(|errors| {
                panic!("{}", errors.iter().map(|error| format!("{error}\n")).collect::<String>())
            });
        Deployment1 {
            platform,
            counters: Counters::new(),
            clock: StandingClock(Cell::new(1_700_000_000_000)),
        }
    }
}

pub(crate) fn deployment() -> Deployment {
    Deployment {
        at: "topology/apigee.yaml:3:5".into(),
        api_proxy: "orders".into(),
        environment: "prod".into(),
        revision: "7".into(),
        service_account: Some("proxy@p.iam.gserviceaccount.com".into()),
        bundle: "bundle".into(),
    }
}

/// One deployed bundle and what surrounds it.
pub(crate) struct Deployment1 {
    pub platform: Platform,
    pub counters: Counters,
    pub clock: StandingClock,
}

/// What a call led to.
pub(crate) struct Outcome {
    pub target: Option<TargetRequest>,
    pub response: Message,
    pub call: Call,
}

impl Outcome {
    pub fn status(&self) -> u16 {
        self.response.status
    }
    pub fn body(&self) -> String {
        self.response.text().unwrap_or_default().into_owned()
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers.get(name).and_then(|value| value.to_str().ok())
    }
    pub fn target_header(&self, name: &str) -> Option<&str> {
        self.target.as_ref()?.headers.get(name)?.to_str().ok()
    }
    pub fn url(&self) -> Option<&str> {
        self.target.as_ref().map(|target| &*target.url)
    }
    pub fn variable(&self, name: &str) -> Option<String> {
        self.call.context().read_name(name).map(|value| value.as_text().into_owned())
    }
}

/// A request as a client sends it.
pub(crate) fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Message {
    let mut message = Message::request();
    message.method = method.parse().expect("a method");
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    message.path = path.into();
    message.query = Query::parse(query);
    message.headers = self::headers(headers);
    message.headers.insert("host", HeaderValue::from_static("api.example.com"));
    message.set_content(Bytes::from(body.to_owned()));
    message
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a header name");
            (name, HeaderValue::from_str(value).expect("a header value"))
        })
        .collect()
}

/// A target's answer.
pub(crate) fn answer(status: u16, pairs: &[(&str, &str)], body: &str) -> TargetOutcome {
    TargetOutcome::Response {
        status,
        reason: None,
        headers: headers(pairs),
        content: Content::Bytes(Bytes::from(body.to_owned())),
    }
}

impl Deployment1 {
    /// A call from the request to its end, with this answer of the target.
    pub fn call(
        &self,
        request: Message,
        target: impl FnOnce(&TargetRequest) -> TargetOutcome,
    ) -> Outcome {
        let world = World {
            clock: &self.clock,
            counters: &self.counters,
            directory: &self.platform.directory,
        };
        let routed = self
            .platform
            .route("api.example.com", &request.path)
            .unwrap_or_else(|fault| panic!("{}", fault.text));
        let client =
            ClientInfo { ip: std::net::IpAddr::from([203, 0, 113, 9]), port: 4711, tls: true };
        let mut call =
            Platform::call(routed, request, client, self.clock.unix_millis(), || 7).explain();
        let mut sent = None;
        let mut target = Some(target);
        let response = loop {
            match call.step(&world) {
                Next::SendTarget(request) => {
                    let outcome = target.take().map(|target| target(&request));
                    call.answer(
                        outcome.unwrap_or_else(|| TargetOutcome::Failed(Fault::gateway_timeout())),
                    );
                    sent = Some(*request);
                }
                Next::Respond(message) => break *message,
                Next::Done => panic!("the call ended without an answer"),
            }
        };
        assert!(matches!(call.step(&world), Next::Done));
        Outcome { target: sent, response, call }
    }

    /// A GET whose target answers 200 `ok`.
    pub fn get(&self, uri: &str) -> Outcome {
        self.call(request("GET", uri, &[], ""), |_| {
            answer(200, &[("content-type", "text/plain")], "ok")
        })
    }
}
