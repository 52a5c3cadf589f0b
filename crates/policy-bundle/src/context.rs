//! The flow context: messages and variables of one call, with the read and write rules of 6.

mod read;

pub(crate) use read::uuid;

use crate::bundle::Bundle;
use crate::fault::Fault;
use crate::message::{Message, MessageKind, Query};
use crate::platform::Facts;
use crate::policies::message_logging::LogRecord;
use crate::target::TargetState;
use crate::value::Value;
use crate::variable::{Field, Known, Moment, Part, Variable, Which};
use bytes::Bytes;
use http::{HeaderValue, Method};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The clocks that the interpreter is given.
pub trait Clock {
    /// Milliseconds since the epoch.
    fn unix_millis(&self) -> i64;
    /// Nanoseconds of a clock that only goes forward.
    fn nanos(&self) -> u64;
}

/// The client, as the runtime sees it.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Does it speak TLS to us?
    pub tls: bool,
}

/// Where a call is (3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowPhase {
    /// `PROXY_REQ_FLOW`.
    ProxyRequest,
    /// `TARGET_REQ_FLOW`.
    TargetRequest,
    /// `TARGET_RESP_FLOW`.
    TargetResponse,
    /// `PROXY_RESP_FLOW`.
    ProxyResponse,
    /// `PROXY_POST_RESP_SENT`.
    PostClient,
}

impl FlowPhase {
    /// The name that Apigee gives it.
    pub fn name(self) -> &'static str {
        match self {
            FlowPhase::ProxyRequest => "PROXY_REQ_FLOW",
            FlowPhase::TargetRequest => "TARGET_REQ_FLOW",
            FlowPhase::TargetResponse => "TARGET_RESP_FLOW",
            FlowPhase::ProxyResponse => "PROXY_RESP_FLOW",
            FlowPhase::PostClient => "PROXY_POST_RESP_SENT",
        }
    }
}

/// Variables that a policy sets all at once, shared by all calls: prefix and values.
type Group = (Arc<str>, Arc<HashMap<String, Value<'static>>>);

/// A variable that policies may not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotWritable;

/// Messages and variables of one call.
pub struct Context {
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) client: ClientInfo,
    /// Host as the client asked for it.
    pub(crate) host: String,
    pub(crate) base_path: String,
    pub(crate) path_suffix: String,
    pub(crate) client_uri: String,
    pub(crate) proxy_endpoint: Arc<str>,
    pub(crate) phase: FlowPhase,
    pub(crate) flow_name: Arc<str>,
    pub(crate) flow_description: Arc<str>,
    pub(crate) route_name: Option<Arc<str>>,
    pub(crate) target: Option<TargetState>,
    pub(crate) request: Message,
    pub(crate) response: Option<Message>,
    pub(crate) error: Option<Message>,
    pub(crate) fault: Option<Fault>,
    /// Is `message` the error message?
    pub(crate) in_fault: bool,
    pub(crate) messages: HashMap<Arc<str>, Message>,
    pub(crate) variables: HashMap<Arc<str>, Value<'static>>,
    pub(crate) groups: Vec<Group>,
    pub(crate) moments: [Option<i64>; 8],
    pub(crate) now: i64,
    pub(crate) entropy: fn() -> u64,
    pub(crate) message_id: String,
    pub(crate) logs: Vec<LogRecord>,
}

impl Context {
    /// A context that belongs to no bundle: for conditions and templates on their own.
    pub fn detached(request: Message, now: i64, entropy: fn() -> u64) -> Context {
        Context::new(
            Arc::new(Bundle::default()),
            Arc::new(Facts::default()),
            ClientInfo { ip: IpAddr::from([127, 0, 0, 1]), port: 0, tls: true },
            request,
            now,
            entropy,
        )
    }

