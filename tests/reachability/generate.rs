//! Random topologies: three networks in two regions with peerings, firewall rules, VMs, load
//! balancers, service attachments and endpoints.

use crate::random::Random;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

const REGIONS: [&str; 2] = ["europe-west1", "us-central1"];
const NETWORKS: usize = 3;

/// One random topology, as a document, with what is worth asking.
#[derive(Debug)]
pub struct Group {
    /// The document.
    pub document: Value,
    /// Its VMs.
    pub machines: Vec<Machine>,
    /// Addresses and ports that somebody may try to reach.
    pub targets: Vec<(Ipv4Addr, u16)>,
    /// PSC endpoints, by name.
    pub endpoints: Vec<String>,
}

/// A VM of a random topology.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `PROJECT/NETWORK`.
    pub network: String,
    /// Its name, of this topology alone.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

struct Maker {
    random: Random,
    project: String,
    /// Makes names of this topology alone, so that nothing remembers an earlier one.
    tag: String,
    /// Second octet of each network's ranges.
    blocks: [u8; NETWORKS],
    machines: Vec<Machine>,
    targets: Vec<(Ipv4Addr, u16)>,
}

impl Group {
    /// The topology of this seed, in the networks of one project, whose names are always the same.
    pub fn new(seed: u64, project: &str, command: impl Fn(&str) -> String) -> Group {
        let mut random = Random::new(seed);
        let links: Vec<(usize, usize, usize)> = [(0, 1), (1, 2), (0, 2)]
            .into_iter()
            .map(|(left, right)| (left, right, random.below(100)))
            .collect();
        // Networks that are not connected may use the same addresses.
        let apart =
            links.iter().all(|(left, right, roll)| (*left != 2 && *right != 2) || *roll < 40);
        let blocks = [10, 20, if apart && random.percent(50) { 10 } else { 30 }];
        let mut maker = Maker {
            random,
            project: project.to_owned(),
            tag: format!("{seed:x}"),
            blocks,
            machines: Vec::new(),
            targets: Vec::new(),
        };
        let mut networks: Vec<Value> =
            (0..NETWORKS).map(|n| json!({"name": format!("n{n}"), "peerings": []})).collect();
        for (left, right, roll) in links {
            let mut declare = |from: usize, to: usize| {
                if let Some(list) = networks[from]["peerings"].as_array_mut() {
                    list.push(json!({"name": format!("to-n{to}"), "network": format!("n{to}")}));
                }
            };
            if roll >= 40 {
                declare(left, right);
            }
            if roll >= 60 {
                declare(right, left);
            }
        }
        let subnetworks = maker.subnetworks();
        let instances: Vec<Value> =
            (0..NETWORKS).flat_map(|n| maker.instances(n, &command)).collect();
        let firewalls: Vec<Value> = (0..NETWORKS).flat_map(|n| maker.firewalls(n)).collect();
        let mut rules: Vec<Value> = (0..NETWORKS).flat_map(|n| maker.rules(n)).collect();
        let (attachments, endpoints) = maker.psc(&rules);
        let names = endpoints.iter().filter_map(|e| e["name"].as_str()).map(str::to_owned);
        let names = names.collect();
        rules.extend(endpoints);
        maker.strays();
        let Maker { machines, targets, .. } = maker;
        let document = json!({
            "project": project,
            "region": REGIONS[0],
            "networks": networks,
            "subnetworks": subnetworks,
            "instances": instances,
            "firewalls": firewalls,
            "forwardingRules": rules,
            "targetHttpProxies": [{"name": "web", "urlMap": "web"}],
            "urlMaps": [{"name": "web", "defaultUrlRedirect": {"hostRedirect": "example.com"}}],
            "serviceAttachments": attachments,
            "serviceAccounts": accounts(project).map(|email| json!({"email": email})).collect::<Vec<_>>(),
        });
        Group { document, machines, targets, endpoints: names }
    }
}

fn accounts(project: &str) -> impl Iterator<Item = String> {
    let project = project.to_owned();
    ["x", "y"]
        .into_iter()
        .map(move |name| format!("account-{name}@{project}.iam.gserviceaccount.com"))
}

