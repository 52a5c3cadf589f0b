//! The admission table, cell by cell: (preference, kind of list, content, limit, reconcile, change),
//! the engine against the naive model in `model`.

mod common;
mod model;

use common::{REGION, World, attachment, endpoint, project_number};
use model::{Consumer, Kind, Model, Producer, Status};
use names::{NetworkId, SelfLink};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use psc::{Connection, reconcile};
use slice::ConnectionState;
use slice::psc as files;

fn consumer(project: &str, network: &str, name: &str, backend: bool) -> Consumer {
    let [project, network, name] = [project, network, name].map(str::to_owned);
    Consumer { project, network, name, backend }
}

/// Two endpoints and a backend of `p`, one of them in a network of `q`; `q`, and a stranger.
fn everybody() -> Vec<Consumer> {
    vec![
        consumer("p", "p/vpc", "a", false),
        consumer("p", "q/vpc", "b", false),
        consumer("p", "p/vpc", "group", true),
        consumer("q", "q/vpc", "a", false),
        consumer("r", "r/vpc", "a", false),
    ]
}

/// The names of `p` (or `q`) in lists of this kind: its backend is named too, where endpoints are.
fn names(kind: Kind, project: &str) -> Vec<String> {
    match kind {
        Kind::Project => vec![project.to_owned()],
        Kind::Network => vec![format!("{project}/vpc")],
        Kind::Endpoint => vec![format!("{project}/a"), format!("{project}/group")],
    }
}

fn accepts(kind: Kind, projects: &[(&str, u32)]) -> Vec<(String, u32)> {
    let of = |&(project, limit): &(&str, u32)| {
        names(kind, project).into_iter().map(move |name| (name, limit))
    };
    projects.iter().flat_map(of).collect()
}

fn rejects(kind: Kind, projects: &[&str]) -> Vec<String> {
    projects.iter().flat_map(|project| names(kind, project)).collect()
}

fn network(text: &str) -> NetworkId {
    text.parse().expect("PROJECT/NETWORK")
}

/// The producer's document as the slice has it.
fn written(producer: &Producer) -> files::ServiceAttachment {
    let consumer = |name: &String| match producer.kind {
        // Even ones by id, odd ones by number: both name the same project.
        Kind::Project if name == "q" => {
            files::Consumer::ProjectIdOrNum(project_number(name).to_string())
        }
        Kind::Project => files::Consumer::ProjectIdOrNum(name.clone()),
        Kind::Network => files::Consumer::NetworkUrl(network(name)),
        Kind::Endpoint => {
            let (project, name) = name.split_once('/').expect("PROJECT/NAME");
            files::Consumer::EndpointUrl(link(project, name))
        }
    };
    let mut sa = attachment();
    sa.nat_subnets = vec![common::nat_subnet("10.0.2.0/24")]; // room for everybody
    sa.connection_preference = match producer.automatic {
        true => files::ConnectionPreference::AcceptAutomatic,
        false => files::ConnectionPreference::AcceptManual,
    };
    sa.consumer_accept_lists = producer
        .accept
        .iter()
        .map(|(name, limit)| files::Accept { consumer: consumer(name), connection_limit: *limit })
        .collect();
    sa.consumer_reject_lists = producer.reject.iter().map(consumer).collect();
    sa.reconcile_connections = producer.reconcile;
    sa.consumer_policy = (!producer.blocked.is_empty()).then(|| files::ConsumerPolicy {
        name: "policy".to_owned(),
        allowed: files::Allowed::All,
        denied: producer.blocked.iter().map(|project| format!("projects/{project}")).collect(),
    });
    sa
}

fn link(project: &str, name: &str) -> SelfLink {
    SelfLink::regional(project, REGION, "forwardingRules", name)
}

fn real(consumer: &Consumer) -> files::Endpoint {
    files::Endpoint {
        self_link: link(&consumer.project, &consumer.name),
        kind: match consumer.backend {
            true => files::EndpointKind::NetworkEndpointGroup,
            false => files::EndpointKind::ForwardingRule,
        },
        network: network(&consumer.network),
        ancestry: vec![format!("projects/{}", consumer.project)],
        ..endpoint(&consumer.project, &consumer.name)
    }
}

