//! The words that every other crate uses: names of networks and resources, where a request
//! comes from, and the one registry of reasons.
//!
//! Parsed once at the edge, right ever after. This crate does no I/O and knows no program.

mod origin;
mod reason;
mod region;

pub use origin::{FrontEnd, Origin, is_run_app};
pub use reason::Reason;
pub use region::region_admits;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A VPC network: project and name, written `PROJECT/NETWORK` on the command line, in logs and in
/// `status`; or what is in none, written `internet`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId {
    /// The project that holds the network; empty: none does.
    pub project: Arc<str>,
    /// The network's short name.
    pub name: Arc<str>,
}

impl NetworkId {
    /// A network by project and short name.
    pub fn new(project: &str, name: &str) -> Self {
        NetworkId { project: project.into(), name: name.into() }
    }

    /// All that is in no VPC network, as if it were one: clients with public addresses, Google's
    /// front ends and external load balancers as these see them, and Cloud Run instances, which
    /// reach the world as the internet does.
    pub fn internet() -> Self {
        NetworkId::new("", INTERNET)
    }

    /// Is it no VPC network?
    pub fn is_internet(&self) -> bool {
        self.project.is_empty()
    }
}

const INTERNET: &str = "internet";

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_internet() {
            true => f.write_str(&self.name),
            false => write!(f, "{}/{}", self.project, self.name),
        }
    }
}

/// A text that is not `PROJECT/NETWORK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotANetwork(pub String);

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not of the form PROJECT/NETWORK, nor `internet`", self.0)
    }
}

impl std::error::Error for NotANetwork {}

impl FromStr for NetworkId {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        match text.split_once('/') {
            None if text == INTERNET => Ok(NetworkId::internet()),
            Some((project, name))
                if !project.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(NetworkId::new(project, name))
            }
            _ => Err(NotANetwork(text.to_owned())),
        }
    }
}

impl Serialize for NetworkId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NetworkId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The canonical name of a resource: its self link without scheme, host and API version, such as
/// `projects/p/regions/europe-west1/forwardingRules/ilb`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SelfLink(Arc<str>);

impl SelfLink {
    /// From a canonical path; use [`SelfLink::regional`] or [`SelfLink::global`] where possible.
    pub fn new(path: &str) -> Self {
        SelfLink(path.into())
    }

    /// `projects/PROJECT/regions/REGION/COLLECTION/NAME`.
    pub fn regional(project: &str, region: &str, collection: &str, name: &str) -> Self {
        SelfLink(format!("projects/{project}/regions/{region}/{collection}/{name}").into())
    }

    /// `projects/PROJECT/global/COLLECTION/NAME`.
    pub fn global(project: &str, collection: &str, name: &str) -> Self {
        SelfLink(format!("projects/{project}/global/{collection}/{name}").into())
    }

    /// The path itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment: the resource's short name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The project segment, or an empty text where the path has none.
    pub fn project(&self) -> &str {
        self.after("projects")
    }

    /// The region segment, or an empty text for a global resource.
    pub fn region(&self) -> &str {
        self.after("regions")
    }

    /// Is it global?
    pub fn is_global(&self) -> bool {
        self.0.contains("/global/")
    }

    /// The full URL as the Compute API writes it (fact sheet private-connectivity 6.1).
    pub fn url(&self) -> String {
        format!("https://www.googleapis.com/compute/v1/{}", self.0)
    }

    fn after(&self, word: &str) -> &str {
        let mut segments = self.0.split('/');
        while let Some(segment) = segments.next() {
            if segment == word {
                return segments.next().unwrap_or_default();
            }
        }
        ""
    }
}

impl fmt::Display for SelfLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Does a name of a certificate cover this host name? A wildcard stands for exactly one label
/// (RFC 6125 6.4.3); both are compared without regard to case.
pub fn certificate_covers(name: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match name.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
        None => name.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_of_a_certificate_stands_for_one_label() {
        for (name, host, expected) in [
            ("a.example.com", "A.example.com.", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", ".example.com", false),
            ("a.example.com", "b.example.com", false),
        ] {
            assert_eq!(certificate_covers(name, host), expected, "{name} {host}");
        }
    }

    #[test]
    fn a_network_is_written_project_slash_name() {
        assert_eq!("p/n".parse::<NetworkId>().map(|n| n.to_string()).as_deref(), Ok("p/n"));
        let internet = NetworkId::internet();
        assert_eq!("internet".parse(), Ok(internet.clone()));
        assert_eq!((internet.to_string().as_str(), internet.is_internet()), ("internet", true));
        assert!(!NetworkId::new("p", "internet").is_internet());
        for bad in ["", "p", "/n", "/internet", "p/", "p/n/x"] {
            assert_eq!(bad.parse::<NetworkId>(), Err(NotANetwork(bad.to_owned())));
        }
    }

    #[test]
    fn a_self_link_knows_its_parts() {
        let link = SelfLink::regional("p", "europe-west1", "forwardingRules", "ilb");
        assert_eq!((link.project(), link.region(), link.name()), ("p", "europe-west1", "ilb"));
        assert_eq!(SelfLink::global("p", "networks", "n").region(), "");
    }
}
