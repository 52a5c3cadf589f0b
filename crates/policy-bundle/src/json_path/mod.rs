//! JSONPath as ExtractVariables and `jsonPath` use it (5, 7.3): Jayway's dialect.

mod filter;
mod parser;

use filter::Filter;
use serde_json::Value;
use std::fmt;

/// The most nodes that a path may select; a bound of ours.
const MATCHES_MAX: usize = 100_000;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    segments: Vec<Segment>,
}

/// Why a text is no path that we can evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPathError {
    /// Where, in bytes.
    pub offset: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for JsonPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {} of the JSONPath: {}", self.offset + 1, self.what)
    }
}

impl std::error::Error for JsonPathError {}

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    /// `.name`, `['a','b']`.
    Names(Vec<String>),
    /// `[0]`, `[0,-1]`.
    Indices(Vec<i64>),
    /// `[from:to]`.
    Slice(Option<i64>, Option<i64>),
    /// `.*`, `[*]`.
    All,
    /// `[?(…)]`.
    Filter(Filter),
    /// `..`: the node and everything below it.
    Descend,
    /// `.length()` and its like, last in the path.
    Function(Aggregate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Length,
    Min,
    Max,
    Sum,
    Average,
    Keys,
}

impl JsonPath {
    /// Parses a path.
    ///
    /// # Errors
    /// It is malformed, or uses what Jayway has and we have not.
    pub fn parse(text: &str) -> Result<JsonPath, JsonPathError> {
        parser::parse(text)
    }

    /// Does it select one node at most?
    pub fn is_definite(&self) -> bool {
        self.segments.iter().all(|segment| match segment {
            Segment::Names(names) => names.len() == 1,
            Segment::Indices(indices) => indices.len() == 1,
            Segment::Function(_) => true,
            _ => false,
        })
    }

    /// The value of a definite path, the array of what an indefinite one selects; none where a
    /// definite one selects nothing.
    pub fn evaluate(&self, root: &Value) -> Option<Value> {
        let (last, nodes) = match self.segments.split_last() {
            Some((Segment::Function(function), before)) => (Some(*function), before),
            _ => (None, self.segments.as_slice()),
        };
        let mut selected = vec![root];
        for segment in nodes {
            let mut next = Vec::new();
            for node in selected {
                segment.select(node, root, &mut next);
                if next.len() > MATCHES_MAX {
                    return None;
                }
            }
            selected = next;
        }
        let definite = self.is_definite();
        let value = match (definite, selected.first()) {
            (true, first) => (*first?).clone(),
            (false, _) => Value::Array(selected.into_iter().cloned().collect()),
        };
        match last {
            Some(function) => function.apply(&value),
            None => Some(value),
        }
    }

    /// The result as `jsonPath` gives it (5): an array yields its first element unless the whole
    /// is wanted; nothing is an empty text.
    pub(crate) fn as_text(&self, root: &Value, whole: bool) -> String {
        match self.evaluate(root) {
            None => String::new(),
            Some(Value::Array(items)) if !whole => items.first().map(to_text).unwrap_or_default(),
            Some(value) => to_text(&value),
        }
    }
}

/// A text is itself, everything else its JSON.
pub(crate) fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

impl Segment {
    fn select<'v>(&'v self, node: &'v Value, root: &'v Value, out: &mut Vec<&'v Value>) {
        match self {
            Segment::Names(names) => {
                if let Value::Object(object) = node {
                    out.extend(names.iter().filter_map(|name| object.get(name)));
                }
            }
            Segment::Indices(indices) => {
                if let Value::Array(items) = node {
                    out.extend(indices.iter().filter_map(|index| at(items, *index)));
                }
            }
            Segment::Slice(from, to) => {
                if let Value::Array(items) = node {
                    let clamp = |index: i64| {
                        let length = items.len() as i64;
                        (if index < 0 { index + length } else { index }).clamp(0, length) as usize
                    };
                    let from = clamp(from.unwrap_or(0));
                    let to = to.map_or(items.len(), clamp);
                    out.extend(items.get(from..to).unwrap_or_default());
                }
            }
            Segment::All => children(node, out),
            Segment::Filter(filter) => {
                let mut candidates = Vec::new();
                match node {
                    // Jayway applies a filter to the items of an array, or to an object itself.
                    Value::Array(items) => candidates.extend(items),
                    other => candidates.push(other),
                }
                out.extend(candidates.into_iter().filter(|item| filter.holds(item, root)));
            }
            Segment::Descend => {
                let mut stack = vec![node];
                while let Some(node) = stack.pop() {
                    if out.len() > MATCHES_MAX {
                        return;
                    }
                    out.push(node);
                    let mut below = Vec::new();
                    children(node, &mut below);
                    stack.extend(below.into_iter().rev());
                }
            }
            Segment::Function(_) => {}
        }
    }
}

