//! Serverless endpoint groups: which Cloud Run service, and which tag, a request means
//! (private-connectivity 3.1 and 3.3).

use crate::decide::Evidence;
use crate::mask::{Captures, Mismatch, Placeholder, UrlMask, is_legal_name};
use crate::table::TextMap;
use names::{Reason, SelfLink};
use slice::load_balancer::{CloudRunEndpoints, KnownService};
use std::borrow::Cow;
use std::sync::Arc;

/// A Cloud Run service, or one tag of it, as a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloudRunTarget {
    /// `projects/P/locations/R/services/S`.
    pub service: SelfLink,
    /// The tag; none: the service's normal traffic split.
    pub tag: Option<Arc<str>>,
    /// Self link, and `#TAG` where there is one: what the channel to `cloud-run` carries, and what
    /// a connection pool is keyed by together with the origin.
    pub key: Arc<str>,
}

impl CloudRunTarget {
    fn new(service: &SelfLink, tag: Option<&str>) -> CloudRunTarget {
        let key = match tag {
            Some(tag) => format!("{service}#{tag}").into(),
            None => service.as_str().into(),
        };
        CloudRunTarget { service: service.clone(), tag: tag.map(Arc::from), key }
    }
}

/// The services of one project and region, shared by the groups there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    pub project: String,
    pub region: String,
    /// Name → index into `services`.
    names: TextMap,
    services: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    untagged: CloudRunTarget,
    /// Tag → index into `tagged`.
    tags: TextMap,
    tagged: Vec<CloudRunTarget>,
}

/// A fixed service or tag, or the mask's placeholder, of one group.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    /// Index of the catalogue in the snapshot.
    pub catalogue: u32,
    pub service: Option<String>,
    pub tag: Option<String>,
    pub mask: Option<UrlMask>,
    /// Place of the service, and of its tag, where there is no mask and both exist.
    fixed: Option<(u32, Option<u32>)>,
}

/// What became of a request at a serverless group.
pub(crate) struct Selected<'s, 'r> {
    pub captures: Option<Captures<'r>>,
    pub target: Target<'s, 'r>,
}

impl Catalogue {
    pub(crate) fn new(project: &str, region: &str, services: &[KnownService]) -> Catalogue {
        let mut catalogue = Catalogue {
            project: project.to_owned(),
            region: region.to_owned(),
            ..Catalogue::default()
        };
        for service in services {
            let link = SelfLink::new(&format!(
                "projects/{project}/locations/{region}/services/{}",
                service.name
            ));
            // A second service of the same name cannot exist; the first one stays.
            let index = catalogue.services.len() as u32;
            if catalogue.names.insert(&service.name, index).is_err() {
                continue;
            }
            let mut tags = TextMap::default();
            let mut tagged = Vec::with_capacity(service.tags.len());
            for tag in &service.tags {
                if tags.insert(tag, tagged.len() as u32).is_ok() {
                    tagged.push(CloudRunTarget::new(&link, Some(tag)));
                }
            }
            let untagged = CloudRunTarget::new(&link, None);
            catalogue.services.push(Known { untagged, tags, tagged });
        }
        catalogue
    }

    fn place(&self, service: &str, tag: Option<&str>) -> Option<(u32, Option<u32>)> {
        let (_, at) = self.names.get(service.as_bytes())?;
        let known = self.services.get(at as usize)?;
        let tag = match tag {
            Some(tag) => Some(known.tags.get(tag.as_bytes())?.1),
            None => None,
        };
        Some((at, tag))
    }

    fn at(&self, (service, tag): (u32, Option<u32>)) -> Option<&CloudRunTarget> {
        let known = self.services.get(service as usize)?;
        match tag {
            Some(tag) => known.tagged.get(tag as usize),
            None => Some(&known.untagged),
        }
    }

    /// Was the catalogue made of these services?
    pub(crate) fn is_of(&self, services: &[KnownService]) -> bool {
        let same = |(known, service): (&Known, &KnownService)| {
            known.untagged.service.name() == service.name
                && known.tags.iter().map(|(tag, _)| tag).eq(service.tags.iter().map(String::as_str))
        };
        self.services.len() == services.len() && self.services.iter().zip(services).all(same)
    }

    /// All names of services, for near misses.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| name)
    }

    /// All tags of a service, for near misses.
    pub(crate) fn tags(&self, service: &str) -> impl Iterator<Item = &str> {
        let known = self.names.get(service.as_bytes()).map(|(_, index)| index);
        let known = known.and_then(|index| self.services.get(index as usize));
        known.into_iter().flat_map(|known| known.tags.iter()).map(|(tag, _)| tag)
    }
}