    pub(crate) fn new(
        bundle: Arc<Bundle>,
        facts: Arc<Facts>,
        client: ClientInfo,
        request: Message,
        now: i64,
        entropy: fn() -> u64,
    ) -> Context {
        let mut client_uri = request.path.clone();
        if !request.query.is_empty() {
            client_uri.push('?');
            client_uri.push_str(&request.query.to_string());
        }
        let host = request
            .headers
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let mut moments = [None; 8];
        moments[Moment::ClientReceivedStart as usize] = Some(now);
        moments[Moment::ClientReceivedEnd as usize] = Some(now);
        Context {
            bundle,
            facts,
            client,
            host,
            base_path: String::new(),
            path_suffix: String::new(),
            client_uri,
            proxy_endpoint: Arc::from("default"),
            phase: FlowPhase::ProxyRequest,
            flow_name: Arc::from(""),
            flow_description: Arc::from(""),
            route_name: None,
            target: None,
            request,
            response: None,
            error: None,
            fault: None,
            in_fault: false,
            messages: HashMap::new(),
            variables: HashMap::new(),
            groups: Vec::new(),
            moments,
            now,
            entropy,
            message_id: format!("rrt-{:016x}{:08x}", entropy(), entropy() as u32),
            logs: Vec::new(),
        }
    }

    /// The client's request, as the policies left it.
    pub fn request(&self) -> &Message {
        &self.request
    }

    /// The response, if there is one.
    pub fn response(&self) -> Option<&Message> {
        self.response.as_ref()
    }

    /// `messageid` of the call.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// The fault, if there was one.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Is the call in the error state (`is.error`)?
    pub fn is_faulted(&self) -> bool {
        self.in_fault
    }

    /// `proxy.basepath`.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// `proxy.pathsuffix`.
    pub fn path_suffix(&self) -> &str {
        &self.path_suffix
    }

    /// What MessageLogging wrote, taken out.
    pub fn take_logs(&mut self) -> Vec<LogRecord> {
        std::mem::take(&mut self.logs)
    }

    /// A moment for `….timestamp` variables, in milliseconds since the epoch.
    pub(crate) fn mark(&mut self, moment: Moment, now: i64) {
        self.moments[moment as usize] = Some(now);
    }

    /// When something happened, in milliseconds since the epoch.
    pub(crate) fn moment(&self, moment: Moment) -> Option<i64> {
        self.moments[moment as usize]
    }

    /// Reads a variable; none is null.
    pub fn read<'a>(&'a self, variable: &'a Variable) -> Option<Value<'a>> {
        match &variable.known {
            Known::Field(Which::Custom(name), field) => match self.messages.get(name) {
                Some(message) => self.field(message, field, false),
                None => self.plain(variable.name()),
            },
            Known::Field(which, field) => {
                let message = self.message(which)?;
                self.field(message, field, std::ptr::eq(message, &self.request))
            }
            Known::Builtin(builtin) => self.builtin(*builtin, variable.name()),
            Known::PropertySet => {
                let key = variable.name().strip_prefix("propertyset.")?;
                self.bundle.properties.get(key).map(|text| Value::text(text))
            }
            Known::Other => match self.messages.get(variable.name()) {
                Some(_) => Some(Value::Message),
                None => self.plain(variable.name()),
            },
        }
    }

