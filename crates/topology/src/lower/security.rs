//! Cloud Armor security policies (cloud-run 6.2).

use super::Lowering;
use super::rules::same_region;
use crate::decode::{At, Text};
use crate::diagnostic::{Code, Findings};
use crate::fields::backends::BackendService;
use crate::fields::security::{
    EnforceOnKey, RateLimitOptions, RateLimitThreshold, RedirectOptions, RedirectType,
    SecurityPolicy, SecurityPolicyMatch, SecurityPolicyRule, SecurityPolicyType,
};
use crate::model::Item;
use crate::reference::Place;
use ipnet::IpNet;
use names::SelfLink;
use security_policy::{Defect, Expression, Policy};
use slice::load_balancer as lb;
use std::collections::HashMap;
use std::net::IpAddr;

/// The priority of the default rule, which every policy has.
const DEFAULT_PRIORITY: u32 = i32::MAX as u32;
/// `srcIpRanges` of a rule.
const RANGES_MAX: usize = 10;
/// `enforceOnKeyConfigs` of a rule.
const KEYS_MAX: usize = 3;
/// `intervalSec` (set (unconfirmed)).
const INTERVALS: [i64; 13] = [10, 30, 60, 120, 180, 240, 300, 600, 900, 1200, 1800, 2700, 3600];
/// "ban 1–10,000" requests.
const BAN_COUNT_MAX: i64 = 10_000;

