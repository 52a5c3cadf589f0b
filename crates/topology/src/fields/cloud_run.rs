//! Cloud Run services in the shape of the Admin API v2 (cloud-run 3.4).

use super::network::{Port, Texts};
use crate::decode::{At, Int, Mapping, Number, Text, TextOrNumber, record, words};
use crate::scalars::{Mode, Quantity};

words! {
    /// From where a service may be called (cloud-run 4).
    Ingress {
        All = "INGRESS_TRAFFIC_ALL" | "INGRESS_TRAFFIC_UNSPECIFIED";
        InternalOnly = "INGRESS_TRAFFIC_INTERNAL_ONLY";
        InternalLoadBalancer = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER";
        None = "INGRESS_TRAFFIC_NONE";
    }
}

words! {
    /// Which features may be used that are not generally available.
    LaunchStage {
        Ga = "GA" | "LAUNCH_STAGE_UNSPECIFIED";
        Beta = "BETA";
        Alpha = "ALPHA";
    }
}

record! {
    /// A Cloud Run service.
    Service {
        req name: Text = "name";
        opt description: Text = "description";
        def labels: Texts = "labels";
        def annotations: Texts = "annotations";
        opt launch_stage: LaunchStage = "launchStage";
        opt ingress: Ingress = "ingress";
        req template: RevisionTemplate = "template";
        def traffic: Vec<TrafficTarget> = "traffic";
        opt scaling: ServiceScaling = "scaling";
        opt invoker_iam_disabled: bool = "invokerIamDisabled";
        opt default_uri_disabled: bool = "defaultUriDisabled";
        def custom_audiences: Vec<Text> = "customAudiences";
        opt binary_authorization: BinaryAuthorization = "binaryAuthorization";
        opt postern: ServicePostern = "postern";
    }
    descriptive ["client", "clientVersion", "buildConfig"]
    not_yet ["threatDetectionEnabled" ("false")]
    refused [
        "iapEnabled" ("false"): "without it requests would pass without a sign-in",
        "multiRegionSettings": "the service would be in one region only; declare it once for each region",
    ]
    output_only [
        "uid", "generation", "observedGeneration", "createTime", "updateTime", "deleteTime", "expireTime", "creator",
        "lastModifier", "urls", "uri", "trafficStatuses", "latestReadyRevision", "latestCreatedRevision",
        "terminalCondition", "conditions", "reconciling", "etag", "satisfiesPzs"
    ]
}

record! {
    /// Ours: how a service is run here.
    ServicePostern {
        opt idle_seconds: Int<1, 86400> = "idleSeconds";
    }
}

record! {
    /// Which images may be run. The default policy is the project's; none can be declared here, and
    /// Google's initial one allows every image.
    BinaryAuthorization {}
    // Says that the policy is not enforced, as none is here.
    descriptive ["breakglassJustification"]
    not_yet ["useDefault" ("true", "false")]
    refused ["policy": "without it images would run that it denies"]
}

words! {
    /// Which revision a traffic target means.
    TrafficTargetType {
        Latest = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST" | "TRAFFIC_TARGET_ALLOCATION_TYPE_UNSPECIFIED";
        Revision = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION";
    }
}

record! {
    /// A share of the traffic, or a tag (cloud-run 3.2).
    TrafficTarget {
        opt target_type: TrafficTargetType = "type";
        opt revision: Text = "revision";
        opt percent: Int<0, 100> = "percent";
        opt tag: Text = "tag";
    }
    output_only ["uri"]
}

words! {
    /// Who decides on the number of instances.
    ScalingMode {
        Automatic = "AUTOMATIC" | "SCALING_MODE_UNSPECIFIED";
        Manual = "MANUAL";
    }
}

/// A number of instances.
pub(crate) type Count = At<Int<0, 100000>>;

record! {
    /// Instance counts of a service.
    ServiceScaling {
        opt min_instance_count: Count = "minInstanceCount";
        opt max_instance_count: Count = "maxInstanceCount";
        opt scaling_mode: ScalingMode = "scalingMode";
        opt manual_instance_count: Count = "manualInstanceCount";
    }
}

record! {
    /// Instance counts of a revision.
    RevisionScaling {
        opt min_instance_count: Count = "minInstanceCount";
        opt max_instance_count: Count = "maxInstanceCount";
        opt cpu_utilization: At<Number> = "cpuUtilization";
        opt concurrency_utilization: At<Number> = "concurrencyUtilization";
    }
}

words! {
    /// Which sandbox instances run in. Here they are processes of this machine's kernel, as those
    /// of the second generation are.
    ExecutionEnvironment {
        Default = "EXECUTION_ENVIRONMENT_UNSPECIFIED";
        Gen1 = "EXECUTION_ENVIRONMENT_GEN1";
        Gen2 = "EXECUTION_ENVIRONMENT_GEN2";
    }
}

