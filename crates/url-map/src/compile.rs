//! From a slice to tables: everything that a request would otherwise look for is resolved here,
//! once per reload. Rules hold indices, not objects.

use crate::actions::HeaderAction;
use crate::defect::{CompileError, Defect, Place};
use crate::group::{Catalogue, Selector};
use crate::header::CustomHeader;
use crate::hosts::HostTable;
use crate::mask::{Placeholder, UrlMask};
use crate::route::{PathMatcher, Route, Site, To, routes};
use crate::table::TextMap;
use crate::url_map_tests::CompiledTest;
use names::SelfLink;
pub use slice::load_balancer::Protocol;
use slice::load_balancer::{self as raw, CloudRunEndpoints, Endpoints, LoadBalancing};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The timeout of a serverless backend: 60 minutes, fixed (private-connectivity 0, trap 14).
const SERVERLESS_TIMEOUT: Duration = Duration::from_secs(3600);
/// `backendService.timeoutSec` where it is not set (2.10).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// All load balancing of one network, compiled. Immutable; shared by every thread.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) forwarding_rules: Vec<ForwardingRule>,
    pub(crate) forwarding_rule_links: TextMap,
    pub(crate) url_maps: Vec<UrlMap>,
    pub(crate) backend_services: Vec<BackendService>,
    pub(crate) catalogues: Vec<Catalogue>,
}

/// A forwarding rule with its target proxy.
#[derive(Clone, Debug)]
pub struct ForwardingRule {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Region of the load balancer.
    pub region: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// May clients of other regions use it?
    pub allow_global_access: bool,
    /// The target proxy's canonical name.
    pub target_proxy: SelfLink,
    /// Is it a target HTTPS proxy? The scheme of every request that it takes.
    pub https: bool,
    pub(crate) url_map: u32,
}

/// A URL map.
#[derive(Clone, Debug)]
pub struct UrlMap {
    /// Canonical name; its short name is the load balancer's name for users.
    pub self_link: SelfLink,
    pub(crate) hosts: HostTable,
    pub(crate) matchers: Vec<PathMatcher>,
    pub(crate) default: Route,
    pub(crate) header_action: Option<Box<HeaderAction>>,
    /// Ours: chance is the same in every run.
    pub seed: Option<u64>,
    pub(crate) tests: Vec<CompiledTest>,
}

/// A backend service with its endpoints.
#[derive(Clone, Debug)]
pub struct BackendService {
    /// Its place in [`Snapshot::backend_services`].
    pub index: usize,
    /// Canonical name.
    pub self_link: SelfLink,
    /// How backends are spoken to; without effect on serverless groups.
    pub protocol: Protocol,
    /// From the end of the request to the end of the answer.
    pub timeout: Duration,
    /// Headers added to every request.
    pub request_headers: Vec<CustomHeader>,
    /// Headers added to every answer.
    pub response_headers: Vec<CustomHeader>,
    /// The first endpoint group, which names the others' kind.
    pub group: Option<SelfLink>,
    pub(crate) backends: Backends,
}

#[derive(Clone, Debug)]
pub(crate) enum Backends {
    None,
    Serverless(Box<Selector>),
    /// As they are written, for people; which one a request gets is not decided here.
    Endpoints(Vec<String>),
}

impl Snapshot {
    /// Compiles a slice; all defects at once.
    pub fn compile(load_balancing: &LoadBalancing) -> Result<Snapshot, Vec<CompileError>> {
        let mut compiler = Compiler::default();
        let mut snapshot = Snapshot::default();

        let groups: Vec<_> =
            load_balancing.network_endpoint_groups.iter().map(|group| &group.self_link).collect();
        let groups = compiler.index(groups);
        for service in &load_balancing.backend_services {
            let mut compiled = compiler.backend_service(
                service,
                &groups,
                &load_balancing.network_endpoint_groups,
                &mut snapshot.catalogues,
            );
            compiled.index = snapshot.backend_services.len();
            snapshot.backend_services.push(compiled);
        }
        let services: Vec<_> =
            load_balancing.backend_services.iter().map(|service| &service.self_link).collect();
        let services = compiler.index(services);
        for map in &load_balancing.url_maps {
            let map = compiler.url_map(map, &services, &snapshot.backend_services);
            snapshot.url_maps.push(map);
        }
        let maps = load_balancing.url_maps.iter().map(|map| &map.self_link).collect();
        let maps = compiler.index(maps);
        for rule in &load_balancing.forwarding_rules {
            let compiled = compiler.forwarding_rule(rule, &maps, &snapshot.url_maps);
            snapshot.forwarding_rules.push(compiled);
        }
        let rules = load_balancing.forwarding_rules.iter().map(|rule| &rule.self_link).collect();
        snapshot.forwarding_rule_links = compiler.index(rules);
        match compiler.errors.is_empty() {
            true => Ok(snapshot),
            false => Err(compiler.errors),
        }
    }

