//! Cloud Run services (cloud-run 1.1, 2.1, 3.1, 3.2, 4).

use super::Lowering;
use super::containers::{environment, port};
use crate::decode::At;
use crate::derive;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::{
    Ingress, RevisionTemplate, ScalingMode, Service, TrafficTargetType,
};
use crate::model::Item;
use slice::run;
use std::collections::{HashMap, HashSet};

/// Instances at the most where nothing is written (2.1).
const MAX_INSTANCES_DEFAULT: u32 = 100;
/// Request timeout in seconds (1.3).
const TIMEOUT_DEFAULT: u32 = 300;
const TIMEOUT_MAX: u32 = 3600;

impl Lowering<'_> {
    /// All Cloud Run services.
    pub(crate) fn services(&mut self, findings: &mut Findings) {
        // A service may be named like another one's tag, `TAG---SERVICE`.
        let mut claimed: HashMap<String, &Item<Service>> = HashMap::new();
        for item in &self.model.services.items {
            if let Some(service) = self.service(item, findings) {
                let tagged = service.tags().flat_map(|tag| {
                    service.hosts.iter().map(move |host| format!("{tag}---{host}"))
                });
                for host in service.hosts.iter().cloned().chain(tagged) {
                    if let Some(other) = claimed.get(&host).filter(|other| other.link != item.link)
                    {
                        findings.error(
                            Code::DuplicateResource,
                            item.raw.name.at,
                            format!(
                                "`{}` and `{}` have the same host name {host}",
                                item.link, other.link
                            ),
                            "rename one of the two, or the tag",
                        );
                    } else {
                        claimed.insert(host, item);
                    }
                }
                self.topology.services.push(service);
            }
        }
    }

    fn service(&mut self, item: &Item<Service>, findings: &mut Findings) -> Option<run::Service> {
        let raw = &item.raw;
        let project_number = self.model.project_number(&item.project);
        let revision = self.revision(item, project_number, findings);
        let name = revision.as_ref().map(|revision| revision.name.clone()).unwrap_or_default();
        let traffic = traffic(item, &name, findings);
        for audience in &raw.custom_audiences {
            if audience.is_empty() {
                findings.error(
                    Code::InvalidValue,
                    audience.at,
                    "an empty audience would fit nothing",
                    "write a text, such as a URL",
                );
            }
        }
        let region = item.region().to_owned();
        Some(run::Service {
            self_link: item.link.clone(),
            name: item.name().to_owned(),
            project: item.project.to_string(),
            project_number,
            hosts: derive::run_hosts(item.name(), project_number, &region),
            region,
            traffic,
            custom_audiences: raw.custom_audiences.iter().map(|text| text.value.clone()).collect(),
            ingress: match raw.ingress {
                None | Some(Ingress::All) => run::Ingress::All,
                Some(Ingress::InternalOnly) => run::Ingress::InternalOnly,
                Some(Ingress::InternalLoadBalancer) => run::Ingress::InternalLoadBalancer,
                Some(Ingress::None) => run::Ingress::None,
            },
            invoker_iam_disabled: raw.invoker_iam_disabled.unwrap_or(false),
            default_uri_disabled: raw.default_uri_disabled.unwrap_or(false),
            internal_networks: self.internal_networks(
                item,
                revision.as_ref().and_then(|revision| revision.vpc_access.as_ref()),
            ),
            scaling: scaling(item, findings),
            revision: revision?,
            older_revisions: Vec::new(),
        })
    }

    fn revision(
        &mut self,
        item: &Item<Service>,
        project_number: u64,
        findings: &mut Findings,
    ) -> Option<run::Revision> {
        let service = item.name();
        let template = &item.raw.template;
        let containers = &template.containers;
        if containers.len() != 1 {
            if containers.is_empty() && !template.faulty {
                findings.error(
                    Code::MissingField,
                    containers.at,
                    format!("the service `{service}` has no container"),
                    "add containers: [{image: IMAGE}]",
                );
            } else if let Some(second) = containers.get(1) {
                findings.error(
                    Code::NotYetSupported,
                    second.at,
                    "sidecar containers are not supported yet; the service would run without them",
                    "keep the container that serves requests",
                );
            }
        }
        let (min, max) = instances(item, findings);
        let concurrency = concurrency(item, findings);
        let timeout = timeout(template, findings);
        let account = match &template.service_account {
            Some(written) => {
                // `projects/-/serviceAccounts/EMAIL` is read as well.
                let email = crate::reference::last_segment(written).to_ascii_lowercase();
                if !super::iam::is_email(&email) {
                    findings.error(
                        Code::InvalidName,
                        written.at,
                        format!("`{}` is no email of a service account", written.value),
                        "write NAME@PROJECT.iam.gserviceaccount.com",
                    );
                }
                self.account(&email, &item.project)
            }
            None => {
                let email = derive::default_service_account(project_number);
                self.account(&email, &item.project)
            }
        };
        let vpc_access = self.vpc_access(item, findings);
        let container = containers.first()?;
        let port = port(container, findings);
        let env = environment(container, findings);
        let run = self.run(container, findings);
        let named = match &template.revision {
            Some(revision) => {
                let rest = revision.strip_prefix(service);
                let legal = crate::names_rules::is_rfc1035(revision, 63);
                if !legal || !rest.is_some_and(|rest| rest.starts_with('-')) {
                    findings.error(
                        Code::InvalidName,
                        revision.at,
                        format!("`{}` is no name of a revision; it begins with `{service}-` and has at most 63 lower-case letters, digits and hyphens", revision.value),
                        format!("write `{service}-SUFFIX`, or remove it"),
                    );
                }
                Some(revision.value.clone())
            }
            None => None,
        };
        let run = run?;
        let command = match &run {
            run::Run::Command { command, .. } => command.clone(),
            run::Run::Url(url) => vec![url.clone()],
            run::Run::Container { .. } | run::Run::Mock { .. } => Vec::new(),
        };
        let text = serde_json::to_string(&(
            (&container.image.value, &command, &env, port.number, port.h2c),
            (concurrency, timeout, &account, min, max, &vpc_access),
        ))
        .unwrap_or_default();
        Some(run::Revision {
            name: named.unwrap_or_else(|| derive::revision_name(service, &text)),
            service_account: Some(account),
            containers: vec![run::Container {
                image: container.image.value.clone(),
                env,
                ..run::Container::new(service, run, Some(port))
            }],
            volumes: Vec::new(),
            container_concurrency: concurrency,
            timeout_seconds: timeout,
            min_instances: min,
            max_instances: max,
            concurrency_utilization: 0.6,
            cpu_utilization: 0.6,
            session_affinity: false,
            vpc_access,
            health_check_disabled: false,
        })
    }
}