type Target<'s, 'r> = Result<&'s CloudRunTarget, (Reason, Evidence<'s, 'r>)>;

impl<'s, 'r> Selected<'s, 'r> {
    pub(crate) fn parts(self) -> (Option<Captures<'r>>, Target<'s, 'r>) {
        (self.captures, self.target)
    }

    /// The same without a borrow from the URL, which was rewritten for this request.
    pub(crate) fn into_owned<'o>(self) -> (Option<Captures<'o>>, Target<'s, 'o>) {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let captures = self.captures.map(|captures| Captures {
            service: captures.service.map(own),
            tag: captures.tag.map(own),
        });
        let target = self.target.map_err(|(reason, evidence)| {
            let evidence = match evidence {
                Evidence::None => Evidence::None,
                Evidence::Mask(Mismatch { part, index, expected, got }) => {
                    Evidence::Mask(Mismatch { part, index, expected, got: got.map(own) })
                }
                Evidence::IllegalName { placeholder, text } => {
                    Evidence::IllegalName { placeholder, text: own(text) }
                }
                Evidence::UnknownService(name) => Evidence::UnknownService(name),
                Evidence::UnknownTag { service, tag } => Evidence::UnknownTag { service, tag },
            };
            (reason, evidence)
        });
        (captures, target)
    }
}

impl Selector {
    /// `catalogue`: the one with the given index.
    pub(crate) fn new(
        index: u32,
        catalogue: &Catalogue,
        endpoints: &CloudRunEndpoints,
        mask: Option<UrlMask>,
    ) -> Selector {
        let (service, tag) = (endpoints.service.clone(), endpoints.tag.clone());
        let fixed = match (&service, &mask) {
            (Some(service), None) => catalogue.place(service, tag.as_deref()),
            _ => None,
        };
        Selector { catalogue: index, service, tag, mask, fixed }
    }

    /// Picks service and tag. Never falls back to the URL map's default (3.3).
    pub(crate) fn select<'s, 'r>(
        &'s self,
        catalogue: &'s Catalogue,
        host: &'r str,
        path: &'r str,
    ) -> Selected<'s, 'r> {
        if let Some(target) = self.fixed.and_then(|place| catalogue.at(place)) {
            return Selected { captures: None, target: Ok(target) };
        }
        let captures = match &self.mask {
            None => None,
            Some(mask) => match mask.find(host, path) {
                Ok(captures) => Some(captures),
                Err(mismatch) => {
                    let target = Err((Reason::UrlMaskNoMatch, Evidence::Mask(mismatch)));
                    return Selected { captures: None, target };
                }
            },
        };
        let target = self.look_up(catalogue, captures.as_ref());
        Selected { captures, target }
    }

    fn look_up<'s, 'r>(
        &'s self,
        catalogue: &'s Catalogue,
        captures: Option<&Captures<'r>>,
    ) -> Result<&'s CloudRunTarget, (Reason, Evidence<'s, 'r>)> {
        let captured = |placeholder: Placeholder| {
            let text = captures.and_then(|captures| match placeholder {
                Placeholder::Service => captures.service.as_ref(),
                Placeholder::Tag => captures.tag.as_ref(),
            });
            match text {
                Some(text) if !is_legal_name(placeholder, text) => Err((
                    Reason::UrlMaskIllegalName,
                    Evidence::IllegalName { placeholder, text: text.clone() },
                )),
                text => Ok(text.map(|text| &**text)),
            }
        };
        let service = captured(Placeholder::Service)?;
        let tag = captured(Placeholder::Tag)?;
        let Some(name) = self.service.as_deref().or(service) else {
            // `compile` refuses a group that could yield no service; a name is always there.
            return Err((Reason::CloudRunServiceNotFound, Evidence::None));
        };
        let known = catalogue.names.get(name.as_bytes());
        let known = known.and_then(|(name, index)| {
            catalogue.services.get(index as usize).map(|known| (name, known))
        });
        let Some((name, known)) = known else {
            let name = name.to_owned();
            return Err((Reason::CloudRunServiceNotFound, Evidence::UnknownService(name)));
        };
        match self.tag.as_deref().or(tag) {
            None => Ok(&known.untagged),
            Some(tag) => {
                let tagged = known.tags.get(tag.as_bytes());
                let tagged = tagged.and_then(|(_, index)| known.tagged.get(index as usize));
                tagged.ok_or_else(|| {
                    let evidence = Evidence::UnknownTag { service: name, tag: tag.to_owned() };
                    (Reason::CloudRunTagNotFound, evidence)
                })
            }
        }
    }
}
