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

/// A quantity as Kubernetes writes it: `500m`, `512Mi`, `2`, with or without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quantity(pub(crate) String);

impl Quantity {
    /// Bytes, for memory: `512Mi`, `1G`, `1073741824`.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let split = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (number, unit) = self.0.split_at(split);
        let unit: u64 = match unit {
            "" => 1,
            "k" => 1000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return None,
        };
        let bytes = number.parse::<f64>().ok()? * unit as f64;
        (bytes >= 1.0 && bytes <= (1_u64 << 50) as f64).then_some(bytes as u64)
    }

    /// Thousandths, for CPUs: `1`, `0.5`, `500m`.
    pub(crate) fn millis(&self) -> Option<u32> {
        let (number, factor) = match self.0.strip_suffix('m') {
            Some(millis) => (millis, 1.0),
            None => (self.0.as_str(), 1000.0),
        };
        let digits = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let millis = number.parse::<f64>().ok().filter(|_| digits)? * factor;
        let whole = (millis - millis.round()).abs() < 1e-6;
        (whole && (1.0..=1_000_000.0).contains(&millis)).then_some(millis.round() as u32)
    }
}

impl Decode for Quantity {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        match (&node.kind, node.scalar()) {
            (
                Kind::Scalar { text, .. },
                Some(Scalar::Text(_) | Scalar::Integer(_) | Scalar::Number(_)),
            ) => Some(Quantity(text.clone().into_owned())),
            _ => {
                wrong_type(node, "a quantity such as 512Mi", findings);
                None
            }
        }
    }

    fn schema(_: &mut Schema) -> Value {
        json!({"type": ["string", "number"]})
    }
}

/// The mode of a file. A leading zero makes it octal, as in YAML 1.1, which gcloud reads; JSON
/// and exports have it in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl Decode for Mode {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let octal = match &node.kind {
            Kind::Scalar { text, plain: true } if text.len() > 1 && text.starts_with('0') => {
                u32::from_str_radix(text.trim_start_matches("0o"), 8).ok()
            }
            _ => None,
        };
        let mode = match octal {
            Some(mode) => Some(i64::from(mode)),
            None => Some(Int::<0, 4_294_967_295>::decode(node, findings)?.0),
        };
        let mode = mode.and_then(|mode| u32::try_from(mode).ok()).filter(|mode| *mode <= 0o777);
        if mode.is_none() {
            findings.error(
                Code::InvalidValue,
                node.at,
                "the mode of a file is at most 0777 (511)",
                "write a mode such as 0444 (292)",
            );
        }
        mode.map(Mode)
    }

    fn schema(_: &mut Schema) -> Value {
        json!({"type": ["integer", "string"], "minimum": 0, "maximum": 511})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_bytes_or_thousandths() {
        let bytes = |text: &str| Quantity(text.to_owned()).bytes();
        assert_eq!(bytes("512Mi"), Some(512 << 20));
        assert_eq!(bytes("1.5Gi"), Some(3 << 29));
        assert_eq!(bytes("1G"), Some(1_000_000_000));
        assert_eq!(bytes("1024"), Some(1024));
        for bad in ["", "Mi", "0", "-1Mi", "1MiB", "1m", "1e9Gi", "999999Ti"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        let millis = |text: &str| Quantity(text.to_owned()).millis();
        assert_eq!(millis("1"), Some(1000));
        assert_eq!(millis("0.5"), Some(500));
        assert_eq!(millis("1000m"), Some(1000));
        assert_eq!(millis("0.08"), Some(80));
        for bad in ["", "m", "0", "-1", "one", "0.0005", "1.5m", "1e3", "nan", "inf"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mode_with_a_leading_zero_is_octal() {
        let read = |text: &str| {
            let mut findings = Findings::default();
            let parsed = crate::node::parse(text, 0, &mut findings);
            Mode::decode(&parsed.documents[0], &mut findings).map(|mode| mode.0)
        };
        assert_eq!(read("0444"), Some(0o444));
        assert_eq!(read("0o444"), Some(0o444));
        assert_eq!(read("292"), Some(0o444));
        assert_eq!(read("0"), Some(0));
        for bad in ["01000", "512", "-1", "rw"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
