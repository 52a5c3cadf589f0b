//! Route rules: priorities and match rules (private-connectivity 2.5).

use super::Lowering;
use super::routes::{Lead, header_action};
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::url_maps::{HeaderMatch, MatchRule, PathMatcher, QueryParameterMatch, UrlMap};
use crate::model::Item;
use slice::load_balancer as lb;
use std::collections::HashMap;
use url_map::{HeaderTest, PathTest, QueryTest};

/// What counts against the limits of one path matcher (2.2).
#[derive(Default)]
struct Counts {
    predicates: usize,
    templates: usize,
    regexes: usize,
}

impl Lowering<'_> {
    pub(crate) fn route_rules(
        &self,
        item: &Item<UrlMap>,
        matcher: &PathMatcher,
        findings: &mut Findings,
    ) -> Vec<lb::RouteRule> {
        let mut priorities: HashMap<i64, Mark> = HashMap::new();
        let mut counts = Counts::default();
        let mut all = Vec::with_capacity(matcher.route_rules.len());
        for rule in &matcher.route_rules {
            if let Some(first) = priorities.insert(rule.priority.value.0, rule.priority.at) {
                let first = findings.position(first);
                findings.error(
                    Code::RouteRule,
                    rule.priority.at,
                    format!(
                        "the priority {} is another rule's already, at {first}",
                        rule.priority.value.0
                    ),
                    "give each route rule of a path matcher a priority of its own",
                );
            }
            if rule.match_rules.is_empty() {
                findings.error(
                    Code::RouteRule,
                    rule.match_rules.at,
                    "the route rule has no match rule; it would match nothing",
                    "add a match rule, such as {prefixMatch: /}",
                );
            }
            if let Some(text) = &rule.description {
                let length = text.chars().count();
                self.limit(length, 1024, text.at, "characters in a description", findings);
            }
            let (mut match_rules, mut templates) = (Vec::new(), Vec::new());
            for raw in rule.match_rules.iter() {
                let Some((compiled, path)) = self.match_rule(raw, &mut counts, findings) else {
                    continue;
                };
                if let PathTest::Template(template) = path {
                    templates.push(template);
                }
                match_rules.push(compiled);
            }
            let templates: Vec<_> = match templates.len() == rule.match_rules.len() {
                true => templates.iter().collect(),
                false => Vec::new(),
            };
            let lead = Lead {
                at: rule.at,
                faulty: rule.faulty,
                service: rule.service.as_ref(),
                redirect: rule.url_redirect.as_ref(),
                action: rule.route_action.as_ref(),
                field: "service",
                templates: &templates,
            };
            let route = self.route(item, &lead, findings);
            let header_action = header_action(rule.header_action.as_ref(), findings);
            all.extend(route.map(|route| lb::RouteRule {
                priority: u32::try_from(rule.priority.value.0).unwrap_or(u32::MAX),
                description:
                    rule.description.as_ref().map_or_else(String::new, |d| d.value.clone()),
                match_rules,
                route,
                header_action,
            }));
        }
        let at = matcher.at;
        self.limit(matcher.route_rules.len(), 1000, at, "route rules in a path matcher", findings);
        self.limit(counts.predicates, 1000, at, "predicates in a path matcher", findings);
        self.limit(counts.templates, 100, at, "path templates in a path matcher", findings);
        self.limit(counts.regexes, 5, at, "regular expressions in a path matcher", findings);
        all.sort_by_key(|rule| rule.priority);
        all
    }

    fn match_rule(
        &self,
        raw: &MatchRule,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Option<(lb::MatchRule, PathTest)> {
        let ignore_case = raw.ignore_case.as_ref().is_some_and(|ignore| ignore.value);
        let forms = [
            (&raw.prefix_match, lb::PathPredicate::PrefixMatch as fn(String) -> _),
            (&raw.full_path_match, lb::PathPredicate::FullPathMatch),
            (&raw.regex_match, lb::PathPredicate::RegexMatch),
            (&raw.path_template_match, lb::PathPredicate::PathTemplateMatch),
        ];
        let mut given = forms.into_iter().filter_map(|(text, form)| Some((text.as_ref()?, form)));
        let Some((text, form)) = given.next() else {
            if !raw.faulty {
                findings.error(
                    Code::RouteRule,
                    raw.at,
                    "the match rule says nothing of the path; it takes exactly one of prefixMatch, fullPathMatch, regexMatch and pathTemplateMatch",
                    "add `prefixMatch: /` for any path",
                );
            }
            return None;
        };
        if let Some((other, _)) = given.next() {
            findings.error(
                Code::ConflictingFields,
                other.at,
                "the match rule says more than one thing of the path; it takes one of prefixMatch, fullPathMatch, regexMatch and pathTemplateMatch",
                "write a second match rule for the other one",
            );
            return None;
        }
        self.limit(text.len(), 1024, text.at, "characters in a path match", findings);
        let path = form(text.value.clone());
        match &path {
            lb::PathPredicate::RegexMatch(_) => self.regex(text, counts, findings),
            lb::PathPredicate::PathTemplateMatch(_) => counts.templates += 1,
            _ => counts.predicates += 1,
        }
        let compiled = match PathTest::parse(&path, ignore_case) {
            Ok(compiled) => Some(compiled),
            Err(why) => {
                findings.error(Code::RouteRule, text.at, why.to_string(), "correct the match rule");
                None
            }
        };
        counts.predicates += raw.header_matches.len() + raw.query_parameter_matches.len();
        let headers: Vec<_> = raw
            .header_matches
            .iter()
            .filter_map(|raw| self.header_match(raw, counts, findings))
            .collect();
        let queries: Vec<_> = raw
            .query_parameter_matches
            .iter()
            .filter_map(|raw| self.query_match(raw, counts, findings))
            .collect();
        let rule = lb::MatchRule {
            path,
            ignore_case,
            header_matches: headers,
            query_parameter_matches: queries,
        };
        Some((rule, compiled?))
    }

    fn regex(&self, text: &Text, counts: &mut Counts, findings: &mut Findings) {
        counts.regexes += 1;
        let length = text.chars().count();
        self.limit(length, 250, text.at, "characters in a regular expression", findings);
    }

    fn header_match(
        &self,
        raw: &HeaderMatch,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Option<lb::HeaderMatch> {
        use lb::HeaderPredicate as Predicate;
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        let range = raw.range_match.as_ref().map(|range| Predicate::RangeMatch {
            start: range.range_start.map_or(0, |start| start.0),
            end: range.range_end.map_or(0, |end| end.0),
        });
        let present = raw.present_match.as_ref().map(|present| present.value);
        let given = [
            text(&raw.exact_match).map(Predicate::ExactMatch),
            text(&raw.prefix_match).map(Predicate::PrefixMatch),
            text(&raw.suffix_match).map(Predicate::SuffixMatch),
            text(&raw.regex_match).map(Predicate::RegexMatch),
            present.map(Predicate::PresentMatch),
            range,
        ];
        let kinds = "exactMatch, prefixMatch, suffixMatch, regexMatch, presentMatch and rangeMatch";
        let value = exactly_one(given, (raw.at, raw.faulty), kinds, findings)?;
        if let Some(text) = &raw.regex_match {
            self.regex(text, counts, findings);
        }
        let header_match = lb::HeaderMatch {
            header_name: raw.header_name.value.clone(),
            value,
            invert_match: raw.invert_match.unwrap_or(false),
        };
        if let Err(why) = HeaderTest::parse(&header_match) {
            findings.error(Code::RouteRule, raw.at, why.to_string(), "correct the header match");
            return None;
        }
        Some(header_match)
    }

    fn query_match(
        &self,
        raw: &QueryParameterMatch,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Option<lb::QueryParameterMatch> {
        use lb::QueryPredicate as Predicate;
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        let given = [
            text(&raw.exact_match).map(Predicate::ExactMatch),
            text(&raw.regex_match).map(Predicate::RegexMatch),
            raw.present_match.as_ref().map(|present| Predicate::PresentMatch(present.value)),
        ];
        let kinds = "exactMatch, regexMatch and presentMatch";
        let value = exactly_one(given, (raw.at, raw.faulty), kinds, findings)?;
        if let Some(text) = &raw.regex_match {
            self.regex(text, counts, findings);
        }
        let query_match = lb::QueryParameterMatch { name: raw.name.value.clone(), value };
        if let Err(why) = QueryTest::parse(&query_match) {
            findings.error(Code::RouteRule, raw.at, why.to_string(), "correct the match");
            return None;
        }
        Some(query_match)
    }
}

/// Of the fields of a match exactly one may stand.
fn exactly_one<T, const N: usize>(
    given: [Option<T>; N],
    (at, faulty): (Mark, bool),
    kinds: &str,
    findings: &mut Findings,
) -> Option<T> {
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(one), None) => Some(one),
        (None, _) if faulty => None,
        (first, _) => {
            let what = if first.is_some() { "more than one" } else { "none" };
            findings.error(
                Code::RouteRule,
                at,
                format!("the match has {what} of {kinds}; it takes exactly one"),
                "leave exactly one",
            );
            None
        }
    }
}
