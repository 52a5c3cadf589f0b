//! Writes a valid topology of any size, the same one for the same arguments: what the figures on
//! scale in `benches/README.md` were measured with.
//!
//! A third of the networks publish, each in a project of its own: load balancers with a TLS front
//! end, a URL map and a serverless group with a mask, a service attachment with a NAT subnetwork of
//! its own in front of each. The other networks consume: an endpoint for each attachment that they
//! use, private zones, DNS peering with publishers. Every network has declared VMs. Expectations
//! make `postern check` walk from every consumer to a service and back.

use std::fmt::Write;
use std::path::Path;

/// Region of a publisher, in turn; consumers have a subnetwork in each.
const REGIONS: [&str; 3] = ["europe-west1", "us-central1", "asia-east1"];
/// VMs of each network.
const INSTANCES: usize = 2;
/// Host rules of each URL map.
const HOST_RULES: usize = 4;
/// Of so many attachments one does not accept its last endpoint.
const PENDING_EVERY: usize = 10;
/// Of so many zones of a consumer one is a peering zone.
const PEERING_EVERY: usize = 10;

/// How big.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// VPC networks; two at least.
    pub networks: usize,
    /// Service attachments, each with an endpoint in one network, every other one in two.
    pub attachments: usize,
    /// Managed zones, peering zones included; one for each network at least.
    pub zones: usize,
    /// Record sets.
    pub records: usize,
}

/// `[--networks N] [--attachments N] [--zones N] [--records N] [--seed N] --out DIR`
///
/// # Errors
/// Arguments that make no sense, files that cannot be written.
pub fn run(arguments: &[String]) -> Result<String, String> {
    let mut size = Size { networks: 300, attachments: 1_000, zones: 5_000, records: 100_000 };
    let mut seed = 1;
    let mut out = None;
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or(format!("{option} takes a value"))?;
        let number = || value.parse::<usize>().map_err(|_| format!("{option}: `{value}`"));
        match option.as_str() {
            "--networks" => size.networks = number()?,
            "--attachments" => size.attachments = number()?,
            "--zones" => size.zones = number()?,
            "--records" => size.records = number()?,
            "--seed" => seed = number()?,
            "--out" => out = Some(Path::new(value)),
            _ => return Err(format!("there is no option {option}")),
        }
    }
    let out = out.ok_or("--out DIR is missing")?;
    let documents = documents(size, seed as u64)?;
    std::fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    let mut bytes = 0;
    for (name, text) in &documents {
        bytes += text.len();
        let path = out.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(format!("{}: {} files, {bytes} bytes", out.display(), documents.len()))
}

/// The files: name and text.
///
/// # Errors
/// Sizes that no valid topology has.
pub fn documents(size: Size, seed: u64) -> Result<Vec<(String, String)>, String> {
    let publishers = size.networks / 3;
    if publishers == 0 || size.zones < size.networks {
        return Err("three networks at least, and a zone for each of them".to_owned());
    }
    if size.attachments > publishers * 200 || size.records < size.zones + 2 * size.attachments {
        return Err("at most 200 attachments for every third network, and records for all".into());
    }
    let consumers = size.networks - publishers;
    let mut world = World {
        size,
        publishers,
        consumers,
        used: vec![Vec::new(); consumers],
        records_left: size.records,
        zones_left: 0,
        chance: seed,
    };
    let peering =
        (0..consumers).map(|consumer| world.zones_of(publishers + consumer) / PEERING_EVERY);
    world.zones_left = size.zones - peering.sum::<usize>();
    for attachment in 0..size.attachments {
        let first = world.below(consumers);
        world.used[first].push(attachment);
        if attachment % 2 == 1 && consumers > 1 {
            world.used[(first + 1) % consumers].push(attachment);
        }
    }
    let mut documents = Vec::new();
    for publisher in 0..publishers {
        let text = world.publisher(publisher);
        documents.push((format!("publisher-{publisher:04}.yaml"), text));
    }
    for consumer in 0..consumers {
        documents.push((format!("consumer-{consumer:04}.yaml"), world.consumer(consumer)));
    }
    Ok(documents)
}

