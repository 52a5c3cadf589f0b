//! All resources of all documents with their canonical names, and the lookup of references.

use crate::decode::{Decode, Text};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::{
    apigee, backends, cloud_run, dns, firewalls, hubs, iam, load_balancing, network, org_policy,
    ours, psc, secrets, security, url_maps,
};
use crate::names_rules;
use crate::reference::{Parts, Place, last_segment, parts};
use crate::similar;
use names::SelfLink;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What a name without a path is relative to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) project: Option<Arc<str>>,
    pub(crate) region: Option<Arc<str>>,
}

/// Where resources of a kind may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Global,
    Region,
    /// In a zone, or in a region where the item names no zone.
    ZoneOrRegion,
    /// `projects/P/COLLECTION/NAME`.
    Project,
    /// `projects/P/locations/L/COLLECTION/NAME`.
    Location,
}

/// A resource type that has a canonical name and can be referred to.
pub(crate) trait Resource: Decode {
    /// The REST collection.
    const COLLECTION: &'static str;
    /// For messages: `a network`.
    const CALLED: &'static str;
    const LEVEL: Level;
    fn at(&self) -> Mark;
    fn name(&self) -> &Text;
    fn self_link(&self) -> Option<&Text>;
    fn region(&self) -> Option<&Text> {
        None
    }
    fn zone(&self) -> Option<&Text> {
        None
    }
    /// Is this one global, although most of its kind are regional?
    fn is_global(&self) -> bool {
        false
    }
    /// May it be global, where neither it nor its document names a region?
    fn may_be_global(&self) -> bool {
        false
    }
    /// A reference inside the resource whose project is most likely the resource's own: exports of
    /// managed zones do not say where they belong.
    fn neighbour(&self) -> Option<&Text> {
        None
    }
}

impl<T> Store<T> {
    /// Has any member this short name?
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Were there members that could not be read?
    pub(crate) fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }
}

macro_rules! resource {
    ($type:ty, $collection:literal, $called:literal, $level:ident $(, $part:ident)*) => {
        impl Resource for $type {
            const COLLECTION: &'static str = $collection;
            const CALLED: &'static str = $called;
            const LEVEL: Level = Level::$level;
            fn at(&self) -> Mark {
                self.at
            }
            fn name(&self) -> &Text {
                &self.name
            }
            resource!(@self_link $level);
            $(resource!(@$part);)*
        }
    };
    (@self_link Project) => { fn self_link(&self) -> Option<&Text> { None } };
    (@self_link Location) => { fn self_link(&self) -> Option<&Text> { None } };
    (@self_link $level:ident) => { fn self_link(&self) -> Option<&Text> { self.self_link.as_ref() } };
    (@region) => { fn region(&self) -> Option<&Text> { self.region.as_ref() } };
    (@zone) => { fn zone(&self) -> Option<&Text> { self.zone.as_ref() } };
    (@global_address) => {
        /// One for Google APIs (1.6) is.
        fn is_global(&self) -> bool {
            let purpose = self.purpose.as_ref().map(|purpose| purpose.value);
            purpose == Some(network::AddressPurpose::PrivateServiceConnect)
                && self.region.is_none()
        }
    };
    (@global_rule) => {
        /// An endpoint for Google APIs (1.6) is.
        fn is_global(&self) -> bool {
            let target = self.target.as_ref().map(|target| target.as_str());
            matches!(target, Some("all-apis" | "vpc-sc")) && self.region.is_none()
        }
    };
    (@any_place) => {
        fn may_be_global(&self) -> bool {
            true
        }
    };
    (@external) => {
        /// What is internal is regional here.
        fn may_be_global(&self) -> bool {
            let scheme = self.load_balancing_scheme.as_ref().map(|scheme| scheme.value);
            matches!(
                scheme,
                Some(psc::LoadBalancingScheme::ExternalManaged | psc::LoadBalancingScheme::External)
            )
        }
    };
    (@external_address) => {
        /// Internal ones are in a subnetwork.
        fn may_be_global(&self) -> bool {
            self.subnetwork.is_none()
                && self.address_type.is_none_or(|kind| kind == network::AddressType::External)
        }
    };
    (@neighbour) => {
        fn neighbour(&self) -> Option<&Text> {
            let networks = &self.private_visibility_config.as_ref()?.networks;
            networks.first().map(|network| &network.network_url)
        }
    };
    (@networks) => {
        fn neighbour(&self) -> Option<&Text> {
            self.networks.first().map(|network| &network.network_url)
        }
    };
}

