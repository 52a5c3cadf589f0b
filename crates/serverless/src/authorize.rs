//! May this caller invoke the service? (cloud-run 5.2, 5.3)

use crate::front::{Found, Front};
use iam::{Denied, Grant, Principal};
use id_token::{AudienceMismatch, Claims, TokenRefusal, VerifiedCache, audience_accepted};
use names::Reason;
use std::fmt;
use std::sync::Arc;

/// The audience of a user's token from `gcloud auth print-identity-token`: gcloud's own OAuth
/// client. Accepted at the default URL, for developers' manual tests (5.2).
const GCLOUD_CLIENT: &str = "32555940559.apps.googleusercontent.com";

/// The two headers that may carry a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationHeaders<'a> {
    /// `X-Serverless-Authorization`: it alone counts where it is present.
    pub x_serverless: HeaderValues<'a>,
    /// `Authorization`.
    pub authorization: HeaderValues<'a>,
}

/// The values of one header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderValues<'a> {
    /// The header is not there.
    #[default]
    Absent,
    /// It is there once.
    One(&'a [u8]),
    /// It is there so many times.
    Several(usize),
}

impl<'a> FromIterator<&'a [u8]> for HeaderValues<'a> {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(values: I) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => HeaderValues::Absent,
            (Some(value), None) => HeaderValues::One(value),
            (Some(_), Some(_)) => HeaderValues::Several(2 + values.count()),
        }
    }
}

/// The header that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `X-Serverless-Authorization`.
    XServerlessAuthorization,
    /// `Authorization`.
    Authorization,
}

impl Credential {
    /// The header's name, in lower case as HTTP/2 has it.
    pub const fn header(self) -> &'static str {
        match self {
            Credential::XServerlessAuthorization => "x-serverless-authorization",
            Credential::Authorization => "authorization",
        }
    }
}

/// A request that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// As whom.
    pub invoker: Invoker,
    /// The header whose token loses its signature before the container sees it
    /// ([`id_token::replace_signature`]).
    pub strip_signature: Option<Credential>,
}

/// As whom a request goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invoker {
    /// Nobody is checked: `invokerIamDisabled`.
    CheckDisabled,
    /// Everybody may: `allUsers` is an invoker. A bad token is passed on (5.1 (unconfirmed)).
    AllUsers(Arc<Grant>),
    /// A caller whose token was verified and who is an invoker.
    Member {
        /// The token's claims.
        claims: Arc<Claims>,
        /// The caller's email: the token's, or that of the account with its `sub`.
        email: Option<Arc<str>>,
        /// Why the caller may.
        grant: Arc<Grant>,
        /// The header that held the token.
        credential: Credential,
    },
}

impl Invoker {
    /// The caller's email, or unique id; none where nobody was checked.
    pub fn principal(&self) -> Option<&str> {
        match self {
            Invoker::CheckDisabled | Invoker::AllUsers(_) => None,
            Invoker::Member { claims, email, .. } => {
                Some(email.as_deref().unwrap_or_else(|| claims.principal()))
            }
        }
    }
}

impl fmt::Display for Invoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invoker::CheckDisabled => f.write_str("the invoker check is disabled"),
            Invoker::AllUsers(grant) => write!(f, "everybody may invoke: {grant}"),
            Invoker::Member { grant, .. } => {
                write!(f, "{} may invoke: {grant}", self.principal().unwrap_or_default())
            }
        }
    }
}

/// A caller who may not invoke the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unauthorized {
    /// The service's canonical name.
    pub service: String,
    /// The header that was checked; none if there was no credential.
    pub credential: Option<Credential>,
    /// Why not.
    pub cause: UnauthorizedCause,
}

/// Why a caller may not invoke a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnauthorizedCause {
    /// Neither header is there.
    NoCredential,
    /// The header is empty.
    EmptyCredential,
    /// The header is there so many times.
    SeveralValues(usize),
    /// Another scheme than Bearer: its name, if it is text.
    NotBearer(Option<String>),
    /// The token is no valid ID token.
    Token(TokenRefusal),
    /// The token is for somebody else.
    Audience {
        /// What it says and what would do.
        mismatch: AudienceMismatch,
        /// Its claims.
        claims: Arc<Claims>,
    },
    /// The token is good, but its caller is no invoker.
    Permission {
        /// Its claims.
        claims: Arc<Claims>,
        /// What is missing, and who has it.
        denied: Box<Denied>,
    },
}

