//! NAT subnets: which addresses a service attachment may give to its endpoints.

use crate::connection::{Connection, Nat};
use crate::reconcile::{Candidate, Decided};
use ipnet::Ipv4Net;
use slice::ConnectionState;
use slice::psc::{ConnectionStatus, NatSubnet, ServiceAttachment, ServiceAttachmentSlice};
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// The addresses of a NAT subnet that endpoints may get, lowest first: all but four. /29 has 4,
/// /28 has 12, /24 has 252 (private-connectivity 1.4).
///
/// That the four are network, gateway (the second), second to last and broadcast is (unconfirmed):
/// the fact sheet has the number from the product and the places from ordinary subnets (5.1).
pub fn usable_addresses(range: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    usable_bounds(range).into_iter().flat_map(|(first, last)| first..=last).map(Ipv4Addr::from)
}

fn usable_bounds(range: Ipv4Net) -> Option<(u32, u32)> {
    let first = u32::from(range.network()).checked_add(2)?;
    let last = u32::from(range.broadcast()).checked_sub(2)?;
    (first <= last).then_some((first, last))
}

/// Is this one of the addresses that [`usable_addresses`] lists?
fn is_usable(range: Ipv4Net, address: Ipv4Addr) -> bool {
    usable_bounds(range).is_some_and(|(first, last)| (first..=last).contains(&u32::from(address)))
}

/// How many addresses these subnets have for endpoints.
fn usable_count(subnets: &[NatSubnet]) -> u64 {
    let one = |(first, last): (u32, u32)| u64::from(last - first) + 1;
    subnets.iter().filter_map(|subnet| usable_bounds(subnet.range)).map(one).sum()
}

/// Takes the lowest address of these subnets, in their order, that is not in use.
///
/// `cursor` makes a series of calls linear: addresses before it have been looked at.
fn take_free(
    subnets: &[NatSubnet],
    used: &mut HashSet<Ipv4Addr>,
    cursor: &mut (usize, u32),
) -> Option<Ipv4Addr> {
    while let Some(subnet) = subnets.get(cursor.0) {
        if let Some((first, last)) = usable_bounds(subnet.range) {
            while let Some(address) = first.checked_add(cursor.1).filter(|next| *next <= last) {
                cursor.1 += 1;
                let address = Ipv4Addr::from(address);
                if used.insert(address) {
                    return Some(address);
                }
            }
        }
        *cursor = (cursor.0 + 1, 0);
    }
    None
}

