//! Annotations and labels under Google's and Knative's own prefixes are fields like others.

use crate::decode::{At, Fate, Field, Int, Number, Text, not_a_word, rejected};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::Count;
use crate::fields::network::Texts;
use crate::similar;

/// Annotations, to be read by name.
#[derive(Clone, Copy)]
pub(super) struct Annotations<'t>(pub(super) &'t Texts);

impl Annotations<'_> {
    pub(super) fn get(self, name: &str) -> Option<Text> {
        let mut all = self.0.0.iter();
        all.find(|(key, _)| key.as_str() == name).map(|(_, value)| value.clone())
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(
        self,
        name: &str,
        words: &[(&str, T)],
        findings: &mut Findings,
    ) -> Option<At<T>> {
        let text = self.get(name)?;
        let found = words.iter().find(|(word, _)| *word == text.as_str());
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            not_a_word(text.at, &text, &words, findings);
        }
        found.map(|(_, value)| At { at: text.at, value: *value })
    }

    /// `"true"` or `"false"`.
    pub(super) fn flag(self, name: &str, findings: &mut Findings) -> Option<bool> {
        self.word(name, &[("true", true), ("false", false)], findings).map(|flag| flag.value)
    }

    /// A number of instances under one of these spellings.
    pub(super) fn count(self, names: &[&str], findings: &mut Findings) -> Option<Count> {
        let text = names.iter().find_map(|name| self.get(name))?;
        let number = text.parse::<i64>().ok().filter(|number| (0..=100_000).contains(number));
        if number.is_none() {
            findings.error(
                Code::ServiceScaling,
                text.at,
                format!("`{}` is no number of instances", text.value),
                "write a whole number in quotes",
            );
        }
        number.map(|number| At { at: text.at, value: Int(number) })
    }

    /// A share.
    pub(super) fn number(self, name: &str, findings: &mut Findings) -> Option<At<Number>> {
        let text = self.get(name)?;
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        if number.is_none() {
            findings.error(
                Code::ServiceScaling,
                text.at,
                format!("`{}` is no number", text.value),
                "write a number such as \"0.6\"",
            );
        }
        number.map(|number| At { at: text.at, value: Number(number) })
    }

    /// A JSON list of texts inside a text.
    pub(super) fn texts(self, name: &str, findings: &mut Findings) -> Vec<Text> {
        let Some(text) = self.get(name) else { return Vec::new() };
        match serde_json::from_str::<Vec<String>>(&text) {
            Ok(list) => list.into_iter().map(|value| At { at: text.at, value }).collect(),
            Err(_) => {
                not_json(&text, "a JSON list of texts", findings);
                Vec::new()
            }
        }
    }
}

pub(super) fn not_json(text: &Text, expected: &str, findings: &mut Findings) {
    findings.error(
        Code::WrongType,
        text.at,
        format!("the annotation holds no {}", expected.trim_start_matches("a ")),
        format!("write {expected}, in quotes"),
    );
}

/// Judges annotations or labels under Google's and Knative's own prefixes; others are the user's.
pub(super) fn judge(texts: &Texts, what: &str, table: &[Field], findings: &mut Findings) {
    for (key, value) in &texts.0 {
        let own = [
            "run.googleapis.com/",
            "cloud.googleapis.com/",
            "serving.knative.dev/",
            "autoscaling.knative.dev/",
            "client.knative.dev/",
        ];
        if own.iter().any(|prefix| key.starts_with(prefix)) {
            judge_one(key, value, key.at, what, table, findings);
        }
    }
}

fn judge_one(
    key: &str,
    value: &Text,
    at: Mark,
    what: &str,
    table: &[Field],
    findings: &mut Findings,
) {
    let Some(field) = table.iter().find(|field| field.name == key) else {
        let fix = match similar::closest(key, table.iter().map(|field| field.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("remove it; own {what}s stand under a prefix of their own"),
        };
        findings.error(
            Code::UnknownField,
            at,
            format!("there is no {what} `{key}` here; it would be ignored silently"),
            fix,
        );
        return;
    };
    match field.fate {
        Fate::NotYet { harmless } if !harmless.contains(&value.as_str()) => findings.warning(
            Code::NotYetHonoured,
            at,
            format!("`{key}` is known, but has no effect in this release"),
            "remove it to silence this warning; nothing else depends on it here",
        ),
        Fate::Refused { harmless, why } if !harmless.contains(&value.as_str()) => findings.error(
            Code::NotYetSupported,
            at,
            format!("`{key}` is not supported yet; {why}"),
            "remove it; a release that honours it will read it",
        ),
        Fate::Rejected { harmless } if !harmless.contains(&value.as_str()) => {
            rejected(key, at, findings);
        }
        _ => {}
    }
}
