//! Paths: what a pattern matches, and which portion of the path it stands for.

use regex::Regex;
use slice::load_balancer::{MatchRule, PathPredicate};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// What a rule found in a path.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Length of the matched portion: what `pathPrefixRewrite` and `prefixRedirect` replace (2.6).
    pub(crate) portion: usize,
    /// Variables of a path template.
    pub(crate) variables: BTreeMap<String, String>,
}

/// A path rule (2.4): exact, or everything below a slash.
pub(crate) fn path_rule(pattern: &str, path: &str) -> Option<Found> {
    let portion = match pattern.strip_suffix('*') {
        Some(prefix) if path.starts_with(prefix) => prefix.len(),
        None if path == pattern => path.len(),
        _ => return None,
    };
    Some(Found { portion, ..Found::default() })
}

/// The path predicate of a match rule (2.5).
pub(crate) fn predicate(rule: &MatchRule, path: &str) -> Option<Found> {
    let fold = |text: &str| match rule.ignore_case {
        true => text.to_ascii_lowercase(),
        false => text.to_owned(),
    };
    let whole = Found { portion: path.len(), ..Found::default() };
    match &rule.path {
        PathPredicate::PrefixMatch(prefix) => fold(path)
            .starts_with(&fold(prefix))
            .then(|| Found { portion: prefix.len(), ..Found::default() }),
        PathPredicate::FullPathMatch(full) => (fold(path) == fold(full)).then_some(whole),
        PathPredicate::RegexMatch(pattern) => full_match(pattern, path).then_some(whole),
        PathPredicate::PathTemplateMatch(pattern) => {
            let variables = template(&elements(pattern), path)?;
            Some(Found { portion: path.len(), variables: variables.into_iter().collect() })
        }
    }
}

/// RE2, whole match.
pub(crate) fn full_match(pattern: &str, text: &str) -> bool {
    regex(&format!("^(?:{pattern})$")).is_match(text)
}

/// The alphabets are small, so each pattern is compiled once.
pub(crate) fn regex(pattern: &str) -> Regex {
    thread_local!(static KNOWN: RefCell<HashMap<String, Regex>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        let compiled = || Regex::new(pattern).expect("a pattern");
        known.entry(pattern.to_owned()).or_insert_with(compiled).clone()
    })
}

/// A path template in pieces.
#[derive(Clone, Debug, PartialEq)]
enum Element {
    Text(String),
    /// `*`: one segment, not empty.
    One,
    /// `**`: whatever is left.
    Rest,
    Variable(String, Vec<Element>),
}

fn elements(pattern: &str) -> Vec<Element> {
    let mut all = Vec::new();
    let mut left = pattern;
    while let Some(first) = left.chars().next() {
        let (element, length) = if let Some(inner) = left.strip_prefix('{') {
            let inner = &inner[..inner.find('}').expect("a closing brace")];
            let (name, value) = inner.split_once('=').unwrap_or((inner, "*"));
            (Element::Variable(name.to_owned(), elements(value)), inner.len() + 2)
        } else if left.starts_with("**") {
            (Element::Rest, 2)
        } else if first == '*' {
            (Element::One, 1)
        } else {
            let end = left.find(['*', '{']).unwrap_or(left.len());
            (Element::Text(left[..end].to_owned()), end)
        };
        all.push(element);
        left = &left[length..];
    }
    all
}

/// Matches all of `path`. There is one way at most: `*` takes a whole segment, `**` is last.
fn template(elements: &[Element], path: &str) -> Option<Vec<(String, String)>> {
    let mut variables = Vec::new();
    let left = walk(elements, path, &mut variables)?;
    left.is_empty().then_some(variables)
}

fn walk<'p>(
    elements: &[Element],
    mut left: &'p str,
    variables: &mut Vec<(String, String)>,
) -> Option<&'p str> {
    for element in elements {
        left = match element {
            Element::Text(text) => left.strip_prefix(text.as_str())?,
            Element::One => {
                let end = left.find('/').unwrap_or(left.len());
                if end == 0 {
                    return None;
                }
                &left[end..]
            }
            Element::Rest => "",
            Element::Variable(name, inner) => {
                let after = walk(inner, left, variables)?;
                variables.push((name.clone(), left[..left.len() - after.len()].to_owned()));
                after
            }
        };
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of 2.5.
    #[test]
    fn the_documented_template_yields_its_variables() {
        let pattern = "/xyzwebservices/v2/xyz/users/{username=*}/carts/{cartid=**}";
        let path =
            "/xyzwebservices/v2/xyz/users/abc@xyz.com/carts/FL0001090004/entries/SJFI38u3401nms";
        let found = template(&elements(pattern), path).expect("a match");
        let expected =
            [("username", "abc@xyz.com"), ("cartid", "FL0001090004/entries/SJFI38u3401nms")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(template(&elements("/a/{x=b/*}"), "/a/b/"), None);
        assert_eq!(template(&elements("/a/**"), "/a"), None);
    }

    /// The table of 2.4.
    #[test]
    fn a_wildcard_is_not_for_the_path_without_its_slash() {
        assert!(path_rule("/video/*", "/video").is_none());
        assert!(path_rule("/video/*", "/video/").is_some());
        assert!(path_rule("/video/hd", "/video/hd").is_some());
    }
}