struct World {
    size: Size,
    publishers: usize,
    consumers: usize,
    /// The attachments that each consumer has an endpoint for.
    used: Vec<Vec<usize>>,
    /// Record sets that are still to be written, and the zones to hold them.
    records_left: usize,
    zones_left: usize,
    chance: u64,
}

impl World {
    /// A number below `end`: splitmix64, for no other reason than that it is short.
    fn below(&mut self, end: usize) -> usize {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    fn publisher_of(&self, attachment: usize) -> usize {
        attachment % self.publishers
    }

    /// Does the attachment accept this consumer? The second endpoint of every tenth waits.
    fn accepts(&self, attachment: usize, consumer: usize) -> bool {
        let first = self.used[consumer].first() == Some(&attachment);
        first || attachment % PENDING_EVERY != 1
    }

    /// How many zones a network has.
    fn zones_of(&self, network: usize) -> usize {
        self.size.zones / self.size.networks
            + usize::from(network < self.size.zones % self.size.networks)
    }

    fn publisher(&mut self, publisher: usize) -> String {
        let region = REGIONS[publisher % REGIONS.len()];
        let project = format!("publisher-{publisher:04}");
        let own = (publisher..self.size.attachments).step_by(self.publishers);
        let own: Vec<usize> = own.collect();
        let mut text = head(&project, 700_000_000_000 + publisher as u64, region);
        text.push_str("subnetworks:\n");
        line(&mut text, "{name: main, network: main, ipCidrRange: 10.0.0.0/22}");
        line(
            &mut text,
            "{name: proxies, network: main, ipCidrRange: 10.0.4.0/24, purpose: REGIONAL_MANAGED_PROXY, role: ACTIVE}",
        );
        for (k, attachment) in own.iter().enumerate() {
            let (high, low) = (k / 16, k % 16 * 16);
            line(
                &mut text,
                &format!(
                    "{{name: nat-{attachment}, network: main, ipCidrRange: 10.1.{high}.{low}/28, purpose: PRIVATE_SERVICE_CONNECT}}"
                ),
            );
        }
        instances(&mut text, region);
        text.push_str("forwardingRules:\n");
        for (k, attachment) in own.iter().enumerate() {
            let (high, low) = ((k + 10) / 256, (k + 10) % 256);
            line(
                &mut text,
                &format!(
                    "{{name: api-{attachment}, loadBalancingScheme: INTERNAL_MANAGED, IPProtocol: TCP, portRange: \"443\", network: main, subnetwork: main, IPAddress: 10.0.{high}.{low}, target: targetHttpsProxies/api-{attachment}}}"
                ),
            );
        }
        text.push_str("targetHttpsProxies:\n");
        for attachment in &own {
            line(
                &mut text,
                &format!(
                    "{{name: api-{attachment}, urlMap: api-{attachment}, sslCertificates: [wildcard]}}"
                ),
            );
        }
        let _ = writeln!(
            text,
            "sslCertificates:\n- {{name: wildcard, type: SELF_MANAGED, postern: {{domains: [\"*.{project}.example.com\"]}}}}"
        );
        text.push_str("urlMaps:\n");
        for attachment in &own {
            url_map(&mut text, *attachment, &project);
        }
        let _ = writeln!(
            text,
            "backendServices:\n- {{name: apps, loadBalancingScheme: INTERNAL_MANAGED, protocol: HTTPS, backends: [{{group: apps}}]}}\nnetworkEndpointGroups:\n- {{name: apps, networkEndpointType: SERVERLESS, cloudRun: {{urlMask: /<service>}}}}"
        );
        text.push_str("serviceAttachments:\n");
        for attachment in &own {
            let _ = write!(
                text,
                "- {{name: api-{attachment}, targetService: api-{attachment}, connectionPreference: ACCEPT_MANUAL, natSubnets: [nat-{attachment}], consumerAcceptLists: [{{projectIdOrNum: nobody, connectionLimit: 1}}"
            );
            let users = (0..self.consumers).filter(|c| self.used[*c].contains(attachment));
            for consumer in users.filter(|consumer| self.accepts(*attachment, *consumer)) {
                let _ = write!(
                    text,
                    ", {{projectIdOrNum: consumer-{consumer:04}, connectionLimit: 10}}"
                );
            }
            text.push_str("]}\n");
        }
        let _ = writeln!(
            text,
            "services:\n- name: orders\n  ingress: INGRESS_TRAFFIC_INTERNAL_ONLY\n  template: {{scaling: {{maxInstanceCount: 2}}, containers: [{{image: images.example/{project}/orders}}]}}\niamPolicies:\n- resource: projects/{project}/locations/{region}/services/orders\n  bindings: [{{role: roles/run.invoker, members: [allUsers]}}]\nimages:\n  images.example/{project}/orders: {{command: [postern-echo]}}"
        );
        text.push_str("managedZones:\n");
        for zone in 0..self.zones_of(publisher) {
            // The first one is what consumers see by DNS peering.
            let name = match zone {
                0 => format!("shared.{project}.internal."),
                _ => format!("zone-{zone}.{project}.internal."),
            };
            self.zone(&mut text, zone, &name, &[]);
        }
        text
    }

    fn consumer(&mut self, consumer: usize) -> String {
        let project = format!("consumer-{consumer:04}");
        let mut text = head(&project, 800_000_000_000 + consumer as u64, REGIONS[0]);
        text.push_str("subnetworks:\n");
        for (k, region) in REGIONS.iter().enumerate() {
            line(
                &mut text,
                &format!(
                    "{{name: main-{k}, network: main, region: {region}, ipCidrRange: 10.{k}.0.0/20}}"
                ),
            );
        }
        instances(&mut text, REGIONS[0]);
        let used = self.used[consumer].clone();
        let mut records = Vec::new();
        if !used.is_empty() {
            text.push_str("forwardingRules:\n");
        }
        for (k, attachment) in used.iter().enumerate() {
            let publisher = self.publisher_of(*attachment);
            let place = publisher % REGIONS.len();
            let region = REGIONS[place];
            let address = format!("10.{place}.{}.{}", (k + 10) / 256, (k + 10) % 256);
            line(
                &mut text,
                &format!(
                    "{{name: api-{attachment}, region: {region}, loadBalancingScheme: \"\", network: main, subnetwork: projects/{project}/regions/{region}/subnetworks/main-{place}, IPAddress: {address}, target: projects/publisher-{publisher:04}/regions/{region}/serviceAttachments/api-{attachment}}}"
                ),
            );
            records.push((format!("api-{attachment}.publisher-{publisher:04}"), address));
        }
        text.push_str("managedZones:\n");
        for zone in 0..self.zones_of(self.publishers + consumer) {
            if zone % PEERING_EVERY == PEERING_EVERY - 1 {
                let target = (consumer + zone / PEERING_EVERY) % self.publishers;
                line(
                    &mut text,
                    &format!(
                        "{{name: zone-{zone}, dnsName: shared.publisher-{target:04}.internal., visibility: private, privateVisibilityConfig: {{networks: [{{networkUrl: main}}]}}, peeringConfig: {{targetNetwork: {{networkUrl: projects/publisher-{target:04}/global/networks/main}}}}}}"
                    ),
                );
                continue;
            }
            match zone {
                0 => self.zone(&mut text, zone, "example.com.", &records),
                _ => {
                    let name = format!("zone-{zone}.{project}.internal.");
                    self.zone(&mut text, zone, &name, &[]);
                }
            }
        }
        if let Some(attachment) = used.first() {
            let publisher = self.publisher_of(*attachment);
            let region = REGIONS[publisher % REGIONS.len()];
            let _ = writeln!(
                text,
                "expectations:\n- {{description: a published service, from: {project}/main, region: {region}, url: \"https://api-{attachment}.publisher-{publisher:04}.example.com/orders\", expect: {{status: 200, service: orders}}}}"
            );
        }
        text
    }

    /// A private zone with its share of the record sets, `given` A records first.
    fn zone(&mut self, text: &mut String, number: usize, name: &str, given: &[(String, String)]) {
        let share = self.records_left.div_ceil(self.zones_left.max(1)).max(given.len());
        self.records_left = self.records_left.saturating_sub(share);
        self.zones_left = self.zones_left.saturating_sub(1);
        let _ = writeln!(
            text,
            "- name: zone-{number}\n  dnsName: {name}\n  visibility: private\n  privateVisibilityConfig: {{networks: [{{networkUrl: main}}]}}\n  rrsets:"
        );
        for (host, address) in given {
            let _ = writeln!(
                text,
                "  - {{name: {host}.{name}, type: A, ttl: 300, rrdatas: [{address}]}}"
            );
        }
        for k in given.len()..share {
            let chance = self.below(256);
            let (owner, kind, data) = match k % 16 {
                3 => (format!("alias-{k}"), "CNAME", format!("host-{chance}.{name}")),
                6 => (format!("text-{k}"), "TXT", format!("'\"v=spf1 ip4:10.9.8.{chance} -all\"'")),
                9 => (format!("*.wild-{k}"), "A", format!("10.8.0.{chance}")),
                11 => (format!("host-{k}"), "AAAA", format!("\"fd00::{chance:x}\"")),
                13 => (
                    format!("_https._tcp.srv-{k}"),
                    "SRV",
                    format!("10 5 443 host-{chance}.{name}"),
                ),
                _ => (format!("host-{k}"), "A", format!("10.9.{}.{chance}", k % 256)),
            };
            let _ = writeln!(
                text,
                "  - {{name: \"{owner}.{name}\", type: {kind}, ttl: 300, rrdatas: [{data}]}}"
            );
        }
    }
}

fn head(project: &str, number: u64, region: &str) -> String {
    format!(
        "project: {project}\nprojectNumber: {number}\nregion: {region}\nnetworks: [{{name: main}}]\n"
    )
}

fn line(text: &mut String, item: &str) {
    text.push_str("- ");
    text.push_str(item);
    text.push('\n');
}

fn instances(text: &mut String, region: &str) {
    let subnetwork = if text.contains("name: main-0") { "main-0" } else { "main" };
    text.push_str("instances:\n");
    for k in 0..INSTANCES {
        line(
            text,
            &format!(
                "{{name: vm-{k}, zone: {region}-b, networkInterfaces: [{{network: main, subnetwork: {subnetwork}}}], tags: {{items: [web]}}}}"
            ),
        );
    }
}

/// A URL map with hosts of its own beside the mask.
fn url_map(text: &mut String, attachment: usize, project: &str) {
    let _ = write!(text, "- {{name: api-{attachment}, defaultService: apps, hostRules: [");
    for k in 0..HOST_RULES {
        let _ = write!(
            text,
            "{{hosts: [v{k}-{attachment}.{project}.example.com], pathMatcher: matcher}}, "
        );
    }
    text.push_str("], pathMatchers: [{name: matcher, defaultService: apps, pathRules: [");
    for k in 0..HOST_RULES {
        let _ = write!(text, "{{paths: [/v{k}, /v{k}/*], service: apps}}, ");
    }
    let _ = writeln!(
        text,
        "]}}], tests: [{{host: api-{attachment}.{project}.example.com, path: /orders, service: apps}}]}}"
    );
}
