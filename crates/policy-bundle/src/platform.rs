//! The deployed proxies of one organisation behind their hostnames and base paths (2.1).

use crate::bundle::{Bundle, load};
use crate::context::{ClientInfo, Context};
use crate::directory::Directory;
use crate::endpoint::ProxyEndpoint;
use crate::error::BundleError;
use crate::execution::Call;
use crate::fault::Fault;
use crate::files::Files;
use crate::message::Message;
use slice::apigee::{Deployment, Organization};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a deployment's variables say about it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Organisation.
    pub organization: Arc<str>,
    /// Environment.
    pub environment: Arc<str>,
    /// API proxy.
    pub api_proxy: Arc<str>,
    /// Revision.
    pub revision: Arc<str>,
    /// Region of the runtime.
    pub region: Arc<str>,
    /// The identity for Google tokens.
    pub service_account: Option<Arc<str>>,
}

impl Facts {
    /// The key of a counter: environment, proxy, policy, identifier and class (7.11).
    pub(crate) fn counter_key(&self, policy: &str, identifier: &str, class: &str) -> String {
        let parts = [&*self.environment, &*self.api_proxy, policy, identifier, class];
        let mut key = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for part in parts {
            key.push_str(part);
            key.push('\0');
        }
        key
    }
}

/// A bundle in an environment.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// Its names.
    pub facts: Arc<Facts>,
}

/// Everything that is deployed: an immutable snapshot.
#[derive(Debug, Default)]
pub struct Platform {
    deployed: Vec<Arc<Deployed>>,
    groups: Vec<Group>,
    /// Hostname, lower case → group.
    hosts: HashMap<String, usize>,
    /// `.example.com` of `*.example.com`, longest first.
    wildcard_hosts: Vec<(String, usize)>,
    /// Products, apps and keys.
    pub directory: Directory,
    /// What the user should know about the bundles.
    pub warnings: Vec<BundleError>,
}

/// An environment group.
#[derive(Debug, Default)]
struct Group {
    name: Arc<str>,
    /// Base path without trailing slash → endpoint; `/` is the empty text.
    literal: HashMap<String, Route>,
    /// Base paths with `*` segments.
    wildcard: Vec<(Vec<String>, Route)>,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    deployed: usize,
    endpoint: usize,
}

/// The proxy endpoint that a request reached.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The deployment.
    pub deployed: Arc<Deployed>,
    /// The endpoint.
    pub endpoint: Arc<ProxyEndpoint>,
    /// The environment group.
    pub environment_group: Arc<str>,
    /// How many bytes of the path are the base path.
    pub base_path_length: usize,
}

impl Platform {
    /// Loads and checks every deployment of an organisation.
    ///
    /// # Errors
    /// All mistakes of all bundles, missing service accounts, and conflicting base paths.
    pub fn compile(
        organization: &Organization,
        mut read: impl FnMut(&Deployment) -> Result<Files, BundleError>,
    ) -> Result<Platform, Vec<BundleError>> {
        let mut platform =
            Platform { directory: Directory::new(organization), ..Platform::default() };
        let mut errors = Vec::new();
        let mut bundles: BTreeMap<_, Arc<Bundle>> = BTreeMap::new();
        for deployment in &organization.deployments {
            let bundle = match bundles.get(&deployment.bundle) {
                Some(bundle) => bundle.clone(),
                None => match read(deployment)
                    .map_err(|error| vec![error])
                    .and_then(|files| load(&files))
                {
                    Ok(loaded) => {
                        let root = deployment.bundle.display();
                        platform
                            .warnings
                            .extend(loaded.warnings.into_iter().map(|error| rooted(error, &root)));
                        let bundle = Arc::new(loaded.bundle);
                        bundles.insert(deployment.bundle.clone(), bundle.clone());
                        bundle
                    }
                    Err(found) => {
                        let root = deployment.bundle.display();
                        errors.extend(found.into_iter().map(|error| rooted(error, &root)));
                        continue;
                    }
                },
            };
            if deployment.service_account.is_none() && bundle.needs_service_account() {
                errors.push(at(
                    deployment,
                    "MISSING_SERVICE_ACCOUNT",
                    format!(
                        "the deployment of `{}` requires a service account identity, but has none.",
                        deployment.api_proxy
                    ),
                    "Give the deployment a `serviceAccount`.",
                ));
            }
            platform.deployed.push(Arc::new(Deployed {
                bundle,
                facts: Arc::new(facts(organization, deployment)),
            }));
        }
        platform.groups(organization, &mut errors);
        if errors.is_empty() { Ok(platform) } else { Err(errors) }
    }

    fn groups(&mut self, organization: &Organization, errors: &mut Vec<BundleError>) {
        for group in &organization.environment_groups {
            let index = self.groups.len();
            let mut routes = Group { name: group.name.as_str().into(), ..Group::default() };
            for (number, deployed) in self.deployed.iter().enumerate() {
                if !group.environments.iter().any(|name| **name == *deployed.facts.environment) {
                    continue;
                }
                for (endpoint, proxy) in deployed.bundle.proxies.iter().enumerate() {
                    let route = Route { deployed: number, endpoint };
                    if let Some(other) = routes.add(&proxy.base_path, route) {
                        let other = &self.deployed[other.deployed].facts;
                        let place = organization.deployments.iter().find(|d| {
                            *d.api_proxy == *deployed.facts.api_proxy
                                && *d.environment == *deployed.facts.environment
                        });
                        if let Some(place) = place {
                            errors.push(at(
                                place,
                                "CONFLICTING_DEPLOYMENT",
                                format!(
                                    "Existing deployment of \"organizations/{}/environments/{}/apis/{}/revisions/{}\" contains conflicting base paths: [{}]",
                                    other.organization, other.environment, other.api_proxy, other.revision, proxy.base_path
                                ),
                                "Give one of them another base path, or another environment group.",
                            ));
                        }
                    }
                }
            }
            for hostname in &group.hostnames {
                let hostname = hostname.to_ascii_lowercase();
                match hostname.strip_prefix('*') {
                    Some(suffix) if suffix.starts_with('.') => {
                        self.wildcard_hosts.push((suffix.to_owned(), index))
                    }
                    _ => {
                        self.hosts.entry(hostname).or_insert(index);
                    }
                }
            }
            self.groups.push(routes);
        }
        self.wildcard_hosts.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    }

