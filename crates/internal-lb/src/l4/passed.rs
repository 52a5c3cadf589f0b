//! Passed connections in user space: the choice of the kernel's table, without its addresses.

use super::record::Record;
use super::{DIAL_TIMEOUT, TRACKED, forward_of};
use crate::InternalLb;
use balancing::passthrough::{choose, slots};
use names::Reason;
use net::splice::{Cut, carry, reset};
use runtime::Worker;
use slice::IpProtocol;
use slice::load_balancer::NetworkForwardingRule;
use std::io;
use std::net::SocketAddrV4;
use std::rc::Rc;
use tokio::net::TcpStream;

/// The VM for a connection or flow, with the port that was asked for.
pub(super) fn vm(
    worker: &Worker<InternalLb>,
    rule: &NetworkForwardingRule,
    protocol: IpProtocol,
    from: SocketAddrV4,
    to: SocketAddrV4,
) -> Option<SocketAddrV4> {
    let forward = forward_of(worker, rule)?;
    let table = slots(&forward.active);
    let vm = choose(&table, forward.affinity, protocol, from, to)?;
    Some(SocketAddrV4::new(vm, to.port()))
}

pub(super) async fn carry_tcp(
    worker: &Rc<Worker<InternalLb>>,
    client: TcpStream,
    mut record: Record<'_>,
    to: SocketAddrV4,
) {
    let Some(vm) = vm(worker, record.rule, IpProtocol::Tcp, record.client, to) else {
        reset(&client);
        let reason = Reason::NoHealthyBackend;
        return record.refused(reason, reason.summary());
    };
    let network = worker.context().network();
    let source = record.rule.proxy_address.filter(|source| network.has_host(*source));
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, network.dial(source, vm)).await;
    match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(target) => {
            record.opened(vm.to_string());
            record.carried(carry(client, target, Vec::new(), TRACKED, &Cut::default()).await);
        }
        Err(error) => {
            reset(&client);
            record.refused(Reason::BackendConnectionFailed, &format!("{vm}: {error}"));
        }
    }
}
