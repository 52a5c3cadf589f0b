//! Quota (7.11, 8.4).

use super::{RefOrText, World, children, message_weight};
use crate::context::Context;
use crate::fault::Fault;
use crate::quota::{QuotaConfig, QuotaKind, QuotaMode, QuotaVerdict, TimeUnit, parse_start_time};
use crate::value::Value;
use crate::variable::Variable;
use crate::xml::{Many, One, Reader};
use roxmltree::Node;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct Quota {
    kind: QuotaKind,
    allow: Option<Allow>,
    classes: Option<Classes>,
    interval: RefOrText,
    unit: RefOrText,
    identifier: Option<RefOrText>,
    weight: Option<RefOrText>,
    product: Option<FromProduct>,
    shared_name: Option<Arc<str>>,
    mode: QuotaMode,
    names: Names,
}

/// `count` and `countRef`.
#[derive(Clone, Debug)]
struct Allow {
    count: Option<u64>,
    reference: Option<Variable>,
}

#[derive(Clone, Debug)]
struct Classes {
    reference: Variable,
    allows: Vec<(Box<str>, u64)>,
}

/// `UseQuotaConfigInAPIProduct`.
#[derive(Clone, Debug)]
struct FromProduct {
    limit: Variable,
    interval: Variable,
    unit: Variable,
    app: Variable,
    name: Variable,
    default: Option<(RefOrText, RefOrText, RefOrText)>,
}

/// The names of its variables, made once.
#[derive(Clone, Debug)]
struct Names {
    allowed: Arc<str>,
    used: Arc<str>,
    available: Arc<str>,
    exceed: Arc<str>,
    total_exceed: Arc<str>,
    expiry: Arc<str>,
    identifier: Arc<str>,
    class: Arc<str>,
    class_prefix: String,
}

impl Quota {
    pub fn parse(root: Node<'_, '_>, name: &str, reader: &mut Reader<'_>) -> Quota {
        let children = children(
            root,
            reader,
            &["type"],
            &[
                ("Allow", Many),
                ("Interval", One),
                ("TimeUnit", One),
                ("Identifier", One),
                ("Distributed", One),
                ("Synchronous", One),
                ("AsynchronousConfiguration", One),
                ("MessageWeight", One),
                ("StartTime", One),
                ("UseQuotaConfigInAPIProduct", One),
                ("SharedName", One),
                ("CountOnly", One),
                ("EnforceOnly", One),
                ("PreciseAtSecondsLevel", One),
            ],
        );
        let mut quota = Quota {
            kind: QuotaKind::Default,
            allow: None,
            classes: None,
            interval: RefOrText::default(),
            unit: RefOrText::default(),
            identifier: None,
            weight: None,
            product: None,
            shared_name: None,
            mode: QuotaMode::CountAndEnforce,
            names: Names::new(name),
        };
        let mut start_time = None;
        for child in &children {
            match child.tag_name().name() {
                "Allow" => quota.parse_allow(*child, reader),
                "Interval" => {
                    quota.interval = RefOrText::parse(*child, reader);
                    let fix = "Write a whole number from 1 to 1000000.";
                    check(*child, &quota.interval, "InvalidQuotaInterval", fix, interval, reader);
                }
                "TimeUnit" => {
                    quota.unit = RefOrText::parse(*child, reader);
                    let fix = "Write minute, hour, day, week or month.";
                    check(
                        *child,
                        &quota.unit,
                        "InvalidQuotaTimeUnit",
                        fix,
                        TimeUnit::parse,
                        reader,
                    );
                }
                "Identifier" => quota.identifier = Some(RefOrText::parse(*child, reader)),
                "MessageWeight" => quota.weight = Some(RefOrText::parse(*child, reader)),
                "StartTime" => {
                    let text = reader.text(*child);
                    start_time = parse_start_time(&text);
                    if start_time.is_none() {
                        let what = format!("Invalid start time {text}.");
                        reader.error(
                            *child,
                            "InvalidStartTime",
                            what,
                            "Write 2017-02-18 10:30:00.",
                        );
                    }
                }
                "UseQuotaConfigInAPIProduct" => quota.product = FromProduct::parse(*child, reader),
                "SharedName" => {
                    let text = reader.text(*child);
                    quota.shared_name = (!text.is_empty()).then(|| text.into());
                }
                "CountOnly" if reader.boolean(*child, false) => quota.mode = QuotaMode::CountOnly,
                "EnforceOnly" if reader.boolean(*child, false) => {
                    quota.mode = QuotaMode::EnforceOnly
                }
                "AsynchronousConfiguration" => {
                    reader.children(
                        *child,
                        &[("SyncIntervalInSeconds", One), ("SyncMessageCount", One)],
                    );
                }
                // One message processor counts for itself: these hold by nature.
                _ => drop(reader.boolean(*child, false)),
            }
        }
        quota.kind = quota_kind(root, start_time, reader);
        quota.check_complete(root, reader);
        quota
    }

