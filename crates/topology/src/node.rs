//! Text → nodes with marks. YAML 1.2 with the core schema (JSON is its subset), several documents
//! per file; depth and alias expansion are bounded, duplicate keys are errors.

use crate::diagnostic::{Code, Findings, Mark};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Deepest nesting of collections; the deepest resource needs about ten.
const DEPTH_MAX: usize = 64;
/// How many nodes all aliases of one file may add.
const ALIAS_NODES_MAX: usize = 100_000;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) at: Mark,
    pub(crate) kind: Kind<'a>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind<'a> {
    /// A scalar as written; `plain` ones are typed by the core schema.
    Scalar {
        text: Cow<'a, str>,
        plain: bool,
    },
    List(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) at: Mark,
    pub(crate) text: Cow<'a, str>,
}

/// A scalar's value under the YAML 1.2 core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'n> {
    Null,
    Bool(bool),
    Integer(i128),
    Number(f64),
    Text(&'n str),
}

impl<'a> Node<'a> {
    pub(crate) fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.kind {
            Kind::Scalar { text, plain: true } => Some(core_schema(text)),
            Kind::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }

    /// An entry of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text of a scalar entry of a mapping.
    pub(crate) fn text_of(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// What people call the type of this value.
    pub(crate) fn type_name(&self) -> &'static str {
        match (&self.kind, self.scalar()) {
            (Kind::List(_), _) => "a list",
            (Kind::Map(_), _) => "a mapping",
            (_, Some(Scalar::Null)) => "nothing",
            (_, Some(Scalar::Bool(_))) => "a boolean",
            (_, Some(Scalar::Integer(_) | Scalar::Number(_))) => "a number",
            _ => "a text",
        }
    }

    /// The texts of all scalars, one a line.
    fn scalars(&self, into: &mut String) {
        match &self.kind {
            Kind::Scalar { text, .. } => {
                into.push_str(text);
                into.push('\n');
            }
            Kind::List(items) => items.iter().for_each(|item| item.scalars(into)),
            Kind::Map(entries) => entries.iter().for_each(|(_, value)| value.scalars(into)),
        }
    }

    /// Nodes in this tree, itself included.
    fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(Node::size).sum(),
            Kind::Map(entries) => entries.iter().map(|(_, value)| value.size()).sum(),
        }
    }

    /// Levels of collections in this tree.
    fn depth(&self) -> usize {
        match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Kind::Map(entries) => 1 + entries.iter().map(|(_, v)| v.depth()).max().unwrap_or(0),
        }
    }
}

/// The core schema of YAML 1.2 (10.3.2).
fn core_schema(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned.as_bytes().first() {
        Some(b'0'..=b'9' | b'.') => {}
        _ => return Scalar::Text(text),
    }
    let radix = |prefix, radix| {
        let digits = text.strip_prefix(prefix)?;
        digits
            .chars()
            .all(|c| c.is_digit(radix))
            .then(|| i128::from_str_radix(digits, radix).ok())?
    };
    if let Some(value) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Scalar::Integer(value);
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit())
        && let Ok(value) = text.parse()
    {
        return Scalar::Integer(value);
    }
    let float = unsigned.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<f64>() {
        Ok(value) if float => Scalar::Number(value),
        _ => Scalar::Text(text),
    }
}

/// JSON writes a character beyond U+FFFF as two escaped surrogates, which YAML does not know;
/// YAML's own escape says the same. Everything else stays as it is.
pub(crate) fn without_surrogates(text: String) -> String {
    let pair = |at: &str| {
        let unit = |at: &str| {
            let digits = at.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        let (high, low) = (unit(at)?, unit(at.get(6..)?)?);
        char::decode_utf16([high, low]).next()?.ok().filter(|c| u32::from(*c) > 0xffff)
    };
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        rest = match pair(from) {
            Some(c) => {
                out.push_str(&format!("\\U{:08x}", u32::from(c)));
                &from[12..]
            }
            None => {
                // The backslash and what it escapes, which may be a backslash.
                let end = from.char_indices().nth(2).map_or(from.len(), |(end, _)| end);
                out.push_str(&from[..end]);
                &from[end..]
            }
        };
    }
    if out.is_empty() {
        return text;
    }
    out.push_str(rest);
    out
}

