//! Names of flow variables (6), parsed once when the bundle is loaded.

use http::HeaderName;
use std::fmt;
use std::sync::Arc;

/// A flow variable by name, with what the runtime knows about the name.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    name: Arc<str>,
    pub(crate) known: Known,
}

impl Variable {
    /// The variable of this name; every text is some name.
    pub fn parse(name: &str) -> Variable {
        Variable { name: name.into(), known: known(name) }
    }

    /// The name as written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name, shared.
    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// Does reading it need a payload, and of which messages?
    pub(crate) fn payload_of(&self) -> Option<&Which> {
        match &self.known {
            Known::Field(
                which,
                Field::Content
                | Field::Whole
                | Field::FormParam(..)
                | Field::FormParamNames
                | Field::FormParamsCount
                | Field::FormString,
            ) => Some(which),
            _ => None,
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a name means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    /// A part of a message.
    Field(Which, Field),
    /// Something that the runtime knows.
    Builtin(Builtin),
    /// `propertyset.FILE.KEY`.
    PropertySet,
    /// Anything else: what policies set.
    Other,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Request,
    Response,
    /// The phase's own.
    Message,
    Error,
    /// Made by a policy; the name may as well be that of a plain variable.
    Custom(Arc<str>),
}

impl Which {
    /// The message of this name.
    pub fn parse(name: &str) -> Which {
        match name {
            "request" => Which::Request,
            "response" => Which::Response,
            "message" => Which::Message,
            "error" => Which::Error,
            other => Which::Custom(other.into()),
        }
    }
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Whole,
    Content,
    Verb,
    Version,
    Uri,
    Path,
    QueryString,
    StatusCode,
    ReasonPhrase,
    Header(HeaderName, Part),
    HeadersCount,
    HeaderNames,
    QueryParam(Arc<str>, Part),
    QueryParamsCount,
    QueryParamNames,
    FormParam(Arc<str>, Part),
    FormParamsCount,
    FormParamNames,
    FormString,
}

/// Which of several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    First,
    /// From 1.
    Nth(usize),
    Values,
    Count,
    /// The whole line.
    Line,
}

/// What the runtime knows. Read only except where [`Builtin::writable`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    ApiProxyBasePath,
    ApiProxyName,
    ApiProxyRevision,
    ClientHost,
    ClientIp,
    ClientPort,
    ClientResolvedIp,
    ClientScheme,
    ClientSslEnabled,
    CurrentFlowDescription,
    CurrentFlowName,
    EnvironmentName,
    ErrorClass,
    ErrorMessage,
    ErrorState,
    ErrorType,
    FaultCategory,
    FaultName,
    FaultReason,
    FaultSubcategory,
    IsError,
    MessageId,
    OrganizationName,
    ProxyBasePath,
    ProxyClientIp,
    ProxyFlowName,
    ProxyName,
    ProxyPathSuffix,
    ProxyUrl,
    RequestUrl,
    RouteName,
    RouteTarget,
    SystemInterface,
    SystemPodName,
    SystemRegionName,
    SystemTime,
    SystemTimeField(TimeField),
    SystemTimestamp,
    SystemUuid,
    TargetBasePath,
    TargetCopyPathSuffix,
    TargetCopyQueryParams,
    TargetExpectedCn,
    TargetFlowName,
    TargetHost,
    TargetIp,
    TargetName,
    TargetPort,
    TargetScheme,
    TargetSslEnabled,
    TargetUrl,
    Moment(Moment, bool),
}

impl Builtin {
    /// May policies write it?
    pub fn writable(self) -> bool {
        matches!(
            self,
            Builtin::TargetUrl | Builtin::TargetCopyPathSuffix | Builtin::TargetCopyQueryParams
        )
    }
}

/// A moment that `….timestamp` (milliseconds) and `….time` (text) name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    ClientReceivedStart,
    ClientReceivedEnd,
    ClientSentStart,
    ClientSentEnd,
    TargetSentStart,
    TargetSentEnd,
    TargetReceivedStart,
    TargetReceivedEnd,
}

/// `system.time.F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeField {
    Year,
    Month,
    Day,
    DayOfWeek,
    Hour,
    Minute,
    Second,
    Millisecond,
    Zone,
}