    /// All forwarding rules, in the order of the slice.
    pub fn forwarding_rules(&self) -> &[ForwardingRule] {
        &self.forwarding_rules
    }

    /// All backend services, in the order of the slice.
    pub fn backend_services(&self) -> &[BackendService] {
        &self.backend_services
    }
}

#[derive(Default)]
pub(crate) struct Compiler {
    errors: Vec<CompileError>,
}

impl Compiler {
    pub(crate) fn error(&mut self, resource: &SelfLink, defect: Defect) {
        self.errors.push(CompileError { resource: resource.clone(), defect });
    }

    /// Self link → position.
    fn index(&mut self, links: Vec<&SelfLink>) -> TextMap {
        let mut index = TextMap::default();
        for (position, link) in (0u32..).zip(links) {
            if index.insert(link.as_str(), position).is_err() {
                self.error(link, Defect::DuplicateResource);
            }
        }
        index
    }

    /// The position of `link`; where there is none that is an error of `resource`, and 0 stands in
    /// for it in a snapshot that is thrown away.
    pub(crate) fn resolve(&mut self, resource: &SelfLink, index: &TextMap, link: &SelfLink) -> u32 {
        match index.get(link.as_str().as_bytes()) {
            Some((_, position)) => position,
            None => {
                self.error(resource, Defect::Dangling(link.clone()));
                0
            }
        }
    }

    fn forwarding_rule(
        &mut self,
        rule: &raw::ForwardingRule,
        index: &TextMap,
        maps: &[UrlMap],
    ) -> ForwardingRule {
        let url_map = self.resolve(&rule.self_link, index, &rule.target.url_map);
        if rule.target.https
            && let Some(map) = maps.get(url_map as usize)
            && map.has_https_redirect()
        {
            let proxy = rule.target.self_link.clone();
            self.error(&map.self_link, Defect::HttpsRedirectOnHttps(proxy));
        }
        ForwardingRule {
            self_link: rule.self_link.clone(),
            region: rule.region.clone(),
            address: rule.address,
            port: rule.port,
            allow_global_access: rule.allow_global_access,
            target_proxy: rule.target.self_link.clone(),
            https: rule.target.https,
            url_map,
        }
    }

    fn url_map(
        &mut self,
        map: &raw::UrlMap,
        services: &TextMap,
        known: &[BackendService],
    ) -> UrlMap {
        let link = &map.self_link;
        let mut names = TextMap::default();
        let mut matchers = Vec::with_capacity(map.path_matchers.len());
        for (index, matcher) in (0u32..).zip(&map.path_matchers) {
            if names.insert(&matcher.name, index).is_err() {
                self.error(link, Defect::DuplicatePathMatcher(matcher.name.clone()));
            }
            matchers.push(self.path_matcher(link, matcher, services, known));
        }
        let mut hosts = HostTable::default();
        for rule in &map.host_rules {
            let Some((_, matcher)) = names.get(rule.path_matcher.as_bytes()) else {
                self.error(link, Defect::UnknownPathMatcher(rule.path_matcher.clone()));
                continue;
            };
            for host in &rule.hosts {
                if let Err(error) = hosts.insert(host, matcher) {
                    self.error(link, Defect::Host(host.clone(), error));
                }
            }
        }
        let mut tests = Vec::with_capacity(map.tests.len());
        for test in &map.tests {
            match CompiledTest::new(test) {
                Ok(test) => tests.push(test),
                Err(header) => self.error(link, Defect::TestHeader(test.at.clone(), header)),
            }
        }
        let site = Site { map: link, place: Place::UrlMap, services, known, rules: &[] };
        UrlMap {
            self_link: link.clone(),
            hosts,
            matchers,
            default: self.route(&site, &map.default),
            header_action: self.header_action(&site, &map.header_action),
            seed: map.seed,
            tests,
        }
    }

