//! Secret Manager's secrets with their versions (cloud-run 7.1).

use crate::decode::{At, Mapping, Text, TextOrNumber, record, words};

record! {
    /// A secret. Its versions stand in it; the API has them below it.
    Secret {
        req name: Text = "name";
        def versions: Vec<SecretVersion> = "versions";
        def version_aliases: Mapping<At<TextOrNumber>> = "versionAliases";
    }
    // Where a payload is stored and who is told of rotations: neither can be seen by its readers.
    descriptive [
        "replication", "labels", "annotations", "topics", "rotation", "customerManagedEncryption", "tags",
        "versionDestroyTtl"
    ]
    not_yet ["expireTime", "ttl"]
    output_only ["createTime", "etag", "policyMember"]
}

words! {
    /// Can the version be read?
    SecretState {
        Enabled = "ENABLED" | "STATE_UNSPECIFIED";
        Disabled = "DISABLED";
        Destroyed = "DESTROYED";
    }
}

record! {
    /// A version of a secret, with its payload as `versions access` prints it.
    SecretVersion {
        opt name: At<TextOrNumber> = "name";
        opt state: SecretState = "state";
        opt payload: SecretPayload = "payload";
        opt postern: SecretPostern = "postern";
    }
    descriptive ["customerManagedEncryption"]
    output_only [
        "createTime", "destroyTime", "scheduledDestroyTime", "etag", "replicationStatus", "clientSpecifiedPayloadChecksum"
    ]
}

record! {
    /// The payload, base64.
    SecretPayload {
        req data: Text = "data";
    }
    output_only ["dataCrc32c"]
}

record! {
    /// Ours: a file that holds the payload, so that it need not stand in the topology. A relative
    /// path starts at the document's folder.
    SecretPostern {
        opt file: Text = "file";
        opt text: Text = "text";
    }
}
