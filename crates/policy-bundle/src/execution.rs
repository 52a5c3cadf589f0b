//! The interpreter: one call through the pipeline (3.1), with faults (3.2 to 3.4).

mod faults;

use crate::condition::{Condition, Evaluation};
use crate::context::{Context, FlowPhase};
use crate::endpoint::{Flow, FlowPair, Flows, ProxyEndpoint, Step, TargetEndpoint};
use crate::fault::{Fault, FaultSource};
use crate::message::{Content, Message};
use crate::platform::Deployed;
use crate::policies::{Kind, World};
use crate::target::{TargetRequest, TargetState, apply_retain, strip_hop_by_hop};
use crate::trace::{Place, StepAt, StepOutcome, Trace, TraceEvent};
use crate::value::Value;
use crate::variable::Moment;
use http::HeaderMap;
use std::sync::Arc;

/// What the program has to do next.
#[derive(Debug)]
pub enum Next {
    /// Send this, then report with [`Call::answer`].
    SendTarget(Box<TargetRequest>),
    /// Answer the client with this, then step again.
    Respond(Box<Message>),
    /// Nothing more.
    Done,
}

/// What came of a request to the target.
#[derive(Debug)]
pub enum TargetOutcome {
    /// An answer, of whatever status.
    Response {
        /// Status.
        status: u16,
        /// Reason phrase, if HTTP/1 gave one.
        reason: Option<String>,
        /// End-to-end headers.
        headers: HeaderMap,
        /// Payload: in memory, or still on the wire.
        content: Content,
    },
    /// No answer.
    Failed(Fault),
}

/// One call: a request on its way through a bundle.
pub struct Call {
    deployed: Arc<Deployed>,
    endpoint: Arc<ProxyEndpoint>,
    context: Context,
    stage: Stage,
    /// The conditional flows, chosen in the request phase for both directions.
    proxy_flow: Option<usize>,
    target_flow: Option<usize>,
    trace: Trace,
    explain: bool,
    started: Option<u64>,
    fault_flow: Option<(Arc<str>, FlowPhase)>,
}

enum Stage {
    Request,
    Target,
    Answered(Box<TargetOutcome>),
    PostClient,
    Done,
}

/// A fault, and whether it arose in the target endpoint.
struct Raised {
    fault: Fault,
    target: bool,
}

impl Call {
    pub(crate) fn new(
        deployed: Arc<Deployed>,
        endpoint: Arc<ProxyEndpoint>,
        context: Context,
    ) -> Call {
        Call {
            deployed,
            endpoint,
            context,
            stage: Stage::Request,
            proxy_flow: None,
            target_flow: None,
            trace: Trace::default(),
            explain: false,
            started: None,
            fault_flow: None,
        }
    }

    /// Keeps the values that decided conditions, for `explain`.
    pub fn explain(mut self) -> Call {
        self.explain = true;
        self
    }

    /// Must the request's payload be in memory before the first step?
    pub fn needs_request_payload(&self) -> bool {
        self.deployed.bundle.needs.request_payload && !self.endpoint.properties.request_streaming
    }

    /// Does the request's payload pass without a limit?
    pub fn streams_request(&self) -> bool {
        self.endpoint.properties.request_streaming
    }

    /// `request.payload.parse.limit`, bytes.
    pub fn request_payload_max(&self) -> usize {
        self.endpoint.properties.request_payload_max
    }

    /// Must the response's payload be in memory before the next step?
    pub fn needs_response_payload(&self) -> bool {
        self.deployed.bundle.needs.response_payload && !self.streams_response()
    }

    /// Does the response's payload pass without a limit?
    pub fn streams_response(&self) -> bool {
        self.endpoint.properties.response_streaming
            || self
                .context
                .target
                .as_ref()
                .is_some_and(|target| target.endpoint.properties.response_streaming)
    }

    /// Replaces the request's payload, once it is in memory.
    pub fn set_request_content(&mut self, content: Content) {
        self.context.request.content = content;
    }

