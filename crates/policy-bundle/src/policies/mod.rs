//! The policies (section 7): each module parses one type strictly and executes it.

pub(crate) mod assign_message;
pub(crate) mod extract_variables;
pub mod message_logging;
pub(crate) mod quota;
pub(crate) mod raise_fault;
pub(crate) mod spike_arrest;
pub(crate) mod verify_api_key;

use crate::context::{Clock, Context};
use crate::counters::Counters;
use crate::directory::Directory;
use crate::error::{At, Problems};
use crate::fault::Fault;
use crate::template::Template;
use crate::variable::Variable;
use crate::xml::{Count, Many, One, Reader};
use roxmltree::Node;
use std::sync::Arc;

/// What the interpreter is given beside the call.
pub struct World<'a> {
    /// Its clocks.
    pub clock: &'a dyn Clock,
    /// The counters of Quota and SpikeArrest.
    pub counters: &'a Counters,
    /// Products, apps and keys: [`crate::Platform::directory`].
    pub directory: &'a Directory,
}

/// One policy of the bundle.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub name: Arc<str>,
    pub enabled: bool,
    pub continue_on_error: bool,
    pub kind: Kind,
    pub at: At,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    AssignMessage(assign_message::AssignMessage),
    RaiseFault(raise_fault::RaiseFault),
    VerifyApiKey(verify_api_key::VerifyApiKey),
    Quota(Box<quota::Quota>),
    SpikeArrest(spike_arrest::SpikeArrest),
    ExtractVariables(extract_variables::ExtractVariables),
    MessageLogging(message_logging::MessageLogging),
    /// A type that is not supported: an error as soon as a step names it.
    Unsupported(String),
}

/// What a policy does with messages, so that payloads are buffered only where they are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub request_payload: bool,
    pub response_payload: bool,
}

impl Needs {
    pub fn read(&mut self, variable: &Variable) {
        use crate::variable::Which;
        match variable.payload_of() {
            None | Some(Which::Custom(_)) => {}
            Some(Which::Request) => self.request_payload = true,
            Some(Which::Response | Which::Error) => self.response_payload = true,
            Some(Which::Message) => self.message(&Which::Message),
        }
    }

    pub fn message(&mut self, which: &crate::variable::Which) {
        use crate::variable::Which;
        self.request_payload |= matches!(which, Which::Request | Which::Message);
        self.response_payload |= matches!(which, Which::Response | Which::Message | Which::Error);
    }
}

impl Policy {
    /// Reads the policy of one file.
    pub fn parse(root: Node<'_, '_>, file: &Arc<str>, problems: &mut Problems) -> Policy {
        let mut reader = Reader::new(file, problems);
        let name: Arc<str> = reader.required_attribute(root, "name").into();
        let kind = match root.tag_name().name() {
            "AssignMessage" => {
                Kind::AssignMessage(assign_message::AssignMessage::parse(root, &mut reader))
            }
            "RaiseFault" => Kind::RaiseFault(raise_fault::RaiseFault::parse(root, &mut reader)),
            "VerifyAPIKey" => {
                Kind::VerifyApiKey(verify_api_key::VerifyApiKey::parse(root, &name, &mut reader))
            }
            "Quota" => Kind::Quota(Box::new(quota::Quota::parse(root, &name, &mut reader))),
            "SpikeArrest" => Kind::SpikeArrest(spike_arrest::SpikeArrest::parse(root, &mut reader)),
            "ExtractVariables" => Kind::ExtractVariables(
                extract_variables::ExtractVariables::parse(root, &mut reader),
            ),
            "MessageLogging" => {
                Kind::MessageLogging(message_logging::MessageLogging::parse(root, &mut reader))
            }
            other => Kind::Unsupported(other.to_owned()),
        };
        let supported = !matches!(kind, Kind::Unsupported(_));
        Policy {
            name,
            enabled: !supported || reader.boolean_attribute(root, "enabled", true),
            continue_on_error: supported
                && reader.boolean_attribute(root, "continueOnError", false),
            kind,
            at: reader.at(root),
        }
    }

    /// The type's name.
    pub fn type_name(&self) -> &str {
        match &self.kind {
            Kind::AssignMessage(_) => "AssignMessage",
            Kind::RaiseFault(_) => "RaiseFault",
            Kind::VerifyApiKey(_) => "VerifyAPIKey",
            Kind::Quota(_) => "Quota",
            Kind::SpikeArrest(_) => "SpikeArrest",
            Kind::ExtractVariables(_) => "ExtractVariables",
            Kind::MessageLogging(_) => "MessageLogging",
            Kind::Unsupported(name) => name,
        }
    }

