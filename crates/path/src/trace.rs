//! What an explanation consists of, and its JSON in the shape of Connectivity Tests
//! (private-connectivity 5.4).

use names::{Reason, SelfLink};
use serde_json::{Map, Value, json};

/// The whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// `GET https://… from …`, for people.
    pub question: String,
    /// Does the request get to a program?
    pub result: Reachability,
    /// What the client sees.
    pub answer: Answer,
    /// Who answers, if the request gets there: a Cloud Run service, usually.
    pub service: Option<SelfLink>,
    /// Facts of the first connection: `endpointInfo`.
    pub endpoint_info: Map<String, Value>,
    /// The hops in order.
    pub steps: Vec<Step>,
    /// What is assumed and not known, for people.
    pub notes: Vec<String>,
}

/// `result` of Connectivity Tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Delivered.
    Reachable,
    /// Refused on the way.
    Unreachable,
    /// The question itself cannot be answered: an unknown workload, say.
    Undetermined,
}

/// What the client sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, where it is known. None with a reason: no HTTP answer at all.
    pub status: Option<u16>,
    /// In words: `connect times out`, `the program's own answer`, …
    pub seen: String,
    /// Why it is no.
    pub reason: Option<Reason>,
    /// One or two sentences: what exactly.
    pub why: Option<String>,
    /// What to change.
    pub fix: Option<String>,
    /// The target of a redirect.
    pub location: Option<String>,
}

/// One hop, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What happens here.
    pub state: State,
    /// What matched, in one line.
    pub description: String,
    /// The resource that decides.
    pub resource: Option<String>,
    /// The detail object of Connectivity Tests: its key and content.
    pub detail: Option<(&'static str, Value)>,
    /// What nearly matched.
    pub near_misses: Vec<String>,
    /// More lines, for people: each policy of a bundle, each zone of a resolution.
    pub details: Vec<String>,
    /// Why the request goes no further.
    pub refusal: Option<Refusal>,
}

/// A step that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// What exactly.
    pub why: String,
    /// What to change.
    pub fix: String,
}

impl Refusal {
    /// With the fix that the registry has for the reason.
    pub fn new(reason: Reason, why: impl Into<String>) -> Self {
        Refusal { reason, why: why.into(), fix: reason.fix().to_owned() }
    }

    /// With a more exact fix.
    pub fn with_fix(reason: Reason, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Refusal { reason, why: why.into(), fix: fix.into() }
    }
}

macro_rules! states {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)*) => {
        /// The states of a step: those of Connectivity Tests where they exist, and what HTTP adds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum State { $($(#[doc = $doc])* $name,)* }

        impl State {
            /// As JSON and people see it.
            pub const fn code(self) -> &'static str {
                match self { $(State::$name => $code,)* }
            }
        }
    };
}

states! {
    /// A client outside of every network.
    StartFromInternet = "START_FROM_INTERNET";
    /// A declared VM.
    StartFromInstance = "START_FROM_INSTANCE";
    /// A workload of a network.
    StartFromPrivateNetwork = "START_FROM_PRIVATE_NETWORK";
    /// An instance of a Cloud Run revision.
    StartFromCloudRun = "START_FROM_CLOUD_RUN_REVISION";
    /// An API proxy answers or calls its target (ours).
    RunApiProxy = "RUN_API_PROXY";
    /// A name is resolved (ours).
    ResolveName = "RESOLVE_NAME";
    /// The egress firewall rule of the client's network.
    ApplyEgressFirewallRule = "APPLY_EGRESS_FIREWALL_RULE";
    /// The ingress firewall rule of the destination's network.
    ApplyIngressFirewallRule = "APPLY_INGRESS_FIREWALL_RULE";
    /// The network's route to the address.
    ApplyRoute = "APPLY_ROUTE";
    /// A forwarding rule or PSC endpoint has the address.
    ApplyForwardingRule = "APPLY_FORWARDING_RULE";
    /// Another source and destination behind a service attachment.
    Nat = "NAT";
    /// The load balancer takes the connection.
    ArriveAtInternalLoadBalancer = "ARRIVE_AT_INTERNAL_LOAD_BALANCER";
    /// The external load balancer takes the connection.
    ArriveAtExternalLoadBalancer = "ARRIVE_AT_EXTERNAL_LOAD_BALANCER";
    /// The security policy of the backend service (ours).
    ApplySecurityPolicy = "APPLY_SECURITY_POLICY";
    /// Google's front end takes the connection (ours).
    ArriveAtGoogleFrontEnd = "ARRIVE_AT_GOOGLE_FRONT_END";
    /// A certificate is presented (ours).
    PresentCertificate = "PRESENT_CERTIFICATE";
    /// Host rule and path rule (ours).
    ApplyUrlMap = "APPLY_URL_MAP";
    /// Backend service, endpoint group, URL mask.
    AnalyzeLoadBalancerBackend = "ANALYZE_LOAD_BALANCER_BACKEND";
    /// The load balancer's own connection to the backend.
    ProxyConnection = "PROXY_CONNECTION";
    /// The Cloud Run service that is asked for (ours).
    FindCloudRunService = "FIND_CLOUD_RUN_SERVICE";
    /// Cloud Run's ingress setting (ours).
    ApplyIngressSetting = "APPLY_INGRESS_SETTING";
    /// Reserved paths and methods (ours).
    CheckRequest = "CHECK_REQUEST";
    /// IAM check of an ID token (ours).
    CheckInvoker = "CHECK_INVOKER";
    /// Traffic targets choose the revision (ours).
    ChooseRevision = "CHOOSE_REVISION";
    /// An instance of the revision is to start (ours).
    StartInstance = "START_INSTANCE";
    /// A redirect by the load balancer (ours).
    Redirect = "REDIRECT";
    /// The end: a program gets the request.
    Deliver = "DELIVER";
    /// The end: what decides further is not known here.
    Forward = "FORWARD";
    /// The end: refused.
    Drop = "DROP";
    /// The end: the question cannot be answered.
    Abort = "ABORT";
}