/// Checks the caller, in the order of 5.3. The credential is `X-Serverless-Authorization` where it
/// is present, else `Authorization`.
///
/// # Errors
/// The first thing that is wrong, with what was found.
pub fn authorize(
    front: &Front,
    found: &Found<'_>,
    headers: &AuthorizationHeaders<'_>,
    cache: &mut VerifiedCache,
    now: u64,
) -> Result<Admitted, Box<Unauthorized>> {
    let service = &found.service.service;
    let (credential, values) = match headers.x_serverless {
        HeaderValues::Absent => (Credential::Authorization, headers.authorization),
        values => (Credential::XServerlessAuthorization, values),
    };
    let anyone = if service.invoker_iam_disabled {
        Some(Invoker::CheckDisabled)
    } else {
        found.service.invokers.all_users().map(|grant| Invoker::AllUsers(Arc::clone(grant)))
    };
    if let Some(invoker) = anyone {
        // Nothing is verified, but a token of Google's issuer loses its signature all the same
        // (1.4 (unconfirmed)).
        // Of a header that is there more than once no value is looked at: none may be used again.
        let ours = matches!(values, HeaderValues::Several(_))
            || bearer(values).is_ok_and(|token| front.keys.names_key_of(token));
        return Ok(Admitted { invoker, strip_signature: ours.then_some(credential) });
    }
    invoke(front, found, credential, values, cache, now).map_err(|cause| {
        let absent = matches!(cause, UnauthorizedCause::NoCredential);
        Box::new(Unauthorized {
            service: service.self_link.as_str().to_owned(),
            credential: (!absent).then_some(credential),
            cause,
        })
    })
}

fn invoke(
    front: &Front,
    found: &Found<'_>,
    credential: Credential,
    values: HeaderValues<'_>,
    cache: &mut VerifiedCache,
    now: u64,
) -> Result<Admitted, UnauthorizedCause> {
    let token = bearer(values)?;
    let claims = cache.verified(&front.keys, token, now).map_err(UnauthorizedCause::Token)?;
    let account = front.accounts.get(&*claims.sub);
    let email = claims.email.as_deref().or(account.map(|email| &**email));
    let service_account = account.is_some()
        || email.is_some_and(|email| {
            matches!(Principal::of_email(email), Principal::ServiceAccount(_))
        });
    let gcloud = claims.aud == GCLOUD_CLIENT
        && found.by_default_url
        && claims.email.is_some()
        && !service_account;
    if !gcloud && let Err(mismatch) = audience_accepted(&claims, &found.service.audiences) {
        return Err(UnauthorizedCause::Audience { mismatch, claims });
    }
    let principal = match email {
        None => Principal::Unnamed,
        Some(email) if service_account => Principal::ServiceAccount(email),
        Some(email) => Principal::User(email),
    };
    let grant = match found.service.invokers.check(principal) {
        Ok(grant) => Arc::clone(grant),
        Err(denied) => return Err(UnauthorizedCause::Permission { claims, denied }),
    };
    // The claims hold the email already, unless it had to be looked up.
    let email = if claims.email.is_some() { None } else { account.cloned() };
    let invoker = Invoker::Member { claims, email, grant, credential };
    Ok(Admitted { invoker, strip_signature: Some(credential) })
}

/// The token of `Bearer TOKEN`; the scheme in any case (5.2 (unconfirmed)).
fn bearer(values: HeaderValues<'_>) -> Result<&str, UnauthorizedCause> {
    let value = match values {
        HeaderValues::Absent => return Err(UnauthorizedCause::NoCredential),
        HeaderValues::Several(count) => return Err(UnauthorizedCause::SeveralValues(count)),
        HeaderValues::One(value) => value.trim_ascii(),
    };
    if value.is_empty() {
        return Err(UnauthorizedCause::EmptyCredential);
    }
    let text = std::str::from_utf8(value).map_err(|_| UnauthorizedCause::NotBearer(None))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        let scheme = (!token.is_empty()).then(|| scheme.to_owned());
        return Err(UnauthorizedCause::NotBearer(scheme));
    }
    Ok(token.trim_start_matches(' '))
}

const READ_MORE: &str = " Read more at https://cloud.google.com/run/docs/securing/authenticating Additional troubleshooting documentation can be found at: https://cloud.google.com/run/docs/troubleshooting#";

impl Unauthorized {
    /// 403 without a usable identity or permission, 401 for a credential that is no good (0, row 1).
    pub fn status(&self) -> u16 {
        match self.cause {
            UnauthorizedCause::NoCredential
            | UnauthorizedCause::EmptyCredential
            | UnauthorizedCause::Permission { .. } => 403,
            _ => 401,
        }
    }

    /// The code of the registry.
    pub fn reason(&self) -> Reason {
        match &self.cause {
            UnauthorizedCause::NoCredential | UnauthorizedCause::EmptyCredential => {
                Reason::TokenMissing
            }
            UnauthorizedCause::SeveralValues(_) | UnauthorizedCause::NotBearer(_) => {
                Reason::TokenNotBearer
            }
            UnauthorizedCause::Token(refusal) => refusal.reason(),
            UnauthorizedCause::Audience { .. } => Reason::TokenAudienceMismatch,
            UnauthorizedCause::Permission { .. } => Reason::InvokerPermissionDenied,
        }
    }

