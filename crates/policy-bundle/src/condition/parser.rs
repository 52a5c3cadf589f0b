//! From tokens to a tree: `not` binds before comparisons, these before `and`, this before `or`.

use super::lexer::{self, Token};
use super::{Comparison, Condition, ConditionError, Leaf, Node, Operand, Test};
use crate::pattern::{Glob, JavaRegex, PathPattern};
use crate::variable::Variable;

/// A bound on nesting, so that no text can exhaust the stack.
const DEPTH_MAX: u32 = 64;

pub(super) fn parse(source: &str) -> Result<Condition, ConditionError> {
    let source = source.trim();
    let tokens = lexer::tokens(source)?;
    if tokens.is_empty() {
        return Ok(Condition {
            source: source.into(),
            root: Node::Constant(true),
            leaves: Vec::new(),
            mixed: false,
        });
    }
    let mut parser = Parser { source, tokens, at: 0, leaves: Vec::new(), mixed: false };
    let root = parser.or(0)?;
    if let Some((offset, token)) = parser.tokens.get(parser.at) {
        let what = match token {
            Token::Close => "there is a `)` too many.",
            _ => "the condition should end here.",
        };
        return Err(error(*offset, what, "Join comparisons with `and` or `or`."));
    }
    Ok(Condition { source: source.into(), root, leaves: parser.leaves, mixed: parser.mixed })
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<(usize, Token<'a>)>,
    at: usize,
    leaves: Vec<Leaf>,
    mixed: bool,
}

/// The operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Compare(Comparison),
    StartsWith,
    Glob,
    NotGlob,
    Path,
    Regex,
}

