//! Which revision of a service a request gets (cloud-run 3.2): traffic targets resolved against the
//! revisions that there are, then one look into a table per request.

use slice::run::TrafficTarget;
use std::fmt;

/// A revision of a service, as far as traffic is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Short name.
    pub name: &'a str,
    /// May it serve?
    pub readiness: Readiness,
}

/// Has a revision shown that it starts?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes, once at least.
    Ready,
    /// Nobody knows yet.
    Unproven,
    /// It was tried, and does not.
    Failed,
}

/// A service's traffic, resolved: immutable, and cheap to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// Every revision that has a share or a tag, in the order of the targets.
    revisions: Vec<Routed>,
    /// As many places as there are percents, each with an index into `revisions`.
    table: Box<[u32]>,
    /// Tags, with indices into `revisions`.
    tags: Vec<(Box<str>, usize)>,
}

/// A revision that requests can get to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// Short name.
    pub name: Box<str>,
    /// Its share of the requests without a tag; all of its targets together.
    pub percent: u32,
}

/// Traffic that cannot be routed as it is written. The texts are those of the API as far as they
/// are known; of a missing revision only the sense is (2.5 (unconfirmed)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No revision has this name.
    Missing(String),
    /// This revision has not shown that it starts. The real route does not change before all of its
    /// revisions are ready, and stays as it was if one fails ((unconfirmed) beyond Knative).
    NotReady(String),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unresolved::Missing(name) => {
                write!(f, "Revision '{name}' does not exist or was deleted.")
            }
            Unresolved::NotReady(name) => {
                write!(f, "Revision '{name}' is not ready and cannot serve traffic.")
            }
        }
    }
}

/// What a request says about its revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference<'a> {
    /// The tag of the host, or of a URL mask.
    pub tag: Option<&'a str>,
    /// The revision that served this client before, by its index in the routing: session affinity
    /// wins over percentages, but does not lead to a revision without a share (2.4).
    pub affinity: Option<usize>,
}

/// The revision that `LATEST` stands for: the newest one that is ready. Where none is, the newest
/// one that has not failed, so that a service's first revision can start at its first request; and
/// where all have failed, the newest, whose failure is the answer.
pub fn latest<'a, 'n>(candidates: &'a [Candidate<'n>]) -> Option<&'a Candidate<'n>> {
    let newest = |readiness| candidates.iter().rfind(|one| one.readiness == readiness);
    let ready = newest(Readiness::Ready).or_else(|| newest(Readiness::Unproven));
    ready.or_else(|| candidates.last())
}

impl Routing {
    /// Resolves targets against the revisions of a service, oldest first.
    ///
    /// # Errors
    /// The first target whose revision is missing, else the first one whose revision is not ready.
    pub fn resolve(
        targets: &[TrafficTarget],
        candidates: &[Candidate<'_>],
    ) -> Result<Self, Unresolved> {
        let mut routing = Routing::default();
        let mut not_ready = None;
        for target in targets {
            let found = match &target.revision {
                None => latest(candidates),
                Some(name) => candidates.iter().rfind(|one| one.name == *name),
            };
            let found = found
                .ok_or_else(|| Unresolved::Missing(target.revision.clone().unwrap_or_default()))?;
            if target.revision.is_some() && found.readiness != Readiness::Ready {
                not_ready = not_ready.or(Some(found.name));
            }
            routing.add(target, found.name);
        }
        if let Some(name) = not_ready {
            return Err(Unresolved::NotReady(name.to_owned()));
        }
        let places = (0u32..).zip(&routing.revisions);
        routing.table =
            places.flat_map(|(at, one)| (0..one.percent.min(100)).map(move |_| at)).collect();
        Ok(routing)
    }

    fn add(&mut self, target: &TrafficTarget, name: &str) {
        if target.percent == 0 && target.tag.is_none() {
            return; // nothing leads to it
        }
        let known = self.revisions.iter().position(|one| *one.name == *name);
        let at = known.unwrap_or(self.revisions.len());
        match known {
            Some(known) => self.revisions[known].percent += target.percent,
            None => self.revisions.push(Routed { name: name.into(), percent: target.percent }),
        }
        if let Some(tag) = &target.tag {
            self.tags.push((tag.as_str().into(), at));
        }
    }

    /// Which revision serves a request, by its index in [`Routing::revisions`]. `random` is a fresh
    /// random number: requests are shared one by one ("per request by weight"; at random rather than
    /// in turn (unconfirmed)). None: there is no such tag.
    pub fn choose(&self, preference: Preference<'_>, random: u64) -> Option<usize> {
        if let Some(tag) = preference.tag {
            let tagged = self.tags.iter().find(|(known, _)| **known == *tag);
            return tagged.map(|(_, at)| *at);
        }
        if let Some(at) = preference.affinity
            && self.revisions.get(at).is_some_and(|one| one.percent > 0)
        {
            return Some(at);
        }
        // As many places as percents: a hundred. What 2^64 leaves over is of no account.
        let places = self.table.len() as u64;
        let place = usize::try_from(random.checked_rem(places)?).ok()?;
        self.table.get(place).and_then(|at| usize::try_from(*at).ok())
    }

    /// The revisions that requests can get to, in the order of the targets.
    pub fn revisions(&self) -> &[Routed] {
        &self.revisions
    }

    /// Tags, each with the revision that it leads to.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &Routed)> {
        self.tags.iter().map(|(tag, at)| (&**tag, &self.revisions[*at]))
    }