    fn backend_service(
        &mut self,
        service: &raw::BackendService,
        index: &TextMap,
        groups: &[raw::NetworkEndpointGroup],
        catalogues: &mut Vec<Catalogue>,
    ) -> BackendService {
        let link = &service.self_link;
        let protocol = service.protocol;
        let mut backends = Backends::None;
        for group in service.backends.iter().map(|backend| &backend.group) {
            let Some((_, position)) = index.get(group.as_str().as_bytes()) else {
                self.error(link, Defect::Dangling(group.clone()));
                continue;
            };
            let group = &groups[position as usize];
            backends = match (backends, &group.endpoints) {
                (Backends::None, Endpoints::CloudRun(endpoints)) => {
                    let selector = self.selector(&group.self_link, endpoints, catalogues);
                    Backends::Serverless(Box::new(selector))
                }
                (Backends::None, other) => Backends::Endpoints(written(other, &service.port_name)),
                (Backends::Endpoints(mut all), other)
                    if !matches!(other, Endpoints::CloudRun(_)) =>
                {
                    all.extend(written(other, &service.port_name));
                    Backends::Endpoints(all)
                }
                // A global backend service has one serverless group of each region; which one is the
                // nearest to a client nobody knows here, and the first one takes all requests.
                (first @ Backends::Serverless(_), Endpoints::CloudRun(_)) if link.is_global() => {
                    first
                }
                (backends, _) => {
                    self.error(link, Defect::ServerlessNotAlone);
                    backends
                }
            };
        }
        let serverless = matches!(backends, Backends::Serverless(_));
        if serverless && service.timeout_sec.is_some() {
            self.error(link, Defect::ServerlessTimeout);
        }
        let timeout = match (serverless, service.timeout_sec) {
            (true, _) => SERVERLESS_TIMEOUT,
            (false, Some(seconds)) => Duration::from_secs(seconds.into()),
            (false, None) => TIMEOUT_DEFAULT,
        };
        let mut headers = |lines: &[String]| {
            let mut headers = Vec::with_capacity(lines.len());
            for line in lines {
                match CustomHeader::parse(line) {
                    Ok(header) => headers.push(header),
                    Err(error) => self.error(link, Defect::Header(line.clone(), error)),
                }
            }
            headers
        };
        BackendService {
            index: 0, // given by the snapshot
            self_link: link.clone(),
            protocol,
            timeout,
            request_headers: headers(&service.custom_request_headers),
            response_headers: headers(&service.custom_response_headers),
            group: service.backends.first().map(|backend| backend.group.clone()),
            backends,
        }
    }

    fn selector(
        &mut self,
        group: &SelfLink,
        endpoints: &CloudRunEndpoints,
        catalogues: &mut Vec<Catalogue>,
    ) -> Selector {
        let mask = match endpoints.url_mask.as_deref().map(UrlMask::parse).transpose() {
            Ok(mask) => mask,
            Err(error) => {
                self.error(group, Defect::Mask(error));
                None
            }
        };
        let masked = |placeholder| mask.as_ref().is_some_and(|mask| mask.has(placeholder));
        match (&endpoints.service, masked(Placeholder::Service)) {
            (Some(_), true) => self.error(group, Defect::FixedAndMasked(Placeholder::Service)),
            (None, false) if mask.is_some() || endpoints.url_mask.is_none() => {
                self.error(group, Defect::NoService);
            }
            _ => {}
        }
        if endpoints.tag.is_some() && masked(Placeholder::Tag) {
            self.error(group, Defect::FixedAndMasked(Placeholder::Tag));
        }
        // Groups of one project and region share a catalogue. A slice that crossed a process
        // boundary has a copy per group, so names are compared, not pointers.
        let same = |known: &Catalogue| {
            known.project == endpoints.project
                && known.region == endpoints.region
                && known.is_of(&endpoints.services)
        };
        let catalogue = catalogues.iter().position(same).unwrap_or_else(|| {
            let (project, region) = (&endpoints.project, &endpoints.region);
            catalogues.push(Catalogue::new(project, region, &endpoints.services));
            catalogues.len() - 1
        });
        Selector::new(catalogue as u32, &catalogues[catalogue], endpoints, mask)
    }
}

/// The endpoints of a group that is not serverless.
fn written(endpoints: &Endpoints, port_name: &str) -> Vec<String> {
    match endpoints {
        Endpoints::CloudRun(_) => Vec::new(),
        Endpoints::Instances(all) => {
            all.sockets(port_name).iter().map(ToString::to_string).collect()
        }
        Endpoints::Addresses { endpoints, .. } => {
            endpoints.iter().map(ToString::to_string).collect()
        }
        Endpoints::Fqdn(all) => {
            all.iter().map(|one| format!("{}:{}", one.fqdn, one.port)).collect()
        }
        Endpoints::ServiceAttachment(one) => vec![one.endpoint.target.to_string()],
    }
}

impl UrlMap {
    fn has_https_redirect(&self) -> bool {
        let redirects = |route: &Route| match &route.to {
            To::Redirect(redirect) => redirect.https_redirect,
            _ => false,
        };
        self.matchers.iter().flat_map(routes).chain([&self.default]).any(redirects)
    }
}

/// What stands behind a backend service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Empty,
    /// One serverless group.
    Serverless,
    /// Endpoints of other groups.
    Endpoints,
}

impl BackendService {
    /// What stands behind it.
    pub fn kind(&self) -> Kind {
        match &self.backends {
            Backends::None => Kind::Empty,
            Backends::Serverless(_) => Kind::Serverless,
            Backends::Endpoints(_) => Kind::Endpoints,
        }
    }

    /// Its endpoints as written, for people; empty for a serverless group.
    pub fn endpoints(&self) -> &[String] {
        match &self.backends {
            Backends::Endpoints(all) => all,
            _ => &[],
        }
    }

    pub(crate) fn is_serverless(&self) -> bool {
        self.kind() == Kind::Serverless
    }
}
