//! The driver: rounds of several topologies in one running `postern`.

use crate::generate::{Group, Machine};
use crate::random::Random;
use names::Reason;
use path::{ExplainRequest, Reachability, Token, World};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const AGENT: &str = include_str!("agent.py");
/// What shall answer is waited for; what shall be silent is believed after a moment.
const PATIENT: f64 = 8.0;
const BRIEF: f64 = 0.6;
/// How long a round may take to settle.
const SETTLE: Duration = Duration::from_secs(60);
/// Attempts of one VM.
const ATTEMPTS: usize = 14;

/// What one attempt saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A connection, or an answer.
    Open,
    /// Reached, and nobody listens there.
    Refused,
    /// Nothing.
    Silent,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Summary {
    /// Topologies that were up.
    pub topologies: usize,
    /// Attempts that were made.
    pub attempts: usize,
    /// Of these, reached.
    pub reached: usize,
    /// How often each reason kept one from it.
    pub reasons: BTreeMap<Reason, usize>,
    /// Where wire and verdict differ.
    pub different: Vec<String>,
}

/// One attempt, with what is expected of it.
struct Attempt {
    machine: Machine,
    protocol: &'static str,
    to: String,
    expected: bool,
    /// The port has no listener on a VM that is reached.
    idle: bool,
    explained: path::Explanation,
}

/// Puts `topologies` random topologies into force, `batch` at a time, and compares.
///
/// # Errors
/// What kept it from running: `postern` itself, or a file.
pub fn run(
    postern: &Path,
    seed: u64,
    topologies: usize,
    batch: usize,
    progress: impl Fn(&Summary),
) -> Result<Summary, String> {
    let place = Place::new(postern, seed)?;
    let mut summary = Summary::default();
    let mut number = 0;
    while summary.topologies < topologies {
        let groups: Vec<Group> = (0..batch.min(topologies - summary.topologies))
            .map(|slot| {
                let own = seed.wrapping_mul(1_000_003).wrapping_add(number);
                number += 1;
                Group::new(own, &format!("project-{slot}"), |name| {
                    format!(
                        "exec python3 {} {} {name}",
                        place.agent.display(),
                        place.folder.display()
                    )
                })
            })
            .collect();
        place.round(&groups, &mut summary)?;
        summary.topologies += groups.len();
        progress(&summary);
    }
    Ok(summary)
}

/// The folders of a run.
struct Place {
    postern: PathBuf,
    root: PathBuf,
    topology: PathBuf,
    folder: PathBuf,
    agent: PathBuf,
    state: PathBuf,
    seed: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.postern(&["down"]);
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn failed(what: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", what.display())
}

impl Place {
    fn new(postern: &Path, seed: u64) -> Result<Place, String> {
        let own = std::process::id();
        let root = std::env::temp_dir().join(format!("postern-reach-{own}-{seed:x}"));
        let place = Place {
            postern: postern.to_owned(),
            topology: root.join("topology"),
            folder: root.join("seen"),
            agent: root.join("agent.py"),
            state: root.join("state"),
            root,
            seed,
        };
        for folder in [&place.topology, &place.folder] {
            fs::create_dir_all(folder).map_err(failed(folder))?;
        }
        fs::write(&place.agent, AGENT).map_err(failed(&place.agent))?;
        Ok(place)
    }

    fn postern(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.postern);
        command.arg("--state-dir").arg(&self.state).args(arguments);
        let output = command.output().map_err(failed(&self.postern))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(text),
            false => {
                Err(format!("{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
            }
        }
    }

    /// One round: files, reload, attempts, comparison.
    fn round(&self, groups: &[Group], summary: &mut Summary) -> Result<(), String> {
        for (slot, group) in groups.iter().enumerate() {
            let file = self.topology.join(format!("{slot}.json"));
            fs::write(&file, group.document.to_string()).map_err(failed(&file))?;
        }
        for slot in groups.len().. {
            if fs::remove_file(self.topology.join(format!("{slot}.json"))).is_err() {
                break;
            }
        }
        fs::remove_dir_all(&self.folder).map_err(failed(&self.folder))?;
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        let loaded = topology::load(&self.topology);
        let said = || loaded.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>();
        let topology = loaded.topology.as_ref().ok_or_else(|| said().join("\n"))?;
        let world = World::compile(topology, None).map_err(|problems| problems.join("\n"))?;
        let attempts = self.attempts(&world, groups, summary.topologies);
        match summary.topologies {
            0 => {
                let path = self.topology.display().to_string();
                self.postern(&["up", &path, "--detach", "--isolation", "netns"])?;
            }
            _ => {
                self.postern(&["reload"])?;
            }
        }
        self.settle(groups)?;
        let mut wishes: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for attempt in &attempts {
            let (address, port) = attempt.to.split_once(':').unwrap_or((&attempt.to, "0"));
            let patience = if attempt.expected { PATIENT } else { BRIEF };
            let port: u16 = port.parse().unwrap_or(0);
            let wish = json!([attempt.protocol, address, port, patience]);
            wishes.entry(&attempt.machine.name).or_default().push(wish);
        }
        let go = self.folder.join("go");
        fs::write(go.with_extension("part"), json!(wishes).to_string()).map_err(failed(&go))?;
        fs::rename(go.with_extension("part"), &go).map_err(failed(&go))?;
        let mut seen: BTreeMap<&str, std::vec::IntoIter<Value>> = BTreeMap::new();
        for name in wishes.keys() {
            let text = self.wait(&format!("{name}.seen"))?;
            let list: Vec<Value> = serde_json::from_str(&text).map_err(|e| e.to_string())?;
            seen.insert(name, list.into_iter());
        }
        for attempt in &attempts {
            let word = seen.get_mut(&*attempt.machine.name).and_then(Iterator::next);
            self.compare(attempt, &word.unwrap_or_default(), summary);
        }
        Ok(())
    }

