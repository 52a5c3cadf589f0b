//! Knative Service documents → the Admin API's v2 shape, so that there is one way to go on
//! (cloud-run 3.3, 3.4).

use crate::decode::{At, Fate, Field, Int, Text};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run as v2;
use crate::fields::knative::{
    KnativeContainer, KnativeService, SERVICE_ANNOTATIONS, TEMPLATE_ANNOTATIONS,
};
use crate::fields::network::Texts;
use crate::model::{Model, Scope};
use crate::similar;
use serde_json::Value;

/// Project from the namespace, region from the label, both else from the neighbourhood.
pub(crate) fn scope(
    service: &KnativeService,
    around: &Scope,
    model: &mut Model,
    findings: &mut Findings,
) -> Scope {
    let label = "cloud.googleapis.com/location";
    let labels = &service.metadata.labels.0;
    let region = labels.iter().find(|(key, _)| key.as_str() == label);
    let region = region.map(|(_, value)| value.as_str().into()).or_else(|| around.region.clone());
    let namespace = service.metadata.namespace.as_ref();
    let project = namespace.map(|namespace| model.project_id(&namespace.value.0));
    // A number that no project declares is the number of the project around.
    let number = project.as_ref().and_then(|id| id.parse::<u64>().ok());
    let project = match (number, &around.project) {
        (Some(number), Some(id)) => {
            let known = model.projects.entry(id.clone()).or_default();
            let at = namespace.map(|namespace| namespace.at).unwrap_or_default();
            match known.number {
                None => {
                    known.number = Some((number, at));
                    model.numbers.insert(number, id.clone());
                }
                Some((other, _)) if other != number => findings.error(
                    Code::ProjectNumber,
                    at,
                    format!("the namespace {number} is the number of no project here; project `{id}` has the number {other}"),
                    "correct the namespace, or write `projectNumber` in the project's document",
                ),
                Some(_) => {}
            }
            Some(id.clone())
        }
        _ => project.or_else(|| around.project.clone()),
    };
    Scope { project, region }
}

/// The service in v2 shape.
pub(crate) fn lower(service: KnativeService, findings: &mut Findings) -> Option<v2::Service> {
    if service.api_version.as_str() != "serving.knative.dev/v1" {
        findings.error(
            Code::UnknownKind,
            service.api_version.at,
            format!("a Service of `{}` is not read", service.api_version.value),
            "write apiVersion: serving.knative.dev/v1",
        );
        return None;
    }
    let KnativeService { at, faulty, metadata, spec, .. } = service;
    let annotations = &metadata.annotations;
    judge(annotations, SERVICE_ANNOTATIONS, findings);
    let get = |name: &str| value(annotations, name);
    let written = get("run.googleapis.com/ingress");
    let ingress = match written.as_ref().map(|text| (text.at, text.as_str())) {
        None | Some((_, "all")) => Some(v2::Ingress::All),
        Some((_, "internal")) => Some(v2::Ingress::InternalOnly),
        Some((_, "internal-and-cloud-load-balancing")) => Some(v2::Ingress::InternalLoadBalancer),
        Some((_, "none")) => Some(v2::Ingress::None),
        Some((at, other)) => {
            let words = ["all", "internal", "internal-and-cloud-load-balancing"];
            let near = similar::closest(other, words);
            findings.error(
                Code::InvalidValue,
                at,
                format!("`{other}` is no ingress setting"),
                near.map_or_else(
                    || format!("write {}", words.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                ),
            );
            None
        }
    };
    let mode = get("run.googleapis.com/scalingMode");
    let manual = mode.filter(|mode| mode.as_str() == "manual").map(|_| v2::ScalingMode::Manual);
    let scaling = v2::ServiceScaling {
        at: metadata.at,
        faulty: false,
        min_instance_count: count(get("run.googleapis.com/minScale"), findings),
        max_instance_count: count(get("run.googleapis.com/maxScale"), findings),
        scaling_mode: manual,
        manual_instance_count: count(get("run.googleapis.com/manualInstanceCount"), findings),
    };
    let flag = |name: &str| get(name).map(|text| text.as_str() == "true");
    let template = spec.template;
    let empty = Texts::default();
    let template_annotations = template.metadata.as_ref().map_or(&empty, |m| &m.annotations);
    judge(template_annotations, TEMPLATE_ANNOTATIONS, findings);
    let get_template = |names: [&str; 2]| {
        value(template_annotations, names[0]).or_else(|| value(template_annotations, names[1]))
    };
    let inner = template.spec;
    let revision_scaling = v2::RevisionScaling {
        at: template.at,
        faulty: false,
        min_instance_count: count(
            get_template(["autoscaling.knative.dev/minScale", "autoscaling.knative.dev/min-scale"]),
            findings,
        ),
        max_instance_count: count(
            get_template(["autoscaling.knative.dev/maxScale", "autoscaling.knative.dev/max-scale"]),
            findings,
        ),
    };
    let timeout = inner.timeout_seconds.as_ref();
    let timeout =
        timeout.map(|seconds| At { at: seconds.at, value: format!("{}s", seconds.value.0) });
    let vpc_access = vpc_access(template_annotations, findings);
    let containers = inner.containers.value.into_iter().map(container).collect();
    let traffic = spec.traffic.into_iter().map(|target| v2::TrafficTarget {
        at: target.at,
        faulty: target.faulty,
        target_type: match (target.latest_revision, &target.revision_name) {
            (Some(true), _) | (None, None) => Some(v2::TrafficTargetType::Latest),
            (_, Some(_)) => Some(v2::TrafficTargetType::Revision),
            (Some(false), None) => None,
        },
        revision: target.revision_name,
        percent: target.percent,
        tag: target.tag,
    });
    Some(v2::Service {
        at,
        faulty,
        name: metadata.name,
        ingress,
        template: v2::RevisionTemplate {
            at: template.at,
            faulty: inner.faulty,
            revision: template.metadata.and_then(|metadata| metadata.name),
            scaling: Some(revision_scaling),
            vpc_access,
            timeout,
            service_account: inner.service_account_name,
            containers: At { at: inner.containers.at, value: containers },
            max_instance_request_concurrency: inner.container_concurrency,
        },
        traffic: traffic.collect(),
        scaling: Some(scaling),
        invoker_iam_disabled: flag("run.googleapis.com/invoker-iam-disabled"),
        default_uri_disabled: flag("run.googleapis.com/default-url-disabled"),
        custom_audiences: audiences(get("run.googleapis.com/custom-audiences").as_ref(), findings),
        // An annotation, judged with the others.
        binary_authorization: None,
    })
}

fn value(annotations: &Texts, name: &str) -> Option<Text> {
    annotations.0.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value.clone())
}