    fn check_complete(&self, root: Node<'_, '_>, reader: &mut Reader<'_>) {
        let empty = RefOrText::default();
        if self.product.is_none() && self.allow.is_none() && self.classes.is_none() {
            reader.error(
                root,
                "INVALID_QUOTA",
                "the policy allows no count.",
                "Give it `<Allow count=\"…\"/>`.",
            );
        }
        if self.product.is_none() && self.interval == empty {
            reader.error(
                root,
                "InvalidQuotaInterval",
                "the policy has no interval.",
                "Give it an `<Interval>`.",
            );
        }
        if self.product.is_none() && self.unit == empty {
            reader.error(
                root,
                "InvalidQuotaTimeUnit",
                "the policy has no time unit.",
                "Give it a `<TimeUnit>`.",
            );
        }
    }

    fn parse_allow(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) {
        reader.attributes(node, &["count", "countRef"]);
        for class in reader.children(node, &[("Class", One)]) {
            reader.attributes(class, &["ref"]);
            let reference = Variable::parse(reader.required_attribute(class, "ref"));
            let mut allows = Vec::new();
            for allow in reader.children(class, &[("Allow", Many)]) {
                reader.attributes(allow, &["class", "count"]);
                let name = reader.required_attribute(allow, "class").into();
                allows.extend(count(allow, reader).map(|count| (name, count)));
            }
            self.classes = Some(Classes { reference, allows });
        }
        let reference = node.attribute("countRef").map(str::trim).filter(|name| !name.is_empty());
        if node.attribute("count").is_some() || reference.is_some() {
            let count = node.attribute("count").and_then(|_| count(node, reader));
            self.allow = Some(Allow { count, reference: reference.map(Variable::parse) });
        }
    }

    pub fn execute(
        &self,
        name: &str,
        context: &mut Context,
        world: &World<'_>,
    ) -> Result<(), Fault> {
        let weight = message_weight(self.weight.as_ref(), context)?;
        let class = self.class(context);
        let (config, product_key) = self.config(name, context, class.as_ref())?;
        let identifier = self
            .identifier
            .as_ref()
            .and_then(|identifier| identifier.resolve(context))
            .filter(|identifier| !identifier.is_empty());
        let shown = identifier.clone().unwrap_or_else(|| "_default".to_owned());
        let counted = identifier.or(product_key).unwrap_or_else(|| "_default".to_owned());
        let class_name = class.as_ref().map(|(name, _)| name.as_str()).unwrap_or_default();
        let key = match &self.shared_name {
            Some(shared) => {
                context.facts.counter_key(&format!("shared:{shared}"), &counted, class_name)
            }
            None => context.facts.counter_key(name, &counted, class_name),
        };
        let now = context.now;
        let verdict =
            world.counters.quota(&key, now, |state| state.admit(&config, now, weight, self.mode));
        self.publish(&config, &verdict, &shown, class_name, context);
        if verdict.admitted {
            return Ok(());
        }
        // Two blanks, as the runtime writes them (8.4).
        let text =
            format!("Rate limit quota violation. Quota limit  exceeded. Identifier : {shown}");
        Err(Fault::of_policy(429, "policies.ratelimit.QuotaViolation", text))
    }

    /// The class of the call and its count, where the policy has classes.
    fn class(&self, context: &Context) -> Option<(String, u64)> {
        let classes = self.classes.as_ref()?;
        let class = context.read(&classes.reference)?.as_text().into_owned();
        let (_, count) = classes.allows.iter().find(|(name, _)| **name == *class)?;
        Some((class, *count))
    }

