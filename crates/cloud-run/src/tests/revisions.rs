//! Revisions: splits, tags, roll-outs, roll-backs, affinity, and what is remembered of them.

use super::harness::*;
use slice::run::{EnvValue, Revision, Service, TrafficTarget};
use slice::{ConditionState, ServiceState};
use std::collections::BTreeMap;
use std::io::Write;

/// The service with a new template; the older ones stay known.
fn next(service: &Service, number: u32, mode: &str) -> Service {
    let mut service = service.clone();
    service.revision.name = format!("{}-{number:05}-abc", service.name);
    let value = EnvValue::Text(mode.to_owned());
    service.revision.containers[0].env.insert("MODE".to_owned(), value);
    service
}

fn to(revision: Option<&str>, percent: u32, tag: Option<&str>) -> TrafficTarget {
    TrafficTarget { revision: revision.map(str::to_owned), percent, tag: tag.map(str::to_owned) }
}

/// `K_REVISION` of whoever answers; with a tag, by the tag.
fn revision(stage: &Stage, service: &Service, tag: Option<&str>) -> String {
    let link = match tag {
        Some(tag) => format!("{}#{tag}", service.self_link),
        None => service.self_link.to_string(),
    };
    let mut stream = stage.connect(&balancer(), Some(&link));
    stream.write_all(get("/env", "").as_bytes()).expect("written");
    let answer = Answer::read(stream);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["K_REVISION"].as_str().expect("a revision").to_owned()
}

/// How many of some requests each revision gets.
fn shares(stage: &Stage, service: &Service, requests: u32) -> BTreeMap<String, u32> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        *shares.entry(revision(stage, service, None)).or_default() += 1;
    }
    shares
}

fn state(stage: &Stage) -> ServiceState {
    let program = stage.started.program().expect("running");
    program.with_deployments(crate::Deployments::all)[0].1.view().state
}

/// Waits until nothing is tried any more.
fn settled(stage: &Stage) -> ServiceState {
    wait_until("what is new has shown what it does", || !state(stage).reconciling);
    state(stage)
}

const FIRST: &str = "orders-00001-abc";
const SECOND: &str = "orders-00002-abc";
const THIRD: &str = "orders-00003-abc";

#[test]
fn declared_revisions_share_the_traffic_and_tags_have_their_own_way() {
    let mut orders = next(&service("orders"), 3, "");
    orders.older_revisions =
        vec![next(&orders, 1, "").revision, next(&orders, 2, "second").revision];
    orders.traffic =
        vec![to(Some(FIRST), 50, None), to(None, 50, None), to(Some(SECOND), 0, Some("canary"))];
    let mut stage = Stage::new(vec![orders.clone()]);
    let shares = shares(&stage, &orders, 60);
    assert_eq!(shares.keys().collect::<Vec<_>>(), [FIRST, THIRD], "{shares:?}");
    assert!(shares.values().all(|share| *share >= 5), "{shares:?}");
    assert!(!stage.host.spawned.lock().expect("names").iter().any(|name| name.contains("00002")));
    for _ in 0..5 {
        assert_eq!(revision(&stage, &orders, Some("canary")), SECOND);
    }
    // By the tag's own host name, at Google's front end.
    let host = format!("canary---{}", orders.hosts[0]);
    let request = get("/env", "").replace("internal.example.com", &host);
    let mut stream = stage.connect(&network("ilb"), None);
    stream.write_all(request.as_bytes()).expect("written");
    assert_eq!(Answer::read(stream).json()["K_REVISION"], SECOND);

    let shown = state(&stage);
    let line = |name: &str| shown.revisions.iter().find(|one| one.name == name).expect("shown");
    assert_eq!((line(FIRST).percent, line(SECOND).percent, line(THIRD).percent), (50, 0, 50));
    assert_eq!(line(SECOND).tags, ["canary"]);
    assert_eq!(line(SECOND).instances, 1);
    assert!(shown.revisions.iter().all(|one| one.ready == ConditionState::ConditionSucceeded));

    // The default URLs can be switched off; the load balancer's way stays.
    orders.default_uri_disabled = true;
    stage.reload(vec![orders.clone()]);
    let mut stream = stage.connect(&network("ilb"), None);
    stream.write_all(request.as_bytes()).expect("written");
    assert_eq!(Answer::read(stream).status, 404);
    assert_eq!(revision(&stage, &orders, Some("canary")), SECOND);
}

