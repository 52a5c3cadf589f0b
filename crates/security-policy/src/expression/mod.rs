//! The rules language (cloud-run 6.2, "CEL subset"): parsed by the crate `cel`, then typed.

mod decode;
mod error;
mod evaluate;
mod read;
mod scan;

pub use error::ExpressionError;
pub use evaluate::Missing;

pub(crate) use evaluate::Scope;

use cel::parser::PrattParser;
use evaluate::Truth;
use read::{Reader, Typed};
use slice::load_balancer::AddressGroup;

/// "At most 5 sub-expressions".
pub(crate) const SUBEXPRESSIONS_MAX: usize = 5;
/// "Each at most 1024 characters".
pub(crate) const SUBEXPRESSION_MAX: usize = 1024;
/// "2048 total" ((unconfirmed)).
pub(crate) const EXPRESSION_MAX: usize = 2048;
/// Nobody nests deeper in so little text.
const DEPTH_MAX: u16 = 64;

/// An expression of a rule.
#[derive(Debug)]
pub struct Expression {
    text: String,
    root: Truth,
    facts: read::Facts,
}

impl Expression {
    /// Reads an expression; `groups` are the address groups that it may name.
    ///
    /// # Errors
    /// What is not in the language, what is wrong, and what nobody can know here.
    pub fn parse(text: &str, groups: &[AddressGroup]) -> Result<Expression, ExpressionError> {
        let length = text.chars().count();
        if length > EXPRESSION_MAX {
            return Err(ExpressionError::TooLong(length));
        }
        let scanned = scan::scan(text);
        if let Some(longest) = scanned.operands.iter().max().filter(|n| **n > SUBEXPRESSION_MAX) {
            return Err(ExpressionError::SubexpressionTooLong(*longest));
        }
        if scanned.operands.len() > SUBEXPRESSIONS_MAX {
            return Err(ExpressionError::TooManySubexpressions(scanned.operands.len()));
        }
        let parser = PrattParser::new().max_recursion_depth(DEPTH_MAX);
        let parsed = parser.parse(&scanned.text).map_err(|errors| {
            let first = errors.errors.first();
            ExpressionError::Syntax(first.map(|error| error.msg.clone()).unwrap_or_default())
        })?;
        let mut reader = Reader { groups, facts: read::Facts::default() };
        match reader.read(&parsed)? {
            Typed::Truth(root) => {
                Ok(Expression { text: text.to_owned(), root, facts: reader.facts })
            }
            other => Err(ExpressionError::WrongType {
                what: "the expression".to_owned(),
                wants: "true or false",
                is: other.called(),
            }),
        }
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Does it ask for something that only the files can say of an address
    /// (`origin.region_code`, `origin.asn`)?
    pub fn asks_for_origins(&self) -> bool {
        self.facts.origins
    }

    /// Names of headers that no request has, because they are not in lower case.
    pub fn impossible_headers(&self) -> &[String] {
        &self.facts.impossible_headers
    }

    /// The address groups that an expression names, whether they exist or not.
    pub fn groups_of(text: &str) -> Vec<String> {
        let parser = PrattParser::new().max_recursion_depth(DEPTH_MAX);
        if text.chars().count() > EXPRESSION_MAX {
            return Vec::new();
        }
        let parsed = parser.parse(&scan::scan(text).text);
        parsed.map(|parsed| read::groups(&parsed)).unwrap_or_default()
    }

    pub(crate) fn holds<'e>(&'e self, scope: &Scope<'_>) -> Result<bool, Missing<'e>> {
        self.root.holds(scope)
    }
}
