//! What the rules and defaults of a URL map lead to: destination and route action
//! (private-connectivity 2.6).

use super::Lowering;
use super::rules::same_region;
use crate::decode::{At, Number, Text};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::backends::{BackendService, NetworkEndpointType, SessionAffinity};
use crate::fields::url_maps::{
    CorsPolicy, Duration, FaultInjectionPolicy, HeaderAction, RedirectResponseCode,
    RequestMirrorPolicy, RetryCondition, RetryPolicy, RouteAction, UrlMap, UrlRedirect, UrlRewrite,
};
use crate::model::Item;
use slice::load_balancer as lb;
use std::time;
use url_map::PathTemplate;

/// The fields of a rule or a default that say where it leads.
pub(crate) struct Lead<'r> {
    pub at: Mark,
    /// A field could not be read: absences mean nothing.
    pub faulty: bool,
    pub service: Option<&'r Text>,
    pub redirect: Option<&'r UrlRedirect>,
    pub action: Option<&'r RouteAction>,
    /// How `service` is called here.
    pub field: &'static str,
    /// The path templates of all match rules; empty where one has none.
    pub templates: &'r [&'r PathTemplate],
}

impl Lowering<'_> {
    /// Exactly one of service, redirect and weighted backend services (2.2).
    pub(crate) fn route(
        &self,
        item: &Item<UrlMap>,
        lead: &Lead<'_>,
        findings: &mut Findings,
    ) -> Option<lb::Route> {
        let weighted = lead.action.is_some_and(|one| !one.weighted_backend_services.is_empty());
        let mut conflict = |at, what: &str| {
            let what = format!("{what} stand in one place; only one of the two is taken");
            findings.error(Code::ConflictingFields, at, what, "remove one of the two");
        };
        let to = match (lead.service, lead.redirect, lead.action) {
            (Some(service), Some(_), _) => {
                conflict(service.at, "a service and a redirect");
                return None;
            }
            (_, Some(_), Some(action)) => {
                conflict(action.at, "urlRedirect and routeAction");
                return None;
            }
            (Some(service), None, _) if weighted => {
                conflict(service.at, "a service and weightedBackendServices");
                return None;
            }
            (Some(service), None, _) => {
                let backend = self.backend_of(item, service, findings)?;
                lb::Destination::Service(backend.link.clone())
            }
            (None, Some(raw), None) => lb::Destination::UrlRedirect(redirect_of(raw, findings)?),
            (None, None, Some(action)) if weighted => {
                lb::Destination::Weighted(self.weighted(item, action, findings)?)
            }
            (None, None, action) => {
                if !lead.faulty && !action.is_some_and(|action| action.faulty) {
                    let field = lead.field;
                    findings.error(
                        Code::MissingField,
                        lead.at,
                        format!(
                            "`{field}` is missing; requests that come here would have nowhere to go"
                        ),
                        format!("add `{field}`"),
                    );
                }
                return None;
            }
        };
        let action = lead.action.and_then(|raw| {
            let action = self.route_action(item, raw, lead.templates, findings);
            (action != lb::RouteAction::default()).then(|| Box::new(action))
        });
        Some(lb::Route { to, action })
    }

    fn backend_of(
        &self,
        item: &Item<UrlMap>,
        service: &Text,
        findings: &mut Findings,
    ) -> Option<&Item<BackendService>> {
        let stores = &self.model.backend_services;
        let backend = self.model.find(stores, service, &item.scope(), findings)?;
        same_region(item, backend, service, findings);
        self.backend_service_usable(backend, service, findings);
        Some(backend)
    }

    fn weighted(
        &self,
        item: &Item<UrlMap>,
        action: &RouteAction,
        findings: &mut Findings,
    ) -> Option<Vec<lb::WeightedBackendService>> {
        let all = &action.weighted_backend_services;
        let mut entries = Vec::with_capacity(all.len());
        let mut sum = 0;
        for one in all {
            let weight = one.weight.map_or(0, |weight| weight.0.unsigned_abs() as u32);
            sum += weight;
            let header_action = header_action(one.header_action.as_ref(), findings);
            let backend = self.backend_of(item, &one.backend_service, findings);
            let bound = backend.and_then(|backend| backend.raw.session_affinity.as_ref());
            if all.len() > 1 && bound.is_some_and(|bound| bound.value != SessionAffinity::None) {
                findings.warning(
                    Code::NoEffect,
                    one.backend_service.at,
                    format!("`{}` has a session affinity, which does not go with weights: each request is spread by weight first", one.backend_service.value),
                    "route by header, or drop the affinity",
                );
            }
            entries.extend(backend.map(|backend| lb::WeightedBackendService {
                backend_service: backend.link.clone(),
                weight,
                header_action,
            }));
        }
        if sum == 0 && !action.faulty {
            findings.error(
                Code::RouteAction,
                action.at,
                "every weight is zero; requests that come here would have nowhere to go",
                "give at least one backend service a weight of 1 to 1000",
            );
            return None;
        }
        (!entries.is_empty()).then_some(entries)
    }

    fn route_action(
        &self,
        item: &Item<UrlMap>,
        raw: &RouteAction,
        templates: &[&PathTemplate],
        findings: &mut Findings,
    ) -> lb::RouteAction {
        let mirror = raw.request_mirror_policy.as_ref();
        lb::RouteAction {
            url_rewrite: raw
                .url_rewrite
                .as_ref()
                .and_then(|raw| url_rewrite(raw, templates, findings)),
            timeout: raw.timeout.as_ref().map(|raw| positive(raw, "timeout", findings)),
            retry_policy: raw.retry_policy.as_ref().map(|raw| retry_policy(raw, findings)),
            request_mirror_policy: mirror.and_then(|raw| self.mirror(item, raw, findings)),
            cors_policy: raw.cors_policy.as_ref().map(|raw| cors_policy(raw, findings)),
            fault_injection_policy: raw
                .fault_injection_policy
                .as_ref()
                .map(|raw| fault_injection(raw, findings)),
        }
    }

    /// "Serverless NEG cannot be a mirror target" (2.6).
    fn mirror(
        &self,
        item: &Item<UrlMap>,
        raw: &RequestMirrorPolicy,
        findings: &mut Findings,
    ) -> Option<lb::RequestMirrorPolicy> {
        let backend = self.backend_of(item, &raw.backend_service, findings)?;
        let model = self.model;
        let serverless = backend.raw.backends.iter().any(|one| {
            let scope = backend.scope();
            let group = model.seek(&model.network_endpoint_groups, &one.group, &scope);
            group.is_ok_and(|group| {
                group.raw.network_endpoint_type.value == NetworkEndpointType::Serverless
            })
        });
        if serverless {
            findings.error(
                Code::ServerlessBackend,
                raw.backend_service.at,
                format!(
                    "`{}` has a serverless group; requests cannot be mirrored to it",
                    backend.name()
                ),
                "mirror to a backend service with zonal or hybrid groups",
            );
        }
        Some(lb::RequestMirrorPolicy {
            backend_service: backend.link.clone(),
            mirror_percent: raw
                .mirror_percent
                .as_ref()
                .map_or(100.0, |percent| percentage(percent, findings)),
        })
    }
}

