//! The walk: who starts, which way the request takes, and how it ends.

use crate::caller::{Caller, CallerKind, From};
use crate::request::{Asked, ExplainRequest, Token};
use crate::trace::{Answer, Explanation, Reachability, Refusal, State, Step};
use crate::world::World;
use managed_zone::RecordType;
use names::{Reason, SelfLink};
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;
use vpc::{Packet, Reach};

/// How a request ends on the network path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    /// A program gets it.
    Delivered {
        /// The Cloud Run service, where it is one.
        service: Option<SelfLink>,
        /// In words.
        to: String,
    },
    /// Somebody on the way answers: a redirect, or a refusal, which is the last step's.
    Answered { status: u16, location: Option<String> },
    /// Nobody answers; the refusal is the last step's.
    Silence(Silence),
}

/// What a client sees that gets no HTTP answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    Unresolved,
    /// A name server answers that the topology does not know.
    Forwarded,
    TimesOut,
    /// The client asks itself, and nothing of a topology answers there.
    Itself,
    TlsFails,
    NoHttp,
    NoToken,
}

impl Silence {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Silence::Unresolved => "the name does not resolve",
            Silence::Forwarded => "it depends on what a name server answers",
            Silence::TimesOut => "connect times out",
            Silence::Itself => "the connection is refused, unless the client itself listens there",
            Silence::TlsFails => "the TLS handshake fails",
            Silence::NoHttp => "the connection is closed without an answer",
            Silence::NoToken => "no request is sent",
        }
    }
}

/// A question under way.
pub(crate) struct Walk<'w> {
    pub(crate) world: &'w World,
    pub(crate) steps: Vec<Step>,
    pub(crate) endpoint_info: Map<String, Value>,
    /// Who signs, and for whom, when Cloud Run asks for a token.
    pub(crate) identity: Option<String>,
    pub(crate) token: Token,
    pub(crate) now: u64,
    /// What is assumed on the way.
    pub(crate) notes: Vec<String>,
}

impl<'w> Walk<'w> {
    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// The step that ends the walk.
    pub(crate) fn refuse(&mut self, step: Step, refusal: Refusal, end: End) -> End {
        self.steps.push(step.refuse(refusal));
        end
    }
}

/// What becomes of a request, hop by hop.
pub fn explain(world: &World, request: &ExplainRequest) -> Explanation {
    let question = question(request);
    let asked = match Asked::new(&request.method, &request.url, &request.headers) {
        Ok(asked) => asked,
        Err(problem) => return undetermined(question, problem),
    };
    if let Some(account) = &request.service_account {
        let accounts = &world.topology().service_accounts;
        if !accounts.iter().any(|known| known.email == *account) {
            let known: Vec<&str> = accounts.iter().map(|known| known.email.as_str()).collect();
            let known = match known.as_slice() {
                [] => "there is none".to_owned(),
                known => format!("there are {}", known.join(", ")),
            };
            return undetermined(question, format!("no service account {account}; {known}"));
        }
    }
    let mut walk = Walk {
        world,
        steps: Vec::new(),
        endpoint_info: Map::new(),
        identity: request.service_account.clone(),
        token: request.token.clone(),
        now: request.now,
        notes: Vec::new(),
    };
    walk.endpoint_info.insert("protocol".to_owned(), json!(asked.protocol().name()));
    walk.endpoint_info.insert("destinationPort".to_owned(), json!(asked.port));
    let caller = world.caller(
        &request.from.network(),
        request.from.workload(),
        request.region.as_deref(),
        request.service_account.as_deref(),
    );
    let mut caller = match caller {
        Ok(caller) => caller,
        Err(problem) => return undetermined(question, problem.to_string()),
    };
    if !request.tags.is_empty() {
        caller.tags.clone_from(&request.tags);
    }
    walk.identity = caller.service_account.clone();
    walk.start(&caller);
    let end = match &request.from {
        From::Internet if walk.is_published(&caller, &asked) => walk.api_proxy(&asked),
        _ => walk.call_from_network(&caller, &asked, true),
    };
    finish(question, walk, end)
}

fn question(request: &ExplainRequest) -> String {
    let only = ["tcp://", "udp://", "icmp://"].iter().any(|own| request.url.starts_with(own));
    let method = if only { String::new() } else { format!("{} ", request.method) };
    let mut text = format!("{method}{} from {}", request.url, request.from);
    if let Some(region) = &request.region {
        text.push_str(&format!(" in {region}"));
    }
    if let Some(account) = &request.service_account {
        text.push_str(&format!(" as {account}"));
    }
    if !request.tags.is_empty() {
        text.push_str(&format!(" with the tags {}", request.tags.join(", ")));
    }
    text
}

fn undetermined(question: String, problem: String) -> Explanation {
    Explanation {
        question,
        result: Reachability::Undetermined,
        answer: Answer { seen: problem.clone(), ..Answer::default() },
        service: None,
        endpoint_info: Map::new(),
        steps: vec![
            Step::new(State::Abort, problem)
                .detail("abort", json!({"cause": "UNSUPPORTED", "resourceUri": ""})),
        ],
        notes: Vec::new(),
    }
}

