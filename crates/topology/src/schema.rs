//! The JSON Schema of the topology format, made from the tables of fields.

use crate::decode::{Decode, Fate, Table};
use crate::fields::document::Document;
use serde_json::{Map, Value, json};

/// Collects the definitions that a schema refers to.
#[derive(Default)]
pub(crate) struct Schema {
    definitions: Map<String, Value>,
    /// Every table met, once.
    pub(crate) tables: Vec<&'static Table>,
}

impl Schema {
    /// A reference to the definition of a table, which is added when it is met first.
    pub(crate) fn reference(&mut self, table: &'static Table) -> Value {
        if !self.definitions.contains_key(table.name) {
            // In place before its fields are looked at, so that circles end.
            self.definitions.insert(table.name.to_owned(), Value::Null);
            self.tables.push(table);
            let definition = self.definition(table);
            self.definitions.insert(table.name.to_owned(), definition);
        }
        json!({"$ref": format!("#/$defs/{}", table.name)})
    }

    fn definition(&mut self, table: &'static Table) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in table.fields {
            let property = match field.fate {
                Fate::Honoured { required: needed, schema } => {
                    if needed {
                        required.push(field.name);
                    }
                    schema(self)
                }
                Fate::Descriptive => json!({"description": "Without effect on traffic."}),
                Fate::NotYet { .. } => {
                    json!({"description": "Known, not honoured in this release.", "deprecated": true})
                }
                Fate::Refused { why, .. } => {
                    json!({"description": format!("Refused in this release: {why}."), "deprecated": true})
                }
                Fate::Rejected { .. } => {
                    json!({"description": "Refused by the real product too.", "deprecated": true})
                }
                Fate::OutputOnly => json!({"description": "Output only.", "readOnly": true}),
            };
            properties.insert(field.name.to_owned(), property);
        }
        let mut definition = json!({
            "description": table.doc.trim(),
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            definition["required"] = json!(required);
        }
        definition
    }
}