pub(crate) fn duration(raw: &Duration) -> time::Duration {
    let seconds = raw.seconds.map_or(0, |seconds| seconds.0.unsigned_abs());
    let nanos = raw.nanos.map_or(0, |nanos| nanos.0.unsigned_abs() as u32);
    time::Duration::new(seconds, nanos)
}

/// A duration that a zero would make pointless.
pub(crate) fn positive(raw: &Duration, what: &str, findings: &mut Findings) -> time::Duration {
    let length = duration(raw);
    if length.is_zero() && !raw.faulty {
        findings.error(
            Code::InvalidValue,
            raw.at,
            format!("`{what}` is zero"),
            format!("write a longer one, such as `{what}: {{seconds: 1}}`, or remove it"),
        );
    }
    length
}

fn percentage(raw: &At<Number>, findings: &mut Findings) -> f64 {
    if raw.value.0 > 100.0 {
        findings.error(
            Code::InvalidValue,
            raw.at,
            format!("{} is no percentage; it goes from 0.0 to 100.0", raw.value.0),
            "write a number from 0.0 to 100.0",
        );
    }
    raw.value.0
}

fn texts(all: &[Text]) -> Vec<String> {
    all.iter().map(|text| text.value.clone()).collect()
}

fn url_rewrite(
    raw: &UrlRewrite,
    templates: &[&PathTemplate],
    findings: &mut Findings,
) -> Option<lb::UrlRewrite> {
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    let rewrite = lb::UrlRewrite {
        host_rewrite: text(&raw.host_rewrite),
        path_prefix_rewrite: text(&raw.path_prefix_rewrite),
        path_template_rewrite: text(&raw.path_template_rewrite),
        regex_rewrite: raw.regex_rewrite.as_ref().map(|raw| lb::RegexRewrite {
            path_pattern: raw.path_pattern.value.clone(),
            path_substitution: raw.path_substitution.value.clone(),
        }),
    };
    if let Err(why) = url_map::UrlRewrite::parse(&rewrite, templates) {
        let fix = "correct it, or remove it";
        findings.error(Code::RouteAction, raw.at, format!("urlRewrite: {why}"), fix);
        return None;
    }
    Some(rewrite)
}