resource!(network::Network, "networks", "a network", Global);
resource!(network::Subnetwork, "subnetworks", "a subnetwork", Region, region);
resource!(firewalls::Firewall, "firewalls", "a firewall rule", Global);
resource!(firewalls::Route, "routes", "a route", Global);
resource!(
    network::Address,
    "addresses",
    "an address",
    Region,
    region,
    global_address,
    external_address
);
resource!(network::Instance, "instances", "an instance", ZoneOrRegion, zone);
resource!(
    psc::ForwardingRule,
    "forwardingRules",
    "a forwarding rule",
    Region,
    region,
    global_rule,
    external
);
resource!(psc::ServiceAttachment, "serviceAttachments", "a service attachment", Region, region);
resource!(url_maps::UrlMap, "urlMaps", "a URL map", Region, region, any_place);
resource!(
    load_balancing::TargetHttpProxy,
    "targetHttpProxies",
    "a target HTTP proxy",
    Region,
    region,
    any_place
);
resource!(
    load_balancing::TargetHttpsProxy,
    "targetHttpsProxies",
    "a target HTTPS proxy",
    Region,
    region,
    any_place
);
resource!(load_balancing::TargetTcpProxy, "targetTcpProxies", "a target TCP proxy", Region, region);
resource!(
    load_balancing::TargetInstance,
    "targetInstances",
    "a target instance",
    ZoneOrRegion,
    zone
);
resource!(
    backends::InstanceGroup,
    "instanceGroups",
    "an instance group",
    ZoneOrRegion,
    region,
    zone
);
resource!(
    load_balancing::SslCertificate,
    "sslCertificates",
    "a certificate",
    Region,
    region,
    any_place
);
resource!(load_balancing::SslPolicy, "sslPolicies", "an SSL policy", Region, region, any_place);
resource!(load_balancing::ServerTlsPolicy, "serverTlsPolicies", "a server TLS policy", Location);
resource!(load_balancing::TrustConfig, "trustConfigs", "a trust config", Location);
resource!(backends::HealthCheck, "healthChecks", "a health check", Region, region);
resource!(
    backends::BackendService,
    "backendServices",
    "a backend service",
    Region,
    region,
    external
);
resource!(
    backends::NetworkEndpointGroup,
    "networkEndpointGroups",
    "a network endpoint group",
    ZoneOrRegion,
    region,
    zone
);
resource!(
    security::SecurityPolicy,
    "securityPolicies",
    "a security policy",
    Region,
    region,
    any_place
);
resource!(security::AddressGroup, "addressGroups", "an address group", Location, any_place);
resource!(dns::ManagedZone, "managedZones", "a managed zone", Project, neighbour);
resource!(dns::Policy, "policies", "a server policy", Project, networks);
resource!(dns::ResponsePolicy, "responsePolicies", "a response policy", Project, networks);
resource!(cloud_run::Service, "services", "a Cloud Run service", Location);

resource!(secrets::Secret, "secrets", "a secret", Project);

/// An older revision of a Cloud Run service.
#[derive(Debug)]
pub(crate) struct RevisionItem {
    /// Its service.
    pub(crate) service: SelfLink,
    pub(crate) raw: cloud_run::RevisionTemplate,
}

/// A resource with its canonical name.
#[derive(Debug)]
pub(crate) struct Item<T> {
    pub(crate) link: SelfLink,
    pub(crate) project: Arc<str>,
    pub(crate) place: Place,
    pub(crate) raw: T,
    /// Read from an export of the real product.
    pub(crate) exported: bool,
}