    /// What every VM tries: a choice of the addresses of its own topology.
    fn attempts(&self, world: &World, groups: &[Group], round: usize) -> Vec<Attempt> {
        let mut random = Random::new(self.seed ^ u64::try_from(round).unwrap_or(0));
        let mut all = Vec::new();
        for group in groups {
            for machine in &group.machines {
                for _ in 0..ATTEMPTS {
                    let (address, port) = *random.pick(&group.targets);
                    let (protocol, to) = match random.below(8) {
                        0 => ("icmp", address.to_string()),
                        1 => ("udp", format!("{address}:8080")),
                        _ => ("tcp", format!("{address}:{port}")),
                    };
                    // A VM talks to itself without a network.
                    if address == machine.address {
                        continue;
                    }
                    let from = format!("{}/{}", machine.network, machine.name);
                    let Ok(from) = from.parse() else { continue };
                    let question = ExplainRequest {
                        from,
                        region: None,
                        service_account: None,
                        tags: Vec::new(),
                        token: Token::None,
                        method: "GET".to_owned(),
                        url: format!("{protocol}://{to}"),
                        headers: Vec::new(),
                        now: 1_800_000_000,
                    };
                    let explained = path::explain(world, &question);
                    let vm = group.machines.iter().any(|other| other.address == address);
                    let idle = vm && protocol == "tcp" && port == 22;
                    all.push(Attempt {
                        machine: machine.clone(),
                        protocol,
                        to,
                        expected: explained.result == Reachability::Reachable,
                        idle,
                        explained,
                    });
                }
            }
        }
        all
    }

    /// Waits until all VMs listen and every endpoint has a state.
    fn settle(&self, groups: &[Group]) -> Result<(), String> {
        for machine in groups.iter().flat_map(|group| &group.machines) {
            self.wait(&format!("{}.ready", machine.name))?;
        }
        let endpoints: Vec<&String> = groups.iter().flat_map(|group| &group.endpoints).collect();
        let until = Instant::now() + SETTLE;
        while !endpoints.is_empty() {
            let status: Value = serde_json::from_str(&self.postern(&["status", "--json"])?)
                .map_err(|error| error.to_string())?;
            let known = status["connections"].as_array().cloned().unwrap_or_default();
            let has_state = |endpoint: &&&String| {
                known.iter().any(|connection| {
                    let link = connection["endpoint"].as_str().unwrap_or_default();
                    link.ends_with(&format!("/{endpoint}"))
                })
            };
            if endpoints.iter().all(|endpoint| has_state(&endpoint)) {
                break;
            }
            if Instant::now() > until {
                return Err(format!("endpoints without a state: {endpoints:?}\n{known:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The content of a file of the VMs', once it is there.
    fn wait(&self, name: &str) -> Result<String, String> {
        let file = self.folder.join(name);
        let until = Instant::now() + SETTLE;
        loop {
            if let Ok(text) = fs::read_to_string(&file) {
                return Ok(text);
            }
            if Instant::now() > until {
                let logs = self.postern(&["logs"]).unwrap_or_default();
                let last: Vec<&str> = logs.lines().rev().take(20).collect();
                return Err(format!("{name} did not come\n{}", last.join("\n")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn compare(&self, attempt: &Attempt, word: &Value, summary: &mut Summary) {
        let outcome = match word.as_str() {
            Some("open") => Some(Outcome::Open),
            Some("refused") => Some(Outcome::Refused),
            Some("silent") => Some(Outcome::Silent),
            _ => None,
        };
        let agrees = match (attempt.expected, outcome) {
            (true, Some(Outcome::Refused)) => attempt.idle,
            (true, Some(Outcome::Open)) => !attempt.idle,
            (false, Some(Outcome::Silent)) => true,
            _ => false,
        };
        summary.attempts += 1;
        summary.reached += usize::from(attempt.expected);
        if let Some(reason) = attempt.explained.answer.reason {
            *summary.reasons.entry(reason).or_default() += 1;
        }
        if !agrees {
            let Attempt { machine, protocol, to, explained, .. } = attempt;
            summary.different.push(format!(
                "{} ({}) to {protocol}://{to} saw {word}, and explain says\n{explained}",
                machine.name, machine.address
            ));
        }
    }
}
