//! Route rules in the order of their priorities (private-connectivity 2.5), and an index over the
//! literal beginnings of their paths, so that a request is held against the few rules that its path
//! can match, however many there are.

use crate::predicate::PathTest;
use crate::request::RequestHead;
use crate::route::RouteRule;
use crate::table::{Lengths, TextMap};

/// So many match rules are sooner looked at than looked up.
const INDEXED_MIN: usize = 8;

/// The route rules of one path matcher.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteTable {
    rules: Vec<RouteRule>,
    index: Option<Box<Index>>,
}

/// Position of a rule and of one of its match rules: the order in which they are asked.
type Place = (u32, u32);

/// Which match rules a path can match. Only a filter: the match rule itself is always asked.
#[derive(Clone, Debug, Default)]
struct Index {
    /// Full paths → number of a group.
    full: TextMap,
    /// Literal beginnings → number of a group.
    beginnings: TextMap,
    lengths: Lengths,
    /// Without a literal beginning: regular expressions, and what ignores case.
    any: Vec<Place>,
    /// Where the places of each group end.
    ends: Vec<u32>,
    /// Group by group, in order.
    places: Vec<Place>,
}

impl RouteTable {
    /// `rules` sorted by priority.
    pub(crate) fn new(rules: Vec<RouteRule>) -> RouteTable {
        let count: usize = rules.iter().map(|rule| rule.match_rules.len()).sum();
        let index = (count >= INDEXED_MIN).then(|| Box::new(Index::new(&rules)));
        RouteTable { rules, index }
    }

    /// All rules, by priority.
    pub(crate) fn rules(&self) -> &[RouteRule] {
        &self.rules
    }

    /// The rule of the lowest priority that matches, and its first match rule that does.
    pub(crate) fn find(&self, head: &RequestHead<'_>) -> Option<(&RouteRule, usize)> {
        match &self.index {
            None => self.scan(head),
            Some(index) => {
                let (rule, match_rule) = index.find(head, |place| self.matches(place, head))?;
                Some((self.rules.get(rule as usize)?, match_rule as usize))
            }
        }
    }

    fn scan(&self, head: &RequestHead<'_>) -> Option<(&RouteRule, usize)> {
        self.rules.iter().find_map(|rule| {
            let mut all = rule.match_rules.iter();
            Some((rule, all.position(|one| one.failed(head).is_none())?))
        })
    }

    fn matches(&self, (rule, match_rule): Place, head: &RequestHead<'_>) -> bool {
        let rule = self.rules.get(rule as usize);
        let match_rule = rule.and_then(|rule| rule.match_rules.get(match_rule as usize));
        match_rule.is_some_and(|one| one.failed(head).is_none())
    }
}

impl Index {
    fn new(rules: &[RouteRule]) -> Index {
        let mut index = Index::default();
        let mut grouped: Vec<(u32, Place)> = Vec::new();
        let mut groups = 0;
        for (at, rule) in (0u32..).zip(rules) {
            for (n, one) in (0u32..).zip(&rule.match_rules) {
                let (table, text) = match &one.path {
                    PathTest::Full(text, false) => (&mut index.full, &**text),
                    PathTest::Prefix(text, false) => (&mut index.beginnings, &**text),
                    PathTest::Template(template) => {
                        (&mut index.beginnings, template.literal_beginning())
                    }
                    PathTest::Full(_, true) | PathTest::Prefix(_, true) | PathTest::Regex(_) => {
                        index.any.push((at, n));
                        continue;
                    }
                };
                if !matches!(one.path, PathTest::Full(..)) {
                    index.lengths.insert(text.len());
                }
                let group = match table.get(text.as_bytes()).map(|(_, group)| group) {
                    Some(group) => group,
                    None if table.insert(text, groups).is_ok() => {
                        groups += 1;
                        groups - 1
                    }
                    // More text than the table holds: the rule is asked each time.
                    None => {
                        index.any.push((at, n));
                        continue;
                    }
                };
                grouped.push((group, (at, n)));
            }
        }
        grouped.sort_unstable();
        index.ends = vec![0; groups as usize];
        for (end, (group, place)) in (1u32..).zip(grouped) {
            index.ends[group as usize] = end;
            index.places.push(place);
        }
        index
    }

