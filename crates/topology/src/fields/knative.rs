//! Knative `Service` and `Revision` documents, as `gcloud run services describe --format=export` and
//! `gcloud run revisions describe --format=yaml` write them (cloud-run 3.3).

use super::cloud_run::{EmptyDirVolumeSource, Probe, VolumeMount};
use super::network::{Port, Texts};
use crate::decode::{At, Fate, Field, Int, Mapping, Text, TextOrNumber, record};
use crate::scalars::{Mode, Quantity};

record! {
    /// A Knative Service.
    KnativeService {
        req api_version: Text = "apiVersion";
        req kind: Text = "kind";
        req metadata: ServiceMetadata = "metadata";
        req spec: ServiceSpec = "spec";
        opt postern: super::cloud_run::ServicePostern = "postern";
    }
    output_only ["status"]
}

record! {
    /// A Knative Revision: an older one of a service.
    KnativeRevision {
        req api_version: Text = "apiVersion";
        req kind: Text = "kind";
        req metadata: ServiceMetadata = "metadata";
        req spec: TemplateSpec = "spec";
    }
    output_only ["status"]
}

record! {
    /// Metadata of a Knative Service or Revision.
    ServiceMetadata {
        req name: Text = "name";
        opt namespace: At<TextOrNumber> = "namespace";
        def labels: Texts = "labels";
        def annotations: Texts = "annotations";
    }
    rejected ["generateName"]
    output_only [
        "creationTimestamp", "generation", "resourceVersion", "selfLink", "uid", "ownerReferences", "deletionTimestamp",
        "finalizers", "managedFields", "clusterName", "deletionGracePeriodSeconds"
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
        def labels: Texts = "labels";
        def annotations: Texts = "annotations";
    }
    rejected ["generateName"]
    output_only ["creationTimestamp", "namespace", "generation", "resourceVersion", "uid"]
}

record! {
    /// How instances are run.
    TemplateSpec {
        opt container_concurrency: At<Int<0, 4294967295>> = "containerConcurrency";
        opt timeout_seconds: At<Int<0, 4294967295>> = "timeoutSeconds";
        opt service_account_name: Text = "serviceAccountName";
        req containers: At<Vec<KnativeContainer>> = "containers";
        def volumes: Vec<KnativeVolume> = "volumes";
    }
    descriptive ["enableServiceLinks"]
    not_yet ["runtimeClassName", "responseStartTimeoutSeconds", "idleTimeoutSeconds"]
    refused ["nodeSelector": "instances have no GPU here"]
    // The list is (unconfirmed) in parts.
    rejected [
        "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy", "ephemeralContainers", "hostAliases",
        "hostIPC", "hostNetwork", "hostPID", "hostUsers", "hostname", "imagePullSecrets", "initContainers", "nodeName",
        "os", "overhead", "preemptionPolicy", "priority", "priorityClassName", "readinessGates", "restartPolicy",
        "schedulerName", "securityContext", "serviceAccount", "setHostnameAsFQDN", "shareProcessNamespace", "subdomain",
        "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "activeDeadlineSeconds"
    ]
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
        def volume_mounts: Vec<VolumeMount> = "volumeMounts";
        opt working_dir: Text = "workingDir";
        opt startup_probe: Probe = "startupProbe";
        opt liveness_probe: Probe = "livenessProbe";
        opt readiness_probe: Probe = "readinessProbe";
    }
    // The image is what `images` says; where its messages go on termination nobody sees.
    descriptive ["imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy"]
    rejected [
        "envFrom", "lifecycle", "stdin" ("false"), "stdinOnce" ("false"), "tty" ("false"), "securityContext",
        "volumeDevices", "resizePolicy", "restartPolicy"
    ]
}

record! {
    /// An environment variable: a value, or a secret's version.
    KnativeEnvVar {
        req name: Text = "name";
        opt value: Text = "value";
        opt value_from: KnativeEnvVarSource = "valueFrom";
    }
}

record! {
    /// Where a variable's value comes from.
    KnativeEnvVarSource {
        opt secret_key_ref: KnativeSecretKeySelector = "secretKeyRef";
    }
    rejected ["configMapKeyRef", "fieldRef", "resourceFieldRef", "fileKeyRef"]
}

record! {
    /// A version of a secret, by its name or an alias of the annotation `run.googleapis.com/secrets`.
    KnativeSecretKeySelector {
        req name: Text = "name";
        req key: At<TextOrNumber> = "key";
    }
    rejected ["optional" ("false")]
}