fn children<'v>(node: &'v Value, out: &mut Vec<&'v Value>) {
    match node {
        Value::Array(items) => out.extend(items),
        Value::Object(object) => out.extend(object.values()),
        _ => {}
    }
}

fn at(items: &[Value], index: i64) -> Option<&Value> {
    let index = if index < 0 { index + items.len() as i64 } else { index };
    items.get(usize::try_from(index).ok()?)
}

impl Aggregate {
    fn named(name: &str) -> Option<Aggregate> {
        Some(match name {
            "length" | "size" => Aggregate::Length,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "sum" => Aggregate::Sum,
            "avg" => Aggregate::Average,
            "keys" => Aggregate::Keys,
            _ => return None,
        })
    }

    fn apply(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Aggregate::Length, Value::Array(items)) => return Some(items.len().into()),
            (Aggregate::Length, Value::Object(object)) => return Some(object.len().into()),
            (Aggregate::Length, Value::String(text)) => return Some(text.chars().count().into()),
            (Aggregate::Keys, Value::Object(object)) => {
                return Some(object.keys().cloned().map(Value::String).collect());
            }
            _ => {}
        }
        let Value::Array(items) = value else { return None };
        let numbers: Vec<f64> = items.iter().filter_map(Value::as_f64).collect();
        if numbers.is_empty() {
            return None;
        }
        let result = match self {
            Aggregate::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
            Aggregate::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Aggregate::Sum => numbers.iter().sum(),
            Aggregate::Average => numbers.iter().sum::<f64>() / numbers.len() as f64,
            Aggregate::Length | Aggregate::Keys => return None,
        };
        serde_json::Number::from_f64(result).map(Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn store() -> Value {
        json!({"store": {
            "book": [
                {"title": "A", "price": 8, "isbn": "1", "tags": ["x", "y"]},
                {"title": "B", "price": 12, "in": true},
                {"title": "C", "price": 9},
            ],
            "bicycle": {"color": "red", "price": 20},
            "odd-name": {"a.b": 1},
            "none": null,
        }})
    }

    #[test]
    fn paths_select_what_jayway_selects() {
        for (path, expected) in [
            ("$.store.bicycle.color", Some(json!("red"))),
            ("$['store']['odd-name']['a.b']", Some(json!(1))),
            ("$.store.odd-name", Some(json!({"a.b": 1}))),
            ("store.bicycle.color", Some(json!("red"))),
            ("$.store.book[0].title", Some(json!("A"))),
            ("$.store.book[-1].title", Some(json!("C"))),
            ("$.store.book[0,2].title", Some(json!(["A", "C"]))),
            ("$.store.book[1:].title", Some(json!(["B", "C"]))),
            ("$.store.book[:-1].title", Some(json!(["A", "B"]))),
            ("$.store.book[*].price", Some(json!([8, 12, 9]))),
            ("$..color", Some(json!(["red"]))),
            ("$..price", Some(json!([8, 12, 9, 20]))),
            ("$.store.book[?(@.price < 10)].title", Some(json!(["A", "C"]))),
            ("$.store.book[?(@.price < 10 && @.isbn)].title", Some(json!(["A"]))),
            ("$.store.book[?(!@.isbn)].title", Some(json!(["B", "C"]))),
            ("$.store.book[?(@.title == 'B' || @.title == \"C\")].price", Some(json!([12, 9]))),
            ("$.store.book[?(@.title =~ /[ab]/i)].title", Some(json!(["A", "B"]))),
            ("$.store.book[?(@.title in ['A','C'])].title", Some(json!(["A", "C"]))),
            ("$.store.book[?(@.price > $.store.book[0].price)].title", Some(json!(["B", "C"]))),
            ("$.store.book[?(@.in == true)].title", Some(json!(["B"]))),
            ("$.store.book[?(@.title == 'Z')]", Some(json!([]))),
            ("$.store.book.length()", Some(json!(3))),
            ("$.store.book[*].price.max()", Some(json!(12.0))),
            ("$.store.none", Some(json!(null))),
            ("$.store.nothing", None),
            ("$.store.book[7]", None),
            ("$", Some(store())),
        ] {
            let parsed = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(parsed.evaluate(&store()), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_says_where() {
        for path in ["", "$.", "$[", "$.a[", "$.a[?(@.b]", "$.a.nope()", "$.a[x]", "$$", "$.a]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
        assert!(JsonPath::parse(&format!("$[?({}@.a)]", "(".repeat(10_000))).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_path_panic(text in "\\$?[\\[\\]().@?*'a,:!&|=<>~/ 0-9-]{0,30}") {
            if let Ok(path) = JsonPath::parse(&text) {
                path.evaluate(&store());
            }
        }
    }
}
