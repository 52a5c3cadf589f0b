//! Placements and expectations.

use super::Lowering;
use crate::diagnostic::{Code, Findings};
use crate::fields::ours;
use crate::model::{Scope, Scoped};
use crate::similar;
use names::{NetworkId, Reason};
use slice::{Expectation, Placement};
use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};

impl Lowering<'_> {
    /// Where declared addresses are really bound.
    pub(crate) fn placements(&mut self, findings: &mut Findings) {
        let mut declared_at = HashMap::new();
        let mut actual_at = HashMap::new();
        for Scoped { scope, raw } in &self.model.placements {
            let network = self.placement_network(raw, scope, findings);
            let declared = raw.declared.parse::<SocketAddrV4>();
            let actual = raw.actual.parse::<SocketAddr>();
            for (bad, text) in [(declared.is_err(), &raw.declared), (actual.is_err(), &raw.actual)]
            {
                if bad {
                    findings.error(
                        Code::InvalidValue,
                        text.at,
                        format!("`{}` is no address with a port", text.value),
                        "write ADDRESS:PORT, such as 10.0.0.5:443",
                    );
                }
            }
            let (Some(network), Ok(declared), Ok(actual)) = (network, declared, actual) else {
                continue;
            };
            let before = [
                declared_at
                    .insert((network.clone(), declared), raw.at)
                    .map(|at| (at, format!("{declared} in {network}"))),
                actual_at
                    .insert(actual, raw.at)
                    .filter(|_| actual.port() != 0)
                    .map(|at| (at, actual.to_string())),
            ];
            for (at, what) in before.into_iter().flatten() {
                let first = findings.position(at);
                findings.error(
                    Code::PlacementConflict,
                    raw.at,
                    format!("{what} is placed already, at {first}"),
                    "remove one of the two placements",
                );
            }
            self.topology.placements.push(Placement { network, declared, actual });
        }
    }

    fn placement_network(
        &self,
        raw: &ours::Placement,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<NetworkId> {
        if let Some(network) = &raw.network {
            return super::psc::network_in_ours(self, network, scope, findings);
        }
        let mut own =
            self.fabric.order.iter().filter(|id| Some(&*id.project) == scope.project.as_deref());
        match (own.next(), own.next()) {
            (Some(id), None) => Some(id.clone()),
            _ => {
                findings.error(
                    Code::MissingField,
                    raw.at,
                    "`network` is missing, and the document's project does not have exactly one network",
                    "add network: NAME",
                );
                None
            }
        }
    }

    /// Expectations, checked for what can be checked without running them.
    pub(crate) fn expectations(&mut self, findings: &mut Findings) {
        let model = self.model;
        for Scoped { scope, raw } in &model.expectations {
            let from = self.from(&raw.from, scope, findings);
            if let Some(reason) = &raw.expect.reason
                && Reason::from_code(reason).is_none()
            {
                let codes = Reason::ALL.iter().map(|reason| reason.code());
                let fix = match similar::closest(reason, codes) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write a reason code as `explain` prints it".to_owned(),
                };
                findings.error(
                    Code::Expectation,
                    reason.at,
                    format!("there is no reason `{}`", reason.value),
                    fix,
                );
            }
            if let Some(service) = &raw.expect.service {
                let known = model.services.is_named(service);
                if !known && !model.unread.iter().any(|text| text.contains(service.as_str())) {
                    let names = model.services.items.iter().map(|item| item.name());
                    let fix = match similar::closest(service, names) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "write the short name of a service of this topology".to_owned(),
                    };
                    findings.error(
                        Code::Expectation,
                        service.at,
                        format!("there is no Cloud Run service `{}`", service.value),
                        fix,
                    );
                }
            }
            let bare = raw.url.starts_with("tcp://") || raw.url.starts_with("udp://");
            if !bare && !raw.url.starts_with("https://") && !raw.url.starts_with("http://") {
                findings.error(
                    Code::Expectation,
                    raw.url.at,
                    format!("`{}` is no http or https URL", raw.url.value),
                    "write a URL such as https://internal.example.com/orders, or tcp://10.0.0.5:5432",
                );
            }
            if bare != raw.expect.connected.is_some() && !raw.expect.faulty {
                findings.error(
                    Code::Expectation,
                    raw.expect.at,
                    "`connected` goes with tcp:// and udp://, and these with nothing else",
                    "write connected: true or false for tcp:// and udp://, and status for HTTP",
                );
            }
            let account = raw.as_service_account.as_ref().map(|email| {
                if !super::iam::is_email(email) {
                    findings.error(
                        Code::Expectation,
                        email.at,
                        format!("`{}` is no email of a service account", email.value),
                        "write NAME@PROJECT.iam.gserviceaccount.com",
                    );
                }
                let email = email.to_ascii_lowercase();
                self.account(&email, scope.project.as_deref().unwrap_or_default())
            });
            if raw.id_token_audience.is_some() && account.is_none() {
                findings.error(
                    Code::Expectation,
                    raw.at,
                    "`idTokenAudience` needs an identity to mint the token for",
                    "add as: SERVICE_ACCOUNT",
                );
            }
            let expected = &raw.expect;
            if expected.status.is_none()
                && expected.reason.is_none()
                && expected.service.is_none()
                && expected.connected.is_none()
                && !expected.faulty
            {
                findings.error(
                    Code::Expectation,
                    expected.at,
                    "nothing is expected; a check of nothing cannot fail",
                    "add status, reason or service",
                );
            }
            let names = raw.headers.0.iter().map(|(name, _)| name);
            for name in names.chain(&raw.method) {
                let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
                if name.is_empty() || !name.bytes().all(token) {
                    findings.error(
                        Code::Expectation,
                        name.at,
                        format!("`{}` is no name of a header or method", name.value),
                        "use letters, digits and hyphens",
                    );
                }
            }
            let Some(from) = from else { continue };
            let text =
                |text: &Option<crate::decode::Text>| text.as_ref().map(|text| text.value.clone());
            self.topology.expectations.push(Expectation {
                at: findings.position(raw.at).to_string(),
                description: text(&raw.description).unwrap_or_else(|| raw.url.value.clone()),
                from,
                as_service_account: account,
                tags: raw.tags.iter().map(|tag| tag.value.clone()).collect(),
                region: text(&raw.region),
                method: text(&raw.method).unwrap_or_else(|| "GET".to_owned()).to_ascii_uppercase(),
                url: raw.url.value.clone(),
                headers: raw
                    .headers
                    .0
                    .iter()
                    .map(|(name, value)| (name.value.clone(), value.value.clone()))
                    .collect(),
                id_token_audience: text(&raw.id_token_audience),
                status: raw.expect.status.and_then(|status| u16::try_from(status.0).ok()),
                reason: text(&raw.expect.reason),
                service: text(&raw.expect.service),
                connected: raw.expect.connected,
            });
        }
    }

    /// `PROJECT/NETWORK[/WORKLOAD]`, `NETWORK` of the document's project, `PROJECT/run/SERVICE`, or
    /// `internet`.
    fn from(
        &self,
        from: &crate::decode::Text,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<String> {
        if from.as_str() == "internet" {
            return Some(from.value.clone());
        }
        let mut segments = from.splitn(3, '/');
        let first = segments.next().unwrap_or_default();
        let (id, workload) = match segments.next() {
            Some(name) => (NetworkId::new(first, name), segments.next()),
            None => (NetworkId::new(scope.project.as_deref().unwrap_or_default(), first), None),
        };
        if !self.fabric.nets.contains_key(&id) {
            let mut services = self.model.services.items.iter();
            let is_service = services
                .any(|service| *service.project == *id.project && workload == Some(service.name()));
            if &*id.name == "run" && is_service {
                return Some(from.value.clone());
            }
            let known: Vec<String> = self.fabric.order.iter().map(NetworkId::to_string).collect();
            let fix = match similar::closest(&id.to_string(), known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write PROJECT/NETWORK, PROJECT/NETWORK/INSTANCE, PROJECT/run/SERVICE, or internet".to_owned(),
            };
            let silent = self.model.unread.iter().any(|text| text.contains(&*id.name));
            if !silent {
                findings.error(
                    Code::Expectation,
                    from.at,
                    format!("there is no network `{id}`"),
                    fix,
                );
            }
            return None;
        }
        if let Some(workload) = workload {
            let here = |name: &str| self.model.instances.is_named(name);
            if !here(workload)
                && !here(workload.trim_start_matches("vm/"))
                && workload != "api-proxy"
            {
                findings.error(
                    Code::Expectation,
                    from.at,
                    format!("{id} has no declared workload `{workload}`"),
                    "name a declared instance, or leave it out to ask as any workload of the network",
                );
                return None;
            }
        }
        Some(match workload {
            Some(workload) => format!("{id}/{workload}"),
            None => id.to_string(),
        })
    }
}