/// The JSON Schema (2020-12) of one topology document, for editors.
pub fn json_schema() -> Value {
    let mut schema = Schema::default();
    let document = Document::schema(&mut schema);
    let exports: Vec<Value> = crate::export::kinds()
        .map(|(word, make)| {
            let export = make(&mut schema);
            json!({"if": {"properties": {"kind": {"const": word}}, "required": ["kind"]}, "then": export})
        })
        .collect();
    let knative = crate::fields::knative::KnativeService::schema(&mut schema);
    let knative_revision = crate::fields::knative::KnativeRevision::schema(&mut schema);
    let of_kind =
        |kind| json!({"required": ["apiVersion", "kind"], "properties": {"kind": {"const": kind}}});
    let mut all = vec![
        json!({"if": of_kind("Service"), "then": knative}),
        json!({"if": of_kind("Revision"), "then": knative_revision}),
    ];
    let service = crate::fields::cloud_run::Service::schema(&mut schema);
    all.push(json!({
        "if": {"required": ["name", "template"], "not": {"required": ["kind"]}},
        "then": service,
    }));
    let revision = crate::fields::cloud_run::Revision::schema(&mut schema);
    all.push(json!({
        "if": {"required": ["name", "containers"], "not": {"required": ["kind"]}},
        "then": revision,
    }));
    let alone = [["kind"].as_slice(), &["name", "template"], &["name", "containers"]];
    let alone: Vec<Value> = alone.iter().map(|keys| json!({"required": keys})).collect();
    all.push(json!({
        "if": {"not": {"anyOf": alone}},
        "then": document,
    }));
    all.extend(exports);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Postern topology document",
        "description": "One document of a topology file: collections of resources in Google's own shapes, a raw export of one resource, or a Knative Service.",
        "type": "object",
        "allOf": all,
        "$defs": schema.definitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Findings;
    use crate::node::parse;
    use proptest::prelude::*;

    /// Every table that a document can reach.
    fn tables() -> Vec<&'static Table> {
        let mut schema = Schema::default();
        Document::schema(&mut schema);
        crate::fields::knative::KnativeService::schema(&mut schema);
        crate::fields::knative::KnativeRevision::schema(&mut schema);
        crate::export::kinds().for_each(|(_, make)| drop(make(&mut schema)));
        schema.tables
    }

    fn probe(table: &Table, text: &str) -> Vec<(String, u32, u32)> {
        let mut findings = Findings::default();
        let parsed = parse(text, 0, &mut findings);
        (table.probe)(&parsed.documents[0], &mut findings);
        let short = |d: crate::Diagnostic| (d.code.to_owned(), d.at.line, d.at.column);
        findings.finish().into_iter().map(short).collect()
    }

    #[test]
    fn an_unknown_key_is_refused_in_every_table() {
        assert!(tables().len() > 80);
        for table in tables() {
            let found = probe(table, "{zzzNoSuchField: {a: [1]}}");
            assert!(
                found.contains(&("UNKNOWN_FIELD".to_owned(), 1, 2)),
                "{}: {found:?}",
                table.name
            );
        }
    }

    #[test]
    fn every_field_of_every_table_is_judged_by_its_fate() {
        for table in tables() {
            for field in table.fields {
                let has = |value: &str, code: &str| {
                    let found = probe(table, &format!("{{\"{}\": {value}}}", field.name));
                    found.iter().any(|(found, ..)| found == code)
                };
                let what = format!("{}.{}", table.name, field.name);
                assert!(!has("null", "UNKNOWN_FIELD"), "{what}");
                let (not_yet, refused) =
                    (has("{a: b}", "NOT_YET_HONOURED"), has("{a: b}", "NOT_YET_SUPPORTED"));
                match field.fate {
                    Fate::NotYet { harmless } => {
                        assert!(not_yet, "{what}");
                        for word in harmless {
                            assert!(
                                !has(&format!("\"{word}\""), "NOT_YET_HONOURED"),
                                "{what} {word}"
                            );
                        }
                    }
                    Fate::Refused { .. } => assert!(refused, "{what}"),
                    Fate::Rejected { harmless } => {
                        assert!(has("{a: b}", "FIELD_NOT_SUPPORTED"), "{what}");
                        for word in harmless {
                            let said = format!("\"{word}\"");
                            assert!(!has(&said, "FIELD_NOT_SUPPORTED"), "{what} {word}");
                        }
                    }
                    _ => assert!(!not_yet && !refused, "{what}"),
                }
            }
        }
    }

    #[test]
    fn a_table_names_each_field_once() {
        let mut names = std::collections::HashSet::new();
        for table in tables() {
            assert!(names.insert(table.name), "{}", table.name);
            let mut fields = std::collections::HashSet::new();
            for field in table.fields {
                assert!(fields.insert(field.name), "{}.{}", table.name, field.name);
            }
        }
    }

    #[test]
    fn the_schema_refers_only_to_what_it_defines() {
        fn refs<'v>(value: &'v Value, all: &mut Vec<&'v str>) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, value)| match value {
                    Value::String(to) if key == "$ref" => all.push(to),
                    value => refs(value, all),
                }),
                Value::Array(list) => list.iter().for_each(|value| refs(value, all)),
                _ => {}
            }
        }
        let schema = json_schema();
        let mut all = Vec::new();
        refs(&schema, &mut all);
        assert!(all.len() > 80);
        for to in all {
            let pointer = to.trim_start_matches('#');
            assert!(schema.pointer(pointer).is_some_and(Value::is_object), "{to}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_known_or_refused(key in "[a-zA-Z_#/.-]{1,24}", pick in any::<prop::sample::Index>()) {
            let tables = tables();
            let table = tables[pick.index(tables.len())];
            let known = table.fields.iter().any(|field| field.name == key);
            let found = probe(table, &format!("{{\"{key}\": 1}}"));
            let refused = found.iter().any(|(code, ..)| code == "UNKNOWN_FIELD");
            prop_assert_eq!(refused, !known);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[ -~\n\t]{0,200}") {
            let sources = vec![("a.yaml".into(), text)];
            let loaded = crate::load_sources(sources, std::path::Path::new("/"));
            prop_assert!(loaded.topology.is_some() || loaded.has_errors());
        }
    }
}
