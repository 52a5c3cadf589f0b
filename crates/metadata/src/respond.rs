//! The one function that answers a request to the metadata server (cloud-run 1.5).

use crate::certs;
use crate::memory::TokenMemory;
use crate::request::{Flavor, MetadataRequest, Query, Wait, percent_decoded};
use crate::response::{ContentType, MetadataResponse};
use crate::snapshot::Snapshot;
use crate::tree::{Node, Representation};
use id_token::{ComputeEngine, Google};
use names::Reason;
use serde_json::json;
use serverless::pages;
use slice::Workload;
use slice::run::ServiceAccount;

/// Who asks, by the address that the kernel vouches for.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The workload.
    pub workload: &'a Workload,
    /// When it was first seen, in seconds since 1970.
    pub created: u64,
}

/// Answers a request of `caller` (none: the address belongs to no workload) at the time `now`
/// (seconds since 1970), as if it did not wait.
pub fn respond(
    snapshot: &Snapshot,
    caller: Option<Caller<'_>>,
    request: &MetadataRequest<'_>,
    memory: &mut TokenMemory,
    now: u64,
) -> MetadataResponse {
    answer(snapshot, caller, request, memory, now).unwrap_or_else(|refused| *refused)
}

/// Does the request want to wait for a change? Only what [`respond`] answers with an ETag can be
/// waited for.
pub fn wait(request: &MetadataRequest<'_>) -> Option<Wait> {
    Wait::of(&Query::parse(request.query))
}

type Answer = Result<MetadataResponse, Box<MetadataResponse>>;

fn answer(
    snapshot: &Snapshot,
    caller: Option<Caller<'_>>,
    request: &MetadataRequest<'_>,
    memory: &mut TokenMemory,
    now: u64,
) -> Answer {
    let refuse = |status, reason, body: String| {
        Err(Box::new(MetadataResponse::refused(status, reason, body)))
    };
    if !request.host_is_ours {
        let page = pages::robot_not_found(request.path);
        let host = request.host.unwrap_or_default();
        return refuse(404, Reason::MetadataHostNotFound, page)
            .map_err(|refused| Box::new(refused.because(format!("the Host is `{host}`"))));
    }
    let document = certs::document(&snapshot.issuer, request.path);
    if document.is_none() {
        if request.forwarded {
            return refuse(403, Reason::MetadataForwarded, "Forbidden\n".to_owned());
        }
        if request.path.starts_with("/computeMetadata/v1") && request.flavor != Flavor::Google {
            // A wrong value: 403 or 404, sources differ (unconfirmed).
            let text = "Missing required header \"Metadata-Flavor\": \"Google\"\n";
            return refuse(403, Reason::MetadataFlavorMissing, text.to_owned());
        }
    }
    if !matches!(request.method, "GET" | "HEAD") {
        let page = pages::robot_method_not_allowed(request.method, request.path);
        return refuse(405, Reason::MetadataMethodNotAllowed, page);
    }
    if let Some(document) = document {
        return Ok(document);
    }
    let segments: Vec<_> = request
        .path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decoded(segment, false))
        .collect();
    let root = Node::Directory(vec![(
        "computeMetadata",
        Node::Directory(vec![("v1", caller.map_or(Node::Directory(vec![]), |c| snapshot.tree(c)))]),
    )]);
    let inside = segments.len() > 1 && segments[1] == "v1";
    if caller.is_none() && inside {
        return refuse(404, Reason::MetadataCallerUnknown, pages::robot_not_found(request.path));
    }
    let Some(node) = root.find(&segments) else {
        let text = not_found(caller, &segments);
        return refuse(404, Reason::MetadataPathNotFound, pages::robot_not_found(request.path))
            .map_err(|refused| match text {
                Some(text) => {
                    let reason = Some(Reason::ServiceAccountNotFound);
                    Box::new(MetadataResponse { reason, ..refused.because(text) })
                }
                None => refused,
            });
    };
    if node.is_directory() != request.path.ends_with('/') {
        if node.is_directory() {
            return Ok(redirect(request));
        }
        return refuse(404, Reason::MetadataPathNotFound, pages::robot_not_found(request.path));
    }
    // Above v1 there is nothing to ask for but the listing: `GET /` is how clients ping.
    let query = if inside { Query::parse(request.query) } else { Query::default() };
    match (node, caller) {
        (Node::Token, Some(caller)) => access_token(snapshot, caller, &query, memory, now),
        (Node::Identity, Some(caller)) => identity(snapshot, caller, &query, memory, now),
        _ => value(node, &query),
    }
}

