//! Cloud Run services in the shape of the Admin API v2 (cloud-run 3.4).

use super::network::{Port, Texts};
use crate::decode::{At, Int, Text, record, words};

words! {
    /// From where a service may be called (cloud-run 4).
    Ingress {
        All = "INGRESS_TRAFFIC_ALL" | "INGRESS_TRAFFIC_UNSPECIFIED";
        InternalOnly = "INGRESS_TRAFFIC_INTERNAL_ONLY";
        InternalLoadBalancer = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER";
        None = "INGRESS_TRAFFIC_NONE";
    }
}

record! {
    /// A Cloud Run service.
    Service {
        req name: Text = "name";
        opt ingress: Ingress = "ingress";
        req template: RevisionTemplate = "template";
        def traffic: Vec<TrafficTarget> = "traffic";
        opt scaling: ServiceScaling = "scaling";
        opt invoker_iam_disabled: bool = "invokerIamDisabled";
        opt default_uri_disabled: bool = "defaultUriDisabled";
        def custom_audiences: Vec<Text> = "customAudiences";
        opt binary_authorization: BinaryAuthorization = "binaryAuthorization";
    }
    descriptive [
        "description", "labels", "annotations", "client", "clientVersion", "launchStage", "buildConfig"
    ]
    not_yet ["threatDetectionEnabled" ("false"), "multiRegionSettings"]
    refused ["iapEnabled" ("false"): "without it requests would pass without a sign-in"]
    output_only [
        "uid", "generation", "observedGeneration", "createTime", "updateTime", "deleteTime", "expireTime", "creator",
        "lastModifier", "urls", "uri", "trafficStatuses", "latestReadyRevision", "latestCreatedRevision",
        "terminalCondition", "conditions", "reconciling", "etag", "satisfiesPzs"
    ]
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

record! {
    /// Instance counts of a service.
    ServiceScaling {
        opt min_instance_count: At<Int<0, 100000>> = "minInstanceCount";
        opt max_instance_count: At<Int<0, 100000>> = "maxInstanceCount";
        opt scaling_mode: ScalingMode = "scalingMode";
        opt manual_instance_count: At<Int<0, 100000>> = "manualInstanceCount";
    }
}

record! {
    /// Instance counts of a revision.
    RevisionScaling {
        opt min_instance_count: At<Int<0, 100000>> = "minInstanceCount";
        opt max_instance_count: At<Int<0, 100000>> = "maxInstanceCount";
    }
    not_yet ["cpuUtilization", "concurrencyUtilization"]
}

record! {
    /// How instances are run.
    RevisionTemplate {
        opt revision: Text = "revision";
        opt scaling: RevisionScaling = "scaling";
        opt vpc_access: VpcAccess = "vpcAccess";
        opt timeout: Text = "timeout";
        opt service_account: Text = "serviceAccount";
        req containers: At<Vec<Container>> = "containers";
        opt max_instance_request_concurrency: At<Int<0, 4294967295>> = "maxInstanceRequestConcurrency";
    }
    descriptive [
        "labels", "annotations", "encryptionKey", "encryptionKeyRevocationAction",
        "encryptionKeyShutdownDuration", "gpuZonalRedundancyDisabled", "client", "clientVersion"
    ]
    not_yet [
        // Instances are processes of this machine's kernel, as those of the second generation are.
        "executionEnvironment" ("EXECUTION_ENVIRONMENT_UNSPECIFIED", "EXECUTION_ENVIRONMENT_GEN2"),
        "volumes", "sessionAffinity" ("false"), "healthCheckDisabled" ("false"), "nodeSelector", "serviceMesh"
    ]
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
    }
    descriptive ["baseImageUri", "sourceCode", "buildInfo"]
    not_yet ["volumeMounts", "workingDir", "startupProbe", "livenessProbe", "readinessProbe", "dependsOn"]
}

record! {
    /// An environment variable.
    EnvVar {
        req name: Text = "name";
        opt value: Text = "value";
    }
    refused [
        "valueSource": "there is no Secret Manager here; write the value as `value`",
    ]
}

record! {
    /// Resources; the CPU limit decides on the default concurrency.
    Resources {
        opt limits: Texts = "limits";
    }
    not_yet ["cpuIdle" ("true"), "startupCpuBoost"]
}

record! {
    /// The port on which the container listens.
    ContainerPort {
        opt name: Text = "name";
        opt container_port: At<Port> = "containerPort";
    }
}
