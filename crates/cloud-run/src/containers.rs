//! The containers of an instance (cloud-run 1.1): which one starts when, with what.

use crate::secrets;
use autoscaling::fleet::Ordinal;
use slice::run::{Container, Secret, Service};
use slice::{SpawnInstance, StartContainer};
use std::collections::BTreeSet;

/// Those that can start now: not started yet, and all that they depend on have passed their
/// startup probe.
pub fn startable<'a>(
    containers: &'a [Container],
    begun: &BTreeSet<String>,
    started: &BTreeSet<String>,
) -> Vec<&'a Container> {
    let free = containers.iter().filter(|container| {
        !begun.contains(&container.name)
            && container.depends_on.iter().all(|name| started.contains(name))
    });
    free.collect()
}

/// The instance that a service's revision asks for, and the secret files that cannot be read.
pub fn instance(
    service: &Service,
    secrets: &[Secret],
    ordinal: Ordinal,
    id: &str,
) -> (SpawnInstance, Vec<String>) {
    let template = &service.revision;
    let (volumes, missing) = secrets::volumes(secrets, template);
    let instance = SpawnInstance {
        name: format!("{}/{ordinal}", template.name),
        container_port: template.ingress().1.number,
        containers: template.containers.iter().map(|c| c.name.clone()).collect(),
        volumes,
        service_account: template.service_account.clone(),
        project: service.project.clone(),
        project_number: service.project_number,
        region: service.region.clone(),
        vpc_access: template.vpc_access.clone(),
        instance_id: id.to_owned(),
    };
    (instance, missing)
}

/// What is started for each container, with its environment by the container contract (1.1); the
/// supervisor adds PORT.
///
/// # Errors
/// A secret that cannot be read: the instance does not start.
pub fn starts(service: &Service, secrets: &[Secret]) -> Result<Vec<StartContainer>, String> {
    let template = &service.revision;
    let ingress = &template.ingress().0.name;
    let starts = template.containers.iter().map(|container| {
        let account = template.service_account.as_deref();
        let mut env = secrets::environment(secrets, container, account)?;
        for (name, value) in [
            ("K_SERVICE", &service.name),
            ("K_REVISION", &template.name),
            ("K_CONFIGURATION", &service.name), // "configuration name = service name"
        ] {
            env.insert(name.to_owned(), value.clone());
        }
        Ok(StartContainer {
            instance: 0, // known when it is made
            container: container.name.clone(),
            run: container.run.clone(),
            env,
            ingress: container.name == *ingress,
            working_directory: container.working_directory.clone(),
            resources: container.resources,
            mounts: container.mounts.clone(),
        })
    });
    starts.collect()
}

#[cfg(test)]
mod tests {
    use super::startable;
    use slice::run::{Container, Run};
    use std::collections::BTreeSet;

    fn container(name: &str, depends_on: &[&str]) -> Container {
        let run = Run::Command { command: Vec::new(), directory: "/".into() };
        let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
        Container { depends_on, ..Container::new(name, run, None) }
    }

    #[test]
    fn a_container_waits_until_those_named_are_healthy() {
        let all =
            [container("app", &["proxy", "db"]), container("proxy", &["db"]), container("db", &[])];
        let check = |begun: &[&str], started: &[&str], expected: &[&str]| {
            let set = |names: &[&str]| -> BTreeSet<String> {
                names.iter().map(|name| (*name).to_owned()).collect()
            };
            let got = startable(&all, &set(begun), &set(started));
            let got: Vec<&str> = got.iter().map(|container| container.name.as_str()).collect();
            assert_eq!(got, expected, "{begun:?} {started:?}");
        };
        check(&[], &[], &["db"]);
        check(&["db"], &[], &[]);
        check(&["db"], &["db"], &["proxy"]);
        check(&["db", "proxy"], &["db"], &[]);
        check(&["db", "proxy"], &["db", "proxy"], &["app"]);
        check(&["db", "proxy", "app"], &["db", "proxy"], &[]);
    }
}