/// Gives addresses to every accepted connection: those that it has, then the lowest free ones.
/// Endpoints come before propagated connections, older ones before newer ones.
///
/// An endpoint gets `natIpsPerEndpoint` addresses, a propagated connection one (1.4; that
/// `natIpsPerEndpoint` does not count for it is (unconfirmed)).
pub(crate) fn translate(
    slice: &ServiceAttachmentSlice,
    of_attachment: &[Vec<usize>],
    candidates: &[Candidate<'_>],
    decided: &[Option<Decided>],
) -> Vec<Nat> {
    let is_accepted = |at: usize| {
        decided[at].as_ref().is_some_and(|one| one.status == ConnectionStatus::Accepted)
    };
    let wanted =
        |attachment: &ServiceAttachment, at: usize| match candidates[at].endpoint.propagated_from {
            Some(_) => 1,
            None => attachment.nat_ips_per_endpoint.max(1) as usize,
        };
    // One set for the network: a NAT subnet belongs to one attachment only, but should two share
    // one, their endpoints must still differ.
    let mut used: HashSet<Ipv4Addr> = HashSet::new();
    let mut has: Vec<Vec<Ipv4Addr>> = vec![Vec::new(); candidates.len()];
    for (attachment, members) in slice.attachments.iter().zip(of_attachment) {
        for &at in members.iter().filter(|&&at| is_accepted(at)) {
            let kept = candidates[at].past.into_iter().flat_map(|past| &past.nat_ips);
            let in_subnet = |address: &&Ipv4Addr| {
                attachment.nat_subnets.iter().any(|one| is_usable(one.range, **address))
            };
            for address in kept.filter(in_subnet).take(wanted(attachment, at)) {
                if used.insert(*address) {
                    has[at].push(*address);
                }
            }
        }
    }
    let mut nat = vec![Nat::Unneeded; candidates.len()];
    for (attachment, members) in slice.attachments.iter().zip(of_attachment) {
        let subnets = &attachment.nat_subnets;
        let mut cursor = (0, 0);
        let (propagated, own): (Vec<usize>, Vec<usize>) = members
            .iter()
            .filter(|&&at| is_accepted(at))
            .partition(|&&at| candidates[at].endpoint.propagated_from.is_some());
        for at in own.into_iter().chain(propagated) {
            let wanted = wanted(attachment, at);
            let mut has = std::mem::take(&mut has[at]);
            while has.len() < wanted
                && let Some(address) = take_free(subnets, &mut used, &mut cursor)
            {
                has.push(address);
            }
            nat[at] = if has.len() == wanted {
                Nat::Addresses(has)
            } else if subnets.is_empty() {
                Nat::NoSubnet
            } else {
                let names = subnets.iter().map(|one| one.self_link.name().to_owned());
                let (subnets, usable) = (names.collect(), usable_count(subnets));
                Nat::Exhausted { has, wanted, subnets, usable }
            };
        }
    }
    nat
}

/// Which addresses in use would lie in no NAT subnetwork of the network any more: the subnetwork is
/// to be deleted, which is refused while it is in use (private-connectivity 1.7, (unconfirmed)).
/// An address is in use while a connection that may go on, in `now`, has TCP connections from it.
///
/// To take a subnetwork out of `natSubnets` is no deletion: endpoints get other addresses for new
/// connections, and what is open goes on.
pub fn deleted_in_use(
    previous: &[ConnectionState],
    now: &[Connection],
    slice: &ServiceAttachmentSlice,
    open: impl Fn(&ConnectionState, Ipv4Addr) -> usize,
) -> Vec<Ipv4Addr> {
    let carrying: HashSet<u64> = now
        .iter()
        .filter(|one| one.status.carries_traffic())
        .map(|one| one.psc_connection_id)
        .collect();
    let used = slice.attachments.iter().flat_map(|one| &one.nat_subnets).map(|one| one.range);
    let there: Vec<Ipv4Net> = slice.nat_subnetworks.iter().copied().chain(used).collect();
    let mut all = Vec::new();
    for past in previous.iter().filter(|past| carrying.contains(&past.psc_connection_id)) {
        for address in &past.nat_ips {
            let stays = there.iter().any(|range| range.contains(address));
            if !stays && open(past, *address) > 0 {
                all.push(*address);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_addresses_of_a_nat_subnet_are_unusable() {
        for (range, count, first, last) in [
            ("10.0.2.0/29", 4, Some("10.0.2.2"), Some("10.0.2.5")),
            ("10.0.2.16/28", 12, Some("10.0.2.18"), Some("10.0.2.29")),
            ("10.0.2.0/24", 252, Some("10.0.2.2"), Some("10.0.2.253")),
            ("10.0.2.0/30", 0, None, None),
            ("10.0.2.0/31", 0, None, None),
            ("10.0.2.1/32", 0, None, None),
            ("0.0.0.0/32", 0, None, None),
            ("255.255.255.252/30", 0, None, None),
        ] {
            let range: Ipv4Net = range.parse().expect("a range");
            let all: Vec<Ipv4Addr> = usable_addresses(range).collect();
            let parse = |text: Option<&str>| text.map(|t| t.parse().expect("an address"));
            assert_eq!(all.len(), count, "{range}");
            assert_eq!((all.first().copied(), all.last().copied()), (parse(first), parse(last)));
            assert!(all.iter().all(|address| is_usable(range, *address)));
            assert!(!is_usable(range, range.network()) && !is_usable(range, range.broadcast()));
        }
    }
}
