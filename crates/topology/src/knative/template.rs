//! The specification of a Knative revision with its annotations → the Admin API's template.

use super::annotations::{Annotations, not_json};
use crate::decode::{At, Text};
use crate::diagnostic::{Code, Findings};
use crate::fields::cloud_run as v2;
use crate::fields::knative::{
    KnativeContainer, KnativeEnvVar, KnativePort, KnativeVolume, TemplateSpec,
};
use crate::fields::network::Texts;
use serde_json::Value;
use std::collections::HashMap;

/// What annotations say of every container.
struct OfAll {
    cpu_idle: bool,
    startup_cpu_boost: Option<bool>,
    /// `run.googleapis.com/container-dependencies`.
    dependencies: Vec<(Text, Vec<Text>)>,
    /// `run.googleapis.com/secrets`: names that stand for secrets of other projects.
    aliases: HashMap<String, String>,
}

/// The template.
pub(super) fn lower(
    spec: TemplateSpec,
    name: Option<Text>,
    annotations: &Texts,
    findings: &mut Findings,
) -> v2::RevisionTemplate {
    let own = Annotations(annotations);
    let min = ["autoscaling.knative.dev/minScale", "autoscaling.knative.dev/min-scale"];
    let max = ["autoscaling.knative.dev/maxScale", "autoscaling.knative.dev/max-scale"];
    let scaling = v2::RevisionScaling {
        at: spec.at,
        faulty: false,
        min_instance_count: own.count(&min, findings),
        max_instance_count: own.count(&max, findings),
        cpu_utilization: own.number("run.googleapis.com/scaling-cpu-target", findings),
        concurrency_utilization: own
            .number("run.googleapis.com/scaling-concurrency-target", findings),
    };
    let of_all = OfAll {
        cpu_idle: own.flag("run.googleapis.com/cpu-throttling", findings).unwrap_or(true),
        startup_cpu_boost: own.flag("run.googleapis.com/startup-cpu-boost", findings),
        dependencies: dependencies(own, findings),
        aliases: aliases(own, findings),
    };
    unknown_dependants(&spec, &of_all, findings);
    let timeout = spec.timeout_seconds.as_ref();
    let timeout =
        timeout.map(|seconds| At { at: seconds.at, value: format!("{}s", seconds.value.0) });
    let containers = spec.containers.value.into_iter().map(|raw| container(raw, &of_all));
    v2::RevisionTemplate {
        at: spec.at,
        faulty: spec.faulty,
        revision: name,
        // Judged by the caller.
        labels: Texts::default(),
        annotations: Texts::default(),
        scaling: Some(scaling),
        vpc_access: vpc_access(own, findings),
        timeout,
        service_account: spec.service_account_name,
        containers: At { at: spec.containers.at, value: containers.collect() },
        volumes: spec.volumes.into_iter().map(|raw| volume(raw, &of_all)).collect(),
        execution_environment: own.word(
            "run.googleapis.com/execution-environment",
            &[
                ("gen1", v2::ExecutionEnvironment::Gen1),
                ("gen2", v2::ExecutionEnvironment::Gen2),
                ("default", v2::ExecutionEnvironment::Default),
            ],
            findings,
        ),
        max_instance_request_concurrency: spec.container_concurrency,
        session_affinity: own.flag("run.googleapis.com/sessionAffinity", findings),
        health_check_disabled: own.flag("run.googleapis.com/health-check-disabled", findings),
    }
}

fn container(raw: KnativeContainer, of_all: &OfAll) -> v2::Container {
    let name = raw.name.as_ref().map(|name| name.as_str());
    let mut depends_on = of_all.dependencies.iter();
    let depends_on = depends_on.find(|(of, _)| Some(of.as_str()) == name);
    let depends_on = depends_on.map(|(_, on)| on.clone()).unwrap_or_default();
    let (resources_at, faulty, limits) = match raw.resources {
        Some(resources) => (resources.at, resources.faulty, resources.limits),
        None => (raw.at, false, None),
    };
    v2::Container {
        at: raw.at,
        faulty: raw.faulty,
        name: raw.name,
        image: raw.image,
        command: raw.command,
        args: raw.args,
        env: raw.env.into_iter().map(|variable| env(variable, of_all)).collect(),
        resources: Some(v2::Resources {
            at: resources_at,
            faulty,
            limits,
            cpu_idle: Some(At { at: resources_at, value: of_all.cpu_idle }),
            startup_cpu_boost: of_all.startup_cpu_boost,
        }),
        ports: raw
            .ports
            .map(|ports| At { at: ports.at, value: ports.value.into_iter().map(port).collect() }),
        volume_mounts: raw.volume_mounts,
        working_dir: raw.working_dir,
        startup_probe: raw.startup_probe,
        liveness_probe: raw.liveness_probe,
        readiness_probe: raw.readiness_probe,
        depends_on,
    }
}

fn port(port: KnativePort) -> v2::ContainerPort {
    let KnativePort { at, faulty, name, container_port } = port;
    v2::ContainerPort { at, faulty, name, container_port }
}

