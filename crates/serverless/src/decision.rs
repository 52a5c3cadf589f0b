//! The one ordered decision: host → ingress → method and path → IAM. That ingress comes before IAM
//! is (unconfirmed) (cloud-run 4).

use crate::authorize::{Admitted, AuthorizationHeaders, Unauthorized, authorize};
use crate::front::{Found, Front, Target, TargetRefusal};
use crate::ingress::{IngressEvidence, IngressRefusal, ingress};
use crate::pages;
use crate::path::{ReservedPath, method_supported, reserved_path};
use id_token::VerifiedCache;
use names::{Origin, Reason};
use std::fmt;

/// What of a request's head the decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The path; a query behind it is passed over.
    pub path: &'a str,
    /// The credentials.
    pub credentials: AuthorizationHeaders<'a>,
}

/// What was decided about a request, with the evidence of each step that it passed.
#[derive(Clone, Debug)]
pub struct Decision<'s> {
    /// The service that is asked for.
    pub found: Option<Found<'s>>,
    /// Why ingress let it in.
    pub ingress: Option<IngressEvidence>,
    /// Who was admitted, or why not.
    pub result: Result<Admitted, Refusal>,
}

/// Why a request does not get to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No service is asked for.
    Target(TargetRefusal),
    /// Not from there.
    Ingress(Box<IngressRefusal>),
    /// Not with this method.
    Method(String),
    /// Not with this path.
    ReservedPath(ReservedPath),
    /// Not by this caller.
    Unauthorized(Box<Unauthorized>),
}

/// One step of a decision, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was decided: `service`, `ingress`, `method and path`, `invoker`.
    pub title: &'static str,
    /// What matched, or what refused.
    pub text: String,
    /// Where it refused.
    pub reason: Option<Reason>,
    /// Where it refused: what to change.
    pub fix: Option<String>,
}

/// Decides about a request that the fabric says came from `origin`, at the time `now` (seconds
/// since 1970). Traffic and `explain` both call this.
pub fn admit<'s>(
    front: &'s Front,
    origin: &Origin,
    target: Target<'_>,
    head: &RequestHead<'_>,
    cache: &mut VerifiedCache,
    now: u64,
) -> Decision<'s> {
    let found = match front.find(target) {
        Ok(found) => found,
        Err(refusal) => {
            return Decision { found: None, ingress: None, result: Err(Refusal::Target(refusal)) };
        }
    };
    let evidence = match ingress(&found.service.service, origin) {
        Ok(evidence) => evidence,
        Err(refusal) => {
            let result = Err(Refusal::Ingress(Box::new(refusal)));
            return Decision { found: Some(found), ingress: None, result };
        }
    };
    let result = if !method_supported(head.method) {
        Err(Refusal::Method(head.method.to_owned()))
    } else if let Some(reserved) = reserved_path(head.path) {
        Err(Refusal::ReservedPath(reserved))
    } else {
        authorize(front, &found, &head.credentials, cache, now).map_err(Refusal::Unauthorized)
    };
    Decision { found: Some(found), ingress: Some(evidence), result }
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Target(_) | Refusal::Ingress(_) | Refusal::ReservedPath(_) => 404,
            // (unconfirmed) (1.3).
            Refusal::Method(_) => 405,
            Refusal::Unauthorized(unauthorized) => unauthorized.status(),
        }
    }

    /// The code of the registry.
    pub fn reason(&self) -> Reason {
        match self {
            Refusal::Target(refusal) => refusal.reason(),
            Refusal::Ingress(refusal) => refusal.reason(),
            Refusal::Method(_) => Reason::MethodNotSupported,
            Refusal::ReservedPath(_) => Reason::ReservedPath,
            Refusal::Unauthorized(unauthorized) => unauthorized.reason(),
        }
    }

    /// The answer's `WWW-Authenticate`.
    pub fn www_authenticate(&self) -> Option<&'static str> {
        match self {
            Refusal::Unauthorized(unauthorized) => unauthorized.www_authenticate(),
            _ => None,
        }
    }

    /// The answer's body, of the type [`pages::CONTENT_TYPE`]. An unknown host and a reserved path
    /// get the front end's robot page, the rest Cloud Run's own ((unconfirmed) for a mask without
    /// a service and a default URL that is off).
    pub fn body(&self, head: &RequestHead<'_>) -> String {
        let path = head.path.split('?').next().unwrap_or_default();
        match self {
            Refusal::Target(_) | Refusal::ReservedPath(_) => pages::robot_not_found(path),
            Refusal::Ingress(_) => pages::page_not_found(),
            Refusal::Method(method) => pages::robot_method_not_allowed(method, path),
            Refusal::Unauthorized(unauthorized) => match unauthorized.status() {
                401 => pages::unauthorized(path),
                _ => pages::forbidden(path),
            },
        }
    }

    /// The text of the request log's entry; none where the real one writes no entry: what ingress
    /// refuses is not in the service's request log (4).
    pub fn log_text(&self) -> Option<String> {
        match self {
            Refusal::Unauthorized(unauthorized) => Some(unauthorized.log_text()),
            _ => None,
        }
    }

    /// What was found, as fields for logs and `--json`.
    pub fn details(&self) -> Vec<(&'static str, String)> {
        match self {
            Refusal::Unauthorized(unauthorized) => unauthorized.details(),
            _ => Vec::new(),
        }
    }

    /// One sentence: what to change.
    pub fn fix(&self) -> String {
        match self {
            Refusal::Target(refusal) => refusal.fix(),
            Refusal::Ingress(refusal) => refusal.fix(),
            Refusal::Method(_) | Refusal::ReservedPath(_) => self.reason().fix().to_owned(),
            Refusal::Unauthorized(unauthorized) => unauthorized.fix(),
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Refusal::Target(_) => "service",
            Refusal::Ingress(_) => "ingress",
            Refusal::Method(_) | Refusal::ReservedPath(_) => "method and path",
            Refusal::Unauthorized(_) => "invoker",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Target(refusal) => refusal.fmt(f),
            Refusal::Ingress(refusal) => refusal.fmt(f),
            Refusal::Method(method) => write!(f, "Cloud Run does not support {method}"),
            Refusal::ReservedPath(path) => write!(f, "Cloud Run keeps {path} for itself"),
            Refusal::Unauthorized(unauthorized) => unauthorized.fmt(f),
        }
    }
}

impl Decision<'_> {
    /// The steps, for people, up to the one that refused.
    pub fn steps(&self, origin: &Origin) -> Vec<Step> {
        let passed = |title, text| Step { title, text, reason: None, fix: None };
        let mut steps = Vec::new();
        if let Some(found) = &self.found {
            let name = found.service.service.self_link.as_str();
            let text = match found.tag {
                Some(tag) => format!("{name}, tag {tag}"),
                None => name.to_owned(),
            };
            steps.push(passed("service", text));
        }
        if let Some(evidence) = self.ingress {
            steps.push(passed("ingress", evidence.describe(origin)));
        }
        match &self.result {
            Ok(admitted) => steps.push(passed("invoker", admitted.invoker.to_string())),
            Err(refusal) => steps.push(Step {
                title: refusal.title(),
                text: refusal.to_string(),
                reason: Some(refusal.reason()),
                fix: Some(refusal.fix()),
            }),
        }
        steps
    }
}
