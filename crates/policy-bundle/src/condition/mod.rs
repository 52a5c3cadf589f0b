//! The condition language (section 4): parsed once, evaluated per call, with evidence.

mod evaluate;
mod lexer;
mod parser;

use crate::pattern::{Glob, JavaRegex, PathPattern};
use crate::variable::Variable;
use std::fmt;

/// A parsed condition. An empty one is true (4.1, unconfirmed).
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    source: Box<str>,
    root: Node,
    leaves: Vec<Leaf>,
    mixed: bool,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    /// Where in the text, in bytes.
    pub offset: usize,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub fix: String,
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {} {}", self.offset + 1, self.what, self.fix)
    }
}

impl std::error::Error for ConditionError {}

/// The outcome of a condition, with the comparison that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// True or false.
    pub result: bool,
    /// The number of the comparison that decided; [`Condition::leaf`] shows it.
    pub leaf: Option<u16>,
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// The text is no condition, or uses what Apigee has not.
    pub fn parse(source: &str) -> Result<Condition, ConditionError> {
        parser::parse(source)
    }

    /// The text as written, without surrounding blanks.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Does it mix `and` and `or` without parentheses?
    pub fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// The text of one comparison.
    pub fn leaf(&self, leaf: u16) -> Option<&str> {
        let leaf = self.leaves.get(usize::from(leaf))?;
        self.source.get(leaf.start..leaf.end)
    }

    /// The variable on the left of one comparison.
    pub fn leaf_variable(&self, leaf: u16) -> Option<&Variable> {
        Some(&self.leaves.get(usize::from(leaf))?.left)
    }

    /// Every variable that it reads.
    pub(crate) fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        for leaf in &self.leaves {
            visit(&leaf.left);
            if let Test::Compare(_, Operand::Variable(right))
            | Test::StartsWith(Operand::Variable(right)) = &leaf.test
            {
                visit(right);
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Leaf(u16),
    Constant(bool),
}

/// One comparison, or one bare variable.
#[derive(Clone, Debug, PartialEq)]
struct Leaf {
    left: Variable,
    test: Test,
    /// `variable not op value`.
    negated: bool,
    start: usize,
    end: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// A bare variable.
    Truth,
    Compare(Comparison, Operand),
    StartsWith(Operand),
    /// The pattern is none where the right side is `null`.
    Glob(Option<Glob>),
    NotGlob(Option<Glob>),
    Path(Option<PathPattern>),
    Regex(Option<JavaRegex>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    EqualIgnoringCase,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Text(Box<str>),
    /// Kind, value, and the digits as written.
    Number(Number, Box<str>),
    Boolean(bool),
    Null,
    Variable(Variable),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Integer(i64),
    Long(i64),
    Float(f32),
    Double(f64),
}

#[cfg(test)]
mod tests;
