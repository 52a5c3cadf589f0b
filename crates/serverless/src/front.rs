//! The compiled services, and which of them a request asks for (cloud-run 3.1).

use iam::{Access, Permission, Policies};
use id_token::{KeySet, KeySetError};
use names::Reason;
use slice::iam::Iam;
use slice::run::{CloudRunSlice, Service, ServiceAccount, tagged_host};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Every service, compiled: an immutable snapshot.
#[derive(Clone, Debug)]
pub struct Front {
    services: Vec<FrontService>,
    hosts: HashMap<Box<str>, HostEntry>,
    links: HashMap<Box<str>, usize>,
    pub(crate) accounts: HashMap<Box<str>, Arc<str>>,
    pub(crate) keys: KeySet,
}

#[derive(Clone, Copy, Debug)]
struct HostEntry {
    service: usize,
    /// Index into the service's traffic targets: the one with the tag.
    tag: Option<usize>,
}

/// A compiled service.
#[derive(Clone, Debug)]
pub struct FrontService {
    /// Its place among the services that were compiled: for state kept beside the front.
    pub index: usize,
    /// The service as the topology has it.
    pub service: Arc<Service>,
    /// Every audience that its tokens may have: its URLs, then its custom audiences (5.2).
    pub audiences: Vec<String>,
    /// Who may invoke it.
    pub invokers: Access,
}

/// What cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// The issuer's key set.
    Keys(KeySetError),
    /// Two services claim one host name.
    HostTwice {
        /// The host.
        host: String,
        /// The services.
        services: [String; 2],
    },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Keys(error) => error.fmt(f),
            CompileError::HostTwice { host, services: [one, other] } => {
                write!(f, "{one} and {other} both have the host {host}")
            }
        }
    }
}

impl std::error::Error for CompileError {}

/// What names the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The Host of a request that reached Cloud Run's own front end; port and case are of no
    /// matter.
    Host(&'a str),
    /// The canonical name, with `#TAG` behind it if there is a tag: what a serverless network
    /// endpoint group resolved.
    Service(&'a str),
}

/// The service that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Found<'s> {
    /// The service.
    pub service: &'s FrontService,
    /// The tag of a traffic target.
    pub tag: Option<&'s str>,
    /// By its default URL, not through a load balancer.
    pub by_default_url: bool,
}

/// No service is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetRefusal {
    /// No service has this host.
    HostUnknown {
        /// The host asked for.
        host: String,
        /// A host of a service with the same name.
        near: Option<String>,
    },
    /// The host is that of a tag which the service does not have.
    TagUnknown {
        /// The service.
        service: String,
        /// The tag asked for.
        tag: String,
        /// The tags that it has.
        tags: Vec<String>,
    },
    /// The service's default URL is switched off.
    DefaultUriDisabled {
        /// The service.
        service: String,
        /// The host asked for.
        host: String,
    },
    /// No service has this canonical name (any more).
    ServiceUnknown {
        /// The name.
        link: String,
    },
}

impl Front {
    /// Compiles services; `accounts` tell whose token it is that has no email, and
    /// `iam` who may invoke what.
    ///
    /// # Errors
    /// If two services claim one host.
    pub fn compile(
        services: &[Service],
        accounts: &[ServiceAccount],
        iam: &Iam,
        keys: KeySet,
    ) -> Result<Self, CompileError> {
        let policies = Policies::new(iam);
        let accounts = accounts
            .iter()
            .map(|account| (account.unique_id.as_str().into(), account.email.as_str().into()))
            .collect();
        let mut front = Front {
            services: Vec::with_capacity(services.len()),
            hosts: HashMap::new(),
            links: HashMap::new(),
            accounts,
            keys,
        };
        for (index, service) in services.iter().enumerate() {
            for host in &service.hosts {
                let host = host.to_ascii_lowercase();
                front.add_host(&host, HostEntry { service: index, tag: None }, services)?;
                for (tag, target) in service.traffic.iter().enumerate() {
                    let Some(name) = &target.tag else { continue };
                    if let Some(tagged) = tagged_host(name, &host) {
                        let entry = HostEntry { service: index, tag: Some(tag) };
                        front.add_host(&tagged, entry, services)?;
                    }
                }
            }
            let urls = service.hosts.iter().map(|host| format!("https://{host}"));
            front.links.insert(service.self_link.as_str().into(), index);
            front.services.push(FrontService {
                index,
                service: Arc::new(service.clone()),
                audiences: urls.chain(service.custom_audiences.iter().cloned()).collect(),
                invokers: policies.access(Permission::RunRoutesInvoke, service.self_link.as_str()),
            });
        }
        Ok(front)
    }

    /// Compiles what the program `cloud-run` gets.
    ///
    /// # Errors
    /// As [`Front::compile`], and if the key set is broken.
    pub fn from_slice(slice: &CloudRunSlice) -> Result<Self, CompileError> {
        let keys = KeySet::parse(&slice.jwks).map_err(CompileError::Keys)?;
        Front::compile(&slice.services, &slice.service_accounts, &slice.iam, keys)
    }