    fn group(&self, number: u32) -> &[Place] {
        let number = number as usize;
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before));
        let end = self.ends.get(number).copied().unwrap_or_default();
        let start = start.copied().unwrap_or_default();
        self.places.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The first place in order that matches.
    fn find(&self, head: &RequestHead<'_>, matches: impl Fn(Place) -> bool) -> Option<Place> {
        let mut first: Option<Place> = None;
        let mut look = |places: &[Place]| {
            let sooner = places.iter().take_while(|place| first.is_none_or(|one| **place < one));
            if let Some(place) = sooner.into_iter().find(|place| matches(**place)) {
                first = Some(*place);
            }
        };
        let path = head.path.as_bytes();
        if let Some((_, group)) = self.full.get(path) {
            look(self.group(group));
        }
        for length in (1..=self.lengths.max().min(path.len())).rev() {
            if self.lengths.contains(length)
                && let Some((_, group)) = self.beginnings.get(&path[..length])
            {
                look(self.group(group));
            }
        }
        look(&self.any);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::{Index, RouteTable};
    use crate::predicate::MatchRule;
    use crate::request::RequestHead;
    use crate::route::{Route, RouteRule, To};
    use proptest::prelude::*;
    use slice::load_balancer as raw;

    fn predicate() -> impl Strategy<Value = raw::PathPredicate> {
        use raw::PathPredicate::*;
        prop_oneof![
            "(/[ab]{0,2}){1,3}".prop_map(PrefixMatch),
            "(/[ab]{0,2}){1,3}".prop_map(FullPathMatch),
            prop::sample::select(vec!["/a.*", ".*b", "/[ab]/?"])
                .prop_map(|text| RegexMatch(text.into())),
            prop::sample::select(vec!["/a/*", "/{x}", "/a/{x=**}", "/**", "/a/b", "/{x=a/*}/b"])
                .prop_map(|text| PathTemplateMatch(text.into())),
        ]
    }

    fn match_rule() -> impl Strategy<Value = raw::MatchRule> {
        (predicate(), any::<bool>(), prop::option::of("[ab]")).prop_map(|(path, fold, query)| {
            let foldable = matches!(
                path,
                raw::PathPredicate::PrefixMatch(_) | raw::PathPredicate::FullPathMatch(_)
            );
            let query = query.map(|value| raw::QueryParameterMatch {
                name: "q".into(),
                value: raw::QueryPredicate::ExactMatch(value),
            });
            raw::MatchRule {
                path,
                ignore_case: fold && foldable,
                header_matches: vec![],
                query_parameter_matches: query.into_iter().collect(),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_index_finds_what_a_scan_finds(
            rules in prop::collection::vec(prop::collection::vec(match_rule(), 1..4), 1..12),
            requests in prop::collection::vec("(/[abA]{0,2}){1,4}(\\?q=[ab])?", 1..20),
        ) {
            let rules = (0u32..).zip(&rules).map(|(priority, rules)| RouteRule {
                priority,
                description: String::new(),
                match_rules: rules.iter().map(|one| MatchRule::parse(one).unwrap()).collect(),
                route: Route { to: To::Service(priority), action: None },
                header_action: None,
            });
            let mut table = RouteTable::new(rules.collect());
            table.index = Some(Box::new(Index::new(&table.rules)));
            for request in requests {
                let head = RequestHead::new("h", &request);
                let of = |found: Option<(&RouteRule, usize)>| found.map(|(rule, n)| (rule.priority, n));
                prop_assert_eq!(of(table.find(&head)), of(table.scan(&head)), "{}", request);
            }
        }
    }
}
