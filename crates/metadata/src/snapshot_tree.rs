//! The trees: a VM's and a Cloud Run instance's (cloud-run 1.5). Only what is true here is listed:
//! a workload has no disks, no images, no external address.

use crate::respond::Caller;
use crate::snapshot::Snapshot;
use crate::tree::Node;
use slice::Workload;
use std::net::Ipv4Addr;

/// The machine type of every VM: topologies declare none.
const MACHINE_TYPE: &str = "e2-medium";

const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
const USERINFO_EMAIL: &str = "https://www.googleapis.com/auth/userinfo.email";

/// The scopes of a workload's account; beyond the first the list is (unconfirmed).
pub(crate) fn scopes(workload: &Workload) -> Vec<String> {
    let scopes: &[&str] =
        if workload.serverless { &[CLOUD_PLATFORM, USERINFO_EMAIL] } else { &[CLOUD_PLATFORM] };
    scopes.iter().map(|scope| (*scope).to_owned()).collect()
}

/// `vm/legacy` → `legacy`.
pub(crate) fn instance_name(workload: &Workload) -> &str {
    workload.name.rsplit('/').next().unwrap_or_default()
}

fn text(text: impl Into<String>) -> Node {
    Node::Text(text.into())
}

impl Snapshot {
    /// What the caller sees below `/computeMetadata/v1/`.
    pub(crate) fn tree(&self, caller: Caller<'_>) -> Node {
        let workload = caller.workload;
        let instance =
            if workload.serverless { self.cloud_run(workload) } else { self.vm(workload) };
        let mut project = vec![];
        if !workload.serverless {
            project.push(("attributes", Node::Named(vec![])));
        }
        project.push(("numeric-project-id", Node::Number(workload.project_number)));
        project.push(("project-id", text(&workload.project)));
        Node::Directory(vec![
            ("instance", instance),
            ("project", Node::Directory(project)),
            ("universe", Node::Directory(vec![("universe-domain", text("googleapis.com"))])),
        ])
    }

    /// Cloud Run's metadata server has few values.
    fn cloud_run(&self, workload: &Workload) -> Node {
        let Workload { project_number, region, .. } = workload;
        Node::Directory(vec![
            ("id", text(&workload.instance_id)),
            ("region", text(format!("projects/{project_number}/regions/{region}"))),
            ("service-accounts", self.service_accounts(workload)),
            // Not a real zone, as in the real one.
            ("zone", text(format!("projects/{project_number}/zones/{region}-1"))),
        ])
    }

    fn vm(&self, workload: &Workload) -> Node {
        let Workload { project, project_number, region, zone, .. } = workload;
        let name = instance_name(workload);
        let attributes = workload.metadata.iter().map(|(key, value)| (key.clone(), text(value)));
        let machine_type = format!("projects/{project_number}/machineTypes/{MACHINE_TYPE}");
        let id = workload.instance_id.parse();
        Node::Directory(vec![
            ("attributes", Node::Named(attributes.collect())),
            ("description", text("")),
            ("hostname", text(format!("{name}.{zone}.c.{project}.internal"))),
            ("id", id.map_or_else(|_| text(&workload.instance_id), Node::Number)),
            ("machine-type", text(machine_type)),
            ("maintenance-event", text("NONE")),
            ("name", text(name)),
            ("network-interfaces", Node::Indexed(vec![self.network_interface(workload)])),
            ("preempted", text("FALSE")),
            // A real VM has no region of its own here, only a zone: Cloud Run's path, served to
            // all so that programs run in either.
            ("region", text(format!("projects/{project_number}/regions/{region}"))),
            (
                "scheduling",
                Node::Directory(vec![
                    ("automatic-restart", text("TRUE")),
                    ("on-host-maintenance", text("MIGRATE")),
                    ("preemptible", text("FALSE")),
                ]),
            ),
            ("service-accounts", self.service_accounts(workload)),
            ("tags", Node::JsonList(workload.tags.clone())),
            ("zone", text(format!("projects/{project_number}/zones/{zone}"))),
        ])
    }

    fn network_interface(&self, workload: &Workload) -> Node {
        let address = workload.address;
        let mut interface = vec![
            ("access-configs", Node::Indexed(vec![])),
            ("dns-servers", Node::Lines(vec![slice::METADATA_ADDRESS.to_string()])),
            ("forwarded-ips", Node::Indexed(vec![])),
        ];
        let range = self.subnetwork(address).map(|subnetwork| subnetwork.range);
        if let Some(range) = range {
            let gateway = Ipv4Addr::from(u32::from(range.network()) + 1);
            interface.push(("gateway", text(gateway.to_string())));
        }
        let [a, b, c, d] = address.octets();
        let network = &self.network.name;
        let number = self.network_project_number;
        interface.extend([
            ("ip", text(address.to_string())),
            ("ip-aliases", Node::Indexed(vec![])),
            // Compute Engine makes the MAC address out of the IP address.
            ("mac", text(format!("42:01:{a:02x}:{b:02x}:{c:02x}:{d:02x}"))),
            ("network", text(format!("projects/{number}/networks/{network}"))),
        ]);
        if let Some(range) = range {
            interface.push(("subnetmask", text(range.netmask().to_string())));
        }
        interface.push(("target-instance-ips", Node::Indexed(vec![])));
        Node::Directory(interface)
    }

    /// `default/` and `EMAIL/`, sorted; nothing for a workload without an account.
    fn service_accounts(&self, workload: &Workload) -> Node {
        let email = workload.service_account.as_deref();
        let Some(account) = email.and_then(|email| self.issuer.account(email)) else {
            return Node::Named(vec![]);
        };
        let directory = Node::Directory(vec![
            ("aliases", Node::Lines(vec!["default".to_owned()])),
            ("email", text(&account.email)),
            ("identity", Node::Identity),
            ("scopes", Node::Lines(scopes(workload))),
            ("token", Node::Token),
        ]);
        let mut both =
            vec![("default".to_owned(), directory.clone()), (account.email.clone(), directory)];
        both.sort_by(|(a, _), (b, _)| a.cmp(b));
        Node::Named(both)
    }
}
