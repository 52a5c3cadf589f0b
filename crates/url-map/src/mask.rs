//! URL masks of serverless endpoint groups (private-connectivity 3.2 and 3.3): a template such as
//! `<tag>.example.com/<service>` that picks a Cloud Run service, and perhaps a tag, from a URL.
//!
//! How a mask matches is documented by examples only. What is chosen beyond them (all unconfirmed)
//! stands in this file and nowhere else:
//! * the host part is compared from the right, label by label; more labels in the request are
//!   ignored, and so is the port;
//! * the path part is compared from the left, segment by segment; more segments are ignored; an
//!   empty last segment (a mask that ends with `/`) says nothing;
//! * a placeholder stands for one character or more of one label or segment; of two in the same
//!   label the first one takes as little as it can;
//! * hosts are compared in lower case, paths as they are, without percent-decoding.

use std::borrow::Cow;
use std::fmt;

/// What a placeholder stands for. Functions and App Engine have others; an internal load balancer
/// takes Cloud Run only (3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Placeholder {
    /// `<service>`
    Service,
    /// `<tag>`
    Tag,
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Placeholder::Service => "<service>",
            Placeholder::Tag => "<tag>",
        })
    }
}

/// A parsed URL mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlMask {
    text: String,
    /// Labels from the right: the order in which they are compared.
    host: Vec<Component>,
    /// Segments from the left.
    path: Vec<Component>,
}

/// One label or segment of a mask: literal text around at most two placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Component {
    text: String,
    before: String,
    first: Option<Placeholder>,
    /// Between two placeholders, or after the only one.
    middle: String,
    second: Option<Placeholder>,
    after: String,
}

/// Why a mask is refused when its endpoint group is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaskError {
    /// Nothing there.
    Empty,
    /// A mask is written without scheme.
    Scheme,
    /// No placeholder: it could pick nothing.
    NoPlaceholder,
    /// The same placeholder twice.
    Repeated(Placeholder),
    /// A placeholder that Cloud Run does not have.
    Unknown(String),
    /// `<` without `>`, or `>` without `<`.
    Bracket,
    /// Two placeholders with nothing between them: nobody could say where the first one ends.
    Adjacent,
    /// A mask has neither query nor fragment.
    QueryOrFragment,
    /// A mask's host has no port.
    Port,
    /// An empty label or segment.
    EmptyComponent,
    /// A character that no URL has unencoded, or no host name.
    Character(char),
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaskError::Empty => f.write_str("the URL mask is empty"),
            MaskError::Scheme => f.write_str("a URL mask is written without scheme"),
            MaskError::NoPlaceholder => {
                f.write_str("the URL mask has no placeholder: <service> or <tag>")
            }
            MaskError::Repeated(placeholder) => {
                write!(f, "the URL mask has {placeholder} more than once")
            }
            MaskError::Unknown(name) => write!(
                f,
                "the URL mask has the placeholder <{name}>; Cloud Run has <service> and <tag>"
            ),
            MaskError::Bracket => f.write_str("the URL mask has a `<` or `>` without its partner"),
            MaskError::Adjacent => {
                f.write_str("the URL mask has two placeholders with nothing between them")
            }
            MaskError::QueryOrFragment => f.write_str("a URL mask has no `?` and no `#`"),
            MaskError::Port => f.write_str("the host of a URL mask has no port"),
            MaskError::EmptyComponent => f.write_str("the URL mask has an empty label or segment"),
            MaskError::Character(c) => write!(f, "the URL mask has the character {c:?}"),
        }
    }
}

impl std::error::Error for MaskError {}

/// What a mask found in a URL. Text is borrowed, except from a host with capitals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures<'r> {
    /// What stood for `<service>`.
    pub service: Option<Cow<'r, str>>,
    /// What stood for `<tag>`.
    pub tag: Option<Cow<'r, str>>,
}

/// The half of a URL in which it differs from a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// Labels, counted from the right.
    Host,
    /// Segments, counted from the left.
    Path,
}

/// The first label or segment in which a URL differs from a mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch<'s, 'r> {
    /// Host or path.
    pub part: Part,
    /// Counted from 0: a host's labels from the right, a path's segments from the left.
    pub index: usize,
    /// The label or segment of the mask.
    pub expected: &'s str,
    /// What the URL has in its place; none: it ends before.
    pub got: Option<Cow<'r, str>>,
}