fn retry_policy(raw: &RetryPolicy, findings: &mut Findings) -> lb::RetryPolicy {
    let day = time::Duration::from_secs(24 * 60 * 60);
    if let Some(timeout) = raw.per_try_timeout.as_ref().filter(|raw| duration(raw) > day) {
        findings.error(
            Code::InvalidValue,
            timeout.at,
            "perTryTimeout is more than 24 hours",
            "write a shorter time",
        );
    }
    if raw.retry_conditions.is_empty() && !raw.faulty {
        findings.warning(
            Code::NoEffect,
            raw.at,
            "the retry policy has no condition; nothing is retried, not even what would be without it",
            "add retryConditions: [5xx], or remove the policy",
        );
    }
    let condition = |raw: &RetryCondition| match raw {
        RetryCondition::ServerError => lb::RetryCondition::ServerError,
        RetryCondition::GatewayError => lb::RetryCondition::GatewayError,
        RetryCondition::ConnectFailure => lb::RetryCondition::ConnectFailure,
        RetryCondition::Retriable4xx => lb::RetryCondition::Retriable4xx,
        RetryCondition::RefusedStream => lb::RetryCondition::RefusedStream,
        RetryCondition::Cancelled => lb::RetryCondition::Cancelled,
        RetryCondition::DeadlineExceeded => lb::RetryCondition::DeadlineExceeded,
        RetryCondition::Internal => lb::RetryCondition::Internal,
        RetryCondition::ResourceExhausted => lb::RetryCondition::ResourceExhausted,
        RetryCondition::Unavailable => lb::RetryCondition::Unavailable,
    };
    lb::RetryPolicy {
        num_retries: raw.num_retries.map_or(1, |count| count.0.unsigned_abs() as u32),
        per_try_timeout: raw
            .per_try_timeout
            .as_ref()
            .map(|raw| positive(raw, "perTryTimeout", findings)),
        retry_conditions: raw.retry_conditions.iter().map(condition).collect(),
    }
}

fn cors_policy(raw: &CorsPolicy, findings: &mut Findings) -> lb::CorsPolicy {
    let policy = lb::CorsPolicy {
        allow_origins: texts(&raw.allow_origins),
        allow_origin_regexes: Vec::new(),
        allow_methods: texts(&raw.allow_methods),
        allow_headers: texts(&raw.allow_headers),
        expose_headers: texts(&raw.expose_headers),
        max_age: raw.max_age.and_then(|seconds| i32::try_from(seconds.0).ok()),
        allow_credentials: raw.allow_credentials.unwrap_or(false),
        disabled: raw.disabled.unwrap_or(false),
    };
    if let Err(why) = url_map::CorsPolicy::parse(&policy) {
        let fix = "write header names and methods";
        findings.error(Code::RouteAction, raw.at, format!("corsPolicy: {why}"), fix);
    }
    policy
}

