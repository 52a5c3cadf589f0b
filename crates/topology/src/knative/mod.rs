//! Knative Service and Revision documents → the Admin API's v2 shape, so that there is one way to go
//! on (cloud-run 3.3, 3.4).

mod annotations;
mod template;

use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::cloud_run as v2;
use crate::fields::knative::{
    KnativeRevision, KnativeService, SERVICE_ANNOTATIONS, SERVICE_LABELS, ServiceMetadata,
    TEMPLATE_ANNOTATIONS, TEMPLATE_LABELS, Traffic,
};
use crate::fields::network::Texts;
use crate::model::{Model, Scope};
use annotations::{Annotations, judge};

/// Project from the namespace, region from the label, both else from the neighbourhood.
pub(crate) fn scope(
    metadata: &ServiceMetadata,
    around: &Scope,
    model: &mut Model,
    findings: &mut Findings,
) -> Scope {
    let label = "cloud.googleapis.com/location";
    let labels = &metadata.labels.0;
    let region = labels.iter().find(|(key, _)| key.as_str() == label);
    let region = region.map(|(_, value)| value.as_str().into()).or_else(|| around.region.clone());
    let namespace = metadata.namespace.as_ref();
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

/// Is the document of the API that is read?
fn version(api_version: &Text, kind: &str, findings: &mut Findings) -> bool {
    let good = api_version.as_str() == "serving.knative.dev/v1";
    if !good {
        findings.error(
            Code::UnknownKind,
            api_version.at,
            format!("a {kind} of `{}` is not read", api_version.value),
            "write apiVersion: serving.knative.dev/v1",
        );
    }
    good
}

/// The service in v2 shape.
pub(crate) fn service(service: KnativeService, findings: &mut Findings) -> Option<v2::Service> {
    if !version(&service.api_version, "Service", findings) {
        return None;
    }
    let KnativeService { at, faulty, metadata, spec, postern, .. } = service;
    judge(&metadata.annotations, "annotation", SERVICE_ANNOTATIONS, findings);
    judge(&metadata.labels, "label", SERVICE_LABELS, findings);
    let own = Annotations(&metadata.annotations);
    let ingress = own.word(
        "run.googleapis.com/ingress",
        &[
            ("all", v2::Ingress::All),
            ("internal", v2::Ingress::InternalOnly),
            ("internal-and-cloud-load-balancing", v2::Ingress::InternalLoadBalancer),
            ("none", v2::Ingress::None),
        ],
        findings,
    );
    let scaling = v2::ServiceScaling {
        at: metadata.at,
        faulty: false,
        min_instance_count: own.count(&["run.googleapis.com/minScale"], findings),
        max_instance_count: own.count(&["run.googleapis.com/maxScale"], findings),
        scaling_mode: own
            .word(
                "run.googleapis.com/scalingMode",
                &[("automatic", v2::ScalingMode::Automatic), ("manual", v2::ScalingMode::Manual)],
                findings,
            )
            .map(|mode| mode.value),
        manual_instance_count: own.count(&["run.googleapis.com/manualInstanceCount"], findings),
    };
    let launch_stage = own.word(
        "run.googleapis.com/launch-stage",
        &[
            ("GA", v2::LaunchStage::Ga),
            ("BETA", v2::LaunchStage::Beta),
            ("ALPHA", v2::LaunchStage::Alpha),
        ],
        findings,
    );
    let template = spec.template;
    let nothing = Texts::default();
    let (labels, annotations) = match &template.metadata {
        Some(metadata) => (&metadata.labels, &metadata.annotations),
        None => (&nothing, &nothing),
    };
    judge(annotations, "annotation", TEMPLATE_ANNOTATIONS, findings);
    judge(labels, "label", TEMPLATE_LABELS, findings);
    let name = template.metadata.as_ref().and_then(|metadata| metadata.name.clone());
    let lowered = template::lower(template.spec, name, annotations, findings);
    Some(v2::Service {
        at,
        faulty,
        name: metadata.name,
        description: own.get("run.googleapis.com/description"),
        // Judged above.
        labels: Texts::default(),
        annotations: Texts::default(),
        launch_stage: launch_stage.map(|stage| stage.value),
        ingress: ingress.map(|ingress| ingress.value),
        template: v2::RevisionTemplate { at: template.at, ..lowered },
        traffic: spec.traffic.into_iter().map(traffic).collect(),
        scaling: Some(scaling),
        invoker_iam_disabled: own.flag("run.googleapis.com/invoker-iam-disabled", findings),
        default_uri_disabled: own.flag("run.googleapis.com/default-url-disabled", findings),
        custom_audiences: own.texts("run.googleapis.com/custom-audiences", findings),
        // An annotation, judged with the others.
        binary_authorization: None,
        postern,
    })
}

/// An older revision in v2 shape.
pub(crate) fn revision(revision: KnativeRevision, findings: &mut Findings) -> Option<v2::Revision> {
    if !version(&revision.api_version, "Revision", findings) {
        return None;
    }
    let KnativeRevision { at, faulty, metadata, spec, .. } = revision;
    judge(&metadata.annotations, "annotation", TEMPLATE_ANNOTATIONS, findings);
    judge(&metadata.labels, "label", TEMPLATE_LABELS, findings);
    let of = Annotations(&metadata.labels).get("serving.knative.dev/service");
    let lowered = template::lower(spec, None, &metadata.annotations, findings);
    Some(v2::Revision {
        at,
        faulty: faulty || lowered.faulty,
        name: metadata.name,
        service: of,
        scaling: lowered.scaling,
        vpc_access: lowered.vpc_access,
        timeout: lowered.timeout,
        service_account: lowered.service_account,
        containers: lowered.containers,
        volumes: lowered.volumes,
        execution_environment: lowered.execution_environment,
        max_instance_request_concurrency: lowered.max_instance_request_concurrency,
        session_affinity: lowered.session_affinity,
        health_check_disabled: lowered.health_check_disabled,
    })
}

fn traffic(target: Traffic) -> v2::TrafficTarget {
    v2::TrafficTarget {
        at: target.at,
        faulty: target.faulty,
        target_type: match (target.latest_revision, &target.revision_name) {
            (Some(true), _) | (None, None) => Some(v2::TrafficTargetType::Latest),
            // Without a name it is refused with the others that lack one.
            (Some(false), None) | (_, Some(_)) => Some(v2::TrafficTargetType::Revision),
        },
        revision: target.revision_name,
        percent: target.percent,
        tag: target.tag,
    }
}