fn known(name: &str) -> Known {
    if let Some(builtin) = builtin(name) {
        return Known::Builtin(builtin);
    }
    if name.starts_with("propertyset.") {
        return Known::PropertySet;
    }
    for which in ["request", "response", "message", "error"] {
        match name.strip_prefix(which) {
            Some("") => return Known::Field(Which::parse(which), Field::Whole),
            Some(rest) => {
                if let Some(field) = rest.strip_prefix('.').and_then(field) {
                    return Known::Field(Which::parse(which), field);
                }
            }
            None => {}
        }
    }
    // A message that a policy made: the part before the first suffix that is a field.
    for (dot, _) in name.match_indices('.') {
        if dot > 0
            && let Some(field) = field(&name[dot + 1..])
        {
            return Known::Field(Which::Custom(name[..dot].into()), field);
        }
    }
    Known::Other
}

fn field(text: &str) -> Option<Field> {
    Some(match text {
        "content" => Field::Content,
        "verb" => Field::Verb,
        "version" => Field::Version,
        "uri" => Field::Uri,
        "path" => Field::Path,
        "querystring" => Field::QueryString,
        "status.code" => Field::StatusCode,
        "reason.phrase" => Field::ReasonPhrase,
        "headers.count" => Field::HeadersCount,
        "headers.names" => Field::HeaderNames,
        "queryparams.count" => Field::QueryParamsCount,
        "queryparams.names" => Field::QueryParamNames,
        "formparams.count" => Field::FormParamsCount,
        "formparams.names" => Field::FormParamNames,
        "formstring" => Field::FormString,
        _ => {
            if let Some(rest) = text.strip_prefix("header.") {
                let (name, part) = part(rest)?;
                Field::Header(HeaderName::from_bytes(name.as_bytes()).ok()?, part)
            } else if let Some(rest) = text.strip_prefix("queryparam.") {
                let (name, part) = part(rest)?;
                Field::QueryParam(name.into(), part)
            } else if let Some(rest) = text.strip_prefix("formparam.") {
                let (name, part) = part(rest)?;
                Field::FormParam(name.into(), part)
            } else {
                return None;
            }
        }
    })
}

/// Splits `NAME`, `NAME.values`, `NAME.values.count`, `NAME.values.string` and `NAME.N`.
fn part(text: &str) -> Option<(&str, Part)> {
    let (name, part) = if let Some(name) = text.strip_suffix(".values.string") {
        (name, Part::Line)
    } else if let Some(name) = text.strip_suffix(".values.count") {
        (name, Part::Count)
    } else if let Some(name) = text.strip_suffix(".values") {
        (name, Part::Values)
    } else if let Some((name, index)) = indexed(text) {
        (name.strip_suffix(".values").unwrap_or(name), Part::Nth(index))
    } else {
        (text, Part::First)
    };
    (!name.is_empty()).then_some((name, part))
}

/// `NAME.N` with N from 1, as element attributes and variables write it.
pub(crate) fn indexed(text: &str) -> Option<(&str, usize)> {
    let (name, index) = text.rsplit_once('.')?;
    let digits = !index.is_empty() && index.len() <= 6 && index.bytes().all(|b| b.is_ascii_digit());
    let index = digits.then(|| index.parse().ok()).flatten()?;
    (index > 0 && !name.is_empty()).then_some((name, index))
}

