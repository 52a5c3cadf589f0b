//! A whole bundle: files in, endpoints and policies out, all mistakes at once (1.1).

use crate::endpoint::{FaultRules, Flows, ProxyEndpoint, Step, TargetEndpoint};
use crate::error::{At, BundleError, Problems};
use crate::files::Files;
use crate::policies::{Kind, Needs, Policy};
use crate::variable::Variable;
use crate::xml::{self, Many, Reader};
use std::collections::HashMap;
use std::sync::Arc;

/// A bundle, ready to be interpreted.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// The API proxy's name as the bundle gives it.
    pub name: String,
    /// Proxy endpoints.
    pub proxies: Vec<Arc<ProxyEndpoint>>,
    /// Target endpoints.
    pub targets: Vec<Arc<TargetEndpoint>>,
    pub(crate) policies: Vec<Policy>,
    /// `FILE.KEY` of `resources/properties/FILE.properties`.
    pub(crate) properties: HashMap<String, String>,
    pub(crate) needs: Needs,
    /// Does anything read `apigee.metrics.policy.P.timeTaken`?
    pub(crate) times_policies: bool,
}

/// A good bundle, and what the user should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The bundle.
    pub bundle: Bundle,
    /// Warnings.
    pub warnings: Vec<BundleError>,
}

impl Bundle {
    /// Does a policy or a target need the deployment's service account (1.4, 7.19)?
    pub fn needs_service_account(&self) -> bool {
        self.targets.iter().any(|target| target.needs_service_account())
            || self.policies.iter().any(|policy| matches!(policy.kind, Kind::MessageLogging(_)))
    }

    /// The target endpoint of this name.
    pub(crate) fn target(&self, name: &str) -> Option<&Arc<TargetEndpoint>> {
        self.targets.iter().find(|target| *target.name == *name)
    }

    /// Names and types of its policies.
    pub fn policies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.policies.iter().map(|policy| (&*policy.name, policy.type_name()))
    }
}

/// Reads a bundle.
///
/// # Errors
/// Every mistake in every file, in the order of files and lines.
pub fn load(files: &Files) -> Result<Loaded, Vec<BundleError>> {
    let mut problems = Problems::default();
    let mut bundle = Bundle::default();
    let whole = At::file(files.label());
    if files.iter().any(|(path, _)| path.starts_with("sharedflowbundle/")) {
        let what = "the bundle is a shared flow; FlowCallout and shared flows are not supported.";
        problems.error(
            &whole,
            "UNSUPPORTED_SHARED_FLOW",
            what,
            "Put the steps into the proxy itself.",
        );
    }
    root(files, &whole, &mut bundle, &mut problems);
    let mut proxies = Vec::new();
    each(files, "apiproxy/proxies/", "ProxyEndpoint", &mut problems, |node, reader| {
        proxies.push(ProxyEndpoint::parse(node, reader));
    });
    let mut targets = Vec::new();
    each(files, "apiproxy/targets/", "TargetEndpoint", &mut problems, |node, reader| {
        targets.push(TargetEndpoint::parse(node, reader));
    });
    for (path, content) in files.xml_in("apiproxy/policies/") {
        if let Some(text) = text(path, content, &mut problems)
            && let Some(document) = xml::parse(path, text, &mut problems)
        {
            bundle.policies.push(Policy::parse(document.root_element(), path, &mut problems));
        }
    }
    for (path, content) in files.iter() {
        other_file(path, content, &mut bundle, &mut problems);
    }
    if files.xml_in("apiproxy/proxies/").next().is_none() {
        problems.error(
            &whole,
            "NO_PROXY_ENDPOINT",
            "the bundle has no proxy endpoint.",
            "Add apiproxy/proxies/default.xml.",
        );
    }
    unique(proxies.iter().map(|p| (&*p.name, &p.at)), "proxy endpoint", &mut problems);
    unique(targets.iter().map(|t| (&*t.name, &t.at)), "target endpoint", &mut problems);
    unique(bundle.policies.iter().map(|p| (&*p.name, &p.at)), "policy", &mut problems);
    link(&mut proxies, &mut targets, &bundle.policies, &mut problems);
    bundle.proxies = proxies.into_iter().map(Arc::new).collect();
    bundle.targets = targets.into_iter().map(Arc::new).collect();
    analyse(&mut bundle);
    if problems.errors.is_empty() {
        return Ok(Loaded { bundle, warnings: problems.warnings });
    }
    problems.errors.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Err(problems.errors)
}

