//! Shared VPC: which project may use the networks of which other one. A host project enables itself
//! (`projects.enableXpnHost`) and its service projects (`projects.enableXpnResource`).

use crate::diagnostic::{Code, Findings, Mark};
use crate::model::Model;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Who shares with whom.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Projects that say of themselves that they are hosts.
    hosts: HashSet<Arc<str>>,
    /// Service project → host project.
    services: HashMap<Arc<str>, (Arc<str>, Mark)>,
    /// Pairs that are taken for host and service project, each said once.
    assumed: RefCell<HashSet<(String, String)>>,
}

/// Reads the hosts and their service projects.
pub(crate) fn read(model: &Model, findings: &mut Findings) -> Shared {
    let hosts = model.xpn_hosts.iter().filter_map(|scoped| scoped.scope.project.clone());
    let mut shared = Shared { hosts: hosts.collect(), ..Shared::default() };
    for scoped in &model.xpn_hosts {
        let (at, resources) = &scoped.raw;
        let Some(host) = scoped.scope.project.clone() else {
            findings.error(
                Code::NoProject,
                *at,
                "a Shared VPC host is a project, and the document names none",
                "write `project: PROJECT_ID` at the top of the document",
            );
            continue;
        };
        for resource in resources {
            let service = model.project_id(&resource.id.0);
            let at = resource.id.at;
            if shared.hosts.contains(&service) {
                findings.error(
                    Code::SharedVpc,
                    at,
                    format!(
                        "{service} is a Shared VPC host itself; it cannot be a service project"
                    ),
                    "remove one of the two",
                );
                continue;
            }
            match shared.services.get(&service) {
                Some((other, first)) if *other != host => {
                    let first = findings.position(*first);
                    findings.error(
                        Code::SharedVpc,
                        at,
                        format!("{service} is attached to {other} already, at {first}; a service project has one host"),
                        "remove one of the two",
                    );
                }
                _ => {
                    shared.services.insert(service, (host.clone(), at));
                }
            }
        }
    }
    shared
}

impl Shared {
    /// May resources of `project` be in a network of `owner`? Reported if not. Exports of resources
    /// do not say who shares with whom: a project that says nothing of itself is taken for a host.
    pub(crate) fn check(
        &self,
        project: &str,
        owner: &str,
        at: Mark,
        called: &str,
        findings: &mut Findings,
    ) -> bool {
        let hosted = self.services.get(project).is_some_and(|(host, _)| **host == *owner);
        if project == owner || hosted {
            return true;
        }
        let may = !self.hosts.contains(owner);
        if may {
            let pair = (project.to_owned(), owner.to_owned());
            if self.assumed.borrow_mut().insert(pair) {
                findings.warning(
                    Code::SharedVpc,
                    at,
                    format!("{called} of project {project} is in a network of {owner}; they are taken for a Shared VPC service project and its host"),
                    format!("write in the document of {owner}: xpnResources: [{{id: {project}, type: PROJECT}}]"),
                );
            }
        } else {
            findings.error(
                Code::SharedVpc,
                at,
                format!("{called} of project {project} cannot be in a network of {owner}, which does not share its networks with {project}"),
                format!("write in the document of {owner}: xpnResources: [{{id: {project}, type: PROJECT}}]"),
            );
        }
        may
    }
}