    fn config(
        &self,
        name: &str,
        context: &Context,
        class: Option<&(String, u64)>,
    ) -> Result<(QuotaConfig, Option<String>), Fault> {
        if let Some(product) = &self.product
            && let Some((config, key)) = product.config(self.kind, context)
        {
            return Ok((config, Some(key)));
        }
        let (allow, key) = match (class, &self.allow, &self.product) {
            (Some((_, count)), _, _) => (Some(*count), None),
            (None, Some(allow), _) => (allow.resolve(context), None),
            // An API product without a quota, and no default: nothing is limited.
            (None, None, Some(_)) => (Some(u64::MAX), None),
            (None, None, None) => (None, None),
        };
        let allow = allow.ok_or_else(|| {
            let reference = self.allow.as_ref().and_then(|allow| allow.reference.as_ref());
            let reference = reference.map(Variable::name).unwrap_or_default();
            unresolved(
                "policies.ratelimit.FailedToResolveQuotaCountReference",
                "count",
                reference,
                name,
            )
        })?;
        let interval = match (self.interval.resolve(context), &self.product) {
            (Some(text), _) => interval(&text).ok_or_else(|| {
                let text = format!("Invalid quota interval {text} in quota policy {name}");
                Fault::of_policy(500, "policies.ratelimit.InvalidQuotaInterval", text)
            })?,
            (None, Some(_)) => 1,
            (None, None) => {
                let code = "policies.ratelimit.FailedToResolveQuotaIntervalReference";
                return Err(unresolved(code, "interval", self.interval.name(), name));
            }
        };
        let unit = match (self.unit.resolve(context), &self.product) {
            (Some(text), _) => TimeUnit::parse(&text).ok_or_else(|| {
                let text = format!("Invalid quota time unit {text} in quota policy {name}");
                Fault::of_policy(500, "policies.ratelimit.InvalidQuotaTimeUnit", text)
            })?,
            (None, Some(_)) => TimeUnit::Minute,
            (None, None) => {
                let code = "policies.ratelimit.FailedToResolveQuotaIntervalTimeUnitReference";
                return Err(unresolved(code, "interval time unit", self.unit.name(), name));
            }
        };
        Ok((QuotaConfig { kind: self.kind, allow, interval, unit }, key))
    }

    fn publish(
        &self,
        config: &QuotaConfig,
        verdict: &QuotaVerdict,
        identifier: &str,
        class: &str,
        context: &mut Context,
    ) {
        let number = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
        // 1 once the quota is exceeded, 0 before.
        let exceeded = number(u64::from(!verdict.admitted));
        let names = &self.names;
        for (name, value) in [
            (&names.allowed, number(config.allow)),
            (&names.used, number(verdict.used)),
            (&names.available, number(verdict.available)),
            (&names.exceed, exceeded.clone()),
            (&names.total_exceed, exceeded.clone()),
            (&names.expiry, Value::Long(verdict.expiry)),
            (&names.identifier, Value::owned(identifier)),
        ] {
            context.set(name.clone(), value);
        }
        if !class.is_empty() {
            context.set(names.class.clone(), Value::owned(class));
            for (suffix, value) in [
                ("allowed.count", number(config.allow)),
                ("used.count", number(verdict.used)),
                ("available.count", number(verdict.available)),
                ("exceed.count", exceeded.clone()),
                ("total.exceed.count", exceeded.clone()),
            ] {
                context.set(format!("{}{suffix}", names.class_prefix), value);
            }
        }
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        for value in
            [&self.interval, &self.unit].into_iter().chain(&self.identifier).chain(&self.weight)
        {
            value.variables(visit);
        }
        if let Some(reference) = self.allow.as_ref().and_then(|allow| allow.reference.as_ref()) {
            visit(reference);
        }
        if let Some(classes) = &self.classes {
            visit(&classes.reference);
        }
    }
}

impl Allow {
    /// The variable wins; the number is the fallback.
    fn resolve(&self, context: &Context) -> Option<u64> {
        let read = self.reference.as_ref().and_then(|variable| context.read(variable));
        read.and_then(|value| value.as_text().trim().parse().ok()).or(self.count)
    }
}

