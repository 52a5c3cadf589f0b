//! Instances: scaling, failing, rolling out, timing out.

use super::harness::*;
use crate::deployment::Deployment;
use crate::revision::Revision;
use slice::run::{EnvValue, Probe, ProbeAction, Service};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

fn pid(stage: &Stage, service: &Service) -> u64 {
    stage.get(service, "/env").json()["pid"].as_u64().expect("a pid")
}

fn revision(stage: &Stage, service: &Service) -> String {
    let env = stage.get(service, "/env").json();
    env["K_REVISION"].as_str().expect("a revision").to_owned()
}

/// A request under way; its answer is read later.
fn begin(stage: &Stage, service: &Service, path: &str) -> UnixStream {
    let mut stream = stage.connect(&balancer(), Some(service.self_link.as_str()));
    stream.write_all(get(path, "").as_bytes()).expect("written");
    stream
}

/// The first service at work.
fn deployment(stage: &Stage) -> Arc<Deployment> {
    let program = stage.started.program().expect("running");
    program.with_deployments(crate::Deployments::all)[0].1.clone()
}

/// The revision that all requests get.
fn serving(deployment: &Deployment) -> Arc<Revision> {
    Arc::clone(&deployment.route().revisions[0].0)
}

#[test]
fn requests_without_a_free_slot_start_instances_up_to_the_maximum() {
    let mut orders = service("orders");
    orders.revision.container_concurrency = 1;
    orders.revision.max_instances = 2;
    let stage = Stage::new(vec![orders.clone()]);
    let under_way: Vec<_> = (0..3).map(|_| begin(&stage, &orders, "/sleep?s=600")).collect();
    let deployment = deployment(&stage);
    wait_until("two are busy and one request waits", || {
        let counts = serving(&deployment).counts();
        (counts.active, counts.starting, counts.pending) == (2, 0, 1)
    });
    assert_eq!(stage.host.spawned(), 2);
    drop(under_way);
}

#[test]
fn minimum_instances_are_started_by_the_commit() {
    let mut orders = service("orders");
    orders.revision.min_instances = 2;
    let stage = Stage::new(vec![orders]);
    wait_until("two instances", || stage.host.spawned() == 2);
}

#[test]
fn a_program_that_does_not_start_gives_500_and_mends_by_a_reload() {
    let mut orders = service("orders");
    mode(&mut orders, "broken");
    let mut stage = Stage::new(vec![orders.clone()]);
    assert_eq!(stage.get(&orders, "/env").status, 500);
    orders.revision.name = "orders-00002-def".to_owned();
    orders.revision.containers[0].env.clear();
    stage.reload(vec![orders.clone()]);
    // Nothing else serves, so the new one's first instance is waited for.
    assert_eq!(stage.get(&orders, "/env").status, 200);
}

#[test]
fn a_crash_is_503_for_who_was_on_it_and_the_next_request_gets_a_new_instance() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    let first = pid(&stage, &orders);
    let beside = begin(&stage, &orders, "/sleep?s=30");
    let crashed = stage.get(&orders, "/crash");
    assert_eq!(crashed.status, 503);
    assert!(crashed.text().starts_with("upstream connect error"));
    assert_eq!(Answer::read(beside).status, 503);
    // The end of the process may be told a moment later than its connections break.
    let mut second = 0;
    wait_until("another instance serves", || {
        let answer = stage.get(&orders, "/env");
        second = if answer.status == 200 { answer.json()["pid"].as_u64().unwrap_or(0) } else { 0 };
        second != 0
    });
    assert_ne!(first, second);
}

#[test]
fn a_changed_template_is_in_force_once_it_has_started_and_the_old_instance_drains() {
    let mut orders = service("orders");
    let mut stage = Stage::new(vec![orders.clone()]);
    let first = pid(&stage, &orders);
    let under_way = begin(&stage, &orders, "/sleep?s=1");
    orders.scaling.max_instances = Some(7);
    stage.reload(vec![orders.clone()]);
    assert_eq!(pid(&stage, &orders), first, "other bounds of the service are no other revision");
    orders.revision.name = "orders-00002-def".to_owned();
    mode(&mut orders, "slow");
    stage.reload(vec![orders.clone()]);
    assert_eq!(revision(&stage, &orders), "orders-00001-abc", "until the new one has started");
    wait_until("the new one serves", || revision(&stage, &orders) == "orders-00002-def");
    assert_eq!(Answer::read(under_way).status, 200, "in-flight requests end on the old one");
    wait_until("only the new instance runs", || stage.host.running() == 1);
}

#[test]
fn a_new_revision_that_does_not_start_takes_no_traffic() {
    let mut orders = service("orders");
    let mut stage = Stage::new(vec![orders.clone()]);
    let first = pid(&stage, &orders);
    orders.revision.name = "orders-00002-def".to_owned();
    mode(&mut orders, "broken");
    stage.reload(vec![orders.clone()]);
    for _ in 0..3 {
        assert_eq!(pid(&stage, &orders), first);
    }
    orders.revision.name = "orders-00003-ghi".to_owned();
    orders.revision.containers[0].env.clear();
    stage.reload(vec![orders.clone()]);
    wait_until("the third serves", || pid(&stage, &orders) != first);
}