fn builtin(name: &str) -> Option<Builtin> {
    use Builtin as B;
    use Moment as M;
    Some(match name {
        "apiproxy.basepath" => B::ApiProxyBasePath,
        "apiproxy.name" => B::ApiProxyName,
        "apiproxy.revision" => B::ApiProxyRevision,
        "client.host" => B::ClientHost,
        "client.ip" => B::ClientIp,
        "client.port" => B::ClientPort,
        "client.resolved.ip" => B::ClientResolvedIp,
        "client.scheme" => B::ClientScheme,
        "client.ssl.enabled" => B::ClientSslEnabled,
        "current.flow.description" => B::CurrentFlowDescription,
        "current.flow.name" => B::CurrentFlowName,
        "environment.name" => B::EnvironmentName,
        "error.class" => B::ErrorClass,
        "error.message" => B::ErrorMessage,
        "error.state" => B::ErrorState,
        "error.type" => B::ErrorType,
        "fault.category" => B::FaultCategory,
        "fault.name" => B::FaultName,
        "fault.reason" => B::FaultReason,
        "fault.subcategory" => B::FaultSubcategory,
        "is.error" => B::IsError,
        "messageid" => B::MessageId,
        "organization.name" => B::OrganizationName,
        "proxy.basepath" => B::ProxyBasePath,
        "proxy.client.ip" => B::ProxyClientIp,
        "proxy.flow.name" => B::ProxyFlowName,
        "proxy.name" => B::ProxyName,
        "proxy.pathsuffix" => B::ProxyPathSuffix,
        "proxy.url" => B::ProxyUrl,
        "request.url" => B::RequestUrl,
        "route.name" => B::RouteName,
        "route.target" => B::RouteTarget,
        "system.pod.name" => B::SystemPodName,
        "system.region.name" => B::SystemRegionName,
        "system.time" => B::SystemTime,
        "system.time.year" => B::SystemTimeField(TimeField::Year),
        "system.time.month" => B::SystemTimeField(TimeField::Month),
        "system.time.day" => B::SystemTimeField(TimeField::Day),
        "system.time.dayofweek" => B::SystemTimeField(TimeField::DayOfWeek),
        "system.time.hour" => B::SystemTimeField(TimeField::Hour),
        "system.time.minute" => B::SystemTimeField(TimeField::Minute),
        "system.time.second" => B::SystemTimeField(TimeField::Second),
        "system.time.millisecond" => B::SystemTimeField(TimeField::Millisecond),
        "system.time.zone" => B::SystemTimeField(TimeField::Zone),
        "system.timestamp" => B::SystemTimestamp,
        "system.uuid" => B::SystemUuid,
        "target.basepath" => B::TargetBasePath,
        "target.copy.pathsuffix" => B::TargetCopyPathSuffix,
        "target.copy.queryparams" => B::TargetCopyQueryParams,
        "target.expectedcn" => B::TargetExpectedCn,
        "target.flow.name" => B::TargetFlowName,
        "target.host" => B::TargetHost,
        "target.ip" => B::TargetIp,
        "target.name" => B::TargetName,
        "target.port" => B::TargetPort,
        "target.scheme" => B::TargetScheme,
        "target.ssl.enabled" => B::TargetSslEnabled,
        "target.url" => B::TargetUrl,
        _ if name.starts_with("system.interface.") => B::SystemInterface,
        _ => {
            let (rest, time) = match name.strip_suffix(".timestamp") {
                Some(rest) => (rest, false),
                None => (name.strip_suffix(".time")?, true),
            };
            let moment = match rest {
                "client.received.start" => M::ClientReceivedStart,
                "client.received.end" => M::ClientReceivedEnd,
                "client.sent.start" => M::ClientSentStart,
                "client.sent.end" => M::ClientSentEnd,
                "target.sent.start" => M::TargetSentStart,
                "target.sent.end" => M::TargetSentEnd,
                "target.received.start" => M::TargetReceivedStart,
                "target.received.end" => M::TargetReceivedEnd,
                _ => return None,
            };
            B::Moment(moment, time)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood_once() {
        let header = |name: &str, part| {
            Field::Header(HeaderName::from_bytes(name.as_bytes()).expect("a header name"), part)
        };
        for (name, expected) in [
            ("request.header.X-Y", Known::Field(Which::Request, header("x-y", Part::First))),
            ("request.header.a.values", Known::Field(Which::Request, header("a", Part::Values))),
            (
                "request.header.a.values.count",
                Known::Field(Which::Request, header("a", Part::Count)),
            ),
            (
                "request.header.a.values.string",
                Known::Field(Which::Request, header("a", Part::Line)),
            ),
            ("message.header.a.2", Known::Field(Which::Message, header("a", Part::Nth(2)))),
            ("response.status.code", Known::Field(Which::Response, Field::StatusCode)),
            ("request", Known::Field(Which::Request, Field::Whole)),
            ("mine.content", Known::Field(Which::Custom("mine".into()), Field::Content)),
            (
                "flow.req.queryparam.q",
                Known::Field(
                    Which::Custom("flow.req".into()),
                    Field::QueryParam("q".into(), Part::First),
                ),
            ),
            ("flow.audience", Known::Other),
            ("requested.header", Known::Other),
            ("proxy.pathsuffix", Known::Builtin(Builtin::ProxyPathSuffix)),
            ("client.sent.end.time", Known::Builtin(Builtin::Moment(Moment::ClientSentEnd, true))),
            ("propertyset.a.b", Known::PropertySet),
            ("error.message", Known::Builtin(Builtin::ErrorMessage)),
        ] {
            assert_eq!(Variable::parse(name).known, expected, "{name}");
        }
    }
}
