//! A program without a supervisor: it reads the topology, cuts its own slice with the same slicer,
//! binds its own listeners, and reads everything again on SIGHUP.

use crate::args::Args;
use crate::control::{Running, Setup};
use crate::listener::bind;
use crate::{Program, log};
use names::NetworkId;
use net::Network;
use slice::{Bind, Listen, Placement, Role, Slice, Topology};
use std::any::Any;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) fn run<P: Program>(args: Args) -> Result<(), String> {
    let path = args.topology.as_deref().ok_or("--topology is missing")?;
    let state_dir = match args.state_dir {
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("postern-{}", std::process::id())),
    };
    keys::make_private(&state_dir)?;
    let network_id = args.network.clone();
    let workers = usize::from(args.workers);
    let drain = Duration::from_secs(args.drain_seconds.into());
    let state = state_dir.clone();
    let setup = Setup { state_dir: state, network_id, workers, drain, supervisor: None };
    let mut running = Running::<P>::new(setup)?;
    let signals = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("signals: {error}"))?;
    let mut generation = 1;
    load(&mut running, path, args.network.as_ref(), &state_dir, generation)?;
    for (key, serving) in &running.listeners {
        log::entry(log::Severity::Notice, "listening")
            .field("listener", key.as_str())
            .field("address", log::Shown(serving.actual))
            .emit();
    }
    signals.block_on(async {
        let wait = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        let mut hangup = wait(SignalKind::hangup())?;
        let mut terminate = wait(SignalKind::terminate())?;
        let mut interrupt = wait(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => {
                    let outcome =
                        load(&mut running, path, args.network.as_ref(), &state_dir, generation + 1);
                    match outcome {
                        Ok(()) => generation += 1,
                        Err(error) => log::entry(log::Severity::Error, "reload refused")
                            .field("error", error.as_str())
                            .field("generation", generation)
                            .emit(),
                    }
                }
            }
        }
    })
    .map(|()| running.stop())
}

/// Reads, validates, cuts, compiles, binds, commits. An error leaves everything as it was.
fn load<P: Program>(
    running: &mut Running<P>,
    path: &Path,
    network: Option<&NetworkId>,
    state_dir: &Path,
    generation: u64,
) -> Result<(), String> {
    let loaded = topology::load(path);
    let Some(topology) = loaded.topology else {
        let all: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        return Err(format!("{} is refused:\n{}", path.display(), all.join("\n")));
    };
    let slice = cut::<P>(&topology, network, state_dir)?;
    let placed = placed(&topology.placements, network);
    let wanted = slice.listens();
    let mut open: Vec<(Listen, OwnedFd)> = Vec::new();
    for listen in &wanted {
        // A listener whose address changed is bound anew; the old one drains when it is replaced.
        if running.listeners.get(&listen.key).is_none_or(|serving| serving.listen != *listen) {
            open.push((listen.clone(), bind_listener(listen, &placed, state_dir)?));
        }
    }
    let close: Vec<String> = running
        .listeners
        .keys()
        .filter(|key| wanted.iter().all(|listen| listen.key != **key))
        .cloned()
        .collect();
    drop(topology);
    let prepared = running.prepare(generation, slice, open, close, placed)?;
    running.commit(prepared).map_err(|error| error.to_string())?;
    sys::release_free_memory();
    Ok(())
}

/// The network with its placements. One without ports places a whole address: where a workload
/// comes from, or the NAT address from which a target is dialled.
fn placed(placements: &[Placement], network: Option<&NetworkId>) -> Network {
    let mut sockets = Vec::new();
    let mut hosts = Vec::new();
    for placement in placements {
        if network.is_some_and(|network| placement.network != *network) {
            continue;
        }
        match placement.actual {
            SocketAddr::V4(actual) if actual.port() == 0 && placement.declared.port() == 0 => {
                hosts.push((*placement.declared.ip(), *actual.ip()));
            }
            _ => sockets.push(placement.clone()),
        }
    }
    Network::placed(&sockets, &hosts)
}

