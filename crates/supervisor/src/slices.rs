//! Each program's slice of a topology, with keys filled in, as it goes over the wire.

use crate::child::ProgramId;
use names::NetworkId;
use slice::{Listen, Role, Slice, Topology};
use std::net::SocketAddr;

/// The programs that a topology needs.
pub fn programs(topology: &Topology) -> Vec<ProgramId> {
    let programs = topology::programs(topology).into_iter();
    programs.map(|(role, network)| ProgramId { role, network }).collect()
}

/// A program's slice as JSON and the sockets that it serves. `northbound` publishes the API proxy's host
/// elsewhere than the topology says; `forwards`: the kernel carries the packets of passthrough rules.
///
/// # Errors
/// Keys that cannot be made.
pub fn cut(
    id: &ProgramId,
    topology: &Topology,
    store: &keys::Store,
    northbound: Option<SocketAddr>,
    forwards: bool,
) -> Result<(String, Vec<Listen>), String> {
    let outside = NetworkId::internet();
    let network: &NetworkId = id.network.as_ref().unwrap_or(&outside);
    match id.role {
        Role::EndpointAttachment => wire(&topology::endpoint_attachment(topology, network)),
        Role::ServiceAttachment => wire(&topology::service_attachment(topology, network)),
        Role::InternalLb => {
            let mut slice = topology::internal_lb(topology, network);
            store.fill_internal_lb(&mut slice)?;
            slice.carries_packets = !forwards;
            // Where the user chooses the address of one host, any free port of it is good for the
            // others.
            let free = northbound.map(|address| SocketAddr::new(address.ip(), 0));
            for rule in &mut slice.load_balancing.forwarding_rules {
                rule.northbound = rule.northbound.map(|own| free.unwrap_or(own));
            }
            wire(&slice)
        }
        Role::PrivateDns => wire(&topology::private_dns(topology, network)),
        Role::Metadata => {
            let mut slice = topology::metadata(topology, network);
            store.fill_metadata(&mut slice)?;
            wire(&slice)
        }
        Role::GoogleFrontEnd => wire(&topology::google_front_end(topology, network)),
        Role::CloudRun => {
            let mut slice = topology::cloud_run(topology);
            store.fill_cloud_run(&mut slice)?;
            wire(&slice)
        }
        Role::ApiProxy => {
            let mut slice = topology::api_proxy(topology, network)
                .ok_or_else(|| format!("no Apigee organisation runs in {network}"))?;
            store.fill_api_proxy(&mut slice)?;
            slice.northbound = northbound.or(slice.northbound);
            wire(&slice)
        }
    }
}

fn wire(slice: &impl Slice) -> Result<(String, Vec<Listen>), String> {
    let text = serde_json::to_string(slice).map_err(|error| error.to_string())?;
    Ok((text, slice.listens()))
}
