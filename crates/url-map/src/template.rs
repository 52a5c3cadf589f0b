//! Path templates (private-connectivity 2.5): `pathTemplateMatch` and `pathTemplateRewrite`.

use std::fmt;

/// Most operators of one pattern (2.5).
const OPERATORS_MAX: usize = 5;

/// A compiled `pathTemplateMatch`.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    text: Box<str>,
    /// Between the slashes. `**` is the last one.
    segments: Vec<Segment>,
    /// Names, with the first and the last segment of each.
    variables: Vec<(Box<str>, usize, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// `*`
    One,
    /// `**`
    Rest,
}

/// Why a template is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// Does not begin with `/`.
    NoSlash,
    /// `**` is not the last operator and at the end.
    RestNotLast,
    /// An asterisk inside other text.
    Wildcard,
    /// More than five operators.
    Operators,
    /// A brace without its partner, or inside a segment.
    Brace,
    /// A variable's name that is none.
    Name(String),
    /// Two variables have this name.
    Duplicate(String),
    /// A variable that stands for no operator.
    NoOperator(String),
    /// A rewrite names a variable that the match does not have.
    Unknown(String),
    /// A character that no path has.
    Character(char),
    /// A rewrite needs a match with at least one variable.
    NoVariable,
    /// An empty segment inside the pattern.
    EmptySegment,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::NoSlash => f.write_str("has to begin with `/`"),
            TemplateError::RestNotLast => {
                f.write_str("may have `**` only as its last operator, at its end")
            }
            TemplateError::Wildcard => f.write_str("may have `*` and `**` only as whole segments"),
            TemplateError::Operators => f.write_str("has more than 5 operators"),
            TemplateError::Brace => f.write_str(
                "has a brace without its partner, or one that is not at the border of a segment",
            ),
            TemplateError::Name(name) => {
                write!(f, "has the variable name `{name}`; a letter, then letters, digits and `_`")
            }
            TemplateError::Duplicate(name) => write!(f, "has the variable `{name}` twice"),
            TemplateError::NoOperator(name) => {
                write!(f, "has the variable `{name}` without `*` or `**`")
            }
            TemplateError::Unknown(name) => {
                write!(f, "names `{{{name}}}`, which the match does not have")
            }
            TemplateError::Character(c) => write!(f, "has the character {c:?}"),
            TemplateError::NoVariable => {
                f.write_str("needs a pathTemplateMatch with at least one variable")
            }
            TemplateError::EmptySegment => f.write_str("has an empty segment"),
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What a path may hold besides the operators (RFC 3986 3.3).
fn literal(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@".contains(c)
}

impl PathTemplate {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<PathTemplate, TemplateError> {
        let mut rest = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        let mut segments = Vec::new();
        let mut variables: Vec<(Box<str>, usize, usize)> = Vec::new();
        loop {
            if let Some(inside) = rest.strip_prefix('{') {
                let (variable, after) = inside.split_once('}').ok_or(TemplateError::Brace)?;
                let (name, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
                if !is_name(name) {
                    return Err(TemplateError::Name(name.to_owned()));
                }
                if variables.iter().any(|(known, ..)| **known == *name) {
                    return Err(TemplateError::Duplicate(name.to_owned()));
                }
                let first = segments.len();
                for segment in pattern.split('/') {
                    segments.push(Segment::parse(segment)?);
                }
                if segments[first..].iter().all(|one| matches!(one, Segment::Literal(_))) {
                    return Err(TemplateError::NoOperator(name.to_owned()));
                }
                variables.push((name.into(), first, segments.len() - 1));
                rest = after;
            } else {
                let end = rest.find('/').unwrap_or(rest.len());
                // An empty last segment is a slash at the end.
                let last = end == rest.len();
                match &rest[..end] {
                    "" if last => segments.push(Segment::Literal("".into())),
                    segment => segments.push(Segment::parse(segment)?),
                }
                rest = &rest[end..];
            }
            match rest.strip_prefix('/') {
                Some(more) => rest = more,
                None if rest.is_empty() => break,
                None => return Err(TemplateError::Brace),
            }
        }
        let operators = segments.iter().filter(|one| !matches!(one, Segment::Literal(_))).count();
        if operators > OPERATORS_MAX {
            return Err(TemplateError::Operators);
        }
        if segments.iter().rev().skip(1).any(|one| *one == Segment::Rest) {
            return Err(TemplateError::RestNotLast);
        }
        Ok(PathTemplate { text: text.into(), segments, variables })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What every path that matches begins with.
    pub(crate) fn literal_beginning(&self) -> &str {
        let end = self.text.find(['*', '{']).unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// Does a path without query match? Nothing is percent-decoded.
    pub fn matches(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix('/') else { return false };
        for (index, segment) in self.segments.iter().enumerate() {
            let last = index + 1 == self.segments.len();
            if *segment == Segment::Rest {
                return true;
            }
            let (head, tail) = match rest.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (rest, None),
            };
            let fits = match segment {
                Segment::Literal(text) => **text == *head,
                Segment::One => !head.is_empty(),
                Segment::Rest => true,
            };
            match (fits, tail, last) {
                (false, ..) | (_, Some(_), true) => return false,
                (_, None, true) => return true,
                (_, Some(tail), false) => rest = tail,
                // `**` is zero or more characters, but the slash before it has to be there.
                (_, None, false) => return false,
            }
        }
        false
    }

    /// The text that a variable stands for in a path that matches.
    fn value<'p>(&self, path: &'p str, first: usize, last: usize) -> &'p str {
        let start = nth_segment(path, first);
        if self.segments.get(last) == Some(&Segment::Rest) {
            return &path[start..];
        }
        let end = nth_segment(path, last);
        let end = path[end..].find('/').map_or(path.len(), |at| end + at);
        &path[start..end]
    }
}

