//! Managed zones (private-connectivity 4.2); what else Cloud DNS has is in the modules below.

mod automatic;
mod policies;
mod records;
mod routing;

use super::Lowering;
use super::psc::network_of;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::dns::{
    ForwardingConfig, ForwardingPath, ManagedZone, PeeringConfig, Visibility, ZoneNetwork,
};
use crate::model::{Item, Scope};
use names::{NetworkId, SelfLink};
use slice::dns;
use std::collections::{HashMap, HashSet};

/// The most name servers of a forwarding zone or an outbound policy: Cloud DNS's default quota
/// (unconfirmed).
const NAME_SERVERS_MAX: usize = 50;

/// Who bound a name to a network first.
pub(crate) type Bound = HashMap<(NetworkId, String), Mark>;

impl Lowering<'_> {
    /// All managed zones.
    pub(crate) fn zones(&mut self, bound: &mut Bound, findings: &mut Findings) {
        for item in &self.model.managed_zones.items {
            if let Some(zone) = self.zone(item, bound, findings) {
                self.topology.zones.push(zone);
            }
        }
    }

    /// A public zone is answered on the internet, and to nobody else: what is behind its names is
    /// out of reach for VPC networks here.
    fn public_zone(
        &self,
        item: &Item<ManagedZone>,
        bound: &mut Bound,
        findings: &mut Findings,
    ) -> Option<dns::ManagedZone> {
        let raw = &item.raw;
        let private = [
            (raw.private_visibility_config.as_ref().map(|one| one.at), "privateVisibilityConfig"),
            (raw.peering_config.as_ref().map(|one| one.at), "peeringConfig"),
            (raw.forwarding_config.as_ref().map(|one| one.at), "forwardingConfig"),
        ];
        for (at, what) in private {
            if let Some(at) = at {
                findings.error(
                    Code::ConflictingFields,
                    at,
                    format!("`{what}` is for private zones"),
                    format!("remove `{what}`, or write visibility: private"),
                );
            }
        }
        let dns_name = zone_name(&raw.dns_name, findings);
        let internet = NetworkId::internet();
        if let Some(name) = &dns_name {
            bind(bound, &internet, name, raw.dns_name.at, findings);
        }
        let (sets, written) = self.record_sets(&raw.rrsets, &item.scope(), findings);
        let zone = dns::ManagedZone {
            self_link: item.link.clone(),
            dns_name: dns_name?,
            networks: vec![internet],
            kind: dns::ZoneKind::Private(sets),
        };
        for error in managed_zone::check(&zone) {
            records::report(&error, raw.at, &written, findings);
        }
        Some(zone)
    }

    fn zone(
        &self,
        item: &Item<ManagedZone>,
        bound: &mut Bound,
        findings: &mut Findings,
    ) -> Option<dns::ManagedZone> {
        let raw = &item.raw;
        match &raw.visibility {
            Some(visibility) if visibility.value == Visibility::Private => {}
            Some(_) => return self.public_zone(item, bound, findings),
            // The API's default is public; a zone with networks means to be private.
            None if raw.private_visibility_config.is_some() || raw.peering_config.is_some() => {}
            None => {
                if !raw.faulty {
                    findings.error(
                        Code::MissingField,
                        raw.at,
                        format!("`{}` says neither visibility nor networks; Google's default is a public zone", item.name()),
                        "add visibility: private and privateVisibilityConfig: {networks: [{networkUrl: NETWORK}]}",
                    );
                }
                return None;
            }
        }
        let dns_name = zone_name(&raw.dns_name, findings);
        let config = raw.private_visibility_config.as_ref();
        let written = config.map_or(&[][..], |config| &config.networks);
        let networks = self.networks_of(written, &item.scope(), findings);
        if let Some(name) = &dns_name {
            networks.iter().for_each(|(id, at)| bind(bound, id, name, *at, findings));
        }
        let mut networks: Vec<NetworkId> = networks.into_iter().map(|(id, _)| id).collect();
        let mut seen = HashSet::new();
        networks.retain(|id| seen.insert(id.clone()));
        if written.is_empty() && !raw.faulty {
            findings.warning(
                Code::NoEffect,
                raw.at,
                format!("no network sees the zone `{}`", item.name()),
                "add privateVisibilityConfig: {networks: [{networkUrl: NETWORK}]}",
            );
        }
        let kinds = [
            ("peeringConfig", raw.peering_config.is_some()),
            ("forwardingConfig", raw.forwarding_config.is_some()),
            ("reverseLookupConfig", raw.reverse_lookup_config.is_some()),
        ];
        let mut kinds = kinds.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind);
        let kind = match (kinds.next(), kinds.next()) {
            (Some(first), Some(second)) => {
                findings.error(
                    Code::ConflictingFields,
                    raw.at,
                    format!("the zone has {first} and {second}; it can be one of them only"),
                    "make two zones of different names of it",
                );
                return None;
            }
            (Some(kind), None) => {
                if let Some(record) = raw.rrsets.first() {
                    findings.error(
                        Code::ConflictingFields,
                        record.at,
                        format!("a zone with {kind} has no records of its own"),
                        "put the records into a private zone of another name, or of the target network",
                    );
                }
                self.kind(item, dns_name.as_deref(), &networks, findings)?
            }
            (None, _) => {
                let (sets, written) = self.record_sets(&raw.rrsets, &item.scope(), findings);
                let zone = dns::ManagedZone {
                    self_link: item.link.clone(),
                    dns_name: dns_name?,
                    networks,
                    kind: dns::ZoneKind::Private(sets),
                };
                for error in managed_zone::check(&zone) {
                    records::report(&error, raw.at, &written, findings);
                }
                return Some(zone);
            }
        };
        Some(dns::ManagedZone { self_link: item.link.clone(), dns_name: dns_name?, networks, kind })
    }

    /// What a zone without records of its own is.
    fn kind(
        &self,
        item: &Item<ManagedZone>,
        dns_name: Option<&str>,
        networks: &[NetworkId],
        findings: &mut Findings,
    ) -> Option<dns::ZoneKind> {
        let raw = &item.raw;
        if let Some(peering) = &raw.peering_config {
            return self.peering(peering, &item.scope(), networks, findings);
        }
        if let Some(forwarding) = &raw.forwarding_config {
            return name_servers(forwarding, findings).map(dns::ZoneKind::Forwarding);
        }
        let reverse = dns_name.is_none_or(|name| name.ends_with("in-addr.arpa."));
        if !reverse {
            findings.error(
                Code::DnsName,
                raw.dns_name.at,
                format!(
                    "`{}` holds no reverse names; a managed reverse lookup zone is below in-addr.arpa.",
                    raw.dns_name.value
                ),
                "write a name such as 10.in-addr.arpa.",
            );
        }
        reverse.then_some(dns::ZoneKind::ReverseLookup)
    }

    fn peering(
        &self,
        peering: &PeeringConfig,
        scope: &Scope,
        networks: &[NetworkId],
        findings: &mut Findings,
    ) -> Option<dns::ZoneKind> {
        let target = &peering.target_network;
        // The product sets the time when the target network is deleted; an empty text says that
        // the zone is active.
        if target.deactivate_time.as_ref().is_some_and(|time| !time.is_empty()) {
            findings.warning(
                Code::NoEffect,
                target.at,
                "the peering zone is deactivated: its target network was deleted; its names fail",
                "let it target a network that exists, and remove deactivateTime",
            );
            return Some(dns::ZoneKind::Deactivated);
        }
        let id = network_of(self, &target.network_url, scope, findings)?;
        if networks.contains(&id) {
            findings.error(
                Code::PeeringInvalid,
                target.network_url.at,
                format!("the zone leads from {id} to itself"),
                "name another network as target",
            );
        }
        Some(dns::ZoneKind::Peering(id))
    }

    /// The networks of a list, each with its place.
    fn networks_of(
        &self,
        written: &[ZoneNetwork],
        scope: &Scope,
        findings: &mut Findings,
    ) -> Vec<(NetworkId, Mark)> {
        let mut networks = Vec::with_capacity(written.len());
        for network in written {
            if let Some(id) = network_of(self, &network.network_url, scope, findings) {
                networks.push((id, network.at));
            }
        }
        networks
    }

    /// A peering zone that does not stand in `managedZones`: an Apigee DNS zone or peered domain.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn peering_zone(
        &mut self,
        self_link: SelfLink,
        name: &Text,
        from: &NetworkId,
        to: NetworkId,
        bound: &mut Bound,
        findings: &mut Findings,
    ) {
        let Some(dns_name) = zone_name(name, findings) else { return };
        bind(bound, from, &dns_name, name.at, findings);
        self.topology.zones.push(dns::ManagedZone {
            self_link,
            dns_name,
            networks: vec![from.clone()],
            kind: dns::ZoneKind::Peering(to),
        });
    }
}

