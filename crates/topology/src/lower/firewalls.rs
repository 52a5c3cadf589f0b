//! Firewall rules: what the API refuses, and the rules that are in force (private-connectivity
//! 5.3; counts and conflicts of fields as the API describes them, the counts (unconfirmed)).

use super::fabric::network_id;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::firewalls::{Firewall as Raw, FirewallDirection, FirewallMatch};
use crate::model::{Item, Model};
use ipnet::{Ipv4Net, Ipv6Net};
use names::NetworkId;
use slice::vpc::{Action, Direction, Firewall, Layer4};
use std::collections::HashMap;

/// Most source tags, target tags, service accounts and ranges of one rule.
const SOURCE_TAGS_MAX: usize = 30;
const TARGET_TAGS_MAX: usize = 70;
const SERVICE_ACCOUNTS_MAX: usize = 10;
const RANGES_MAX: usize = 5_000;

/// Protocols that may be written by name.
const PROTOCOLS: [(&str, u8); 7] =
    [("tcp", 6), ("udp", 17), ("icmp", 1), ("esp", 50), ("ah", 51), ("sctp", 132), ("ipip", 94)];

/// The rules of each network.
pub(crate) fn lower(model: &Model, findings: &mut Findings) -> HashMap<NetworkId, Vec<Firewall>> {
    let mut all: HashMap<NetworkId, Vec<Firewall>> = HashMap::new();
    for item in &model.firewalls.items {
        let Some(network) = network_of(model, item.raw.network.as_ref(), item, findings) else {
            continue;
        };
        if let Some(rule) = rule(item, model.limits_lifted, findings)
            && item.raw.disabled != Some(true)
        {
            all.entry(network).or_default().push(rule);
        }
    }
    all
}

/// The network of a rule or route; Google's default is the one named `default`.
pub(crate) fn network_of<T>(
    model: &Model,
    named: Option<&Text>,
    item: &Item<T>,
    findings: &mut Findings,
) -> Option<NetworkId>
where
    T: crate::model::Resource,
{
    match named {
        Some(named) => {
            let network = model.find(&model.networks, named, &item.scope(), findings)?;
            let id = network_id(&network.link);
            if *id.project != *item.project {
                findings.error(
                    Code::SharedVpc,
                    named.at,
                    format!("{id} is a network of another project; {} belongs to the project of its network", T::CALLED),
                    format!("declare it in project {}", id.project),
                );
                return None;
            }
            Some(id)
        }
        None => {
            let id = NetworkId::new(&item.project, "default");
            if model.networks.items.iter().any(|network| network_id(&network.link) == id) {
                return Some(id);
            }
            findings.error(
                Code::MissingField,
                item.raw.at(),
                format!(
                    "{} names no `network`, and project {} has none called `default`",
                    T::CALLED,
                    item.project
                ),
                "add `network`",
            );
            None
        }
    }
}

fn rule(item: &Item<Raw>, limits_lifted: bool, findings: &mut Findings) -> Option<Firewall> {
    let raw = &item.raw;
    let before = findings.errors();
    let mut refuse = |what: &str, fix: &str| {
        findings.error(Code::FirewallRule, raw.at, format!("`{}`: {what}", item.name()), fix);
    };
    let egress = raw.direction == Some(FirewallDirection::Egress);
    let (tags, accounts) = (
        !raw.source_tags.is_empty() || !raw.target_tags.is_empty(),
        !raw.source_service_accounts.is_empty() || !raw.target_service_accounts.is_empty(),
    );
    if !raw.faulty && raw.allowed.is_empty() == raw.denied.is_empty() {
        refuse(
            "a rule either allows or denies",
            "write one of `allowed` and `denied`, such as allowed: [{IPProtocol: tcp, ports: [443]}]",
        );
    }
    if tags && accounts {
        refuse(
            "tags and service accounts cannot be used in one rule",
            "choose tags or service accounts, for sources and targets alike",
        );
    }
    if egress && (!raw.source_tags.is_empty() || !raw.source_service_accounts.is_empty()) {
        refuse(
            "an EGRESS rule has no source tags or source service accounts",
            "name the workloads with targetTags or targetServiceAccounts",
        );
    }
    for (field, count, most) in [
        ("sourceTags", raw.source_tags.len(), SOURCE_TAGS_MAX),
        ("targetTags", raw.target_tags.len(), TARGET_TAGS_MAX),
        ("sourceServiceAccounts", raw.source_service_accounts.len(), SERVICE_ACCOUNTS_MAX),
        ("targetServiceAccounts", raw.target_service_accounts.len(), SERVICE_ACCOUNTS_MAX),
        ("sourceRanges", raw.source_ranges.len(), RANGES_MAX),
        ("destinationRanges", raw.destination_ranges.len(), RANGES_MAX),
    ] {
        if count > most && !limits_lifted {
            refuse(
                &format!("{field} has {count} entries; at most {most} are taken"),
                "split the rule, or write limits: NONE at the top of a document",
            );
        }
    }
    for tag in raw.source_tags.iter().chain(&raw.target_tags) {
        check_tag(tag, findings);
    }
    let accounts = raw.source_service_accounts.iter().chain(&raw.target_service_accounts);
    for account in accounts.filter(|account| !account.contains('@')) {
        findings.error(
            Code::InvalidValue,
            account.at,
            format!("`{}` is no email of a service account", account.value),
            "write NAME@PROJECT.iam.gserviceaccount.com",
        );
    }
    let (source_ranges, sources_are_v6) = ranges(&raw.source_ranges, findings);
    let (destination_ranges, destinations_are_v6) = ranges(&raw.destination_ranges, findings);
    let action = if raw.denied.is_empty() { Action::Allow } else { Action::Deny };
    let entries = raw.allowed.iter().chain(&raw.denied);
    let layer4: Vec<Layer4> = entries.filter_map(|entry| self::layer4(entry, findings)).collect();
    if findings.errors() > before || raw.faulty {
        return None;
    }
    if sources_are_v6 || destinations_are_v6 {
        findings.warning(
            Code::NoEffect,
            raw.at,
            format!("`{}` is about IPv6, and all that is simulated is IPv4", item.name()),
            "remove the rule to silence this warning",
        );
        return None;
    }
    let texts = |all: &[Text]| all.iter().map(|text| text.value.clone()).collect();
    Some(Firewall {
        self_link: item.link.clone(),
        priority: raw.priority.map_or(1000, |priority| u16::try_from(priority.0).unwrap_or(1000)),
        direction: if egress { Direction::Egress } else { Direction::Ingress },
        action,
        layer4,
        source_ranges,
        source_tags: texts(&raw.source_tags),
        source_service_accounts: texts(&raw.source_service_accounts),
        destination_ranges,
        target_tags: texts(&raw.target_tags),
        target_service_accounts: texts(&raw.target_service_accounts),
    })
}

