//! RaiseFault (7.2).

use super::assign_message::{Action, Run, Words};
use super::{Needs, children, ignore_unresolved};
use crate::context::Context;
use crate::fault::{Fault, default_phrase};
use crate::message::{Content, Message};
use crate::variable::{Variable, Which};
use crate::xml::{Many, One, Reader};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use roxmltree::Node;

#[derive(Clone, Debug)]
pub(crate) struct RaiseFault {
    ignore_unresolved: bool,
    short_fault_reason: bool,
    actions: Vec<Action>,
}

const WORDS: Words = Words {
    type_name: "RaiseFault",
    unresolved: "steps.raisefault.UnresolvedVariable",
    not_a_message: "steps.raisefault.VariableOfNonMsgType",
    set_failed: "steps.raisefault.SetVariableFailed",
};

impl RaiseFault {
    pub fn parse(root: Node<'_, '_>, reader: &mut Reader<'_>) -> RaiseFault {
        let children = children(
            root,
            reader,
            &[],
            &[
                ("IgnoreUnresolvedVariables", One),
                ("ShortFaultReason", One),
                ("FaultResponse", One),
                // The UI of old writes an empty one.
                ("FaultRules", One),
            ],
        );
        let mut actions = Vec::new();
        let mut short_fault_reason = false;
        for child in &children {
            match child.tag_name().name() {
                "ShortFaultReason" => short_fault_reason = reader.boolean(*child, false),
                "FaultRules" => drop(reader.children(*child, &[])),
                "FaultResponse" => {
                    reader.attributes(*child, &[]);
                    let allowed = [
                        ("AssignVariable", Many),
                        ("Add", Many),
                        ("Copy", Many),
                        ("Remove", Many),
                        ("Set", Many),
                    ];
                    for action in reader.children(*child, &allowed) {
                        actions.extend(Action::parse(action, reader));
                    }
                }
                _ => {}
            }
        }
        RaiseFault {
            ignore_unresolved: ignore_unresolved(&children, reader),
            short_fault_reason,
            actions,
        }
    }

    /// Always a fault.
    pub fn execute(&self, policy: &str, context: &mut Context) -> Result<(), Fault> {
        let mut message = Message::response();
        message.status = 500;
        let run = Run { policy, words: WORDS, ignore: self.ignore_unresolved };
        let mut message = run.build(&self.actions, message, context)?;
        // The short form is not documented beyond its name (unconfirmed).
        let text = match self.short_fault_reason {
            true => policy.to_owned(),
            false => format!("Raising fault. Fault name : {policy}"),
        };
        let mut fault = Fault::of_policy(message.status, "steps.raisefault.RaiseFault", text);
        if let Some(phrase) = &message.reason {
            fault.phrase = phrase.clone().into();
        } else {
            message.reason = Some(default_phrase(message.status).to_owned());
        }
        if !self.actions.iter().any(Action::sets_payload) && message.content == Content::Empty {
            message.content = Content::Bytes(Bytes::from(fault.to_json()));
            message.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        fault.message = Some(message);
        Err(fault)
    }

    pub fn needs(&self, needs: &mut Needs) {
        for action in &self.actions {
            action.needs(&Which::Custom("".into()), needs);
        }
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        for action in &self.actions {
            action.variables(visit);
        }
    }
}
