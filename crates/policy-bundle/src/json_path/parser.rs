//! From text to a path.

use super::filter::{Comparator, Filter, Operand};
use super::{Aggregate, JsonPath, JsonPathError, Segment};
use crate::pattern::JavaRegex;
use serde_json::Value;

/// A bound on nested parentheses and negations in filters.
const DEPTH_MAX: u32 = 32;

pub(super) fn parse(text: &str) -> Result<JsonPath, JsonPathError> {
    let mut parser = Parser { text, at: 0, nesting: 0 };
    // Jayway puts `$.` before a path that has none.
    if !parser.eat("$") {
        if parser.rest().is_empty() {
            return Err(parser.error("the path is empty"));
        }
        let name = parser.name()?;
        let mut segments = vec![Segment::Names(vec![name])];
        parser.segments(&mut segments)?;
        return parser.end(segments);
    }
    let mut segments = Vec::new();
    parser.segments(&mut segments)?;
    parser.end(segments)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Filters inside filters.
    nesting: u32,
}

impl<'a> Parser<'a> {
    fn end(&self, segments: Vec<Segment>) -> Result<JsonPath, JsonPathError> {
        match self.rest() {
            "" => Ok(JsonPath { segments }),
            _ => Err(self.error("the path should end here")),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, what: impl Into<String>) -> JsonPathError {
        JsonPathError { offset: self.at, what: what.into() }
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn expect(&mut self, token: &str) -> Result<(), JsonPathError> {
        self.blanks();
        if self.eat(token) {
            Ok(())
        } else {
            Err(self.error(format!("`{token}` should stand here")))
        }
    }

    fn segments(&mut self, segments: &mut Vec<Segment>) -> Result<(), JsonPathError> {
        loop {
            if matches!(segments.last(), Some(Segment::Function(_))) {
                return Ok(());
            }
            if self.eat("..") {
                segments.push(Segment::Descend);
                if !self.rest().starts_with('[') {
                    segments.push(self.dotted()?);
                }
            } else if self.eat(".") {
                segments.push(self.dotted()?);
            } else if self.eat("[") {
                segments.push(self.bracket()?);
            } else {
                return Ok(());
            }
        }
    }

    fn dotted(&mut self) -> Result<Segment, JsonPathError> {
        if self.eat("*") {
            return Ok(Segment::All);
        }
        let begin = self.at;
        let name = self.name()?;
        if self.eat("()") {
            return Aggregate::named(&name).map(Segment::Function).ok_or(JsonPathError {
                offset: begin,
                what: format!("the function `{name}()` is not supported"),
            });
        }
        Ok(Segment::Names(vec![name]))
    }

    fn name(&mut self) -> Result<String, JsonPathError> {
        let stop = |c: char| c.is_whitespace() || ".[](),=<>!&|~?*'\"@$".contains(c);
        let length = self.rest().find(stop).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.error("a name should stand here"));
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(name)
    }

    fn bracket(&mut self) -> Result<Segment, JsonPathError> {
        self.blanks();
        let segment = if self.eat("*") {
            Segment::All
        } else if self.eat("?") {
            self.expect("(")?;
            self.nesting += 1;
            if self.nesting > 8 {
                return Err(self.error("the filter is nested too deeply"));
            }
            let filter = self.or(0)?;
            self.nesting -= 1;
            self.expect(")")?;
            Segment::Filter(filter)
        } else if self.rest().starts_with(['\'', '"']) {
            let mut names = vec![self.quoted()?];
            while self.comma() {
                names.push(self.quoted()?);
            }
            Segment::Names(names)
        } else {
            self.indices()?
        };
        self.expect("]")?;
        Ok(segment)
    }

    fn comma(&mut self) -> bool {
        self.blanks();
        let found = self.eat(",");
        self.blanks();
        found
    }

    fn indices(&mut self) -> Result<Segment, JsonPathError> {
        let first = self.integer();
        self.blanks();
        if self.eat(":") {
            self.blanks();
            let to = self.integer();
            return Ok(Segment::Slice(first, to));
        }
        let Some(first) = first else {
            return Err(self.error("an index, a name in quotes, `*` or `?(` should stand here"));
        };
        let mut indices = vec![first];
        while self.comma() {
            let index = self.integer().ok_or_else(|| self.error("an index should stand here"))?;
            indices.push(index);
        }
        Ok(Segment::Indices(indices))
    }

    fn integer(&mut self) -> Option<i64> {
        let length = self
            .rest()
            .bytes()
            .enumerate()
            .take_while(|(i, b)| b.is_ascii_digit() || (*i == 0 && *b == b'-'))
            .count();
        let number = self.rest()[..length].parse().ok()?;
        self.at += length;
        Some(number)
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let quote = match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Err(self.error("a text in quotes should stand here")),
        };
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((index, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c if c == quote => {
                    self.at += index + 1;
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(self.error("the text has no closing quote"))
    }

    fn or(&mut self, depth: u32) -> Result<Filter, JsonPathError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the filter is nested too deeply"));
        }
        let mut filters = vec![self.and(depth)?];
        loop {
            self.blanks();
            if !self.eat("||") {
                break;
            }
            filters.push(self.and(depth)?);
        }
        Ok(if filters.len() == 1 { filters.remove(0) } else { Filter::Or(filters) })
    }

    fn and(&mut self, depth: u32) -> Result<Filter, JsonPathError> {
        let mut filters = vec![self.unary(depth)?];
        loop {
            self.blanks();
            if !self.eat("&&") {
                break;
            }
            filters.push(self.unary(depth)?);
        }
        Ok(if filters.len() == 1 { filters.remove(0) } else { Filter::And(filters) })
    }

    fn unary(&mut self, depth: u32) -> Result<Filter, JsonPathError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the filter is nested too deeply"));
        }
        self.blanks();
        if self.eat("!") {
            return Ok(Filter::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.eat("(") {
            let filter = self.or(depth + 1)?;
            self.expect(")")?;
            return Ok(filter);
        }
        let left = self.operand(depth)?;
        self.blanks();
        for (token, comparator) in [
            ("==", Comparator::Equal),
            ("!=", Comparator::NotEqual),
            ("<=", Comparator::LessOrEqual),
            (">=", Comparator::GreaterOrEqual),
            ("<", Comparator::Less),
            (">", Comparator::Greater),
        ] {
            if self.eat(token) {
                return Ok(Filter::Compare(left, comparator, self.operand(depth)?));
            }
        }
        if self.eat("=~") {
            return self.regex(left);
        }
        for (word, negated) in [("nin ", true), ("in ", false), ("nin[", true), ("in[", false)] {
            if self.rest().starts_with(word) {
                self.at += word.len() - 1;
                let list = Filter::In(left, self.list(depth)?);
                return Ok(if negated { Filter::Not(Box::new(list)) } else { list });
            }
        }
        Ok(Filter::Exists(left))
    }

    fn list(&mut self, depth: u32) -> Result<Vec<Operand>, JsonPathError> {
        self.expect("[")?;
        let mut items = Vec::new();
        self.blanks();
        while !self.eat("]") {
            items.push(self.operand(depth)?);
            self.comma();
        }
        Ok(items)
    }

    fn regex(&mut self, left: Operand) -> Result<Filter, JsonPathError> {
        self.expect("/")?;
        let begin = self.at;
        let mut escaped = false;
        let length = self.rest().find(|c: char| {
            let ends = c == '/' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(length) = length else {
            return Err(self.error("the regular expression has no closing `/`"));
        };
        let pattern = &self.rest()[..length];
        self.at += length + 1;
        let prefix = if self.eat("i") { "(?i)" } else { "" };
        let regex = JavaRegex::whole(&format!("{prefix}{pattern}"))
            .map_err(|what| JsonPathError { offset: begin, what })?;
        Ok(Filter::Matches(left, regex))
    }

    fn operand(&mut self, depth: u32) -> Result<Operand, JsonPathError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the filter is nested too deeply"));
        }
        self.blanks();
        let rest = self.rest();
        if rest.starts_with(['@', '$']) {
            let from_root = rest.starts_with('$');
            self.at += 1;
            let mut segments = Vec::new();
            self.segments(&mut segments)?;
            let path = JsonPath { segments };
            return Ok(if from_root { Operand::Root(path) } else { Operand::Item(path) });
        }
        if rest.starts_with(['\'', '"']) {
            return Ok(Operand::Literal(Value::String(self.quoted()?)));
        }
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if self.eat(word) {
                return Ok(Operand::Literal(value));
            }
        }
        let length =
            rest.bytes().take_while(|b| b.is_ascii_digit() || b"+-.eE".contains(b)).count();
        match serde_json::from_str::<serde_json::Number>(&rest[..length]) {
            Ok(number) => {
                self.at += length;
                Ok(Operand::Literal(Value::Number(number)))
            }
            Err(_) => Err(self.error("a path or a literal should stand here")),
        }
    }
}