fn count(text: Option<Text>, findings: &mut Findings) -> Option<At<Int<0, 100000>>> {
    let text = text?;
    match text.parse::<i64>() {
        Ok(number) if (0..=100_000).contains(&number) => {
            Some(At { at: text.at, value: Int(number) })
        }
        _ => {
            findings.error(
                Code::ServiceScaling,
                text.at,
                format!("`{}` is no number of instances", text.value),
                "write a whole number in quotes",
            );
            None
        }
    }
}

fn container(raw: KnativeContainer) -> v2::Container {
    let KnativeContainer { at, faulty, name, image, command, args, env, resources, ports } = raw;
    let variables = env.into_iter().map(|variable| v2::EnvVar {
        at: variable.at,
        faulty: variable.faulty,
        name: variable.name,
        value: variable.value,
    });
    v2::Container {
        at,
        faulty,
        name,
        image,
        command,
        args,
        env: variables.collect(),
        resources: resources.map(|resources| v2::Resources {
            at: resources.at,
            faulty: resources.faulty,
            limits: resources.limits,
        }),
        ports: ports.map(|ports| At {
            at: ports.at,
            value: ports
                .value
                .into_iter()
                .map(|port| v2::ContainerPort {
                    at: port.at,
                    faulty: port.faulty,
                    name: port.name,
                    container_port: port.container_port,
                })
                .collect(),
        }),
    }
}

/// `run.googleapis.com/network-interfaces`, a JSON list inside a text, and
/// `run.googleapis.com/vpc-access-egress`.
fn vpc_access(annotations: &Texts, findings: &mut Findings) -> Option<v2::VpcAccess> {
    let egress = value(annotations, "run.googleapis.com/vpc-access-egress");
    let egress = egress.and_then(|text| {
        let value = match text.as_str() {
            "all-traffic" => v2::VpcEgress::AllTraffic,
            "private-ranges-only" => v2::VpcEgress::PrivateRangesOnly,
            _ => {
                let words = ["all-traffic", "private-ranges-only"];
                crate::decode::not_a_word(text.at, &text, &words, findings);
                return None;
            }
        };
        Some(At { at: text.at, value })
    });
    let interfaces = value(annotations, "run.googleapis.com/network-interfaces");
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

/// `run.googleapis.com/custom-audiences`: a JSON list of texts inside a text.
fn audiences(text: Option<&Text>, findings: &mut Findings) -> Vec<Text> {
    let Some(text) = text else { return Vec::new() };
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(list) => list.into_iter().map(|value| At { at: text.at, value }).collect(),
        Err(_) => {
            not_json(text, "a JSON list of texts", findings);
            Vec::new()
        }
    }
}

fn not_json(text: &Text, expected: &str, findings: &mut Findings) {
    findings.error(
        Code::WrongType,
        text.at,
        format!("the annotation holds no {}", expected.trim_start_matches("a ")),
        format!("write {expected}, in quotes"),
    );
}

/// Annotations under Google's and Knative's own prefixes are fields like others.
fn judge(annotations: &Texts, table: &[Field], findings: &mut Findings) {
    for (key, value) in &annotations.0 {
        let own = ["run.googleapis.com/", "serving.knative.dev/", "autoscaling.knative.dev/"];
        if own.iter().any(|prefix| key.starts_with(prefix)) {
            judge_one(key, value, key.at, table, findings);
        }
    }
}

fn judge_one(key: &str, value: &Text, at: Mark, table: &[Field], findings: &mut Findings) {
    let Some(field) = table.iter().find(|field| field.name == key) else {
        let fix = match similar::closest(key, table.iter().map(|field| field.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove it; own annotations stand under a prefix of their own".to_owned(),
        };
        findings.error(
            Code::UnknownField,
            at,
            format!("there is no annotation `{key}` here; it would be ignored silently"),
            fix,
        );
        return;
    };
    match field.fate {
        Fate::NotYet { harmless } if !harmless.contains(&value.as_str()) => findings.warning(
            Code::NotYetHonoured,
            at,
            format!("`{key}` is known, but has no effect in this release"),
            "remove it to silence this warning; nothing else depends on it here",
        ),
        Fate::Refused { harmless, why } if !harmless.contains(&value.as_str()) => findings.error(
            Code::NotYetSupported,
            at,
            format!("`{key}` is not supported yet; {why}"),
            "remove it; a release that honours it will read it",
        ),
        _ => {}
    }
}