/// Both, side by side.
struct Both {
    model: Model,
    kept: Vec<ConnectionState>,
}

impl Both {
    fn new() -> Both {
        Both { model: Model::default(), kept: Vec::new() }
    }

    /// What the engine keeps goes through its text.
    fn restart(&mut self) {
        let text = serde_json::to_string(&self.kept).expect("text");
        self.kept = serde_json::from_str(&text).expect("read again");
    }

    fn edit(&mut self, producer: Option<&Producer>, endpoints: &[Consumer]) -> Result<(), String> {
        let before: Vec<_> = self.model.connections.clone();
        self.model.edit(producer, endpoints);
        let slice = files::ServiceAttachmentSlice {
            network: attachment().network,
            attachments: producer.map(written).into_iter().collect(),
            endpoints: endpoints.iter().map(real).collect(),
            nat_subnetworks: Vec::new(),
            remote: Default::default(),
        };
        let connections = reconcile(&self.kept, &slice, 1);
        self.kept = connections.iter().map(Connection::state).collect();
        let got: Vec<_> =
            connections.iter().map(|one| (one.endpoint.clone(), one.status.to_string())).collect();
        let word = |status: &Status| match status {
            Status::Pending => "PENDING",
            Status::Accepted => "ACCEPTED",
            Status::Rejected => "REJECTED",
            Status::Closed => "CLOSED",
        };
        let expected: Vec<_> = self
            .model
            .connections
            .iter()
            .map(|(one, status)| (link(&one.project, &one.name), word(status).to_owned()))
            .collect();
        match got == expected {
            true => Ok(()),
            false => Err(format!(
                "before {before:#?}\nproducer {producer:#?}\nengine {got:#?}\nmodel {expected:#?}"
            )),
        }
    }
}

/// Every content of the lists, by whom they name.
const CONTENTS: [(&[&str], &[&str]); 7] = [
    (&[], &[]),
    (&["p"], &[]),
    (&["p", "q"], &[]),
    (&[], &["p"]),
    (&["p"], &["p"]),
    (&["p"], &["q"]),
    (&["q"], &["p"]),
];

/// Every row of the table.
fn producers() -> Vec<Producer> {
    let mut all = Vec::new();
    for automatic in [false, true] {
        for kind in [Kind::Project, Kind::Network, Kind::Endpoint] {
            for (accept, reject) in CONTENTS {
                for limit in [0, 1, 9] {
                    if accept.is_empty() && limit > 0 {
                        continue; // a limit of nobody
                    }
                    for reconcile in [false, true] {
                        all.push(Producer {
                            automatic,
                            kind,
                            accept: accepts(
                                kind,
                                &accept.iter().map(|p| (*p, limit)).collect::<Vec<_>>(),
                            ),
                            reject: rejects(kind, reject),
                            reconcile,
                            blocked: Vec::new(),
                        });
                    }
                }
            }
        }
    }
    all
}

/// Every row changed into every other one: preference, kind, content, limit and `reconcile`, alone
/// and several at once; then back.
#[test]
fn every_cell_and_every_change_between_two_cells() {
    let all = producers();
    assert_eq!(all.len(), 2 * 3 * (2 + 5 * 3) * 2);
    let everybody = everybody();
    for before in &all {
        let mut first = Both::new();
        first.edit(Some(before), &everybody).expect("the same");
        for after in &all {
            let connections = first.model.connections.clone();
            let mut both = Both { model: Model { connections }, kept: first.kept.clone() };
            both.edit(Some(after), &everybody).expect("the same");
        }
    }
}

/// The other changes: endpoints come and go, the attachment is deleted and comes back.
#[test]
fn every_cell_with_endpoints_and_attachment_coming_and_going() {
    let all = everybody();
    for producer in producers() {
        let mut both = Both::new();
        let mut edit = |producer: Option<&Producer>, endpoints: &[Consumer]| {
            both.edit(producer, endpoints).expect("the same");
        };
        edit(Some(&producer), &all[..2]);
        edit(Some(&producer), &all[1..]); // the first one goes: room for the next
        edit(Some(&producer), &all); // and comes back as the youngest
        edit(None, &all);
        edit(Some(&producer), &all); // CLOSED for good
        edit(Some(&producer), &all[2..]);
        edit(Some(&producer), &all); // but new endpoints are new
    }
}