/// What is said in the log of an account that the caller does not have.
fn not_found(caller: Option<Caller<'_>>, segments: &[impl AsRef<str>]) -> Option<String> {
    let [_, _, instance, accounts, name, ..] = segments else { return None };
    if instance.as_ref() != "instance" || accounts.as_ref() != "service-accounts" {
        return None;
    }
    let workload = caller?.workload;
    Some(match &workload.service_account {
        None => format!("{} has no service account", workload.name),
        Some(own) if name.as_ref() == "default" || name.as_ref() == own => {
            format!("the topology declares no service account {own}")
        }
        Some(own) => {
            format!("{} has the service account {own}, not {}", workload.name, name.as_ref())
        }
    })
}

/// A directory without its slash.
fn redirect(request: &MetadataRequest<'_>) -> MetadataResponse {
    let query = if request.query.is_empty() { "" } else { "?" };
    let path = request.path;
    let host = request.host.unwrap_or("metadata.google.internal");
    MetadataResponse {
        status: 301,
        location: Some(format!("http://{host}{path}/{query}{}", request.query)),
        ..MetadataResponse::ok(ContentType::Html, format!("{path}/\n"))
    }
}

fn bad_request(text: impl Into<String>) -> Answer {
    let text = text.into();
    let body = format!("{text}\n");
    let refused = MetadataResponse::refused(400, Reason::MetadataParameterInvalid, body);
    Err(Box::new(refused.because(text)))
}

/// A value or a directory, in the representation asked for.
fn value(node: &Node, query: &Query<'_>) -> Answer {
    let recursive = query.is_true("recursive");
    let alt = match query.get("alt") {
        None => None,
        Some("text") => Some(Representation::Text),
        Some("json") => Some(Representation::Json),
        Some(_) => return bad_request("alt must be json or text"),
    };
    if node.is_directory() && !recursive {
        if alt.is_some() {
            return bad_request("alt on a directory requires recursive=true");
        }
        if query.is_true("wait_for_change") {
            return bad_request("wait_for_change on a directory requires recursive=true");
        }
    }
    if let Some(seconds) = query.get("timeout_sec")
        && query.is_true("wait_for_change")
        && seconds.parse::<u64>().is_err()
    {
        return bad_request("timeout_sec must be a number of seconds");
    }
    let etag = Some(node.etag(recursive));
    if node.is_directory() && !recursive {
        let response = MetadataResponse::ok(ContentType::Text, node.listing());
        return Ok(MetadataResponse { etag, ..response });
    }
    let default =
        if node.is_directory() { Representation::Json } else { node.default_representation() };
    let response = match alt.unwrap_or(default) {
        Representation::Text => MetadataResponse::ok(ContentType::Text, node.text()),
        Representation::Json => {
            let json = node.json().map(|value| value.to_string()).unwrap_or_default();
            MetadataResponse::ok(ContentType::Json, json)
        }
    };
    Ok(MetadataResponse { etag, ..response })
}

/// The account of a caller whose tree has one.
fn account<'s>(
    snapshot: &'s Snapshot,
    caller: Caller<'_>,
) -> Result<&'s ServiceAccount, Box<MetadataResponse>> {
    let email = caller.workload.service_account.as_deref();
    email.and_then(|email| snapshot.issuer.account(email)).ok_or_else(|| {
        Box::new(MetadataResponse::refused(
            404,
            Reason::ServiceAccountNotFound,
            pages::robot_not_found("/"),
        ))
    })
}

