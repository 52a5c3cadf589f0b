//! A resolution as `postern resolve` and `explain` print it.

use crate::decide::CNAMES_MAX;
use crate::record_type::RecordType;
use crate::resolution::{Candidate, Chosen, Elsewhere, Hop, Horizon, Lookup, Match, Resolution};
use names::Reason;
use slice::dns::{ForwardingPath, NameServer};
use std::fmt;

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} from {}", self.name, self.record_type, self.network)?;
        for lookup in &self.lookups {
            write_lookup(lookup, f)?;
        }
        match (self.reason, self.name_servers()) {
            (Some(reason), Some((network, servers))) => writeln!(
                f,
                "{reason}: the answer is that of {}, asked from {network}",
                list(servers.iter().map(shown)),
            )?,
            (None, _) => writeln!(f, "{}:", self.response_code)?,
            (Some(reason), None) => {
                writeln!(f, "{}: {reason}: {}", self.response_code, reason.summary())?;
            }
        }
        for record in &self.records {
            writeln!(f, "  {record}")?;
        }
        if let Some(soa) = &self.authority {
            writeln!(f, "  authority: {soa}")?;
        }
        match self.reason {
            Some(Reason::DnsCnameChain) => {
                writeln!(f, "  fix: {} The limit is {CNAMES_MAX}.", Reason::DnsCnameChain.fix())?;
            }
            Some(reason) => writeln!(f, "  fix: {}", reason.fix())?,
            None => {}
        }
        self.split_horizon.iter().try_for_each(|horizon| write_horizon(horizon, f))
    }
}

fn write_horizon(horizon: &Horizon, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Horizon { networks, decided_by, response_code, records, name_servers } = horizon;
    write!(f, "in {}: ", list(networks))?;
    match (records.as_slice(), name_servers.as_slice()) {
        ([], []) => write!(f, "{response_code}")?,
        (records, []) => write!(f, "{}", list(records))?,
        (_, servers) => write!(f, "the answer of {}", list(servers))?,
    }
    writeln!(f, " ({decided_by})")
}

fn list<T: fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

fn shown(server: &NameServer) -> String {
    match server.forwarding_path {
        ForwardingPath::Default => server.address.to_string(),
        ForwardingPath::Private => format!("{} (private)", server.address),
    }
}

fn write_hop(hop: &Hop, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "    as {}: ", hop.network)?;
    if let Some(rule) = &hop.bypassed {
        let (name, policy) = (&rule.rule, &rule.policy);
        write!(f, "rule `{name}` (`{}`) of {policy} bypasses; ", rule.dns_name)?;
    }
    let mut consulted = true;
    match &hop.chosen {
        Chosen::ServerPolicy { policy, name_servers } => {
            let servers = list(name_servers.iter().map(shown));
            write!(f, "outbound server policy {policy}, before all else: asks {servers}")?;
            consulted = false;
        }
        Chosen::ResponsePolicy(rule) => {
            let (name, policy) = (&rule.rule, &rule.policy);
            write!(f, "rule `{name}` (`{}`) of response policy {policy}", rule.dns_name)?;
            consulted = false;
        }
        Chosen::PrivateZone(zone) => write!(f, "private zone {} (`{}`)", zone.zone, zone.dns_name)?,
        Chosen::ForwardingZone(zone) => {
            let servers = list(zone.name_servers.iter().map(shown));
            write!(f, "forwarding zone {} (`{}`): asks {servers}", zone.zone, zone.dns_name)?;
        }
        Chosen::PeeringZone(zone) => {
            write!(f, "peering zone {} (`{}`)", zone.zone, zone.dns_name)?;
            match &zone.peering {
                Some(target) => write!(f, " to {target}")?,
                None => write!(f, ", deactivated: its target network is gone")?,
            }
        }
        Chosen::Internal { dns_name } => {
            write!(f, "no managed zone matches; internal DNS `{dns_name}`")?;
        }
        Chosen::Public { dns_name } => {
            write!(f, "no managed zone matches; public DNS `{dns_name}`")?;
        }
    }
    // The first candidate is the zone that was chosen, unless a policy came before it.
    let passed = hop.candidates.get(usize::from(consulted)..).unwrap_or_default();
    if !passed.is_empty() {
        let verb = if consulted { "longer than" } else { "not consulted:" };
        let zone = |zone: &Candidate| format!("`{}` of {}", zone.dns_name, zone.zone);
        write!(f, "; {verb} {}", list(passed.iter().map(zone)))?;
    }
    writeln!(f)
}

fn write_lookup(lookup: &Lookup, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "  {}", lookup.name)?;
    lookup.hops.iter().try_for_each(|hop| write_hop(hop, f))?;
    let types = |types: &[RecordType]| list(types);
    match &lookup.found {
        Match::Name { types: held } => writeln!(f, "    has {}", types(held))?,
        Match::EmptyNonTerminal => writeln!(f, "    exists only through names below it")?,
        Match::Wildcard { wildcard, types: held } => {
            writeln!(f, "    wildcard `{wildcard}` has {}", types(held))?;
        }
        Match::Nothing { closest_encloser } => {
            writeln!(
                f,
                "    does not exist; the closest name is `{closest_encloser}`, without a wildcard below it"
            )?;
        }
        Match::NotAsked => writeln!(f, "    not looked for: the chain of peering zones ends here")?,
        Match::Forwarded => {}
    }
    for item in &lookup.routing {
        let mark = if item.chosen.is_some() { "takes" } else { "has" };
        write!(f, "    routing policy {mark} {}: {}", item.item, list(&item.records))?;
        match &item.chosen {
            Some(why) => writeln!(f, " ({why})")?,
            None => writeln!(f)?,
        }
    }
    if let Some(owner) = &lookup.no_delegation {
        writeln!(f, "    the NS records of `{owner}` delegate nothing in a private zone")?;
    }
    if let Some(target) = &lookup.cname {
        writeln!(f, "    CNAME, followed to `{target}`")?;
    }
    if !lookup.similar.is_empty() {
        writeln!(f, "    near: {}", list(&lookup.similar))?;
    }
    for Elsewhere { zone, dns_name, networks } in &lookup.elsewhere {
        let networks = if networks.is_empty() { "no network".to_owned() } else { list(networks) };
        writeln!(f, "    not seen from here: {zone} (`{dns_name}`), visible to {networks}")?;
    }
    Ok(())
}
