//! A policy ready to be asked.

use crate::expression::{Expression, ExpressionError};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use names::SelfLink;
use slice::load_balancer::{
    AddressGroup, Ban, KnownOrigin, RateLimit, SecurityAction, SecurityMatch, SecurityPolicy,
    SecurityRule,
};
use std::fmt;
use std::net::IpAddr;

/// A security policy.
#[derive(Debug)]
pub struct Policy {
    pub(crate) link: SelfLink,
    pub(crate) rules: Vec<Rule>,
    pub(crate) user_ip_request_headers: Vec<String>,
    pub(crate) origins: Vec<KnownOrigin>,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// The lowest number goes first.
    pub priority: u32,
    /// Free text.
    pub description: String,
    /// Is it logged only?
    pub preview: bool,
    /// Whom it is for.
    pub test: Test,
    /// What becomes of them.
    pub action: Action,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// `match`.
#[derive(Debug)]
pub enum Test {
    /// `*`.
    Everyone,
    /// Addresses of the client.
    Ranges(Vec<IpNet>),
    /// An expression.
    Expression(Box<Expression>),
}

/// `action`.
#[derive(Debug)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Answer with this status.
    Deny(u16),
    /// Answer with 302 and this target.
    Redirect(String),
    /// Let so many through.
    Rate(Box<Rate>),
}

/// `throttle` or, with a ban, `rate_based_ban`.
#[derive(Debug)]
pub struct Rate {
    /// How many, by which key, and what becomes of the others.
    pub limit: RateLimit,
    /// None: `throttle`.
    pub ban: Option<Ban>,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Its expression.
    Expression(ExpressionError),
    /// A header that it adds.
    Header(String),
    /// Another rule of the policy has its priority.
    Priority,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// Every rule that is none, by its priority.
    pub fn compile(raw: &SecurityPolicy) -> Result<Policy, Vec<(u32, Defect)>> {
        let mut rules = Vec::with_capacity(raw.rules.len());
        let mut defects = Vec::new();
        for rule in &raw.rules {
            match Rule::compile(rule, &raw.address_groups) {
                Ok(rule) => rules.push(rule),
                Err(defect) => defects.push((rule.priority, defect)),
            }
        }
        rules.sort_by_key(|rule| rule.priority);
        let twice = rules.windows(2).filter(|two| two[0].priority == two[1].priority);
        defects.extend(twice.map(|two| (two[0].priority, Defect::Priority)));
        if !defects.is_empty() {
            return Err(defects);
        }
        let mut origins = raw.origins.clone();
        origins.sort_by_key(|origin| std::cmp::Reverse(origin.range.prefix_len()));
        Ok(Policy {
            link: raw.self_link.clone(),
            rules,
            user_ip_request_headers: raw.user_ip_request_headers.clone(),
            origins,
        })
    }

    /// Its canonical name.
    pub fn link(&self) -> &SelfLink {
        &self.link
    }

    /// Its rules, in the order in which they are tried.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What the files say about an address.
    pub(crate) fn origin(&self, address: IpAddr) -> Option<&KnownOrigin> {
        self.origins.iter().find(|origin| origin.range.contains(&address))
    }
}

impl Rule {
    fn compile(raw: &SecurityRule, groups: &[AddressGroup]) -> Result<Rule, Defect> {
        let test = match &raw.matches {
            SecurityMatch::Everyone => Test::Everyone,
            SecurityMatch::SrcIpRanges(ranges) => Test::Ranges(ranges.clone()),
            SecurityMatch::Expression(text) => {
                let expression = Expression::parse(text, groups).map_err(Defect::Expression)?;
                Test::Expression(Box::new(expression))
            }
        };
        let action = match &raw.action {
            SecurityAction::Allow => Action::Allow,
            SecurityAction::Deny(status) => Action::Deny(*status),
            SecurityAction::Redirect(target) => Action::Redirect(target.clone()),
            SecurityAction::Throttle(limit) => {
                Action::Rate(Box::new(Rate { limit: limit.clone(), ban: None }))
            }
            SecurityAction::RateBasedBan(limit, ban) => {
                Action::Rate(Box::new(Rate { limit: limit.clone(), ban: Some(*ban) }))
            }
        };
        let header = |(name, value): &(String, String)| {
            let read = (name.parse::<HeaderName>().ok(), HeaderValue::from_str(value).ok());
            match read {
                (Some(name), Some(value)) => Ok((name, value)),
                _ => Err(Defect::Header(name.clone())),
            }
        };
        let headers = raw.request_headers_to_add.iter().map(header).collect::<Result<_, _>>()?;
        Ok(Rule {
            priority: raw.priority,
            description: raw.description.clone(),
            preview: raw.preview,
            test,
            action,
            headers,
        })
    }
}

impl Action {
    /// `configuredAction` of the log.
    pub fn configured(&self) -> &'static str {
        match self {
            Action::Allow => "ALLOW",
            Action::Deny(_) => "DENY",
            Action::Redirect(_) => "REDIRECT",
            Action::Rate(rate) if rate.ban.is_some() => "RATE_BASED_BAN",
            Action::Rate(_) => "THROTTLE",
        }
    }
}

impl fmt::Display for Action {
    /// As files write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Allow => f.write_str("allow"),
            Action::Deny(status) => write!(f, "deny({status})"),
            Action::Redirect(_) => f.write_str("redirect"),
            Action::Rate(rate) if rate.ban.is_some() => f.write_str("rate_based_ban"),
            Action::Rate(_) => f.write_str("throttle"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Everyone => f.write_str("*"),
            Test::Ranges(ranges) => {
                let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
                f.write_str(&ranges.join(", "))
            }
            Test::Expression(expression) => f.write_str(expression.text()),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::Expression(error) => error.fmt(f),
            Defect::Header(name) => write!(f, "`{name}` is no header, or its value is none"),
            Defect::Priority => f.write_str("another rule of the policy has the same priority"),
        }
    }
}
