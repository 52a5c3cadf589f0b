//! Nodes → typed records, against one table of fields per resource type. The same table makes the
//! JSON Schema. Every mistake is collected; nothing stops at the first one.

use crate::diagnostic::{Code, Findings, Mark};
use crate::node::{Key, Kind, Node, Scalar};
use crate::schema::Schema;
use crate::similar;
use serde_json::{Value, json};
use std::ops::Deref;

/// What becomes of a field.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    /// It has its effect.
    Honoured { required: bool, schema: fn(&mut Schema) -> Value },
    /// Free text or labels: without effect on traffic in the real product too.
    Descriptive,
    /// Known, without effect in this release: a warning names it, unless its value is one of
    /// these, which say the same as nothing.
    NotYet { harmless: &'static [&'static str] },
    /// Known, and ignoring it would let traffic flow, or flow otherwise, than it says: an error,
    /// unless its value is one of these.
    Refused { harmless: &'static [&'static str], why: &'static str },
    /// The real product refuses it too, unless its value is one of these.
    Rejected { harmless: &'static [&'static str] },
    /// The API fills it in; an export has it.
    OutputOnly,
}

/// A field of a resource type.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
}

/// A resource type, or a part of one.
pub(crate) struct Table {
    /// Name of the type, unique; names the definition in the schema.
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) fields: &'static [Field],
    /// Decodes a node as this type and throws it away: for tests over all tables.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) probe: fn(&Node<'_>, &mut Findings),
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) at: Mark,
    pub(crate) value: T,
}

impl<T> Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

pub(crate) type Text = At<String>;

pub(crate) use crate::scalars::{Int, Number, TextOrNumber};

/// What can be read from a node. `None` means: a mistake was reported.
pub(crate) trait Decode: Sized {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self>;
    /// The JSON Schema of the values that are read.
    fn schema(schema: &mut Schema) -> Value;
}

pub(crate) fn wrong_type(node: &Node<'_>, expected: &str, findings: &mut Findings) {
    let got = node.type_name();
    let fix = match node.scalar() {
        Some(Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Number(_))
            if expected.starts_with("a text") =>
        {
            "put the value in quotes".to_owned()
        }
        _ => format!("write {expected}"),
    };
    findings.error(Code::WrongType, node.at, format!("expected {expected}, found {got}"), fix);
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            wrong_type(node, "a list", findings);
            return None;
        };
        // A faulty item was reported; the others are still worth checking.
        let mut all = Vec::with_capacity(items.len());
        for item in items {
            match T::decode(item, findings) {
                Some(read) => all.push(read),
                None => findings.drop_item(),
            }
        }
        Some(all)
    }

    fn schema(schema: &mut Schema) -> Value {
        json!({"type": "array", "items": T::schema(schema)})
    }
}

/// A mapping with free keys.
pub(crate) type Entries<T> = Vec<(Text, T)>;

/// A mapping with free keys, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Mapping<T>(pub(crate) Entries<T>);

impl<T> Default for Mapping<T> {
    fn default() -> Self {
        Mapping(Vec::new())
    }
}

impl<T: Decode> Decode for Mapping<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            wrong_type(node, "a mapping", findings);
            return None;
        };
        let one = |(key, value): &(Key<'_>, Node<'_>)| {
            let value = T::decode(value, findings)?;
            Some((At { at: key.at, value: key.text.clone().into_owned() }, value))
        };
        Some(Mapping(entries.iter().filter_map(one).collect()))
    }

    fn schema(schema: &mut Schema) -> Value {
        json!({"type": "object", "additionalProperties": T::schema(schema)})
    }
}

/// A field's value while its record is read.
pub(crate) enum Slot<T> {
    Absent,
    /// Present, and wrong: reported.
    Failed,
    Value(T),
}

impl<T> Slot<T> {
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Slot::Value(value) => Some(value),
            Slot::Absent | Slot::Failed => None,
        }
    }
}

/// Reads one honoured field into its slot.
pub(crate) fn fill<T: Decode>(
    slot: &mut Slot<T>,
    faulty: &mut bool,
    key: &Key<'_>,
    node: &Node<'_>,
    findings: &mut Findings,
) {
    if node.is_null() {
        // `field:` with nothing behind it; JSON null means absent in Google's APIs.
        return;
    }
    if !matches!(slot, Slot::Absent) {
        findings.error(
            Code::DuplicateKey,
            key.at,
            format!("`{}` is another spelling of a key that stands above", key.text),
            "write both values under one key",
        );
        return;
    }
    let dropped = findings.dropped();
    *slot = match T::decode(node, findings) {
        Some(value) => Slot::Value(value),
        None => Slot::Failed,
    };
    *faulty |= matches!(slot, Slot::Failed) || findings.dropped() > dropped;
}