/// Where the n-th segment of a path begins.
fn nth_segment(path: &str, n: usize) -> usize {
    path.match_indices('/').nth(n).map_or(path.len(), |(at, _)| at + 1)
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, TemplateError> {
        match text {
            "*" => Ok(Segment::One),
            "**" => Ok(Segment::Rest),
            "" => Err(TemplateError::EmptySegment),
            text if text.contains('*') => Err(TemplateError::Wildcard),
            text if text.contains(['{', '}']) => Err(TemplateError::Brace),
            text => match text.chars().find(|c| !literal(*c) && *c != '=') {
                Some(c) => Err(TemplateError::Character(c)),
                None => Ok(Segment::Literal(text.into())),
            },
        }
    }
}

/// A compiled `pathTemplateRewrite`.
#[derive(Clone, Debug)]
pub struct TemplateRewrite {
    text: Box<str>,
    template: PathTemplate,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<str>),
    Segments(usize, usize),
}

impl TemplateRewrite {
    /// Reads a rewrite for paths that match `template`. It may leave variables out and change their
    /// order, not invent one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, template: &PathTemplate) -> Result<TemplateRewrite, TemplateError> {
        if template.variables.is_empty() {
            return Err(TemplateError::NoVariable);
        }
        if !text.starts_with('/') {
            return Err(TemplateError::NoSlash);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, inside)) = rest.split_once('{') {
            let (name, after) = inside.split_once('}').ok_or(TemplateError::Brace)?;
            let (_, first, last) = template
                .variables
                .iter()
                .find(|(known, ..)| **known == *name)
                .ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            pieces.push(Piece::Text(before.into()));
            pieces.push(Piece::Segments(*first, *last));
            rest = after;
        }
        pieces.push(Piece::Text(rest.into()));
        for piece in &pieces {
            let Piece::Text(text) = piece else { continue };
            if text.contains('}') {
                return Err(TemplateError::Brace);
            }
            if text.contains('*') {
                return Err(TemplateError::Wildcard);
            }
            if let Some(c) = text.chars().find(|c| !literal(*c) && !"/=".contains(*c)) {
                return Err(TemplateError::Character(c));
            }
        }
        Ok(TemplateRewrite { text: text.into(), template: template.clone(), pieces })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The new path of a path that matches the template. A slash at the end of the template stays,
    /// though the documented example prints none ((unconfirmed), 2.5).
    pub fn apply(&self, path: &str) -> String {
        let mut out = String::with_capacity(path.len() + self.text.len());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Segments(first, last) => {
                    out.push_str(self.template.value(path, *first, *last))
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_stand_for_segments() {
        for (template, path, expected) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a", false),
            ("/a/**", "/a/b/c", true),
            ("/{n=news/*}/x", "/news/a/x", true),
            ("/{n=news/*}/x", "/new/a/x", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/a", "/a/", false),
            ("/{u}", "/a%2Fb", true),
        ] {
            let parsed = PathTemplate::parse(template).expect("a template");
            assert_eq!(parsed.matches(path), expected, "{template} {path}");
        }
    }

    #[test]
    fn the_documented_example_is_rewritten() {
        let template = "/xyzwebservices/v2/xyz/users/{username=*}/carts/{cartid=**}";
        let template = PathTemplate::parse(template).expect("a template");
        let path =
            "/xyzwebservices/v2/xyz/users/abc@xyz.com/carts/FL0001090004/entries/SJFI38u3401nms";
        assert!(template.matches(path));
        let to = TemplateRewrite::parse("/{username}-{cartid}", &template).expect("a rewrite");
        assert_eq!(to.apply(path), "/abc@xyz.com-FL0001090004/entries/SJFI38u3401nms");
    }

    #[test]
    fn variables_may_span_segments_and_change_places() {
        let template = PathTemplate::parse("/{a=x/*/y}/{b}/{c=**}").expect("a template");
        let to = TemplateRewrite::parse("/{c}/{b}/{a}", &template).expect("a rewrite");
        assert_eq!(to.apply("/x/1/y/2/3/4"), "/3/4/2/x/1/y");
        assert_eq!(to.apply("/x/1/y/2/"), "//2/x/1/y");
    }

    #[test]
    fn malformed_templates_are_refused() {
        use TemplateError::*;
        for (text, expected) in [
            ("a", NoSlash),
            ("/**/a", RestNotLast),
            ("/{a=**}/b", RestNotLast),
            ("/a*", Wildcard),
            ("/*/*/*/*/*/*", Operators),
            ("/{a", Brace),
            ("/x{a}", Brace),
            ("/{a}x", Brace),
            ("/{1a}", Name("1a".into())),
            ("/{a}/{a}", Duplicate("a".into())),
            ("/{a=b}", NoOperator("a".into())),
            ("/a b", Character(' ')),
            ("/a//b", EmptySegment),
        ] {
            assert_eq!(PathTemplate::parse(text).err(), Some(expected), "{text}");
        }
        let template = PathTemplate::parse("/{a}").expect("a template");
        for (text, expected) in [
            ("/{b}", Unknown("b".into())),
            ("{a}", NoSlash),
            ("/{a", Brace),
            ("/a}", Brace),
            ("/*", Wildcard),
        ] {
            assert_eq!(TemplateRewrite::parse(text, &template).err(), Some(expected), "{text}");
        }
        let plain = PathTemplate::parse("/*").expect("a template");
        assert_eq!(TemplateRewrite::parse("/a", &plain).err(), Some(NoVariable));
    }
}
