//! `explain`, `check` and `resolve`: the decisions of the traffic, asked without any.

use crate::client;
use path::{ExplainRequest, Live, Reachability, Token, World};
use slice::Topology;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// `explain`'s question.
#[derive(Debug)]
pub struct Question {
    /// A topology to take instead of what runs.
    pub topology: Option<PathBuf>,
    /// Where the client is.
    pub from: path::From,
    /// Its region.
    pub region: Option<String>,
    /// Its service account.
    pub service_account: Option<String>,
    /// Its network tags.
    pub tags: Vec<String>,
    /// Audience of the ID token; none: that of whatever service is reached.
    pub audience: Option<String>,
    /// Send no ID token although there is a service account.
    pub no_token: bool,
    /// Method.
    pub method: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// URL.
    pub url: String,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Loads a topology; its diagnostics go to standard error.
fn load(path: &Path) -> Option<Topology> {
    let loaded = topology::load(path);
    for diagnostic in &loaded.diagnostics {
        eprintln!("{diagnostic}");
    }
    loaded.topology
}

/// What runs, or the given files; the second is whether nothing runs and a fresh start is assumed.
fn world(state_dir: &Path, given: Option<&Path>) -> Result<(Topology, Option<Live>), ExitCode> {
    if let Some(path) = given {
        let topology = load(path).ok_or(ExitCode::FAILURE)?;
        return Ok((topology, None));
    }
    let Some(live) = client::live(state_dir) else {
        eprintln!(
            "postern: nothing is up in {}; name a topology: postern explain TOPOLOGY …",
            state_dir.display()
        );
        return Err(ExitCode::from(2));
    };
    let topology = live.topology;
    let known = Live {
        connections: live.connections,
        jwks: live.jwks,
        workloads: live.workloads,
        services: live.services,
        backends: live.backends,
    };
    Ok((*topology, Some(known)))
}

/// `postern explain`.
pub fn explain(state_dir: &Path, question: Question, json: bool) -> ExitCode {
    let (topology, live) = match world(state_dir, question.topology.as_deref()) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let fresh = live.is_none();
    let world = match World::compile(&topology, live) {
        Ok(world) => world,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            return ExitCode::FAILURE;
        }
    };
    let token = match (question.no_token || question.service_account.is_none(), question.audience) {
        (_, Some(audience)) => Token::ForAudience(audience),
        (true, None) => Token::None,
        (false, None) => Token::ForTarget,
    };
    let request = ExplainRequest {
        from: question.from,
        region: question.region,
        service_account: question.service_account,
        tags: question.tags,
        token,
        method: question.method,
        url: question.url,
        headers: question.headers,
        now: now(),
    };
    let explanation = path::explain(&world, &request);
    if json {
        println!("{:#}", explanation.to_json());
    } else {
        print!("{explanation}");
        if fresh {
            println!("(nothing that runs was asked: a fresh start is assumed)");
        }
    }
    match explanation.result {
        Reachability::Reachable => ExitCode::SUCCESS,
        Reachability::Unreachable => ExitCode::FAILURE,
        // The question was wrong, as a wrong option is.
        Reachability::Undetermined => ExitCode::from(2),
    }
}

/// `postern check`: every diagnostic, every program's own compile, URL-map tests, expectations.
pub fn check(path: &Path, json: bool) -> ExitCode {
    if !path.exists() {
        eprintln!("postern: {}: no such file or folder", path.display());
        return ExitCode::from(2);
    }
    let loaded = topology::load(path);
    let mut findings: Vec<String> = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    let mut expectations = Vec::new();
    if let Some(topology) = &loaded.topology {
        match World::compile(topology, None) {
            Err(problems) => findings = problems,
            Ok(world) => {
                let tests = world.url_map_test_failures();
                findings.extend(tests.iter().map(ToString::to_string));
                warnings.extend(world.bundle_warnings());
                expectations = path::check_expectations(&world, &topology.expectations, now());
            }
        }
    }
    let failed = expectations.iter().filter(|expectation| !expectation.holds()).count();
    let bad = loaded.topology.is_none() || !findings.is_empty() || failed > 0;
    if json {
        let expectations: Vec<_> = expectations
            .iter()
            .map(|expectation| {
                serde_json::json!({
                    "at": expectation.at,
                    "description": expectation.description,
                    "holds": expectation.holds(),
                    "failures": expectation.failures,
                })
            })
            .collect();
        let value = serde_json::json!({
            "ok": !bad,
            "diagnostics": loaded.diagnostics,
            "findings": findings,
            "warnings": warnings,
            "expectations": expectations,
        });
        println!("{value:#}");
    } else {
        loaded.diagnostics.iter().for_each(|diagnostic| println!("{diagnostic}"));
        warnings.iter().chain(&findings).for_each(|finding| println!("{finding}"));
        for expectation in expectations.iter().filter(|expectation| !expectation.holds()) {
            println!("{}: expectation not met: {}", expectation.at, expectation.description);
            expectation.failures.iter().for_each(|failure| println!("    {failure}"));
        }
        println!(
            "{} files, {} diagnostics, {} of {} expectations hold",
            loaded.files.len(),
            loaded.diagnostics.len() + findings.len() + warnings.len(),
            expectations.len() - failed,
            expectations.len()
        );
    }
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `postern resolve`.
pub fn resolve(
    state_dir: &Path,
    topology: Option<&Path>,
    from: &path::From,
    region: Option<&str>,
    name: &str,
    record_type: &str,
    json: bool,
) -> ExitCode {
    let network = &from.network();
    let (topology, live) = match world(state_dir, topology) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let world = match World::compile(&topology, live) {
        Ok(world) => world,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            return ExitCode::FAILURE;
        }
    };
    // A network without subnetworks has no clients of its own, and names even so.
    let (network, region) = match world.caller(network, from.workload(), region, None) {
        Ok(caller) => (caller.network, Some(caller.region)),
        Err(path::CallerError::Region { region: None, .. }) => (network.clone(), None),
        Err(problem) => {
            eprintln!("postern: {problem}");
            return ExitCode::from(2);
        }
    };
    let resolution = match world.resolve(&network, region.as_deref(), name, record_type) {
        Ok(resolution) => resolution,
        Err(problem) => {
            eprintln!("postern: {problem}");
            return ExitCode::from(2);
        }
    };
    if json {
        match serde_json::to_string_pretty(&resolution) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("postern: {error}"),
        }
    } else {
        println!("{resolution}");
    }
    if resolution.reason.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
