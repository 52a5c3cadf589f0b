//! ExtractVariables (7.3): URI path, query, headers, form, variables and JSON payloads.

use super::{Needs, children, ignore_unresolved, template};
use crate::context::Context;
use crate::fault::Fault;
use crate::json_path::{JsonPath, to_text};
use crate::message::Message;
use crate::template::{Template, Unresolved};
use crate::value::Value;
use crate::variable::{Known, Variable, Which, indexed};
use crate::xml::{Many, One, Reader};
use http::HeaderName;
use regex::Regex;
use roxmltree::Node;
use std::borrow::Cow;

#[derive(Clone, Debug)]
pub(crate) struct ExtractVariables {
    source: Variable,
    clear_payload: bool,
    ignore_unresolved: bool,
    extractions: Vec<Extraction>,
}

#[derive(Clone, Debug)]
enum Extraction {
    UriPath(Vec<Pattern>),
    QueryParam(Box<str>, Option<usize>, Vec<Pattern>),
    Header(HeaderName, Option<usize>, Vec<Pattern>),
    FormParam(Box<str>, Option<usize>, Vec<Pattern>),
    Variable(Variable, Vec<Pattern>),
    Json(Vec<JsonVariable>),
}

/// Literal text around `{name}` captures; it must cover the whole value.
#[derive(Clone, Debug)]
struct Pattern {
    regex: Regex,
    /// The variables, in the order of the groups.
    names: Vec<Variable>,
}

#[derive(Clone, Debug)]
struct JsonVariable {
    name: Variable,
    kind: Kind,
    path: Template,
    /// Parsed once where the path has no variables.
    parsed: Option<JsonPath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    String,
    Boolean,
    Integer,
    Long,
    Float,
    Double,
}

impl ExtractVariables {
    pub fn parse(root: Node<'_, '_>, reader: &mut Reader<'_>) -> ExtractVariables {
        let children = children(
            root,
            reader,
            &[],
            &[
                ("Source", One),
                ("VariablePrefix", One),
                ("IgnoreUnresolvedVariables", One),
                ("URIPath", Many),
                ("QueryParam", Many),
                ("Header", Many),
                ("FormParam", Many),
                ("Variable", Many),
                ("JSONPayload", One),
                ("XMLPayload", Many),
            ],
        );
        let of = |name: &str| children.iter().find(|child| child.has_tag_name(name)).copied();
        let prefix = of("VariablePrefix").map(|node| reader.text(node)).unwrap_or_default();
        let mut policy = ExtractVariables {
            source: Variable::parse("message"),
            clear_payload: false,
            ignore_unresolved: ignore_unresolved(&children, reader),
            extractions: Vec::new(),
        };
        for child in &children {
            let extraction = match child.tag_name().name() {
                "Source" => {
                    reader.attributes(*child, &["clearPayload"]);
                    policy.clear_payload = reader.boolean_attribute(*child, "clearPayload", false);
                    let text = reader.text(*child);
                    if !text.is_empty() {
                        policy.source = Variable::parse(&text);
                    }
                    continue;
                }
                "URIPath" => Extraction::UriPath(patterns(*child, &prefix, true, reader)),
                "QueryParam" => {
                    let (name, index) = named(*child, reader);
                    Extraction::QueryParam(
                        name.into(),
                        index,
                        patterns(*child, &prefix, false, reader),
                    )
                }
                "FormParam" => {
                    let (name, index) = named(*child, reader);
                    Extraction::FormParam(
                        name.into(),
                        index,
                        patterns(*child, &prefix, false, reader),
                    )
                }
                "Header" => {
                    let (name, index) = named(*child, reader);
                    let patterns = patterns(*child, &prefix, false, reader);
                    match HeaderName::from_bytes(name.as_bytes()) {
                        Ok(name) => Extraction::Header(name, index, patterns),
                        Err(_) => {
                            if !name.is_empty() {
                                reader.error(
                                    *child,
                                    "INVALID_VALUE",
                                    format!("`{name}` is no header name."),
                                    "A name has letters, digits and `-`.",
                                );
                            }
                            continue;
                        }
                    }
                }
                "Variable" => {
                    let name = reader.required_attribute(*child, "name");
                    Extraction::Variable(
                        Variable::parse(name),
                        patterns(*child, &prefix, false, reader),
                    )
                }
                "JSONPayload" => Extraction::Json(json_variables(*child, &prefix, reader)),
                "XMLPayload" => {
                    reader.unsupported(*child, "Extract from JSON, or let the target answer JSON.");
                    continue;
                }
                _ => continue,
            };
            policy.extractions.push(extraction);
        }
        if policy.extractions.is_empty() && of("XMLPayload").is_none() {
            let what = "at least one of URIPath, QueryParam, Header, FormParam, Variable, JSONPayload is mandatory.";
            reader.error(root, "NothingToExtract", what, "Say what to extract.");
        }
        policy
    }