record! {
    /// How instances are run.
    RevisionTemplate {
        opt revision: Text = "revision";
        def labels: Texts = "labels";
        def annotations: Texts = "annotations";
        opt scaling: RevisionScaling = "scaling";
        opt vpc_access: VpcAccess = "vpcAccess";
        opt timeout: Text = "timeout";
        opt service_account: Text = "serviceAccount";
        req containers: At<Vec<Container>> = "containers";
        def volumes: Vec<Volume> = "volumes";
        opt execution_environment: At<ExecutionEnvironment> = "executionEnvironment";
        opt max_instance_request_concurrency: At<Int<0, 4294967295>> = "maxInstanceRequestConcurrency";
        opt session_affinity: bool = "sessionAffinity";
        opt health_check_disabled: bool = "healthCheckDisabled";
    }
    descriptive [
        "encryptionKey", "encryptionKeyRevocationAction", "encryptionKeyShutdownDuration",
        "gpuZonalRedundancyDisabled", "client", "clientVersion"
    ]
    refused [
        "nodeSelector": "instances have no GPU here",
        "serviceMesh": "there is no Cloud Service Mesh here; requests would go past its rules",
    ]
}

record! {
    /// An older revision of a service, as `gcloud run revisions describe` and the Admin API print
    /// it: traffic may be sent to it.
    Revision {
        req name: Text = "name";
        opt service: Text = "service";
        opt scaling: RevisionScaling = "scaling";
        opt vpc_access: VpcAccess = "vpcAccess";
        opt timeout: Text = "timeout";
        opt service_account: Text = "serviceAccount";
        req containers: At<Vec<Container>> = "containers";
        def volumes: Vec<Volume> = "volumes";
        opt execution_environment: At<ExecutionEnvironment> = "executionEnvironment";
        opt max_instance_request_concurrency: At<Int<0, 4294967295>> = "maxInstanceRequestConcurrency";
        opt session_affinity: bool = "sessionAffinity";
        opt health_check_disabled: bool = "healthCheckDisabled";
    }
    // Output only in a revision, so that the prefixes of Google's own keys may appear.
    descriptive [
        "labels", "annotations", "launchStage", "encryptionKey", "encryptionKeyRevocationAction",
        "encryptionKeyShutdownDuration", "gpuZonalRedundancyDisabled", "client", "clientVersion"
    ]
    refused [
        "nodeSelector": "instances have no GPU here",
        "serviceMesh": "there is no Cloud Service Mesh here; requests would go past its rules",
    ]
    output_only [
        "uid", "generation", "observedGeneration", "createTime", "updateTime", "deleteTime", "expireTime",
        "conditions", "reconciling", "logUri", "satisfiesPzs", "scalingStatus", "etag", "creator"
    ]
}

impl Revision {
    /// Its template, which its name is fixed in.
    pub(crate) fn into_template(self) -> RevisionTemplate {
        let name = crate::reference::last_segment(&self.name).to_owned();
        RevisionTemplate {
            at: self.at,
            faulty: self.faulty,
            revision: Some(At { at: self.name.at, value: name }),
            labels: Texts::default(),
            annotations: Texts::default(),
            scaling: self.scaling,
            vpc_access: self.vpc_access,
            timeout: self.timeout,
            service_account: self.service_account,
            containers: self.containers,
            volumes: self.volumes,
            execution_environment: self.execution_environment,
            max_instance_request_concurrency: self.max_instance_request_concurrency,
            session_affinity: self.session_affinity,
            health_check_disabled: self.health_check_disabled,
        }
    }
}

words! {
    /// What leaves an instance by its VPC network.
    VpcEgress {
        PrivateRangesOnly = "PRIVATE_RANGES_ONLY" | "VPC_EGRESS_UNSPECIFIED";
        AllTraffic = "ALL_TRAFFIC";
    }
}

record! {
    /// The way of a revision into a VPC network.
    VpcAccess {
        def network_interfaces: Vec<VpcNetworkInterface> = "networkInterfaces";
        opt egress: At<VpcEgress> = "egress";
    }
    refused ["connector": "there are no Serverless VPC Access connectors here; use direct VPC egress (`networkInterfaces`)"]
}

record! {
    /// Direct VPC egress: the network counts as an internal source (cloud-run 4).
    VpcNetworkInterface {
        opt network: Text = "network";
        opt subnetwork: Text = "subnetwork";
        def tags: Vec<Text> = "tags";
    }
}

