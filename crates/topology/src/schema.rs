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
    let mut all = vec![json!({
        "if": {"required": ["apiVersion", "kind"]},
        "then": knative,
    })];
    all.push(json!({
        "if": {"not": {"required": ["kind"]}},
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