fn bind_listener(listen: &Listen, placed: &Network, state_dir: &Path) -> Result<OwnedFd, String> {
    let path: PathBuf = match &listen.bind {
        Bind::Channel(name) => crate::wire::channel_path(state_dir, name),
        _ => PathBuf::new(),
    };
    bind(&listen.bind, placed, &path, false).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => format!(
            "{}: this machine does not have the declared address; place it with top-level `placements`, or use `postern up`, which makes the network",
            listen.key
        ),
        _ => format!("{}: {error}", listen.key),
    })
}

/// The program's slice, with keys and certificates filled in from the state directory.
fn cut<P: Program>(
    topology: &Topology,
    network: Option<&NetworkId>,
    state_dir: &Path,
) -> Result<P::Slice, String> {
    let store = keys::Store::open(state_dir)?;
    let network = || {
        let known = topology.networks.iter().map(|known| &known.id);
        match network {
            Some(network) if known.clone().any(|known| known == network) => Ok(network),
            _ => {
                let known: Vec<String> = known.map(ToString::to_string).collect();
                let wrong = network.map_or("--network is missing".to_owned(), |network| {
                    format!("there is no network {network}")
                });
                Err(format!("{wrong}; the topology has {}", known.join(", ")))
            }
        }
    };
    let slice: Box<dyn Any> = match P::ROLE {
        Role::EndpointAttachment => Box::new(topology::endpoint_attachment(topology, network()?)),
        Role::ServiceAttachment => Box::new(topology::service_attachment(topology, network()?)),
        Role::InternalLb => {
            let mut slice = topology::internal_lb(topology, network()?);
            store.fill_internal_lb(&mut slice)?;
            Box::new(slice)
        }
        Role::PrivateDns => Box::new(topology::private_dns(topology, network()?)),
        Role::Metadata => {
            let mut slice = topology::metadata(topology, network()?);
            store.fill_metadata(&mut slice)?;
            Box::new(slice)
        }
        Role::GoogleFrontEnd => Box::new(topology::google_front_end(topology, network()?)),
        Role::CloudRun => {
            let mut slice = topology::cloud_run(topology);
            store.fill_cloud_run(&mut slice)?;
            Box::new(slice)
        }
        Role::ApiProxy => {
            let network = network()?;
            let mut slice = topology::api_proxy(topology, network)
                .ok_or_else(|| format!("no Apigee organisation runs in {network}"))?;
            store.fill_api_proxy(&mut slice)?;
            Box::new(slice)
        }
    };
    let slice = slice.downcast::<P::Slice>();
    slice.map(|slice| *slice).map_err(|_| "role and slice of the program differ".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_without_ports_places_a_whole_address_of_its_network() {
        let (own, other) = (NetworkId::new("p", "own"), NetworkId::new("p", "other"));
        let place = |network: &NetworkId, declared: &str, actual: &str| Placement {
            network: network.clone(),
            declared: declared.parse().expect("an address"),
            actual: actual.parse().expect("an address"),
        };
        let placements = [
            place(&own, "10.0.0.5:443", "127.0.0.1:29210"),
            place(&own, "10.0.2.2:0", "127.0.2.2:0"),
            place(&other, "10.0.2.2:0", "127.0.9.9:0"),
        ];
        let network = placed(&placements, Some(&own));
        for (declared, actual) in [
            ("10.0.0.5:443", "127.0.0.1:29210"),
            ("10.0.2.2:7000", "127.0.2.2:7000"),
            ("10.0.2.3:7000", "10.0.2.3:7000"),
        ] {
            let declared = declared.parse().expect("an address");
            assert_eq!(network.real(declared).to_string(), actual, "{declared}");
            assert_eq!(network.declared(network.real(declared)), declared);
        }
    }
}