/// Parses one file. What was read before a syntax error is kept.
pub(crate) fn parse<'a>(text: &'a str, file: u32, findings: &mut Findings) -> Parsed<'a> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file,
        findings,
        documents: Vec::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        alias_nodes: 0,
        document_line: 1,
        unread: String::new(),
    };
    let mut broken = false;
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if !builder.event(event, span) {
                    broken = true;
                    break;
                }
            }
            Err(error) => {
                let at = builder.mark_of(error.marker());
                let what = error.info().to_owned();
                builder.findings.error(
                    Code::Syntax,
                    at,
                    format!("not well-formed YAML: {what}"),
                    "correct the text at this place; quote texts that hold `: `, `#`, `{` or `[`",
                );
                broken = true;
                break;
            }
        }
    }
    let mut unread = builder.unread;
    if broken {
        // The document that was open is lost, and all behind it.
        let start = text.lines().skip(builder.document_line.saturating_sub(1));
        start.for_each(|line| {
            unread.push_str(line);
            unread.push('\n');
        });
    }
    Parsed { documents: builder.documents, unread }
}

pub(crate) struct Parsed<'a> {
    pub(crate) documents: Vec<Node<'a>>,
    /// Text that could not be read: names in it are no dangling references.
    pub(crate) unread: String,
}

struct Open<'a> {
    node: Node<'a>,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<Key<'a>>,
    /// Keys so far, once there are many.
    seen: HashSet<Cow<'a, str>>,
    /// The key was a duplicate, or no scalar: its value is dropped.
    drop_value: bool,
}

struct Builder<'a, 'f> {
    file: u32,
    findings: &'f mut Findings,
    documents: Vec<Node<'a>>,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    alias_nodes: usize,
    /// The line on which the current document begins.
    document_line: usize,
    unread: String,
}

