//! What is wrong with an expression.

use super::{EXPRESSION_MAX, SUBEXPRESSION_MAX, SUBEXPRESSIONS_MAX};
use std::fmt;

/// Why an expression cannot be a rule's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpressionError {
    /// So many characters.
    TooLong(usize),
    /// One of the sub-expressions has so many characters.
    SubexpressionTooLong(usize),
    /// So many sub-expressions.
    TooManySubexpressions(usize),
    /// It does not parse.
    Syntax(String),
    /// The language has it, and what it stands for cannot be had here.
    Unavailable(String, &'static str),
    /// The language does not have it.
    Unknown(String),
    /// A value of another type was to stand there.
    WrongType {
        /// What.
        what: String,
        /// What it has to be.
        wants: &'static str,
        /// What it is.
        is: &'static str,
    },
    /// A function has another number of arguments.
    Arguments(String, usize),
    /// A literal was to stand there.
    NotLiteral(&'static str),
    /// The pattern of `matches` is none.
    Pattern(String),
    /// A range of addresses is none.
    Range(String),
    /// No address group has this name.
    UnknownGroup(String),
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExpressionError::TooLong(length) => write!(
                f,
                "the expression has {length} characters; Cloud Armor takes {EXPRESSION_MAX}"
            ),
            ExpressionError::SubexpressionTooLong(length) => write!(
                f,
                "a sub-expression has {length} characters; Cloud Armor takes {SUBEXPRESSION_MAX}"
            ),
            ExpressionError::TooManySubexpressions(count) => write!(
                f,
                "the expression has {count} sub-expressions; Cloud Armor takes {SUBEXPRESSIONS_MAX}"
            ),
            ExpressionError::Syntax(why) => write!(f, "the expression does not parse: {why}"),
            ExpressionError::Unavailable(what, why) => {
                write!(f, "`{what}` cannot be had here: {why}")
            }
            ExpressionError::Unknown(what) => {
                write!(f, "{what} is not in Cloud Armor's rules language")
            }
            ExpressionError::WrongType { what, wants, is } => {
                write!(f, "{what} is {is}, and has to be {wants}")
            }
            ExpressionError::Arguments(function, count) => {
                write!(f, "`{function}` does not take {count} arguments")
            }
            ExpressionError::NotLiteral(what) => write!(f, "{what} has to be a literal"),
            ExpressionError::Pattern(why) => write!(f, "the pattern of `matches` is none: {why}"),
            ExpressionError::Range(text) => write!(f, "`{text}` is no range of addresses"),
            ExpressionError::UnknownGroup(name) => {
                write!(f, "there is no address group `{name}`")
            }
        }
    }
}

impl ExpressionError {
    /// What to change.
    pub fn fix(&self) -> &'static str {
        match self {
            ExpressionError::TooLong(_)
            | ExpressionError::SubexpressionTooLong(_)
            | ExpressionError::TooManySubexpressions(_) => "split it over several rules",
            ExpressionError::Unavailable(..) => {
                "match by address, headers, path or an address group, or leave the rule out here"
            }
            ExpressionError::Unknown(_)
            | ExpressionError::Syntax(_)
            | ExpressionError::WrongType { .. }
            | ExpressionError::Arguments(..)
            | ExpressionError::NotLiteral(_) => {
                "write attributes and functions of the rules language, such as request.path.matches('/admin/')"
            }
            ExpressionError::Pattern(_) => "write a pattern in RE2's syntax",
            ExpressionError::Range(_) => "write an address or a range such as '203.0.113.0/24'",
            ExpressionError::UnknownGroup(_) => "add it to addressGroups, or correct the name",
        }
    }
}