    /// All deployments.
    pub fn deployed(&self) -> &[Arc<Deployed>] {
        &self.deployed
    }

    /// The proxy endpoint for a Host header and a path: the port is ignored (unconfirmed), the
    /// longest base path wins by whole segments (measured).
    ///
    /// # Errors
    /// `ApplicationNotFound`.
    pub fn route(&self, host: &str, path: &str) -> Result<Routed, Fault> {
        let name = hostname(host);
        let group = self.hosts.get(&*name).copied().or_else(|| {
            self.wildcard_hosts
                .iter()
                .find(|(suffix, _)| name.ends_with(suffix.as_str()))
                .map(|(_, group)| *group)
        });
        let not_found = || Fault::application_not_found(&name, path);
        let group = &self.groups[group.ok_or_else(not_found)?];
        let (route, base_path_length) = group.find(path).ok_or_else(not_found)?;
        let deployed = self.deployed[route.deployed].clone();
        let endpoint = deployed.bundle.proxies[route.endpoint].clone();
        Ok(Routed { deployed, endpoint, environment_group: group.name.clone(), base_path_length })
    }

    /// A call of what a request reached; `now` in milliseconds since the epoch.
    pub fn call(
        routed: Routed,
        request: Message,
        client: ClientInfo,
        now: i64,
        entropy: fn() -> u64,
    ) -> Call {
        let Routed { deployed, endpoint, base_path_length, .. } = routed;
        let mut context = Context::new(
            deployed.bundle.clone(),
            deployed.facts.clone(),
            client,
            request,
            now,
            entropy,
        );
        let (base, suffix) = context.request.path.split_at(base_path_length);
        (context.base_path, context.path_suffix) =
            (if base.is_empty() { "/" } else { base }.to_owned(), suffix.to_owned());
        context.proxy_endpoint = endpoint.name.clone();
        Call::new(deployed, endpoint, context)
    }
}

impl Group {
    /// Puts a base path in; the one that is there already stays and is returned.
    fn add(&mut self, base_path: &str, route: Route) -> Option<Route> {
        let path = base_path.trim_end_matches('/');
        let segments: Vec<String> = path.split('/').skip(1).map(String::from).collect();
        if segments.iter().any(|segment| segment == "*") {
            if let Some((_, other)) = self.wildcard.iter().find(|(known, _)| *known == segments) {
                return Some(*other);
            }
            self.wildcard.push((segments, route));
            return None;
        }
        match self.literal.get(path) {
            Some(other) => Some(*other),
            None => {
                self.literal.insert(path.to_owned(), route);
                None
            }
        }
    }

    /// The longest base path; a literal one beats one with `*` of the same length (unconfirmed).
    fn find(&self, path: &str) -> Option<(Route, usize)> {
        let mut end = path.len();
        loop {
            let candidate = &path[..end];
            if let Some(route) = self.literal.get(candidate) {
                return Some((*route, end));
            }
            if !self.wildcard.is_empty() && end > 0 {
                let parts = || candidate.split('/').skip(1);
                let count = parts().count();
                let found = self.wildcard.iter().find(|(segments, _)| {
                    segments.len() == count
                        && segments.iter().zip(parts()).all(|(segment, part)| {
                            segment == part || (segment == "*" && !part.is_empty())
                        })
                });
                if let Some((_, route)) = found {
                    return Some((*route, end));
                }
            }
            if end == 0 {
                return None;
            }
            end = candidate.rfind('/')?;
        }
    }
}

/// Host without port, trailing dot and case.
fn hostname(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(_) => host.split_inclusive(']').next().unwrap_or(host),
        None => host.split(':').next().unwrap_or(host),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn facts(organization: &Organization, deployment: &Deployment) -> Facts {
    Facts {
        organization: organization.name.as_str().into(),
        environment: deployment.environment.as_str().into(),
        api_proxy: deployment.api_proxy.as_str().into(),
        revision: deployment.revision.as_str().into(),
        region: organization.region.as_str().into(),
        service_account: deployment.service_account.as_deref().map(Arc::from),
    }
}

/// Puts the bundle's place before a file inside it.
fn rooted(mut error: BundleError, root: &dyn std::fmt::Display) -> BundleError {
    let root = root.to_string();
    if !error.file.starts_with(&root) {
        // A folder named `apiproxy` itself already ends in the first part of the file's path.
        let root = root.strip_suffix("/apiproxy").unwrap_or(&root);
        error.file = format!("{root}/{}", error.file).into();
    }
    error
}

/// An error at the place of a deployment in the topology, `file:line:column`.
fn at(deployment: &Deployment, code: &'static str, what: String, fix: &str) -> BundleError {
    let mut parts = deployment.at.rsplitn(3, ':');
    let (column, line, file) = (parts.next(), parts.next(), parts.next());
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    let (file, line, column) = match (file, number(line), number(column)) {
        (Some(file), Some(line), Some(column)) => (file, line, column),
        _ => (deployment.at.as_str(), 0, 0),
    };
    BundleError { file: file.into(), line, column, code, what, fix: fix.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests;