fn scaling_error(at: Mark, what: String, fix: &str, findings: &mut Findings) {
    findings.error(Code::ServiceScaling, at, what, fix);
}

fn count(count: &At<crate::decode::Int<0, 100000>>) -> u32 {
    u32::try_from(count.value.0).unwrap_or(0)
}

/// Fewest and most instances of the revision. A maximum of 0 means: none is set.
fn instances(item: &Item<Service>, findings: &mut Findings) -> (u32, u32) {
    let Some(scaling) = &item.raw.template.scaling else { return (0, MAX_INSTANCES_DEFAULT) };
    let (least, most) = (scaling.min_instance_count.as_ref(), scaling.max_instance_count.as_ref());
    bounds(least, most, findings);
    let max = most.map(count).filter(|most| *most > 0).unwrap_or(MAX_INSTANCES_DEFAULT);
    (least.map_or(0, count).min(max), max)
}

/// Instance counts of the whole service (2.1).
fn scaling(item: &Item<Service>, findings: &mut Findings) -> run::Scaling {
    let Some(scaling) = &item.raw.scaling else { return run::Scaling::default() };
    let (least, most) = (scaling.min_instance_count.as_ref(), scaling.max_instance_count.as_ref());
    bounds(least, most, findings);
    let manual = scaling.scaling_mode == Some(ScalingMode::Manual);
    if manual && scaling.manual_instance_count.is_none() {
        scaling_error(
            scaling.at,
            "scalingMode is MANUAL and `manualInstanceCount` is missing".into(),
            "add `manualInstanceCount`",
            findings,
        );
    }
    run::Scaling {
        min_instances: least.map_or(0, count),
        max_instances: most.map(count).filter(|most| *most > 0),
        idle_seconds: None,
        manual_instances: scaling.manual_instance_count.as_ref().filter(|_| manual).map(count),
    }
}

