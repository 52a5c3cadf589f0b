//! Values of flow variables, and how they adapt to each other (4.2, 6).

use std::borrow::Cow;
use std::fmt;

/// The value of a flow variable. Null is `Option::None`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A 32-bit integer, kept wide.
    Integer(i64),
    /// A 64-bit integer.
    Long(i64),
    /// A single-precision number.
    Float(f32),
    /// A double-precision number.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// Several texts, such as all values of a header.
    Collection(Vec<String>),
    /// A whole message; compares with nothing.
    Message,
}

impl Value<'_> {
    /// A text value.
    pub fn text(text: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(text))
    }

    /// An owned text value.
    pub fn owned(text: impl Into<String>) -> Value<'static> {
        Value::Text(Cow::Owned(text.into()))
    }

    /// The value, detached from whatever it borrows.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Integer(number) => Value::Integer(number),
            Value::Long(number) => Value::Long(number),
            Value::Float(number) => Value::Float(number),
            Value::Double(number) => Value::Double(number),
            Value::Boolean(truth) => Value::Boolean(truth),
            Value::Collection(items) => Value::Collection(items),
            Value::Message => Value::Message,
        }
    }

    /// The value as text, as templates show it. Collections are joined by commas (6, unconfirmed);
    /// a message has no text.
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Integer(number) | Value::Long(number) => Cow::Owned(number.to_string()),
            Value::Float(number) => Cow::Owned(java_float(f64::from(*number), number.to_string())),
            Value::Double(number) => Cow::Owned(java_float(*number, number.to_string())),
            Value::Boolean(true) => Cow::Borrowed("true"),
            Value::Boolean(false) => Cow::Borrowed("false"),
            Value::Collection(items) => Cow::Owned(items.join(",")),
            Value::Message => Cow::Borrowed(""),
        }
    }

    /// The value as a number where it is one or adapts to one (4.2).
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Text(text) => {
                let text = text.trim();
                // Java's parsers know no `inf` and no `nan` in lower case; neither do we.
                if text.is_empty()
                    || text.contains(|c: char| c.is_alphabetic() && c != 'e' && c != 'E')
                {
                    None
                } else {
                    text.parse().ok()
                }
            }
            Value::Integer(number) | Value::Long(number) => Some(*number as f64),
            Value::Float(number) => Some(f64::from(*number)),
            Value::Double(number) => Some(*number),
            Value::Boolean(truth) => Some(f64::from(u8::from(*truth))),
            Value::Collection(_) | Value::Message => None,
        }
    }

    /// Is it the Boolean true, or the text `true` (4.1: a bare variable)?
    pub fn is_true(&self) -> bool {
        match self {
            Value::Boolean(truth) => *truth,
            Value::Text(text) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "\"{}\"", text.escape_debug()),
            Value::Message => f.write_str("(a message)"),
            other => f.write_str(&other.as_text()),
        }
    }
}

/// Java prints a whole double with `.0`.
fn java_float(number: f64, plain: String) -> String {
    if number.is_finite() && number.fract() == 0.0 && !plain.contains(['.', 'e', 'E']) {
        plain + ".0"
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_text_that_java_gives_them() {
        for (value, text) in [
            (Value::Integer(404), "404"),
            (Value::Double(3.0), "3.0"),
            (Value::Double(0.7), "0.7"),
            (Value::Boolean(true), "true"),
            (Value::Collection(vec!["a".into(), "b".into()]), "a,b"),
        ] {
            assert_eq!(value.as_text(), text);
        }
    }

    #[test]
    fn text_adapts_to_a_number_only_where_it_is_one() {
        for (text, number) in [
            ("5", Some(5.0)),
            (" 0.7 ", Some(0.7)),
            ("1e3", Some(1000.0)),
            ("nan", None),
            ("", None),
        ] {
            assert_eq!(Value::text(text).as_number(), number, "{text}");
        }
    }
}