record! {
    /// A container.
    Container {
        opt name: Text = "name";
        req image: Text = "image";
        opt command: Vec<Text> = "command";
        opt args: Vec<Text> = "args";
        def env: Vec<EnvVar> = "env";
        opt resources: Resources = "resources";
        opt ports: At<Vec<ContainerPort>> = "ports";
        def volume_mounts: Vec<VolumeMount> = "volumeMounts";
        opt working_dir: Text = "workingDir";
        opt startup_probe: Probe = "startupProbe";
        opt liveness_probe: Probe = "livenessProbe";
        opt readiness_probe: Probe = "readinessProbe";
        def depends_on: Vec<Text> = "dependsOn";
    }
    descriptive ["baseImageUri", "sourceCode"]
    output_only ["buildInfo"]
}

record! {
    /// An environment variable: a value, or a secret's version.
    EnvVar {
        req name: Text = "name";
        opt value: Text = "value";
        opt value_source: EnvVarSource = "valueSource";
    }
}

record! {
    /// Where a variable's value comes from.
    EnvVarSource {
        opt secret_key_ref: SecretKeySelector = "secretKeyRef";
    }
}

record! {
    /// A version of a secret.
    SecretKeySelector {
        req secret: Text = "secret";
        opt version: At<TextOrNumber> = "version";
    }
}

record! {
    /// What a container may use.
    Resources {
        opt limits: Mapping<At<Quantity>> = "limits";
        opt cpu_idle: At<bool> = "cpuIdle";
        opt startup_cpu_boost: bool = "startupCpuBoost";
    }
}

record! {
    /// The port on which the container listens.
    ContainerPort {
        opt name: Text = "name";
        opt container_port: At<Port> = "containerPort";
    }
}

record! {
    /// Where a volume appears in a container.
    VolumeMount {
        req name: Text = "name";
        req mount_path: Text = "mountPath";
        opt sub_path: Text = "subPath";
        opt read_only: bool = "readOnly";
    }
    rejected [
        "mountPropagation" ("None"), "subPathExpr", "recursiveReadOnly" ("Disabled")
    ]
}

record! {
    /// A volume.
    Volume {
        req name: Text = "name";
        opt secret: SecretVolumeSource = "secret";
        opt empty_dir: EmptyDirVolumeSource = "emptyDir";
    }
    refused [
        "cloudSqlInstance": "there is no Cloud SQL here; the program would find no socket",
        "nfs": "there is no NFS server here; the program would find an empty directory",
        "gcs": "there is no Cloud Storage here; the program would find an empty directory",
    ]
}

record! {
    /// A secret's versions as files.
    SecretVolumeSource {
        req secret: Text = "secret";
        def items: Vec<VersionToPath> = "items";
        opt default_mode: At<Mode> = "defaultMode";
    }
}

record! {
    /// One file of a secret.
    VersionToPath {
        req path: Text = "path";
        opt version: At<TextOrNumber> = "version";
        opt mode: At<Mode> = "mode";
    }
}

words! {
    /// Where an empty directory is kept.
    Medium {
        Memory = "MEMORY" | "MEDIUM_UNSPECIFIED" | "Memory" | "";
        Disk = "DISK" | "Disk";
    }
}

record! {
    /// A directory that is the instance's own.
    EmptyDirVolumeSource {
        opt medium: Medium = "medium";
        opt size_limit: At<Quantity> = "sizeLimit";
    }
}

/// Seconds, or a number of times; the bounds are those of the kind of probe.
pub(crate) type Times = At<Int<0, 2147483647>>;

record! {
    /// A probe (cloud-run 2.3), in both APIs.
    Probe {
        opt http_get: HttpGetAction = "httpGet";
        opt tcp_socket: TcpSocketAction = "tcpSocket";
        opt grpc: GrpcAction = "grpc";
        opt initial_delay_seconds: Times = "initialDelaySeconds";
        opt timeout_seconds: Times = "timeoutSeconds";
        opt period_seconds: Times = "periodSeconds";
        opt failure_threshold: Times = "failureThreshold";
        opt success_threshold: Times = "successThreshold";
    }
    rejected ["exec", "terminationGracePeriodSeconds"]
}

record! {
    /// A `GET` over HTTP/1.
    HttpGetAction {
        opt path: Text = "path";
        opt port: At<Int<0, 65535>> = "port";
        def http_headers: Vec<HttpHeader> = "httpHeaders";
    }
    rejected ["host", "scheme" ("HTTP")]
}

record! {
    /// A header of a probe.
    HttpHeader {
        req name: Text = "name";
        opt value: Text = "value";
    }
}

record! {
    /// A connection.
    TcpSocketAction {
        opt port: At<Int<0, 65535>> = "port";
    }
    rejected ["host"]
}

record! {
    /// `grpc.health.v1.Health/Check`.
    GrpcAction {
        opt port: At<Int<0, 65535>> = "port";
        opt service: Text = "service";
    }
}