fn bounds(
    least: Option<&At<crate::decode::Int<0, 100000>>>,
    most: Option<&At<crate::decode::Int<0, 100000>>>,
    findings: &mut Findings,
) {
    if let (Some(least), Some(most)) = (least, most)
        && most.value.0 > 0
        && least.value.0 > most.value.0
    {
        scaling_error(
            least.at,
            format!(
                "minInstanceCount {} is more than maxInstanceCount {}",
                least.value.0, most.value.0
            ),
            "lower the minimum or raise the maximum",
            findings,
        );
    }
}

/// Requests at once per instance: 1 to 1000, 80 by default, 1 below one CPU (2.1).
fn concurrency(item: &Item<Service>, findings: &mut Findings) -> u32 {
    let template = &item.raw.template;
    let limits = template.containers.first().and_then(|container| container.resources.as_ref());
    let limits = limits.and_then(|resources| resources.limits.as_ref());
    for (key, value) in limits.iter().flat_map(|limits| &limits.0) {
        match key.as_str() {
            "cpu" if cpu(value).is_none() => findings.error(
                Code::InvalidValue,
                value.at,
                format!("`{}` is no number of CPUs", value.value),
                "write \"1\", \"2\" or \"500m\"",
            ),
            // One CPU and 512 MiB are what no limit says too.
            "cpu" if cpu(value) == Some(1.0) => {}
            "cpu" => findings.warning(
                Code::NotYetHonoured,
                key.at,
                "the limit `cpu` only decides on the concurrency; it is not enforced in this release",
                "write \"1\" to silence this warning",
            ),
            "memory" if value.as_str() == "512Mi" => {}
            _ => findings.warning(
                Code::NotYetHonoured,
                key.at,
                format!("the limit `{}` is not enforced in this release", key.value),
                "remove it to silence this warning",
            ),
        }
    }
    let cpu = limits.and_then(|limits| limits.0.iter().find(|(key, _)| key.as_str() == "cpu"));
    let below_one = cpu.and_then(|(_, value)| self::cpu(value)).is_some_and(|cpu| cpu < 1.0);
    match template.max_instance_request_concurrency.as_ref().filter(|count| count.value.0 != 0) {
        None if below_one => 1,
        None => 80,
        Some(count) if (1..=1000).contains(&count.value.0) => {
            let count_value = u32::try_from(count.value.0).unwrap_or(80);
            if below_one && count_value > 1 {
                scaling_error(
                    count.at,
                    "with less than one CPU the concurrency must be 1".into(),
                    "write 1, or raise the CPU limit to 1",
                    findings,
                );
            }
            count_value
        }
        Some(count) => {
            scaling_error(
                count.at,
                format!(
                    "a concurrency of {} is out of bounds; an instance takes 1 to 1000 requests at once",
                    count.value.0
                ),
                "write a number from 1 to 1000",
                findings,
            );
            80
        }
    }
}

/// `1`, `0.5`, `500m`.
fn cpu(text: &str) -> Option<f64> {
    let value = match text.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().ok()? / 1000.0,
        None => text.parse().ok()?,
    };
    (value > 0.0 && value <= 64.0).then_some(value)
}