fn finish(question: String, walk: Walk<'_>, end: End) -> Explanation {
    let Walk { world, mut steps, endpoint_info, mut notes, .. } = walk;
    let refusal = steps.iter().rev().find_map(|step| step.refusal.clone());
    let blamed = steps
        .iter()
        .rev()
        .find_map(|step| step.refusal.as_ref().and(step.resource.clone()))
        .unwrap_or_default();
    let mut answer = Answer::default();
    let mut service = None;
    let result = match &end {
        End::Delivered { service: found, to } => {
            service = found.clone();
            answer.seen = format!("the answer of {to}");
            Reachability::Reachable
        }
        End::Answered { status, location } => {
            answer.status = Some(*status);
            answer.location = location.clone();
            answer.seen = match location {
                Some(location) => format!("HTTP {status} to {location}"),
                None => format!("HTTP {status}"),
            };
            Reachability::Unreachable
        }
        End::Silence(silence) => {
            let protocol = endpoint_info.get("protocol").and_then(Value::as_str);
            let connects = protocol.is_none_or(|name| name.eq_ignore_ascii_case("tcp"));
            answer.seen = match silence {
                Silence::TimesOut if !connects => "nobody answers".to_owned(),
                silence => silence.words().to_owned(),
            };
            match silence {
                Silence::Forwarded => Reachability::Undetermined,
                _ => Reachability::Unreachable,
            }
        }
    };
    if result != Reachability::Reachable
        && let Some(Refusal { reason, why, fix }) = refusal
    {
        let last = match result {
            Reachability::Undetermined => Step::new(State::Forward, why.clone())
                .detail("forward", json!({"target": "ANOTHER_PROJECT", "resourceUri": blamed})),
            _ => Step::new(State::Drop, why.clone())
                .detail("drop", json!({"cause": reason.code(), "resourceUri": blamed})),
        };
        steps.push(last);
        answer.reason = Some(reason);
        answer.why = Some(why);
        answer.fix = Some(fix);
    }
    notes.extend(assumptions(world, &steps, &answer));
    Explanation { question, result, answer, service, endpoint_info, steps, notes }
}

/// What is assumed.
fn assumptions(world: &World, steps: &[Step], answer: &Answer) -> Vec<String> {
    let mut notes = Vec::new();
    let fresh = !world.is_live();
    if fresh && steps.iter().any(|step| step.state == State::ApplyForwardingRule) {
        notes.push(
            "A fresh start is assumed: earlier decisions on PSC connections are not known.".into(),
        );
    }
    if fresh && answer.reason == Some(Reason::TokenSignatureInvalid) {
        notes.push("Nothing runs, so no published key is known: no real token is good.".into());
    }
    let counts = |line: &String| line.contains(": Quota ") || line.contains(": SpikeArrest ");
    let of_proxies = |step: &&Step| step.state == State::RunApiProxy;
    if steps.iter().filter(of_proxies).flat_map(|step| &step.details).any(counts) {
        notes.push("Quota and SpikeArrest count from zero here.".into());
    }
    notes
}

impl Walk<'_> {
    /// The first step of a workload.
    fn start(&mut self, caller: &Caller) {
        if let CallerKind::CloudRun(service) = &caller.kind {
            let mut text = format!("an instance of {}", caller.name);
            match (caller.network.is_internet(), caller.outside) {
                (true, _) => text.push_str(" without VPC egress"),
                (false, None) => text.push_str(&format!(", all traffic by {}", caller.network)),
                (false, Some(_)) => {
                    text.push_str(&format!(", private ranges only by {}", caller.network));
                }
            }
            return self.push(Step::new(State::StartFromCloudRun, text).on(service));
        }
        if caller.network.is_internet() {
            let text = "a client outside of every network";
            return self.push(Step::new(State::StartFromInternet, text));
        }
        let network = SelfLink::global(&caller.network.project, "networks", &caller.network.name);
        self.endpoint_info.insert("sourceNetworkUri".to_owned(), json!(network.as_str()));
        if let Some(address) = caller.address {
            self.endpoint_info.insert("sourceIp".to_owned(), json!(address.to_string()));
        }
        let mut text = format!("{} in {}, {}", caller.name, caller.network, caller.region);
        if let Some(account) = &caller.service_account {
            text.push_str(&format!(", as {account}"));
        }
        let state = match caller.kind {
            CallerKind::Instance => State::StartFromInstance,
            _ => State::StartFromPrivateNetwork,
        };
        self.push(Step::new(state, text).on(&network));
    }

    /// Is it an API proxy's northbound host that a client on the internet means? `up` publishes
    /// these on the host's own loopback, so no resolver knows their names; and a name that nobody
    /// knows may be one of theirs, mistyped.
    fn is_published(&self, caller: &Caller, asked: &Asked) -> bool {
        let address = match asked.host.parse::<Ipv4Addr>() {
            Ok(address) => Some(address),
            Err(_) => self
                .world
                .resolve_here(&caller.network, None, &asked.host, RecordType::A)
                .ok()
                .and_then(|resolution| resolution.addresses().first().copied()),
        };
        let Some(to) = address else { return true };
        let packet = Packet { protocol: asked.protocol(), to, port: asked.port };
        let reach = self.world.fabric.reach(caller.at_the_boundary(), packet).reach;
        matches!(reach, Reach::Dropped { .. }) && self.is_routed(asked)
    }
}
