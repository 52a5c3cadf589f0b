//! The tables of fields, one file per family of resources. Field names are those of the REST API
//! (compute v1, dns v1, run v2, iam v1, apigee v1); what is ours alone is marked so.

pub(crate) mod apigee;
pub(crate) mod backends;
pub(crate) mod cloud_run;
pub(crate) mod dns;
pub(crate) mod document;
pub(crate) mod firewalls;
pub(crate) mod hubs;
pub(crate) mod iam;
pub(crate) mod knative;
pub(crate) mod load_balancing;
pub(crate) mod network;
pub(crate) mod org_policy;
pub(crate) mod ours;
pub(crate) mod psc;
pub(crate) mod secrets;
pub(crate) mod security;
pub(crate) mod url_maps;
