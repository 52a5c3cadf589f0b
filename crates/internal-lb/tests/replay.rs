//! `explain` agrees with what the data path then does: 5,000 random requests, each asked both ways.
//!
//! A process of its own serves them (its stderr is the request log, its stdout what clients and
//! backends saw); this one explains the same requests on the same topology. Compared are the matched
//! rule, backend service, Cloud Run service, rewrite, status, `Location`, and the reason.
//!
//! `POSTERN_SEED` (default 1) and `POSTERN_REPLAYS` (default 5000) choose the requests.

mod common;
mod live;

use common::{cloud_run, network, start, support};
use live::{Seen, ask};
use path::{ExplainRequest, Token, World};
use serde_json::{Value, json};
use slice::run::{Ingress, Revision, Run, Scaling, Service, TrafficTarget};
use slice::{Project, Purpose, Subnetwork, Topology};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;
use url_map_model::{Case, Profile, Request, case};

const REGION: &str = "europe-west1";

/// The cases, as many as hold the requests that are wanted.
fn cases() -> Vec<Case> {
    let (seed, wanted) = (live::number("POSTERN_SEED", 1), live::number("POSTERN_REPLAYS", 5000));
    let mut held = 0;
    (seed * 1_000_000..)
        .map(|seed| case(seed, Profile::Live))
        .take_while(|case| {
            let more = held < wanted;
            held += case.requests.len() as u64;
            more
        })
        .collect()
}

/// The user agent by which a request's log entry is found.
fn agent(number: usize) -> String {
    format!("replay-{number}")
}

/// Not a test by itself: what [`explain_agrees_with_the_data_path`] runs in a process of its own.
#[test]
#[ignore = "run by explain_agrees_with_the_data_path"]
fn the_data_path() {
    let cases = cases();
    support::run_within(Duration::from_secs(120), async move {
        let placed: Vec<(u8, SocketAddr)> = (0u8..).zip(live::backends().await).collect();
        let started = start("replay", live::merged(&cases), &placed);
        let _cloud_run = cloud_run(&started);
        let mut number = 0;
        for (n, case) in cases.iter().enumerate() {
            let at = started.address(&live::front(n)).expect("a listener");
            for request in &case.requests {
                let mut request = request.clone();
                request.headers.push(("user-agent".to_owned(), agent(number)));
                let seen = match ask(at, &request).await {
                    Seen::Backend { name, target, host, .. } => {
                        json!({"name": name, "target": target, "host": host, "status": 200})
                    }
                    Seen::Redirect { status, location } => {
                        json!({"status": status, "location": location})
                    }
                    Seen::Preflight(_) => json!({"status": 200}),
                    Seen::Abort(status) | Seen::Other(status, _) => json!({"status": status}),
                };
                println!("SEEN {seen}");
                number += 1;
            }
        }
        drop(started); // writes what is left of the log
    });
}

#[test]
fn explain_agrees_with_the_data_path() {
    let child = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "the_data_path", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("a child");
    let (out, log) =
        (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    let end: String = log.chars().rev().take(2000).collect::<Vec<_>>().into_iter().rev().collect();
    assert!(child.status.success(), "{out}\n{end}");
    let seen: Vec<Value> = out
        .lines()
        .filter_map(|line| line.split_once("SEEN "))
        .map(|(_, json)| serde_json::from_str(json).expect("JSON"))
        .collect();
    let entries: HashMap<String, Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|entry| Some((entry["httpRequest"]["userAgent"].as_str()?.to_owned(), entry)))
        .collect();

    let cases = cases();
    let world = World::compile(&topology(&cases), None).expect("a good topology");
    let requests = cases.iter().enumerate().flat_map(|(n, case)| {
        case.requests.iter().map(move |request| (live::front_address(n), request))
    });
    let mut different = Vec::new();
    let mut number = 0;
    for (address, request) in requests {
        let question = ExplainRequest {
            from: network().to_string().parse().expect("a place"),
            region: Some(REGION.to_owned()),
            service_account: None,
            tags: Vec::new(),
            token: Token::None,
            method: request.method.clone(),
            url: format!("http://{address}{}", request.path_and_query),
            headers: [("host".to_owned(), request.host.clone())]
                .into_iter()
                .chain(request.headers.iter().cloned())
                .collect(),
            now: 1_800_000_000,
        };
        let told = path::explain(&world, &question);
        let entry = entries.get(&agent(number));
        if let Err(what) = agrees(&told, request, &seen[number], entry) {
            different.push(format!(
                "{what}\n{request:?}\nseen: {}\nlog: {}\n{told}",
                seen[number],
                entry.unwrap_or(&Value::Null)
            ));
        }
        number += 1;
    }
    assert_eq!(seen.len(), number);
    let some = different.iter().take(3).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(different.is_empty(), "{} of {number} differ:\n{some}", different.len());
}