impl Lowering<'_> {
    /// The policy of a backend service.
    pub(crate) fn security_policy_of(
        &self,
        service: &Item<BackendService>,
        findings: &mut Findings,
    ) -> Option<SelfLink> {
        let reference = service.raw.security_policy.as_ref().filter(|text| !text.is_empty())?;
        let policies = &self.model.security_policies;
        let policy = self.model.find(policies, reference, &service.scope(), findings)?;
        same_region(service, policy, reference, findings);
        let kind = policy.raw.policy_type.as_ref().map(|kind| kind.value);
        if matches!(kind, Some(kind) if kind != SecurityPolicyType::CloudArmor) {
            return None; // reported with the policy
        }
        Some(policy.link.clone())
    }

    /// All security policies.
    pub(crate) fn security_policies(&mut self, findings: &mut Findings) {
        for item in &self.model.security_policies.items {
            if let Some(policy) = self.security_policy(item, findings) {
                self.topology.load_balancing.security_policies.push(policy);
            }
        }
    }

    fn security_policy(
        &self,
        item: &Item<SecurityPolicy>,
        findings: &mut Findings,
    ) -> Option<lb::SecurityPolicy> {
        let raw = &item.raw;
        if let Some(kind) = &raw.policy_type
            && kind.value != SecurityPolicyType::CloudArmor
        {
            findings.error(
                Code::NotYetSupported,
                kind.at,
                "only security policies of type CLOUD_ARMOR are simulated; requests would pass that this one denies",
                "write type: CLOUD_ARMOR, and attach it to a backend service by securityPolicy",
            );
            return None;
        }
        let mut priorities = HashMap::new();
        let mut rules = Vec::with_capacity(raw.rules.len() + 1);
        let mut groups = Vec::new();
        for rule in &raw.rules {
            let priority = u32::try_from(rule.priority.value.0).unwrap_or(DEFAULT_PRIORITY);
            if let Some(first) = priorities.insert(priority, rule.priority.at) {
                let first = findings.position(first);
                findings.error(
                    Code::DuplicateEntry,
                    rule.priority.at,
                    format!("the rule at {first} has priority {priority} too"),
                    "choose another priority",
                );
            }
            self.address_groups(item, rule, &mut groups, findings);
            if let Some(rule) = self.security_rule(item, rule, priority, findings) {
                rules.push(rule);
            }
        }
        if !priorities.contains_key(&DEFAULT_PRIORITY) {
            // The API adds it.
            rules.push(lb::SecurityRule {
                priority: DEFAULT_PRIORITY,
                description: "default rule".to_owned(),
                preview: false,
                matches: lb::SecurityMatch::Everyone,
                action: lb::SecurityAction::Allow,
                request_headers_to_add: Vec::new(),
            });
        }
        rules.sort_by_key(|rule| rule.priority);
        let options = raw.advanced_options.iter();
        let mut policy = lb::SecurityPolicy {
            self_link: item.link.clone(),
            rules,
            user_ip_request_headers: options
                .flat_map(|options| &options.user_ip_request_headers)
                .map(|name| name.value.clone())
                .collect(),
            address_groups: groups,
            origins: Vec::new(),
        };
        for origin in raw.postern.iter().flat_map(|postern| &postern.origins) {
            let Some(range) = range(&origin.range, findings) else { continue };
            let asn = origin.asn.as_ref().and_then(|asn| u32::try_from(asn.value.0).ok());
            let region_code = origin.region_code.as_ref().map(|code| code.value.clone());
            policy.origins.push(lb::KnownOrigin { range, region_code, asn });
        }
        self.compiles(item, &policy, findings);
        Some(policy)
    }

    /// The crate that decides reads the rules as well: what it refuses is reported where it stands.
    fn compiles(
        &self,
        item: &Item<SecurityPolicy>,
        policy: &lb::SecurityPolicy,
        findings: &mut Findings,
    ) {
        let Err(defects) = Policy::compile(policy) else { return };
        for (priority, defect) in defects {
            let mut rules = item.raw.rules.iter();
            let rule = rules.find(|rule| rule.priority.value.0 == i64::from(priority));
            let expression = rule.and_then(|rule| rule.matches.expr.as_ref());
            match (&defect, expression) {
                // Two of one priority were reported above.
                (Defect::Priority, _) => {}
                (Defect::Expression(error), Some(expression)) => findings.error(
                    Code::SecurityExpression,
                    expression.expression.at,
                    error.to_string(),
                    error.fix(),
                ),
                _ => findings.error(
                    Code::InvalidValue,
                    rule.map_or(item.raw.at, |rule| rule.at),
                    defect.to_string(),
                    "correct the rule",
                ),
            }
        }
    }

    fn address_groups(
        &self,
        item: &Item<SecurityPolicy>,
        rule: &SecurityPolicyRule,
        groups: &mut Vec<lb::AddressGroup>,
        findings: &mut Findings,
    ) {
        let Some(expression) = &rule.matches.expr else { return };
        for name in Expression::groups_of(&expression.expression) {
            if groups.iter().any(|group| group.name == name) {
                continue;
            }
            let found = self.model.seek(&self.model.address_groups, &name, &item.scope());
            let Ok(group) = found else { continue }; // reported by the expression
            let items = &group.raw.items;
            let items = items.iter().filter_map(|text| range(text, findings)).collect();
            groups.push(lb::AddressGroup { name, items });
        }
    }

    fn security_rule(
        &self,
        item: &Item<SecurityPolicy>,
        raw: &SecurityPolicyRule,
        priority: u32,
        findings: &mut Findings,
    ) -> Option<lb::SecurityRule> {
        let matches = self.security_match(item, &raw.matches, priority, findings)?;
        let regional = item.place != Place::Global;
        let action = raw.action.value.trim();
        let mut unused = |at, what: &str| {
            findings.error(
                Code::ConflictingFields,
                at,
                format!("`{what}` has no place in a rule with action `{action}`"),
                format!("remove `{what}`, or write another action"),
            );
        };
        let rate = matches!(action, "throttle" | "rate_based_ban");
        if let Some(options) = raw.rate_limit.as_ref().filter(|_| !rate) {
            unused(options.at, "rateLimitOptions");
        }
        if let Some(options) = raw.redirect.as_ref().filter(|_| action != "redirect") {
            unused(options.at, "redirectOptions");
        }
        let refuses = action == "redirect" || action.starts_with("deny");
        if let Some(headers) = raw.header_action.as_ref().filter(|_| refuses) {
            unused(headers.at, "headerAction");
        }
        if regional && let Some(headers) = &raw.header_action {
            findings.error(
                Code::ConflictingFields,
                headers.at,
                "only global security policies add headers",
                "remove `headerAction`",
            );
        }
        let action = match action {
            "allow" => lb::SecurityAction::Allow,
            "redirect" => {
                let target = redirect(raw.redirect.as_ref(), &raw.action, regional, findings)?;
                lb::SecurityAction::Redirect(target)
            }
            "throttle" | "rate_based_ban" => {
                let Some(options) = &raw.rate_limit else {
                    findings.error(
                        Code::MissingField,
                        raw.action.at,
                        format!("a rule with action `{action}` needs `rateLimitOptions`"),
                        "add rateLimitOptions: {rateLimitThreshold: {count: 100, intervalSec: 60}, conformAction: allow, exceedAction: deny(429), enforceOnKey: IP}",
                    );
                    return None;
                };
                self.rate_action(item, options, action == "rate_based_ban", findings)?
            }
            other => match denied(other).filter(|status| [403, 404, 502].contains(status)) {
                Some(status) => lb::SecurityAction::Deny(status),
                None => {
                    findings.error(
                        Code::InvalidValue,
                        raw.action.at,
                        format!("`{other}` is no action of a security policy"),
                        "write allow, deny(403), deny(404), deny(502), redirect, throttle or rate_based_ban",
                    );
                    return None;
                }
            },
        };
        let headers = raw.header_action.iter().flat_map(|action| &action.add);
        let value = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        Some(lb::SecurityRule {
            priority,
            description: value(&raw.description).unwrap_or_default(),
            preview: raw.preview.unwrap_or(false),
            matches,
            action,
            request_headers_to_add: headers
                .map(|header| (header.name.value.clone(), value(&header.value).unwrap_or_default()))
                .collect(),
        })
    }

    fn security_match(
        &self,
        item: &Item<SecurityPolicy>,
        raw: &SecurityPolicyMatch,
        priority: u32,
        findings: &mut Findings,
    ) -> Option<lb::SecurityMatch> {
        let missing = |what: &str, findings: &mut Findings| {
            if !raw.faulty {
                findings.error(
                    Code::MissingField,
                    raw.at,
                    what.to_owned(),
                    "write {versionedExpr: SRC_IPS_V1, config: {srcIpRanges: [RANGE]}} or {expr: {expression: TEXT}}",
                );
            }
            None
        };
        match (&raw.expr, &raw.config) {
            (Some(expr), Some(config)) => {
                findings.error(
                    Code::ConflictingFields,
                    config.at,
                    "a rule matches by addresses or by an expression, not by both",
                    "write the addresses into the expression: inIpRange(origin.ip, 'RANGE')",
                );
                Some(lb::SecurityMatch::Expression(expr.expression.value.clone()))
            }
            (Some(expr), None) => {
                self.expression_facts(item, &expr.expression, findings);
                if priority == DEFAULT_PRIORITY {
                    findings.error(
                        Code::InvalidValue,
                        expr.at,
                        "the default rule matches everybody",
                        "write {versionedExpr: SRC_IPS_V1, config: {srcIpRanges: [\"*\"]}}, or another priority",
                    );
                }
                Some(lb::SecurityMatch::Expression(expr.expression.value.clone()))
            }
            (None, Some(config)) if raw.versioned_expr.is_some() => {
                let ranges = &config.src_ip_ranges;
                self.limit(ranges.len(), RANGES_MAX, config.at, "srcIpRanges in a rule", findings);
                if ranges.is_empty() && !config.faulty {
                    return missing("the rule matches nobody", findings);
                }
                if ranges.iter().any(|range| range.value == "*") {
                    return Some(lb::SecurityMatch::Everyone);
                }
                let ranges = ranges.iter().filter_map(|text| range(text, findings)).collect();
                Some(lb::SecurityMatch::SrcIpRanges(ranges))
            }
            (None, Some(_)) => missing("`versionedExpr` is missing", findings),
            (None, None) => missing("the rule does not say whom it is for", findings),
        }
    }

    /// What an expression asks for in vain is reported here, what is wrong with it elsewhere.
    fn expression_facts(&self, item: &Item<SecurityPolicy>, text: &Text, findings: &mut Findings) {
        let groups: Vec<lb::AddressGroup> = Expression::groups_of(text)
            .into_iter()
            .map(|name| lb::AddressGroup { name, items: Vec::new() })
            .collect();
        let Ok(expression) = Expression::parse(text, &groups) else { return };
        let origins = item.raw.postern.as_ref().is_some_and(|ours| !ours.origins.is_empty());
        if expression.asks_for_origins() && !origins {
            findings.error(
                Code::SecurityExpression,
                text.at,
                "nobody knows here which region or AS an address belongs to",
                "say what is to be known of addresses, in the policy: postern: {origins: [{range: 198.51.100.0/24, regionCode: DE, asn: 64500}]}",
            );
        }
        for name in expression.impossible_headers() {
            findings.warning(
                Code::NoEffect,
                text.at,
                format!("no request has a header `{name}`: the keys of request.headers are in lower case, and the rule cannot match"),
                format!("write request.headers['{}']", name.to_ascii_lowercase()),
            );
        }
    }

    fn rate_action(
        &self,
        item: &Item<SecurityPolicy>,
        raw: &RateLimitOptions,
        bans: bool,
        findings: &mut Findings,
    ) -> Option<lb::SecurityAction> {
        let regional = item.place != Place::Global;
        let missing = |what: &str, findings: &mut Findings| {
            if !raw.faulty {
                findings.error(
                    Code::MissingField,
                    raw.at,
                    format!("`{what}` is missing"),
                    format!("add `{what}`"),
                );
            }
        };
        if let Some(conform) = raw.conform_action.as_ref().filter(|text| text.value != "allow") {
            findings.error(
                Code::InvalidValue,
                conform.at,
                format!("`{}` is no conformAction", conform.value),
                "write conformAction: allow",
            );
        }
        let threshold = raw.threshold.as_ref();
        if threshold.is_none() {
            missing("rateLimitThreshold", findings);
        }
        let threshold = rate_threshold(threshold?, bans, findings);
        let Some(exceed) = &raw.exceed_action else {
            missing("exceedAction", findings);
            return None;
        };
        let exceed = match exceed.value.trim() {
            "redirect" => lb::ExceedAction::Redirect(redirect(
                raw.exceed_redirect.as_ref(),
                exceed,
                regional,
                findings,
            )?),
            other => match denied(other).filter(|status| [403, 404, 429, 502].contains(status)) {
                Some(status) => lb::ExceedAction::Deny(status),
                None => {
                    findings.error(
                        Code::InvalidValue,
                        exceed.at,
                        format!("`{other}` is no exceedAction"),
                        "write deny(403), deny(404), deny(429), deny(502) or redirect",
                    );
                    return None;
                }
            },
        };
        let keys = self.rate_keys(item, raw, findings)?;
        let limit = lb::RateLimit { threshold, exceed, keys };
        if !bans {
            for (at, what) in [
                (raw.ban_threshold.as_ref().map(|one| one.at), "banThreshold"),
                (raw.ban_duration_sec.as_ref().map(|one| one.at), "banDurationSec"),
            ] {
                if let Some(at) = at {
                    findings.error(
                        Code::ConflictingFields,
                        at,
                        format!("`{what}` is for rules with action rate_based_ban"),
                        format!("remove `{what}`, or write action: rate_based_ban"),
                    );
                }
            }
            return Some(lb::SecurityAction::Throttle(limit));
        }
        let Some(duration) = &raw.ban_duration_sec else {
            missing("banDurationSec", findings);
            return None;
        };
        let ban = lb::Ban {
            threshold: raw.ban_threshold.as_ref().map(|one| rate_threshold(one, true, findings)),
            duration_sec: u32::try_from(duration.value.0).unwrap_or(u32::MAX),
        };
        Some(lb::SecurityAction::RateBasedBan(limit, ban))
    }

    fn rate_keys(
        &self,
        item: &Item<SecurityPolicy>,
        raw: &RateLimitOptions,
        findings: &mut Findings,
    ) -> Option<Vec<lb::RateKey>> {
        let own = raw.key.as_ref();
        let Some(several) = raw.keys.as_ref().filter(|keys| !keys.is_empty()) else {
            let Some(kind) = own else { return Some(vec![lb::RateKey::All]) };
            return Some(vec![rate_key(item, kind, raw.key_name.as_ref(), findings)?]);
        };
        if let Some(own) = own {
            findings.error(
                Code::ConflictingFields,
                own.at,
                "`enforceOnKey` and `enforceOnKeyConfigs` exclude each other",
                "remove one of the two",
            );
        }
        self.limit(several.len(), KEYS_MAX, several.at, "enforceOnKeyConfigs", findings);
        let keys = several.iter();
        keys.map(|one| rate_key(item, &one.key, one.key_name.as_ref(), findings)).collect()
    }
}