impl<'a> Builder<'a, '_> {
    fn mark_of(&self, marker: &saphyr_parser::Marker) -> Mark {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Mark {
            file: self.file,
            line: small(marker.line()),
            column: small(marker.col()).saturating_add(1),
        }
    }

    /// Takes one event; false ends the file.
    fn event(&mut self, event: Event<'a>, span: Span) -> bool {
        let at = self.mark_of(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let mut plain = style == ScalarStyle::Plain;
                if let Some(tag) = tag {
                    plain = self.tagged(&tag, at, plain);
                }
                let node = Node { at, kind: Kind::Scalar { text, plain } };
                self.keep(anchor, &node);
                self.place(node);
            }
            Event::SequenceStart(anchor, tag) => {
                if let Some(tag) = tag {
                    self.tagged(&tag, at, true);
                }
                return self.begin(Node { at, kind: Kind::List(Vec::new()) }, anchor);
            }
            Event::MappingStart(anchor, tag) => {
                if let Some(tag) = tag {
                    self.tagged(&tag, at, true);
                }
                return self.begin(Node { at, kind: Kind::Map(Vec::new()) }, anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(done) = self.open.pop() {
                    self.keep(done.anchor, &done.node);
                    self.place(done.node);
                }
            }
            Event::Alias(anchor) => return self.alias(anchor, at),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.document_line = span.start.line();
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
        true
    }

    fn begin(&mut self, node: Node<'a>, anchor: usize) -> bool {
        if self.open.len() >= DEPTH_MAX {
            self.too_deep(node.at);
            return false;
        }
        self.open.push(Open { node, anchor, key: None, seen: HashSet::new(), drop_value: false });
        true
    }

    fn too_deep(&mut self, at: Mark) {
        self.findings.error(
            Code::TooDeep,
            at,
            format!(
                "collections are nested more than {DEPTH_MAX} deep; no resource needs that many"
            ),
            "flatten the document",
        );
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> bool {
        // An anchor that contains itself is not complete yet, hence not found.
        let Some(target) = self.anchors.get(&anchor) else {
            self.findings.error(
                Code::Syntax,
                at,
                "the alias leads to nothing complete; an alias may not stand inside its own anchor",
                "write the value out",
            );
            return false;
        };
        self.alias_nodes += target.size();
        if self.alias_nodes > ALIAS_NODES_MAX {
            self.findings.error(
                Code::AliasTooLarge,
                at,
                format!(
                    "the aliases of this file expand to more than {ALIAS_NODES_MAX} values; nested aliases grow without bound"
                ),
                "write the values out",
            );
            return false;
        }
        if self.open.len() + target.depth() > DEPTH_MAX {
            self.too_deep(at);
            return false;
        }
        let node = target.clone();
        self.place(node);
        true
    }

    /// Is the scalar still typed by the core schema? `!!str` makes it a text.
    fn tagged(&mut self, tag: &Tag, at: Mark, plain: bool) -> bool {
        let core = tag.is_yaml_core_schema()
            && ["str", "int", "float", "bool", "null", "seq", "map"].contains(&&*tag.suffix);
        // `!` alone says: no resolution, hence a text.
        let plain_text = tag.handle.is_empty() && tag.suffix == "!";
        if !(core || plain_text) {
            self.findings.error(
                Code::TagNotSupported,
                at,
                format!("the tag `{tag}` is not supported; resources are plain JSON values"),
                "remove the tag",
            );
        }
        core && tag.suffix != "str" && plain
    }

    fn keep(&mut self, anchor: usize, node: &Node<'a>) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    fn place(&mut self, node: Node<'a>) {
        let Some(top) = self.open.last_mut() else {
            self.documents.push(node);
            return;
        };
        let entries = match &mut top.node.kind {
            Kind::List(items) => return items.push(node),
            Kind::Map(entries) => entries,
            Kind::Scalar { .. } => return,
        };
        if top.drop_value {
            top.drop_value = false;
            node.scalars(&mut self.unread);
        } else if let Some(key) = top.key.take() {
            entries.push((key, node));
        } else if let Node { at, kind: Kind::Scalar { text, .. } } = node {
            // A few keys are compared, many are hashed.
            let twice = if entries.len() < 16 {
                entries.iter().any(|(key, _)| key.text == text)
            } else {
                if top.seen.is_empty() {
                    top.seen.extend(entries.iter().map(|(key, _)| key.text.clone()));
                }
                !top.seen.insert(text.clone())
            };
            if twice {
                top.drop_value = true;
                self.findings.error(
                    Code::DuplicateKey,
                    at,
                    format!("the key `{text}` stands twice in this mapping; only one can count"),
                    "remove one of the two",
                );
            } else {
                top.key = Some(Key { at, text });
            }
        } else {
            top.drop_value = true;
            self.findings.error(
                Code::WrongType,
                node.at,
                "a key is a list or a mapping; keys are texts",
                "quote the key",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        parse(text, 0, &mut findings);
        let short = |d: crate::Diagnostic| format!("{}:{} {}", d.at.line, d.at.column, d.code);
        findings.finish().into_iter().map(short).collect()
    }

    #[test]
    fn scalars_are_typed_by_the_yaml_1_2_core_schema() {
        let check = |text, expected| assert_eq!(core_schema(text), expected, "{text}");
        check("yes", Scalar::Text("yes"));
        check("on", Scalar::Text("on"));
        check("~", Scalar::Null);
        check("TRUE", Scalar::Bool(true));
        check("0x1F", Scalar::Integer(31));
        check("0o17", Scalar::Integer(15));
        check("017", Scalar::Integer(17));
        check("-3", Scalar::Integer(-3));
        check("1.5e3", Scalar::Number(1500.0));
        check("10.0.0.5", Scalar::Text("10.0.0.5"));
        check("1:30", Scalar::Text("1:30"));
        check(".inf", Scalar::Text(".inf"));
        check("-", Scalar::Text("-"));
    }

    #[test]
    fn duplicate_keys_are_errors_and_everything_else_is_kept() {
        assert_eq!(codes("a: 1\nb: 2\na: {c: 3}\nd: 4\n"), ["3:1 DUPLICATE_KEY"]);
        let many: String = (0..40).map(|n| format!("k{n}: 1\n")).collect();
        assert_eq!(codes(&format!("{many}k3: 2\n")), ["41:1 DUPLICATE_KEY"]);
        assert_eq!(codes(&many), [""; 0]);
    }

    #[test]
    fn depth_and_aliases_are_bounded() {
        assert_eq!(codes(&format!("{}{}", "[".repeat(64), "]".repeat(64))), [""; 0]);
        assert_eq!(codes(&format!("{}{}", "[".repeat(65), "]".repeat(65))), ["1:65 TOO_DEEP"]);
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..10 {
            let alias = format!("*a{}, ", n - 1).repeat(10);
            bomb += &format!("a{n}: &a{n} [{}]\n", alias.trim_end_matches(", "));
        }
        assert_eq!(codes(&bomb).len(), 1);
        assert!(codes(&bomb)[0].ends_with("ALIAS_TOO_LARGE"));
        assert_eq!(codes("a: &x {b: 1}\nc: *x\n"), [""; 0]);
        assert_eq!(codes("a: &x [*x]\n"), ["1:8 SYNTAX"]);
    }

    #[test]
    fn json_is_read_as_it_is() {
        let json = "{\n\t\"a\": [1, true, null, \"x\\/y\\u00e9\"],\n\t\"b\": {\"c\": \"d\"}\n}\n";
        let mut findings = Findings::default();
        let parsed = parse(json, 0, &mut findings);
        assert_eq!(findings.errors(), 0, "{:?}", findings.finish());
        let document = &parsed.documents[0];
        assert_eq!(document.get("b").and_then(|b| b.text_of("c")), Some("d"));
        let Some(Kind::List(items)) = document.get("a").map(|a| &a.kind) else { panic!() };
        assert_eq!(items[3].scalar(), Some(Scalar::Text("x/yé")));
    }

    #[test]
    fn surrogate_pairs_of_json_become_one_character() {
        let check = |text: &str, expected| {
            assert_eq!(without_surrogates(text.to_owned()), expected, "{text}");
        };
        check(r#"{"a": "\ud83d\ude00 b"}"#, r#"{"a": "\U0001f600 b"}"#);
        check(r#"{"a": "\\ud83d\ude00"}"#, r#"{"a": "\\ud83d\ude00"}"#);
        check(r#"{"a": "\u00e9\n\""}"#, r#"{"a": "\u00e9\n\""}"#);
        check("a\\", "a\\");
        let text = without_surrogates(r#"{"a": "\ud83d\ude00"}"#.to_owned());
        let mut findings = Findings::default();
        let parsed = parse(&text, 0, &mut findings);
        assert_eq!(parsed.documents[0].text_of("a"), Some("\u{1f600}"));
    }

    #[test]
    fn a_syntax_error_keeps_what_came_before_it() {
        let mut findings = Findings::default();
        let parsed = parse("a: 1\n---\nb: [1\n", 0, &mut findings);
        assert_eq!(parsed.unread.trim(), "---\nb: [1");
        assert_eq!(parsed.documents.len(), 1);
    }

    #[test]
    fn tags_beyond_the_core_schema_are_refused() {
        assert_eq!(codes("a: !!str 5\nb: !thing x\n"), ["2:4 TAG_NOT_SUPPORTED"]);
    }
}
