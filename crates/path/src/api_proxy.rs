//! A client of an API proxy: the bundle's own interpreter decides, and its call of the target takes
//! the network path from the API platform's tenant network.

use crate::request::{Asked, Token};
use crate::trace::{Refusal, State, Step};
use crate::walk::{End, Silence, Walk};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use names::Reason;
use policy_bundle::{
    Call, ClientInfo, Clock, Content, Counters, Deployed, Fault, Message, Next, Platform, Query,
    TargetOutcome, TargetRequest, TlsMode,
};
use slice::apigee::Organization;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where a client of the northbound host comes from: `up` publishes it on the host's loopback.
const CLIENT: ClientInfo =
    ClientInfo { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 50_000, tls: true };

/// An organisation and what is deployed there.
pub(crate) struct Runtime {
    pub(crate) organization: Organization,
    pub(crate) platform: Platform,
}

impl Walk<'_> {
    /// The environment group with the host, the proxy under the path, and what it does.
    pub(crate) fn api_proxy(&mut self, asked: &Asked) -> End {
        let path = asked.target.split('?').next().unwrap_or_default();
        let runtimes = &self.world.runtimes;
        let mut fault = None;
        for runtime in runtimes {
            match runtime.platform.route(&asked.authority, path) {
                Ok(routed) => {
                    let request = match self.northbound(asked) {
                        Ok(request) => request,
                        Err(problem) => return self.not_asked(asked, problem),
                    };
                    let now = self.millis();
                    // A call's own random numbers are message ids and the like.
                    let call = Platform::call(routed, request, CLIENT, now, || 0).explain();
                    return self.run(runtime, call);
                }
                Err(refused) => fault = fault.or(Some(refused)),
            }
        }
        let mut step = Step::new(State::RunApiProxy, asked.url());
        let Some(fault) = fault else {
            let why = format!("nothing is published outside of the networks under {}", asked.host);
            let refusal = Refusal::new(Reason::NoRoute, why);
            return self.refuse(step, refusal, End::Silence(Silence::Unresolved));
        };
        step.near_misses = near(runtimes, &asked.host);
        let refusal = Refusal::new(fault.reason(), fault.text.clone());
        self.refuse(step, refusal, End::Answered { status: fault.status, location: None })
    }

    /// Does an API proxy take the request?
    pub(crate) fn is_routed(&self, asked: &Asked) -> bool {
        let path = asked.target.split('?').next().unwrap_or_default();
        let mut runtimes = self.world.runtimes.iter();
        runtimes.any(|runtime| runtime.platform.route(&asked.authority, path).is_ok())
    }

    /// The client's request as the interpreter takes it.
    fn northbound(&self, asked: &Asked) -> Result<Message, String> {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let mut request = Message::request();
        request.method = Method::from_bytes(asked.method.as_bytes())
            .map_err(|_| format!("`{}` is no method", asked.method))?;
        request.path = path.to_owned();
        request.query = Query::parse(query);
        let token = match (&self.token, &self.identity) {
            (Token::ForAudience(audience), Some(account)) => {
                let token = self.world.mint(account, audience, self.now)?;
                Some(("authorization".to_owned(), format!("Bearer {token}")))
            }
            _ => None,
        };
        let host = ("host".to_owned(), asked.authority.clone());
        let own = asked.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
        for (name, value) in own.chain([&host]).chain(&token) {
            let name = HeaderName::from_bytes(name.as_bytes());
            match (name, HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => {
                    request.headers.append(name, value);
                }
                _ => return Err("a header has characters that no header may have".to_owned()),
            }
        }
        Ok(request)
    }

    fn not_asked(&mut self, asked: &Asked, problem: String) -> End {
        let refusal = Refusal::new(Reason::HttpMalformed, problem);
        let step = Step::new(State::RunApiProxy, asked.url());
        self.refuse(step, refusal, End::Silence(Silence::NoHttp))
    }

    /// Runs a call to its answer.
    fn run(&mut self, runtime: &Runtime, mut call: Call) -> End {
        let clock = Standing(self.millis());
        let counters = Counters::new();
        let surroundings = policy_bundle::World {
            clock: &clock,
            counters: &counters,
            directory: &runtime.platform.directory,
        };
        let name = describe(call.deployed());
        let mut told = 0;
        let mut target = None;
        loop {
            match call.step(&surroundings) {
                Next::SendTarget(request) => {
                    let lines = call.trace_lines();
                    let text = format!("{name} calls {} {}", request.method, request.url);
                    let mut step = Step::new(State::RunApiProxy, text);
                    told = lines.len();
                    step.details = lines;
                    self.push(step);
                    let end = self.call_target(runtime, &request);
                    call.answer(outcome(&end));
                    target = Some(end);
                }
                Next::Respond(answer) => {
                    let lines = call.trace_lines();
                    let status = answer.status;
                    let mut step =
                        Step::new(State::RunApiProxy, format!("{name} answers {status}"));
                    step.details = lines.get(told..).unwrap_or_default().to_vec();
                    return self.respond(step, status, call.context().fault(), target);
                }
                Next::Done => return End::Answered { status: 500, location: None },
            }
        }
    }

    /// The end of a call: what the client sees is what the bundle made of it.
    fn respond(
        &mut self,
        step: Step,
        status: u16,
        fault: Option<&Fault>,
        target: Option<End>,
    ) -> End {
        let answered = End::Answered { status, location: None };
        let refused_before = self.steps.iter().any(|step| step.refusal.is_some());
        match (fault, target) {
            (Some(fault), _) if !refused_before => {
                let why = match &fault.policy {
                    Some(policy) => format!("policy {policy}: {}: {}", fault.code, fault.text),
                    None => format!("{}: {}", fault.code, fault.text),
                };
                self.refuse(step, Refusal::new(fault.reason(), why), answered)
            }
            (None, Some(delivered @ End::Delivered { .. })) => {
                self.push(step);
                delivered
            }
            (None, None) => {
                self.push(step);
                let to = "the API proxy itself, which calls no target".to_owned();
                self.push(Step::new(State::Deliver, to.clone()));
                End::Delivered { service: None, to }
            }
            _ => {
                self.push(step);
                answered
            }
        }
    }

    /// The proxy's own request, from the tenant network.
    fn call_target(&mut self, runtime: &Runtime, request: &TargetRequest) -> End {
        let organization = &runtime.organization;
        let refused = |walk: &mut Self, reason: Reason, why: String| {
            let step = Step::new(State::RunApiProxy, format!("the target {}", request.url));
            walk.refuse(step, Refusal::new(reason, why), End::Silence(Silence::NoToken))
        };
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in &request.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.push((name.as_str().to_owned(), value));
        }
        if let Some(wanted) = &request.id_token {
            let account = &wanted.service_account;
            match self.world.mint(account, &wanted.audience, self.now) {
                Ok(token) => {
                    let name = wanted.header.as_str();
                    headers.retain(|(other, _)| other != name);
                    headers.push((name.to_owned(), format!("Bearer {token}")));
                }
                Err(problem) => {
                    return refused(self, Reason::GoogleTokenGenerationFailure, problem);
                }
            }
        }
        let asked = match Asked::new(request.method.as_str(), &request.url, &headers) {
            Ok(asked) => asked,
            Err(problem) => return refused(self, Reason::TargetUnavailable, problem),
        };
        let place = (&organization.network, Some("api-proxy"), Some(&*organization.region));
        let caller = match self.world.caller(place.0, place.1, place.2, None) {
            Ok(caller) => caller,
            Err(problem) => return refused(self, Reason::TargetUnavailable, problem.to_string()),
        };
        // The token is the proxy's own now, and it stands in a header.
        (self.token, self.identity) = (Token::None, None);
        let verifies = request.endpoint.tls != TlsMode::Ignore;
        self.call_from_network(&caller, &asked, verifies)
    }

    fn millis(&self) -> i64 {
        i64::try_from(self.now).unwrap_or(i64::MAX).saturating_mul(1000)
    }
}