    /// Reads a variable by a name that is known only now.
    pub fn read_name(&self, name: &str) -> Option<Value<'static>> {
        self.read(&Variable::parse(name)).map(Value::into_owned)
    }

    fn plain(&self, name: &str) -> Option<Value<'_>> {
        if let Some(value) = self.variables.get(name) {
            return Some(borrow(value));
        }
        self.groups
            .iter()
            .rev()
            .find_map(|(prefix, values)| values.get(name.strip_prefix(&**prefix)?).map(borrow))
    }

    /// The message of a name, if it is there in this phase.
    pub(crate) fn message(&self, which: &Which) -> Option<&Message> {
        match which {
            Which::Request => Some(&self.request),
            Which::Response => self.response.as_ref(),
            Which::Error => self.error.as_ref(),
            Which::Message if self.in_fault => self.error.as_ref(),
            Which::Message => match self.phase {
                FlowPhase::ProxyRequest | FlowPhase::TargetRequest => Some(&self.request),
                _ => self.response.as_ref(),
            },
            Which::Custom(name) => self.messages.get(name),
        }
    }

    /// See [`Context::message`].
    pub(crate) fn message_mut(&mut self, which: &Which) -> Option<&mut Message> {
        match which {
            Which::Request => Some(&mut self.request),
            Which::Response => self.response.as_mut(),
            Which::Error => self.error.as_mut(),
            Which::Message if self.in_fault => self.error.as_mut(),
            Which::Message => match self.phase {
                FlowPhase::ProxyRequest | FlowPhase::TargetRequest => Some(&mut self.request),
                _ => self.response.as_mut(),
            },
            Which::Custom(name) => self.messages.get_mut(name),
        }
    }

    /// Puts a message under a name.
    pub(crate) fn put_message(&mut self, which: &Which, message: Message) {
        match which {
            Which::Request => self.request = message,
            Which::Response => self.response = Some(message),
            Which::Error => self.error = Some(message),
            Which::Message if self.in_fault => self.error = Some(message),
            Which::Message => match self.phase {
                FlowPhase::ProxyRequest | FlowPhase::TargetRequest => self.request = message,
                _ => self.response = Some(message),
            },
            Which::Custom(name) => {
                self.messages.insert(name.clone(), message);
            }
        }
    }

    /// Writes a variable.
    pub(crate) fn write(
        &mut self,
        variable: &Variable,
        value: Value<'static>,
    ) -> Result<(), NotWritable> {
        match &variable.known {
            Known::Field(Which::Custom(name), field) if self.messages.contains_key(name) => {
                self.write_field(&Which::Custom(name.clone()), field, value)
            }
            Known::Field(Which::Custom(_), _) | Known::Other => {
                self.variables.insert(variable.shared_name(), value);
                Ok(())
            }
            Known::Field(which, field) => self.write_field(which, field, value),
            Known::Builtin(builtin) if builtin.writable() => {
                self.write_target_variable(*builtin, &value);
                Ok(())
            }
            Known::Builtin(_) | Known::PropertySet => Err(NotWritable),
        }
    }

    fn write_field(
        &mut self,
        which: &Which,
        field: &Field,
        value: Value<'static>,
    ) -> Result<(), NotWritable> {
        if let (Field::Header(name, Part::First), Which::Request | Which::Message) = (field, which)
            && *name == http::header::HOST
        {
            self.note_host_written();
        }
        let text = value.as_text().into_owned();
        let message = self.message_mut(which).ok_or(NotWritable)?;
        let request = message.kind == MessageKind::Request;
        match field {
            Field::Content => message.set_content(Bytes::from(text)),
            Field::Verb if request => {
                message.method = Method::from_bytes(text.as_bytes()).map_err(|_| NotWritable)?;
            }
            Field::Version => message.version = Cow::Owned(text),
            Field::Path if request => {
                message.path = rooted(&text);
                message.path_written = true;
            }
            Field::Uri if request => {
                let (path, query) = text.split_once('?').unwrap_or((&text, ""));
                message.path = rooted(path);
                message.query = Query::parse(query);
                message.path_written = true;
            }
            Field::QueryString if request => message.query = Query::parse(&text),
            Field::StatusCode if !request => {
                let status = value.as_number().filter(|n| (100.0..1000.0).contains(n));
                message.status = status.ok_or(NotWritable)? as u16;
                message.reason = None;
            }
            Field::ReasonPhrase if !request => {
                HeaderValue::from_str(&text).map_err(|_| NotWritable)?;
                message.reason = Some(text);
            }
            Field::Header(name, Part::First | Part::Values | Part::Line) => {
                if !message.set_header(name, &text) {
                    return Err(NotWritable);
                }
            }
            Field::QueryParam(name, Part::First | Part::Values) if request => {
                message.query.set(name, &text);
            }
            Field::FormParam(name, Part::First | Part::Values) => {
                let mut form = message.form().unwrap_or_default();
                form.set(name, &text);
                message.set_form(&form);
            }
            Field::FormString => message.set_form(&Query::parse(&text)),
            _ => return Err(NotWritable),
        }
        Ok(())
    }

    /// Sets a plain variable of a policy, such as `ratelimit.P.used.count`.
    pub(crate) fn set(&mut self, name: impl Into<Arc<str>>, value: Value<'static>) {
        self.variables.insert(name.into(), value);
    }
}

fn borrow<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::Text(text) => Value::text(text),
        other => other.clone(),
    }
}

fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