    /// The header `WWW-Authenticate` (5.3; no comma between the two parts is right).
    pub fn www_authenticate(&self) -> Option<&'static str> {
        match self.cause {
            UnauthorizedCause::NoCredential | UnauthorizedCause::EmptyCredential => None,
            // The description is a guess: (unconfirmed).
            UnauthorizedCause::Permission { .. } => Some(
                "Bearer error=\"insufficient_scope\" error_description=\"The access token does not have permission to invoke this service\"",
            ),
            _ => Some(
                "Bearer error=\"invalid_token\" error_description=\"The access token could not be verified\"",
            ),
        }
    }

    /// The text of the request log's entry, severity WARNING (5.3).
    pub fn log_text(&self) -> String {
        let not_authenticated = "The request was not authenticated. Either allow unauthenticated invocations or set the proper Authorization header.";
        let not_authorized = "The request was not authorized to invoke this service.";
        match self.cause {
            UnauthorizedCause::NoCredential => {
                format!("{not_authenticated}{READ_MORE}unauthorized-client")
            }
            UnauthorizedCause::EmptyCredential => format!(
                "{not_authenticated} Empty Authorization header value.{READ_MORE}unauthorized-client"
            ),
            UnauthorizedCause::Permission { .. } => format!("{not_authorized}{READ_MORE}403"),
            _ => format!("{not_authorized} The access token could not be verified.{READ_MORE}401"),
        }
    }

    /// The claims of the token, believed or not.
    pub fn claims(&self) -> Option<&Claims> {
        match &self.cause {
            UnauthorizedCause::Token(refusal) => refusal.claims(),
            UnauthorizedCause::Audience { claims, .. }
            | UnauthorizedCause::Permission { claims, .. } => Some(claims),
            _ => None,
        }
    }

    /// What was found, as fields for logs and `--json`.
    pub fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = Vec::new();
        if let Some(credential) = self.credential {
            details.push(("credentialHeader", credential.header().to_owned()));
        }
        match &self.cause {
            UnauthorizedCause::Token(refusal) => {
                details.push(("tokenKind", refusal.token_kind().to_owned()));
            }
            UnauthorizedCause::Audience { mismatch, .. } => {
                details.push(("tokenKind", "ID token".to_owned()));
                details.push(("acceptedAudiences", mismatch.accepted.join(" ")));
            }
            UnauthorizedCause::Permission { denied, .. } => {
                details.push(("tokenKind", "ID token".to_owned()));
                details.push(("missingPermission", denied.permission.name().to_owned()));
                details.push(("missingRole", denied.role().to_owned()));
                if let Some(member) = &denied.missing_member {
                    details.push(("missingMember", member.clone()));
                }
            }
            _ => {}
        }
        if let Some(claims) = self.claims() {
            details.push(("tokenPrincipal", claims.principal().to_owned()));
            details.push(("tokenAudience", claims.aud.clone()));
            details.push(("tokenIssuer", claims.iss.clone()));
            details.push(("tokenExpiry", claims.exp.to_string()));
        }
        details
    }

    /// One sentence: what to change.
    pub fn fix(&self) -> String {
        match &self.cause {
            UnauthorizedCause::Token(refusal) => refusal.fix().to_owned(),
            UnauthorizedCause::Audience { mismatch, .. } => {
                let near = mismatch.near.as_ref().map(|(_, accepted)| accepted);
                match near.or(mismatch.accepted.first()) {
                    Some(audience) => format!("Ask for a token with the audience {audience}."),
                    None => self.reason().fix().to_owned(),
                }
            }
            UnauthorizedCause::Permission { denied, .. } => {
                denied.fix().unwrap_or_else(|| self.reason().fix().to_owned())
            }
            UnauthorizedCause::NoCredential
            | UnauthorizedCause::EmptyCredential
            | UnauthorizedCause::SeveralValues(_)
            | UnauthorizedCause::NotBearer(_) => self.reason().fix().to_owned(),
        }
    }
}

impl fmt::Display for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.credential.map_or("authorization", Credential::header);
        match &self.cause {
            UnauthorizedCause::NoCredential => f.write_str("the request has no ID token"),
            UnauthorizedCause::EmptyCredential => write!(f, "the header {header} is empty"),
            UnauthorizedCause::SeveralValues(count) => {
                write!(f, "the header {header} is there {count} times")
            }
            UnauthorizedCause::NotBearer(Some(scheme)) => {
                write!(f, "the header {header} has the scheme {scheme}, not Bearer")
            }
            UnauthorizedCause::NotBearer(None) => {
                write!(f, "the header {header} is not `Bearer TOKEN`")
            }
            UnauthorizedCause::Token(refusal) => refusal.fmt(f),
            UnauthorizedCause::Audience { mismatch, .. } => mismatch.fmt(f),
            UnauthorizedCause::Permission { claims, denied } => {
                if denied.missing_member.is_none() {
                    let sub = &claims.sub;
                    write!(f, "the caller with the unique id {sub} is no known account; ")?;
                }
                denied.fmt(f)
            }
        }
    }
}
