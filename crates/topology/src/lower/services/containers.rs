//! The containers of a revision: names, ports, environment, start order (cloud-run 1.1).

use super::super::{Disk, Lowering};
use super::{Template, probes, resources, volumes};
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::{Container, EnvVar};
use slice::run;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Names that the platform sets itself (1.1).
const RESERVED_ENV: &[&str] = &["PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"];
/// Most containers of a revision (unconfirmed).
const CONTAINERS_MAX: usize = 10;
/// Most variables, and most arguments, of a container; longest name and value.
const ENTRIES_MAX: usize = 1000;
const ENV_BYTES_MAX: usize = 32_768;

fn error(at: Mark, what: impl Into<String>, fix: impl Into<String>, findings: &mut Findings) {
    findings.error(Code::ServiceContainers, at, what, fix);
}

impl Lowering<'_> {
    /// All containers; none if one of them cannot be.
    pub(super) fn containers(
        &mut self,
        template: &Template<'_>,
        volumes: &[run::Volume],
        disk: &Disk<'_>,
        findings: &mut Findings,
    ) -> Option<Vec<run::Container>> {
        let raw = &template.raw.containers;
        if raw.is_empty() {
            if !template.raw.faulty {
                error(
                    raw.at,
                    format!("the service `{}` has no container", template.service),
                    "add containers: [{image: IMAGE}]",
                    findings,
                );
            }
            return None;
        }
        if let Some(over) = raw.get(CONTAINERS_MAX) {
            error(
                over.at,
                format!("{} containers; a revision has at most {CONTAINERS_MAX}", raw.len()),
                "remove some",
                findings,
            );
        }
        let mut all: Vec<Option<run::Container>> = Vec::with_capacity(raw.len());
        let mut names: Vec<&str> = Vec::new();
        for (index, one) in raw.iter().enumerate() {
            let own = one.name.as_ref().filter(|name| !name.is_empty());
            if let Some(name) = own {
                if !crate::names_rules::is_rfc1123_label(name) {
                    error(
                        name.at,
                        format!(
                            "`{}` is no name of a container; lower-case letters, digits and hyphens, at most 63",
                            name.value
                        ),
                        "rename it",
                        findings,
                    );
                }
                if names.contains(&name.as_str()) {
                    error(
                        name.at,
                        format!("two containers are named `{}`", name.value),
                        "rename one of the two",
                        findings,
                    );
                }
                names.push(name.as_str());
            }
            let name = match (own, index) {
                (Some(name), _) => name.value.clone(),
                (None, 0) => template.service.to_owned(),
                (None, _) => format!("{}-{index}", template.service),
            };
            all.push(self.container(template, one, name, volumes, disk, findings));
        }
        ingress(template, findings);
        let containers: Vec<run::Container> = all.into_iter().collect::<Option<_>>()?;
        start_order(template, &containers, findings);
        Some(containers)
    }

    fn container(
        &mut self,
        template: &Template<'_>,
        raw: &Container,
        name: String,
        all_volumes: &[run::Volume],
        disk: &Disk<'_>,
        findings: &mut Findings,
    ) -> Option<run::Container> {
        let alone = template.raw.containers.len() == 1;
        let port = port(raw, alone, findings);
        for list in [&raw.command, &raw.args].into_iter().flatten() {
            if let Some(over) = list.get(ENTRIES_MAX) {
                let what = format!("{} arguments; at most {ENTRIES_MAX} are taken", list.len());
                error(over.at, what, "remove some", findings);
            }
        }
        let written = raw.working_dir.as_ref().filter(|path| !path.is_empty());
        if let Some(relative) = written.filter(|path| !path.starts_with('/')) {
            error(
                relative.at,
                format!("the working directory `{}` is not absolute", relative.value),
                "write a path that begins with a slash",
                findings,
            );
        }
        let env = self.environment(template, raw, findings);
        let run = self.run(template, raw, disk, findings);
        let mut container = run::Container::new(
            &name,
            // Checked below; what is left of a faulty container is not used.
            run.clone().unwrap_or_else(|| run::Run::Url(String::new())),
            port,
        );
        container.image.clone_from(&raw.image.value);
        container.env = env;
        container.working_directory = written.map(|path| PathBuf::from(&path.value));
        container.resources = resources::of_container(raw, findings);
        container.mounts = volumes::mounts(raw, template, all_volumes, findings);
        container.depends_on = raw.depends_on.iter().map(|name| name.value.clone()).collect();
        probes::lower(template, raw, &mut container, findings);
        run.map(|_| container)
    }

    fn environment(
        &mut self,
        template: &Template<'_>,
        container: &Container,
        findings: &mut Findings,
    ) -> BTreeMap<String, run::EnvValue> {
        let mut env = BTreeMap::new();
        if let Some(over) = container.env.get(ENTRIES_MAX) {
            let count = container.env.len();
            findings.error(
                Code::ServiceEnv,
                over.at,
                format!("{count} environment variables; at most {ENTRIES_MAX} are taken"),
                "remove some",
            );
        }
        for variable in &container.env {
            if let Some((at, what, fix)) = fault(variable, &env) {
                findings.error(Code::ServiceEnv, at, what, fix);
            }
            let value = match &variable.value_source {
                None => {
                    let value = variable.value.as_ref().map(|value| value.value.clone());
                    run::EnvValue::Text(value.unwrap_or_default())
                }
                Some(source) => {
                    let Some(key) = &source.secret_key_ref else {
                        if !source.faulty {
                            findings.error(
                                Code::ServiceEnv,
                                source.at,
                                format!("the source of `{}` names no secret", variable.name.value),
                                "add secretKeyRef",
                            );
                        }
                        continue;
                    };
                    let version = volumes::version(key.version.as_ref());
                    let secret = self.secret_reference(template, &key.secret, findings);
                    let Some(secret) = secret else { continue };
                    self.note_use(template, key.secret.at, &secret, version.clone(), true);
                    run::EnvValue::Secret(run::SecretVersion { secret, version })
                }
            };
            env.insert(variable.name.value.clone(), value);
        }
        env
    }
}