fn rate_key(
    item: &Item<SecurityPolicy>,
    kind: &At<EnforceOnKey>,
    name: Option<&Text>,
    findings: &mut Findings,
) -> Option<lb::RateKey> {
    let named = |findings: &mut Findings| {
        if name.is_none() {
            findings.error(
                Code::MissingField,
                kind.at,
                "a key of this type needs `enforceOnKeyName`",
                "add `enforceOnKeyName`: the name of the header or cookie",
            );
        }
        name.map(|name| name.value.clone())
    };
    let key = match kind.value {
        EnforceOnKey::HttpHeader => return named(findings).map(lb::RateKey::HttpHeader),
        EnforceOnKey::HttpCookie => return named(findings).map(lb::RateKey::HttpCookie),
        EnforceOnKey::Ja3 | EnforceOnKey::Ja4 => {
            findings.error(
                Code::NotYetSupported,
                kind.at,
                "TLS fingerprints are not taken here; all clients would be counted together",
                "write another key, such as IP",
            );
            return None;
        }
        EnforceOnKey::RegionCode => {
            if item.raw.postern.as_ref().is_none_or(|ours| ours.origins.is_empty()) {
                findings.error(
                    Code::NotYetSupported,
                    kind.at,
                    "nobody knows here which region an address belongs to; all clients would be counted together",
                    "say what is to be known of addresses, in the policy: postern: {origins: [{range: 198.51.100.0/24, regionCode: DE}]}",
                );
            }
            lb::RateKey::RegionCode
        }
        EnforceOnKey::All => lb::RateKey::All,
        EnforceOnKey::Ip => lb::RateKey::Ip,
        EnforceOnKey::XffIp => lb::RateKey::XffIp,
        EnforceOnKey::HttpPath => lb::RateKey::HttpPath,
        EnforceOnKey::Sni => lb::RateKey::Sni,
        EnforceOnKey::UserIp => lb::RateKey::UserIp,
    };
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        findings.error(
            Code::ConflictingFields,
            name.at,
            "only keys HTTP_HEADER and HTTP_COOKIE have a name",
            "remove `enforceOnKeyName`",
        );
    }
    Some(key)
}