impl<T> Item<T> {
    /// What names inside this resource are relative to.
    pub(crate) fn scope(&self) -> Scope {
        Scope { project: Some(self.project.clone()), region: self.place.region().map(Arc::from) }
    }

    pub(crate) fn region(&self) -> &str {
        self.place.region().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.link.name()
    }
}

/// All resources of one type.
#[derive(Debug)]
pub(crate) struct Store<T> {
    pub(crate) items: Vec<Item<T>>,
    by_link: HashMap<SelfLink, usize>,
    by_name: HashMap<Arc<str>, Vec<usize>>,
    broken: HashSet<String>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Store {
            items: Vec::new(),
            by_link: HashMap::new(),
            by_name: HashMap::new(),
            broken: HashSet::new(),
        }
    }
}

/// An organisation and the document scope in which it stands.
#[derive(Debug)]
pub(crate) struct OrganizationItem {
    pub(crate) scope: Scope,
    pub(crate) raw: apigee::Organization,
}

/// Something of a document that has no canonical name.
#[derive(Debug)]
pub(crate) struct Scoped<T> {
    pub(crate) scope: Scope,
    pub(crate) raw: T,
}

/// How an image runs, with the folder that relative paths start from.
#[derive(Debug)]
pub(crate) struct ImageItem {
    pub(crate) at: Mark,
    pub(crate) raw: ours::Image,
}

/// A project as the documents name it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectItem {
    pub(crate) number: Option<(u64, Mark)>,
    pub(crate) region: Option<Arc<str>>,
    /// `organizations/1` or `folders/2`.
    pub(crate) parent: Option<Text>,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) projects: std::collections::BTreeMap<Arc<str>, ProjectItem>,
    /// Project number → id, declared or derived.
    pub(crate) numbers: HashMap<u64, Arc<str>>,
    /// Folder of each file, absolute.
    pub(crate) directories: Vec<PathBuf>,
    /// How many more dangling references get a "did you mean"; searching has a cost.
    pub(crate) hints: std::cell::Cell<u32>,
    /// Texts of files that could be read in part only: names in them are no dangling references.
    pub(crate) unread: Vec<String>,
    pub(crate) networks: Store<network::Network>,
    pub(crate) subnetworks: Store<network::Subnetwork>,
    pub(crate) addresses: Store<network::Address>,
    pub(crate) instances: Store<network::Instance>,
    pub(crate) forwarding_rules: Store<psc::ForwardingRule>,
    pub(crate) service_attachments: Store<psc::ServiceAttachment>,
    pub(crate) url_maps: Store<url_maps::UrlMap>,
    pub(crate) ssl_policies: Store<load_balancing::SslPolicy>,
    pub(crate) server_tls_policies: Store<load_balancing::ServerTlsPolicy>,
    pub(crate) trust_configs: Store<load_balancing::TrustConfig>,
    pub(crate) health_checks: Store<backends::HealthCheck>,
    pub(crate) target_http_proxies: Store<load_balancing::TargetHttpProxy>,
    pub(crate) target_https_proxies: Store<load_balancing::TargetHttpsProxy>,
    pub(crate) target_tcp_proxies: Store<load_balancing::TargetTcpProxy>,
    pub(crate) target_instances: Store<load_balancing::TargetInstance>,
    pub(crate) instance_groups: Store<backends::InstanceGroup>,
    pub(crate) ssl_certificates: Store<load_balancing::SslCertificate>,
    pub(crate) backend_services: Store<backends::BackendService>,
    pub(crate) network_endpoint_groups: Store<backends::NetworkEndpointGroup>,
    pub(crate) security_policies: Store<security::SecurityPolicy>,
    pub(crate) address_groups: Store<security::AddressGroup>,
    pub(crate) managed_zones: Store<dns::ManagedZone>,
    pub(crate) dns_policies: Store<dns::Policy>,
    pub(crate) response_policies: Store<dns::ResponsePolicy>,
    pub(crate) services: Store<cloud_run::Service>,
    pub(crate) revisions: Vec<RevisionItem>,
    pub(crate) secrets: Store<secrets::Secret>,
    pub(crate) firewalls: Store<firewalls::Firewall>,
    pub(crate) routes: Store<firewalls::Route>,
    /// Documents that make their project a Shared VPC host, with its service projects.
    pub(crate) xpn_hosts: Vec<Scoped<(Mark, Vec<firewalls::XpnResource>)>>,
    pub(crate) iam_policies: Vec<Scoped<iam::IamPolicy>>,
    pub(crate) service_accounts: Vec<Scoped<iam::ServiceAccount>>,
    pub(crate) roles: Vec<iam::Role>,
    pub(crate) groups: Vec<iam::Group>,
    /// What each folder is in.
    pub(crate) folders: HashMap<String, Text>,
    pub(crate) org_policies: Vec<org_policy::OrgPolicy>,
    pub(crate) hubs: Vec<Scoped<hubs::Hub>>,
    pub(crate) spokes: Vec<Scoped<hubs::Spoke>>,
    pub(crate) organizations: Vec<OrganizationItem>,
    pub(crate) images: HashMap<String, ImageItem>,
    pub(crate) placements: Vec<Scoped<ours::Placement>>,
    pub(crate) hosts: Vec<Scoped<ours::Host>>,
    /// Google's limits on counts and lengths are lifted (`limits: NONE`).
    pub(crate) limits_lifted: bool,
    pub(crate) expectations: Vec<Scoped<ours::Expectation>>,
}

