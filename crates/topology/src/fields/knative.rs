//! Knative `Service` documents, as `gcloud run services describe --format=export` writes them
//! (cloud-run 3.3).

use super::network::{Port, Texts};
use crate::decode::{At, Fate, Field, Int, Text, TextOrNumber, record};

record! {
    /// A Knative Service.
    KnativeService {
        req api_version: Text = "apiVersion";
        req kind: Text = "kind";
        req metadata: ServiceMetadata = "metadata";
        req spec: ServiceSpec = "spec";
    }
    output_only ["status"]
}

record! {
    /// Metadata of a Knative Service.
    ServiceMetadata {
        req name: Text = "name";
        opt namespace: At<TextOrNumber> = "namespace";
        def labels: Texts = "labels";
        def annotations: Texts = "annotations";
    }
    output_only [
        "creationTimestamp", "generation", "resourceVersion", "selfLink", "uid", "ownerReferences", "deletionTimestamp",
        "finalizers", "managedFields", "clusterName", "generateName", "deletionGracePeriodSeconds"
    ]
}

record! {
    /// The wish of a Knative Service.
    ServiceSpec {
        req template: Template = "template";
        def traffic: Vec<Traffic> = "traffic";
    }
}

record! {
    /// The revision template.
    Template {
        opt metadata: TemplateMetadata = "metadata";
        req spec: TemplateSpec = "spec";
    }
}

record! {
    /// Metadata of the revision template.
    TemplateMetadata {
        opt name: Text = "name";
        def annotations: Texts = "annotations";
    }
    descriptive ["labels"]
    output_only ["creationTimestamp", "namespace", "generation", "resourceVersion", "uid"]
}

record! {
    /// How instances are run.
    TemplateSpec {
        opt container_concurrency: At<Int<0, 4294967295>> = "containerConcurrency";
        opt timeout_seconds: At<Int<0, 4294967295>> = "timeoutSeconds";
        opt service_account_name: Text = "serviceAccountName";
        req containers: At<Vec<KnativeContainer>> = "containers";
    }
    not_yet ["volumes", "nodeSelector", "runtimeClassName"]
}

record! {
    /// A container.
    KnativeContainer {
        opt name: Text = "name";
        req image: Text = "image";
        opt command: Vec<Text> = "command";
        opt args: Vec<Text> = "args";
        def env: Vec<KnativeEnvVar> = "env";
        opt resources: KnativeResources = "resources";
        opt ports: At<Vec<KnativePort>> = "ports";
    }
    not_yet ["volumeMounts", "workingDir", "startupProbe", "livenessProbe", "readinessProbe"]
}

record! {
    /// An environment variable.
    KnativeEnvVar {
        req name: Text = "name";
        opt value: Text = "value";
    }
    refused [
        "valueFrom": "there is no Secret Manager here; write the value as `value`",
    ]
}

record! {
    /// Resources; the CPU limit decides on the default concurrency.
    KnativeResources {
        opt limits: Texts = "limits";
    }
    not_yet ["requests"]
}

record! {
    /// The port on which the container listens.
    KnativePort {
        opt name: Text = "name";
        opt container_port: At<Port> = "containerPort";
    }
    not_yet ["protocol" ("TCP")]
}

record! {
    /// A share of the traffic, or a tag.
    Traffic {
        opt revision_name: Text = "revisionName";
        opt latest_revision: bool = "latestRevision";
        opt percent: Int<0, 100> = "percent";
        opt tag: Text = "tag";
    }
    output_only ["url"]
}

const fn honoured(name: &'static str) -> Field {
    Field { name, fate: Fate::Descriptive }
}

const fn not_yet(name: &'static str, harmless: &'static [&'static str]) -> Field {
    Field { name, fate: Fate::NotYet { harmless } }
}

const fn refused(
    name: &'static str,
    harmless: &'static [&'static str],
    why: &'static str,
) -> Field {
    Field { name, fate: Fate::Refused { harmless, why } }
}

const fn output(name: &'static str) -> Field {
    Field { name, fate: Fate::OutputOnly }
}