#[test]
fn a_gradual_roll_out_and_its_roll_back_are_edits_of_the_traffic() {
    let first = next(&service("orders"), 1, "");
    let mut stage = Stage::new(vec![first.clone()]);
    assert_eq!(revision(&stage, &first, None), FIRST);
    // `--no-traffic --tag next`: tried, then without instances until somebody asks by the tag.
    let mut orders = next(&first, 2, "second");
    orders.traffic = vec![to(Some(FIRST), 100, None), to(None, 0, Some("next"))];
    stage.reload(vec![orders.clone()]);
    assert!(state(&stage).reconciling);
    settled(&stage);
    assert_eq!(shares(&stage, &orders, 5).into_keys().collect::<Vec<_>>(), [FIRST]);
    assert_eq!(revision(&stage, &orders, Some("next")), SECOND);
    // 50 %, then all, then back.
    orders.traffic = vec![to(Some(FIRST), 50, None), to(Some(SECOND), 50, None)];
    stage.reload(vec![orders.clone()]);
    assert_eq!(shares(&stage, &orders, 60).len(), 2, "both get something");
    orders.traffic = vec![to(Some(SECOND), 100, None)];
    stage.reload(vec![orders.clone()]);
    assert_eq!(revision(&stage, &orders, None), SECOND);
    wait_until("the first has no instance", || stage.host.running() == 1);
    // An explicit split is sticky: a new template gets nothing.
    let sticky = next(&orders, 3, "third");
    stage.reload(vec![sticky.clone()]);
    let shown = settled(&stage);
    assert_eq!(shown.revisions[2].name, THIRD);
    assert_eq!(shown.revisions[2].ready, ConditionState::ConditionSucceeded);
    assert_eq!(revision(&stage, &sticky, None), SECOND);
    wait_until("it was started once, and has ended", || stage.host.running() == 1);
    // Roll-back, without the first one's template in the files.
    let mut back = sticky.clone();
    back.traffic = vec![to(Some(FIRST), 100, None)];
    stage.reload(vec![back.clone()]);
    assert_eq!(revision(&stage, &back, None), FIRST);
}

#[test]
fn a_broken_revision_serves_nothing_and_says_why() {
    let first = next(&service("orders"), 1, "");
    let mut stage = Stage::new(vec![first.clone()]);
    assert_eq!(revision(&stage, &first, None), FIRST);
    let broken = next(&first, 2, "broken");
    stage.reload(vec![broken.clone()]);
    let shown = settled(&stage);
    assert!(shown.starts, "the service serves");
    let line = &shown.revisions[1];
    assert_eq!(line.ready, ConditionState::ConditionFailed);
    assert_eq!(line.reason.as_deref(), Some("HEALTH_CHECK_CONTAINER_ERROR"));
    assert!(
        line.message.starts_with(
            "Revision 'orders-00002-abc' is not ready and cannot serve traffic. The user-provided \
             container failed to start and listen on the port defined provided by the PORT=8080"
        ),
        "{}",
        line.message
    );
    assert_eq!(shares(&stage, &broken, 5).into_keys().collect::<Vec<_>>(), [FIRST]);
    // By name it takes nothing either: the split before stays, with its own tags only.
    let mut named = broken.clone();
    named.traffic = vec![to(Some(SECOND), 100, Some("broken"))];
    stage.reload(vec![named.clone()]);
    let shown = settled(&stage);
    assert_eq!(shown.traffic, [TrafficTarget::latest()]);
    assert_eq!(revision(&stage, &named, None), FIRST);
    // A reload tries again; the program works in the meantime, the template is the same.
    let third = next(&first, 3, "third");
    stage.reload(vec![third.clone()]);
    settled(&stage);
    assert_eq!(revision(&stage, &third, None), THIRD);
}

#[test]
fn on_a_fresh_start_a_broken_revision_gives_way_to_an_older_one() {
    let mut orders = next(&service("orders"), 2, "broken");
    orders.older_revisions = vec![next(&orders, 1, "").revision];
    let stage = Stage::new(vec![orders.clone()]);
    // The first request finds it out, and is served all the same.
    assert_eq!(revision(&stage, &orders, None), FIRST);
}

#[test]
fn without_health_check_a_revision_serves_at_once() {
    let first = next(&service("orders"), 1, "");
    let mut stage = Stage::new(vec![first.clone()]);
    assert_eq!(revision(&stage, &first, None), FIRST);
    let mut second = next(&first, 2, "slow");
    second.revision.health_check_disabled = true;
    stage.reload(vec![second.clone()]);
    assert_eq!(revision(&stage, &second, None), SECOND);
}