    /// The prefix of its variables (7.0).
    fn prefix(&self) -> &'static str {
        match &self.kind {
            Kind::AssignMessage(_) => "assignmessage",
            Kind::RaiseFault(_) => "raisefault",
            Kind::VerifyApiKey(_) => "oauthV2",
            Kind::Quota(_) | Kind::SpikeArrest(_) => "ratelimit",
            Kind::ExtractVariables(_) => "extractvariables",
            Kind::MessageLogging(_) => "messagelogging",
            Kind::Unsupported(_) => "",
        }
    }

    /// Executes it; a failure sets the flag variables (7.0).
    pub fn execute(&self, context: &mut Context, world: &World<'_>) -> Result<(), Fault> {
        let result = match &self.kind {
            Kind::AssignMessage(policy) => policy.execute(&self.name, context),
            Kind::RaiseFault(policy) => policy.execute(&self.name, context),
            Kind::VerifyApiKey(policy) => policy.execute(context, world),
            Kind::Quota(policy) => policy.execute(&self.name, context, world),
            Kind::SpikeArrest(policy) => policy.execute(&self.name, context, world),
            Kind::ExtractVariables(policy) => policy.execute(&self.name, context),
            Kind::MessageLogging(policy) => {
                policy.execute(&self.name, context);
                Ok(())
            }
            Kind::Unsupported(_) => Ok(()),
        };
        result.map_err(|mut fault| {
            fault.policy = Some(self.name.clone());
            self.mark_failed(&fault, context);
            fault
        })
    }

    fn mark_failed(&self, fault: &Fault, context: &mut Context) {
        use crate::value::Value;
        let (prefix, name) = (self.prefix(), &self.name);
        let failed = Value::Boolean(true);
        if let Kind::VerifyApiKey(_) = &self.kind {
            context.set(format!("oauthV2.{name}.fault.name"), Value::owned(fault.name()));
            context.set(format!("oauthV2.{name}.fault.cause"), Value::owned(fault.text.as_str()));
            context.set(format!("verifyapikey.{name}.failed"), failed.clone());
        }
        context.set(format!("{prefix}.{name}.failed"), failed);
    }

    /// Which payloads it reads.
    pub fn needs(&self, needs: &mut Needs) {
        match &self.kind {
            Kind::AssignMessage(policy) => policy.needs(needs),
            Kind::RaiseFault(policy) => policy.needs(needs),
            Kind::ExtractVariables(policy) => policy.needs(needs),
            _ => self.variables(&mut |variable| needs.read(variable)),
        }
    }

    /// Every variable that it reads.
    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        match &self.kind {
            Kind::AssignMessage(policy) => policy.variables(visit),
            Kind::RaiseFault(policy) => policy.variables(visit),
            Kind::VerifyApiKey(policy) => policy.variables(visit),
            Kind::Quota(policy) => policy.variables(visit),
            Kind::SpikeArrest(policy) => policy.variables(visit),
            Kind::ExtractVariables(policy) => policy.variables(visit),
            Kind::MessageLogging(policy) => policy.variables(visit),
            Kind::Unsupported(_) => {}
        }
    }
}

/// The attributes that every policy has.
pub(crate) const COMMON_ATTRIBUTES: &[&str] = &["name", "enabled", "continueOnError", "async"];

/// The children of a policy: those of its type, and those that every policy has.
pub(crate) fn children<'a, 'i>(
    root: Node<'a, 'i>,
    reader: &mut Reader<'_>,
    attributes: &[&str],
    allowed: &[(&str, Count)],
) -> Vec<Node<'a, 'i>> {
    let mut known = COMMON_ATTRIBUTES.to_vec();
    known.extend(attributes);
    reader.attributes(root, &known);
    let mut all = vec![("DisplayName", One), ("Description", One), ("Properties", One)];
    all.extend(allowed);
    let mut found = reader.children(root, &all);
    found.retain(|child| match child.tag_name().name() {
        "DisplayName" | "Description" => false,
        "Properties" => {
            for property in reader.children(*child, &[("Property", Many)]) {
                reader.unsupported(property, "Policies of this type have no properties here.");
            }
            false
        }
        _ => true,
    });
    found
}

/// `IgnoreUnresolvedVariables`, false where absent (7.0).
pub(crate) fn ignore_unresolved(children: &[Node<'_, '_>], reader: &mut Reader<'_>) -> bool {
    children
        .iter()
        .find(|child| child.tag_name().name() == "IgnoreUnresolvedVariables")
        .is_some_and(|child| reader.boolean(*child, false))
}

/// A template, or an error at the element.
pub(crate) fn template(node: Node<'_, '_>, text: &str, reader: &mut Reader<'_>) -> Template {
    Template::parse(text).unwrap_or_else(|error| {
        reader.error(
            node,
            "INVALID_TEMPLATE",
            format!("the message template is not usable: {error}"),
            "See Apigee's reference of message templates.",
        );
        Template::default()
    })
}

/// A value with `ref` and text: the variable wins, the text is the fallback (7.0).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RefOrText {
    pub reference: Option<Variable>,
    pub text: Option<Box<str>>,
}

impl RefOrText {
    pub fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> RefOrText {
        reader.attributes(node, &["ref"]);
        let text = reader.text(node);
        RefOrText {
            reference: reader.reference(node).map(Variable::parse),
            text: (!text.is_empty()).then(|| text.into()),
        }
    }

    /// The value; none where the variable is unresolved and there is no text.
    pub fn resolve(&self, context: &Context) -> Option<String> {
        let read = self.reference.as_ref().and_then(|variable| context.read(variable));
        match read {
            Some(value) => Some(value.as_text().into_owned()),
            None => self.text.as_deref().map(String::from),
        }
    }

    /// The name of the reference, for messages.
    pub fn name(&self) -> &str {
        self.reference.as_ref().map(Variable::name).unwrap_or_default()
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        if let Some(variable) = &self.reference {
            visit(variable);
        }
    }
}

/// `InvalidMessageWeight` and the weight of Quota and SpikeArrest; 1 where there is none.
pub(crate) fn message_weight(weight: Option<&RefOrText>, context: &Context) -> Result<u64, Fault> {
    let Some(weight) = weight else { return Ok(1) };
    let Some(text) = weight.resolve(context) else { return Ok(1) };
    text.trim().parse().map_err(|_| {
        Fault::of_policy(
            500,
            "policies.ratelimit.InvalidMessageWeight",
            format!("Invalid message weight value {}", text.trim()),
        )
    })
}
