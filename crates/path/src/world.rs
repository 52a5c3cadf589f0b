//! A topology, compiled: the snapshots of all programs, each made by the program's own function.

use crate::api_proxy::Runtime;
use crate::token::Issuer;
use names::SelfLink;
use policy_bundle::{BundleError, Platform};
use slice::{BackendState, ConnectionState, ServiceState, Topology, Workload};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// What runs, where something runs: history that a topology alone does not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// The state of every PSC connection.
    pub connections: Vec<ConnectionState>,
    /// The issuer's JWKS document, by which real tokens are verified.
    pub jwks: String,
    /// Running workloads: `exec` sessions and instances by name.
    pub workloads: Vec<Workload>,
    /// The state of every Cloud Run service that said something of itself.
    pub services: Vec<ServiceState>,
    /// The state of every endpoint of the load balancers' backend services.
    pub backends: Vec<BackendState>,
}

/// A topology, compiled.
pub struct World {
    topology: Topology,
    live: Option<Live>,
    pub(crate) fabric: vpc::Fabric,
    /// All networks at once: a zone that many see is compiled once.
    pub(crate) dns: managed_zone::Snapshot,
    /// Load balancers to which no routing policy points now.
    pub(crate) unhealthy: BTreeSet<SelfLink>,
    /// By endpoint.
    pub(crate) connections: HashMap<SelfLink, psc::Connection>,
    /// Those of all networks.
    pub(crate) load_balancers: url_map::Snapshot,
    /// The security policy of each backend service that has one.
    pub(crate) security_policies: HashMap<SelfLink, Arc<security_policy::Policy>>,
    /// Every organisation with its deployed bundles.
    pub(crate) runtimes: Vec<Runtime>,
    /// Cloud Run's front as it verifies live tokens.
    pub(crate) front: serverless::Front,
    /// The same, which also takes tokens made for the question.
    pub(crate) issuer: OnceLock<Result<Issuer, String>>,
}

impl World {
    /// Compiles a topology; bundles are read from their folders. Without `live` a fresh start is assumed: no history of connections, no
    /// keys.
    ///
    /// # Errors
    /// All that a program would refuse, each with its program's name.
    pub fn compile(topology: &Topology, live: Option<Live>) -> Result<World, Vec<String>> {
        let mut problems = Vec::new();
        let mut connections = HashMap::new();
        let dns = managed_zone::Snapshot::compile(&topology::every_private_dns(topology))
            .map_err(|errors| problems.extend(errors.iter().map(|e| format!("private-dns: {e}"))));
        let load_balancers = url_map::Snapshot::compile(&topology.load_balancing)
            .map_err(|errors| problems.extend(errors.iter().map(|e| format!("internal-lb: {e}"))));
        let security_policies = security_policies(topology, &mut problems);
        for network in &topology.networks {
            let id = &network.id;
            let attachments = topology::service_attachment(topology, id);
            let own: HashSet<&SelfLink> =
                attachments.endpoints.iter().map(|endpoint| &endpoint.self_link).collect();
            let known: Vec<ConnectionState> = live
                .iter()
                .flat_map(|live| &live.connections)
                .filter(|state| own.contains(&state.endpoint))
                .cloned()
                .collect();
            let states = psc::reconcile(&known, &attachments, 0);
            connections.extend(states.into_iter().map(|state| (state.endpoint.clone(), state)));
        }
        let mut runtimes = Vec::new();
        for organization in &topology.organizations {
            let read =
                |deployment: &slice::apigee::Deployment| policy_bundle::read(&deployment.bundle);
            match Platform::compile(organization, read) {
                Ok(platform) => {
                    runtimes.push(Runtime { organization: organization.clone(), platform });
                }
                Err(errors) => {
                    problems.extend(errors.into_iter().map(|e| from_here(e).to_string()));
                }
            }
        }
        let jwks = live.as_ref().map_or(crate::token::NO_KEYS, |live| &live.jwks);
        let slice = topology::cloud_run(topology);
        let front = id_token::KeySet::parse(jwks).map_err(serverless::CompileError::Keys).and_then(
            |keys| {
                let accounts = &slice.service_accounts;
                serverless::Front::compile(&slice.services, accounts, &slice.iam, keys)
            },
        );
        let front = front.map_err(|error| problems.push(format!("cloud-run: {error}")));
        let (Ok(dns), Ok(load_balancers), Ok(front)) = (dns, load_balancers, front) else {
            return Err(problems);
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let backends = live.as_ref().map_or(&[][..], |live| &live.backends);
        let unhealthy = managed_zone::unhealthy(&topology.load_balancing, backends);
        Ok(World {
            fabric: vpc::Fabric::compile(topology)
                .with_workloads(live.iter().flat_map(|live| &live.workloads)),
            topology: topology.clone(),
            unhealthy,
            live,
            dns,
            connections,
            load_balancers,
            security_policies,
            runtimes,
            front,
            issuer: OnceLock::new(),
        })
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Does it know what runs, or is a fresh start assumed?
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// What the load balancers said of their endpoints; none where nothing runs.
    pub(crate) fn backend_states(&self) -> Option<&[BackendState]> {
        Some(&self.live.as_ref()?.backends)
    }

    /// The tests that URL maps carry and that fail.
    pub fn url_map_test_failures(&self) -> Vec<url_map::TestFailure> {
        self.load_balancers.run_tests()
    }

    /// What the user should know about the API proxy bundles, one line each.
    pub fn bundle_warnings(&self) -> impl Iterator<Item = String> {
        let warnings = self.runtimes.iter().flat_map(|runtime| &runtime.platform.warnings);
        warnings.map(|warning| from_here(warning.clone()).as_warning().to_string())
    }

    pub(crate) fn workloads(&self) -> &[Workload] {
        self.live.as_ref().map_or(&[], |live| &live.workloads)
    }

    /// What runs of a service, where something runs.
    pub(crate) fn service_state(&self, service: &SelfLink) -> Option<&ServiceState> {
        let mut services = self.live.iter().flat_map(|live| &live.services);
        services.find(|state| state.service == *service)
    }

    pub(crate) fn jwks(&self) -> &str {
        self.live.as_ref().map_or(crate::token::NO_KEYS, |live| &live.jwks)
    }
}

/// By backend service.
fn security_policies(
    topology: &Topology,
    problems: &mut Vec<String>,
) -> HashMap<SelfLink, Arc<security_policy::Policy>> {
    let all = &topology.load_balancing;
    let mut compiled = HashMap::new();
    for policy in &all.security_policies {
        match security_policy::Policy::compile(policy) {
            Ok(policy) => drop(compiled.insert(policy.link().clone(), Arc::new(policy))),
            Err(defects) => problems.extend(defects.iter().map(|(priority, why)| {
                format!("internal-lb: {} rule {priority}: {why}", policy.self_link)
            })),
        }
    }
    let policy = |service: &slice::load_balancer::BackendService| {
        let policy = compiled.get(service.security_policy.as_ref()?)?;
        Some((service.self_link.clone(), policy.clone()))
    };
    all.backend_services.iter().filter_map(policy).collect()
}

/// Files below the working directory are named from there, as editors and people take them.
fn from_here(mut error: BundleError) -> BundleError {
    if let Ok(here) = std::env::current_dir()
        && let Ok(inner) = Path::new(&*error.file).strip_prefix(here)
    {
        error.file = inner.display().to_string().into();
    }
    error
}