impl fmt::Display for Mismatch<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.index + 1;
        let expected = self.expected;
        match self.part {
            Part::Host => write!(f, "label {number} of the host, counted from the right: ")?,
            Part::Path => write!(f, "segment {number} of the path: ")?,
        }
        match self.got.as_deref() {
            None => write!(f, "the mask has `{expected}`, the URL has none"),
            Some("") => write!(f, "the mask has `{expected}`, the URL has an empty one"),
            Some(got) => write!(f, "the mask has `{expected}`, the URL has `{got}`"),
        }
    }
}

impl UrlMask {
    /// Reads a mask as it is written in `cloudRun.urlMask`.
    pub fn parse(text: &str) -> Result<UrlMask, MaskError> {
        if text.trim().is_empty() {
            return Err(MaskError::Empty);
        }
        if text.contains("://") {
            return Err(MaskError::Scheme);
        }
        if text.contains(['?', '#']) {
            return Err(MaskError::QueryOrFragment);
        }
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(MaskError::Character(c));
        }
        // The first `/` outside of every placeholder divides host and path; none has one inside.
        let (host, path) = match text.find('/') {
            Some(slash) => (&text[..slash], &text[slash + 1..]),
            None => (text, ""),
        };
        if host.contains(':') {
            return Err(MaskError::Port);
        }
        let mut seen = Vec::new();
        let mut labels = Vec::new();
        if !host.is_empty() {
            for label in host.split('.') {
                labels.push(Component::parse(&label.to_ascii_lowercase(), &mut seen)?);
            }
            for c in labels.iter().flat_map(Component::literals).flat_map(str::chars) {
                if !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_') {
                    return Err(MaskError::Character(c));
                }
            }
        }
        labels.reverse();
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = Vec::new();
        if !path.is_empty() {
            for segment in path.split('/') {
                segments.push(Component::parse(segment, &mut seen)?);
            }
        }
        if seen.is_empty() {
            return Err(MaskError::NoPlaceholder);
        }
        Ok(UrlMask { text: text.to_owned(), host: labels, path: segments })
    }

    /// The mask as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Does the mask have this placeholder?
    pub fn has(&self, placeholder: Placeholder) -> bool {
        let both = |component: &Component| [component.first, component.second];
        self.host.iter().chain(&self.path).flat_map(both).any(|one| one == Some(placeholder))
    }

    /// Applies the mask to a URL: `host` as in the `Host` header, `path` without query.
    pub fn find<'s, 'r>(
        &'s self,
        host: &'r str,
        path: &'r str,
    ) -> Result<Captures<'r>, Mismatch<'s, 'r>> {
        let mut captures = Captures::default();
        if !self.host.is_empty() {
            let host = without_port(host);
            let mut labels = host.rsplit('.');
            for (index, component) in self.host.iter().enumerate() {
                let label = labels.next().map(lower);
                let matched = match &label {
                    // No host has a `/`; a placeholder must not pick one up from a broken one.
                    Some(label) if label.contains('/') => None,
                    Some(Cow::Borrowed(label)) => component
                        .find(label)
                        .map(|found| captures.take(component, found, Cow::Borrowed)),
                    Some(Cow::Owned(label)) => component.find(label).map(|found| {
                        captures.take(component, found, |text| Cow::Owned(text.to_owned()));
                    }),
                    None => None,
                };
                if matched.is_none() {
                    let expected = component.text.as_str();
                    return Err(Mismatch { part: Part::Host, index, expected, got: label });
                }
            }
        }
        if !self.path.is_empty() {
            // `/a/b` has the segments `a` and `b`; a path without leading slash (`*`) has none.
            let mut segments = path.strip_prefix('/').map(|path| path.split('/'));
            for (index, component) in self.path.iter().enumerate() {
                let segment = segments.as_mut().and_then(Iterator::next);
                match segment.and_then(|segment| component.find(segment)) {
                    Some(found) => captures.take(component, found, Cow::Borrowed),
                    None => {
                        let got = segment.map(Cow::Borrowed);
                        let expected = component.text.as_str();
                        return Err(Mismatch { part: Part::Path, index, expected, got });
                    }
                }
            }
        }
        Ok(captures)
    }

    /// The shortest URL, as host and path, that the mask reads as this service and tag; the host is
    /// empty where the mask has none. For hints and tests.
    pub fn render(&self, service: &str, tag: &str) -> (String, String) {
        let text = |component: &Component| component.render(service, tag);
        let labels: Vec<_> = self.host.iter().rev().map(text).collect();
        let segments: Vec<_> = self.path.iter().map(text).collect();
        (labels.join("."), format!("/{}", segments.join("/")))
    }
}

