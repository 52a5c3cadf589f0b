//! The revisions of a service over time (cloud-run 3.1, 3.2): one per changed template, immutable,
//! kept until they are many and nothing refers to them; on disk between runs.

use names::SelfLink;
use serde::{Deserialize, Serialize};
use serverless::affinity::digest;
use serverless::{Candidate, Readiness, Routing, Unresolved};
use slice::run::{Revision, Service};
use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More revisions of one service are not kept: "oldest unreferenced auto-removed" (3.2).
const REVISIONS_MAX: usize = 1000;

/// What is known of a revision's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Proof {
    /// It has started once.
    Started,
    /// Nothing, but the files say that it serves and nothing else does: what a fresh start assumes
    /// until a start has failed.
    Assumed,
    /// Nothing; other revisions serve until it has started.
    Unproven,
    /// It was tried, and did not start.
    Failed,
}

impl Proof {
    fn readiness(self) -> Readiness {
        match self {
            Proof::Started | Proof::Assumed => Readiness::Ready,
            Proof::Unproven => Readiness::Unproven,
            Proof::Failed => Readiness::Failed,
        }
    }
}

/// A revision that was made once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The revision.
    pub revision: Arc<Revision>,
    /// Does it start?
    pub proof: Proof,
}

/// The revisions of one service, oldest first; the last one is the latest created.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History(Vec<Recorded>);

impl History {
    /// The revisions, oldest first.
    pub fn revisions(&self) -> &[Recorded] {
        &self.0
    }

    /// For the choice of who serves.
    pub fn candidates(&self) -> Vec<Candidate<'_>> {
        let one = |recorded: &Recorded| recorded.proof.readiness();
        self.0.iter().map(|r| Candidate { name: &r.revision.name, readiness: one(r) }).collect()
    }

    /// What the files say now: revisions that they declare join, and the template's becomes the
    /// latest created one. `fresh`: nothing of the service is at work, so nothing can serve in place
    /// of what the files name.
    ///
    /// # Errors
    /// A sentence: a revision is already there with another configuration, or traffic goes to one
    /// that is not. The history must not be used then.
    pub fn join(&mut self, service: &Service, fresh: bool) -> Result<(), String> {
        let unknown = if fresh { Proof::Assumed } else { Proof::Unproven };
        let mut older = 0;
        for declared in &service.older_revisions {
            if self.known(declared)?.is_none() {
                // Of those that we saw come, the files say nothing: these are older.
                self.0
                    .insert(older, Recorded { revision: declared.clone().into(), proof: unknown });
                older += 1;
            }
        }
        let template = match self.known(&service.revision)? {
            Some(at) => self.0.remove(at),
            None => Recorded { revision: service.revision.clone().into(), proof: unknown },
        };
        let others = self.0.iter().any(|other| other.proof.readiness() == Readiness::Ready);
        self.0.push(template);
        let last = self.0.len() - 1;
        for (at, recorded) in self.0.iter_mut().enumerate() {
            let name = recorded.revision.name.as_str();
            let named =
                service.traffic.iter().any(|target| target.revision.as_deref() == Some(name));
            recorded.proof = match recorded.proof {
                Proof::Started => Proof::Started,
                _ if recorded.revision.health_check_disabled => Proof::Started,
                Proof::Failed if fresh && at == last && others && !named => Proof::Unproven,
                _ if fresh && (at == last || named) => Proof::Assumed,
                // Whoever asks again wants it to be tried again.
                Proof::Failed if at == last || named => Proof::Unproven,
                proof => proof,
            };
        }
        let link = &service.self_link;
        match Routing::resolve(&service.traffic, &self.candidates()) {
            Err(missing @ Unresolved::Missing(_)) => Err(format!("service {link}: {missing}")),
            Ok(_) | Err(Unresolved::NotReady(_)) => Ok(()),
        }
    }

    /// Where a revision is, if it is known. How its images run on this machine is no part of a
    /// revision's configuration: that follows the files.
    fn known(&mut self, revision: &Revision) -> Result<Option<usize>, String> {
        let Some(at) = self.0.iter().position(|known| known.revision.name == revision.name) else {
            return Ok(None);
        };
        let known = &mut self.0[at];
        if *known.revision != *revision {
            if !same_configuration(&known.revision, revision) {
                return Err(format!(
                    "Revision named '{}' with different configuration already exists. (409 \
                     ALREADY_EXISTS; give the template another name, or none; \
                     `postern up --forget-revisions` begins anew)",
                    revision.name
                ));
            }
            known.revision = revision.clone().into();
        }
        Ok(Some(at))
    }

    /// Notes what a start showed. A revision that has started once stays ready.
    pub fn prove(&mut self, name: &str, started: bool) -> Option<(Proof, Proof)> {
        let recorded = self.0.iter_mut().rfind(|recorded| recorded.revision.name == name)?;
        let before = recorded.proof;
        recorded.proof = match (before, started) {
            (_, true) | (Proof::Started, _) => Proof::Started,
            (_, false) => Proof::Failed,
        };
        (before != recorded.proof).then_some((before, recorded.proof))
    }

    /// Forgets the oldest ones beyond the bound that nobody refers to.
    pub fn trim(&mut self, referred: impl Fn(&str) -> bool) {
        let mut surplus = self.0.len().saturating_sub(REVISIONS_MAX);
        let last = self.0.last().map(|recorded| Arc::clone(&recorded.revision));
        self.0.retain(|recorded| {
            let is_last = last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &recorded.revision));
            if surplus == 0 || is_last || referred(&recorded.revision.name) {
                return true;
            }
            surplus -= 1;
            false
        });
    }
}