impl Maker {
    fn address(&self, network: usize, region: usize, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.blocks[network], u8::from(region == 1), last)
    }

    fn subnetworks(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        for network in 0..NETWORKS {
            let block = self.blocks[network];
            for (region, name) in REGIONS.iter().enumerate() {
                all.push(json!({
                    "name": format!("n{network}-{region}"), "network": format!("n{network}"),
                    "region": name, "ipCidrRange": format!("10.{block}.{region}.0/24"),
                }));
            }
            all.push(json!({
                "name": format!("n{network}-proxies"), "network": format!("n{network}"),
                "ipCidrRange": format!("10.{block}.8.0/26"),
                "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE",
            }));
            for nat in 0..2 {
                all.push(json!({
                    "name": format!("n{network}-nat{nat}"), "network": format!("n{network}"),
                    "ipCidrRange": format!("10.{block}.9.{}/29", nat * 8),
                    "purpose": "PRIVATE_SERVICE_CONNECT",
                }));
            }
        }
        all
    }

    fn instances(&mut self, network: usize, command: &impl Fn(&str) -> String) -> Vec<Value> {
        let count = 1 + self.random.below(2);
        let mut all = Vec::new();
        for number in 0..count {
            let region = self.random.below(2);
            let address = self.address(network, region, u8::try_from(20 + number).unwrap_or(20));
            let name = format!("vm{network}{number}-{}", self.tag);
            let tags: Vec<&str> =
                ["a", "b"].into_iter().filter(|_| self.random.percent(50)).collect();
            let accounts: Vec<String> = accounts(&self.project).collect();
            let account = match self.random.below(3) {
                0 => json!([]),
                n => json!([{"email": accounts[n - 1]}]),
            };
            all.push(json!({
                "name": name,
                "zone": format!("{}-b", REGIONS[region]),
                "networkInterfaces": [{"subnetwork": format!("n{network}-{region}"), "networkIP": address}],
                "tags": {"items": tags},
                "serviceAccounts": account,
                "metadata": {"items": [{"key": "startup-script", "value": command(&name)}]},
            }));
            self.targets.extend([(address, 80), (address, 8080), (address, 22)]);
            let network = format!("{}/n{network}", self.project);
            self.machines.push(Machine { network, name, address });
        }
        all
    }

    fn firewalls(&mut self, network: usize) -> Vec<Value> {
        let mut all = Vec::new();
        if self.random.percent(60) {
            all.push(json!({
                "name": format!("n{network}-open"), "network": format!("n{network}"),
                "priority": 2000, "allowed": [{"IPProtocol": "all"}],
            }));
        }
        for number in 0..self.random.below(5) {
            all.push(self.firewall(network, number));
        }
        all
    }

    fn firewall(&mut self, network: usize, number: usize) -> Value {
        let layer4 = [
            json!([{"IPProtocol": "tcp", "ports": ["80"]}]),
            json!([{"IPProtocol": "tcp", "ports": ["8080"]}, {"IPProtocol": "icmp"}]),
            json!([{"IPProtocol": "tcp", "ports": ["1-100", "8000-9000", "50-90"]}]),
            json!([{"IPProtocol": "udp"}]),
            json!([{"IPProtocol": "udp", "ports": [8080]}, {"IPProtocol": "tcp", "ports": [22]}]),
            json!([{"IPProtocol": "icmp"}]),
            json!([{"IPProtocol": "tcp"}]),
            json!([{"IPProtocol": "all"}]),
        ];
        let mut rule = json!({
            "name": format!("n{network}-r{number}"), "network": format!("n{network}"),
            "priority": self.random.pick(&[100, 500, 1000]),
            "disabled": self.random.percent(10),
        });
        let action = if self.random.percent(50) { "allowed" } else { "denied" };
        rule[action] = self.random.pick(&layer4).clone();
        let egress = self.random.percent(35);
        rule["direction"] = if egress { "EGRESS".into() } else { "INGRESS".into() };
        let by_tag = self.random.percent(50);
        let accounts: Vec<String> = accounts(&self.project).collect();
        let who = |random: &mut Random| match by_tag {
            true => json!(random.pick(&[vec!["a"], vec!["b"], vec!["a", "b"]])),
            false => json!([random.pick(&accounts)]),
        };
        if self.random.percent(40) {
            let field = if by_tag { "targetTags" } else { "targetServiceAccounts" };
            rule[field] = who(&mut self.random);
        }
        if !egress && self.random.percent(40) {
            let field = if by_tag { "sourceTags" } else { "sourceServiceAccounts" };
            rule[field] = who(&mut self.random);
        }
        for (field, often) in [
            ("sourceRanges", if egress { 10 } else { 50 }),
            ("destinationRanges", if egress { 60 } else { 10 }),
        ] {
            if self.random.percent(often) {
                rule[field] = self.ranges();
            }
        }
        rule
    }

    fn ranges(&mut self) -> Value {
        let mut all = Vec::new();
        for _ in 0..=self.random.below(2) {
            let block = *self.random.pick(&self.blocks.clone());
            let one = match self.random.below(5) {
                0 => "0.0.0.0/0".to_owned(),
                1 => format!("10.{block}.0.0/16"),
                2 => format!("10.{block}.{}.0/24", self.random.below(2)),
                3 => format!("10.{block}.8.0/26"),
                _ => format!("10.{block}.{}.{}", self.random.below(2), 20 + self.random.below(2)),
            };
            all.push(one);
        }
        json!(all)
    }

    fn rules(&mut self, network: usize) -> Vec<Value> {
        let mut all = Vec::new();
        for number in 0..self.random.below(3) {
            let port = *self.random.pick(&[80u16, 8080]);
            let address = self.address(network, 0, u8::try_from(100 + number).unwrap_or(100));
            self.targets.extend([(address, 80), (address, 8080)]);
            all.push(json!({
                "name": format!("lb{network}{number}-{}", self.tag),
                "loadBalancingScheme": "INTERNAL_MANAGED",
                "network": format!("n{network}"), "subnetwork": format!("n{network}-0"),
                "IPAddress": address, "portRange": port.to_string(), "target": "targetHttpProxies/web",
                "allowGlobalAccess": self.random.percent(40),
            }));
        }
        all
    }

    /// One attachment for the first rule of the third network, and endpoints in the others.
    fn psc(&mut self, rules: &[Value]) -> (Vec<Value>, Vec<Value>) {
        let of_producer = |rule: &&Value| rule["network"] == "n2";
        let Some(rule) = rules.iter().find(of_producer) else { return (Vec::new(), Vec::new()) };
        let mut attachment = json!({
            "name": format!("sa-{}", self.tag), "targetService": rule["name"],
            "natSubnets": ["n2-nat0"],
            "connectionPreference": if self.random.percent(30) { "ACCEPT_AUTOMATIC" } else { "ACCEPT_MANUAL" },
        });
        let network = |n: usize| format!("projects/{}/global/networks/n{n}", self.project);
        let (first, second) = (network(0), network(1));
        if attachment["connectionPreference"] == "ACCEPT_MANUAL" {
            if self.random.percent(70) {
                attachment["consumerAcceptLists"] =
                    json!([{"networkUrl": first, "connectionLimit": 1 + self.random.below(2)}]);
            }
            if self.random.percent(30) {
                attachment["consumerRejectLists"] = json!([second]);
            }
        }
        let mut endpoints = Vec::new();
        for number in 0..1 + self.random.below(3) {
            let network = self.random.below(2);
            let address = self.address(network, 0, u8::try_from(200 + number).unwrap_or(200));
            self.targets.extend([(address, 80), (address, 8080)]);
            endpoints.push(json!({
                "name": format!("ep{number}-{}", self.tag), "loadBalancingScheme": "",
                "network": format!("n{network}"), "subnetwork": format!("n{network}-0"),
                "IPAddress": address, "target": attachment["name"],
                "allowPscGlobalAccess": self.random.percent(40),
            }));
        }
        (vec![attachment], endpoints)
    }

    /// Addresses that nothing has, inside and outside.
    fn strays(&mut self) {
        let block = *self.random.pick(&self.blocks.clone());
        self.targets.extend([
            (Ipv4Addr::new(10, block, 0, 77), 80),
            (Ipv4Addr::new(10, block, 8, 9), 80),
            (Ipv4Addr::new(10, block, 9, 3), 80),
            (Ipv4Addr::new(10, 99, 0, 1), 80),
            (Ipv4Addr::new(8, 8, 8, 8), 53),
            (Ipv4Addr::new(199, 36, 153, 9), 443),
            (Ipv4Addr::new(199, 36, 153, 9), 80),
        ]);
    }
}
