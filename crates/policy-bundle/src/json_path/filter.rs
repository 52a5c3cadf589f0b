//! Filters: `[?(@.price < 10 && @.isbn)]`.

use super::JsonPath;
use crate::pattern::JavaRegex;
use serde_json::Value;
use std::cmp::Ordering;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    Or(Vec<Filter>),
    And(Vec<Filter>),
    Not(Box<Filter>),
    Exists(Operand),
    Compare(Operand, Comparator, Operand),
    Matches(Operand, JavaRegex),
    In(Operand, Vec<Operand>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// `@…`.
    Item(JsonPath),
    /// `$…`.
    Root(JsonPath),
    Literal(Value),
}

impl Operand {
    fn value(&self, item: &Value, root: &Value) -> Option<Value> {
        match self {
            Operand::Item(path) => path.evaluate(item),
            Operand::Root(path) => path.evaluate(root),
            Operand::Literal(value) => Some(value.clone()),
        }
    }
}

impl Filter {
    pub(super) fn holds(&self, item: &Value, root: &Value) -> bool {
        match self {
            Filter::Or(filters) => filters.iter().any(|filter| filter.holds(item, root)),
            Filter::And(filters) => filters.iter().all(|filter| filter.holds(item, root)),
            Filter::Not(filter) => !filter.holds(item, root),
            Filter::Exists(operand) => operand.value(item, root).is_some(),
            Filter::Compare(left, comparator, right) => {
                compare(left.value(item, root), *comparator, right.value(item, root))
            }
            Filter::Matches(operand, regex) => match operand.value(item, root) {
                Some(Value::String(text)) => regex.is_match(&text),
                Some(value @ Value::Number(_)) => regex.is_match(&value.to_string()),
                _ => false,
            },
            Filter::In(operand, list) => operand.value(item, root).is_some_and(|value| {
                list.iter().any(|other| equal(Some(&value), other.value(item, root).as_ref()))
            }),
        }
    }
}

fn compare(left: Option<Value>, comparator: Comparator, right: Option<Value>) -> bool {
    match comparator {
        Comparator::Equal => equal(left.as_ref(), right.as_ref()),
        Comparator::NotEqual => !equal(left.as_ref(), right.as_ref()),
        Comparator::Less => order(left, right) == Some(Ordering::Less),
        Comparator::LessOrEqual => order(left, right).is_some_and(Ordering::is_le),
        Comparator::Greater => order(left, right) == Some(Ordering::Greater),
        Comparator::GreaterOrEqual => order(left, right).is_some_and(Ordering::is_ge),
    }
}

fn equal(left: Option<&Value>, right: Option<&Value>) -> bool {
    match (left, right) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

fn order(left: Option<Value>, right: Option<Value>) -> Option<Ordering> {
    match (left?, right?) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(&right)),
        _ => None,
    }
}
