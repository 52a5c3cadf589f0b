//! Proxy endpoints and target endpoints (1.2, 1.3): parsed strictly.

mod authentication;
mod properties;
mod target;

pub(crate) use authentication::Authentication;
pub(crate) use properties::ProxyProperties;

use crate::condition::Condition;
use crate::error::At;
use crate::target::{TargetProperties, TlsMode};
use crate::template::Template;
use crate::xml::{Count, Many, One, Reader};
use roxmltree::Node;
use std::sync::Arc;

/// A proxy endpoint: what the client reaches under a base path.
#[derive(Clone, Debug)]
pub struct ProxyEndpoint {
    /// Name.
    pub name: Arc<str>,
    /// Base path, beginning with `/`.
    pub base_path: Arc<str>,
    /// Request and response flows.
    pub flows: Flows,
    /// Fault rules, in the order of the file.
    pub fault_rules: FaultRules,
    /// Steps after the response was sent.
    pub post_client: Vec<Step>,
    /// Route rules, in order.
    pub routes: Vec<RouteRule>,
    pub(crate) properties: ProxyProperties,
    pub(crate) at: At,
}

/// A target endpoint: what the proxy calls.
#[derive(Clone, Debug)]
pub struct TargetEndpoint {
    /// Name.
    pub name: Arc<str>,
    /// Request and response flows.
    pub flows: Flows,
    /// Fault rules, in the order of the file.
    pub fault_rules: FaultRules,
    /// URL.
    pub url: Template,
    /// How its certificate is checked.
    pub tls: TlsMode,
    /// Only these protocol versions, where given: 1.2, 1.3.
    pub tls_versions: Option<Vec<&'static str>>,
    /// Properties.
    pub properties: TargetProperties,
    pub(crate) authentication: Option<Authentication>,
    pub(crate) at: At,
}

impl TargetEndpoint {
    /// Does it need the deployment's service account?
    pub fn needs_service_account(&self) -> bool {
        self.authentication.is_some()
    }
}

/// PreFlow, conditional flows, PostFlow.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// PreFlow.
    pub pre: FlowPair,
    /// Conditional flows: the first that matches is the one.
    pub conditional: Vec<Flow>,
    /// PostFlow.
    pub post: FlowPair,
}

/// Steps for the request and for the response.
#[derive(Clone, Debug, Default)]
pub struct FlowPair {
    /// Request steps.
    pub request: Vec<Step>,
    /// Response steps.
    pub response: Vec<Step>,
}

/// A conditional flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Name.
    pub name: Arc<str>,
    /// Description.
    pub description: Arc<str>,
    /// None: always.
    pub condition: Option<Condition>,
    /// Steps.
    pub steps: FlowPair,
}

/// A step: a policy, and when it runs.
#[derive(Clone, Debug)]
pub struct Step {
    /// The policy's name.
    pub policy: Arc<str>,
    /// Its place in the bundle's policies; resolved when all files are read.
    pub(crate) index: usize,
    /// None: always.
    pub condition: Option<Condition>,
    pub(crate) at: At,
}

/// FaultRules and DefaultFaultRule.
#[derive(Clone, Debug, Default)]
pub struct FaultRules {
    /// In the order of the file.
    pub rules: Vec<FaultRule>,
    /// The default.
    pub default: Option<FaultRule>,
    /// `AlwaysEnforce` of the default.
    pub always_enforce: bool,
}

impl FaultRules {
    /// Are there none at all?
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.default.is_none()
    }
}

/// A fault rule.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// Name.
    pub name: Arc<str>,
    /// None: always.
    pub condition: Option<Condition>,
    /// Steps.
    pub steps: Vec<Step>,
}

/// A route rule.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// Name.
    pub name: Arc<str>,
    /// None: always.
    pub condition: Option<Condition>,
    /// None: no target, the request becomes the response (2.3).
    pub target: Option<Arc<str>>,
    pub(crate) at: At,
}

const FLOW_CHILDREN: [(&str, Count); 6] = [
    ("Description", One),
    ("FaultRules", One),
    ("DefaultFaultRule", One),
    ("PreFlow", One),
    ("Flows", One),
    ("PostFlow", One),
];

