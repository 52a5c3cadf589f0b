//! Evaluation: adaptation of types, and the table of nulls (4.2).

use super::{Comparison, Condition, Evaluation, Leaf, Node, Number, Operand, Test};
use crate::context::Context;
use crate::value::Value;
use std::cmp::Ordering;

impl Condition {
    /// True or false under these variables, and which comparison decided.
    pub fn evaluate(&self, context: &Context) -> Evaluation {
        self.node(&self.root, context)
    }

    fn node(&self, node: &Node, context: &Context) -> Evaluation {
        match node {
            Node::Constant(result) => Evaluation { result: *result, leaf: None },
            Node::Leaf(number) => {
                let leaf = &self.leaves[usize::from(*number)];
                Evaluation { result: leaf.evaluate(context), leaf: Some(*number) }
            }
            Node::Not(inner) => {
                let inner = self.node(inner, context);
                Evaluation { result: !inner.result, leaf: inner.leaf }
            }
            Node::And(nodes) => self.until(nodes, context, false),
            Node::Or(nodes) => self.until(nodes, context, true),
        }
    }

    /// The first node with this result decides; otherwise the last one does.
    fn until(&self, nodes: &[Node], context: &Context, stop: bool) -> Evaluation {
        let mut last = Evaluation { result: !stop, leaf: None };
        for node in nodes {
            last = self.node(node, context);
            if last.result == stop {
                break;
            }
        }
        last
    }
}

impl Leaf {
    fn evaluate(&self, context: &Context) -> bool {
        let left = context.read(&self.left);
        let result = match &self.test {
            Test::Truth => left.is_some_and(|left| left.is_true()),
            Test::Compare(comparison, right) => compare(*comparison, left, right.value(context)),
            Test::StartsWith(right) => match (left, right.value(context)) {
                (Some(left), Some(right)) if comparable(&left) && comparable(&right) => {
                    left.as_text().starts_with(&*right.as_text())
                }
                _ => false,
            },
            Test::Glob(glob) => on_text(left, glob, |glob, text| glob.matches(text)),
            // Right null: false; left null: true (4.2).
            Test::NotGlob(None) => false,
            Test::NotGlob(glob) => !on_text(left, glob, |glob, text| glob.matches(text)),
            Test::Path(path) => on_text(left, path, |path, text| path.matches(text)),
            Test::Regex(regex) => on_text(left, regex, |regex, text| regex.is_match(text)),
        };
        result != self.negated
    }
}

impl Operand {
    fn value<'a>(&'a self, context: &'a Context) -> Option<Value<'a>> {
        Some(match self {
            Operand::Text(text) => Value::text(text),
            Operand::Number(number, _) => match number {
                Number::Integer(value) => Value::Integer(*value),
                Number::Long(value) => Value::Long(*value),
                Number::Float(value) => Value::Float(*value),
                Number::Double(value) => Value::Double(*value),
            },
            Operand::Boolean(truth) => Value::Boolean(*truth),
            Operand::Null => return None,
            Operand::Variable(variable) => return context.read(variable),
        })
    }
}

fn comparable(value: &Value<'_>) -> bool {
    !matches!(value, Value::Message | Value::Collection(_))
}

fn on_text<P>(
    left: Option<Value<'_>>,
    pattern: &Option<P>,
    matches: impl Fn(&P, &str) -> bool,
) -> bool {
    match (left, pattern) {
        (Some(left), Some(pattern)) if comparable(&left) => matches(pattern, &left.as_text()),
        _ => false,
    }
}

fn compare(comparison: Comparison, left: Option<Value<'_>>, right: Option<Value<'_>>) -> bool {
    use Comparison as C;
    let (left, right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return with_null(comparison, left.is_none(), right.is_none()),
    };
    if !comparable(&left) || !comparable(&right) {
        return false;
    }
    match comparison {
        C::Equal => equal(&left, &right),
        C::NotEqual => !equal(&left, &right),
        C::EqualIgnoringCase => same_ignoring_case(&left.as_text(), &right.as_text()),
        C::Greater => order(&left, &right) == Some(Ordering::Greater),
        C::GreaterOrEqual => order(&left, &right).is_some_and(Ordering::is_ge),
        C::Less => order(&left, &right) == Some(Ordering::Less),
        C::LessOrEqual => order(&left, &right).is_some_and(Ordering::is_le),
    }
}

/// The documented table (4.2), odd entries included: `null > x` is true there.
fn with_null(comparison: Comparison, left: bool, right: bool) -> bool {
    use Comparison as C;
    let (left_null, right_null, both_null) = match comparison {
        C::Equal | C::EqualIgnoringCase => (false, false, true),
        C::NotEqual => (true, true, false),
        C::Greater => (true, false, false),
        C::GreaterOrEqual => (false, true, true),
        C::Less => (true, false, false),
        C::LessOrEqual => (true, false, true),
    };
    match (left, right) {
        (true, true) => both_null,
        (true, false) => left_null,
        _ => right_null,
    }
}

/// A text on either side makes it a comparison of texts; otherwise the wider type counts.
fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Text(_), _) | (_, Value::Text(_)) => left.as_text() == right.as_text(),
        _ => left.as_number() == right.as_number(),
    }
}

/// Numeric where both sides adapt to numbers (4.2, unconfirmed for texts).
fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left.as_number(), right.as_number()) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => Some(left.as_text().cmp(&right.as_text())),
    }
}

fn same_ignoring_case(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
        || left.chars().flat_map(char::to_lowercase).eq(right.chars().flat_map(char::to_lowercase))
}