    pub fn execute(&self, policy: &str, context: &mut Context) -> Result<(), Fault> {
        let mut found: Vec<(&Variable, Value<'static>)> = Vec::new();
        for extraction in &self.extractions {
            self.extract(extraction, policy, context, &mut found)?;
        }
        for (variable, value) in found {
            context.write(variable, value).map_err(|_| {
                let text =
                    format!("Failed to set variable {variable} in ExtractVariables {policy}");
                Fault::of_policy(500, "steps.extractvariables.SetVariableFailed", text)
            })?;
        }
        if self.clear_payload
            && let Some(message) = self.which().and_then(|which| context.message_mut(&which))
        {
            message.set_content(bytes::Bytes::new());
        }
        Ok(())
    }

    fn which(&self) -> Option<Which> {
        match &self.source.known {
            Known::Field(which, crate::variable::Field::Whole) => Some(which.clone()),
            _ => Some(Which::Custom(self.source.shared_name())),
        }
    }

    fn message<'c>(&self, policy: &str, context: &'c Context) -> Result<&'c Message, Fault> {
        self.which().and_then(|which| context.message(&which)).ok_or_else(|| {
            let text =
                format!("{} message is not available for ExtractVariable: {policy}", self.source);
            Fault::of_policy(500, "steps.extractvariables.SourceMessageNotAvailable", text)
        })
    }

    fn extract<'p>(
        &'p self,
        extraction: &'p Extraction,
        policy: &str,
        context: &Context,
        found: &mut Vec<(&'p Variable, Value<'static>)>,
    ) -> Result<(), Fault> {
        let at = |values: Vec<Cow<'_, str>>, index: Option<usize>| {
            values.into_iter().nth(index.map_or(0, |index| index - 1)).map(Cow::into_owned)
        };
        match extraction {
            Extraction::UriPath(patterns) => {
                self.message(policy, context)?;
                first_match(patterns, context.path_suffix(), found);
            }
            Extraction::QueryParam(name, index, patterns) => {
                let message = self.message(policy, context)?;
                if let Some(text) = at(message.query.values(name).collect(), *index) {
                    first_match(patterns, &text, found);
                }
            }
            Extraction::FormParam(name, index, patterns) => {
                let form = self.message(policy, context)?.form().unwrap_or_default();
                if let Some(text) = at(form.values(name).collect(), *index) {
                    first_match(patterns, &text, found);
                }
            }
            Extraction::Header(name, index, patterns) => {
                let message = self.message(policy, context)?;
                if let Some(text) = at(message.header_values(name), *index) {
                    first_match(patterns, &text, found);
                }
            }
            Extraction::Variable(variable, patterns) => {
                if let Some(value) = context.read(variable) {
                    first_match(patterns, &value.as_text(), found);
                }
            }
            Extraction::Json(variables) => self.json(variables, policy, context, found)?,
        }
        Ok(())
    }

    /// Acts on messages of a JSON type only; a plain variable counts as JSON text.
    fn json<'p>(
        &'p self,
        variables: &'p [JsonVariable],
        policy: &str,
        context: &Context,
        found: &mut Vec<(&'p Variable, Value<'static>)>,
    ) -> Result<(), Fault> {
        let text = match self.message(policy, context) {
            Ok(message) if !message.is_json() => return Ok(()),
            Ok(message) => message.text().unwrap_or_default().into_owned(),
            Err(fault) => match context.read(&self.source) {
                Some(value) => value.as_text().into_owned(),
                None => return Err(fault),
            },
        };
        let failed = |code, text: String| Err(Fault::of_policy(500, code, text));
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else {
            let text = format!("Failed to execute the ExtractVariables: {policy}");
            return failed("steps.extractvariables.ExecutionFailed", text);
        };
        for variable in variables {
            let parsed;
            let path = match &variable.parsed {
                Some(path) => path,
                None => {
                    let rendered = variable.path.render_with(context, self.ignore_unresolved);
                    let text = match rendered {
                        Ok(text) => text,
                        Err(Unresolved(name)) => {
                            let text = format!(
                                "ExtractVariables[{policy}]: unable to resolve variable {name}"
                            );
                            return failed("steps.extractvariables.UnresolvedVariable", text);
                        }
                    };
                    match JsonPath::parse(&text) {
                        Ok(path) => {
                            parsed = path;
                            &parsed
                        }
                        Err(_) => {
                            let text = format!("Invalid JSONPath {text} in policy {policy}");
                            return failed("steps.extractvariables.InvalidJSONPath", text);
                        }
                    }
                }
            };
            if let Some(value) = path.evaluate(&json) {
                match variable.kind.cast(&value) {
                    Some(value) => found.push((&variable.name, value)),
                    None => {
                        let text = format!(
                            "Unable to cast value of variable {} in policy {policy}",
                            variable.name
                        );
                        return failed("steps.extractvariables.UnableToCast", text);
                    }
                }
            }
        }
        Ok(())
    }

    pub fn needs(&self, needs: &mut Needs) {
        self.variables(&mut |variable| needs.read(variable));
        let payload = self.extractions.iter().any(|extraction| {
            matches!(extraction, Extraction::Json(_) | Extraction::FormParam(..))
        });
        if (payload || self.clear_payload)
            && let Some(which) = self.which()
        {
            needs.message(&which);
        }
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        for extraction in &self.extractions {
            match extraction {
                Extraction::Variable(variable, _) => visit(variable),
                Extraction::Json(variables) => {
                    variables.iter().for_each(|variable| variable.path.variables(visit));
                }
                _ => {}
            }
        }
    }
}