/// What came of the call of the target, as the program `api-proxy` would report it (apigee 8.2).
fn outcome(end: &End) -> TargetOutcome {
    let answer = |status| TargetOutcome::Response {
        status,
        reason: None,
        headers: HeaderMap::new(),
        content: Content::Empty,
    };
    match end {
        End::Delivered { .. } => answer(200),
        End::Answered { status, .. } => answer(*status),
        End::Silence(silence) => TargetOutcome::Failed(match silence {
            Silence::Unresolved | Silence::Forwarded | Silence::Itself => {
                Fault::service_unavailable(None)
            }
            Silence::TimesOut => Fault::service_unavailable(Some("TARGET_CONNECT_TIMEOUT")),
            Silence::TlsFails => Fault::ssl_handshake_failed(""),
            Silence::NoHttp => Fault::unexpected_eof_at_target(),
            Silence::NoToken => Fault::token_generation_failure(""),
        }),
    }
}

fn describe(deployed: &Arc<Deployed>) -> String {
    let facts = &deployed.facts;
    format!("proxy {} revision {} in {}", facts.api_proxy, facts.revision, facts.environment)
}

/// Hosts of the organisations, or the base paths under the host that was asked for.
fn near(runtimes: &[Runtime], host: &str) -> Vec<String> {
    let groups = runtimes.iter().flat_map(|runtime| &runtime.organization.environment_groups);
    let hosts: Vec<&String> = groups.flat_map(|group| &group.hostnames).collect();
    let is_host = |known: &&&String| known.eq_ignore_ascii_case(host);
    if hosts.iter().find(is_host).is_none() {
        return hosts.into_iter().map(|host| format!("host {host}")).collect();
    }
    let deployed = runtimes.iter().flat_map(|runtime| runtime.platform.deployed());
    deployed
        .flat_map(|deployed| &deployed.bundle.proxies)
        .map(|endpoint| format!("base path {}", endpoint.base_path))
        .collect()
}

/// A clock that stands at the time of the question.
struct Standing(i64);

impl Clock for Standing {
    fn unix_millis(&self) -> i64 {
        self.0
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.0).unwrap_or_default().saturating_mul(1_000_000)
    }
}