/// What a field that is not honoured turned out to be.
pub(crate) enum Other {
    /// Without consequence for the record, apart from what was reported.
    Fine,
    /// Unknown, and so close to this field that it is meant: that the field is missing is no second
    /// mistake.
    Meant(&'static str),
    /// Refused: what it says is lost, so that absences mean nothing.
    Refused,
}

/// Judges a field that is not honoured: known but without effect, output only, or unknown.
pub(crate) fn other_field(
    table: &Table,
    key: &Key<'_>,
    node: &Node<'_>,
    findings: &mut Findings,
) -> Other {
    let Some(field) = table.fields.iter().find(|field| field.name == key.text) else {
        return unknown_field(table, key, findings);
    };
    let says_nothing = |harmless: &[&str]| {
        node.is_null()
            || match &node.kind {
                Kind::Scalar { text, .. } => {
                    harmless.iter().any(|word| *word == text) || text.is_empty()
                }
                Kind::List(items) => items.is_empty(),
                Kind::Map(entries) => entries.is_empty(),
            }
    };
    match field.fate {
        Fate::NotYet { harmless } if !says_nothing(harmless) => findings.warning(
            Code::NotYetHonoured,
            key.at,
            format!("`{}` is known, but has no effect in this release", field.name),
            "remove it to silence this warning; nothing else depends on it here",
        ),
        Fate::Refused { harmless, why } if !says_nothing(harmless) => {
            findings.error(
                Code::NotYetSupported,
                key.at,
                format!("`{}` is not supported yet; {why}", field.name),
                "remove it; a release that honours it will read it",
            );
            return Other::Refused;
        }
        Fate::Rejected { harmless } if !says_nothing(harmless) => {
            rejected(field.name, key.at, findings);
            return Other::Refused;
        }
        _ => {}
    }
    Other::Fine
}

/// Reports a field that the real product refuses.
pub(crate) fn rejected(name: &str, at: Mark, findings: &mut Findings) {
    findings.error(
        Code::FieldNotSupported,
        at,
        format!("`{name}` is not supported; the real product refuses a deployment with it"),
        "remove it",
    );
}

fn unknown_field(table: &Table, key: &Key<'_>, findings: &mut Findings) -> Other {
    let near = similar::closest(&key.text, table.fields.iter().map(|field| field.name));
    let fix = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let mut names: Vec<_> = table
                .fields
                .iter()
                .filter(|field| matches!(field.fate, Fate::Honoured { .. }))
                .map(|field| field.name)
                .collect();
            names.sort_unstable();
            format!("remove it; honoured fields are {}", names.join(", "))
        }
    };
    findings.error(
        Code::UnknownField,
        key.at,
        format!("{} has no field `{}`; it would be ignored silently", table.name, key.text),
        fix,
    );
    near.map_or(Other::Fine, Other::Meant)
}