fn same_configuration(known: &Revision, other: &Revision) -> bool {
    let mut other = other.clone();
    for (container, known) in other.containers.iter_mut().zip(&known.containers) {
        container.run = known.run.clone();
    }
    *known == other
}

/// A service's history, as its file holds it.
#[derive(Deserialize)]
struct Stored {
    service: SelfLink,
    revisions: Vec<Recorded>,
}

#[derive(Serialize)]
struct Storing<'a> {
    service: &'a SelfLink,
    revisions: &'a [Recorded],
}

/// The files of all services, one each, below the state directory.
#[derive(Debug)]
pub struct Store(PathBuf);

impl Store {
    /// The files in this state directory.
    pub fn new(state_dir: &Path) -> Self {
        Store(state_dir.join(slice::run::REVISIONS_DIRECTORY))
    }

    /// Every history that is there, and what is wrong with others.
    pub fn load(&self) -> (HashMap<SelfLink, History>, Vec<String>) {
        let mut problems = Vec::new();
        let mut histories = HashMap::new();
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let read = fs::read(&path)
                .and_then(|text| Ok(serde_json::from_slice::<Stored>(&text)?))
                .map_err(|error| format!("{}: {error}", path.display()));
            match read {
                Ok(stored) => {
                    histories.insert(stored.service, History(stored.revisions));
                }
                Err(problem) => problems.push(problem),
            }
        }
        (histories, problems)
    }

    /// Replaces what is stored of a service, as a whole or not at all. The disk is not waited for:
    /// what a power cut loses is a history that the next run of the files begins anew.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn store(&self, service: &SelfLink, history: &History) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let path = self.path(service);
        let aside = path.with_extension("tmp");
        let text = serde_json::to_vec(&Storing { service, revisions: &history.0 })?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&text)?;
        fs::rename(&aside, &path)
    }

    /// Forgets services that are gone: their revisions go with them.
    pub fn retain<'a>(&self, services: impl IntoIterator<Item = &'a SelfLink>) {
        let kept: HashSet<PathBuf> = services.into_iter().map(|link| self.path(link)).collect();
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if !kept.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, service: &SelfLink) -> PathBuf {
        self.0.join(format!("{:016x}.json", digest(service.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::at;
    use slice::run::{EnvValue, Run, TrafficTarget};

    fn service(revision: &str, value: &str) -> Service {
        let mut service = at("orders", Run::Url("http://127.0.0.1:1".to_owned()));
        service.revision = template(revision, value);
        service
    }

    fn template(name: &str, value: &str) -> Revision {
        let mut revision = Revision::new(name, Run::Url("http://127.0.0.1:1".to_owned()));
        let value = EnvValue::Text(value.to_owned());
        revision.containers[0].env.insert("A".to_owned(), value);
        revision
    }

    fn names(history: &History) -> Vec<(&str, Proof)> {
        history.0.iter().map(|one| (one.revision.name.as_str(), one.proof)).collect()
    }

    #[test]
    fn a_revision_per_template_and_what_each_is_known_to_do() {
        let mut history = History::default();
        history.join(&service("orders-1", "1"), true).expect("new");
        history.join(&service("orders-1", "1"), false).expect("the same");
        assert_eq!(names(&history), [("orders-1", Proof::Assumed)]);
        assert_eq!(history.prove("orders-1", true), Some((Proof::Assumed, Proof::Started)));
        assert_eq!(history.prove("orders-1", false), None, "once started, ready for ever");
        history.join(&service("orders-2", "2"), false).expect("another");
        assert_eq!(names(&history)[1], ("orders-2", Proof::Unproven));
        assert!(history.prove("orders-2", false).is_some());
        let mut restarted = history.clone();
        restarted.join(&service("orders-2", "2"), true).expect("the same");
        assert_eq!(names(&restarted)[1].1, Proof::Unproven, "tried again while orders-1 serves");
        history.join(&service("orders-2", "2"), false).expect("the same");
        assert_eq!(names(&history)[1].1, Proof::Unproven, "tried again");

        history.join(&service("orders-1", "1"), false).expect("back");
        let back = [("orders-2", Proof::Unproven), ("orders-1", Proof::Started)];
        assert_eq!(names(&history), back, "what is deployed again is the latest");

        let mut other = service("orders-1", "1");
        other.revision.containers[0].run = Run::Url("http://127.0.0.1:2".to_owned());
        history.join(&other, false).expect("how images run here is not its configuration");
        assert_eq!(*history.0[1].revision, other.revision);
    }

    #[test]
    fn names_are_taken_once_and_targets_must_exist() {
        let mut history = History::default();
        history.join(&service("orders-1", "1"), true).expect("new");
        let refused =
            |service: &Service| history.clone().join(service, false).expect_err("refused");
        let text = refused(&service("orders-1", "other"));
        assert!(
            text.starts_with(
                "Revision named 'orders-1' with different configuration already exists."
            ),
            "{text}"
        );
        let to = |name: &str, tag: Option<&str>| TrafficTarget {
            revision: Some(name.to_owned()),
            percent: 0,
            tag: tag.map(str::to_owned),
        };
        let mut missing = service("orders-2", "2");
        missing.traffic.push(to("orders-0", Some("old")));
        let text = refused(&missing);
        assert!(text.ends_with("Revision 'orders-0' does not exist or was deleted."), "{text}");
        let mut declared = missing.clone();
        declared.older_revisions = vec![template("orders-0", "0")];
        history.join(&declared, false).expect("declared");
        let order = ["orders-0", "orders-1", "orders-2"];
        assert_eq!(names(&history).iter().map(|(name, _)| *name).collect::<Vec<_>>(), order);
        missing.revision = template("orders-3", "3");
        history.join(&missing, false).expect("known since");
    }

    #[test]
    fn the_oldest_that_nobody_refers_to_go_first() {
        let mut history = History::default();
        for number in 0..1003 {
            let service = service(&format!("orders-{number}"), &number.to_string());
            history.join(&service, false).expect("new");
        }
        history.trim(|name| name == "orders-1");
        assert_eq!(history.0.len(), REVISIONS_MAX);
        assert_eq!(history.0[0].revision.name, "orders-1");
        assert_eq!(history.0[1].revision.name, "orders-4");
    }

    #[test]
    fn what_is_stored_is_loaded_and_what_is_broken_is_told() {
        let dir = std::env::temp_dir().join(format!("run-history-{}", std::process::id()));
        let store = Store::new(&dir);
        assert!(store.load().0.is_empty(), "no directory, no history");
        let mut history = History::default();
        let service = service("orders-1", "1");
        history.join(&service, true).expect("new");
        history.prove("orders-1", true);
        store.store(&service.self_link, &history).expect("stored");
        store.store(&service.self_link, &history).expect("stored again");
        let (loaded, problems) = store.load();
        assert_eq!(loaded.get(&service.self_link), Some(&history));
        assert!(problems.is_empty(), "{problems:?}");
        fs::write(store.0.join("cut.json"), "{\"service\":").expect("written");
        assert_eq!(store.load().1.len(), 1);
        store.retain([&service.self_link]);
        assert_eq!((store.load().0.len(), store.load().1.len()), (1, 0));
        fs::remove_dir_all(&dir).expect("removed");
    }
}
