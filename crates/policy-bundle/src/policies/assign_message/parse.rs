//! Reading the actions of AssignMessage and RaiseFault.

use super::{Action, Assignment, Copy, Names, Payload, Removal, Set, Values};
use crate::policies::template;
use crate::template::Template;
use crate::variable::{Variable, indexed};
use crate::xml::{Many, One, Reader};
use http::HeaderName;
use roxmltree::Node;

impl Action {
    /// Reads one action; none if the element is none.
    pub fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Option<Action> {
        Some(match node.tag_name().name() {
            "AssignVariable" => Action::Assign(Box::new(Assignment::parse(node, reader))),
            "Add" => {
                reader.attributes(node, &[]);
                let parts = reader
                    .children(node, &[("Headers", One), ("QueryParams", One), ("FormParams", One)]);
                Action::Add(Values::parse(&parts, reader))
            }
            "Copy" => Action::Copy(Copy::parse(node, reader)),
            "Remove" => Action::Remove(Removal::parse(node, reader)),
            "Set" => Action::Set(Box::new(Set::parse(node, reader))),
            _ => return None,
        })
    }
}

impl Assignment {
    pub(super) fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Assignment {
        reader.attributes(node, &[]);
        let mut assignment = Assignment {
            name: Variable::parse(""),
            template: None,
            template_reference: None,
            property_set: None,
            reference: None,
            value: None,
        };
        let parts = reader.children(
            node,
            &[
                ("Name", One),
                ("PropertySetRef", One),
                ("Ref", One),
                ("Value", One),
                ("Template", One),
            ],
        );
        for part in parts {
            match part.tag_name().name() {
                "Template" => {
                    reader.attributes(part, &["ref"]);
                    assignment.template_reference = reader.reference(part).map(Variable::parse);
                    let text = reader.text_or_markup(part);
                    if !text.is_empty() || assignment.template_reference.is_none() {
                        assignment.template = Some(template(part, &text, reader));
                    }
                }
                name => {
                    reader.attributes(part, &[]);
                    // A Value is literal text, blanks and all; names have none.
                    if name == "Value" {
                        assignment.value = Some(reader.raw_text(part).into());
                        continue;
                    }
                    let text = reader.text(part);
                    match name {
                        "Name" if text.is_empty() || text.contains(['{', '}']) => {
                            let what = format!("`{text}` is no name of a variable.");
                            reader.error(
                                part,
                                "InvalidVariableName",
                                what,
                                "Write the name without braces.",
                            );
                        }
                        "Name" => assignment.name = Variable::parse(&text),
                        "PropertySetRef" => {
                            assignment.property_set = Some(template(part, &text, reader))
                        }
                        _ if text.contains(['{', '}']) => {
                            let what = format!("`{text}` in `<Ref>` is no name of a variable.");
                            reader.error(
                                part,
                                "InvalidVariableName",
                                what,
                                "Ref takes a name without braces.",
                            );
                        }
                        _ => assignment.reference = Some(Variable::parse(&text)),
                    }
                }
            }
        }
        if !node.children().any(|child| child.has_tag_name("Name")) {
            reader.error(
                node,
                "InvalidVariableName",
                "`<AssignVariable>` has no `<Name>`.",
                "Give it a name.",
            );
        }
        assignment
    }
}

impl Values {
    pub(super) fn parse(parts: &[Node<'_, '_>], reader: &mut Reader<'_>) -> Values {
        let mut values = Values::default();
        for part in parts {
            match part.tag_name().name() {
                "Headers" => {
                    for item in list(*part, "Header", reader) {
                        if let Some(name) = header_name(item, reader) {
                            let value = item_template(item, reader);
                            values.headers.push((name, value));
                        }
                    }
                }
                "QueryParams" => {
                    for item in list(*part, "QueryParam", reader) {
                        let name = reader.required_attribute(item, "name").into();
                        values.query.push((name, item_template(item, reader)));
                    }
                }
                "FormParams" => {
                    for item in list(*part, "FormParam", reader) {
                        let name = reader.required_attribute(item, "name").into();
                        values.form.push((name, item_template(item, reader)));
                    }
                }
                _ => {}
            }
        }
        values
    }

    pub(super) fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        for (_, template) in &self.headers {
            template.variables(visit);
        }
        for (_, template) in self.query.iter().chain(&self.form) {
            template.variables(visit);
        }
    }
}

fn list<'a, 'i>(node: Node<'a, 'i>, item: &str, reader: &mut Reader<'_>) -> Vec<Node<'a, 'i>> {
    reader.attributes(node, &[]);
    let items = reader.children(node, &[(item, Many)]);
    for item in &items {
        reader.attributes(*item, &["name"]);
    }
    items
}

fn header_name(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
    let name = reader.required_attribute(node, "name");
    if name.is_empty() {
        return None;
    }
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => Some(name),
        Err(_) => {
            let what = format!("`{name}` is no header name.");
            reader.error(node, "INVALID_VALUE", what, "A name has letters, digits and `-`.");
            None
        }
    }
}