/// The worked example of 1.2.
#[test]
fn limit_1_for_two_projects_and_a_third_that_is_not_listed() {
    let list = |names: &[&str]| Producer {
        automatic: false,
        kind: Kind::Project,
        accept: names.iter().map(|name| ((*name).to_owned(), 1)).collect(),
        reject: Vec::new(),
        reconcile: false,
        blocked: Vec::new(),
    };
    let endpoints = [
        consumer("project-1", "n/one", "first", false),
        consumer("project-1", "n/one", "second", false),
        consumer("project-2", "n/two", "only", false),
        consumer("project-3", "n/three", "only", false),
    ];
    let mut both = Both::new();
    both.edit(Some(&list(&["project-1", "project-2"])), &endpoints).expect("the same");
    let statuses = |both: &Both| -> Vec<_> {
        both.kept.iter().map(|state| state.status.to_string()).collect()
    };
    assert_eq!(statuses(&both), ["ACCEPTED", "PENDING", "ACCEPTED", "PENDING"]);
    let three = list(&["project-1", "project-2", "project-3"]);
    both.edit(Some(&three), &endpoints).expect("the same");
    assert_eq!(statuses(&both), ["ACCEPTED", "PENDING", "ACCEPTED", "ACCEPTED"]);
}

fn any_producer() -> impl Strategy<Value = Producer> {
    (
        prop::bool::weighted(0.25),
        select(vec![Kind::Project, Kind::Network, Kind::Endpoint]),
        subsequence(vec!["p", "q", "r"], 0..=3).prop_shuffle(),
        prop::collection::vec(0u32..4, 3),
        subsequence(vec!["p", "q", "r"], 0..=2),
        any::<bool>(),
        subsequence(vec!["p", "q"], 0..=1),
    )
        .prop_map(|(automatic, kind, accept, limits, reject, reconcile, blocked)| Producer {
            automatic,
            kind,
            accept: accepts(kind, &accept.iter().copied().zip(limits).collect::<Vec<_>>()),
            reject: rejects(kind, &reject),
            reconcile,
            blocked: blocked.iter().map(|p| (*p).to_owned()).collect(),
        })
}

fn any_endpoints() -> impl Strategy<Value = Vec<Consumer>> {
    let mut all = everybody();
    for (project, network) in [("p", "p/vpc"), ("q", "p/vpc"), ("r", "r/vpc")] {
        for at in 0..3 {
            all.push(consumer(project, network, &format!("e{at}"), at == 2));
        }
    }
    let count = all.len();
    subsequence(all, 0..=count).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Sequences of edits, several things in one edit, with an organization policy on top.
    #[test]
    fn any_sequence_of_edits(
        edits in prop::collection::vec(
            (prop::option::weighted(0.9, any_producer()), any_endpoints()), 1..8)
    ) {
        let mut both = Both::new();
        for (producer, endpoints) in &edits {
            both.edit(producer.as_ref(), endpoints).map_err(TestCaseError::fail)?;
            both.restart();
        }
    }
}

/// The harness would see a difference: the engine's world with one edit left out is another.
#[test]
fn the_comparison_can_fail() {
    let world = World::new(attachment(), vec![endpoint("p", "a")]);
    let mut both = Both::new();
    both.kept = world.states; // PENDING in the engine, unknown to the model
    let accepted = Producer {
        automatic: false,
        kind: Kind::Project,
        accept: vec![("p".to_owned(), 0)],
        reject: Vec::new(),
        reconcile: false,
        blocked: Vec::new(),
    };
    both.model.connections = vec![(everybody()[0].clone(), Status::Accepted)];
    assert!(both.edit(Some(&accepted), &everybody()[..1]).is_err());
}