impl<'a> Parser<'a> {
    fn or(&mut self, depth: u32) -> Result<Node, ConditionError> {
        let mut nodes = vec![self.and(depth)?];
        while self.eat(is_or) {
            nodes.push(self.and(depth)?);
        }
        // Children in parentheses come back as nodes of their own, so an `And` of several tokens
        // without parentheses is seen in `and`.
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Or(nodes) })
    }

    fn and(&mut self, depth: u32) -> Result<Node, ConditionError> {
        let begins = self.at;
        let mut nodes = vec![self.unary(depth)?];
        while self.eat(is_and) {
            nodes.push(self.unary(depth)?);
        }
        if nodes.len() == 1 {
            return Ok(nodes.remove(0));
        }
        let before = begins.checked_sub(1).and_then(|at| self.tokens.get(at));
        let after = self.tokens.get(self.at);
        if before.is_some_and(|(_, token)| is_or(token))
            || after.is_some_and(|(_, token)| is_or(token))
        {
            self.mixed = true;
        }
        Ok(Node::And(nodes))
    }

    fn unary(&mut self, depth: u32) -> Result<Node, ConditionError> {
        if depth >= DEPTH_MAX {
            return Err(error(self.offset(), "the condition is nested too deeply.", "Split it."));
        }
        if self.eat(is_not) {
            return Ok(Node::Not(Box::new(self.unary(depth + 1)?)));
        }
        let offset = self.offset();
        match self.next() {
            Some(Token::Open) => {
                let node = self.or(depth + 1)?;
                match self.next() {
                    Some(Token::Close) => Ok(node),
                    _ => Err(error(offset, "the `(` has no `)`.", "Close the parenthesis.")),
                }
            }
            Some(Token::Word(word)) => self.comparison(offset, word, false),
            Some(Token::QuotedName(word)) => self.comparison(offset, word, true),
            Some(Token::Text(_) | Token::Number(..)) => Err(error(
                offset,
                "a comparison begins with a variable, not with a literal.",
                "Write `variable operator value`.",
            )),
            _ => Err(error(offset, "a variable or a `(` should stand here.", "Complete it.")),
        }
    }

    fn comparison(
        &mut self,
        offset: usize,
        word: &str,
        quoted: bool,
    ) -> Result<Node, ConditionError> {
        let constant =
            !quoted && (word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false"));
        if !quoted && !constant && is_keyword(word) {
            return Err(error(
                offset,
                &format!("`{word}` is a word of the language, not a variable."),
                "Write `variable operator value`.",
            ));
        }
        let before = self.at;
        let negated = self.eat(is_not);
        let operator_offset = self.offset();
        let Some(operator) = self.tokens.get(self.at).and_then(|(_, token)| operator(token)) else {
            if negated {
                let what = "after `variable not` an operator should stand.";
                return Err(error(
                    operator_offset,
                    what,
                    "Use Matches, MatchesPath, JavaRegex or StartsWith.",
                ));
            }
            self.at = before;
            return self.bare(offset, word, constant);
        };
        if constant {
            let what = "a comparison begins with a variable, not with a literal.";
            return Err(error(offset, what, "Write `variable operator value`."));
        }
        self.at += 1;
        if negated && matches!(operator, Operator::Compare(_) | Operator::NotGlob) {
            return Err(error(
                operator_offset,
                "`not` may stand before Matches, MatchesPath, JavaRegex and StartsWith only.",
                "Put the whole comparison into `not (…)`.",
            ));
        }
        let test = self.test(operator)?;
        self.leaf(offset, word, test, negated)
    }

    fn bare(&mut self, offset: usize, word: &str, constant: bool) -> Result<Node, ConditionError> {
        if constant {
            return Ok(Node::Constant(word.eq_ignore_ascii_case("true")));
        }
        match self.tokens.get(self.at) {
            None | Some((_, Token::Close)) => {}
            Some((_, token)) if is_and(token) || is_or(token) => {}
            Some((at, _)) => {
                return Err(error(
                    *at,
                    "an operator should stand here.",
                    "See Apigee's table of operators.",
                ));
            }
        }
        self.leaf(offset, word, Test::Truth, false)
    }

    fn leaf(
        &mut self,
        start: usize,
        word: &str,
        test: Test,
        negated: bool,
    ) -> Result<Node, ConditionError> {
        let end = match self.tokens.get(self.at) {
            Some((next, _)) => self.source[..*next].trim_end().len(),
            None => self.source.len(),
        };
        let number = u16::try_from(self.leaves.len())
            .map_err(|_| error(start, "the condition has too many comparisons.", "Split it."))?;
        self.leaves.push(Leaf { left: Variable::parse(word), test, negated, start, end });
        Ok(Node::Leaf(number))
    }

    fn test(&mut self, operator: Operator) -> Result<Test, ConditionError> {
        let offset = self.offset();
        let token = self.next();
        match operator {
            Operator::Compare(comparison) => {
                let variables = comparison != Comparison::EqualIgnoringCase;
                Ok(Test::Compare(comparison, operand(offset, token, variables, true)?))
            }
            Operator::StartsWith => Ok(Test::StartsWith(operand(offset, token, true, false)?)),
            _ => {
                let text = match operand(offset, token, false, false)? {
                    Operand::Text(text) => Some(text),
                    _ => None,
                };
                let text = text.as_deref();
                Ok(match operator {
                    Operator::Glob => Test::Glob(text.map(Glob::new)),
                    Operator::NotGlob => Test::NotGlob(text.map(Glob::new)),
                    Operator::Path => Test::Path(text.map(PathPattern::new)),
                    _ => Test::Regex(text.map(JavaRegex::whole).transpose().map_err(|why| {
                        error(
                            offset,
                            &format!("the regular expression cannot be used: {why}."),
                            "Write it without look-around, back-references and possessive quantifiers.",
                        )
                    })?),
                })
            }
        }
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(self.source.len(), |(offset, _)| *offset)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.at)?.1.clone();
        self.at += 1;
        Some(token)
    }

    fn eat(&mut self, is: fn(&Token<'_>) -> bool) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|(_, token)| is(token));
        self.at += usize::from(found);
        found
    }
}

