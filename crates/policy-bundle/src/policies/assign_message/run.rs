//! Executing the actions of AssignMessage and RaiseFault.

use super::{Action, Assignment, Copy, Names, Removal, Set, Target, Values, Words};
use crate::context::Context;
use crate::fault::Fault;
use crate::message::{Content, Message, MessageKind, Query};
use crate::template::{Template, Unresolved};
use crate::value::Value;
use crate::variable::{Variable, Which};
use bytes::Bytes;
use http::{HeaderName, Method};
use std::borrow::Cow;

/// One execution.
pub(in crate::policies) struct Run<'a> {
    pub policy: &'a str,
    pub words: Words,
    pub ignore: bool,
}

impl Run<'_> {
    fn fault(&self, code: &'static str, text: &str) -> Fault {
        Fault::of_policy(500, code, format!("{}[{}]: {text}", self.words.type_name, self.policy))
    }

    pub(super) fn unresolved(&self, name: &str) -> Fault {
        self.fault(self.words.unresolved, &format!("unable to resolve variable {name}"))
    }

    pub(super) fn not_a_message(&self, name: &str) -> Fault {
        self.fault(
            self.words.not_a_message,
            &format!("value of variable {name} is not of type Message"),
        )
    }

    fn set_failed(&self, name: &str) -> Fault {
        self.fault(self.words.set_failed, &format!("failed to set variable {name}"))
    }

    fn render<'t>(&self, template: &'t Template, context: &Context) -> Result<Cow<'t, str>, Fault> {
        template
            .render_with(context, self.ignore)
            .map_err(|Unresolved(name)| self.unresolved(&name))
    }

    pub(super) fn act(
        &self,
        action: &Action,
        target: &mut Target,
        context: &mut Context,
    ) -> Result<(), Fault> {
        match action {
            Action::Assign(assignment) => self.assign(assignment, context),
            Action::Add(values) => {
                let values = self.values(values, context)?;
                let message = self.message(target, context)?;
                for (name, value) in &values.headers {
                    if !message.add_header(name, value) {
                        return Err(self.set_failed(name.as_str()));
                    }
                }
                if message.kind == MessageKind::Request {
                    for (name, value) in &values.query {
                        message.query.add(name, value);
                    }
                }
                edit_form(message, &values.form, Query::add);
                note_host(&values, target, context);
                Ok(())
            }
            Action::Copy(copy) => self.copy(copy, target, context),
            Action::Remove(removal) => {
                removal.apply(self.message(target, context)?);
                Ok(())
            }
            Action::Set(set) => self.set(set, target, context),
        }
    }

    /// Runs RaiseFault's actions on a message of its own.
    pub fn build(
        &self,
        actions: &[Action],
        message: Message,
        context: &mut Context,
    ) -> Result<Message, Fault> {
        let mut target = Target::New(Box::new(message), None);
        for action in actions {
            self.act(action, &mut target, context)?;
        }
        match target {
            Target::New(message, _) => Ok(*message),
            Target::Live(_) => Ok(Message::response()),
        }
    }

    fn message<'m>(
        &self,
        target: &'m mut Target,
        context: &'m mut Context,
    ) -> Result<&'m mut Message, Fault> {
        match target {
            Target::New(message, _) => Ok(message),
            Target::Live(which) => {
                context.message_mut(which).ok_or_else(|| self.not_a_message("message"))
            }
        }
    }

    /// Template wins over Ref, and Ref over Value (unconfirmed).
    fn assign(&self, assignment: &Assignment, context: &mut Context) -> Result<(), Fault> {
        let by_name = assignment.template_reference.as_ref();
        let value = if let Some(text) = by_name.and_then(|variable| context.read(variable)) {
            match Template::parse(&text.as_text()) {
                Ok(template) => Some(Value::owned(self.render(&template, context)?.into_owned())),
                Err(_) => Some(text.into_owned()),
            }
        } else if let Some(template) = &assignment.template {
            match template.render_with(context, false) {
                Ok(text) => Some(Value::owned(text.into_owned())),
                // A template that is one reference alone, such as firstnonnull, is null then.
                Err(_) if self.ignore && template.is_one_reference() => None,
                Err(_) if self.ignore => Some(Value::owned(template.render(context))),
                Err(Unresolved(name)) => return Err(self.unresolved(&name)),
            }
        } else if let Some(key) = &assignment.property_set {
            let key = self.render(key, context)?;
            let key = key.strip_prefix("propertyset.").unwrap_or(&key);
            context.bundle.properties.get(key).map(|text| Value::owned(&**text))
        } else {
            assignment
                .reference
                .as_ref()
                .and_then(|variable| context.read(variable))
                .map(Value::into_owned)
        };
        let value = value.or_else(|| assignment.value.as_deref().map(Value::owned));
        let Some(value) = value else {
            if self.ignore {
                return Ok(());
            }
            let name = assignment.reference.as_ref().map_or(assignment.name.name(), Variable::name);
            return Err(self.unresolved(name));
        };
        context.write(&assignment.name, value).map_err(|_| self.set_failed(assignment.name.name()))
    }

    fn values(&self, values: &Values, context: &Context) -> Result<Rendered, Fault> {
        let mut rendered = Rendered::default();
        for (name, template) in &values.headers {
            rendered.headers.push((name.clone(), self.render(template, context)?.into_owned()));
        }
        for (name, template) in &values.query {
            rendered.query.push((name.clone(), self.render(template, context)?.into_owned()));
        }
        for (name, template) in &values.form {
            rendered.form.push((name.clone(), self.render(template, context)?.into_owned()));
        }
        Ok(rendered)
    }

    fn copy(&self, copy: &Copy, target: &mut Target, context: &mut Context) -> Result<(), Fault> {
        let which = Which::parse(&copy.source);
        let Some(source) = context.message(&which) else {
            return Err(match context.read(&Variable::parse(&copy.source)) {
                Some(_) => self.not_a_message(&copy.source),
                None => self.unresolved(&copy.source),
            });
        };
        // Copied out once: source and target may be the same message.
        let source = source.clone();
        let message = self.message(target, context)?;
        let same_kind = |kind| source.kind == kind && message.kind == kind;
        let (requests, responses) =
            (same_kind(MessageKind::Request), same_kind(MessageKind::Response));
        if let Some(names) = &copy.headers {
            names.each(source.headers.keys().map(HeaderName::as_str), |name, index| {
                let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return };
                let lines: Vec<_> = source.headers.get_all(&name).iter().cloned().collect();
                let lines = match index {
                    None => lines,
                    Some(index) => lines.into_iter().skip(index - 1).take(1).collect(),
                };
                if !lines.is_empty() {
                    message.headers.remove(&name);
                }
                for line in lines {
                    message.headers.append(&name, line);
                }
            });
        }
        if let Some(names) = copy.query.as_ref().filter(|_| requests) {
            copy_params(names, &source.query, &mut message.query);
        }
        if copy.payload {
            message.headers.remove(http::header::CONTENT_LENGTH);
            message.content = source.content.clone();
        }
        if let Some((names, form)) = copy.form.as_ref().zip(source.form()).filter(|_| requests) {
            let mut own = message.form().unwrap_or_default();
            copy_params(names, &form, &mut own);
            message.set_form(&own);
        }
        if copy.verb && requests {
            message.method = source.method.clone();
        }
        if copy.version {
            message.version = source.version.clone();
        }
        if copy.path && requests {
            message.path = source.path.clone();
            message.path_written = true;
        }
        if copy.status_code && responses {
            message.status = source.status;
            message.reason = None;
        }
        if copy.reason_phrase && responses {
            message.reason = source.reason.clone();
        }
        Ok(())
    }

    fn set(&self, set: &Set, target: &mut Target, context: &mut Context) -> Result<(), Fault> {
        let values = self.values(&set.values, context)?;
        let text = |template: &Option<Template>| -> Result<Option<String>, Fault> {
            template
                .as_ref()
                .map(|template| self.render(template, context).map(Cow::into_owned))
                .transpose()
        };
        let payload = match &set.payload {
            None => None,
            Some(payload) => {
                let content = self.render(&payload.content, context)?.into_owned();
                Some((content, text(&payload.content_type)?))
            }
        };
        let (verb, version, path) = (text(&set.verb)?, text(&set.version)?, text(&set.path)?);
        let (status, reason) = (text(&set.status_code)?, text(&set.reason_phrase)?);
        let message = self.message(target, context)?;
        let request = message.kind == MessageKind::Request;
        // The first of a name replaces, those after it are further values.
        let mut seen: Vec<&HeaderName> = Vec::new();
        for (name, value) in &values.headers {
            let first = !seen.contains(&name);
            let good = if first {
                message.set_header(name, value)
            } else {
                message.add_header(name, value)
            };
            if !good {
                return Err(self.set_failed(name.as_str()));
            }
            seen.push(name);
        }
        if request {
            for (name, value) in &values.query {
                message.query.set(name, value);
            }
        }
        if let Some((content, content_type)) = payload {
            message.set_content(Bytes::from(content));
            if let Some(content_type) = content_type
                && !message.set_header(&http::header::CONTENT_TYPE, &content_type)
            {
                return Err(self.set_failed("contentType"));
            }
        }
        edit_form(message, &values.form, Query::set);
        if let Some(verb) = verb.filter(|_| request) {
            message.method =
                Method::from_bytes(verb.trim().as_bytes()).map_err(|_| self.set_failed("verb"))?;
        }
        if let Some(version) = version {
            message.version = Cow::Owned(version);
        }
        if let Some(path) = path.filter(|_| request) {
            message.path = if path.starts_with('/') { path } else { format!("/{path}") };
            message.path_written = true;
        }
        if let Some(status) = status.filter(|_| !request) {
            let number = status.trim().parse().ok().filter(|status| (100..1000).contains(status));
            message.status = number.ok_or_else(|| self.set_failed("status.code"))?;
            message.reason = None;
        }
        if let Some(reason) = reason.filter(|_| !request) {
            message.reason = Some(reason);
        }
        note_host(&values, target, context);
        Ok(())
    }
}