fn env(variable: KnativeEnvVar, of_all: &OfAll) -> v2::EnvVar {
    let source = variable.value_from.map(|source| v2::EnvVarSource {
        at: source.at,
        faulty: source.faulty,
        secret_key_ref: source.secret_key_ref.map(|key| v2::SecretKeySelector {
            at: key.at,
            faulty: key.faulty,
            secret: secret(key.name, of_all),
            version: Some(key.key),
        }),
    });
    v2::EnvVar {
        at: variable.at,
        faulty: variable.faulty,
        name: variable.name,
        value: variable.value,
        value_source: source,
    }
}

fn volume(raw: KnativeVolume, of_all: &OfAll) -> v2::Volume {
    let source = raw.secret.map(|source| v2::SecretVolumeSource {
        at: source.at,
        faulty: source.faulty,
        secret: secret(source.secret_name, of_all),
        items: source
            .items
            .into_iter()
            .map(|item| v2::VersionToPath {
                at: item.at,
                faulty: item.faulty,
                path: item.path,
                version: Some(item.key),
                mode: item.mode,
            })
            .collect(),
        default_mode: source.default_mode,
    });
    v2::Volume {
        at: raw.at,
        faulty: raw.faulty,
        name: raw.name,
        secret: source,
        empty_dir: raw.empty_dir,
    }
}

/// A secret by its name or alias.
fn secret(name: Text, of_all: &OfAll) -> Text {
    match of_all.aliases.get(&name.value) {
        Some(secret) => At { at: name.at, value: secret.clone() },
        None => name,
    }
}

/// `run.googleapis.com/secrets`: `ALIAS:projects/P/secrets/S`, several with commas between.
fn aliases(own: Annotations<'_>, findings: &mut Findings) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let Some(text) = own.get("run.googleapis.com/secrets") else { return all };
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let entry = entry.split_once(':').filter(|(alias, secret)| {
            let parts = crate::reference::parts(secret);
            let whole = parts.is_some_and(|parts| {
                parts.project.is_some() && parts.collection == Some("secrets")
            });
            !alias.is_empty() && whole
        });
        match entry {
            Some((alias, secret)) => {
                all.insert(alias.to_owned(), secret.to_owned());
            }
            None => findings.error(
                Code::InvalidValue,
                text.at,
                format!("`{}` is no list of aliases of secrets", text.value),
                "write ALIAS:projects/PROJECT/secrets/SECRET, several with commas between",
            ),
        }
    }
    all
}

/// `run.googleapis.com/container-dependencies`: a JSON mapping of lists inside a text.
fn dependencies(own: Annotations<'_>, findings: &mut Findings) -> Vec<(Text, Vec<Text>)> {
    let Some(text) = own.get("run.googleapis.com/container-dependencies") else {
        return Vec::new();
    };
    type Lists = std::collections::BTreeMap<String, Vec<String>>;
    let Ok(lists) = serde_json::from_str::<Lists>(&text) else {
        not_json(&text, "a JSON mapping of containers to lists of containers", findings);
        return Vec::new();
    };
    let at = |value| At { at: text.at, value };
    lists.into_iter().map(|(of, on)| (at(of), on.into_iter().map(at).collect())).collect()
}

/// Dependencies of a container that is not there: those on one are checked with the template.
fn unknown_dependants(spec: &TemplateSpec, of_all: &OfAll, findings: &mut Findings) {
    for (of, _) in &of_all.dependencies {
        let names = spec.containers.iter().filter_map(|container| container.name.as_ref());
        if !names.into_iter().any(|name| name.value == of.value) && !spec.faulty {
            findings.error(
                Code::ServiceContainers,
                of.at,
                format!("`{}` depends on others, and there is no container of this name", of.value),
                "correct the name",
            );
        }
    }
}

/// `run.googleapis.com/network-interfaces`, a JSON list inside a text, and
/// `run.googleapis.com/vpc-access-egress`.
fn vpc_access(own: Annotations<'_>, findings: &mut Findings) -> Option<v2::VpcAccess> {
    let egress = own.word(
        "run.googleapis.com/vpc-access-egress",
        &[
            ("all-traffic", v2::VpcEgress::AllTraffic),
            ("private-ranges-only", v2::VpcEgress::PrivateRangesOnly),
        ],
        findings,
    );
    let interfaces = own.get("run.googleapis.com/network-interfaces");
    let Some(text) = interfaces else {
        let at = egress.as_ref()?.at;
        let network_interfaces = Vec::new();
        return Some(v2::VpcAccess { at, faulty: false, network_interfaces, egress });
    };
    let text = &text;
    let Ok(Value::Array(list)) = serde_json::from_str::<Value>(text) else {
        not_json(text, "a JSON list of networks and subnetworks", findings);
        return None;
    };
    let text_of = |value: &Value| Some(At { at: text.at, value: value.as_str()?.to_owned() });
    let field = |item: &Value, name: &str| text_of(item.get(name)?);
    let interfaces = list.iter().map(|item| v2::VpcNetworkInterface {
        at: text.at,
        faulty: false,
        network: field(item, "network"),
        subnetwork: field(item, "subnetwork"),
        tags: match item.get("tags") {
            Some(Value::Array(tags)) => tags.iter().filter_map(text_of).collect(),
            // gcloud writes one tag as a text.
            Some(tag) => text_of(tag).into_iter().collect(),
            None => Vec::new(),
        },
    });
    let network_interfaces = interfaces.collect();
    Some(v2::VpcAccess { at: text.at, faulty: false, network_interfaces, egress })
}