impl Model {
    /// The folder of the file in which `at` lies, absolute.
    pub(crate) fn directory(&self, at: Mark) -> PathBuf {
        self.directories.get(at.file as usize).cloned().unwrap_or_default()
    }

    /// A project id, where it may be written as a number.
    pub(crate) fn project_id(&self, text: &str) -> Arc<str> {
        match text.parse::<u64>().ok().and_then(|number| self.numbers.get(&number)) {
            Some(id) => id.clone(),
            None => text.into(),
        }
    }

    /// The number of a project, declared or derived.
    pub(crate) fn project_number(&self, id: &str) -> u64 {
        match self.projects.get(id).and_then(|project| project.number) {
            Some((number, _)) => number,
            None => crate::derive::project_number(id),
        }
    }

    /// Gives a resource its canonical name and adds it to its store.
    pub(crate) fn add<T: Resource>(
        &mut self,
        store: fn(&mut Model) -> &mut Store<T>,
        raw: T,
        scope: &Scope,
        exported: bool,
        findings: &mut Findings,
    ) -> Option<usize> {
        let at = raw.at();
        let own = raw.self_link().and_then(|link| parts(link)).unwrap_or_default();
        // Cloud Run's `name` is the whole path, or short.
        let named = parts(raw.name()).unwrap_or(Parts { name: raw.name(), ..Parts::default() });
        let of_region = raw.region().and_then(|region| project_of(region));
        let project = own.project.or(named.project).or(of_region);
        let beside = raw.neighbour().and_then(|link| parts(link)).and_then(|parts| parts.project);
        let project = project.map(|id| self.project_id(id)).or_else(|| scope.project.clone());
        let Some(project) = project.or_else(|| beside.map(|id| self.project_id(id))) else {
            findings.error(
                Code::NoProject,
                at,
                format!("{} is in no project; its canonical name needs one", T::CALLED),
                "write `project: PROJECT_ID` at the top of the document",
            );
            self.broken(store, last_segment(raw.name()).to_owned());
            return None;
        };
        let region = raw.region().map(|region| last_segment(region));
        let region = region.or(own.region).or(named.region).map(Arc::from);
        let zone = raw.zone().map(|zone| last_segment(zone)).or(own.zone).map(Arc::<str>::from);
        let region = region.or_else(|| scope.region.clone());
        let zone = zone.filter(|zone| {
            let good = names_rules::is_zone(zone);
            if !good {
                findings.error(
                    Code::InvalidValue,
                    raw.zone().map_or(at, |zone| zone.at),
                    format!("`{zone}` is no zone; zones look like europe-west1-b"),
                    "write the zone's name",
                );
            }
            good
        });
        let place = match (T::LEVEL, zone, region) {
            (Level::Global, ..) => Place::Global,
            (Level::Project, ..) => Place::Project,
            _ if own.global || named.global || raw.is_global() => Place::Global,
            (Level::ZoneOrRegion, Some(zone), _) => Place::Zone(zone),
            (_, _, Some(region)) => Place::Region(region),
            _ if raw.may_be_global() => Place::Global,
            _ => {
                findings.error(
                    Code::NoRegion,
                    at,
                    format!("{} is in no region; its canonical name needs one", T::CALLED),
                    "write `region: REGION` at the top of the document or in the resource",
                );
                self.broken(store, last_segment(raw.name()).to_owned());
                return None;
            }
        };
        let name: Arc<str> = last_segment(named.name).into();
        names_rules::check(T::COLLECTION, &name, raw.name().at, findings);
        // The document's own region was checked with the document.
        if let (Place::Region(region), Some(written)) = (&place, raw.region()) {
            names_rules::check_region(region, written.at, findings);
        }
        let link = canonical::<T>(&project, &place, &name);
        self.projects.entry(project.clone()).or_default();
        let store = store(self);
        let index = store.items.len();
        if let Some(first) = store.by_link.get(&link) {
            let first = findings.position(store.items[*first].raw.at());
            findings.error(
                Code::DuplicateResource,
                raw.name().at,
                format!("`{link}` is declared twice; the first one is at {first}"),
                "rename one of the two or remove it",
            );
            return None;
        }
        store.by_link.insert(link.clone(), index);
        store.by_name.entry(name).or_default().push(index);
        store.items.push(Item { link, project, place, raw, exported });
        Some(index)
    }

