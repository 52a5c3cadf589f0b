//! What the interpreter did: ids while it runs, text when somebody prints it.

use crate::bundle::Bundle;
use crate::condition::{Condition, Evaluation};
use crate::endpoint::{FaultRules, Flows, ProxyEndpoint, Step, TargetEndpoint};
use std::fmt::Write;
use std::sync::Arc;

/// A part of an endpoint that holds steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// PreFlow.
    PreFlow,
    /// The conditional flow of this number.
    Flow(u16),
    /// PostFlow.
    PostFlow,
    /// The fault rule of this number, in the order of the file.
    FaultRule(u16),
    /// DefaultFaultRule.
    DefaultFaultRule,
    /// PostClientFlow.
    PostClientFlow,
}

/// One step of the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepAt {
    /// In the target endpoint, not in the proxy endpoint?
    pub target: bool,
    /// Where.
    pub place: Place,
    /// Among the response steps?
    pub response: bool,
    /// The how-manieth.
    pub index: u16,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It ran.
    Ran,
    /// Its policy is disabled.
    Disabled,
    /// Its condition is false.
    Skipped(Evaluation),
    /// It raised a fault.
    Failed,
    /// It failed, and the flow goes on (`continueOnError`).
    FailedAndContinued,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum TraceEvent {
    /// A step was reached.
    Step(StepAt, StepOutcome),
    /// A conditional flow was looked at; the last one that is true is the one that runs.
    Flow {
        /// In the target endpoint?
        target: bool,
        /// Its number.
        flow: u16,
        /// Its condition's outcome; none: it has none.
        evaluation: Option<Evaluation>,
    },
    /// A route rule was looked at.
    Route {
        /// Its number.
        rule: u16,
        /// Its condition's outcome; none: it has none.
        evaluation: Option<Evaluation>,
    },
    /// A fault rule was looked at; none: the default fault rule.
    FaultRule {
        /// In the target endpoint?
        target: bool,
        /// Its number.
        rule: Option<u16>,
        /// Its condition's outcome; none: it has none.
        evaluation: Option<Evaluation>,
    },
    /// A fault was raised: its code and its text.
    Fault(Box<(String, String)>),
    /// The request for the target was built: its URL.
    Target(Box<str>),
}

/// What happened in one call, in order.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub(crate) events: Vec<(TraceEvent, Option<Box<str>>)>,
    pub(crate) target: Option<Arc<TargetEndpoint>>,
}

impl Trace {
    pub(crate) fn push(&mut self, event: TraceEvent) {
        self.events.push((event, None));
    }

    /// The events.
    pub fn events(&self) -> impl Iterator<Item = &TraceEvent> {
        self.events.iter().map(|(event, _)| event)
    }

    /// One line for each event.
    pub fn render(&self, bundle: &Bundle, proxy: &ProxyEndpoint) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|(event, seen)| self.line(event, seen.as_deref(), bundle, proxy))
            .collect()
    }

    fn line(
        &self,
        event: &TraceEvent,
        seen: Option<&str>,
        bundle: &Bundle,
        proxy: &ProxyEndpoint,
    ) -> Option<String> {
        let parts = |target: bool| -> Option<(&Flows, &FaultRules, &str, &str)> {
            if target {
                let endpoint = self.target.as_ref()?;
                Some((&endpoint.flows, &endpoint.fault_rules, "target endpoint", &endpoint.name))
            } else {
                Some((&proxy.flows, &proxy.fault_rules, "proxy endpoint", &proxy.name))
            }
        };
        let mut line = String::new();
        match event {
            TraceEvent::Step(at, outcome) => {
                let (flows, rules, kind, name) = parts(at.target)?;
                let step = step(*at, flows, rules, proxy)?;
                let direction = match at.place {
                    Place::FaultRule(_) | Place::DefaultFaultRule | Place::PostClientFlow => "",
                    _ if at.response => " response",
                    _ => " request",
                };
                let place = place_name(at.place, flows, rules);
                let policy = bundle.policies.get(step.index)?;
                write!(
                    line,
                    "{kind} {name}, {place}{direction}: {} {}",
                    policy.type_name(),
                    step.policy
                )
                .ok()?;
                line.push_str(match outcome {
                    StepOutcome::Ran => " ran",
                    StepOutcome::Disabled => " is disabled",
                    StepOutcome::Skipped(_) => " was skipped",
                    StepOutcome::Failed => " raised a fault",
                    StepOutcome::FailedAndContinued => " failed, and the flow goes on",
                });
                if let StepOutcome::Skipped(evaluation) = outcome {
                    because(&mut line, step.condition.as_ref(), *evaluation, seen);
                }
            }
            TraceEvent::Flow { target, flow, evaluation } => {
                let (flows, _, kind, name) = parts(*target)?;
                let flow = flows.conditional.get(usize::from(*flow))?;
                write!(line, "{kind} {name}: flow {}", flow.name).ok()?;
                choice(&mut line, flow.condition.as_ref(), *evaluation, seen);
            }
            TraceEvent::Route { rule, evaluation } => {
                let rule = proxy.routes.get(usize::from(*rule))?;
                let to = rule
                    .target
                    .as_deref()
                    .map_or("no target".to_owned(), |name| format!("target endpoint {name}"));
                write!(line, "route rule {} ({to})", rule.name).ok()?;
                choice(&mut line, rule.condition.as_ref(), *evaluation, seen);
            }
            TraceEvent::FaultRule { target, rule, evaluation } => {
                let (_, rules, kind, name) = parts(*target)?;
                let (rule, what) = match rule {
                    Some(rule) => (rules.rules.get(usize::from(*rule))?, "fault rule"),
                    None => (rules.default.as_ref()?, "default fault rule"),
                };
                write!(line, "{kind} {name}: {what} {}", rule.name).ok()?;
                choice(&mut line, rule.condition.as_ref(), *evaluation, seen);
            }
            TraceEvent::Fault(fault) => write!(line, "fault {}: {}", fault.0, fault.1).ok()?,
            TraceEvent::Target(url) => write!(line, "target request {url}").ok()?,
        }
        Some(line)
    }
}