fn text<'t>(path: &Arc<str>, content: &'t [u8], problems: &mut Problems) -> Option<&'t str> {
    match std::str::from_utf8(content) {
        Ok(text) => Some(text.trim_start_matches('\u{feff}')),
        Err(_) => {
            problems.error(
                &At::file(path),
                "MALFORMED_XML",
                "the file is not UTF-8.",
                "Save it as UTF-8.",
            );
            None
        }
    }
}

/// `apiproxy/NAME.xml`: only the name matters, its lists are often stale (1.1).
fn root(files: &Files, whole: &At, bundle: &mut Bundle, problems: &mut Problems) {
    let mut found = 0;
    for (path, content) in files.xml_in("apiproxy/") {
        found += 1;
        let Some(text) = text(path, content, problems) else { continue };
        let Some(document) = xml::parse(path, text, problems) else { continue };
        let node = document.root_element();
        let mut reader = Reader::new(path, problems);
        if !node.has_tag_name("APIProxy") {
            let what =
                format!("the root element is `<{}>`, not `<APIProxy>`.", node.tag_name().name());
            reader.error(
                node,
                "WRONG_ROOT_ELEMENT",
                what,
                "One APIProxy file stands directly in apiproxy/.",
            );
            continue;
        }
        reader.attributes(node, &["name", "revision"]);
        let known = [
            "DisplayName",
            "Description",
            "CreatedAt",
            "CreatedBy",
            "LastModifiedAt",
            "LastModifiedBy",
            "ConfigurationVersion",
            "Basepaths",
            "BasePaths",
            "Policies",
            "ProxyEndpoints",
            "TargetEndpoints",
            "TargetServers",
            "Resources",
            "Spec",
            "ManifestVersion",
            "validate",
        ];
        let known: Vec<_> = known.iter().map(|name| (*name, Many)).collect();
        reader.children(node, &known);
        bundle.name = reader.required_attribute(node, "name").to_owned();
    }
    match found {
        0 => problems.error(
            whole,
            "NO_APIPROXY_FILE",
            "the bundle has no apiproxy/NAME.xml.",
            "Add one with the root element APIProxy.",
        ),
        1 => {}
        _ => problems.error(
            whole,
            "SEVERAL_APIPROXY_FILES",
            "several XML files stand directly in apiproxy/.",
            "Keep one.",
        ),
    }
}