#[derive(Default)]
struct Rendered {
    headers: Vec<(HeaderName, String)>,
    query: Vec<(Box<str>, String)>,
    form: Vec<(Box<str>, String)>,
}

/// A Host that is written in the target request flow is kept (2.4).
fn note_host(values: &Rendered, target: &Target, context: &mut Context) {
    let request = matches!(target, Target::Live(Which::Request | Which::Message));
    if request && values.headers.iter().any(|(name, _)| *name == http::header::HOST) {
        context.note_host_written();
    }
}

fn edit_form(
    message: &mut Message,
    values: &[(Box<str>, String)],
    edit: fn(&mut Query, &str, &str),
) {
    if values.is_empty() {
        return;
    }
    let mut form = message.form().unwrap_or_default();
    for (name, value) in values {
        edit(&mut form, name, value);
    }
    message.set_form(&form);
}

fn copy_params(names: &Names, source: &Query, into: &mut Query) {
    let known = source.names();
    names.each(known.iter().map(String::as_str), |name, index| {
        let values: Vec<String> = source.values(name).map(Cow::into_owned).collect();
        let values: Vec<String> = match index {
            None => values,
            Some(index) => values.into_iter().skip(index - 1).take(1).collect(),
        };
        if !values.is_empty() {
            into.remove(name, None);
        }
        for value in values {
            into.add(name, &value);
        }
    });
}