fn step<'a>(
    at: StepAt,
    flows: &'a Flows,
    rules: &'a FaultRules,
    proxy: &'a ProxyEndpoint,
) -> Option<&'a Step> {
    let pair = match at.place {
        Place::PreFlow => &flows.pre,
        Place::PostFlow => &flows.post,
        Place::Flow(flow) => &flows.conditional.get(usize::from(flow))?.steps,
        Place::FaultRule(rule) => {
            return rules.rules.get(usize::from(rule))?.steps.get(usize::from(at.index));
        }
        Place::DefaultFaultRule => return rules.default.as_ref()?.steps.get(usize::from(at.index)),
        Place::PostClientFlow => return proxy.post_client.get(usize::from(at.index)),
    };
    let steps = if at.response { &pair.response } else { &pair.request };
    steps.get(usize::from(at.index))
}

fn place_name(place: Place, flows: &Flows, rules: &FaultRules) -> String {
    match place {
        Place::PreFlow => "PreFlow".to_owned(),
        Place::PostFlow => "PostFlow".to_owned(),
        Place::PostClientFlow => "PostClientFlow".to_owned(),
        Place::DefaultFaultRule => "DefaultFaultRule".to_owned(),
        Place::Flow(flow) => match flows.conditional.get(usize::from(flow)) {
            Some(flow) => format!("flow {}", flow.name),
            None => String::new(),
        },
        Place::FaultRule(rule) => match rules.rules.get(usize::from(rule)) {
            Some(rule) => format!("fault rule {}", rule.name),
            None => String::new(),
        },
    }
}

fn choice(
    line: &mut String,
    condition: Option<&Condition>,
    evaluation: Option<Evaluation>,
    seen: Option<&str>,
) {
    match evaluation {
        None => line.push_str(" has no condition: chosen"),
        Some(evaluation) if evaluation.result => {
            line.push_str(" matches: ");
            line.push_str(condition.map(Condition::source).unwrap_or_default());
        }
        Some(evaluation) => {
            line.push_str(" does not match");
            because(line, condition, evaluation, seen);
        }
    }
}

/// `: proxy.pathsuffix MatchesPath "/x" is false (proxy.pathsuffix is "/y")`.
fn because(
    line: &mut String,
    condition: Option<&Condition>,
    evaluation: Evaluation,
    seen: Option<&str>,
) {
    let Some(condition) = condition else { return };
    let Some(leaf) = evaluation.leaf else { return };
    let text = condition.leaf(leaf).unwrap_or_default();
    // The comparison that decided may itself be true, under a `not`.
    let _ = write!(line, ": `{text}` decides");
    if let (Some(variable), Some(seen)) = (condition.leaf_variable(leaf), seen) {
        let _ = write!(line, "; {variable} is {seen}");
    }
}