    /// Adds an older revision of a service: `projects/P/locations/L/services/S/revisions/R`, or a
    /// short name beside `service`.
    pub(crate) fn add_revision(
        &mut self,
        raw: cloud_run::Revision,
        scope: &Scope,
        findings: &mut Findings,
    ) {
        let whole = raw.name.split_once("/revisions/").map(|(service, _)| service);
        let service = whole.or(raw.service.as_ref().map(|service| service.as_str()));
        let parts = service.and_then(parts);
        let project = parts.and_then(|parts| parts.project).map(|id| self.project_id(id));
        let region = parts.and_then(|parts| parts.region).map(Arc::from);
        let project = project.or_else(|| scope.project.clone());
        let region = region.or_else(|| scope.region.clone());
        let (Some(parts), Some(project), Some(region)) = (parts, project, region) else {
            findings.error(
                Code::ServiceRevision,
                raw.name.at,
                format!("it is not known of which service `{}` is a revision", raw.name.value),
                "write the whole name, projects/P/locations/L/services/S/revisions/R, or `service` beside it",
            );
            return;
        };
        let place = Place::Region(region);
        let service = canonical::<cloud_run::Service>(&project, &place, parts.name);
        self.revisions.push(RevisionItem { service, raw: raw.into_template() });
    }

    pub(crate) fn broken<T>(&mut self, store: fn(&mut Model) -> &mut Store<T>, name: String) {
        store(self).broken.insert(name);
    }

