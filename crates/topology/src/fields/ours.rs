//! What is ours alone and stands at the top of a document: images, placements, hosts, expectations.

use super::network::Texts;
use crate::decode::{At, Decode, Int, Text, record, words, wrong_type};
use crate::diagnostic::Findings;
use crate::node::{Node, Scalar};
use crate::schema::Schema;
use serde_json::Value;

record! {
    /// How a container image runs on this machine, in one of four ways: a command; the URL of what
    /// already runs; a container, by podman or docker; a mock that answers with the examples of an
    /// OpenAPI document.
    Image {
        opt command: At<Vec<Text>> = "command";
        opt args: Vec<Text> = "args";
        opt directory: Text = "directory";
        opt url: Text = "url";
        opt container: At<ContainerImage> = "container";
        opt mock: Text = "mock";
    }
}

/// The image as podman or docker knows it: another name, or `true` for the one in the service.
#[derive(Clone, Debug)]
pub(crate) enum ContainerImage {
    Named(String),
    Same,
}

impl Decode for ContainerImage {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        match node.scalar() {
            Some(Scalar::Bool(true)) => Some(ContainerImage::Same),
            Some(Scalar::Text(text)) if !text.is_empty() => {
                Some(ContainerImage::Named(text.to_owned()))
            }
            _ => {
                wrong_type(node, "an image, or true for the one in the service", findings);
                None
            }
        }
    }

    fn schema(_: &mut Schema) -> Value {
        serde_json::json!({"anyOf": [{"type": "string"}, {"const": true}]})
    }
}

words! {
    /// Google's limits on how many and how long. NONE lifts them for the whole topology: for
    /// deployments that are not Google's.
    Limits {
        Google = "GOOGLE";
        None = "NONE";
    }
}

record! {
    /// Where a declared address and port is really bound.
    Placement {
        opt network: Text = "network";
        req declared: Text = "declared";
        req actual: Text = "actual";
    }
}

record! {
    /// A host of a deployment on several: which networks live there. For programs started by hand;
    /// `postern up` runs all networks on one machine.
    Host {
        req name: Text = "name";
        def networks: Vec<HostNetwork> = "networks";
    }
}

record! {
    /// A network on its host. `address` is where consumers of other hosts dial its service
    /// attachments; without one they dial out, to the `rendezvous` of the consumer's network.
    HostNetwork {
        req network: Text = "network";
        opt address: Text = "address";
        opt rendezvous: Text = "rendezvous";
    }
}

record! {
    /// What is expected of a request; run by `check` and the tests.
    Expectation {
        opt description: Text = "description";
        req from: Text = "from";
        opt as_service_account: Text = "as";
        opt region: Text = "region";
        def tags: Vec<Text> = "tags";
        opt method: Text = "method";
        req url: Text = "url";
        def headers: Texts = "headers";
        opt id_token_audience: Text = "idTokenAudience";
        req expect: Expected = "expect";
    }
}

record! {
    /// The expected outcome. Without a status: no HTTP answer at all.
    Expected {
        opt status: Int<100, 599> = "status";
        opt reason: Text = "reason";
        opt service: Text = "service";
        opt connected: bool = "connected";
    }
}

record! {
    /// Ours: settings of the document's API platform.
    Postern {
        opt northbound: Text = "northbound";
        opt network: Text = "network";
        opt region: Text = "region";
    }
}