    /// What most requests get: the tag's revision, or the one with the largest share.
    pub fn usual(&self, tag: Option<&str>) -> Option<&Routed> {
        match tag {
            Some(tag) => self.tags().find(|(known, _)| *known == tag).map(|(_, one)| one),
            None => {
                let mut usual: Option<&Routed> = None;
                for one in self.revisions.iter().filter(|one| one.percent > 0) {
                    if usual.is_none_or(|best| one.percent > best.percent) {
                        usual = Some(one);
                    }
                }
                usual
            }
        }
    }
}

/// `orders-00001-abc 90 %, orders-00002-def 10 % (tag canary)`.
impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.revisions.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} {} %", one.name, one.percent)?;
            let mut tags = self.tags.iter().filter(|(_, of)| *of == at).map(|(tag, _)| tag);
            if let Some(first) = tags.next() {
                write!(f, " (tag {first}")?;
                tags.try_for_each(|tag| write!(f, ", {tag}"))?;
                f.write_str(")")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn to(revision: Option<&str>, percent: u32, tag: Option<&str>) -> TrafficTarget {
        TrafficTarget {
            revision: revision.map(str::to_owned),
            percent,
            tag: tag.map(str::to_owned),
        }
    }

    /// `+a` is ready, `?a` unproven, `-a` failed; oldest first.
    fn candidates<'a>(marked: &[&'a str]) -> Vec<Candidate<'a>> {
        let one = |marked: &&'a str| {
            let readiness = match &marked[..1] {
                "+" => Readiness::Ready,
                "?" => Readiness::Unproven,
                _ => Readiness::Failed,
            };
            Candidate { name: &marked[1..], readiness }
        };
        marked.iter().map(one).collect()
    }

    #[test]
    fn targets_resolve_to_ready_revisions() {
        type Row<'a> = (&'a str, &'a [TrafficTarget], &'a [&'a str], &'a str);
        let rows: &[Row<'_>] = &[
            ("the newest", &[to(None, 100, None)], &["+a", "+b"], "b 100 %"),
            ("a failing new one takes nothing", &[to(None, 100, None)], &["+a", "-b"], "a 100 %"),
            ("nor one that starts", &[to(None, 100, None)], &["+a", "?b"], "a 100 %"),
            ("the first one starts", &[to(None, 100, None)], &["?a"], "a 100 %"),
            ("the next attempt", &[to(None, 100, None)], &["-a", "?b"], "b 100 %"),
            ("also behind a failed one", &[to(None, 100, None)], &["?a", "-b"], "a 100 %"),
            ("all failed: the newest says so", &[to(None, 100, None)], &["-a", "-b"], "b 100 %"),
            (
                "a split",
                &[to(Some("a"), 90, None), to(None, 10, Some("new"))],
                &["+a", "+b"],
                "a 90 %, b 10 % (tag new)",
            ),
            (
                "an explicit split stays",
                &[to(Some("a"), 100, None)],
                &["+a", "+b", "+c"],
                "a 100 %",
            ),
            (
                "a tag has no share",
                &[to(None, 100, None), to(Some("a"), 0, Some("old"))],
                &["+a", "+b"],
                "b 100 %, a 0 % (tag old)",
            ),
            (
                "one revision twice, by name and as the latest",
                &[to(Some("b"), 30, None), to(None, 70, Some("t")), to(None, 0, Some("u"))],
                &["+a", "+b"],
                "b 100 % (tag t, u)",
            ),
            (
                "nothing leads to 0 % without a tag",
                &[to(None, 100, None), to(Some("a"), 0, None)],
                &["+a", "+b"],
                "b 100 %",
            ),
            (
                "a revision by name that starts",
                &[to(None, 90, None), to(Some("b"), 10, None)],
                &["+a", "?b"],
                "Revision 'b' is not ready and cannot serve traffic.",
            ),
            (
                "a revision by name that failed",
                &[to(Some("b"), 0, Some("t")), to(None, 100, None)],
                &["+a", "-b"],
                "Revision 'b' is not ready and cannot serve traffic.",
            ),
            (
                "missing is worse than not ready",
                &[to(Some("b"), 50, None), to(Some("c"), 50, None)],
                &["+a", "-b"],
                "Revision 'c' does not exist or was deleted.",
            ),
        ];
        for (rule, targets, marked, expected) in rows {
            let text = match Routing::resolve(targets, &candidates(marked)) {
                Ok(routing) => routing.to_string(),
                Err(unresolved) => unresolved.to_string(),
            };
            assert_eq!(text, *expected, "{rule}");
        }
    }

    #[test]
    fn tags_and_affinity_go_before_percentages() {
        let targets =
            [to(Some("a"), 99, None), to(None, 1, None), to(Some("old"), 0, Some("canary"))];
        let routing =
            Routing::resolve(&targets, &candidates(&["+old", "+a", "+b"])).expect("resolved");
        let choose = |tag, affinity| {
            let chosen = routing.choose(Preference { tag, affinity }, 0);
            chosen.map(|at| &*routing.revisions()[at].name)
        };
        assert_eq!(choose(None, None), Some("a"));
        assert_eq!(choose(Some("canary"), None), Some("old"));
        assert_eq!(choose(Some("canary"), Some(1)), Some("old"), "a tag names its revision");
        assert_eq!(choose(Some("nope"), None), None);
        assert_eq!(choose(None, Some(1)), Some("b"), "whatever the percentages");
        assert_eq!(choose(None, Some(2)), Some("a"), "but not without a share");
        assert_eq!(choose(None, Some(7)), Some("a"), "nor to what is not there");
        assert_eq!(routing.usual(None).map(|one| &*one.name), Some("a"));
        assert_eq!(routing.usual(Some("canary")).map(|one| &*one.name), Some("old"));
        assert_eq!(Routing::default().choose(Preference::default(), 7), None);
    }

    /// SplitMix64, as traffic draws.
    fn draw(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Percents that add to 100, from where a hundred is cut.
    fn percents(cuts: &[u32]) -> Vec<u32> {
        let mut cuts: Vec<u32> = cuts.to_vec();
        cuts.extend([0, 100]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    proptest! {
        /// Against the naive model: walk the targets in order and take percents off a number below 100.
        #[test]
        fn a_draw_is_what_walking_the_targets_gives(
            cuts in proptest::collection::vec(0u32..=100, 0..8),
            tags in proptest::collection::vec(any::<bool>(), 9),
            newest in 0usize..9,
            random: u64,
        ) {
            let percents = percents(&cuts);
            let names: Vec<String> = (0..percents.len()).map(|at| format!("r{at}")).collect();
            let known: Vec<Candidate<'_>> = names
                .iter()
                .map(|name| Candidate { name, readiness: Readiness::Ready })
                .collect();
            // One of the targets is LATEST.
            let targets: Vec<TrafficTarget> = percents
                .iter()
                .enumerate()
                .map(|(at, percent)| to(
                    (at != newest).then_some(names[at].as_str()),
                    *percent,
                    tags[at].then_some(names[at].as_str()),
                ))
                .collect();
            let routing = Routing::resolve(&targets, &known).expect("all are ready");
            let name = |at: usize| routing.revisions()[at].name.to_string();
            let resolved =
                |at: usize| names[if at == newest { names.len() - 1 } else { at }].clone();
            // The same revision twice counts where it stands first, as the model does.
            let mut shares: Vec<(String, u64)> = Vec::new();
            for (at, percent) in percents.iter().enumerate() {
                let of = resolved(at);
                match shares.iter_mut().find(|(known, _)| *known == of) {
                    Some((_, share)) => *share += u64::from(*percent),
                    None if *percent > 0 || tags[at] => shares.push((of, u64::from(*percent))),
                    None => {}
                }
            }
            let mut left = random % 100;
            let model = shares.iter().find(|(_, share)| match left.checked_sub(*share) {
                None => true,
                Some(rest) => { left = rest; false }
            });
            let chosen = routing.choose(Preference::default(), random).map(name);
            prop_assert_eq!(chosen.as_ref(), model.map(|(of, _)| of));
            for (at, tag) in names.iter().enumerate() {
                let preference = Preference { tag: Some(tag), affinity: None };
                let tagged = routing.choose(preference, random).map(name);
                prop_assert_eq!(tagged, tags[at].then(|| resolved(at)));
            }
        }

        /// Over many requests each revision gets its share: within six standard deviations.
        #[test]
        fn over_many_requests_each_revision_gets_its_share(
            cuts in proptest::collection::vec(0u32..=100, 0..5),
            seed: u64,
        ) {
            let percents = percents(&cuts);
            let names: Vec<String> = (0..percents.len()).map(|at| format!("r{at}")).collect();
            let known: Vec<Candidate<'_>> = names
                .iter()
                .map(|name| Candidate { name, readiness: Readiness::Ready })
                .collect();
            let targets: Vec<TrafficTarget> = names
                .iter()
                .zip(&percents)
                .map(|(name, percent)| to(Some(name), *percent, None))
                .collect();
            let routing = Routing::resolve(&targets, &known).expect("all are ready");
            let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
            let mut state = seed;
            const DRAWS: u32 = 20_000;
            for _ in 0..DRAWS {
                let at = routing.choose(Preference::default(), draw(&mut state)).expect("a share");
                *seen.entry(&routing.revisions()[at].name).or_default() += 1;
            }
            for (name, percent) in names.iter().zip(&percents) {
                let share = f64::from(*percent) / 100.0;
                let expected = share * f64::from(DRAWS);
                let deviation = (expected * (1.0 - share)).sqrt();
                let got = f64::from(seen.get(name.as_str()).copied().unwrap_or_default());
                prop_assert!((got - expected).abs() <= 6.0 * deviation, "{}: {} of {}", name, got, expected);
            }
        }
    }
}
