//! Fault processing (3.3): which rule runs, and what the client gets in the end.

use super::{Call, Next, Raised, Stage};
use crate::endpoint::FaultRule;
use crate::fault::Fault;
use crate::message::{Content, Message, Origin};
use crate::policies::World;
use crate::trace::{Place, StepAt, TraceEvent};
use crate::variable::Moment;

impl Call {
    pub(super) fn finish_with_fault(&mut self, raised: Raised, world: &World<'_>) -> Next {
        self.fault_flow = Some((self.context.flow_name.clone(), self.context.phase));
        self.enter_fault(raised.fault);
        self.fault_rules(raised.target, world);
        self.context.mark(Moment::ClientSentStart, self.context.now);
        self.stage = Stage::PostClient;
        let error = match self.endpoint.post_client.is_empty() {
            true => self.context.error.take(),
            false => self.context.error.clone(),
        };
        Next::Respond(Box::new(error.unwrap_or_else(Message::response)))
    }

    fn enter_fault(&mut self, fault: Fault) {
        self.trace.push(TraceEvent::Fault(Box::new((fault.code.to_string(), fault.text.clone()))));
        let mut message = fault.to_message();
        if message.content == Content::Unread(Origin::Client) {
            // RaiseFault copied a payload that nobody read; it cannot be the answer twice.
            message.content = self.context.request.content.clone();
        }
        self.context.error = Some(message);
        self.context.fault = Some(fault);
        self.context.in_fault = true;
    }

    /// Section 3.3: target rules from the top, proxy rules from the bottom; one of them, then the
    /// default.
    fn fault_rules(&mut self, in_target: bool, world: &World<'_>) {
        let proxy = self.endpoint.clone();
        let target = self.context.target.as_ref().map(|target| target.endpoint.clone());
        // Whether proxy rules get a turn when the target has none is not stated consistently: they
        // do only if the target endpoint defines none at all (3.3, unconfirmed).
        let (rules, target_side) = match &target {
            Some(target) if in_target && !target.fault_rules.is_empty() => {
                (&target.fault_rules, true)
            }
            _ => (&proxy.fault_rules, false),
        };
        let numbered = rules.rules.iter().enumerate();
        let ordered: Vec<(usize, &FaultRule)> =
            if target_side { numbered.collect() } else { numbered.rev().collect() };
        let mut ran = false;
        for (number, rule) in ordered {
            let evaluation = self.evaluate(rule.condition.as_ref());
            let event = TraceEvent::FaultRule {
                target: target_side,
                rule: Some(number as u16),
                evaluation,
            };
            self.note(event, rule.condition.as_ref(), evaluation);
            if evaluation.is_none_or(|evaluation| evaluation.result) {
                if !self.fault_rule(rule, Place::FaultRule(number as u16), target_side, world) {
                    return;
                }
                ran = true;
                break;
            }
        }
        let Some(default) = rules.default.as_ref().filter(|_| !ran || rules.always_enforce) else {
            return;
        };
        let evaluation = self.evaluate(default.condition.as_ref());
        let event = TraceEvent::FaultRule { target: target_side, rule: None, evaluation };
        self.note(event, default.condition.as_ref(), evaluation);
        if evaluation.is_none_or(|evaluation| evaluation.result) {
            self.fault_rule(default, Place::DefaultFaultRule, target_side, world);
        }
    }

    /// Runs a fault rule; false where it raised a new fault, which replaces the error and ends the
    /// processing (3.3, 7.2).
    fn fault_rule(
        &mut self,
        rule: &FaultRule,
        place: Place,
        target: bool,
        world: &World<'_>,
    ) -> bool {
        self.context.flow_name = rule.name.clone();
        for (index, step) in rule.steps.iter().enumerate() {
            let at = StepAt { target, place, response: false, index: index as u16 };
            let before = self.context.fault.clone();
            match self.run(step, at, world) {
                // A failure that goes on is ignored here: the error stays what it was (3.3).
                Ok(()) => self.context.fault = before,
                Err(fault) => {
                    self.enter_fault(fault);
                    return false;
                }
            }
        }
        true
    }
}
