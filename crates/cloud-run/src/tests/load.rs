//! A service under load: instances, queue and refusals are those that the pure fleet says, in
//! virtual time, for the same events.

use super::harness::*;
use autoscaling::fleet::{Acquired, Fleet};
use autoscaling::scaler::Spec;
use names::Reason;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use slice::run::Service;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const CONCURRENCY: u32 = 10;
const INSTANCES_MAX: u32 = 5;

/// What becomes of requests that all come at once and stay.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    instances: u32,
    served: usize,
    waiting: usize,
    refused: Vec<u16>,
}

/// Asks the pure fleet: `first` requests, then, when as many instances as are wanted have started,
/// `more`.
fn predicted(first: u32, more: u32) -> Outcome {
    let spec = Spec { concurrency: CONCURRENCY, instances_max: INSTANCES_MAX, ..Spec::DEFAULT };
    let mut fleet = Fleet::new(Duration::ZERO, spec);
    let mut outcome = Outcome::default();
    let start = Duration::from_millis(100);
    let take = |fleet: &mut Fleet<u32>, outcome: &mut Outcome, now, request| match fleet
        .acquire(now, || request)
    {
        Acquired::Slot(_) => outcome.served += 1,
        Acquired::Queued(_) => outcome.waiting += 1,
        Acquired::Refused(reason) => outcome.refused.push(status(reason)),
        Acquired::Retired => unreachable!("nobody retires it"),
    };
    for request in 0..first {
        take(&mut fleet, &mut outcome, Duration::ZERO, request);
    }
    for ordinal in fleet.plan(Duration::ZERO, 0).start {
        outcome.instances += 1;
        let granted = fleet.started(start, ordinal).len();
        outcome.served += granted;
        outcome.waiting -= granted;
    }
    for request in 0..more {
        take(&mut fleet, &mut outcome, start, request);
    }
    outcome
}

fn status(reason: Reason) -> u16 {
    if reason == Reason::NoAvailableInstance { 429 } else { 500 }
}

fn orders() -> Service {
    let mut orders = service("orders");
    orders.revision.container_concurrency = CONCURRENCY;
    orders.revision.max_instances = INSTANCES_MAX;
    orders.scaling.idle_seconds = Some(1);
    orders
}

fn begin(stage: &Stage, service: &Service, path: &str) -> UnixStream {
    let mut stream = stage.connect(&balancer(), Some(service.self_link.as_str()));
    stream.write_all(get(path, "").as_bytes()).expect("written");
    stream
}

#[test]
fn instances_queue_and_refusals_are_those_that_the_fleet_predicts_and_idle_ones_go() {
    // Both ends of every connection are in this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).expect("raised");
    let orders = orders();
    let stage = Stage::new(vec![orders.clone()]);
    let deployment = {
        let program = stage.started.program().expect("running");
        program.with_deployments(crate::Deployments::all)[0].1.clone()
    };
    let counts = || deployment.route().revisions[0].0.counts();

    assert_eq!(stage.get(&orders, "/sleep?s=0.2").status, 200, "the first starts from zero");
    assert_eq!(stage.host.spawned(), 1);
    wait_until("nothing is left of it", || stage.host.running() == 0);

    let gate = std::env::temp_dir().join(format!("cloud-run-load-{}", std::process::id()));
    let path = format!("/wait?file={}", gate.display());
    let (first, more) = (CONCURRENCY * INSTANCES_MAX, 600);
    let expected = predicted(first, more);
    let mut clients: Vec<_> = (0..first).map(|_| begin(&stage, &orders, &path)).collect();
    wait_until("all slots are taken", || {
        counts().active == expected.instances && counts().pending == 0
    });
    assert_eq!(stage.host.running(), expected.instances as usize);
    clients.extend((0..expected.waiting).map(|_| begin(&stage, &orders, &path)));
    wait_until("the queue is full", || counts().pending == expected.waiting);
    let refused: Vec<u16> =
        expected.refused.iter().map(|_| stage.get(&orders, &path).status).collect();
    assert_eq!(refused, expected.refused);
    assert!(refused.iter().all(|status| *status == 429) && !refused.is_empty());
    std::fs::write(&gate, "").expect("written");
    for client in clients {
        assert_eq!(Answer::read(client).status, 200);
    }
    assert_eq!(stage.host.spawned(), 1 + expected.instances as usize, "and never more");
    wait_until("idle instances are stopped", || stage.host.running() == 0);
    let _ = std::fs::remove_file(gate);
}
