//! The scalar types of fields.

use crate::decode::{At, Decode, wrong_type};
use crate::diagnostic::{Code, Findings};
use crate::node::{Kind, Node, Scalar};
use crate::schema::Schema;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

impl Decode for String {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        match node.scalar() {
            Some(Scalar::Text(text)) => Some(text.to_owned()),
            _ => {
                wrong_type(node, "a text", findings);
                None
            }
        }
    }

    fn schema(_: &mut Schema) -> Value {
        json!({"type": "string"})
    }
}

impl<T: Decode> Decode for At<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        T::decode(node, findings).map(|value| At { at: node.at, value })
    }

    fn schema(schema: &mut Schema) -> Value {
        T::schema(schema)
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        T::decode(node, findings).map(Box::new)
    }

    fn schema(schema: &mut Schema) -> Value {
        T::schema(schema)
    }
}

impl Decode for bool {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        match node.scalar() {
            Some(Scalar::Bool(value)) => Some(value),
            _ => {
                wrong_type(node, "true or false", findings);
                None
            }
        }
    }

    fn schema(_: &mut Schema) -> Value {
        json!({"type": "boolean"})
    }
}

impl Decode for Ipv4Addr {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let text = String::decode(node, findings)?;
        let address = text.parse().ok();
        if address.is_none() {
            findings.error(
                Code::InvalidValue,
                node.at,
                format!("`{text}` is no IPv4 address"),
                "write an address such as 10.0.0.5",
            );
        }
        address
    }

    fn schema(_: &mut Schema) -> Value {
        json!({"type": "string", "format": "ipv4"})
    }
}

/// A text that people also write as a bare number, such as a project number or a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextOrNumber(pub(crate) String);

impl Decode for TextOrNumber {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        match (&node.kind, node.scalar()) {
            (Kind::Scalar { text, .. }, Some(Scalar::Text(_) | Scalar::Integer(_))) => {
                Some(TextOrNumber(text.clone().into_owned()))
            }
            _ => {
                wrong_type(node, "a text or a number", findings);
                None
            }
        }
    }

    fn schema(_: &mut Schema) -> Value {
        json!({"type": ["string", "integer"]})
    }
}

/// A number that is not negative, whole or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

impl Decode for Number {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let number = match &node.kind {
            Kind::Scalar { text, .. } => text.parse::<f64>().ok(),
            _ => None,
        };
        let number = number.filter(|number| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            wrong_type(node, "a number, zero or more", findings);
        }
        number.map(Number)
    }

    fn schema(_: &mut Schema) -> Value {
        json!({"type": ["number", "string"], "minimum": 0})
    }
}

/// An integer between two bounds. As everywhere in Google's JSON it may stand in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int<const MIN: i64, const MAX: i64>(pub(crate) i64);

impl<const MIN: i64, const MAX: i64> Decode for Int<MIN, MAX> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let value = match node.scalar() {
            Some(Scalar::Integer(value)) => value,
            Some(Scalar::Text(text)) if text.parse::<i128>().is_ok() => text.parse().ok()?,
            _ => {
                wrong_type(node, "a whole number", findings);
                return None;
            }
        };
        let in_bounds = i64::try_from(value).ok().filter(|value| (MIN..=MAX).contains(value));
        if in_bounds.is_none() {
            findings.error(
                Code::InvalidValue,
                node.at,
                format!("{value} is out of bounds; the field takes {MIN} to {MAX}"),
                format!("write a number from {MIN} to {MAX}"),
            );
        }
        in_bounds.map(Int)
    }

    fn schema(_: &mut Schema) -> Value {
        json!({"type": ["integer", "string"], "minimum": MIN, "maximum": MAX, "pattern": "^-?[0-9]+$"})
    }
}