fn rate_threshold(
    raw: &RateLimitThreshold,
    bans: bool,
    findings: &mut Findings,
) -> lb::RateThreshold {
    if bans && raw.count.value.0 > BAN_COUNT_MAX {
        findings.error(
            Code::InvalidValue,
            raw.count.at,
            format!("a rate_based_ban counts to {BAN_COUNT_MAX} at the most"),
            "write a smaller count",
        );
    }
    if !INTERVALS.contains(&raw.interval_sec.value.0) {
        findings.error(
            Code::InvalidValue,
            raw.interval_sec.at,
            format!("{} is no intervalSec that Cloud Armor takes", raw.interval_sec.value.0),
            format!("write one of {}", INTERVALS.map(|seconds| seconds.to_string()).join(", ")),
        );
    }
    lb::RateThreshold {
        count: u32::try_from(raw.count.value.0).unwrap_or(u32::MAX),
        interval_sec: u32::try_from(raw.interval_sec.value.0).unwrap_or(u32::MAX),
    }
}

/// The target of a redirect.
fn redirect(
    raw: Option<&RedirectOptions>,
    action: &Text,
    regional: bool,
    findings: &mut Findings,
) -> Option<String> {
    if regional {
        findings.error(
            Code::ConflictingFields,
            action.at,
            "only global security policies redirect",
            "write deny(403), or make the policy global",
        );
    }
    let Some(raw) = raw else {
        findings.error(
            Code::MissingField,
            action.at,
            "a redirect needs options",
            "add redirectOptions (exceedRedirectOptions for an exceedAction): {type: EXTERNAL_302, target: URL}",
        );
        return None;
    };
    if raw.redirect_type.value == RedirectType::Recaptcha {
        findings.error(
            Code::NotYetSupported,
            raw.redirect_type.at,
            "there is no reCAPTCHA service here",
            "write type: EXTERNAL_302 and a target",
        );
        return None;
    }
    let Some(target) = &raw.target else {
        findings.error(
            Code::MissingField,
            raw.at,
            "a redirect of type EXTERNAL_302 needs a `target`",
            "add target: URL",
        );
        return None;
    };
    let legal = target.starts_with("https://") || target.starts_with("http://");
    if !legal || http::HeaderValue::from_str(target).is_err() {
        findings.error(
            Code::InvalidValue,
            target.at,
            format!("`{}` is no URL to redirect to", target.value),
            "write a whole URL, such as https://www.example.com/sorry",
        );
    }
    Some(target.value.clone())
}

/// The status of `deny(403)`.
fn denied(action: &str) -> Option<u16> {
    action.strip_prefix("deny(")?.strip_suffix(')')?.trim().parse().ok()
}

fn range(text: &Text, findings: &mut Findings) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let range = text.parse::<IpNet>().or_else(|_| address()).ok();
    if range.is_none() {
        findings.error(
            Code::InvalidValue,
            text.at,
            format!("`{}` is no address and no range", text.value),
            "write an address or a range such as 198.51.100.0/24",
        );
    }
    range
}