/// The first pattern that matches sets its variables.
fn first_match<'p>(
    patterns: &'p [Pattern],
    text: &str,
    found: &mut Vec<(&'p Variable, Value<'static>)>,
) {
    for pattern in patterns {
        if let Some(captures) = pattern.regex.captures(text) {
            for (index, name) in pattern.names.iter().enumerate() {
                let value = captures.get(index + 1).map_or("", |capture| capture.as_str());
                found.push((name, Value::owned(value)));
            }
            return;
        }
    }
}

fn named<'a>(node: Node<'a, '_>, reader: &mut Reader<'_>) -> (&'a str, Option<usize>) {
    let name = reader.required_attribute(node, "name");
    match indexed(name) {
        Some((name, index)) => (name, Some(index)),
        None => (name, None),
    }
}

fn patterns(node: Node<'_, '_>, prefix: &str, path: bool, reader: &mut Reader<'_>) -> Vec<Pattern> {
    let attributes: &[&str] = if path { &[] } else { &["name"] };
    reader.attributes(node, attributes);
    let mut patterns = Vec::new();
    for item in reader.children(node, &[("Pattern", Many)]) {
        reader.attributes(item, &["ignoreCase"]);
        let ignore_case = reader.boolean_attribute(item, "ignoreCase", false);
        let text = reader.text(item);
        match pattern(&text, prefix, path, ignore_case) {
            Some(pattern) => patterns.push(pattern),
            None => {
                let what = format!("Pattern {text} should have at least one variable.");
                reader.error(
                    item,
                    "PatternWithoutVariable",
                    what,
                    "Write `{name}` where the value stands.",
                );
            }
        }
    }
    patterns
}

