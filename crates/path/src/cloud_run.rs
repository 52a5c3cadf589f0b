//! Cloud Run's front: which service, from where, by whom; and the revision behind it.

use crate::request::{Asked, Token};
use crate::trace::{Refusal, State, Step};
use crate::walk::{End, Silence, Walk};
use id_token::VerifiedCache;
use names::{Origin, Reason, is_run_app};
use serde_json::json;
use serverless::plain_http;
use serverless::{
    AuthorizationHeaders, HeaderValues, PlainHttp, REDIRECT_STATUS, RequestHead, Target,
};
use serverless::{Candidate, Readiness, Routing, Unresolved};
use slice::run::Service;
use slice::{ConditionState, ServiceState};

impl Walk<'_> {
    /// A connection to a Google front end.
    pub(crate) fn front_end(&mut self, asked: &Asked, origin: Origin) -> End {
        let host = &asked.host;
        let step = |text: String| Step::new(State::ArriveAtGoogleFrontEnd, text);
        if !asked.https && asked.port == 80 {
            return match plain_http(&asked.authority, &asked.target) {
                PlainHttp::Redirect { location } => {
                    let text = format!("{host} without TLS: {REDIRECT_STATUS} to {location}");
                    self.push(step(text.clone()));
                    self.push(Step::new(State::Redirect, text));
                    End::Answered { status: REDIRECT_STATUS, location: Some(location) }
                }
                PlainHttp::NotFound => {
                    let why = format!(
                        "behind Google's front ends there are *.run.app and hosts for tokens only, not {host}"
                    );
                    let refusal = Refusal::new(Reason::CloudRunHostNotFound, why);
                    let end = End::Answered { status: 404, location: None };
                    self.refuse(step(host.clone()), refusal, end)
                }
            };
        }
        if asked.https && asked.port == 80 {
            let why = "port 80 of Google front ends speaks no TLS".to_owned();
            let refusal = Refusal::new(Reason::SchemeMismatch, why);
            return self.refuse(step(host.clone()), refusal, End::Silence(Silence::TlsFails));
        }
        if !asked.https {
            let why = "port 443 of Google front ends speaks TLS only".to_owned();
            let refusal = Refusal::new(Reason::SchemeMismatch, why);
            return self.refuse(step(host.clone()), refusal, End::Silence(Silence::NoHttp));
        }
        if is_run_app(host) {
            self.push(step(format!("SNI {host}: Cloud Run")));
            return self.cloud_run(asked, &origin, Target::Host(&asked.authority));
        }
        if slice::IDENTITY_HOSTS.contains(&host.as_str()) {
            let to = format!("{host}: tokens and keys, by the program metadata");
            self.push(step(format!("SNI {host}: Google's hosts for identity")));
            return End::Delivered { service: None, to };
        }
        // The front ends here know no other names, and show a certificate for Cloud Run's.
        let why = format!(
            "behind Google's front ends there are *.run.app and hosts for tokens only, not {host}"
        );
        let refusal = Refusal::new(Reason::CloudRunHostNotFound, why);
        self.refuse(step(format!("SNI {host}")), refusal, End::Silence(Silence::TlsFails))
    }

    /// A request at Cloud Run, by host or by what a URL mask yielded.
    pub(crate) fn cloud_run(&mut self, asked: &Asked, origin: &Origin, target: Target<'_>) -> End {
        let bearer = match self.bearer(asked, target) {
            Ok(bearer) => bearer,
            Err(why) => {
                let step = Step::new(State::CheckInvoker, "an ID token for the request");
                let refusal = Refusal::new(Reason::ServiceAccountNotFound, why);
                return self.refuse(step, refusal, End::Silence(Silence::NoToken));
            }
        };
        // A token that was made for the question is verified by the key that was made with it.
        let front = match (&bearer, self.world.issuer.get()) {
            (_, Some(Ok(issuer))) => &issuer.front,
            _ => &self.world.front,
        };
        let authorization: HeaderValues<'_> = match &bearer {
            Some(bearer) => HeaderValues::One(bearer.as_bytes()),
            None => asked.values("authorization").collect(),
        };
        let head = RequestHead {
            method: &asked.method,
            path: &asked.target,
            credentials: AuthorizationHeaders {
                x_serverless: asked.values("x-serverless-authorization").collect(),
                authorization,
            },
        };
        let mut cache = VerifiedCache::new(1);
        let decision = serverless::admit(front, origin, target, &head, &mut cache, self.now);
        let service = decision.found.map(|found| found.service.service.clone());
        let link = service.as_ref().map(|service| service.self_link.clone());
        for part in decision.steps(origin) {
            let state = match part.title {
                "service" => State::FindCloudRunService,
                "ingress" => State::ApplyIngressSetting,
                "invoker" => State::CheckInvoker,
                _ => State::CheckRequest,
            };
            let mut step = Step::new(state, part.text.clone());
            step.resource = link.as_ref().map(ToString::to_string);
            if let Some(reason) = part.reason {
                let fix = part.fix.unwrap_or_else(|| reason.fix().to_owned());
                step = step.refuse(Refusal::with_fix(reason, part.text, fix));
            }
            self.push(step);
        }
        if let Err(refusal) = &decision.result {
            if let (Some(step), details) = (self.steps.last_mut(), refusal.details()) {
                step.details.extend(details.iter().map(|(key, value)| format!("{key}: {value}")));
            }
            return End::Answered { status: refusal.status(), location: None };
        }
        let Some(service) = service else {
            return End::Answered { status: 404, location: None };
        };
        let tag = decision.found.and_then(|found| found.tag);
        let live = self.world.service_state(&service.self_link);
        let routing = match routing(&service, live) {
            Ok(routing) => routing,
            Err(unresolved) => {
                // Only a service that does not serve at all has no traffic in force.
                let refusal = Refusal::new(Reason::InstanceStartFailed, unresolved.to_string());
                let step = Step::new(State::ChooseRevision, service.name.clone());
                let step = step.on(&service.self_link);
                return self.refuse(step, refusal, End::Answered { status: 500, location: None });
            }
        };
        let Some(chosen) = routing.usual(tag) else {
            let why = format!("no ready revision of {} has the tag", service.name);
            let refusal = Refusal::new(Reason::CloudRunTagNotFound, why);
            let step = Step::new(State::ChooseRevision, routing.to_string());
            let step = step.on(&service.self_link);
            return self.refuse(step, refusal, End::Answered { status: 404, location: None });
        };
        if routing.revisions().len() > 1 || tag.is_some() {
            let why = match tag {
                Some(tag) => format!("tag {tag} leads to {}", chosen.name),
                None if chosen.percent < 100 => {
                    format!("most requests get {}, {} % of them", chosen.name, chosen.percent)
                }
                None => format!("all requests without a tag get {}", chosen.name),
            };
            let step = Step::new(State::ChooseRevision, format!("{why}; traffic: {routing}"));
            self.push(step.on(&service.self_link));
        }
        let name = &*chosen.name;
        let to = format!("Cloud Run service {}", service.name);
        let text = format!("{to}, revision {name}");
        if let Some(why) = live.and_then(|state| does_not_start(state, name)) {
            let refusal = Refusal::new(Reason::InstanceStartFailed, format!("{to}: {why}"));
            let step = Step::new(State::StartInstance, text).on(&service.self_link);
            return self.refuse(step, refusal, End::Answered { status: 500, location: None });
        }
        self.push(Step::new(State::Deliver, text).on(&service.self_link).detail(
            "deliver",
            json!({
                "target": "CLOUD_RUN_REVISION",
                "resourceUri": format!("{}/revisions/{name}", service.self_link),
                "displayName": name,
                "location": service.region,
                "serviceUri": service.self_link.as_str(),
            }),
        ));
        End::Delivered { service: Some(service.self_link.clone()), to }
    }

    /// The bearer token that is made for the question, if one is wanted.
    fn bearer(&self, asked: &Asked, target: Target<'_>) -> Result<Option<String>, String> {
        let given = |name| asked.values(name).next().is_some();
        if given("authorization") || given("x-serverless-authorization") {
            return Ok(None); // what the client sends itself counts
        }
        let audience = match &self.token {
            Token::None => return Ok(None),
            Token::ForAudience(audience) => audience.clone(),
            // Whoever is asked for says which audience is right; where there is nobody, the
            // refusal comes before anything looks at a token.
            Token::ForTarget => match self.world.front.find(target) {
                Ok(found) => found.service.audiences.first().cloned().unwrap_or_default(),
                Err(_) => return Ok(None),
            },
        };
        let Some(account) = &self.identity else {
            return Err(
                "the caller has no service account, so nobody makes a token for it".to_owned()
            );
        };
        let token = self.world.mint(account, &audience, self.now)?;
        Ok(Some(format!("Bearer {token}")))
    }
}