impl Step {
    /// A step that passes.
    pub fn new(state: State, description: impl Into<String>) -> Self {
        Step {
            state,
            description: description.into(),
            resource: None,
            detail: None,
            near_misses: Vec::new(),
            details: Vec::new(),
            refusal: None,
        }
    }

    /// Names the resource.
    pub fn on(mut self, resource: impl ToString) -> Self {
        self.resource = Some(resource.to_string());
        self
    }

    /// Adds the detail object.
    pub fn detail(mut self, key: &'static str, value: Value) -> Self {
        self.detail = Some((key, value));
        self
    }

    /// Lets the request end here.
    pub fn refuse(mut self, refusal: Refusal) -> Self {
        self.refusal = Some(refusal);
        self
    }

    fn to_json(&self) -> Value {
        let mut step = Map::new();
        step.insert("description".to_owned(), self.description.clone().into());
        step.insert("state".to_owned(), self.state.code().into());
        step.insert("causesDrop".to_owned(), self.refusal.is_some().into());
        let resource = self.resource.as_deref().unwrap_or_default();
        let project = SelfLink::new(resource).project().to_owned();
        if !project.is_empty() {
            step.insert("projectId".to_owned(), project.into());
        }
        if let Some((key, value)) = &self.detail {
            step.insert((*key).to_owned(), value.clone());
        }
        let mut own = Map::new();
        if !resource.is_empty() {
            own.insert("resource".to_owned(), resource.into());
        }
        if !self.near_misses.is_empty() {
            own.insert("nearMisses".to_owned(), self.near_misses.clone().into());
        }
        if !self.details.is_empty() {
            own.insert("details".to_owned(), self.details.clone().into());
        }
        if let Some(Refusal { reason, why, fix }) = &self.refusal {
            own.insert("reason".to_owned(), reason.code().into());
            own.insert("why".to_owned(), why.clone().into());
            own.insert("fix".to_owned(), fix.clone().into());
        }
        if !own.is_empty() {
            step.insert("postern".to_owned(), own.into());
        }
        step.into()
    }
}

impl Reachability {
    /// As Connectivity Tests write it.
    pub const fn code(self) -> &'static str {
        match self {
            Reachability::Reachable => "REACHABLE",
            Reachability::Unreachable => "UNREACHABLE",
            Reachability::Undetermined => "UNDETERMINED",
        }
    }
}

impl Explanation {
    /// Is the request delivered? Then `explain` exits with 0, else with 1.
    pub fn is_delivered(&self) -> bool {
        self.result == Reachability::Reachable
    }

    /// The step that says no.
    pub fn refusal(&self) -> Option<(&Step, &Refusal)> {
        self.steps.iter().find_map(|step| Some((step, step.refusal.as_ref()?)))
    }

    /// `reachabilityDetails` of a Connectivity Test with one trace, and `http`: what its client
    /// sees.
    pub fn to_json(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(Step::to_json).collect();
        let answer = &self.answer;
        let mut http = Map::new();
        if let Some(status) = answer.status {
            http.insert("status".to_owned(), status.into());
        }
        http.insert("seen".to_owned(), answer.seen.clone().into());
        for (key, value) in [
            ("service", self.service.as_ref().map(ToString::to_string)),
            ("location", answer.location.clone()),
            ("reason", answer.reason.map(|reason| reason.code().to_owned())),
            ("why", answer.why.clone()),
            ("fix", answer.fix.clone()),
        ] {
            if let Some(value) = value {
                http.insert(key.to_owned(), value.into());
            }
        }
        json!({
            "displayName": self.question,
            "reachabilityDetails": {
                "result": self.result.code(),
                "traces": [{
                    "endpointInfo": self.endpoint_info,
                    "steps": steps,
                    "forwardTraceId": 1,
                }],
            },
            "http": http,
            "notes": self.notes,
        })
    }
}