fn unsigned(error: String) -> Box<MetadataResponse> {
    // Nothing that a caller sent leads here: the key itself is broken.
    let refused =
        MetadataResponse::refused(500, Reason::TokenRequestInvalid, "Internal Server Error\n");
    Box::new(refused.because(error))
}

/// `token[?scopes=a,b]`.
fn access_token(
    snapshot: &Snapshot,
    caller: Caller<'_>,
    query: &Query<'_>,
    memory: &mut TokenMemory,
    now: u64,
) -> Answer {
    let account = account(snapshot, caller)?;
    let scopes: Vec<String> = match query.get("scopes") {
        Some(scopes) if !scopes.is_empty() => {
            scopes.split(',').map(|scope| scope.trim().to_owned()).collect()
        }
        _ => crate::snapshot_tree::scopes(caller.workload),
    };
    let name = format!("access\n{}\n{}", account.email, scopes.join(","));
    let lifetime = id_token::LIFETIME_SECONDS;
    let token = memory
        .token(snapshot.issuer.key_set().fingerprint(), name, now, || {
            snapshot.issuer.access_token(account, scopes, lifetime, now)
        })
        .map_err(unsigned)?;
    // The real one says 3599 of a new token: it was made a moment ago.
    let expires_in = token.expires.saturating_sub(now + 1);
    let body = json!({
        "access_token": token.token, "expires_in": expires_in, "token_type": "Bearer",
    });
    Ok(MetadataResponse::ok(ContentType::Json, body.to_string()))
}

/// `identity?audience=A[&format=standard|full][&licenses=TRUE]`.
fn identity(
    snapshot: &Snapshot,
    caller: Caller<'_>,
    query: &Query<'_>,
    memory: &mut TokenMemory,
    now: u64,
) -> Answer {
    let account = account(snapshot, caller)?;
    let Some(audience) = query.get("audience").filter(|audience| !audience.trim().is_empty())
    else {
        return bad_request("non-empty audience parameter required");
    };
    let full = match query.get("format") {
        None => false,
        Some(format) if format.eq_ignore_ascii_case("standard") => false,
        Some(format) if format.eq_ignore_ascii_case("full") => true,
        Some(_) => return bad_request("format must be standard or full"),
    };
    let licenses = match query.get("licenses") {
        None => false,
        Some(licenses) if licenses.eq_ignore_ascii_case("false") => false,
        Some(licenses) if licenses.eq_ignore_ascii_case("true") => true,
        Some(_) => return bad_request("licenses must be TRUE or FALSE"),
    };
    let workload = caller.workload;
    // Cloud Run's full format has no claim `google` (1.5 (unconfirmed)).
    let google = (full && !workload.serverless).then(|| google(caller, licenses));
    let name = format!(
        "identity\n{}\n{}\n{full}{licenses}\n{audience}",
        account.email,
        google.as_ref().map_or("", |google| &google.compute_engine.instance_id),
    );
    let token = memory
        .token(snapshot.issuer.key_set().fingerprint(), name, now, || {
            snapshot.issuer.id_token(account, audience, full, google, now)
        })
        .map_err(unsigned)?;
    Ok(MetadataResponse::ok(ContentType::Html, token.token))
}

fn google(caller: Caller<'_>, licenses: bool) -> Google {
    let workload = caller.workload;
    Google {
        compute_engine: ComputeEngine {
            instance_creation_timestamp: caller.created,
            instance_id: workload.instance_id.clone(),
            instance_name: crate::snapshot_tree::instance_name(workload).to_owned(),
            // No workload here boots from a licensed image.
            license_id: licenses.then(Vec::new),
            project_id: workload.project.clone(),
            project_number: workload.project_number,
            zone: workload.zone.clone(),
        },
    }
}
