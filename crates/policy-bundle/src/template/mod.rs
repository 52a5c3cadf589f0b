//! Message templates (section 5): text with `{variable}`, `{variable:default}` and `{function(…)}`.

mod digest;
mod escape;
mod functions;
mod html;
mod parser;
mod time_format;
mod xeger;

pub(crate) use time_format::TimeFormat;

use crate::context::Context;
use crate::value::Value;
use crate::variable::Variable;
use functions::Function;
use std::borrow::Cow;
use std::fmt;

/// A parsed message template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    source: Box<str>,
    parts: Vec<Part>,
}

/// Why a text cannot be used as a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Where in the text, in bytes.
    pub offset: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.offset + 1, self.what)
    }
}

impl std::error::Error for TemplateError {}

/// A variable that has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved(pub String);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<str>),
    Variable(Reference),
    Call(Box<Call>),
}

/// A variable, and what stands for it where it is null.
#[derive(Clone, Debug, PartialEq)]
struct Reference {
    variable: Variable,
    default: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Call {
    function: Function,
    arguments: Vec<Argument>,
    /// As written, for messages.
    source: Box<str>,
}

#[derive(Clone, Debug, PartialEq)]
enum Argument {
    Literal(Box<str>),
    Variable(Reference),
}

impl Template {
    /// Parses a template with `{` and `}`.
    ///
    /// # Errors
    /// A call of a function that is not known, or with the wrong number of arguments.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        parser::parse(source, "{", "}")
    }

    /// Parses a template with other delimiters (`variablePrefix`, `variableSuffix`).
    ///
    /// # Errors
    /// See [`Template::parse`].
    pub fn with_delimiters(
        source: &str,
        prefix: &str,
        suffix: &str,
    ) -> Result<Template, TemplateError> {
        parser::parse(source, prefix, suffix)
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The whole text, if nothing in it is a reference.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Is it one variable or one call, and nothing else?
    pub(crate) fn is_one_reference(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Variable(_) | Part::Call(_)])
    }

    /// The text under these variables; what is unresolved is empty.
    pub fn render(&self, context: &Context) -> String {
        let mut out = String::with_capacity(self.source.len());
        let _ = self.render_into(context, true, &mut out);
        out
    }

    /// Like [`Template::render`], but an unresolved variable is an error.
    pub(crate) fn render_strictly(&self, context: &Context) -> Result<String, Unresolved> {
        let mut out = String::with_capacity(self.source.len());
        self.render_into(context, false, &mut out)?;
        Ok(out)
    }

    /// Renders with `IgnoreUnresolvedVariables` as given (7.0).
    pub(crate) fn render_with(
        &self,
        context: &Context,
        ignore: bool,
    ) -> Result<Cow<'_, str>, Unresolved> {
        match self.literal() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None if ignore => Ok(Cow::Owned(self.render(context))),
            None => self.render_strictly(context).map(Cow::Owned),
        }
    }

    fn render_into(
        &self,
        context: &Context,
        ignore: bool,
        out: &mut String,
    ) -> Result<(), Unresolved> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Variable(reference) => match reference.read(context) {
                    Some(value) => out.push_str(&value.as_text()),
                    None if ignore => {}
                    None => return Err(Unresolved(reference.variable.name().to_owned())),
                },
                Part::Call(call) => match functions::call(call, context) {
                    Some(text) => out.push_str(&text),
                    None if ignore => {}
                    None => return Err(Unresolved(call.source.to_string())),
                },
            }
        }
        Ok(())
    }

    /// Every variable that it reads.
    pub(crate) fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        for part in &self.parts {
            match part {
                Part::Text(_) => {}
                Part::Variable(reference) => visit(&reference.variable),
                Part::Call(call) => {
                    for argument in &call.arguments {
                        if let Argument::Variable(reference) = argument {
                            visit(&reference.variable);
                        }
                    }
                }
            }
        }
    }
}

impl Reference {
    fn read<'a>(&'a self, context: &'a Context) -> Option<Value<'a>> {
        context.read(&self.variable).or_else(|| self.default.as_deref().map(Value::text))
    }
}

#[cfg(test)]
mod tests;