impl ProxyEndpoint {
    pub(crate) fn parse(root: Node<'_, '_>, reader: &mut Reader<'_>) -> ProxyEndpoint {
        reader.attributes(root, &["name"]);
        let mut allowed = FLOW_CHILDREN.to_vec();
        allowed.extend([
            ("PostClientFlow", One),
            ("HTTPProxyConnection", One),
            ("RouteRule", Many),
        ]);
        let children = reader.children(root, &allowed);
        let mut endpoint = ProxyEndpoint {
            name: reader.required_attribute(root, "name").into(),
            base_path: "".into(),
            flows: Flows::default(),
            fault_rules: FaultRules::default(),
            post_client: Vec::new(),
            routes: Vec::new(),
            properties: ProxyProperties::default(),
            at: reader.at(root),
        };
        for child in &children {
            match child.tag_name().name() {
                "HTTPProxyConnection" => endpoint.connection(*child, reader),
                "RouteRule" => endpoint.routes.extend(route_rule(*child, reader)),
                "PostClientFlow" => {
                    reader.attributes(*child, &["name"]);
                    for part in reader.children(*child, &[("Description", One), ("Response", One)])
                    {
                        if part.has_tag_name("Response") {
                            endpoint.post_client = steps(part, reader);
                        }
                    }
                }
                _ => flow_child(*child, &mut endpoint.flows, &mut endpoint.fault_rules, reader),
            }
        }
        if endpoint.base_path.is_empty() {
            reader.error(
                root,
                "MISSING_BASE_PATH",
                "the proxy endpoint has no base path.",
                "Give `<HTTPProxyConnection>` a `<BasePath>`.",
            );
        }
        let last_without_condition =
            endpoint.routes.iter().position(|rule| rule.condition.is_none());
        if let Some(position) = last_without_condition
            && position + 1 < endpoint.routes.len()
        {
            let rule = endpoint.routes[position].clone();
            let what = format!("the route rules after `{}` are never reached.", rule.name);
            reader.problems.warn(
                &rule.at,
                "UNREACHABLE_ROUTE_RULE",
                what,
                "Put the rule without a condition last.",
            );
        }
        endpoint
    }

    fn connection(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) {
        reader.attributes(node, &[]);
        let parts =
            reader.children(node, &[("BasePath", One), ("VirtualHost", Many), ("Properties", One)]);
        for part in parts {
            match part.tag_name().name() {
                "BasePath" => {
                    let text = reader.text(part);
                    match base_path(&text) {
                        Ok(path) => self.base_path = path.into(),
                        Err(what) => {
                            self.base_path = "/".into();
                            reader.error(
                                part,
                                "INVALID_BASE_PATH",
                                format!("the base path `{text}` {what}."),
                                "Write /segments.",
                            );
                        }
                    }
                }
                "Properties" => self.properties = ProxyProperties::parse(part, reader),
                // Hosts come from the environment group (1.2).
                _ => {}
            }
        }
    }
}

/// Checks a base path and takes its trailing slash off.
fn base_path(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("does not begin with a slash");
    }
    let trimmed = text.trim_end_matches('/');
    if trimmed.is_empty() {
        return Ok("/".to_owned());
    }
    let segments: Vec<&str> = trimmed[1..].split('/').collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err("has an empty segment");
    }
    if segments.contains(&"**") {
        return Err("holds `**`");
    }
    if segments[0] == "*" {
        return Err("begins with a wildcard");
    }
    if trimmed.contains(['?', '#', '{', '}', ' ']) {
        return Err("holds a character that no base path has");
    }
    Ok(trimmed.to_owned())
}

fn flow_child(
    node: Node<'_, '_>,
    flows: &mut Flows,
    fault_rules: &mut FaultRules,
    reader: &mut Reader<'_>,
) {
    match node.tag_name().name() {
        "PreFlow" => {
            reader.attributes(node, &["name"]);
            flows.pre = pair(node, &[], reader);
        }
        "PostFlow" => {
            reader.attributes(node, &["name"]);
            flows.post = pair(node, &[], reader);
        }
        "Flows" => {
            reader.attributes(node, &[]);
            for item in reader.children(node, &[("Flow", Many)]) {
                reader.attributes(item, &["name"]);
                let description = item.children().find(|child| child.has_tag_name("Description"));
                let description = description.map(|node| reader.text(node)).unwrap_or_default();
                flows.conditional.push(Flow {
                    name: reader.required_attribute(item, "name").into(),
                    description: description.into(),
                    condition: condition(item, reader),
                    steps: pair(item, &[("Condition", One)], reader),
                });
            }
            if let Some(position) =
                flows.conditional.iter().position(|flow| flow.condition.is_none())
                && position + 1 < flows.conditional.len()
            {
                let name = &flows.conditional[position].name;
                let what = format!("the flows after `{name}` are never reached.");
                reader.warn(
                    node,
                    "UNREACHABLE_FLOW",
                    what,
                    "Put the flow without a condition last.",
                );
            }
        }
        "FaultRules" => {
            reader.attributes(node, &[]);
            for rule in reader.children(node, &[("FaultRule", Many)]) {
                reader.attributes(rule, &["name"]);
                fault_rules.rules.push(fault_rule(rule, reader));
            }
        }
        "DefaultFaultRule" => {
            reader.attributes(node, &["name"]);
            let always = node.children().find(|child| child.has_tag_name("AlwaysEnforce"));
            fault_rules.always_enforce = always.is_some_and(|node| reader.boolean(node, false));
            fault_rules.default = Some(fault_rule(node, reader));
        }
        _ => {}
    }
}

