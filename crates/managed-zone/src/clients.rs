//! Which network a client is in, by its address, where one process answers for several networks.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Address ranges without overlap, each with its network.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    /// First address of a stretch and whose it is; each stretch ends where the next begins.
    stretches: Vec<(u32, Option<u32>)>,
}

impl Clients {
    /// From ranges that may lie in each other: the longest prefix wins. The same range for two
    /// networks is refused with both.
    pub(crate) fn new(
        ranges: impl Iterator<Item = (Ipv4Net, u32)>,
    ) -> Result<Self, (Ipv4Net, u32, u32)> {
        let mut ranges: Vec<_> = ranges.map(|(range, network)| (range.trunc(), network)).collect();
        ranges.sort_by_key(|(range, network)| (range.network(), range.prefix_len(), *network));
        ranges.dedup();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err((pair[0].0, pair[0].1, pair[1].1));
        }
        // Sorted so, a range comes after every range that it lies in: a stack of the open ones.
        let mut clients = Clients::default();
        let mut open: Vec<(u32, u32)> = Vec::new();
        for (range, network) in ranges {
            let first = u32::from(range.network());
            clients.close_before(&mut open, Some(first));
            clients.begin(first, Some(network));
            open.push((u32::from(range.broadcast()), network));
        }
        clients.close_before(&mut open, None);
        Ok(clients)
    }

    /// Ends the open ranges that end before `first`; all where there is no further range.
    fn close_before(&mut self, open: &mut Vec<(u32, u32)>, first: Option<u32>) {
        while let Some((last, _)) = open.last().copied() {
            if first.is_some_and(|first| first <= last) {
                return;
            }
            open.pop();
            if let Some(next) = last.checked_add(1) {
                self.begin(next, open.last().map(|(_, network)| *network));
            }
        }
    }

    fn begin(&mut self, first: u32, network: Option<u32>) {
        match self.stretches.last_mut() {
            Some(last) if last.0 == first => last.1 = network,
            _ => self.stretches.push((first, network)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// The network of a client.
    pub(crate) fn network_of(&self, client: Ipv4Addr) -> Option<u32> {
        let client = u32::from(client);
        let after = self.stretches.partition_point(|(first, _)| *first <= client);
        self.stretches[..after].last()?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap_or_default()
    }

    #[test]
    fn the_longest_range_that_holds_the_client_wins() {
        let ranges = [
            (net("10.0.0.0/8"), 1),
            (net("10.1.0.0/16"), 2),
            (net("10.1.0.0/24"), 3),
            (net("10.255.255.255/32"), 4),
            (net("255.255.255.255/32"), 5),
        ];
        let clients = Clients::new(ranges.into_iter());
        let check = |text: &str, network: Option<u32>| {
            let address = text.parse().unwrap_or(Ipv4Addr::UNSPECIFIED);
            assert_eq!(clients.as_ref().map(|c| c.network_of(address)), Ok(network), "{text}");
        };
        check("9.255.255.255", None);
        check("10.0.0.0", Some(1));
        check("10.1.0.7", Some(3));
        check("10.1.1.0", Some(2));
        check("10.2.0.0", Some(1));
        check("10.255.255.254", Some(1));
        check("10.255.255.255", Some(4));
        check("11.0.0.0", None);
        check("255.255.255.254", None);
        check("255.255.255.255", Some(5));
    }

    #[test]
    fn one_range_has_one_network() {
        let ranges = [(net("10.0.0.0/8"), 1), (net("10.9.9.9/8"), 2)];
        assert_eq!(Clients::new(ranges.into_iter()).map(|_| ()), Err((net("10.0.0.0/8"), 1, 2)));
    }
}
