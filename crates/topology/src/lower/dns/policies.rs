//! Server policies and response policies.

use super::{Lowering, name_servers, records, zone_name};
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::dns::{Behavior, Policy, ResponsePolicy, ResponsePolicyRule};
use crate::lower::addresses::{Claim, give};
use crate::model::Item;
use names::NetworkId;
use slice::{Purpose, dns};
use std::collections::HashMap;

/// Which policy applied to a network first.
type Applied = HashMap<NetworkId, Mark>;

impl Lowering<'_> {
    /// All server policies. Inbound entries get the addresses that nobody else has, so that this
    /// comes when all others have theirs.
    pub(crate) fn server_policies(&mut self, findings: &mut Findings) {
        let mut applied = Applied::new();
        let model = self.model;
        for item in &model.dns_policies.items {
            let networks = self.applied(
                item.raw.networks.as_slice(),
                &item.scope(),
                "server policy",
                &mut applied,
                findings,
            );
            let policy = self.server_policy(item, networks, findings);
            self.topology.dns_policies.extend(policy);
        }
    }

    fn server_policy(
        &mut self,
        item: &Item<Policy>,
        networks: Vec<NetworkId>,
        findings: &mut Findings,
    ) -> Option<dns::ServerPolicy> {
        let raw = &item.raw;
        let alternative = raw.alternative_name_server_config.as_ref();
        let alternative_name_servers = match alternative {
            Some(config) => name_servers(config, findings)?,
            None => Vec::new(),
        };
        let mut inbound = Vec::new();
        if raw.enable_inbound_forwarding == Some(true) {
            for network in &networks {
                inbound.extend(self.inbound_entries(network, raw.at, findings));
            }
        }
        Some(dns::ServerPolicy {
            self_link: item.link.clone(),
            networks,
            alternative_name_servers,
            inbound,
            enable_logging: raw.enable_logging,
        })
    }

    /// One entry in every subnetwork that has addresses for anybody (4.2).
    fn inbound_entries(
        &mut self,
        network: &NetworkId,
        at: Mark,
        findings: &mut Findings,
    ) -> Vec<dns::InboundEntry> {
        let mut entries = Vec::new();
        let Some(net) = self.fabric.nets.get_mut(network) else { return entries };
        for index in 0..net.subnets.len() {
            let subnet = &net.subnets[index];
            if subnet.purpose != Purpose::Private {
                continue;
            }
            let (subnetwork, region) = (subnet.link.clone(), subnet.region.to_string());
            let claim = Claim { at, called: "the inbound forwarding entry", ports: None };
            if let Some(address) = give(net, index, &claim, findings) {
                let network = network.clone();
                entries.push(dns::InboundEntry { network, subnetwork, region, address });
            }
        }
        entries
    }

    /// All response policies.
    pub(crate) fn response_policies(&mut self, findings: &mut Findings) {
        let mut applied = Applied::new();
        let model = self.model;
        for item in &model.response_policies.items {
            let networks = self.applied(
                item.raw.networks.as_slice(),
                &item.scope(),
                "response policy",
                &mut applied,
                findings,
            );
            let rules = self.rules(item, findings);
            let self_link = item.link.clone();
            let policy = dns::ResponsePolicy { self_link, networks, rules };
            self.topology.response_policies.push(policy);
        }
    }

    /// The networks that a policy applies to. A network has one policy of each kind (4.2; of
    /// response policies it is unconfirmed).
    fn applied(
        &self,
        written: &[crate::fields::dns::ZoneNetwork],
        scope: &crate::model::Scope,
        called: &str,
        applied: &mut Applied,
        findings: &mut Findings,
    ) -> Vec<NetworkId> {
        let mut networks = Vec::new();
        for (id, at) in self.networks_of(written, scope, findings) {
            match applied.insert(id.clone(), at) {
                None => networks.push(id),
                Some(first) => {
                    let first = findings.position(first);
                    findings.error(
                        Code::DnsPolicy,
                        at,
                        format!("a {called} applies to {id} already, at {first}; a network has one at most"),
                        "join the two policies, or take the network out of one of them",
                    );
                }
            }
        }
        networks
    }

    fn rules(
        &self,
        item: &Item<ResponsePolicy>,
        findings: &mut Findings,
    ) -> Vec<dns::ResponsePolicyRule> {
        let mut by_name: HashMap<String, Mark> = HashMap::new();
        let mut by_rule: HashMap<String, Mark> = HashMap::new();
        let mut rules = Vec::with_capacity(item.raw.rules.len());
        for raw in &item.raw.rules {
            let Some(dns_name) = selector(&raw.dns_name, findings) else { continue };
            let mut twice = false;
            for (what, text, at, known) in [
                ("dnsName", dns_name.clone(), raw.dns_name.at, &mut by_name),
                ("ruleName", raw.rule_name.value.clone(), raw.rule_name.at, &mut by_rule),
            ] {
                if let Some(first) = known.insert(text.clone(), at) {
                    let first = findings.position(first);
                    findings.error(
                        Code::DnsPolicy,
                        at,
                        format!("the rule at {first} has the {what} `{text}` too"),
                        "keep one of the two rules, or rename one",
                    );
                    twice = true;
                }
            }
            if !twice {
                rules.extend(self.rule(raw, dns_name, item, findings));
            }
        }
        rules
    }

    fn rule(
        &self,
        raw: &ResponsePolicyRule,
        dns_name: String,
        policy: &Item<ResponsePolicy>,
        findings: &mut Findings,
    ) -> Option<dns::ResponsePolicyRule> {
        let name = raw.rule_name.value.clone();
        let behavior = raw.behavior.as_ref().map(|behavior| behavior.value);
        match (&raw.local_data, behavior) {
            (Some(local), None) => {
                let (sets, written) =
                    self.record_sets(&local.local_datas, &policy.scope(), findings);
                if sets.is_empty() && !local.faulty && local.local_datas.is_empty() {
                    findings.error(
                        Code::MissingField,
                        local.at,
                        "the local data has no record sets",
                        "add localDatas: [{name: NAME, type: A, rrdatas: [ADDRESS]}], or behavior: bypassResponsePolicy",
                    );
                }
                let action = dns::RuleAction::LocalData(sets);
                let rule = dns::ResponsePolicyRule { name, dns_name, action };
                for error in managed_zone::check_rule(&policy.link, &rule) {
                    records::report(&error, raw.at, &written, findings);
                }
                Some(rule)
            }
            (None, Some(Behavior::BypassResponsePolicy)) => Some(dns::ResponsePolicyRule {
                name,
                dns_name,
                action: dns::RuleAction::BypassResponsePolicy,
            }),
            (None, None) | (Some(_), Some(_)) => {
                if !raw.faulty {
                    findings.error(
                        Code::ConflictingFields,
                        raw.at,
                        format!("the rule `{name}` needs either localData or a behavior"),
                        "write localData: {localDatas: [RECORD SETS]} or behavior: bypassResponsePolicy",
                    );
                }
                None
            }
        }
    }
}

/// A rule's `dnsName`: a name, or all names below one.
fn selector(text: &Text, findings: &mut Findings) -> Option<String> {
    match text.value.strip_prefix("*.") {
        Some("") => Some("*.".to_owned()),
        Some(below) => {
            let below = Text { at: text.at, value: below.to_owned() };
            zone_name(&below, findings).map(|below| format!("*.{below}"))
        }
        None => zone_name(text, findings),
    }
}