    /// Follows a reference; a dangling one is reported. `None` without a report where the target
    /// is there but could not be read.
    pub(crate) fn find<'m, T: Resource>(
        &'m self,
        store: &'m Store<T>,
        reference: &Text,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<&'m Item<T>> {
        match self.seek(store, reference, scope) {
            Ok(item) => Some(item),
            Err(miss) => {
                if !miss.silent {
                    findings.error(miss.code, reference.at, miss.message, miss.fix);
                }
                None
            }
        }
    }

    /// Like [`Model::find`], but leaves the report to the caller.
    pub(crate) fn seek<'m, T: Resource>(
        &'m self,
        store: &'m Store<T>,
        reference: &str,
        scope: &Scope,
    ) -> Result<&'m Item<T>, Miss> {
        let Some(parts) = parts(reference) else {
            return Err(Miss {
                code: Code::ReferenceNotFound,
                message: format!("`{reference}` is no reference to a resource"),
                fix: format!("write the name of {}, or its self link", T::CALLED),
                silent: false,
            });
        };
        if let Some(collection) = parts.collection
            && collection != T::COLLECTION
        {
            return Err(Miss {
                code: Code::ReferenceWrongKind,
                message: format!(
                    "`{reference}` leads into `{collection}`; this field takes {}",
                    T::CALLED
                ),
                fix: format!("refer to a member of `{}`", T::COLLECTION),
                silent: false,
            });
        }
        let project = parts.project.map(|project| self.project_id(project));
        let project = project.or_else(|| scope.project.clone()).unwrap_or_else(|| "".into());
        let region = parts.region.or(scope.region.as_deref());
        let candidates = store.by_name.get(parts.name).map(Vec::as_slice).unwrap_or_default();
        let mut elsewhere = None;
        let mut best: Option<&Item<T>> = None;
        for index in candidates {
            let item = &store.items[*index];
            let fits = match (T::LEVEL, &item.place) {
                _ if item.project != project => false,
                (Level::Global | Level::Project, _) => true,
                (_, Place::Global) => {
                    parts.global || (parts.region.is_none() && parts.zone.is_none())
                }
                _ if parts.global => false,
                (_, Place::Zone(zone)) => match parts.zone {
                    Some(wanted) => **zone == *wanted,
                    None => item.place.region() == region,
                },
                (_, place) => parts.zone.is_none() && place.region() == region,
            };
            if fits {
                // A regional one is nearer than a global one.
                if best.is_none_or(|best| best.place == Place::Global) {
                    best = Some(item);
                }
            } else {
                elsewhere = Some(item);
            }
        }
        if best.is_none() && region.is_none() && !parts.global && parts.zone.is_none() {
            // What is global names its regional parts without a region where there is one only.
            let mut all = candidates.iter().map(|index| &store.items[*index]);
            let mut own = all.by_ref().filter(|item| item.project == project);
            best = own.next().filter(|_| own.next().is_none());
        }
        if let Some(item) = best {
            return Ok(item);
        }
        let silent = store.broken.contains(parts.name)
            || self.unread.iter().any(|text| text.contains(parts.name));
        let within = match (T::LEVEL, region) {
            (Level::Global | Level::Project, _) | (_, None) => format!("project {project}"),
            (_, Some(region)) => format!("project {project}, region {region}"),
        };
        let near = || {
            self.hints.set(self.hints.get().checked_sub(1)?);
            let names = store.items.iter().filter(|item| item.project == project);
            similar::closest(parts.name, names.map(Item::name)).map(str::to_owned)
        };
        let fix = match (elsewhere, near()) {
            (Some(item), _) => format!("there is one at `{}`: write that", item.link),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("declare it under `{}`, or correct the name", T::COLLECTION),
        };
        Err(Miss {
            code: Code::ReferenceNotFound,
            message: format!(
                "`{reference}` leads to nothing; `{}` has no `{}` in {within}",
                T::COLLECTION,
                parts.name
            ),
            fix,
            silent,
        })
    }
}

/// A reference that leads to nothing.
pub(crate) struct Miss {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) fix: String,
    /// The target is there, but could not be read, which was reported.
    pub(crate) silent: bool,
}

/// The project in the URL of a region.
fn project_of(region: &str) -> Option<&str> {
    region.split_once("projects/").and_then(|(_, rest)| rest.split('/').next())
}

fn canonical<T: Resource>(project: &str, place: &Place, name: &str) -> SelfLink {
    let collection = T::COLLECTION;
    match place {
        Place::Global => SelfLink::global(project, collection, name),
        Place::Region(location) if T::LEVEL == Level::Location => {
            SelfLink::new(&format!("projects/{project}/locations/{location}/{collection}/{name}"))
        }
        Place::Region(region) => SelfLink::regional(project, region, collection, name),
        Place::Zone(zone) => {
            SelfLink::new(&format!("projects/{project}/zones/{zone}/{collection}/{name}"))
        }
        Place::Project => SelfLink::new(&format!("projects/{project}/{collection}/{name}")),
    }
}