fn operand(
    offset: usize,
    token: Option<Token<'_>>,
    variables: bool,
    numbers: bool,
) -> Result<Operand, ConditionError> {
    Ok(match token {
        Some(Token::Text(text)) => Operand::Text(text.into()),
        Some(Token::Number(number, digits)) if numbers => Operand::Number(number, digits.into()),
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("null") => Operand::Null,
        Some(Token::Word(word)) if numbers && word.eq_ignore_ascii_case("true") => {
            Operand::Boolean(true)
        }
        Some(Token::Word(word)) if numbers && word.eq_ignore_ascii_case("false") => {
            Operand::Boolean(false)
        }
        Some(Token::Word(word)) if variables && !is_keyword(word) => {
            Operand::Variable(Variable::parse(word))
        }
        Some(Token::QuotedName(_)) => {
            let what = "single quotes do not make a text.";
            return Err(error(offset, what, "Use double quotes."));
        }
        Some(Token::Number(..)) => {
            let what = "this operator takes no number.";
            return Err(error(offset, what, "Put it into double quotes."));
        }
        Some(Token::Word(word)) if !is_keyword(word) => {
            let what = "this operator takes no variable on its right.";
            return Err(error(offset, what, "Write a text in double quotes."));
        }
        _ => {
            return Err(error(
                offset,
                "a value should stand here.",
                "Write a text in double quotes.",
            ));
        }
    })
}

fn is_or(token: &Token<'_>) -> bool {
    match token {
        Token::Symbol(symbol) => *symbol == "||",
        Token::Word(word) => word.eq_ignore_ascii_case("or"),
        _ => false,
    }
}

fn is_and(token: &Token<'_>) -> bool {
    match token {
        Token::Symbol(symbol) => *symbol == "&&",
        Token::Word(word) => word.eq_ignore_ascii_case("and"),
        _ => false,
    }
}

fn is_not(token: &Token<'_>) -> bool {
    match token {
        Token::Symbol(symbol) => *symbol == "!",
        Token::Word(word) => word.eq_ignore_ascii_case("not"),
        _ => false,
    }
}

fn is_keyword(word: &str) -> bool {
    let token = Token::Word(word);
    is_or(&token)
        || is_and(&token)
        || is_not(&token)
        || operator(&token).is_some()
        || ["null", "true", "false"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn operator(token: &Token<'_>) -> Option<Operator> {
    use Comparison as C;
    use Operator as O;
    Some(match token {
        Token::Symbol(symbol) => match *symbol {
            "=" | "==" => O::Compare(C::Equal),
            "!=" => O::Compare(C::NotEqual),
            ":=" => O::Compare(C::EqualIgnoringCase),
            ">" => O::Compare(C::Greater),
            ">=" => O::Compare(C::GreaterOrEqual),
            "<" => O::Compare(C::Less),
            "<=" => O::Compare(C::LessOrEqual),
            "=|" => O::StartsWith,
            "~" => O::Glob,
            "!~" => O::NotGlob,
            "~/" => O::Path,
            "~~" => O::Regex,
            _ => return None,
        },
        Token::Word(word) => {
            let named = [
                ("Equals", O::Compare(C::Equal)),
                ("Is", O::Compare(C::Equal)),
                ("NotEquals", O::Compare(C::NotEqual)),
                ("IsNot", O::Compare(C::NotEqual)),
                ("EqualsCaseInsensitive", O::Compare(C::EqualIgnoringCase)),
                ("GreaterThan", O::Compare(C::Greater)),
                ("GreaterThanOrEquals", O::Compare(C::GreaterOrEqual)),
                ("LesserThan", O::Compare(C::Less)),
                ("LesserThanOrEquals", O::Compare(C::LessOrEqual)),
                ("StartsWith", O::StartsWith),
                ("Matches", O::Glob),
                ("Like", O::Glob),
                ("MatchesPath", O::Path),
                ("LikePath", O::Path),
                ("JavaRegex", O::Regex),
            ];
            named.iter().find(|(name, _)| word.eq_ignore_ascii_case(name))?.1
        }
        _ => return None,
    })
}

fn error(offset: usize, what: &str, fix: &str) -> ConditionError {
    ConditionError { offset, what: what.to_owned(), fix: fix.to_owned() }
}
