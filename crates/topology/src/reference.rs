//! References between resources: a short name, a partial URL, or a full self link under any host
//! (private-connectivity 6.1).

use std::sync::Arc;

/// Where a resource lives inside its project.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Global,
    Region(Arc<str>),
    Zone(Arc<str>),
    /// Not compute: directly under the project.
    Project,
}

impl Place {
    /// The region, also of a zone.
    pub(crate) fn region(&self) -> Option<&str> {
        match self {
            Place::Region(region) => Some(region),
            Place::Zone(zone) => zone.rsplit_once('-').map(|(region, _)| region),
            Place::Global | Place::Project => None,
        }
    }
}

/// A reference taken apart. What it does not say is `None` and comes from the scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts<'t> {
    pub(crate) project: Option<&'t str>,
    pub(crate) global: bool,
    pub(crate) region: Option<&'t str>,
    pub(crate) zone: Option<&'t str>,
    pub(crate) organization: Option<&'t str>,
    pub(crate) collection: Option<&'t str>,
    pub(crate) name: &'t str,
}

/// Takes a reference apart, or `None` where it has no form of a reference.
pub(crate) fn parts(text: &str) -> Option<Parts<'_>> {
    let path = match text.split_once("//") {
        Some(("" | "https:" | "http:", rest)) => rest.split_once('/').map(|(_, path)| path)?,
        Some(_) => return None,
        None => text,
    };
    let mut segments = path.trim_start_matches('/').split('/');
    let mut parts = Parts::default();
    let mut segment = segments.next()?;
    // Before the first word of a resource path stand the API's name and version.
    let skipped =
        ["compute", "dns", "run", "apigee", "iam", "v1", "v2", "beta", "alpha", "v1beta1"];
    while path.contains("projects/") || path.contains("organizations/") || path.contains("global/")
    {
        if !skipped.contains(&segment) {
            break;
        }
        segment = segments.next()?;
    }
    loop {
        let value = match segment {
            "global" => {
                parts.global = true;
                segment = segments.next()?;
                continue;
            }
            "" => return None,
            _ => segments.next(),
        };
        match (segment, value) {
            (_, Some("")) => return None,
            ("projects", Some(value)) => parts.project = Some(value),
            // Cloud Run and Cloud DNS say locations.
            ("locations", Some("global")) => parts.global = true,
            ("regions" | "locations", Some(value)) => parts.region = Some(value),
            ("zones", Some(value)) => parts.zone = Some(value),
            ("organizations", Some(value)) => parts.organization = Some(value),
            (collection, Some(value)) => {
                parts.collection = Some(collection);
                parts.name = value;
            }
            (name, None) if parts == Parts::default() => {
                parts.name = name;
                return Some(parts);
            }
            (_, None) => return None,
        }
        match segments.next() {
            Some(next) if parts.collection.is_none() => segment = next,
            // Nothing may stand behind the name, except for the few resources with a parent.
            Some(_) => return None,
            None => return (!parts.name.is_empty()).then_some(parts),
        }
    }
}

/// The short name in a region or zone reference.
pub(crate) fn last_segment(text: &str) -> &str {
    text.trim_end_matches('/').rsplit('/').next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_partial_urls_and_self_links_are_taken_apart() {
        let link = "projects/p/regions/europe-west1/backendServices/b";
        let whole = Parts {
            project: Some("p"),
            region: Some("europe-west1"),
            collection: Some("backendServices"),
            name: "b",
            ..Parts::default()
        };
        for text in [
            link.to_owned(),
            format!("https://www.googleapis.com/compute/v1/{link}"),
            format!("https://compute.googleapis.com/compute/beta/{link}"),
            format!("//compute.googleapis.com/{link}"),
            format!("http://localhost:1/compute/v1/{link}"),
        ] {
            assert_eq!(parts(&text), Some(whole), "{text}");
        }
        let check = |text, expected| assert_eq!(parts(text), Some(expected), "{text}");
        check("b", Parts { name: "b", ..Parts::default() });
        check("compute", Parts { name: "compute", ..Parts::default() });
        check(
            "global/networks/n",
            Parts { global: true, collection: Some("networks"), name: "n", ..Parts::default() },
        );
        check("networks/n", Parts { collection: Some("networks"), name: "n", ..Parts::default() });
        check(
            "regions/r/subnetworks/s",
            Parts {
                region: Some("r"),
                collection: Some("subnetworks"),
                name: "s",
                ..Parts::default()
            },
        );
        check(
            "organizations/o/endpointAttachments/e",
            Parts {
                organization: Some("o"),
                collection: Some("endpointAttachments"),
                name: "e",
                ..Parts::default()
            },
        );
        for bad in ["", "/", "a//b", "https://host", "projects/p", "global", "a/b/c/d", "networks/"]
        {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