impl Component {
    fn parse(text: &str, seen: &mut Vec<Placeholder>) -> Result<Component, MaskError> {
        if text.is_empty() {
            return Err(MaskError::EmptyComponent);
        }
        let mut literals = vec![String::new()];
        let mut placeholders = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['<', '>']) {
            let (literal, from) = rest.split_at(open);
            let inside = from.strip_prefix('<').ok_or(MaskError::Bracket)?;
            let (name, after) = inside.split_once('>').ok_or(MaskError::Bracket)?;
            let placeholder = match name {
                "service" => Placeholder::Service,
                "tag" => Placeholder::Tag,
                _ if name.contains('<') => return Err(MaskError::Bracket),
                _ => return Err(MaskError::Unknown(name.to_owned())),
            };
            if seen.contains(&placeholder) {
                return Err(MaskError::Repeated(placeholder));
            }
            if !placeholders.is_empty() && literal.is_empty() {
                return Err(MaskError::Adjacent);
            }
            seen.push(placeholder);
            placeholders.push(placeholder);
            literals.last_mut().expect("begins with one literal").push_str(literal);
            literals.push(String::new());
            rest = after;
        }
        literals.last_mut().expect("begins with one literal").push_str(rest);
        let mut literals = literals.into_iter();
        let mut placeholders = placeholders.into_iter();
        let mut next = || literals.next().unwrap_or_default();
        Ok(Component {
            text: text.to_owned(),
            before: next(),
            first: placeholders.next(),
            middle: next(),
            second: placeholders.next(),
            after: next(),
        })
    }

    fn literals(&self) -> [&str; 3] {
        [&self.before, &self.middle, &self.after]
    }

    /// What the placeholders stand for; empty texts where there are none.
    fn find<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)> {
        let rest = text.strip_prefix(self.before.as_str())?;
        if self.first.is_none() {
            return rest.is_empty().then_some(("", ""));
        }
        if self.second.is_none() {
            let first = rest.strip_suffix(self.middle.as_str())?;
            return (!first.is_empty()).then_some((first, ""));
        }
        let rest = rest.strip_suffix(self.after.as_str())?;
        // The first occurrence after one character leaves most to the second placeholder.
        let skip = rest.chars().next()?.len_utf8();
        let at = skip + rest[skip..].find(self.middle.as_str())?;
        let second = &rest[at + self.middle.len()..];
        (!second.is_empty()).then_some((&rest[..at], second))
    }

    fn render(&self, service: &str, tag: &str) -> String {
        let text = |placeholder: Option<Placeholder>| match placeholder {
            Some(Placeholder::Service) => service,
            Some(Placeholder::Tag) => tag,
            None => "",
        };
        [&self.before, text(self.first), &self.middle, text(self.second), &self.after].concat()
    }
}

impl<'r> Captures<'r> {
    fn take<'t>(
        &mut self,
        component: &Component,
        found: (&'t str, &'t str),
        own: impl Fn(&'t str) -> Cow<'r, str>,
    ) {
        let pairs = [(component.first, found.0), (component.second, found.1)];
        for (placeholder, text) in pairs {
            match placeholder {
                Some(Placeholder::Service) => self.service = Some(own(text)),
                Some(Placeholder::Tag) => self.tag = Some(own(text)),
                None => {}
            }
        }
    }
}

/// `host` of a `Host` header without its port. An IPv6 literal stays in its brackets.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rfind([':', ']']) {
        Some(at) if host.as_bytes()[at] == b':' => &host[..at],
        _ => host,
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(text.to_ascii_lowercase()),
        false => Cow::Borrowed(text),
    }
}

/// Is this text a legal name of a service (`[a-z]([-a-z0-9]*[a-z0-9])?`, at most 49) or of a tag
/// (the same pattern; a DNS label, so at most 63)?
pub fn is_legal_name(placeholder: Placeholder, name: &str) -> bool {
    let length_max = match placeholder {
        Placeholder::Service => 49,
        Placeholder::Tag => 63,
    };
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= length_max
        && name.bytes().all(legal)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
}