/// `300s`, at most an hour (1.3).
fn timeout(template: &RevisionTemplate, findings: &mut Findings) -> u32 {
    let Some(text) = &template.timeout else { return TIMEOUT_DEFAULT };
    let seconds = text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
    match seconds {
        // Fractions round up: a request never gets less than what is written.
        Some(seconds) if seconds > 0.0 && seconds <= f64::from(TIMEOUT_MAX) => {
            seconds.ceil() as u32
        }
        Some(seconds) if seconds.is_finite() => {
            scaling_error(
                text.at,
                format!(
                    "a timeout of {} is out of bounds; a request takes at most {TIMEOUT_MAX}s",
                    text.value
                ),
                "write a timeout from 1s to 3600s",
                findings,
            );
            TIMEOUT_DEFAULT
        }
        _ => {
            findings.error(
                Code::InvalidValue,
                text.at,
                format!("`{}` is no duration", text.value),
                "write seconds with an `s`, such as \"300s\"",
            );
            TIMEOUT_DEFAULT
        }
    }
}

/// The traffic targets: all to the one revision; tags of it are kept.
fn traffic(
    item: &Item<Service>,
    revision: &str,
    findings: &mut Findings,
) -> Vec<run::TrafficTarget> {
    let targets = &item.raw.traffic;
    let mut lowered = vec![run::TrafficTarget::latest()];
    let mut seen = HashSet::new();
    let mut sum = 0;
    for target in targets {
        sum += target.percent.map_or(0, |percent| percent.0);
        let named = target.revision.as_ref();
        let by_name = target.target_type == Some(TrafficTargetType::Revision)
            || (target.target_type.is_none() && named.is_some());
        if let Some(named) = named
            && !by_name
        {
            findings.error(
                Code::ServiceTraffic,
                named.at,
                format!("a target of the latest revision may not name `{}`", named.value),
                "remove `revision`, or write type: TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION",
            );
        }
        let newest =
            named.is_none_or(|named| crate::reference::last_segment(named) == revision || !by_name);
        if !newest && !revision.is_empty() {
            findings.error(
                Code::NotYetSupported,
                target.at,
                "traffic to an older revision is not supported yet; there is one revision, the newest",
                format!("send all traffic to the latest revision (`{revision}`)"),
            );
        }
        let Some(tag) = &target.tag else { continue };
        // The tag and the service's name share one label of the host name (3.1).
        let fits = tag.len() + 3 + item.name().len() <= 63;
        if !crate::names_rules::is_rfc1035(tag, 63) || !fits {
            findings.error(
                Code::ServiceTraffic,
                tag.at,
                format!("`{}` is no tag; lower-case letters, digits and hyphens, a letter first, and with `---` and the service's name at most 63 characters", tag.value),
                "shorten or rename the tag",
            );
        } else if seen.insert(tag.value.clone()) {
            lowered.push(run::TrafficTarget::tagged(tag));
        } else {
            findings.error(
                Code::ServiceTraffic,
                tag.at,
                format!("Multiple definitions for \"{}\"", tag.value),
                "remove one of the two",
            );
        }
    }
    if !targets.is_empty() && sum != 100 && targets.iter().all(|target| !target.faulty) {
        findings.error(
            Code::ServiceTraffic,
            targets[0].at,
            format!("Traffic targets sum to {sum}, want 100"),
            "let the percents sum to 100",
        );
    }
    lowered
}

#[cfg(test)]
mod tests {
    use super::cpu;

    #[test]
    fn cpus_are_whole_or_milli() {
        assert_eq!(cpu("1"), Some(1.0));
        assert_eq!(cpu("500m"), Some(0.5));
        assert_eq!(cpu("1000m"), Some(1.0));
        for bad in ["", "m", "0", "-1", "one"] {
            assert_eq!(cpu(bad), None, "{bad}");
        }
    }
}
