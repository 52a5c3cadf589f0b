//! A program inside a test's own process: a hand-made slice, listeners on free loopback ports, no
//! supervisor.

use crate::control::{DRAIN_MAX, Running, Setup};
use crate::listener::{bind, tcp};
use crate::{Context, Program};
use names::NetworkId;
use net::Network;
use slice::{Bind, Listen, Notice, Placement, Slice};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// A program running in this process; dropping it stops it.
pub struct Started<P: Program> {
    running: Option<Running<P>>,
    placements: Vec<Placement>,
    generation: u64,
}

/// Where the program under test lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// State directory; made if it is missing.
    pub state_dir: PathBuf,
    /// The program's network.
    pub network: Option<NetworkId>,
    /// Worker threads.
    pub workers: usize,
    /// Where other declared addresses are really bound (targets to dial).
    pub placements: Vec<Placement>,
}

impl<P: Program> Started<P> {
    /// Starts a program: every declared socket of the slice is placed on a free loopback port.
    ///
    /// # Errors
    /// What the program or the kernel says.
    pub fn start(slice: P::Slice, place: Place) -> Result<Self, String> {
        std::fs::create_dir_all(&place.state_dir).map_err(|error| error.to_string())?;
        let setup = Setup {
            state_dir: place.state_dir,
            network_id: place.network,
            workers: place.workers,
            drain: DRAIN_MAX,
            supervisor: None,
        };
        let running = Some(Running::new(setup)?);
        let mut started = Started { running, placements: place.placements, generation: 0 };
        started.reload(slice)?;
        Ok(started)
    }

    /// The next generation.
    ///
    /// # Errors
    /// What the program says; the last good generation stays in force.
    pub fn reload(&mut self, slice: P::Slice) -> Result<(), String> {
        let Some(running) = &mut self.running else { return Err("stopped".to_owned()) };
        let wanted = slice.listens();
        let mut open: Vec<(Listen, OwnedFd)> = Vec::new();
        for listen in &wanted {
            if running.listeners.contains_key(&listen.key) {
                continue;
            }
            let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let socket = match &listen.bind {
                Bind::Channel(name) => {
                    bind(&listen.bind, &Network::direct(), &running.context.channel(name), false)
                }
                Bind::Udp(..) => UdpSocket::bind(loopback).map(OwnedFd::from),
                Bind::Tcp(..) | Bind::Host(_) => tcp(loopback, false),
            };
            let socket = socket.map_err(|error| format!("{}: {error}", listen.key))?;
            if let Bind::Tcp(network, declared) = &listen.bind {
                let listener = TcpListener::from(socket.try_clone().map_err(|e| e.to_string())?);
                let actual = listener.local_addr().map_err(|error| error.to_string())?;
                self.placements.push(Placement {
                    network: network.clone(),
                    declared: *declared,
                    actual,
                });
            }
            open.push((listen.clone(), socket));
        }
        let keys = running.listeners.keys();
        let close = keys.filter(|key| wanted.iter().all(|l| l.key != **key)).cloned().collect();
        self.generation += 1;
        let network = Network::placed(&self.placements, &[]);
        let prepared = running.prepare(self.generation, slice, open, close, network)?;
        running.commit(prepared).map_err(|error| error.to_string())
    }

    /// The real address of a listener.
    pub fn address(&self, key: &str) -> Option<SocketAddr> {
        Some(self.running.as_ref()?.listeners.get(key)?.actual)
    }

    /// The program.
    pub fn program(&self) -> Option<&Arc<P>> {
        Some(&self.running.as_ref()?.program)
    }

    /// Its surroundings.
    pub fn context(&self) -> Option<&Context> {
        Some(&self.running.as_ref()?.context)
    }

    /// Tells it what a supervisor would tell.
    pub fn notice(&self, notice: Notice) {
        if let Some(running) = &self.running {
            if let Notice::Workloads(workloads) = &notice {
                running.context.set_workloads(workloads);
            }
            running.program.notice(notice);
        }
    }
}

impl<P: Program> Drop for Started<P> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}
