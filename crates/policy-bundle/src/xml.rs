//! Reading XML strictly: whatever is not asked for is refused by name, file and line.

use crate::error::{At, Problems};
use roxmltree::{Document, Node, ParsingOptions};
use std::sync::Arc;

/// The most nodes of one XML file; a bound of ours.
const NODES_MAX: u32 = 200_000;

/// Parses one file, or says why not.
pub(crate) fn parse<'i>(
    file: &Arc<str>,
    text: &'i str,
    problems: &mut Problems,
) -> Option<Document<'i>> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..Default::default() };
    match Document::parse_with_options(text, options) {
        Ok(document) => Some(document),
        Err(error) => {
            let position = error.pos();
            let at = At { file: file.clone(), line: position.row, column: position.col };
            let what = format!("the file is not XML: {error}.");
            problems.error(&at, "MALFORMED_XML", what, "Mend the markup there.");
            None
        }
    }
}

/// Reads the elements of one file and notes what is wrong with them.
pub(crate) struct Reader<'p> {
    file: Arc<str>,
    pub problems: &'p mut Problems,
}

/// How often a child element may occur.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// At most once.
    One,
    /// Any number of times.
    Many,
}

pub(crate) use Count::{Many, One};

impl<'p> Reader<'p> {
    pub fn new(file: &Arc<str>, problems: &'p mut Problems) -> Self {
        Reader { file: file.clone(), problems }
    }

    /// Where an element begins.
    pub fn at(&self, node: Node<'_, '_>) -> At {
        let position = node.document().text_pos_at(node.range().start);
        At { file: self.file.clone(), line: position.row, column: position.col }
    }

    /// An error at an element.
    pub fn error(
        &mut self,
        node: Node<'_, '_>,
        code: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let at = self.at(node);
        self.problems.error(&at, code, what, fix);
    }

    /// A warning at an element.
    pub fn warn(
        &mut self,
        node: Node<'_, '_>,
        code: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let at = self.at(node);
        self.problems.warn(&at, code, what, fix);
    }

    /// Checks that an element has only these attributes.
    pub fn attributes(&mut self, node: Node<'_, '_>, allowed: &[&str]) {
        for attribute in node.attributes() {
            if !allowed.contains(&attribute.name()) {
                let position = node.document().text_pos_at(attribute.range().start);
                let at = At { file: self.file.clone(), line: position.row, column: position.col };
                let what = format!(
                    "the attribute `{}` of `<{}>` is not supported.",
                    attribute.name(),
                    node.tag_name().name()
                );
                let fix = if allowed.is_empty() {
                    "The element takes no attributes.".to_owned()
                } else {
                    format!("It takes: {}.", allowed.join(", "))
                };
                self.problems.error(&at, "UNSUPPORTED_ATTRIBUTE", what, fix);
            }
        }
    }

    /// The child elements of an element that holds elements only: each must be in the table.
    pub fn children<'a, 'i>(
        &mut self,
        node: Node<'a, 'i>,
        allowed: &[(&str, Count)],
    ) -> Vec<Node<'a, 'i>> {
        let mut found = Vec::new();
        for child in node.children() {
            if child.is_text() && !child.text().unwrap_or_default().trim().is_empty() {
                let what = format!("text inside `<{}>` has no meaning.", node.tag_name().name());
                self.error(child, "UNEXPECTED_TEXT", what, "Remove it.");
            }
            if !child.is_element() {
                continue;
            }
            let name = child.tag_name().name();
            match allowed.iter().find(|(known, _)| *known == name) {
                None => {
                    let what = format!(
                        "the element `<{name}>` in `<{}>` is not supported.",
                        node.tag_name().name()
                    );
                    let known: Vec<_> = allowed.iter().map(|(known, _)| *known).collect();
                    let fix = if known.is_empty() {
                        "The element takes no children.".to_owned()
                    } else {
                        format!("Supported here: {}.", known.join(", "))
                    };
                    self.error(child, "UNSUPPORTED_ELEMENT", what, fix);
                }
                Some((_, One))
                    if found.iter().any(|other: &Node<'_, '_>| other.tag_name().name() == name) =>
                {
                    let what =
                        format!("`<{name}>` occurs twice in `<{}>`.", node.tag_name().name());
                    self.error(child, "DUPLICATE_ELEMENT", what, "Keep one of them.");
                }
                Some(_) => found.push(child),
            }
        }
        found
    }

    /// The text of an element that holds text only, exactly as written.
    pub fn raw_text(&mut self, node: Node<'_, '_>) -> String {
        let mut text = String::new();
        for child in node.children() {
            if child.is_element() {
                let what = format!(
                    "the element `<{}>` in `<{}>` is not supported.",
                    child.tag_name().name(),
                    node.tag_name().name()
                );
                self.error(child, "UNSUPPORTED_ELEMENT", what, "Only text may stand here.");
            } else if child.is_text() {
                text.push_str(child.text().unwrap_or_default());
            }
        }
        text
    }

    /// The text of an element, without surrounding blanks.
    pub fn text(&mut self, node: Node<'_, '_>) -> String {
        self.raw_text(node).trim().to_owned()
    }

    /// The text of an element that may hold literal XML: elements stand for themselves, as source.
    pub fn text_or_markup(&mut self, node: Node<'_, '_>) -> String {
        if !node.children().any(|child| child.is_element()) {
            return self.raw_text(node);
        }
        let source = node.document().input_text();
        match (node.first_child(), node.last_child()) {
            (Some(first), Some(last)) => {
                source.get(first.range().start..last.range().end).unwrap_or_default().to_owned()
            }
            _ => String::new(),
        }
    }

    /// `true` or `false` in the text of an element.
    pub fn boolean(&mut self, node: Node<'_, '_>, default: bool) -> bool {
        let text = self.text(node);
        self.parse_boolean(node, &text, default)
    }

    /// `true` or `false` in an attribute.
    pub fn boolean_attribute(&mut self, node: Node<'_, '_>, name: &str, default: bool) -> bool {
        match node.attribute(name) {
            None => default,
            Some(text) => {
                let text = text.trim().to_owned();
                self.parse_boolean(node, &text, default)
            }
        }
    }

    fn parse_boolean(&mut self, node: Node<'_, '_>, text: &str, default: bool) -> bool {
        match text {
            "" => default,
            _ if text.eq_ignore_ascii_case("true") => true,
            _ if text.eq_ignore_ascii_case("false") => false,
            _ => {
                let what = format!(
                    "`{text}` in `<{}>` is neither true nor false.",
                    node.tag_name().name()
                );
                self.error(node, "INVALID_VALUE", what, "Write true or false.");
                default
            }
        }
    }

    /// An attribute that must be there and not be empty.
    pub fn required_attribute<'a>(&mut self, node: Node<'a, '_>, name: &str) -> &'a str {
        match node.attribute(name) {
            Some(text) if !text.trim().is_empty() => text.trim(),
            _ => {
                let what = format!("`<{}>` has no `{name}`.", node.tag_name().name());
                self.error(node, "MissingName", what, format!("Give it a `{name}`."));
                ""
            }
        }
    }

    /// The attribute `ref`, trimmed, none where it is empty.
    pub fn reference<'a>(&mut self, node: Node<'a, '_>) -> Option<&'a str> {
        node.attribute("ref").map(str::trim).filter(|name| !name.is_empty())
    }

    /// Refuses an element that Apigee has and we do not.
    pub fn unsupported(&mut self, node: Node<'_, '_>, fix: &str) {
        let what = format!("`<{}>` is not supported.", node.tag_name().name());
        self.error(node, "UNSUPPORTED_ELEMENT", what, fix);
    }
}