    fn add_host(
        &mut self,
        host: &str,
        entry: HostEntry,
        services: &[Service],
    ) -> Result<(), CompileError> {
        match self.hosts.insert(host.into(), entry) {
            Some(earlier) if earlier.service != entry.service => Err(CompileError::HostTwice {
                host: host.to_owned(),
                services: [earlier.service, entry.service]
                    .map(|index| services[index].self_link.as_str().to_owned()),
            }),
            _ => Ok(()),
        }
    }

    /// The services, in the order in which they were compiled.
    pub fn services(&self) -> &[FrontService] {
        &self.services
    }

    /// The keys by which tokens are verified.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The service that is asked for.
    ///
    /// # Errors
    /// Why there is none, with what comes near.
    pub fn find(&self, target: Target<'_>) -> Result<Found<'_>, TargetRefusal> {
        match target {
            Target::Host(host) => self.find_host(host),
            Target::Service(link) => self.find_link(link),
        }
    }

    fn find_host(&self, authority: &str) -> Result<Found<'_>, TargetRefusal> {
        let host = bare_host(authority);
        let Some(entry) = self.hosts.get(&*host) else {
            return Err(self.host_unknown(&host));
        };
        let service = &self.services[entry.service];
        if service.service.default_uri_disabled {
            return Err(TargetRefusal::DefaultUriDisabled {
                service: service.service.name.clone(),
                host: host.into_owned(),
            });
        }
        let tag = entry.tag.and_then(|tag| service.service.traffic[tag].tag.as_deref());
        Ok(Found { service, tag, by_default_url: true })
    }

    fn find_link(&self, link: &str) -> Result<Found<'_>, TargetRefusal> {
        let (name, tag) = match link.split_once('#') {
            Some((name, tag)) => (name, Some(tag)),
            None => (link, None),
        };
        let service = match self.links.get(name) {
            Some(index) => &self.services[*index],
            None => return Err(TargetRefusal::ServiceUnknown { link: name.to_owned() }),
        };
        let tag = match tag {
            None => None,
            Some(tag) => match service.service.tags().find(|known| *known == tag) {
                Some(known) => Some(known),
                None => return Err(tag_unknown(service, tag)),
            },
        };
        Ok(Found { service, tag, by_default_url: false })
    }

    fn host_unknown(&self, host: &str) -> TargetRefusal {
        if let Some((tag, untagged)) = host.split_once("---")
            && let Some(entry) = self.hosts.get(untagged)
        {
            return tag_unknown(&self.services[entry.service], tag);
        }
        let near = self.services.iter().map(|service| &service.service).find(|service| {
            let rest = host.strip_prefix(service.name.as_str());
            rest.is_some_and(|rest| rest.starts_with(['-', '.']) || rest.is_empty())
        });
        TargetRefusal::HostUnknown {
            host: host.to_owned(),
            near: near.and_then(|service| service.hosts.first().cloned()),
        }
    }
}

fn tag_unknown(service: &FrontService, tag: &str) -> TargetRefusal {
    TargetRefusal::TagUnknown {
        service: service.service.name.clone(),
        tag: tag.to_owned(),
        tags: service.service.tags().map(str::to_owned).collect(),
    }
}

/// A Host without port, final dot and upper-case letters.
fn bare_host(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

impl TargetRefusal {
    /// The code of the registry.
    pub fn reason(&self) -> Reason {
        match self {
            TargetRefusal::HostUnknown { .. } => Reason::CloudRunHostNotFound,
            TargetRefusal::TagUnknown { .. } => Reason::CloudRunTagNotFound,
            TargetRefusal::DefaultUriDisabled { .. } => Reason::DefaultUriDisabled,
            TargetRefusal::ServiceUnknown { .. } => Reason::CloudRunServiceNotFound,
        }
    }

    /// One sentence: what to change.
    pub fn fix(&self) -> String {
        match self {
            TargetRefusal::HostUnknown { near: Some(near), .. } => format!("Use the host {near}."),
            TargetRefusal::TagUnknown { tags, .. } if !tags.is_empty() => {
                format!("Use one of the tags {}, or add this one.", tags.join(", "))
            }
            refusal => refusal.reason().fix().to_owned(),
        }
    }
}

impl fmt::Display for TargetRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetRefusal::HostUnknown { host, near: None } => {
                write!(f, "no Cloud Run service has the host `{host}`")
            }
            TargetRefusal::HostUnknown { host, near: Some(near) } => {
                write!(f, "no Cloud Run service has the host `{host}`; near: `{near}`")
            }
            TargetRefusal::TagUnknown { service, tag, .. } => {
                write!(f, "service {service} has no traffic target with the tag `{tag}`")
            }
            TargetRefusal::DefaultUriDisabled { service, host } => {
                write!(f, "the default URL of service {service} ({host}) is switched off")
            }
            TargetRefusal::ServiceUnknown { link } => {
                write!(f, "there is no Cloud Run service {link}")
            }
        }
    }
}