#[test]
fn a_deadline_is_504_and_the_instance_lives() {
    let mut orders = service("orders");
    orders.revision.timeout_seconds = 2;
    let stage = Stage::new(vec![orders.clone()]);
    // The cold start counts, so it comes first.
    let mut first = 0;
    wait_until("it has started", || {
        let answer = stage.get(&orders, "/env");
        first = if answer.status == 200 { answer.json()["pid"].as_u64().unwrap_or(0) } else { 0 };
        first != 0
    });
    let answer = stage.get(&orders, "/sleep?s=3&id=late");
    assert_eq!((answer.status, answer.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(pid(&stage, &orders), first);
    wait_until("the handler ran to its end", || {
        stage.get(&orders, "/finished").text().contains("late")
    });
    let cut = stage.get(&orders, "/stall");
    assert_eq!(cut.status, 200, "after the first byte the status stays");
    assert!(
        cut.text().contains("first") && !cut.text().ends_with("0\r\n\r\n"),
        "and the stream is cut"
    );
}

#[test]
fn a_client_that_leaves_over_http1_is_not_told_to_the_container() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    pid(&stage, &orders);
    let leaving = begin(&stage, &orders, "/sleep?s=0.3&id=left");
    leaving.shutdown(std::net::Shutdown::Both).expect("closed");
    drop(leaving);
    wait_until("the handler ran to its end", || {
        stage.get(&orders, "/finished").text().contains("left")
    });
}

#[test]
fn a_stream_passes_unbuffered() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    let mut stream = begin(&stage, &orders, "/stall");
    let mut read = Vec::new();
    while !read.ends_with(b"first\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("more"), 1);
        read.push(byte[0]);
    }
}

#[test]
fn at_the_maximum_the_queue_is_bounded_and_answers_429() {
    let mut orders = service("orders");
    orders.revision.container_concurrency = 1;
    orders.revision.max_instances = 1;
    let stage = Stage::new(vec![orders.clone()]);
    pid(&stage, &orders);
    let busy = begin(&stage, &orders, "/sleep?s=1");
    let deployment = deployment(&stage);
    let counts = || serving(&deployment).counts();
    wait_until("the instance is busy", || counts().active == 1);
    let waiting: Vec<_> = (0..10).map(|_| begin(&stage, &orders, "/env")).collect();
    wait_until("ten wait", || counts().pending == 10);
    let refused = stage.get(&orders, "/env");
    assert_eq!((refused.status, refused.text().as_str()), (429, "Rate exceeded."));
    assert_eq!(Answer::read(busy).status, 200);
    for waiting in waiting {
        assert_eq!(Answer::read(waiting).status, 200);
    }
}

fn mode(service: &mut Service, mode: &str) {
    let env = &mut service.revision.containers[0].env;
    env.insert("MODE".to_owned(), EnvValue::Text(mode.to_owned()));
}

fn probe(path: &str) -> Option<Probe> {
    Some(Probe {
        action: ProbeAction::Http { port: 8080, path: path.to_owned(), headers: Vec::new() },
        initial_delay_seconds: 0,
        timeout_seconds: 1,
        period_seconds: 1,
        failure_threshold: 1,
        success_threshold: 1,
    })
}

#[test]
fn an_instance_that_is_not_alive_is_replaced_and_what_it_serves_ends() {
    let mut orders = service("orders");
    orders.revision.containers[0].liveness_probe = probe("/probe/alive");
    let stage = Stage::new(vec![orders.clone()]);
    let first = pid(&stage, &orders);
    let under_way = begin(&stage, &orders, "/sleep?s=60");
    assert_eq!(stage.host.ask_newest("/set?alive=503").status, 200);
    assert_eq!(Answer::read(under_way).status, 503, "its connection broke");
    assert_ne!(pid(&stage, &orders), first);
    assert_eq!(stage.host.spawned(), 2);
}

#[test]
fn an_instance_that_is_not_ready_gets_no_new_request_and_lives() {
    let mut orders = service("orders");
    orders.revision.max_instances = 1;
    orders.revision.containers[0].readiness_probe = probe("/probe/ready");
    let stage = Stage::new(vec![orders.clone()]);
    let first = pid(&stage, &orders);
    let under_way = begin(&stage, &orders, "/sleep?s=1");
    assert_eq!(stage.host.ask_newest("/set?ready=503").status, 200);
    wait_until("two probes have failed", || {
        stage.host.ask_newest("/probes").json()["ready"].as_u64() >= Some(2)
    });
    let waits = begin(&stage, &orders, "/env");
    let deployment = deployment(&stage);
    wait_until("it waits", || serving(&deployment).counts().pending == 1);
    assert_eq!(Answer::read(under_way).status, 200, "what it serves goes on");
    assert_eq!(stage.host.ask_newest("/set?ready=200").status, 200);
    assert_eq!(Answer::read(waits).json()["pid"].as_u64(), Some(first));
    assert_eq!(stage.host.spawned(), 1);
}

#[test]
fn a_startup_probe_of_its_own_decides_when_requests_come() {
    let mut orders = service("orders");
    orders.revision.containers[0].startup_probe = probe("/probe/never");
    let stage = Stage::new(vec![orders.clone()]);
    assert_eq!(stage.get(&orders, "/env").status, 500, "it listens, but that does not count");
    orders.revision.containers[0].startup_probe = probe("/probe/alive");
    orders.revision.name = "orders-00002-def".to_owned();
    let mut stage = stage;
    stage.reload(vec![orders.clone()]);
    assert_eq!(stage.get(&orders, "/env").status, 200);
    assert!(stage.get(&orders, "/probes").json()["alive"].as_u64() >= Some(1));
}