/// The first thing in which they differ.
fn agrees(
    told: &path::Explanation,
    request: &Request,
    seen: &Value,
    entry: Option<&Value>,
) -> Result<(), String> {
    let same = |what: &str, told: Option<&str>, lived: Option<&str>| match told == lived {
        true => Ok(()),
        false => Err(format!("{what}: explain says {told:?}, the data path {lived:?}")),
    };
    let status = told.answer.status.map(|status| status.to_string());
    let lived = seen["status"].as_u64().map(|status| status.to_string());
    // What a program answers is not known to `explain`; here every one answers 200.
    same("status", Some(status.as_deref().unwrap_or("200")), lived.as_deref())?;
    same("location", told.answer.location.as_deref(), seen["location"].as_str())?;
    let texts = || told.steps.iter().map(|step| step.description.as_str());
    if let Some(name) = seen["name"].as_str() {
        let becomes = |start: &str| {
            let text = texts().find_map(|text| text.split_once(start))?.1;
            text.rsplit_once("becomes `")?.1.strip_suffix('`').map(str::to_owned)
        };
        let host = becomes("urlRewrite: host `").unwrap_or_else(|| request.host.clone());
        same("host", Some(&host), seen["host"].as_str())?;
        let target = becomes("urlRewrite: `").unwrap_or_else(|| request.path_and_query.clone());
        same("target", Some(&target), seen["target"].as_str())?;
        match &told.service {
            Some(service) => same("service", Some(service.as_str()), name.split('#').next())?,
            None => {
                let endpoint = name.strip_prefix('b').map(|number| format!("10.0.9.{number}:80"));
                let listed = endpoint.filter(|one| texts().any(|text| text.contains(one)));
                let lived = name.strip_prefix('b').map(|number| format!("10.0.9.{number}:80"));
                same("endpoint", listed.as_deref(), lived.as_deref())?;
            }
        }
    }
    let Some(entry) = entry else {
        // A collapsed path is not logged (trap 25).
        return match request.path().contains("/../") {
            true => Ok(()),
            false => Err("no log entry".to_owned()),
        };
    };
    let reason = told.answer.reason.map(names::Reason::code);
    same("reason", reason, entry["reason"].as_str())?;
    let labels = &entry["resource"]["labels"];
    let rule = labels["matched_url_path_rule"].as_str().ok_or("no matched_url_path_rule")?;
    let says = |text: &str| {
        let after = text.split_once(&format!("`{rule}`")).map(|(_, after)| after);
        after
            .is_some_and(|after| after.trim_start_matches(" ignoring case").starts_with(" matches"))
    };
    if rule != "UNMATCHED" && !texts().any(says) {
        return Err(format!("rule: explain does not say {rule}"));
    }
    let unmatched = texts().any(|text| text.contains("default applies"));
    if (rule == "UNMATCHED") != unmatched {
        return Err(format!("rule: the data path says {rule}"));
    }
    let aborted = told.answer.reason == Some(names::Reason::FaultFilterAbort);
    let preflight = seen["status"] == 200 && seen["name"].is_null();
    if aborted || preflight {
        // They go to no backend; the log names the route's all the same.
        return Ok(());
    }
    let mut services = told.steps.iter().filter_map(|step| step.resource.as_deref());
    let service = services.rfind(|link| link.contains("/backendServices/"));
    let logged = labels["backend_target_name"].as_str().filter(|name| !name.is_empty());
    same("backend service", service.and_then(|link| link.rsplit('/').next()), logged)
}

/// The slice of the data path as a topology: its network, and the services that masks may yield.
fn topology(cases: &[Case]) -> Topology {
    let id = network();
    let project = Project { id: id.project.to_string(), number: 1 };
    Topology {
        projects: BTreeMap::from([(project.id.clone(), project)]),
        networks: vec![slice::Network {
            id: id.clone(),
            project_number: 1,
            subnetworks: vec![Subnetwork {
                self_link: url_map_model::link("subnetworks", "all"),
                region: REGION.to_owned(),
                range: "10.0.0.0/8".parse().expect("a range"),
                purpose: Purpose::Private,
            }],
            peerings: Vec::new(),
            instances: Vec::new(),
            firewalls: Vec::new(),
            routes: Vec::new(),
        }],
        load_balancing: live::merged(cases).load_balancing,
        services: [("a", &["a", "b", "x"][..]), ("b", &["a", "ab"]), ("ab", &[])]
            .map(|(name, tags)| service(name, tags))
            .into(),
        ..Topology::default()
    }
}

fn service(name: &str, tags: &[&str]) -> Service {
    Service {
        self_link: names::SelfLink::new(&format!("projects/p/locations/{REGION}/services/{name}")),
        name: name.to_owned(),
        project: "p".to_owned(),
        project_number: 1,
        region: REGION.to_owned(),
        hosts: vec![format!("{name}-1.{REGION}.run.app")],
        traffic: [TrafficTarget::latest()]
            .into_iter()
            .chain(tags.iter().map(|tag| TrafficTarget::tagged(tag)))
            .collect(),
        custom_audiences: Vec::new(),
        ingress: Ingress::All,
        invoker_iam_disabled: true,
        default_uri_disabled: false,
        internal_networks: Vec::new(),
        revision: Revision::new(
            &format!("{name}-00001-abc"),
            Run::Url("http://127.0.0.1:1".to_owned()),
        ),
        scaling: Scaling::default(),
        older_revisions: Vec::new(),
    }
}