/// A network tag follows the rule of resource names.
pub(crate) fn check_tag(tag: &Text, findings: &mut Findings) {
    if !crate::names_rules::is_rfc1035(tag, 63) {
        findings.error(
            Code::InvalidName,
            tag.at,
            format!("`{}` is no network tag; tags are lower-case letters, digits and hyphens, begin with a letter, and have at most 63 characters", tag.value),
            "correct the tag",
        );
    }
}

/// The IPv4 ranges, and whether there are IPv6 ranges instead.
fn ranges(all: &[Text], findings: &mut Findings) -> (Vec<Ipv4Net>, bool) {
    let mut read = Vec::new();
    let mut v6 = None;
    for text in all {
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            read.push(Ipv4Net::from(address));
        } else if let Ok(range) = text.parse::<Ipv4Net>() {
            read.push(range.trunc());
        } else if text.parse::<Ipv6Net>().is_ok() || text.parse::<std::net::Ipv6Addr>().is_ok() {
            v6 = v6.or(Some(text));
        } else {
            findings.error(
                Code::InvalidRange,
                text.at,
                format!("`{}` is no range in CIDR notation", text.value),
                "write a range such as 10.0.0.0/24",
            );
        }
    }
    match v6 {
        Some(text) if !read.is_empty() => findings.error(
            Code::FirewallRule,
            text.at,
            "IPv4 and IPv6 ranges cannot be used in one rule",
            "write two rules",
        ),
        _ => {}
    }
    (read, v6.is_some())
}

/// Protocol and ports; ports go with TCP, UDP and SCTP only.
fn layer4(raw: &FirewallMatch, findings: &mut Findings) -> Option<Layer4> {
    let text = raw.protocol.0.to_ascii_lowercase();
    let known = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let protocol = match (text.as_str(), known.or_else(|| text.parse().ok())) {
        ("all", _) => None,
        (_, Some(number)) => Some(number),
        _ => {
            let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
            findings.error(
                Code::InvalidValue,
                raw.protocol.at,
                format!("`{}` is no IP protocol", raw.protocol.0),
                format!("write all, one of {}, or a number from 0 to 255", names.join(", ")),
            );
            return None;
        }
    };
    if let Some(first) = raw.ports.first()
        && !matches!(protocol, Some(6 | 17 | 132))
    {
        findings.error(
            Code::FirewallRule,
            first.at,
            format!("the protocol `{}` has no ports", raw.protocol.0),
            "remove `ports`; they go with tcp, udp and sctp",
        );
        return None;
    }
    let mut ports = Vec::new();
    for text in &raw.ports {
        let (first, last) = text.0.split_once('-').unwrap_or((&text.0, &text.0));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if first <= last => ports.push((first, last)),
            _ => {
                findings.error(
                    Code::InvalidValue,
                    text.at,
                    format!("`{}` is no port and no range of ports", text.0),
                    "write a port such as 443, or a range such as 8000-8080",
                );
                return None;
            }
        }
    }
    Some(Layer4 { protocol, ports })
}