/// Annotations of a service under Google's and Knative's prefixes; other keys are the user's own.
/// Those read by `lower` and those without effect on traffic are both accepted silently.
pub(crate) const SERVICE_ANNOTATIONS: &[Field] = &[
    honoured("run.googleapis.com/ingress"),
    honoured("run.googleapis.com/minScale"),
    honoured("run.googleapis.com/maxScale"),
    honoured("run.googleapis.com/scalingMode"),
    honoured("run.googleapis.com/manualInstanceCount"),
    honoured("run.googleapis.com/custom-audiences"),
    honoured("run.googleapis.com/default-url-disabled"),
    honoured("run.googleapis.com/invoker-iam-disabled"),
    honoured("run.googleapis.com/description"),
    honoured("run.googleapis.com/launch-stage"),
    honoured("run.googleapis.com/client-name"),
    honoured("run.googleapis.com/client-version"),
    honoured("run.googleapis.com/build-id"),
    honoured("run.googleapis.com/build-name"),
    honoured("run.googleapis.com/build-source-location"),
    honoured("run.googleapis.com/build-function-target"),
    honoured("run.googleapis.com/build-image-uri"),
    honoured("run.googleapis.com/build-base-image"),
    honoured("run.googleapis.com/build-enable-automatic-updates"),
    honoured("run.googleapis.com/build-environment-variables"),
    honoured("run.googleapis.com/build-service-account"),
    honoured("run.googleapis.com/build-worker-pool"),
    not_yet("run.googleapis.com/max-surge", &[]),
    not_yet("run.googleapis.com/threat-detection", &["false", "disabled"]),
    // As `BinaryAuthorization` of the Admin API.
    honoured("run.googleapis.com/binary-authorization-breakglass"),
    refused(
        "run.googleapis.com/binary-authorization",
        &["default"],
        "without it images would run that it denies",
    ),
    refused(
        "run.googleapis.com/iap-enabled",
        &["false"],
        "without it requests would pass without a sign-in",
    ),
    output("run.googleapis.com/ingress-status"),
    output("run.googleapis.com/operation-id"),
    output("run.googleapis.com/urls"),
    output("serving.knative.dev/creator"),
    output("serving.knative.dev/lastModifier"),
];

/// Annotations of a revision template, likewise.
pub(crate) const TEMPLATE_ANNOTATIONS: &[Field] = &[
    honoured("autoscaling.knative.dev/minScale"),
    honoured("autoscaling.knative.dev/min-scale"),
    honoured("autoscaling.knative.dev/maxScale"),
    honoured("autoscaling.knative.dev/max-scale"),
    honoured("run.googleapis.com/network-interfaces"),
    honoured("run.googleapis.com/client-name"),
    honoured("run.googleapis.com/client-version"),
    honoured("run.googleapis.com/base-images"),
    honoured("run.googleapis.com/sources"),
    honoured("run.googleapis.com/encryption-key"),
    honoured("run.googleapis.com/encryption-key-shutdown-hours"),
    honoured("run.googleapis.com/post-key-revocation-action-type"),
    honoured("run.googleapis.com/gpu-zonal-redundancy-disabled"),
    not_yet("run.googleapis.com/execution-environment", &["gen2", "default"]),
    not_yet("run.googleapis.com/cpu-throttling", &["true"]),
    not_yet("run.googleapis.com/startup-cpu-boost", &[]),
    not_yet("run.googleapis.com/sessionAffinity", &["false"]),
    honoured("run.googleapis.com/vpc-access-egress"),
    refused(
        "run.googleapis.com/vpc-access-connector",
        &[],
        "there are no Serverless VPC Access connectors here; use direct VPC egress (`run.googleapis.com/network-interfaces`)",
    ),
    not_yet("run.googleapis.com/cloudsql-instances", &[]),
    not_yet("run.googleapis.com/secrets", &[]),
    not_yet("run.googleapis.com/container-dependencies", &[]),
    not_yet("run.googleapis.com/health-check-disabled", &["false"]),
    not_yet("run.googleapis.com/mesh", &[]),
    // Knative's own scaler; Cloud Run documents only minScale and maxScale.
    not_yet("autoscaling.knative.dev/class", &[]),
    not_yet("autoscaling.knative.dev/metric", &[]),
    not_yet("autoscaling.knative.dev/metric-aggregation-algorithm", &[]),
    not_yet("autoscaling.knative.dev/target", &[]),
    not_yet("autoscaling.knative.dev/target-utilization-percentage", &[]),
    not_yet("autoscaling.knative.dev/target-burst-capacity", &[]),
    not_yet("autoscaling.knative.dev/initial-scale", &[]),
    not_yet("autoscaling.knative.dev/activation-scale", &[]),
    not_yet("autoscaling.knative.dev/window", &[]),
    not_yet("autoscaling.knative.dev/panic-window-percentage", &[]),
    not_yet("autoscaling.knative.dev/panic-threshold-percentage", &[]),
    not_yet("autoscaling.knative.dev/scale-down-delay", &[]),
    not_yet("autoscaling.knative.dev/scale-to-zero-pod-retention-period", &[]),
];
