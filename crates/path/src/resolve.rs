//! Names: what the resolver of a network says, why, and who else sees the name.

use crate::trace::{State, Step};
use crate::world::World;
use managed_zone::{AsReported, Chosen, Horizon, Match, Name, RecordType, Resolution};
use names::NetworkId;

impl World {
    /// Resolves a name as the resolver of this network does for a client of this region (`postern
    /// resolve`); `record_type` is `A`, `CNAME`, ….
    ///
    /// # Errors
    /// A sentence, for what is no name, no type or no network.
    pub fn resolve(
        &self,
        network: &NetworkId,
        region: Option<&str>,
        name: &str,
        record_type: &str,
    ) -> Result<Resolution, String> {
        let record_type: RecordType = record_type.parse().map_err(|error| format!("{error}"))?;
        if matches!(record_type, RecordType::AXFR | RecordType::IXFR) {
            return Err(format!("{record_type} asks for a whole zone, which is REFUSED"));
        }
        let mut resolution = self.resolve_here(network, region, name, record_type)?;
        let name = Name::parse(name).map_err(|error| format!("`{name}`: {error}"))?;
        resolution.split_horizon = self.split_horizon(network, &name, record_type);
        Ok(resolution)
    }

    /// The same without a look at all the other networks.
    pub(crate) fn resolve_here(
        &self,
        network: &NetworkId,
        region: Option<&str>,
        name: &str,
        record_type: RecordType,
    ) -> Result<Resolution, String> {
        let name = Name::parse(name).map_err(|error| format!("`{name}`: {error}"))?;
        let weather = self.weather(region);
        if let Some(view) = self.dns.view(network) {
            return Ok(view.resolve(&name, record_type, &weather));
        }
        if !self.topology().networks.iter().any(|known| known.id == *network) {
            return Err(format!("there is no network {network}"));
        }
        // A network that nothing in Cloud DNS names sees what clients on the internet see.
        let mut resolution = self.dns.own_view().resolve(&name, record_type, &weather);
        let hops = resolution.lookups.iter_mut().flat_map(|lookup| &mut lookup.hops);
        hops.for_each(|hop| hop.network = network.clone());
        resolution.network = network.clone();
        Ok(resolution)
    }

    /// Routing policies decide by what the load balancers that run have said of their backends.
    fn weather<'a>(&'a self, region: Option<&'a str>) -> AsReported<'a> {
        AsReported { region, snapshot: &self.dns, unhealthy: &self.unhealthy }
    }

    /// What the question gets in the other networks, those with the same answer of the same zone
    /// together.
    fn split_horizon(&self, own: &NetworkId, name: &Name, record_type: RecordType) -> Vec<Horizon> {
        let mut all: Vec<Horizon> = Vec::new();
        for network in self.topology().networks.iter().filter(|network| network.id != *own) {
            let Some(view) = self.dns.view(&network.id) else { continue };
            let resolution = view.resolve(name, record_type, &self.weather(None));
            let Some(mut horizon) = resolution.horizon() else { continue };
            let networks = std::mem::take(&mut horizon.networks);
            let alike = |other: &&mut Horizon| {
                Horizon { networks: Vec::new(), ..(**other).clone() } == horizon
            };
            match all.iter_mut().find(alike) {
                Some(other) => other.networks.extend(networks),
                None => all.push(Horizon { networks, ..horizon }),
            }
        }
        all
    }
}

/// One line: the answer, and who gave it.
pub(crate) fn step(resolution: &Resolution) -> Step {
    let mut text = format!("{} {}", resolution.name.trim_end_matches('.'), resolution.record_type);
    let addresses: Vec<String> = resolution.addresses().iter().map(ToString::to_string).collect();
    match (addresses.is_empty(), resolution.name_servers()) {
        (false, _) => text.push_str(&format!(" → {}", addresses.join(", "))),
        (true, Some((_, servers))) => {
            let servers: Vec<_> = servers.iter().map(|s| s.address.to_string()).collect();
            text.push_str(&format!(" → whatever {} answers", servers.join(", ")));
        }
        (true, None) => text.push_str(&format!(" → {}", resolution.response_code)),
    }
    let mut chain = Vec::new();
    let mut near = Vec::new();
    let mut details = Vec::new();
    for lookup in &resolution.lookups {
        for hop in &lookup.hops {
            let line = chosen(&hop.chosen);
            chain.push(line.clone());
            details.push(format!("as {}: {line}", hop.network));
            if let Some(rule) = &hop.bypassed {
                details.push(format!("rule {} of {} bypasses", rule.rule, rule.policy));
            }
        }
        if let Match::Wildcard { wildcard, .. } = &lookup.found {
            details.push(format!("wildcard {wildcard}"));
        }
        for item in &lookup.routing {
            if let Some(why) = &item.chosen {
                details.push(format!("routing policy: {}, {why}", item.item));
            }
        }
        if let Some(owner) = &lookup.no_delegation {
            near.push(format!("the NS records of {owner} delegate nothing in a private zone"));
        }
        if let Some(target) = &lookup.cname {
            details.push(format!("{} is a CNAME of {target}", lookup.name));
        }
        near.extend(lookup.similar.iter().map(|name| format!("the zone has {name}")));
        near.extend(lookup.elsewhere.iter().map(|other| {
            let networks: Vec<String> = other.networks.iter().map(ToString::to_string).collect();
            format!("not seen from here: {}, visible to {}", other.zone, networks.join(", "))
        }));
    }
    text.push_str(&format!(" ({})", chain.join(" → ")));
    let mut step = Step::new(State::ResolveName, text);
    step.resource = resolution.zone().map(ToString::to_string);
    step.near_misses = near;
    step.details = details;
    step.detail = serde_json::to_value(resolution).ok().map(|value| ("resolution", value));
    step
}

fn chosen(chosen: &Chosen) -> String {
    match chosen {
        Chosen::ServerPolicy { policy, .. } => format!("outbound server policy {policy}"),
        Chosen::ResponsePolicy(rule) => format!("rule {} of {}", rule.rule, rule.policy),
        Chosen::PrivateZone(zone) => format!("private zone {}", zone.zone),
        Chosen::ForwardingZone(zone) => format!("forwarding zone {}", zone.zone),
        Chosen::PeeringZone(zone) => match &zone.peering {
            Some(target) => format!("peering zone {} to {target}", zone.zone),
            None => format!("deactivated peering zone {}", zone.zone),
        },
        Chosen::Internal { dns_name } => format!("internal DNS `{dns_name}`"),
        Chosen::Public { dns_name } => format!("public DNS `{dns_name}`"),
    }
}
