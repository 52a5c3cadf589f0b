//! Raw exports: a document that is one resource as the real product prints it, with its `kind`.

use crate::decode::Decode;
use crate::diagnostic::Findings;
use crate::fields::{
    backends, cloud_run, dns, document, firewalls, knative, load_balancing, network, psc, security,
    url_maps,
};
use crate::model::{Model, Scope};
use crate::node::Node;
use crate::schema::Schema;
use serde_json::Value;

macro_rules! exports {
    ($($variant:ident : $kind:literal, $type:ty, $store:ident;)*) => {
        /// One document's content.
        #[derive(Debug)]
        pub(crate) enum Raw {
            Document(Box<document::Document>),
            Knative(Box<knative::KnativeService>),
            KnativeRevision(Box<knative::KnativeRevision>),
            Revision(Box<cloud_run::Revision>),
            Service(Box<cloud_run::Service>),
            RecordSet(Box<dns::ResourceRecordSet>),
            $($variant(Box<$type>),)*
            /// It could not be read; its kind and name are kept where they are known.
            Broken(Option<(&'static str, String)>),
        }

        /// The kinds of raw exports and the schema of each.
        pub(crate) fn kinds() -> impl Iterator<Item = (&'static str, fn(&mut Schema) -> Value)> {
            let record_set: fn(&mut Schema) -> Value = dns::ResourceRecordSet::schema;
            [
                $(($kind, <$type as Decode>::schema as fn(&mut Schema) -> Value),)*
                (RECORD_SET, record_set),
            ]
            .into_iter()
        }

        /// Reads an export of a known kind.
        pub(crate) fn read(kind: &str, node: &Node<'_>, findings: &mut Findings) -> Option<Raw> {
            Some(match kind {
                $($kind => match Decode::decode(node, findings) {
                    Some(read) => Raw::$variant(Box::new(read)),
                    None => Raw::Broken(document::broken_name(node).map(|name| ($kind, name))),
                },)*
                RECORD_SET => match Decode::decode(node, findings) {
                    Some(read) => Raw::RecordSet(Box::new(read)),
                    None => Raw::Broken(None),
                },
                _ => return None,
            })
        }

        /// Adds an export to the model; record sets and whole documents are added elsewhere.
        pub(crate) fn add(raw: Raw, scope: &Scope, model: &mut Model, findings: &mut Findings) {
            match raw {
                $(Raw::$variant(read) => {
                    model.add(|model| &mut model.$store, *read, scope, true, findings);
                })*
                Raw::Service(read) => {
                    model.add(|model| &mut model.services, *read, scope, true, findings);
                }
                Raw::Broken(Some((kind, name))) => match kind {
                    $($kind => model.broken(|model| &mut model.$store, name),)*
                    _ => {}
                },
                Raw::Revision(read) => model.add_revision(*read, scope, findings),
                Raw::Document(_)
                | Raw::Knative(_)
                | Raw::KnativeRevision(_)
                | Raw::RecordSet(_)
                | Raw::Broken(None) => {}
            }
        }

        /// The self link of an export, for its project.
        pub(crate) fn self_link(raw: &Raw) -> Option<&str> {
            use crate::model::Resource;
            match raw {
                $(Raw::$variant(read) => {
                    read.self_link().or(read.region()).map(|link| link.as_str())
                })*
                Raw::Service(read) => Some(read.name.as_str()),
                // Its service's name comes before its own.
                Raw::Revision(read) => read.name.split_once("/revisions/").map(|(of, _)| of),
                _ => None,
            }
        }
    };
}

/// The kind of a record set.
pub(crate) const RECORD_SET: &str = "dns#resourceRecordSet";

exports! {
    Network: "compute#network", network::Network, networks;
    Subnetwork: "compute#subnetwork", network::Subnetwork, subnetworks;
    Address: "compute#address", network::Address, addresses;
    SecurityPolicy: "compute#securityPolicy", security::SecurityPolicy, security_policies;
    Firewall: "compute#firewall", firewalls::Firewall, firewalls;
    Route: "compute#route", firewalls::Route, routes;
    Instance: "compute#instance", network::Instance, instances;
    ForwardingRule: "compute#forwardingRule", psc::ForwardingRule, forwarding_rules;
    ServiceAttachment: "compute#serviceAttachment", psc::ServiceAttachment, service_attachments;
    UrlMap: "compute#urlMap", url_maps::UrlMap, url_maps;
    TargetHttpProxy: "compute#targetHttpProxy", load_balancing::TargetHttpProxy, target_http_proxies;
    TargetHttpsProxy: "compute#targetHttpsProxy", load_balancing::TargetHttpsProxy, target_https_proxies;
    TargetTcpProxy: "compute#targetTcpProxy", load_balancing::TargetTcpProxy, target_tcp_proxies;
    TargetInstance: "compute#targetInstance", load_balancing::TargetInstance, target_instances;
    InstanceGroup: "compute#instanceGroup", backends::InstanceGroup, instance_groups;
    SslCertificate: "compute#sslCertificate", load_balancing::SslCertificate, ssl_certificates;
    BackendService: "compute#backendService", backends::BackendService, backend_services;
    NetworkEndpointGroup: "compute#networkEndpointGroup", backends::NetworkEndpointGroup, network_endpoint_groups;
    HealthCheck: "compute#healthCheck", backends::HealthCheck, health_checks;
    SslPolicy: "compute#sslPolicy", load_balancing::SslPolicy, ssl_policies;
    ManagedZone: "dns#managedZone", dns::ManagedZone, managed_zones;
    Policy: "dns#policy", dns::Policy, dns_policies;
    ResponsePolicy: "dns#responsePolicy", dns::ResponsePolicy, response_policies;
}
