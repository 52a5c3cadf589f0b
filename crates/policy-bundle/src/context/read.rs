//! Reading fields of messages and what the runtime knows (6).

use super::{Context, FlowPhase};
use crate::civil;
use crate::message::{Message, MessageKind, Query};
use crate::value::Value;
use crate::variable::{Builtin, Field, Part, TimeField};
use http::HeaderName;
use std::borrow::Cow;

impl Context {
    pub(super) fn field<'a>(
        &'a self,
        message: &'a Message,
        field: &'a Field,
        is_request: bool,
    ) -> Option<Value<'a>> {
        let request_only = message.kind == MessageKind::Request;
        Some(match field {
            Field::Whole => Value::Message,
            Field::Content => Value::Text(message.text()?),
            Field::Verb if request_only => Value::text(message.method.as_str()),
            Field::Version => Value::text(&message.version),
            Field::Path | Field::Uri | Field::QueryString if request_only => {
                self.path_field(message, field, is_request)
            }
            Field::StatusCode if !request_only => Value::Integer(i64::from(message.status)),
            Field::ReasonPhrase if !request_only => match &message.reason {
                Some(reason) => Value::text(reason),
                None => Value::text(crate::fault::default_phrase(message.status)),
            },
            Field::Header(name, part) => header(message, name, *part)?,
            Field::HeadersCount => Value::Integer(message.headers.keys_len() as i64),
            Field::HeaderNames => {
                Value::Collection(message.headers.keys().map(|name| name.to_string()).collect())
            }
            Field::QueryParam(name, part) if request_only => params(&message.query, name, *part)?,
            Field::QueryParamsCount if request_only => Value::Integer(message.query.len() as i64),
            Field::QueryParamNames if request_only => Value::Collection(message.query.names()),
            Field::FormParam(name, part) => owned_params(&message.form()?, name, *part)?,
            Field::FormParamsCount => Value::Integer(message.form()?.len() as i64),
            Field::FormParamNames => Value::Collection(message.form()?.names()),
            Field::FormString => Value::owned(message.form()?.to_string()),
            _ => return None,
        })
    }

    /// From the target request on, `request.uri` and its parts are those sent to the target (2.2).
    fn path_field<'a>(
        &'a self,
        message: &'a Message,
        field: &Field,
        is_request: bool,
    ) -> Value<'a> {
        let towards_target = is_request && self.phase > FlowPhase::ProxyRequest;
        let target = if towards_target { self.target_path_and_query() } else { None };
        let (path, query) = match target {
            Some((path, query)) => (Cow::Owned(path), query),
            None => (Cow::Borrowed(message.path.as_str()), message.query.to_string()),
        };
        match field {
            Field::Path => Value::Text(path),
            Field::QueryString => Value::owned(query),
            _ if query.is_empty() => Value::Text(path),
            _ => Value::owned(format!("{path}?{query}")),
        }
    }

    pub(super) fn builtin(&self, builtin: Builtin, name: &str) -> Option<Value<'_>> {
        use Builtin as B;
        let facts = &*self.facts;
        Some(match builtin {
            B::ApiProxyBasePath | B::ProxyBasePath => Value::text(&self.base_path),
            B::ApiProxyName => Value::text(&facts.api_proxy),
            B::ApiProxyRevision => Value::text(&facts.revision),
            B::ClientHost => Value::text(self.host.split(':').next().unwrap_or_default()),
            B::ClientIp | B::ClientResolvedIp | B::ProxyClientIp => {
                Value::owned(self.client.ip.to_string())
            }
            B::ClientPort => Value::Integer(i64::from(self.client.port)),
            B::ClientScheme => Value::text(self.scheme()),
            B::ClientSslEnabled => Value::text(if self.client.tls { "true" } else { "false" }),
            B::CurrentFlowName | B::ProxyFlowName if self.flow_name.is_empty() => return None,
            B::CurrentFlowName => Value::text(&self.flow_name),
            B::ProxyFlowName if self.target_phase() => return None,
            B::ProxyFlowName => Value::text(&self.flow_name),
            B::TargetFlowName if self.target_phase() => Value::text(&self.flow_name),
            B::TargetFlowName => return None,
            B::CurrentFlowDescription if self.flow_description.is_empty() => return None,
            B::CurrentFlowDescription => Value::text(&self.flow_description),
            B::EnvironmentName => Value::text(&facts.environment),
            B::OrganizationName => Value::text(&facts.organization),
            B::ErrorClass | B::ErrorMessage | B::ErrorState | B::ErrorType => {
                return self.error_variable(builtin);
            }
            B::FaultName => Value::text(self.fault.as_ref()?.name()),
            B::FaultCategory | B::FaultSubcategory => {
                // The values of fault.category are not documented; the source is what helps
                // (unconfirmed).
                Value::text(match self.fault.as_ref()?.source {
                    crate::fault::FaultSource::Policy => "Step",
                    crate::fault::FaultSource::Proxy => "Messaging",
                    _ => "Target",
                })
            }
            B::FaultReason => Value::text(&self.fault.as_ref()?.text),
            B::IsError => Value::Boolean(self.in_fault),
            B::MessageId => Value::text(&self.message_id),
            B::ProxyName => Value::text(&self.proxy_endpoint),
            B::ProxyPathSuffix => Value::text(&self.path_suffix),
            B::ProxyUrl => {
                Value::owned(format!("{}://{}{}", self.scheme(), self.host, self.client_uri))
            }
            B::RequestUrl => Value::text(self.target.as_ref()?.sent_url.as_deref()?),
            B::RouteName => Value::text(self.route_name.as_deref()?),
            B::RouteTarget => Value::text(&self.target.as_ref()?.endpoint_name),
            B::SystemInterface => return None,
            B::SystemPodName => Value::text("api-proxy"),
            B::SystemRegionName => Value::text(&facts.region),
            B::SystemTime => Value::owned(civil::system_time(self.now)),
            B::SystemTimeField(field) => system_time_field(self.now, field),
            B::SystemTimestamp => Value::Long(self.now),
            B::SystemUuid => Value::owned(uuid(self.entropy)),
            B::Moment(moment, text) => {
                let at = self.moment(moment)?;
                if text { Value::owned(civil::system_time(at)) } else { Value::Long(at) }
            }
            B::TargetBasePath
            | B::TargetCopyPathSuffix
            | B::TargetCopyQueryParams
            | B::TargetExpectedCn
            | B::TargetHost
            | B::TargetIp
            | B::TargetName
            | B::TargetPort
            | B::TargetScheme
            | B::TargetSslEnabled
            | B::TargetUrl => return self.target_variable(builtin, name),
        })
    }

    fn error_variable(&self, builtin: Builtin) -> Option<Value<'_>> {
        let fault = self.fault.as_ref().filter(|_| self.in_fault)?;
        Some(match builtin {
            Builtin::ErrorMessage => Value::text(&fault.text),
            Builtin::ErrorState => Value::text(self.phase.name()),
            Builtin::ErrorType => Value::text("ErrorMessage"),
            // Measured for a target that answered an error (3.4); null for others.
            _ => match fault.source {
                crate::fault::FaultSource::TargetAnswer => {
                    Value::text("com.apigee.errors.http.server.BadGateway")
                }
                _ => return None,
            },
        })
    }

    fn scheme(&self) -> &'static str {
        if self.client.tls { "https" } else { "http" }
    }

    fn target_phase(&self) -> bool {
        matches!(self.phase, FlowPhase::TargetRequest | FlowPhase::TargetResponse)
    }
}