fn item_template(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Template {
    let text = reader.text(node);
    template(node, &text, reader)
}

fn names(node: Node<'_, '_>, item: &str, reader: &mut Reader<'_>) -> Names {
    let items = list(node, item, reader);
    if items.is_empty() {
        return Names::All;
    }
    let of = |node: &Node<'_, '_>| {
        let name = reader.required_attribute(*node, "name");
        match indexed(name) {
            Some((name, index)) => (name.into(), Some(index)),
            None => (name.into(), None),
        }
    };
    Names::Some(items.iter().map(of).collect())
}

impl Copy {
    pub(super) fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Copy {
        reader.attributes(node, &["source"]);
        let source = node.attribute("source").map(str::trim).filter(|source| !source.is_empty());
        let mut copy = Copy {
            source: source.unwrap_or("message").into(),
            headers: None,
            query: None,
            form: None,
            payload: false,
            verb: false,
            version: false,
            path: false,
            status_code: false,
            reason_phrase: false,
        };
        let parts = reader.children(
            node,
            &[
                ("Headers", One),
                ("QueryParams", One),
                ("FormParams", One),
                ("Payload", One),
                ("Verb", One),
                ("Version", One),
                ("Path", One),
                ("StatusCode", One),
                ("ReasonPhrase", One),
            ],
        );
        for part in parts {
            match part.tag_name().name() {
                "Headers" => copy.headers = Some(names(part, "Header", reader)),
                "QueryParams" => copy.query = Some(names(part, "QueryParam", reader)),
                "FormParams" => copy.form = Some(names(part, "FormParam", reader)),
                name => {
                    reader.attributes(part, &[]);
                    let truth = reader.boolean(part, false);
                    match name {
                        "Payload" => copy.payload = truth,
                        "Verb" => copy.verb = truth,
                        "Version" => copy.version = truth,
                        "Path" => copy.path = truth,
                        "StatusCode" => copy.status_code = truth,
                        _ => copy.reason_phrase = truth,
                    }
                }
            }
        }
        copy
    }
}

impl Removal {
    pub(super) fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Removal {
        reader.attributes(node, &[]);
        let mut removal = Removal::default();
        let parts = reader.children(
            node,
            &[("Headers", One), ("QueryParams", One), ("FormParams", One), ("Payload", One)],
        );
        for part in parts {
            match part.tag_name().name() {
                "Headers" => removal.headers = Some(names(part, "Header", reader)),
                "QueryParams" => removal.query = Some(names(part, "QueryParam", reader)),
                "FormParams" => removal.form = Some(names(part, "FormParam", reader)),
                _ => {
                    reader.attributes(part, &[]);
                    removal.payload = reader.boolean(part, false);
                }
            }
        }
        removal
    }
}

impl Set {
    pub(super) fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Set {
        reader.attributes(node, &[]);
        let parts = reader.children(
            node,
            &[
                ("Headers", One),
                ("QueryParams", One),
                ("FormParams", One),
                ("Payload", One),
                ("Verb", One),
                ("Version", One),
                ("Path", One),
                ("StatusCode", One),
                ("ReasonPhrase", One),
            ],
        );
        let mut set = Set { values: Values::parse(&parts, reader), ..Set::default() };
        for part in parts {
            let slot = match part.tag_name().name() {
                "Payload" => {
                    set.payload = Some(Payload::parse(part, reader));
                    continue;
                }
                "Verb" => &mut set.verb,
                "Version" => &mut set.version,
                "Path" => &mut set.path,
                "StatusCode" => &mut set.status_code,
                "ReasonPhrase" => &mut set.reason_phrase,
                _ => continue,
            };
            reader.attributes(part, &[]);
            *slot =
                Some(item_template(part, reader)).filter(|template| !template.source().is_empty());
        }
        set
    }
}

impl Payload {
    pub(super) fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Payload {
        reader.attributes(node, &["contentType", "variablePrefix", "variableSuffix"]);
        let text = reader.text_or_markup(node);
        let delimiter = |name: &str| node.attribute(name).filter(|text| !text.is_empty());
        let content = match (delimiter("variablePrefix"), delimiter("variableSuffix")) {
            (None, None) => template(node, &text, reader),
            (prefix, suffix) => {
                let parsed =
                    Template::with_delimiters(&text, prefix.unwrap_or("{"), suffix.unwrap_or("}"));
                parsed.unwrap_or_else(|error| {
                    let what = format!("the message template is not usable: {error}");
                    let fix = "See Apigee's reference of message templates.";
                    reader.error(node, "INVALID_TEMPLATE", what, fix);
                    Template::default()
                })
            }
        };
        let content_type =
            node.attribute("contentType").map(str::trim).filter(|text| !text.is_empty());
        Payload { content, content_type: content_type.map(|text| template(node, text, reader)) }
    }
}