/// Two zones with one name may not be bound to one network.
fn bind(bound: &mut Bound, network: &NetworkId, name: &str, at: Mark, findings: &mut Findings) {
    if let Some(first) = bound.insert((network.clone(), name.to_owned()), at) {
        let first = findings.position(first);
        findings.error(
            Code::ZoneConflict,
            at,
            format!("{network} sees a zone `{name}` already, at {first}; a network sees one zone of each name"),
            "bind the two zones to different networks (split horizon), or put the records into one zone",
        );
    }
}

/// The name servers to forward to.
fn name_servers(
    config: &ForwardingConfig,
    findings: &mut Findings,
) -> Option<Vec<dns::NameServer>> {
    let mut servers: Vec<dns::NameServer> = Vec::with_capacity(config.target_name_servers.len());
    let mut good = true;
    for target in &config.target_name_servers {
        let Some(address) = &target.ipv4_address else {
            if !target.faulty {
                findings.error(
                    Code::NameServer,
                    target.at,
                    "the target name server has no ipv4Address",
                    "write ipv4Address: ADDRESS",
                );
            }
            good = false;
            continue;
        };
        if servers.iter().any(|server| server.address == address.value) {
            findings.error(
                Code::NameServer,
                address.at,
                format!("the name server {} is named twice", address.value),
                "remove one of the two",
            );
            good = false;
            continue;
        }
        servers.push(dns::NameServer {
            address: address.value,
            forwarding_path: match target.forwarding_path {
                Some(ForwardingPath::Private) => dns::ForwardingPath::Private,
                Some(ForwardingPath::Default) | None => dns::ForwardingPath::Default,
            },
        });
    }
    if config.target_name_servers.is_empty() && !config.faulty {
        findings.error(
            Code::NameServer,
            config.at,
            "there is no target name server",
            "add targetNameServers: [{ipv4Address: ADDRESS}]",
        );
        good = false;
    }
    if servers.len() > NAME_SERVERS_MAX {
        findings.error(
            Code::ListTooLong,
            config.at,
            format!("{} name servers; the limit is {NAME_SERVERS_MAX}", servers.len()),
            "keep the nearest ones",
        );
        good = false;
    }
    good.then_some(servers)
}

/// A fully qualified name with its trailing dot, lower-cased.
fn zone_name(text: &Text, findings: &mut Findings) -> Option<String> {
    if text.value == "." {
        return Some(".".to_owned());
    }
    let Some(bare) = text.strip_suffix('.') else {
        findings.error(
            Code::DnsName,
            text.at,
            format!("`{}` does not end with a dot; zone names are fully qualified", text.value),
            format!("write `{}.`", text.value),
        );
        return None;
    };
    if !crate::names_rules::is_hostname(bare) {
        findings.error(
            Code::DnsName,
            text.at,
            format!("`{}` is no DNS name", text.value),
            "write a name such as internal.example.com.",
        );
        return None;
    }
    Some(text.to_ascii_lowercase())
}
