//! MessageLogging to Cloud Logging (7.19): one structured entry, JSON where the message is JSON.

use super::{children, template};
use crate::context::Context;
use crate::template::Template;
use crate::variable::Variable;
use crate::xml::{Many, One, Reader};
use roxmltree::Node;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct MessageLogging {
    log_name: Template,
    message: Template,
    json: bool,
    labels: Vec<(Box<str>, Template)>,
    resource_type: Box<str>,
    severity: &'static str,
}

/// What a MessageLogging policy wrote: a Cloud Logging entry.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// The policy.
    pub policy: Arc<str>,
    /// `projects/P/logs/L`.
    pub log_name: String,
    /// Cloud Logging's severity.
    pub severity: &'static str,
    /// `jsonPayload`, where the message is declared and is JSON.
    pub json: Option<serde_json::Value>,
    /// `textPayload` otherwise.
    pub text: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// The monitored resource's type.
    pub resource_type: String,
}

/// The largest message (9.3: 11 MB).
const MESSAGE_BYTES_MAX: usize = 11 * 1024 * 1024;

impl MessageLogging {
    pub fn parse(root: Node<'_, '_>, reader: &mut Reader<'_>) -> MessageLogging {
        let mut policy = MessageLogging {
            log_name: Template::default(),
            message: Template::default(),
            json: false,
            labels: Vec::new(),
            resource_type: "api".into(),
            severity: "INFO",
        };
        let children = children(
            root,
            reader,
            &[],
            &[
                ("CloudLogging", One),
                ("Syslog", One),
                ("File", One),
                ("logLevel", One),
                ("BufferMessage", One),
            ],
        );
        let mut destination = false;
        for child in &children {
            match child.tag_name().name() {
                "CloudLogging" => {
                    destination = true;
                    policy.cloud_logging(*child, reader);
                }
                "logLevel" => {
                    let text = reader.text(*child);
                    match severity(&text) {
                        Some(severity) => policy.severity = severity,
                        None => {
                            let what = format!("there is no log level `{text}`.");
                            reader.error(
                                *child,
                                "INVALID_VALUE",
                                what,
                                "Use INFO, ALERT, WARN or ERROR.",
                            );
                        }
                    }
                }
                // Entries are buffered by the log of the program.
                "BufferMessage" => drop(reader.boolean(*child, false)),
                _ => {
                    destination = true;
                    reader.unsupported(
                        *child,
                        "Use `<CloudLogging>`: the entry goes into the program's log.",
                    );
                }
            }
        }
        if !destination {
            reader.error(
                root,
                "NO_DESTINATION",
                "the policy logs to nowhere.",
                "Give it `<CloudLogging>`.",
            );
        }
        policy
    }

    fn cloud_logging(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) {
        reader.attributes(node, &[]);
        let allowed = [("LogName", One), ("Message", One), ("Labels", One), ("ResourceType", One)];
        let parts = reader.children(node, &allowed);
        for part in &parts {
            match part.tag_name().name() {
                "LogName" => {
                    let text = reader.text(*part);
                    self.log_name = template(*part, &text, reader);
                }
                "Message" => {
                    reader.attributes(*part, &["contentType"]);
                    let media = part.attribute("contentType").unwrap_or_default().trim();
                    self.json = media.eq_ignore_ascii_case("application/json");
                    if !self.json && !media.is_empty() && !media.eq_ignore_ascii_case("text/plain")
                    {
                        let what = format!("the content type `{media}` is not supported.");
                        reader.error(
                            *part,
                            "INVALID_VALUE",
                            what,
                            "Use text/plain or application/json.",
                        );
                    }
                    let text = reader.text_or_markup(*part);
                    self.message = template(*part, text.trim(), reader);
                }
                "ResourceType" => {
                    let text = reader.text(*part);
                    if !text.is_empty() {
                        self.resource_type = text.into();
                    }
                }
                _ => {
                    for label in reader.children(*part, &[("Label", Many)]) {
                        self.label(label, reader);
                    }
                }
            }
        }
        for name in ["LogName", "Message"] {
            if !parts.iter().any(|part| part.has_tag_name(name)) {
                let what = format!("`<CloudLogging>` has no `<{name}>`.");
                reader.error(node, "MISSING_ELEMENT", what, format!("Add `<{name}>`."));
            }
        }
    }

    fn label(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) {
        let mut key = String::new();
        let mut value = Template::default();
        for part in reader.children(node, &[("Key", One), ("Value", One)]) {
            let text = reader.text(part);
            match part.tag_name().name() {
                "Key" => key = text,
                _ => value = template(part, &text, reader),
            }
        }
        self.labels.push((key.into(), value));
    }

    /// Never a fault, and never a delay: the entry goes out with the call's own log.
    pub fn execute(&self, name: &Arc<str>, context: &mut Context) {
        let mut text = self.message.render(context);
        if text.len() > MESSAGE_BYTES_MAX {
            let cut = (0..=MESSAGE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(cut.unwrap_or_default());
        }
        let json = self.json.then(|| serde_json::from_str(&text).ok()).flatten();
        let record = LogRecord {
            policy: name.clone(),
            log_name: self.log_name.render(context),
            severity: self.severity,
            text: if json.is_some() { String::new() } else { text },
            json,
            labels: self
                .labels
                .iter()
                .map(|(key, value)| (key.to_string(), value.render(context)))
                .collect(),
            resource_type: self.resource_type.to_string(),
        };
        context.logs.push(record);
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        self.log_name.variables(visit);
        self.message.variables(visit);
        for (_, value) in &self.labels {
            value.variables(visit);
        }
    }
}

fn severity(level: &str) -> Option<&'static str> {
    Some(match level.to_ascii_uppercase().as_str() {
        "" | "INFO" => "INFO",
        "WARN" | "WARNING" => "WARNING",
        "ERROR" => "ERROR",
        "ALERT" => "ALERT",
        _ => return None,
    })
}
