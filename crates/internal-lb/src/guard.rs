//! The security policy of a backend service, asked before the backend is (cloud-run 6.2).

use crate::InternalLb;
use crate::compile::{Front, Service};
use crate::respond::{self, Failure};
use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http_proxy::ConnectionInfo;
use names::Reason;
use runtime::Worker;
use runtime::log;
use security_policy::{Counted, Decision, Policy, Request, Rule, Verdict};
use std::net::SocketAddrV4;

/// What the policy has said.
pub struct Guarded<'s> {
    /// What to do.
    pub answer: Answer<'s>,
    /// For the log: `enforcedSecurityPolicy` and `previewSecurityPolicy`, as JSON behind a comma.
    pub entry: Box<str>,
}

/// What to do.
pub enum Answer<'s> {
    /// Go on, with these fields more.
    Pass(&'s [(HeaderName, HeaderValue)]),
    /// Answer with an error.
    Deny(Failure, String),
    /// Answer with 302.
    Redirect(&'s str, Reason),
}

/// Asks the policy of a backend service; none: it has none.
pub fn ask<'s>(
    worker: &Worker<InternalLb>,
    service: &'s Service,
    front: &Front,
    (client, info): (SocketAddrV4, &ConnectionInfo),
    host: &str,
    parts: &Parts,
) -> Option<Guarded<'s>> {
    let policy = service.policy.as_deref()?;
    let request =
        request(front, (client, info), host, &parts.uri, parts.method.as_str(), &parts.headers);
    let program = &worker.program;
    let now = program.started.elapsed();
    let decision = policy.decide(&request, service.link.as_str(), &program.limits, now);
    let answer = match (decision.verdict, decision.reason()) {
        (Verdict::Allow(headers), _) => Answer::Pass(headers),
        (Verdict::Deny(status), reason) => {
            let reason = reason.unwrap_or(Reason::DeniedBySecurityPolicy);
            Answer::Deny(respond::denied(reason, status), decision.detail(policy))
        }
        (Verdict::Redirect(target), reason) => {
            Answer::Redirect(target, reason.unwrap_or(Reason::RedirectedBySecurityPolicy))
        }
    };
    Some(Guarded { answer, entry: entry(policy, &decision).into() })
}

fn request<'r>(
    front: &Front,
    (client, info): (SocketAddrV4, &'r ConnectionInfo),
    host: &'r str,
    uri: &'r Uri,
    method: &'r str,
    headers: &'r HeaderMap,
) -> Request<'r> {
    Request {
        client: (*client.ip()).into(),
        method,
        scheme: if front.tls.is_some() { "https" } else { "http" },
        host,
        path: match uri.path() {
            "" => "/",
            path => path,
        },
        query: uri.query().unwrap_or_default(),
        headers,
        sni: info.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
    }
}

/// The field list is (unconfirmed).
fn entry(policy: &Policy, decision: &Decision<'_>) -> String {
    let mut text = Vec::with_capacity(160);
    if let Some(rule) = decision.rule {
        let counted = decision.counted.as_ref();
        member("enforcedSecurityPolicy", policy, rule, &decision.verdict, counted, &mut text);
    }
    if let Some(preview) = &decision.preview {
        let counted = preview.counted.as_ref();
        member("previewSecurityPolicy", policy, preview.rule, &preview.verdict, counted, &mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn member(
    key: &str,
    policy: &Policy,
    rule: &Rule,
    verdict: &Verdict<'_>,
    counted: Option<&Counted>,
    text: &mut Vec<u8>,
) {
    let mut put = |part: &str| text.extend_from_slice(part.as_bytes());
    put(",\"");
    put(key);
    put("\":{\"name\":\"");
    put(policy.link().name());
    put("\",\"priority\":");
    put(&rule.priority.to_string());
    put(",\"configuredAction\":\"");
    put(rule.action.configured());
    put("\",\"outcome\":\"");
    put(verdict.outcome());
    put("\"");
    if let Some(counted) = counted {
        put(",\"rateLimitAction\":{\"key\":\"");
        log::escape(&counted.key, text);
        text.extend_from_slice(b"\",\"outcome\":\"");
        text.extend_from_slice(counted.outcome.logged().as_bytes());
        text.extend_from_slice(b"\"}");
    }
    text.push(b'}');
}
