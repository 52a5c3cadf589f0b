//! Which way traffic leaves a Cloud Run instance with VPC access (cloud-run 3.4
//! `vpcAccess.egress`).

use crate::reach::Caller;
use ipnet::Ipv4Net;
use names::NetworkId;
use slice::METADATA_ADDRESS;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

static INTERNET: LazyLock<NetworkId> = LazyLock::new(NetworkId::internet);

/// What `PRIVATE_RANGES_ONLY` sends into the VPC network: RFC 1918, RFC 6598, and the restricted
/// and private addresses of Google's front ends (list (unconfirmed)). The resolver is the
/// network's too.
pub const PRIVATE_RANGES: [Ipv4Net; 7] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(slice::RESTRICTED_VIP, 30),
    Ipv4Net::new_assert(slice::PRIVATE_VIP, 30),
    Ipv4Net::new_assert(METADATA_ADDRESS, 32),
];

impl<'a> Caller<'a> {
    /// As whom it sends to this address: with an address of its own outside of its network, what
    /// goes to no private range leaves by that.
    #[must_use]
    pub fn towards(self, to: Ipv4Addr) -> Caller<'a> {
        match self.outside {
            Some(address) if !PRIVATE_RANGES.iter().any(|range| range.contains(&to)) => Caller {
                network: &INTERNET,
                address,
                outside: None,
                tags: &[],
                service_account: None,
                ..self
            },
            _ => self,
        }
    }
}