impl FromProduct {
    fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Option<FromProduct> {
        reader.attributes(node, &["stepName"]);
        let step = reader.required_attribute(node, "stepName");
        let variable = |rest: &str| Variable::parse(&format!("verifyapikey.{step}.{rest}"));
        let mut default = None;
        for config in reader.children(node, &[("DefaultConfig", One)]) {
            let mut parts = (RefOrText::default(), RefOrText::default(), RefOrText::default());
            for part in
                reader.children(config, &[("Allow", One), ("Interval", One), ("TimeUnit", One)])
            {
                let slot = match part.tag_name().name() {
                    "Allow" => &mut parts.0,
                    "Interval" => &mut parts.1,
                    _ => &mut parts.2,
                };
                *slot = RefOrText::parse(part, reader);
            }
            default = Some(parts);
        }
        Some(FromProduct {
            limit: variable("apiproduct.developer.quota.limit"),
            interval: variable("apiproduct.developer.quota.interval"),
            unit: variable("apiproduct.developer.quota.timeunit"),
            app: variable("developer.app.id"),
            name: variable("apiproduct.name"),
            default,
        })
    }

    /// The product's quota, or the default; the counter is one per app and product.
    fn config(&self, kind: QuotaKind, context: &Context) -> Option<(QuotaConfig, String)> {
        let read =
            |variable: &Variable| context.read(variable).map(|value| value.as_text().into_owned());
        let key = format!(
            "{}\u{0}{}",
            read(&self.app).unwrap_or_default(),
            read(&self.name).unwrap_or_default()
        );
        let of = |allow: Option<String>, every: Option<String>, unit: Option<String>| {
            Some(QuotaConfig {
                kind,
                allow: allow?.trim().parse().ok()?,
                interval: interval(&every?)?,
                unit: TimeUnit::parse(&unit?)?,
            })
        };
        let config =
            of(read(&self.limit), read(&self.interval), read(&self.unit)).or_else(|| {
                let (allow, interval, unit) = self.default.as_ref()?;
                of(allow.resolve(context), interval.resolve(context), unit.resolve(context))
            })?;
        Some((config, key))
    }
}

impl Names {
    fn new(policy: &str) -> Names {
        let name = |rest: &str| Arc::from(format!("ratelimit.{policy}.{rest}"));
        Names {
            allowed: name("allowed.count"),
            used: name("used.count"),
            available: name("available.count"),
            exceed: name("exceed.count"),
            total_exceed: name("total.exceed.count"),
            expiry: name("expiry.time"),
            identifier: name("identifier"),
            class: name("class"),
            class_prefix: format!("ratelimit.{policy}.class."),
        }
    }
}

fn quota_kind(root: Node<'_, '_>, start_time: Option<i64>, reader: &mut Reader<'_>) -> QuotaKind {
    let kind = root.attribute("type").map(str::trim).unwrap_or_default();
    let has_start_time = root.children().any(|child| child.has_tag_name("StartTime"));
    match kind {
        "calendar" => {
            if !has_start_time {
                let what = "a quota of type calendar has no start time.";
                reader.error(root, "InvalidStartTime", what, "Give it a `<StartTime>`.");
            }
            return QuotaKind::Calendar(start_time.unwrap_or_default());
        }
        "" | "rollingwindow" | "flexi" => {}
        other => {
            let what = format!("Invalid quota type {other}.");
            reader.error(
                root,
                "InvalidQuotaType",
                what,
                "Use calendar, rollingwindow or flexi, or none.",
            );
        }
    }
    if has_start_time && !kind.is_empty() {
        let what = format!("a quota of type {kind} takes no start time.");
        reader.error(root, "StartTimeNotSupported", what, "Remove it, or use the type calendar.");
    }
    match kind {
        "rollingwindow" => QuotaKind::RollingWindow,
        "flexi" => QuotaKind::Flexi,
        _ => QuotaKind::Default,
    }
}

fn interval(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|interval| (1..=1_000_000).contains(interval))
}

fn check<T>(
    node: Node<'_, '_>,
    value: &RefOrText,
    code: &'static str,
    fix: &str,
    parse: fn(&str) -> Option<T>,
    reader: &mut Reader<'_>,
) {
    if let Some(text) = &value.text
        && parse(text).is_none()
    {
        reader.error(node, code, format!("`{text}` is not valid here."), fix);
    }
}

fn count(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Option<u64> {
    let text = node.attribute("count").unwrap_or_default().trim();
    let count = text.parse().ok();
    if count.is_none() {
        reader.error(node, "INVALID_QUOTA", format!("`{text}` is no count."), "Write a number.");
    }
    count
}

fn unresolved(code: &'static str, what: &str, reference: &str, policy: &str) -> Fault {
    let text =
        format!("Failed to resolve quota {what} reference {reference} in quota policy {policy}");
    Fault::of_policy(500, code, text)
}