fn pattern(text: &str, prefix: &str, path: bool, ignore_case: bool) -> Option<Pattern> {
    let mut regex = String::from(if ignore_case { r"(?is)\A" } else { r"(?s)\A" });
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let capture = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        if let Some((name, after)) =
            capture.filter(|(name, _)| !name.is_empty() && !name.contains(['{', '/']))
        {
            regex.push_str(if path { "([^/]*)" } else { "(.*?)" });
            names.push(Variable::parse(&prefixed(prefix, name)));
            rest = after;
        } else if let Some(after) = rest.strip_prefix("**").filter(|_| path) {
            regex.push_str(".*");
            rest = after;
        } else if let Some(after) = rest.strip_prefix('*').filter(|_| path) {
            regex.push_str("[^/]+");
            rest = after;
        } else {
            regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            rest = &rest[c.len_utf8()..];
        }
    }
    regex.push_str(r"\z");
    if names.is_empty() {
        return None;
    }
    Some(Pattern { regex: Regex::new(&regex).ok()?, names })
}

fn prefixed(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn json_variables(node: Node<'_, '_>, prefix: &str, reader: &mut Reader<'_>) -> Vec<JsonVariable> {
    reader.attributes(node, &[]);
    let mut variables = Vec::new();
    for item in reader.children(node, &[("Variable", Many)]) {
        reader.attributes(item, &["name", "type"]);
        let name = reader.required_attribute(item, "name");
        let kind = match item.attribute("type").map(str::trim) {
            None | Some("" | "string") => Kind::String,
            Some("boolean") => Kind::Boolean,
            Some("integer") => Kind::Integer,
            Some("long") => Kind::Long,
            Some("float") => Kind::Float,
            Some("double") => Kind::Double,
            Some(other) => {
                let fix = "Use string, boolean, integer, long, float or double.";
                reader.error(
                    item,
                    "INVALID_VALUE",
                    format!("the type `{other}` is not supported here."),
                    fix,
                );
                Kind::String
            }
        };
        let paths = reader.children(item, &[("JSONPath", One)]);
        let Some(path) = paths.first() else {
            reader.error(
                item,
                "NoJSONPathsToEvaluate",
                "`<Variable>` has no `<JSONPath>`.",
                "Give it one.",
            );
            continue;
        };
        reader.attributes(*path, &[]);
        let text = reader.text(*path);
        if text.is_empty() {
            reader.error(
                *path,
                "EmptyJSONPathExpression",
                "the JSONPath is empty.",
                "Write $.field.",
            );
            continue;
        }
        let template = template(*path, &text, reader);
        let parsed = template.literal().map(JsonPath::parse);
        if let Some(Err(error)) = &parsed {
            let what = format!("{error}.");
            reader.error(
                *path,
                "JSONPathCompilationFailed",
                what,
                "Mend it there, as in $.a.b[0].",
            );
        }
        variables.push(JsonVariable {
            name: Variable::parse(&prefixed(prefix, name)),
            kind,
            path: template,
            parsed: parsed.and_then(Result::ok),
        });
    }
    variables
}

impl Kind {
    fn cast(self, value: &serde_json::Value) -> Option<Value<'static>> {
        let text = to_text(value);
        let text = text.trim();
        Some(match self {
            Kind::String => Value::owned(to_text(value)),
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
            Kind::Boolean => return None,
            Kind::Integer => Value::Integer(i64::from(text.parse::<i32>().ok()?)),
            Kind::Long => Value::Long(text.parse().ok()?),
            Kind::Float => Value::Float(text.parse().ok()?),
            Kind::Double => Value::Double(text.parse().ok()?),
        })
    }
}