/// A record: its struct, its table of fields and its decoder, from one declaration.
///
/// `req` fields must be there, `opt` fields become `Option`s, `def` fields have a default.
/// `|` gives other spellings that are read as well.
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        $name:ident {
            $( $mode:ident $field:ident : $type:ty = $json:literal $(| $alias:literal)* ; )*
        }
        $( descriptive [ $($descriptive:literal),* $(,)? ] )?
        $( not_yet [ $($not_yet:literal $(($($harmless:literal),*))? ),* $(,)? ] )?
        $( refused [ $($refused:literal $(($($same:literal),*))? : $why:literal),* $(,)? ] )?
        $( rejected [ $($rejected:literal $(($($null:literal),*))? ),* $(,)? ] )?
        $( output_only [ $($output:literal),* $(,)? ] )?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        #[allow(dead_code)]
        pub(crate) struct $name {
            pub(crate) at: $crate::diagnostic::Mark,
            /// A field or an item of one could not be read; its absence means nothing.
            pub(crate) faulty: bool,
            $(pub(crate) $field: $crate::decode::record!(@type $mode $type),)*
        }

        impl $name {
            pub(crate) const TABLE: $crate::decode::Table = $crate::decode::Table {
                name: stringify!($name),
                doc: concat!($($doc),*),
                fields: &[
                    $(
                        $crate::decode::Field {
                            name: $json,
                            fate: $crate::decode::Fate::Honoured {
                                required: $crate::decode::record!(@required $mode),
                                schema: <$type as $crate::decode::Decode>::schema,
                            },
                        },
                        $($crate::decode::Field {
                            name: $alias,
                            fate: $crate::decode::Fate::Honoured {
                                required: false,
                                schema: <$type as $crate::decode::Decode>::schema,
                            },
                        },)*
                    )*
                    $($($crate::decode::Field {
                        name: $descriptive,
                        fate: $crate::decode::Fate::Descriptive,
                    },)*)?
                    $($($crate::decode::Field {
                        name: $not_yet,
                        fate: $crate::decode::Fate::NotYet { harmless: &[$($($harmless),*)?] },
                    },)*)?
                    $($($crate::decode::Field {
                        name: $refused,
                        fate: $crate::decode::Fate::Refused {
                            harmless: &[$($($same),*)?],
                            why: $why,
                        },
                    },)*)?
                    $($($crate::decode::Field {
                        name: $rejected,
                        fate: $crate::decode::Fate::Rejected { harmless: &[$($($null),*)?] },
                    },)*)?
                    $($($crate::decode::Field {
                        name: $output,
                        fate: $crate::decode::Fate::OutputOnly,
                    },)*)?
                ],
                probe: |node, findings| {
                    let _ = <$name as $crate::decode::Decode>::decode(node, findings);
                },
            };
        }

        impl $crate::decode::Decode for $name {
            #[allow(unused_mut, unused_assignments)]
            fn decode(
                node: &$crate::node::Node<'_>,
                findings: &mut $crate::diagnostic::Findings,
            ) -> Option<Self> {
                let $crate::node::Kind::Map(entries) = &node.kind else {
                    $crate::decode::wrong_type(node, concat!("a mapping (", stringify!($name), ")"), findings);
                    return None;
                };
                let mut faulty = false;
                let mut meant: Vec<&'static str> = Vec::new();
                $(let mut $field: $crate::decode::Slot<$type> = $crate::decode::Slot::Absent;)*
                for (key, value) in entries {
                    match &*key.text {
                        $($json $(| $alias)* => {
                            $crate::decode::fill(&mut $field, &mut faulty, key, value, findings);
                        })*
                        _ => match $crate::decode::other_field(&Self::TABLE, key, value, findings) {
                            $crate::decode::Other::Fine => {}
                            $crate::decode::Other::Meant(field) => {
                                faulty = true;
                                meant.push(field);
                            }
                            $crate::decode::Other::Refused => faulty = true,
                        },
                    }
                }
                let mut complete = true;
                $(
                    $crate::decode::record!(@check $mode $field $json complete meant node findings $name);
                )*
                if !complete {
                    return None;
                }
                $(let $field = $crate::decode::record!(@finish $mode $field);)*
                Some($name { at: node.at, faulty, $($field),* })
            }

            fn schema(schema: &mut $crate::schema::Schema) -> serde_json::Value {
                schema.reference(&Self::TABLE)
            }
        }
    };
    (@type req $type:ty) => { $type };
    (@type opt $type:ty) => { Option<$type> };
    (@type def $type:ty) => { $type };
    (@required req) => { true };
    (@required opt) => { false };
    (@required def) => { false };
    (@check req $field:ident $json:literal $complete:ident $meant:ident $node:ident $findings:ident $name:ident) => {
        if !matches!($field, $crate::decode::Slot::Value(_)) {
            $complete = false;
        }
        if matches!($field, $crate::decode::Slot::Absent) && !$meant.contains(&$json) {
            $findings.error(
                $crate::diagnostic::Code::MissingField,
                $node.at,
                concat!("`", $json, "` is missing; ", stringify!($name), " cannot be without it"),
                concat!("add `", $json, "`"),
            );
        }
    };
    (@check $mode:ident $field:ident $json:literal $complete:ident $meant:ident $node:ident $findings:ident $name:ident) => {};
    (@finish req $field:ident) => {
        match $field.value() {
            Some(value) => value,
            None => return None,
        }
    };
    (@finish opt $field:ident) => { $field.value() };
    (@finish def $field:ident) => { $field.value().unwrap_or_default() };
}
pub(crate) use record;

/// A closed set of words.
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident { $($variant:ident = $word:literal $(| $alias:literal)* ;)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant,)* }

        impl $crate::decode::Decode for $name {
            fn decode(
                node: &$crate::node::Node<'_>,
                findings: &mut $crate::diagnostic::Findings,
            ) -> Option<Self> {
                let text = <String as $crate::decode::Decode>::decode(node, findings)?;
                match &*text {
                    $($word $(| $alias)* => Some($name::$variant),)*
                    _ => {
                        $crate::decode::not_a_word(node.at, &text, &[$($word,)*], findings);
                        None
                    }
                }
            }

            fn schema(_: &mut $crate::schema::Schema) -> serde_json::Value {
                serde_json::json!({"enum": [$($word, $($alias,)*)*]})
            }
        }
    };
}
pub(crate) use words;

pub(crate) fn not_a_word(at: Mark, text: &str, words: &[&str], findings: &mut Findings) {
    let fix = match similar::closest(text, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write one of {}", words.join(", ")),
    };
    findings.error(
        Code::InvalidValue,
        at,
        format!("`{text}` is no value of this field; it takes {}", words.join(", ")),
        fix,
    );
}