fn pair(node: Node<'_, '_>, more: &[(&str, Count)], reader: &mut Reader<'_>) -> FlowPair {
    let mut allowed = vec![("Description", One), ("Request", One), ("Response", One)];
    allowed.extend(more);
    let mut pair = FlowPair::default();
    for child in reader.children(node, &allowed) {
        match child.tag_name().name() {
            "Request" => pair.request = steps(child, reader),
            "Response" => pair.response = steps(child, reader),
            _ => {}
        }
    }
    pair
}

fn steps(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Vec<Step> {
    reader.attributes(node, &[]);
    reader.children(node, &[("Step", Many)]).into_iter().map(|item| step(item, reader)).collect()
}

fn step(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Step {
    reader.attributes(node, &[]);
    let children =
        reader.children(node, &[("Name", One), ("Condition", One), ("Description", One)]);
    let name = children.iter().find(|child| child.has_tag_name("Name"));
    let policy: Arc<str> = name.map(|node| reader.text(*node)).unwrap_or_default().into();
    if policy.is_empty() {
        reader.error(node, "MISSING_STEP_NAME", "the step names no policy.", "Give it a `<Name>`.");
    }
    Step { policy, index: usize::MAX, condition: condition(node, reader), at: reader.at(node) }
}

fn fault_rule(node: Node<'_, '_>, reader: &mut Reader<'_>) -> FaultRule {
    let allowed =
        [("Condition", One), ("Step", Many), ("AlwaysEnforce", One), ("Description", One)];
    let items = reader.children(node, &allowed);
    if node.has_tag_name("FaultRule") {
        for item in items.iter().filter(|item| item.has_tag_name("AlwaysEnforce")) {
            reader.unsupported(*item, "It belongs to `<DefaultFaultRule>`.");
        }
    }
    let steps = items
        .into_iter()
        .filter(|item| item.has_tag_name("Step"))
        .map(|item| step(item, reader))
        .collect();
    FaultRule {
        name: node.attribute("name").unwrap_or_default().trim().into(),
        condition: condition(node, reader),
        steps,
    }
}

fn route_rule(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Option<RouteRule> {
    reader.attributes(node, &["name"]);
    let children = reader.children(
        node,
        &[
            ("Condition", One),
            ("TargetEndpoint", One),
            ("IntegrationEndpoint", One),
            ("URL", One),
            ("Description", One),
        ],
    );
    let mut target = None;
    for child in &children {
        match child.tag_name().name() {
            "TargetEndpoint" => {
                let text = reader.text(*child);
                // An empty element is a route without a target, as old bundles write it.
                target = (!text.is_empty()).then(|| text.into());
            }
            "IntegrationEndpoint" | "URL" => {
                reader.unsupported(*child, "Name a `<TargetEndpoint>`.")
            }
            _ => {}
        }
    }
    Some(RouteRule {
        name: reader.required_attribute(node, "name").into(),
        condition: condition(node, reader),
        target,
        at: reader.at(node),
    })
}

/// The child `Condition`; none where it is absent or empty.
fn condition(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Option<Condition> {
    let child = node.children().find(|child| child.has_tag_name("Condition"))?;
    reader.attributes(child, &[]);
    let text = reader.text(child);
    if text.is_empty() {
        return None;
    }
    match Condition::parse(&text) {
        Ok(condition) => {
            if condition.is_mixed() {
                let what = format!("`{text}` mixes and with or: and binds first.");
                reader.warn(
                    child,
                    "MIXED_OPERATORS",
                    what,
                    "Put parentheses around what belongs together.",
                );
            }
            Some(condition)
        }
        Err(error) => {
            let what = format!(
                "the condition `{text}` is not valid at character {}: {}",
                error.offset + 1,
                error.what
            );
            reader.error(child, "INVALID_CONDITION", what, error.fix);
            None
        }
    }
}