fn each(
    files: &Files,
    folder: &str,
    element: &str,
    problems: &mut Problems,
    mut parse: impl FnMut(roxmltree::Node<'_, '_>, &mut Reader<'_>),
) {
    for (path, content) in files.xml_in(folder) {
        let Some(text) = text(path, content, problems) else { continue };
        let Some(document) = xml::parse(path, text, problems) else { continue };
        let node = document.root_element();
        let mut reader = Reader::new(path, problems);
        if node.has_tag_name(element) {
            parse(node, &mut reader);
        } else {
            let what =
                format!("the root element is `<{}>`, not `<{element}>`.", node.tag_name().name());
            reader.error(
                node,
                "WRONG_ROOT_ELEMENT",
                what,
                "Move the file to the folder of its kind.",
            );
        }
    }
}

/// Property sets are read; what no supported policy can use is named.
fn other_file(path: &Arc<str>, content: &[u8], bundle: &mut Bundle, problems: &mut Problems) {
    let Some(inner) = path.strip_prefix("apiproxy/") else { return };
    let known = ["proxies/", "targets/", "policies/"];
    let is_xml = inner.ends_with(".xml");
    if is_xml
        && (!inner.contains('/')
            || known
                .iter()
                .any(|folder| inner.strip_prefix(folder).is_some_and(|name| !name.contains('/'))))
    {
        return;
    }
    if let Some(name) = inner
        .strip_prefix("resources/properties/")
        .and_then(|name| name.strip_suffix(".properties"))
    {
        if let Some(text) = text(path, content, problems) {
            for (key, value) in java_properties(text) {
                bundle.properties.insert(format!("{name}.{key}"), value);
            }
        }
        return;
    }
    if inner.starts_with("manifests/") {
        return;
    }
    problems.warn(
        &At::file(path),
        "NOT_READ",
        "no supported policy can use this file; it is not read.",
        "",
    );
}

/// Java's properties format: `key=value`, `#` comments, continuation lines, escapes.
fn java_properties(text: &str) -> Vec<(String, String)> {
    let mut logical: Vec<String> = Vec::new();
    let mut continued = false;
    for line in text.lines() {
        let line = line.trim_start();
        if !continued && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = line.bytes().rev().take_while(|b| *b == b'\\').count();
        let (kept, more) =
            if backslashes % 2 == 1 { (&line[..line.len() - 1], true) } else { (line, false) };
        match (continued, logical.last_mut()) {
            (true, Some(last)) => last.push_str(kept),
            _ => logical.push(kept.to_owned()),
        }
        continued = more;
    }
    logical.iter().map(|line| property(line)).collect()
}

fn property(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line
        .find(|c: char| {
            let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
            escaped = c == '\\' && !escaped;
            ends
        })
        .unwrap_or(line.len());
    let value = line[end..].trim_start();
    let value = value.strip_prefix(['=', ':']).unwrap_or(value).trim_start();
    (unescape(&line[..end]), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                out.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

fn unique<'a>(names: impl Iterator<Item = (&'a str, &'a At)>, what: &str, problems: &mut Problems) {
    let mut seen: HashMap<&str, &At> = HashMap::new();
    for (name, at) in names.filter(|(name, _)| !name.is_empty()) {
        if let Some(first) = seen.insert(name, at) {
            let text = format!("the {what} `{name}` is also defined in {}.", first.file);
            problems.error(at, "DUPLICATE_NAME", text, "Give one of them another name.");
        }
    }
}

/// Resolves the policies of steps and the targets of route rules.
fn link(
    proxies: &mut [ProxyEndpoint],
    targets: &mut [TargetEndpoint],
    policies: &[Policy],
    problems: &mut Problems,
) {
    let by_name: HashMap<&str, usize> =
        policies.iter().enumerate().map(|(index, policy)| (&*policy.name, index)).collect();
    let mut used = vec![false; policies.len()];
    let mut resolve = |step: &mut Step, problems: &mut Problems| match by_name.get(&*step.policy) {
        Some(index) => {
            step.index = *index;
            used[*index] = true;
        }
        None if step.policy.is_empty() => {}
        None => {
            let what = format!(
                "the step names the policy `{}`, which the bundle does not have.",
                step.policy
            );
            problems.error(
                &step.at,
                "UNRESOLVED_STEP",
                what,
                "Add the policy, or correct the name.",
            );
        }
    };
    for endpoint in proxies.iter_mut() {
        steps_of(&mut endpoint.flows, &mut endpoint.fault_rules, &mut |step| {
            resolve(step, problems)
        });
        endpoint.post_client.iter_mut().for_each(|step| resolve(step, problems));
    }
    for endpoint in targets.iter_mut() {
        steps_of(&mut endpoint.flows, &mut endpoint.fault_rules, &mut |step| {
            resolve(step, problems)
        });
    }
    for endpoint in proxies.iter() {
        for rule in &endpoint.routes {
            if let Some(target) = &rule.target
                && !targets.iter().any(|known| known.name == *target)
            {
                let what = format!(
                    "the route rule `{}` names the target endpoint `{target}`, which the bundle does not have.",
                    rule.name
                );
                problems.error(
                    &rule.at,
                    "UNRESOLVED_TARGET_ENDPOINT",
                    what,
                    "Add apiproxy/targets/, or correct the name.",
                );
            }
        }
    }
    for (policy, used) in policies.iter().zip(used) {
        let Kind::Unsupported(kind) = &policy.kind else { continue };
        let what = format!(
            "the policy `{}` is of the type `<{kind}>`, which is not supported.",
            policy.name
        );
        let fix = "Supported: AssignMessage, RaiseFault, VerifyAPIKey, Quota, SpikeArrest, ExtractVariables, MessageLogging.";
        if used {
            problems.error(&policy.at, "UNSUPPORTED_POLICY", what, fix);
        } else {
            problems.warn(
                &policy.at,
                "UNSUPPORTED_POLICY",
                format!("{what} No step names it."),
                fix,
            );
        }
    }
}

fn steps_of(flows: &mut Flows, fault_rules: &mut FaultRules, visit: &mut dyn FnMut(&mut Step)) {
    for pair in [&mut flows.pre, &mut flows.post] {
        pair.request.iter_mut().chain(&mut pair.response).for_each(&mut *visit);
    }
    for flow in &mut flows.conditional {
        flow.steps.request.iter_mut().chain(&mut flow.steps.response).for_each(&mut *visit);
    }
    for rule in fault_rules.rules.iter_mut().chain(&mut fault_rules.default) {
        rule.steps.iter_mut().for_each(&mut *visit);
    }
}

/// Which payloads are needed, and whether policies are timed.
fn analyse(bundle: &mut Bundle) {
    let mut needs = Needs::default();
    let mut times = false;
    let mut visit = |variable: &Variable| {
        needs.read(variable);
        times |= variable.name().starts_with("apigee.metrics.policy.");
    };
    let flows = bundle
        .proxies
        .iter()
        .map(|endpoint| (&endpoint.flows, &endpoint.fault_rules))
        .chain(bundle.targets.iter().map(|endpoint| (&endpoint.flows, &endpoint.fault_rules)));
    for (flows, fault_rules) in flows {
        let pairs = [&flows.pre, &flows.post]
            .into_iter()
            .chain(flows.conditional.iter().map(|flow| &flow.steps));
        let steps = pairs.flat_map(|pair| pair.request.iter().chain(&pair.response)).chain(
            fault_rules.rules.iter().chain(&fault_rules.default).flat_map(|rule| &rule.steps),
        );
        let conditions = steps
            .filter_map(|step| step.condition.as_ref())
            .chain(flows.conditional.iter().filter_map(|flow| flow.condition.as_ref()))
            .chain(
                fault_rules
                    .rules
                    .iter()
                    .chain(&fault_rules.default)
                    .filter_map(|rule| rule.condition.as_ref()),
            );
        for condition in conditions {
            condition.variables(&mut visit);
        }
    }
    for endpoint in &bundle.proxies {
        let steps = endpoint.post_client.iter().filter_map(|step| step.condition.as_ref());
        for condition in
            steps.chain(endpoint.routes.iter().filter_map(|rule| rule.condition.as_ref()))
        {
            condition.variables(&mut visit);
        }
    }
    for target in &bundle.targets {
        target.url.variables(&mut visit);
        if let Some(authentication) = &target.authentication {
            authentication.variables(&mut visit);
        }
    }
    for policy in &bundle.policies {
        policy.variables(&mut visit);
    }
    for policy in &bundle.policies {
        policy.needs(&mut needs);
    }
    bundle.needs = needs;
    bundle.times_policies = times;
}

#[cfg(test)]
pub(crate) mod tests;