fn header<'a>(message: &'a Message, name: &'a HeaderName, part: Part) -> Option<Value<'a>> {
    Some(match part {
        Part::First => Value::Text(message.header_first(name)?),
        Part::Count => Value::Integer(message.header_values(name).len() as i64),
        Part::Values | Part::Nth(_) | Part::Line if !message.headers.contains_key(name) => {
            return None;
        }
        Part::Values => Value::Collection(
            message.header_values(name).into_iter().map(Cow::into_owned).collect(),
        ),
        Part::Nth(index) => {
            Value::Text(message.header_values(name).into_iter().nth(index.checked_sub(1)?)?)
        }
        Part::Line => {
            let lines: Vec<_> = message
                .headers
                .get_all(name)
                .iter()
                .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
                .collect();
            Value::owned(lines.join(","))
        }
    })
}

fn params<'a>(query: &'a Query, name: &'a str, part: Part) -> Option<Value<'a>> {
    let mut values = query.values(name);
    Some(match part {
        Part::First => Value::Text(values.next()?),
        Part::Nth(index) => Value::Text(values.nth(index.checked_sub(1)?)?),
        Part::Count => Value::Integer(values.count() as i64),
        Part::Values | Part::Line => {
            let all: Vec<String> = values.map(Cow::into_owned).collect();
            if all.is_empty() {
                return None;
            }
            Value::Collection(all)
        }
    })
}

fn owned_params(form: &Query, name: &str, part: Part) -> Option<Value<'static>> {
    params(form, name, part).map(Value::into_owned)
}

fn system_time_field(now: i64, field: TimeField) -> Value<'static> {
    let at = civil::Civil::of(now);
    let number = match field {
        TimeField::Year => at.year,
        TimeField::Month => i64::from(at.month),
        TimeField::Day => i64::from(at.day),
        // Java's Calendar counts from Sunday = 1.
        TimeField::DayOfWeek => i64::from(at.weekday) + 1,
        TimeField::Hour => i64::from(at.hour),
        TimeField::Minute => i64::from(at.minute),
        TimeField::Second => i64::from(at.second),
        TimeField::Millisecond => i64::from(at.millisecond),
        TimeField::Zone => return Value::text("UTC"),
    };
    Value::Integer(number)
}

/// A random UUID (version 4).
pub(crate) fn uuid(entropy: fn() -> u64) -> String {
    let high = entropy();
    let low = entropy();
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