record! {
    /// What a container may use.
    KnativeResources {
        opt limits: Mapping<At<Quantity>> = "limits";
    }
    // Cloud Run allots what the limits say.
    not_yet ["requests"]
    rejected ["claims"]
}

record! {
    /// The port on which the container listens.
    KnativePort {
        opt name: Text = "name";
        opt container_port: At<Port> = "containerPort";
    }
    rejected ["protocol" ("TCP"), "hostPort", "hostIP"]
}

record! {
    /// A volume.
    KnativeVolume {
        req name: Text = "name";
        opt secret: KnativeSecretVolumeSource = "secret";
        opt empty_dir: EmptyDirVolumeSource = "emptyDir";
    }
    refused [
        "csi": "there is no Cloud Storage here; the program would find an empty directory",
        "nfs": "there is no NFS server here; the program would find an empty directory",
    ]
    rejected ["configMap", "projected", "hostPath", "persistentVolumeClaim", "downwardAPI", "ephemeral", "image"]
}

record! {
    /// A secret's versions as files.
    KnativeSecretVolumeSource {
        req secret_name: Text = "secretName";
        def items: Vec<KeyToPath> = "items";
        opt default_mode: At<Mode> = "defaultMode";
    }
    rejected ["optional" ("false")]
}

record! {
    /// One file of a secret.
    KeyToPath {
        req key: At<TextOrNumber> = "key";
        req path: Text = "path";
        opt mode: At<Mode> = "mode";
    }
}

record! {
    /// A share of the traffic, or a tag.
    Traffic {
        opt revision_name: Text = "revisionName";
        opt latest_revision: bool = "latestRevision";
        opt percent: Int<0, 100> = "percent";
        opt tag: Text = "tag";
    }
    rejected ["configurationName"]
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
    honoured("run.googleapis.com/execution-environment"),
    honoured("run.googleapis.com/cpu-throttling"),
    honoured("run.googleapis.com/startup-cpu-boost"),
    honoured("run.googleapis.com/sessionAffinity"),
    honoured("run.googleapis.com/secrets"),
    honoured("run.googleapis.com/container-dependencies"),
    honoured("run.googleapis.com/health-check-disabled"),
    // The keys of the two utilisations: (unconfirmed).
    honoured("run.googleapis.com/scaling-cpu-target"),
    honoured("run.googleapis.com/scaling-concurrency-target"),
    honoured("run.googleapis.com/vpc-access-egress"),
    refused(
        "run.googleapis.com/vpc-access-connector",
        &[],
        "there are no Serverless VPC Access connectors here; use direct VPC egress (`run.googleapis.com/network-interfaces`)",
    ),
    refused(
        "run.googleapis.com/cloudsql-instances",
        &[],
        "there is no Cloud SQL here; the program would find no socket",
    ),
    refused(
        "run.googleapis.com/mesh",
        &[],
        "there is no Cloud Service Mesh here; requests would go past its rules",
    ),
    // What an exported revision has beside what was wished for.
    output("serving.knative.dev/creator"),
    output("serving.knative.dev/lastModifier"),
    output("serving.knative.dev/lastPinned"),
    output("serving.knative.dev/routes"),
    output("serving.knative.dev/routingStateModified"),
    output("serving.knative.dev/minScale"),
    output("run.googleapis.com/operation-id"),
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

/// Labels of a service under Google's and Knative's prefixes.
pub(crate) const SERVICE_LABELS: &[Field] = &[
    honoured("cloud.googleapis.com/location"),
    output("run.googleapis.com/satisfiesPzs"),
    output("run.googleapis.com/lastUpdatedTime"),
];

/// Labels of a revision template or revision, likewise.
pub(crate) const TEMPLATE_LABELS: &[Field] = &[
    honoured("cloud.googleapis.com/location"),
    honoured("client.knative.dev/nonce"),
    output("run.googleapis.com/startupProbeType"),
    output("run.googleapis.com/satisfiesPzs"),
    output("serving.knative.dev/service"),
    output("serving.knative.dev/serviceUid"),
    output("serving.knative.dev/configuration"),
    output("serving.knative.dev/configurationGeneration"),
    output("serving.knative.dev/configurationUid"),
    output("serving.knative.dev/route"),
    output("serving.knative.dev/routingState"),
];
