//! Reading target endpoints (1.3).

use super::{
    Authentication, FLOW_CHILDREN, FaultRules, Flows, TargetEndpoint, flow_child, properties,
};
use crate::policies::template;
use crate::target::{TargetProperties, TargetUrl, TlsMode};
use crate::template::Template;
use crate::xml::{Many, One, Reader};
use roxmltree::Node;

impl TargetEndpoint {
    pub(crate) fn parse(root: Node<'_, '_>, reader: &mut Reader<'_>) -> TargetEndpoint {
        reader.attributes(root, &["name"]);
        let mut allowed = FLOW_CHILDREN.to_vec();
        allowed.extend([
            ("EventFlow", Many),
            ("HTTPTargetConnection", One),
            ("LocalTargetConnection", One),
            ("ScriptTarget", One),
        ]);
        let children = reader.children(root, &allowed);
        let mut endpoint = TargetEndpoint {
            name: reader.required_attribute(root, "name").into(),
            flows: Flows::default(),
            fault_rules: FaultRules::default(),
            url: Template::default(),
            tls: TlsMode::NameOnly,
            tls_versions: None,
            properties: TargetProperties::default(),
            authentication: None,
            at: reader.at(root),
        };
        let mut connected = false;
        for child in &children {
            match child.tag_name().name() {
                "HTTPTargetConnection" => {
                    connected = true;
                    endpoint.connection(*child, reader);
                }
                "EventFlow" => reader.unsupported(
                    *child,
                    "Server-sent events pass through with response.streaming.enabled.",
                ),
                "LocalTargetConnection" | "ScriptTarget" => {
                    connected = true;
                    reader.unsupported(*child, "Use `<HTTPTargetConnection>`.");
                }
                _ => flow_child(*child, &mut endpoint.flows, &mut endpoint.fault_rules, reader),
            }
        }
        if !connected {
            reader.error(
                root,
                "MISSING_CONNECTION",
                "the target endpoint has no connection.",
                "Give it an `<HTTPTargetConnection>`.",
            );
        }
        endpoint
    }

    fn connection(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) {
        reader.attributes(node, &[]);
        let parts = reader.children(
            node,
            &[
                ("URL", One),
                ("LoadBalancer", One),
                ("Path", One),
                ("HealthMonitor", One),
                ("SSLInfo", One),
                ("Authentication", One),
                ("Properties", One),
            ],
        );
        let mut has_url = false;
        for part in parts {
            match part.tag_name().name() {
                "URL" => {
                    has_url = true;
                    reader.attributes(part, &[]);
                    let text = reader.text(part);
                    self.url = template(part, &text, reader);
                    if let Some(literal) = self.url.literal()
                        && let Err(what) = TargetUrl::parse(literal)
                    {
                        reader.error(
                            part,
                            "INVALID_URL",
                            format!("{what}."),
                            "Write https://host/path.",
                        );
                    }
                }
                "SSLInfo" => self.ssl_info(part, reader),
                "Authentication" => self.authentication = Authentication::parse(part, reader),
                "Properties" => self.properties = properties::target(part, reader),
                "Path" => reader.unsupported(
                    part,
                    "It belongs to a `<LoadBalancer>`; put the path into the `<URL>`.",
                ),
                _ => {
                    has_url = true;
                    reader.unsupported(part, "Name the target by `<URL>`.");
                }
            }
        }
        if !has_url {
            reader.error(
                node,
                "MISSING_URL",
                "the target connection has no URL.",
                "Give it a `<URL>`.",
            );
        }
    }

    /// SSLInfo (9.2). Stores are references to resources that do not exist here, so they are refused.
    fn ssl_info(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) {
        reader.attributes(node, &[]);
        let parts = reader.children(
            node,
            &[
                ("Enabled", One),
                ("Enforce", One),
                ("ClientAuthEnabled", One),
                ("KeyStore", One),
                ("KeyAlias", One),
                ("TrustStore", One),
                ("CommonName", One),
                ("Protocols", One),
                ("Ciphers", One),
                ("IgnoreValidationErrors", One),
                ("CLRStore", One),
            ],
        );
        let (mut enforce, mut ignore) = (false, false);
        for part in parts {
            match part.tag_name().name() {
                "Enabled" => drop(reader.boolean(part, true)),
                "Enforce" => enforce = reader.boolean(part, false),
                "IgnoreValidationErrors" => ignore = reader.boolean(part, false),
                "ClientAuthEnabled" => {
                    if reader.boolean(part, false) {
                        reader.unsupported(
                            part,
                            "Client certificates towards targets are not supported.",
                        );
                    }
                }
                "Protocols" => self.protocols(part, reader),
                _ if reader.text(part).is_empty()
                    && part.children().all(|child| !child.is_element()) => {}
                _ => reader.unsupported(
                    part,
                    "Targets are verified against the CA of the topology with `<Enforce>`.",
                ),
            }
        }
        self.tls = match (ignore, enforce) {
            (true, _) => TlsMode::Ignore,
            (false, true) => TlsMode::Enforce,
            (false, false) => TlsMode::NameOnly,
        };
    }

    fn protocols(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) {
        let mut versions = Vec::new();
        for part in reader.children(node, &[("Protocol", Many)]) {
            match reader.text(part).as_str() {
                "TLSv1.2" => versions.push("1.2"),
                "TLSv1.3" => versions.push("1.3"),
                other => {
                    let what = format!("the protocol `{other}` is not supported.");
                    reader.error(part, "INVALID_VALUE", what, "Use TLSv1.2 or TLSv1.3.");
                }
            }
        }
        self.tls_versions = (!versions.is_empty()).then_some(versions);
    }
}
