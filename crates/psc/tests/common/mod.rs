//! A small world: one attachment, consumers, and the files that one edits.
#![allow(dead_code, reason = "each test file uses its own part")]

use names::{NetworkId, SelfLink};
use psc::{Connection, reconcile};
use slice::ConnectionState;
use slice::psc::{
    Accept, ConnectionStatus, Consumer, Endpoint, EndpointKind, NatSubnet, ServiceAttachment,
    ServiceAttachmentSlice, Target,
};
use std::net::Ipv4Addr;

pub const REGION: &str = "europe-west1";

pub fn attachment() -> ServiceAttachment {
    let link = |collection, name| SelfLink::regional("producer", REGION, collection, name);
    ServiceAttachment {
        nat_subnets: vec![nat_subnet("10.0.2.0/28")],
        ..ServiceAttachment::new(
            link("serviceAttachments", "apps"),
            REGION,
            NetworkId::new("producer", "ilb-network"),
            Target {
                forwarding_rule: link("forwardingRules", "ilb"),
                address: Ipv4Addr::new(10, 0, 0, 5),
                ports: vec![443],
                protocol: Default::default(),
                all_ports: false,
                allow_global_access: false,
            },
        )
    }
}

pub fn nat_subnet(range: &str) -> NatSubnet {
    let name = format!("nat-{}", range.replace(['.', '/'], "-"));
    NatSubnet {
        self_link: SelfLink::regional("producer", REGION, "subnetworks", &name),
        range: range.parse().expect("a range"),
    }
}

/// An endpoint of `project`; its network is `project/vpc`, its number the last letters' value.
pub fn endpoint(project: &str, name: &str) -> Endpoint {
    let number = |text: &str| {
        text.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
    };
    let network = NetworkId::new(project, "vpc");
    let address = 0x0a00_0000 | (number(&format!("{project}/{name}")) as u32 & 0xff_ffff);
    Endpoint {
        self_link: SelfLink::regional(project, REGION, "forwardingRules", name),
        kind: EndpointKind::ForwardingRule,
        project: project.to_owned(),
        project_number: project_number(project),
        network,
        region: REGION.to_owned(),
        address: Ipv4Addr::from(address),
        ports: vec![443],
        protocol: Default::default(),
        all_ports: false,
        target: attachment().self_link,
        producer_network: Some(attachment().network),
        psc_connection_id: number(&format!("{project}/{name}")),
        allow_psc_global_access: false,
        producer_allows_global_access: true,
        automatic_dns_name: None,
        ancestry: Vec::new(),
        propagated_from: None,
    }
}

pub fn project_number(project: &str) -> u64 {
    1_000_000 + project.bytes().map(u64::from).sum::<u64>()
}

pub fn project(project: &str, limit: u32) -> Accept {
    Accept { consumer: Consumer::ProjectIdOrNum(project.to_owned()), connection_limit: limit }
}

pub fn rejected(project: &str) -> Consumer {
    Consumer::ProjectIdOrNum(project.to_owned())
}

/// The documented example of limits (private-connectivity 1.2).
pub fn four_consumers() -> World {
    let mut attachment = attachment();
    attachment.consumer_accept_lists = vec![project("project-1", 1), project("project-2", 1)];
    let endpoints = vec![
        endpoint("project-1", "a"),
        endpoint("project-1", "b"),
        endpoint("project-2", "a"),
        endpoint("project-3", "a"),
    ];
    World::new(attachment, endpoints)
}

/// The files, and the state that the program keeps between two versions of them.
pub struct World {
    pub slice: ServiceAttachmentSlice,
    pub states: Vec<ConnectionState>,
    pub connections: Vec<Connection>,
    /// Ticks with every edit.
    pub clock: u64,
}

impl World {
    pub fn new(attachment: ServiceAttachment, endpoints: Vec<Endpoint>) -> Self {
        let network = attachment.network.clone();
        let slice = ServiceAttachmentSlice {
            network,
            attachments: vec![attachment],
            endpoints,
            nat_subnetworks: Vec::new(),
            remote: Default::default(),
        };
        let mut world = World { slice, states: Vec::new(), connections: Vec::new(), clock: 0 };
        world.apply();
        world
    }

    pub fn apply(&mut self) {
        self.clock += 1;
        self.connections = reconcile(&self.states, &self.slice, self.clock);
        self.states = self.connections.iter().map(Connection::state).collect();
        let again = reconcile(&self.states, &self.slice, self.clock + 1_000_000);
        assert_eq!(again, self.connections, "reconcile applied to its own result");
    }

    pub fn edit(&mut self, edit: impl FnOnce(&mut ServiceAttachment)) -> &mut Self {
        edit(&mut self.slice.attachments[0]);
        self.apply();
        self
    }

    /// `project/name` of every endpoint with its status's first letter, oldest first.
    pub fn statuses(&self) -> String {
        let one = |connection: &Connection| {
            let letter = match connection.status {
                ConnectionStatus::Pending => "P",
                ConnectionStatus::Accepted => "A",
                ConnectionStatus::Rejected => "R",
                ConnectionStatus::NeedsAttention => "N",
                ConnectionStatus::Closed => "C",
            };
            format!("{}/{}={letter}", connection.endpoint.project(), connection.endpoint.name())
        };
        self.connections.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    pub fn details(&self) -> Vec<String> {
        self.connections.iter().map(ToString::to_string).collect()
    }
}