/// What is wrong with a variable.
fn fault(
    variable: &EnvVar,
    before: &BTreeMap<String, run::EnvValue>,
) -> Option<(Mark, String, &'static str)> {
    let name = &variable.name;
    if RESERVED_ENV.contains(&name.as_str()) {
        return Some((
            name.at,
            format!("`{}` is set by Cloud Run itself", name.value),
            "remove it",
        ));
    }
    if name.is_empty() || name.contains(['=', '\0']) {
        let what = format!("`{}` is no name of an environment variable", name.value);
        return Some((name.at, what, "rename it"));
    }
    if before.contains_key(&name.value) {
        let what = format!("`{}` stands in `env` twice", name.value);
        return Some((name.at, what, "remove one of the two"));
    }
    let value = variable.value.as_ref().filter(|value| !value.is_empty());
    if value.is_some() && variable.value_source.is_some() {
        let what = format!("`{}` has a value and a source of its value", name.value);
        return Some((name.at, what, "remove one of the two"));
    }
    let too_long = |text: &Text| text.len() > ENV_BYTES_MAX || text.contains('\0');
    if too_long(name) || value.is_some_and(too_long) {
        let short: String = name.chars().take(40).collect();
        let what = format!(
            "the name or value of `{short}` is longer than {ENV_BYTES_MAX} bytes or holds a zero byte"
        );
        return Some((name.at, what, "shorten it"));
    }
    None
}

/// Just one of several containers has a port.
fn ingress(template: &Template<'_>, findings: &mut Findings) {
    let raw = &template.raw.containers;
    if raw.len() < 2 || template.raw.faulty {
        return;
    }
    let has_port = |one: &&Container| one.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let mut with_port = raw.iter().filter(has_port);
    let at = match (with_port.next(), with_port.next()) {
        (Some(_), None) => return,
        (None, _) => raw.at,
        (Some(_), Some(second)) => second.at,
    };
    error(
        at,
        "Revision template should contain exactly one container with an exposed port.",
        "give `ports` to the container that serves requests, and to no other",
        findings,
    );
}

/// The one port, and whether it speaks HTTP/2 without TLS. A container that is alone has one also
/// where none is written.
fn port(container: &Container, alone: bool, findings: &mut Findings) -> Option<run::Port> {
    let ports = container.ports.as_ref().map(|ports| ports.as_slice()).unwrap_or_default();
    if let Some(second) = ports.get(1) {
        findings.error(
            Code::ServicePorts,
            second.at,
            "a container has one port at the most",
            "remove the others; one port serves everything",
        );
    }
    let Some(port) = ports.first() else { return alone.then(run::Port::default) };
    let mut h2c = false;
    match port.name.as_ref().map(|name| (name.at, name.as_str())) {
        None | Some((_, "" | "http1")) => {}
        Some((_, "h2c")) => h2c = true,
        Some((at, name)) => findings.error(
            Code::ServicePorts,
            at,
            format!("`{name}` is no name of a port; it is http1 or h2c"),
            "write name: h2c for HTTP/2 without TLS, or remove the name",
        ),
    }
    let number = port.container_port.as_ref().map_or(8080, |port| port.value.0);
    Some(run::Port { number: u16::try_from(number).unwrap_or(8080), h2c })
}

/// Containers wait only for others that are there, and not for each other in a circle.
fn start_order(template: &Template<'_>, containers: &[run::Container], findings: &mut Findings) {
    let raw = template.raw.containers.iter().zip(containers);
    for (name, container) in
        raw.clone().flat_map(|(raw, c)| raw.depends_on.iter().map(move |n| (n, c)))
    {
        if !containers.iter().any(|other| other.name == name.value) {
            let near = containers.iter().map(|other| other.name.as_str());
            let fix = match crate::similar::closest(name, near) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name a container of this revision".to_owned(),
            };
            let what = format!(
                "`{}` depends on `{}`, and there is no container of this name",
                container.name, name.value
            );
            error(name.at, what, fix, findings);
        }
    }
    // Take away what waits for nothing that is left; what remains waits for itself.
    let mut left: Vec<&run::Container> = containers.iter().collect();
    loop {
        let before = left.len();
        let names: Vec<&str> = left.iter().map(|container| container.name.as_str()).collect();
        left.retain(|one| one.depends_on.iter().any(|on| names.contains(&on.as_str())));
        if left.len() == before {
            break;
        }
    }
    let first = left.first().map(|one| one.name.as_str());
    let at = raw.clone().find(|(_, container)| Some(container.name.as_str()) == first);
    if let Some(at) = at.and_then(|(raw, _)| raw.depends_on.first()).map(|name| name.at) {
        let names: Vec<&str> = left.iter().map(|container| container.name.as_str()).collect();
        error(
            at,
            format!("the containers {} wait for each other in a circle", names.join(", ")),
            "remove one of the dependencies",
            findings,
        );
    }
}