fn fault_injection(
    raw: &FaultInjectionPolicy,
    findings: &mut Findings,
) -> lb::FaultInjectionPolicy {
    lb::FaultInjectionPolicy {
        delay: raw.delay.as_ref().map(|raw| lb::FaultDelay {
            fixed_delay: duration(&raw.fixed_delay),
            percentage: percentage(&raw.percentage, findings),
        }),
        abort: raw.abort.as_ref().map(|raw| lb::FaultAbort {
            http_status: u16::try_from(raw.http_status.0).unwrap_or(503),
            percentage: percentage(&raw.percentage, findings),
        }),
    }
}

/// Is there a `{variable}` in a header's value?
fn holds_variable(value: &str) -> bool {
    value.split_once('{').is_some_and(|(_, rest)| rest.contains('}'))
}

pub(crate) fn header_action(
    raw: Option<&HeaderAction>,
    findings: &mut Findings,
) -> lb::HeaderAction {
    let Some(raw) = raw else { return lb::HeaderAction::default() };
    let option = |raw: &crate::fields::url_maps::HeaderOption| lb::HeaderOption {
        header_name: raw.header_name.value.clone(),
        header_value: raw.header_value.value.clone(),
        // "Defaults to true, except when the value holds a {variable}" (0, trap 12).
        replace: raw.replace.unwrap_or(!holds_variable(&raw.header_value)),
    };
    let adds = raw.request_headers_to_add.iter().chain(&raw.response_headers_to_add);
    for one in adds {
        if holds_variable(&one.header_value) {
            findings.warning(
                Code::NotYetHonoured,
                one.header_value.at,
                "variables of header actions are not filled in; the value is sent as it is written",
                "use customRequestHeaders of the backend service, which fill them in",
            );
        }
        let alone = lb::HeaderAction {
            request_headers_to_add: vec![option(one)],
            ..lb::HeaderAction::default()
        };
        if let Err(why) = url_map::HeaderAction::parse(&alone) {
            let fix = "write a header of your own";
            findings.error(Code::HeaderAction, one.at, why.to_string(), fix);
        }
    }
    for name in raw.request_headers_to_remove.iter().chain(&raw.response_headers_to_remove) {
        if let Err(why) = url_map::action_header(name) {
            findings.error(Code::HeaderAction, name.at, why.to_string(), "remove the name");
        }
    }
    lb::HeaderAction {
        request_headers_to_add: raw.request_headers_to_add.iter().map(option).collect(),
        request_headers_to_remove: texts(&raw.request_headers_to_remove),
        response_headers_to_add: raw.response_headers_to_add.iter().map(option).collect(),
        response_headers_to_remove: texts(&raw.response_headers_to_remove),
    }
}

fn redirect_of(raw: &UrlRedirect, findings: &mut Findings) -> Option<lb::UrlRedirect> {
    if let (Some(path), Some(_)) = (&raw.path_redirect, &raw.prefix_redirect) {
        findings.error(
            Code::UrlRedirect,
            path.at,
            "pathRedirect and prefixRedirect stand together; only one of the two is taken",
            "remove one of the two",
        );
        return None;
    }
    for text in [&raw.host_redirect, &raw.path_redirect, &raw.prefix_redirect].into_iter().flatten()
    {
        if let Err(c) = url_map::redirect_text(text) {
            findings.error(
                Code::UrlRedirect,
                text.at,
                format!("`{}` has the character {c:?}, which cannot stand in a URL", text.value),
                "write it percent-encoded",
            );
        }
    }
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    Some(lb::UrlRedirect {
        https_redirect: raw.https_redirect.as_ref().is_some_and(|redirect| redirect.value),
        host_redirect: text(&raw.host_redirect),
        path_redirect: text(&raw.path_redirect),
        prefix_redirect: text(&raw.prefix_redirect),
        strip_query: raw.strip_query.unwrap_or(false),
        status: match raw.redirect_response_code {
            None | Some(RedirectResponseCode::MovedPermanently) => 301,
            Some(RedirectResponseCode::Found) => 302,
            Some(RedirectResponseCode::SeeOther) => 303,
            Some(RedirectResponseCode::TemporaryRedirect) => 307,
            Some(RedirectResponseCode::PermanentRedirect) => 308,
        },
    })
}