impl Names {
    /// Calls for each name with its index: all of the source's, or those listed.
    fn each<'a>(
        &self,
        known: impl Iterator<Item = &'a str>,
        mut visit: impl FnMut(&str, Option<usize>),
    ) {
        match self {
            Names::All => known.for_each(|name| visit(name, None)),
            Names::Some(names) => names.iter().for_each(|(name, index)| visit(name, *index)),
        }
    }
}

impl Removal {
    fn apply(&self, message: &mut Message) {
        match &self.headers {
            Some(Names::All) => message.headers.clear(),
            Some(names) => names.each(std::iter::empty(), |name, index| {
                if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                    message.remove_header(&name, index);
                }
            }),
            None => {}
        }
        match &self.query {
            Some(Names::All) => message.query.clear(),
            Some(names) => {
                names.each(std::iter::empty(), |name, index| message.query.remove(name, index))
            }
            None => {}
        }
        if let Some((names, mut form)) = self.form.as_ref().zip(message.form()) {
            match names {
                Names::All => form.clear(),
                names => names.each(std::iter::empty(), |name, index| form.remove(name, index)),
            }
            message.set_form(&form);
        }
        if self.payload {
            message.headers.remove(http::header::CONTENT_LENGTH);
            message.content = Content::Empty;
        }
    }
}
