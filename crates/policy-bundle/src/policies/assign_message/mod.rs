//! AssignMessage (7.1); its actions are RaiseFault's too (7.2).

mod parse;
mod run;

pub(in crate::policies) use run::Run;

use super::{Needs, children, ignore_unresolved};
use crate::context::Context;
use crate::fault::Fault;
use crate::message::{Message, MessageKind};
use crate::template::Template;
use crate::variable::{Variable, Which};
use crate::xml::{Many, One, Reader};
use http::HeaderName;
use roxmltree::Node;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct AssignMessage {
    ignore_unresolved: bool,
    assign_to: AssignTo,
    actions: Vec<Action>,
}

#[derive(Clone, Debug, Default)]
struct AssignTo {
    name: Option<Arc<str>>,
    create_new: bool,
    kind: Option<MessageKind>,
}

/// One child of AssignMessage or of FaultResponse, executed in the order of the file.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Assign(Box<Assignment>),
    Add(Values),
    Copy(Copy),
    Remove(Removal),
    Set(Box<Set>),
}

#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    name: Variable,
    template: Option<Template>,
    template_reference: Option<Variable>,
    property_set: Option<Template>,
    reference: Option<Variable>,
    value: Option<Box<str>>,
}

/// Headers, query and form parameters with their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    headers: Vec<(HeaderName, Template)>,
    query: Vec<(Box<str>, Template)>,
    form: Vec<(Box<str>, Template)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Copy {
    source: Arc<str>,
    headers: Option<Names>,
    query: Option<Names>,
    form: Option<Names>,
    payload: bool,
    verb: bool,
    version: bool,
    path: bool,
    status_code: bool,
    reason_phrase: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Removal {
    headers: Option<Names>,
    query: Option<Names>,
    form: Option<Names>,
    payload: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    values: Values,
    payload: Option<Payload>,
    verb: Option<Template>,
    version: Option<Template>,
    path: Option<Template>,
    status_code: Option<Template>,
    reason_phrase: Option<Template>,
}

#[derive(Clone, Debug)]
struct Payload {
    content: Template,
    content_type: Option<Template>,
}

/// All, or those of these names; a name may end in `.N`.
#[derive(Clone, Debug)]
enum Names {
    All,
    Some(Vec<(Box<str>, Option<usize>)>),
}

/// Where the actions act.
enum Target {
    /// A new message that is put into the context at the end.
    New(Box<Message>, Option<Which>),
    /// A message of the context.
    Live(Which),
}

/// The words and codes of the two policies.
#[derive(Clone, Copy)]
pub(super) struct Words {
    pub type_name: &'static str,
    pub unresolved: &'static str,
    pub not_a_message: &'static str,
    pub set_failed: &'static str,
}

const WORDS: Words = Words {
    type_name: "AssignMessage",
    unresolved: "steps.assignmessage.UnresolvedVariable",
    not_a_message: "steps.assignmessage.VariableOfNonMsgType",
    set_failed: "steps.assignmessage.SetVariableFailed",
};

impl AssignMessage {
    pub fn parse(root: Node<'_, '_>, reader: &mut Reader<'_>) -> AssignMessage {
        let children = children(
            root,
            reader,
            &[],
            &[
                ("IgnoreUnresolvedVariables", One),
                ("AssignTo", One),
                ("AssignVariable", Many),
                ("Add", Many),
                ("Copy", Many),
                ("Remove", Many),
                ("Set", Many),
            ],
        );
        let mut assign_to = AssignTo::default();
        let mut actions = Vec::new();
        for child in &children {
            match child.tag_name().name() {
                "AssignTo" => assign_to = AssignTo::parse(*child, reader),
                "IgnoreUnresolvedVariables" => {}
                _ => actions.extend(Action::parse(*child, reader)),
            }
        }
        AssignMessage {
            ignore_unresolved: ignore_unresolved(&children, reader),
            assign_to,
            actions,
        }
    }

    pub fn execute(&self, policy: &str, context: &mut Context) -> Result<(), Fault> {
        let run = Run { policy, words: WORDS, ignore: self.ignore_unresolved };
        let mut target = self.assign_to.target(&run, context)?;
        for action in &self.actions {
            run.act(action, &mut target, context)?;
        }
        if let Target::New(message, which) = target {
            context.put_message(&which.unwrap_or(Which::Message), *message);
        }
        Ok(())
    }

    pub fn needs(&self, needs: &mut Needs) {
        let target = self.assign_to.name.as_deref().map_or(Which::Message, Which::parse);
        for action in &self.actions {
            action.needs(&target, needs);
        }
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        for action in &self.actions {
            action.variables(visit);
        }
    }
}

impl AssignTo {
    fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> AssignTo {
        reader.attributes(node, &["createNew", "transport", "type"]);
        if let Some(transport) = node.attribute("transport")
            && !transport.eq_ignore_ascii_case("http")
        {
            reader.error(
                node,
                "INVALID_VALUE",
                format!("there is no transport `{transport}`."),
                "Write http.",
            );
        }
        let kind = match node.attribute("type").map(str::trim) {
            None | Some("") => None,
            Some("request") => Some(MessageKind::Request),
            Some("response") => Some(MessageKind::Response),
            Some(other) => {
                let what = format!("`type` is `{other}`.");
                reader.error(node, "INVALID_VALUE", what, "Write request or response.");
                None
            }
        };
        let name = reader.text(node);
        AssignTo {
            name: (!name.is_empty()).then(|| name.into()),
            create_new: reader.boolean_attribute(node, "createNew", false),
            kind,
        }
    }

    fn target(&self, run: &Run<'_>, context: &Context) -> Result<Target, Fault> {
        // Without a name: the phase's own message. With createNew and a type it is that message
        // which is made anew.
        let which = match (&self.name, self.create_new, self.kind) {
            (Some(name), _, _) => Which::parse(name),
            (None, true, Some(MessageKind::Request)) => Which::Request,
            (None, true, Some(MessageKind::Response)) => Which::Response,
            (None, ..) => Which::Message,
        };
        if !self.create_new && context.message(&which).is_some() {
            return Ok(Target::Live(which));
        }
        if let (Which::Custom(name), false) = (&which, self.create_new)
            && context.read(&Variable::parse(name)).is_some()
        {
            return Err(run.not_a_message(name));
        }
        // A named message that is not there is made, also without createNew (unconfirmed).
        let kind = self.kind.unwrap_or(match which {
            Which::Response | Which::Error => MessageKind::Response,
            _ => MessageKind::Request,
        });
        let message = match kind {
            MessageKind::Request => Message::request(),
            MessageKind::Response => Message::response(),
        };
        Ok(Target::New(Box::new(message), Some(which)))
    }
}

impl Action {
    pub fn needs(&self, target: &Which, needs: &mut Needs) {
        self.variables(&mut |variable| needs.read(variable));
        let edits_form = match self {
            Action::Add(values) => !values.form.is_empty(),
            Action::Set(set) => !set.values.form.is_empty(),
            Action::Remove(removal) => removal.form.is_some(),
            Action::Copy(copy) => {
                if copy.payload || copy.form.is_some() {
                    needs.message(&Which::parse(&copy.source));
                }
                copy.form.is_some()
            }
            Action::Assign(_) => false,
        };
        if edits_form {
            needs.message(target);
        }
    }

    /// Does it give the message a payload?
    pub fn sets_payload(&self) -> bool {
        match self {
            Action::Set(set) => set.payload.is_some() || !set.values.form.is_empty(),
            Action::Copy(copy) => copy.payload,
            Action::Add(values) => !values.form.is_empty(),
            _ => false,
        }
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        match self {
            Action::Assign(assignment) => {
                for template in assignment.template.iter().chain(&assignment.property_set) {
                    template.variables(visit);
                }
                for variable in assignment.reference.iter().chain(&assignment.template_reference) {
                    visit(variable);
                }
            }
            Action::Add(values) => values.variables(visit),
            Action::Set(set) => {
                set.values.variables(visit);
                let payload = set.payload.iter().flat_map(|payload| {
                    std::iter::once(&payload.content).chain(&payload.content_type)
                });
                let rest =
                    [&set.verb, &set.version, &set.path, &set.status_code, &set.reason_phrase];
                for template in payload.chain(rest.into_iter().flatten()) {
                    template.variables(visit);
                }
            }
            Action::Copy(_) | Action::Remove(_) => {}
        }
    }
}
