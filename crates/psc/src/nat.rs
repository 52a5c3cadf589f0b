//! NAT subnets: which addresses a service attachment may give to its endpoints.

use ipnet::Ipv4Net;
use slice::psc::NatSubnet;
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
pub(crate) fn is_usable(range: Ipv4Net, address: Ipv4Addr) -> bool {
    usable_bounds(range).is_some_and(|(first, last)| (first..=last).contains(&u32::from(address)))
}

/// How many addresses these subnets have for endpoints.
pub(crate) fn usable_count(subnets: &[NatSubnet]) -> u64 {
    let one = |(first, last): (u32, u32)| u64::from(last - first) + 1;
    subnets.iter().filter_map(|subnet| usable_bounds(subnet.range)).map(one).sum()
}

/// Takes the lowest address of these subnets, in their order, that is not in use.
///
/// `cursor` makes a series of calls linear: addresses before it have been looked at.
pub(crate) fn take_free(
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