    /// `api.timeout` of the proxy endpoint, counted from the first step.
    pub fn api_timeout(&self) -> Option<std::time::Duration> {
        self.endpoint.properties.api_timeout
    }

    /// Messages and variables.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// See [`Call::context`]; to take the logs out.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
    }

    /// The deployment.
    pub fn deployed(&self) -> &Arc<Deployed> {
        &self.deployed
    }

    /// The proxy endpoint.
    pub fn endpoint(&self) -> &Arc<ProxyEndpoint> {
        &self.endpoint
    }

    /// The conditional flow that was chosen.
    pub fn flow(&self) -> Option<&Flow> {
        self.endpoint.flows.conditional.get(self.proxy_flow?)
    }

    /// The target endpoint, once a route rule named one.
    pub fn target(&self) -> Option<&Arc<TargetEndpoint>> {
        self.context.target.as_ref().map(|target| &target.endpoint)
    }

    /// The flow and the phase in which the fault arose.
    pub fn fault_flow(&self) -> Option<(&str, &'static str)> {
        self.fault_flow.as_ref().map(|(flow, phase)| (&**flow, phase.name()))
    }

    /// What happened so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What happened so far, one line each.
    pub fn trace_lines(&self) -> Vec<String> {
        self.trace.render(&self.deployed.bundle, &self.endpoint)
    }

    /// A fault before the first step: the request could not be read, say.
    pub fn fail(&mut self, fault: Fault, world: &World<'_>) -> Next {
        self.tick(world);
        self.finish_with_fault(Raised { fault, target: false }, world)
    }

    /// The target's address, for `target.ip`.
    pub fn note_target_address(&mut self, address: std::net::IpAddr) {
        if let Some(target) = &mut self.context.target {
            target.ip = Some(address.to_string());
        }
    }

    /// Reports what came of [`Next::SendTarget`].
    pub fn answer(&mut self, outcome: TargetOutcome) {
        if matches!(self.stage, Stage::Target) {
            self.stage = Stage::Answered(Box::new(outcome));
        }
    }

    /// Goes on until something has to be done outside.
    pub fn step(&mut self, world: &World<'_>) -> Next {
        self.tick(world);
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Request => match self.request(world) {
                Ok(Some(request)) => {
                    self.context.mark(Moment::TargetSentStart, self.context.now);
                    self.stage = Stage::Target;
                    Next::SendTarget(Box::new(request))
                }
                Ok(None) => match self.response_flows(world) {
                    Ok(()) => self.respond(),
                    Err(raised) => self.finish_with_fault(raised, world),
                },
                Err(raised) => self.finish_with_fault(raised, world),
            },
            // Nobody reported: the same as a target that went away.
            Stage::Target => {
                let fault = Fault::unexpected_eof_at_target();
                self.finish_with_fault(Raised { fault, target: true }, world)
            }
            Stage::Answered(outcome) => {
                self.context.mark(Moment::TargetReceivedStart, self.context.now);
                match self.answered(*outcome, world) {
                    Ok(()) => self.respond(),
                    Err(raised) => self.finish_with_fault(raised, world),
                }
            }
            Stage::PostClient => {
                self.post_client(world);
                Next::Done
            }
            Stage::Done => Next::Done,
        }
    }

    fn tick(&mut self, world: &World<'_>) {
        self.context.now = world.clock.unix_millis();
        if self.started.is_none() {
            self.started = Some(world.clock.nanos());
        }
    }

    fn respond(&mut self) -> Next {
        self.context.mark(Moment::ClientSentStart, self.context.now);
        self.stage = Stage::PostClient;
        // Only PostClientFlow would read it again.
        let response = match self.endpoint.post_client.is_empty() {
            true => self.context.response.take(),
            false => self.context.response.clone(),
        };
        Next::Respond(Box::new(response.unwrap_or_else(Message::response)))
    }

    /// Steps 2 and 3 of the pipeline: to the request for the target, or none (2.3).
    fn request(&mut self, world: &World<'_>) -> Result<Option<TargetRequest>, Raised> {
        let endpoint = self.endpoint.clone();
        self.proxy_flow = self.request_flows(&endpoint.flows, false, world)?;
        let Some(target) = self.route(&endpoint)? else {
            self.no_target();
            return Ok(None);
        };
        self.trace.target = Some(target.clone());
        self.context.phase = FlowPhase::TargetRequest;
        self.context.target = Some(TargetState::new(&target));
        self.target_flow = self.request_flows(&target.flows, true, world)?;
        self.check_time(world, true)?;
        let forwarded = endpoint.properties.x_forwarded_for;
        match self.context.build_target_request(forwarded) {
            Ok(request) => {
                self.trace.push(TraceEvent::Target(request.url.as_str().into()));
                Ok(Some(request))
            }
            Err(why) => {
                // The runtime's own code for a URL that is none is not known (unconfirmed).
                let mut fault = Fault::service_unavailable(None);
                self.trace.push(TraceEvent::Fault(Box::new((fault.code.to_string(), why))));
                fault.source = FaultSource::Target;
                Err(Raised { fault, target: true })
            }
        }
    }

    /// PreFlow, the one conditional flow that matches, PostFlow; the flow is chosen here.
    fn request_flows(
        &mut self,
        flows: &Flows,
        target: bool,
        world: &World<'_>,
    ) -> Result<Option<usize>, Raised> {
        self.pair(&flows.pre, Place::PreFlow, false, target, world)?;
        let mut chosen = None;
        for (number, flow) in flows.conditional.iter().enumerate() {
            let evaluation = self.evaluate(flow.condition.as_ref());
            let event = TraceEvent::Flow { target, flow: number as u16, evaluation };
            self.note(event, flow.condition.as_ref(), evaluation);
            if evaluation.is_none_or(|evaluation| evaluation.result) {
                chosen = Some(number);
                break;
            }
        }
        self.conditional(flows, chosen, false, target, world)?;
        self.pair(&flows.post, Place::PostFlow, false, target, world)?;
        Ok(chosen)
    }

    fn conditional(
        &mut self,
        flows: &Flows,
        chosen: Option<usize>,
        response: bool,
        target: bool,
        world: &World<'_>,
    ) -> Result<(), Raised> {
        let Some(number) = chosen else { return Ok(()) };
        let flow = &flows.conditional[number];
        let steps = if response { &flow.steps.response } else { &flow.steps.request };
        self.context.flow_name = flow.name.clone();
        self.context.flow_description = flow.description.clone();
        let result = self.steps(steps, Place::Flow(number as u16), response, target, world);
        self.context.flow_description = Arc::from("");
        result
    }

    fn pair(
        &mut self,
        pair: &FlowPair,
        place: Place,
        response: bool,
        target: bool,
        world: &World<'_>,
    ) -> Result<(), Raised> {
        let steps = if response { &pair.response } else { &pair.request };
        self.context.flow_name =
            Arc::from(if place == Place::PreFlow { "PreFlow" } else { "PostFlow" });
        self.steps(steps, place, response, target, world)
    }

    fn steps(
        &mut self,
        steps: &[Step],
        place: Place,
        response: bool,
        target: bool,
        world: &World<'_>,
    ) -> Result<(), Raised> {
        for (index, step) in steps.iter().enumerate() {
            let at = StepAt { target, place, response, index: index as u16 };
            self.run(step, at, world).map_err(|fault| Raised { fault, target })?;
        }
        Ok(())
    }

    /// One step: disabled, skipped, executed, failed (3.1, 3.2).
    fn run(&mut self, step: &Step, at: StepAt, world: &World<'_>) -> Result<(), Fault> {
        let deployed = self.deployed.clone();
        let Some(policy) = deployed.bundle.policies.get(step.index) else { return Ok(()) };
        if !policy.enabled {
            self.trace.push(TraceEvent::Step(at, StepOutcome::Disabled));
            return Ok(());
        }
        if let Some(evaluation) =
            self.evaluate(step.condition.as_ref()).filter(|evaluation| !evaluation.result)
        {
            let event = TraceEvent::Step(at, StepOutcome::Skipped(evaluation));
            self.note(event, step.condition.as_ref(), Some(evaluation));
            return Ok(());
        }
        let begin = deployed.bundle.times_policies.then(|| world.clock.nanos());
        let result = policy.execute(&mut self.context, world);
        if let Some(begin) = begin {
            let nanos = world.clock.nanos().saturating_sub(begin);
            let name = format!("apigee.metrics.policy.{}.timeTaken", policy.name);
            self.context.set(name, Value::Long(i64::try_from(nanos).unwrap_or(i64::MAX)));
        }
        match result {
            Ok(()) => {
                self.trace.push(TraceEvent::Step(at, StepOutcome::Ran));
                self.api_timed_out(world)
            }
            // RaiseFault always raises.
            Err(fault)
                if policy.continue_on_error && !matches!(policy.kind, Kind::RaiseFault(_)) =>
            {
                self.trace.push(TraceEvent::Step(at, StepOutcome::FailedAndContinued));
                self.context.fault = Some(fault);
                self.api_timed_out(world)
            }
            Err(fault) => {
                self.trace.push(TraceEvent::Step(at, StepOutcome::Failed));
                Err(fault)
            }
        }
    }

    fn evaluate(&self, condition: Option<&Condition>) -> Option<Evaluation> {
        condition.map(|condition| condition.evaluate(&self.context))
    }

    /// Keeps an event; for `explain` with the value that decided.
    fn note(
        &mut self,
        event: TraceEvent,
        condition: Option<&Condition>,
        evaluation: Option<Evaluation>,
    ) {
        let leaf = evaluation.and_then(|evaluation| evaluation.leaf);
        let seen = match (self.explain, condition, leaf) {
            (true, Some(condition), Some(leaf)) => {
                condition.leaf_variable(leaf).map(|variable| match self.context.read(variable) {
                    Some(value) => value.to_string(),
                    None => "null".to_owned(),
                })
            }
            _ => None,
        };
        self.trace.events.push((event, seen.map(String::into_boxed_str)));
    }

    /// `api.timeout` is checked after each policy and before the target call (9.1).
    fn api_timed_out(&self, world: &World<'_>) -> Result<(), Fault> {
        match (self.endpoint.properties.api_timeout, self.started) {
            (Some(limit), Some(started))
                if u128::from(world.clock.nanos().saturating_sub(started)) >= limit.as_nanos()
                    && self.context.phase < FlowPhase::PostClient
                    && !self.context.in_fault =>
            {
                Err(Fault::api_timed_out())
            }
            _ => Ok(()),
        }
    }

    fn check_time(&self, world: &World<'_>, target: bool) -> Result<(), Raised> {
        self.api_timed_out(world).map_err(|fault| Raised { fault, target })
    }

    /// The first route rule whose condition is true or absent (2.3).
    fn route(&mut self, endpoint: &ProxyEndpoint) -> Result<Option<Arc<TargetEndpoint>>, Raised> {
        for (number, rule) in endpoint.routes.iter().enumerate() {
            let evaluation = self.evaluate(rule.condition.as_ref());
            let event = TraceEvent::Route { rule: number as u16, evaluation };
            self.note(event, rule.condition.as_ref(), evaluation);
            if evaluation.is_some_and(|evaluation| !evaluation.result) {
                continue;
            }
            self.context.route_name = Some(rule.name.clone());
            let Some(name) = &rule.target else { return Ok(None) };
            return match self.deployed.bundle.target(name) {
                Some(target) => Ok(Some(target.clone())),
                None => Err(proxy_fault(
                    500,
                    "messaging.runtime.TargetMissing",
                    "Unable to route the message to a Target Endpoint",
                )),
            };
        }
        Err(proxy_fault(
            500,
            "messaging.runtime.RouteFailed",
            "Unable to route the message to a Target Endpoint",
        ))
    }

    /// The request message becomes the response message: 200 with its headers and its payload.
    fn no_target(&mut self) {
        self.context.phase = FlowPhase::ProxyResponse;
        if self.context.response.is_some() {
            return;
        }
        let request = &self.context.request;
        let mut response = Message::response();
        response.headers = request.headers.clone();
        strip_hop_by_hop(&mut response.headers);
        response.headers.remove(http::header::CONTENT_LENGTH);
        response.content = request.content.clone();
        self.context.response = Some(response);
    }

    /// Step 4: the target's answer, its flows, then the proxy's.
    fn answered(&mut self, outcome: TargetOutcome, world: &World<'_>) -> Result<(), Raised> {
        let from_target = |fault| Raised { fault, target: true };
        let (status, reason, headers, content) = match outcome {
            TargetOutcome::Failed(fault) => return Err(from_target(fault)),
            TargetOutcome::Response { status, reason, headers, content } => {
                (status, reason, headers, content)
            }
        };
        let Some(target) = self.context.target.as_ref().map(|target| target.endpoint.clone())
        else {
            return Ok(());
        };
        let mut response = Message::response();
        response.status = status;
        response.reason = reason;
        response.headers = headers;
        response.content = content;
        apply_retain(&mut response.headers, &target.properties.retain_response_headers);
        self.context.phase = FlowPhase::TargetResponse;
        let allows = response.headers.contains_key(http::header::ALLOW);
        self.context.response = Some(response);
        // A switched protocol is no message: response flows do not run (9.4, unconfirmed).
        if status == 101 {
            return Ok(());
        }
        if status == 405 && !target.properties.ignore_allow_header && !allows {
            let code = "protocol.http.Response405WithoutAllowHeader";
            let text = "Received 405 Response without Allow Header";
            return Err(from_target(Fault::new(FaultSource::Target, 502, code, text)));
        }
        if !target.properties.is_success(status) {
            return Err(from_target(self.error_response(status)));
        }
        let chosen = self.target_flow;
        self.pair(&target.flows.pre, Place::PreFlow, true, true, world)?;
        self.conditional(&target.flows, chosen, true, true, world)?;
        self.pair(&target.flows.post, Place::PostFlow, true, true, world)?;
        self.response_flows(world)
    }

    /// A target's error passes through, but as a fault (3.4).
    fn error_response(&self, status: u16) -> Fault {
        let mut fault = Fault::new(
            FaultSource::TargetAnswer,
            status,
            "messaging.adaptors.http.flow.ErrorResponseCode",
            format!("Received error response code {status} from the target"),
        );
        fault.message = self.context.response.clone();
        fault
    }

    /// Step 5: the proxy endpoint's response flows.
    fn response_flows(&mut self, world: &World<'_>) -> Result<(), Raised> {
        self.context.phase = FlowPhase::ProxyResponse;
        let endpoint = self.endpoint.clone();
        let chosen = self.proxy_flow;
        self.pair(&endpoint.flows.pre, Place::PreFlow, true, false, world)?;
        self.conditional(&endpoint.flows, chosen, true, false, world)?;
        self.pair(&endpoint.flows.post, Place::PostFlow, true, false, world)
    }

    /// Step 6: failures there are invisible.
    fn post_client(&mut self, world: &World<'_>) {
        self.context.mark(Moment::ClientSentEnd, self.context.now);
        self.context.phase = FlowPhase::PostClient;
        self.context.flow_name = Arc::from("PostClientFlow");
        let endpoint = self.endpoint.clone();
        for (index, step) in endpoint.post_client.iter().enumerate() {
            let at = StepAt {
                target: false,
                place: Place::PostClientFlow,
                response: true,
                index: index as u16,
            };
            let before = self.context.fault.clone();
            let _ = self.run(step, at, world);
            self.context.fault = before;
        }
    }
}

fn proxy_fault(status: u16, code: &'static str, text: &str) -> Raised {
    Raised { fault: Fault::new(FaultSource::Proxy, status, code, text), target: false }
}

#[cfg(test)]
mod tests;