/// The service's traffic by the function that traffic itself uses: as it is in force, or, where
/// nothing runs, as the files have it. They are a fresh start's: every revision is taken to be
/// ready, also one that they do not declare, which an earlier run has to have made.
fn routing(service: &Service, live: Option<&ServiceState>) -> Result<Routing, Unresolved> {
    let mut candidates = Vec::new();
    if let Some(state) = live.filter(|state| !state.revisions.is_empty()) {
        candidates.extend(state.revisions.iter().map(|one| Candidate {
            name: &one.name,
            readiness: match one.ready {
                ConditionState::ConditionFailed => Readiness::Failed,
                _ if one.percent > 0 || !one.tags.is_empty() => Readiness::Ready,
                ConditionState::ConditionSucceeded => Readiness::Ready,
                _ => Readiness::Unproven,
            },
        }));
        return Routing::resolve(&state.traffic, &candidates).or_else(|unresolved| {
            // What is in force by name stays in force when its start fails.
            for one in &mut candidates {
                one.readiness = Readiness::Ready;
            }
            Routing::resolve(&state.traffic, &candidates).map_err(|_| unresolved)
        });
    }
    let ready = |name| Candidate { name, readiness: Readiness::Ready };
    let named = service.traffic.iter().filter_map(|target| target.revision.as_deref());
    candidates.extend(named.map(ready));
    candidates.extend(service.older_revisions.iter().map(|older| ready(&older.name)));
    candidates.push(ready(&service.revision.name));
    Routing::resolve(&service.traffic, &candidates)
}

/// What is wrong with a revision, if it is known not to start.
fn does_not_start<'a>(state: &'a ServiceState, revision: &str) -> Option<&'a str> {
    match state.revisions.iter().find(|one| one.name == revision) {
        Some(one) if one.ready == ConditionState::ConditionFailed => Some(&one.message),
        Some(_) => None,
        None => (!state.starts).then_some(state.text.as_str()),
    }
}