#[test]
fn a_client_stays_with_its_instance_whatever_the_percentages() {
    let mut orders = next(&service("orders"), 2, "second");
    let sticky = |revision: Revision| Revision { session_affinity: true, ..revision };
    orders.older_revisions = vec![sticky(next(&orders, 1, "").revision)];
    orders.revision = sticky(orders.revision);
    orders.traffic = vec![to(Some(FIRST), 50, None), to(None, 50, None)];
    let mut stage = Stage::new(vec![orders.clone()]);
    let ask = |stage: &Stage, cookie: &str| stage.ask(&orders, &get("/env", cookie));
    let first = ask(&stage, "");
    let set = first.header("set-cookie").expect("a cookie").to_owned();
    assert!(set.starts_with("GAESA=") && set.contains("Max-Age=2592000"), "{set}");
    assert_eq!(first.header("cache-control"), Some("private"));
    let cookie = format!("cookie: a=b; {}\r\n", set.split(';').next().expect("a pair"));
    for _ in 0..20 {
        let again = ask(&stage, &cookie);
        assert_eq!(again.json()["pid"], first.json()["pid"]);
        assert_eq!(again.header("set-cookie"), None, "it has it already");
    }
    let forged = format!("cookie: GAESA={}\r\n", "0".repeat(40));
    let fresh = ask(&stage, &forged);
    assert_eq!(fresh.status, 200);
    assert!(fresh.header("set-cookie").is_some(), "one that fits nothing is as good as none");
    // The revision is left without a share: the client moves on, and gets another cookie.
    let mut only = orders.clone();
    let served = first.json()["K_REVISION"].as_str().expect("a revision").to_owned();
    let other = if served == FIRST { SECOND } else { FIRST };
    only.traffic = vec![to(Some(other), 100, None), to(Some(&served), 0, Some("old"))];
    stage.reload(vec![only]);
    let moved = ask(&stage, &cookie);
    assert_eq!(moved.json()["K_REVISION"], other);
    assert!(moved.header("set-cookie").is_some());
}

#[test]
fn revisions_are_remembered_and_what_nobody_knows_is_refused() {
    let first = next(&service("orders"), 1, "");
    let mut stage = Stage::new(vec![first.clone()]);
    let second = next(&first, 2, "second");
    stage.reload(vec![second.clone()]);
    settled(&stage);
    assert_eq!(revision(&stage, &second, None), SECOND);

    let mut missing = second.clone();
    missing.traffic = vec![TrafficTarget::latest(), to(Some("orders-00009-abc"), 0, Some("old"))];
    let text = stage.refused(vec![missing]);
    assert!(text.contains("Revision 'orders-00009-abc' does not exist or was deleted."), "{text}");
    let mut taken = next(&second, 1, "other");
    let text = stage.refused(vec![taken.clone()]);
    let conflict = "Revision named 'orders-00001-abc' with different configuration already exists.";
    assert!(text.contains(conflict), "{text}");
    assert_eq!(revision(&stage, &second, None), SECOND, "nothing has changed");

    let mut split = second.clone();
    split.traffic = vec![to(Some(FIRST), 100, None), to(None, 0, Some("newest"))];
    let stage = stage.restart(vec![split.clone()]);
    assert_eq!(revision(&stage, &split, None), FIRST, "known from before");
    assert_eq!(revision(&stage, &split, Some("newest")), SECOND);
    // A service that goes takes its revisions with it.
    let mut stage = stage;
    stage.reload(Vec::new());
    taken.traffic = vec![TrafficTarget::latest()];
    stage.reload(vec![taken.clone()]);
    assert_eq!(revision(&stage, &taken, None), FIRST);
}

#[test]
fn instance_counts_of_the_service_are_divided_by_traffic() {
    let mut orders = next(&service("orders"), 2, "second");
    orders.older_revisions = vec![next(&orders, 1, "").revision];
    orders.traffic = vec![to(Some(FIRST), 75, None), to(None, 25, None)];
    orders.scaling.min_instances = 4;
    orders.revision.max_instances = 10;
    orders.older_revisions[0].max_instances = 10;
    let stage = Stage::new(vec![orders]);
    wait_until("three and one", || {
        let shown = state(&stage);
        shown.revisions.iter().map(|one| one.instances).collect::<Vec<_>>() == [3, 1]
    });
}
