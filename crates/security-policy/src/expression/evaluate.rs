//! Typed expressions, and what they are worth for a request.

use super::decode;
use crate::compile::Policy;
use crate::request::{Request, within};
use ipnet::IpNet;
use regex::Regex;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

/// What an expression is evaluated against.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'s> {
    pub(crate) policy: &'s Policy,
    pub(crate) request: &'s Request<'s>,
}

/// What an expression asks for and the request does not have: an evaluation error, by which the
/// rule does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing<'e> {
    /// A header.
    Header(&'e str),
    /// Nothing is known about the client's address.
    Origin(&'static str),
    /// `int()` of something else.
    Number,
    /// An address was to be there.
    Address,
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Header(name) => write!(f, "the request has no header `{name}`"),
            Missing::Origin(what) => write!(f, "nobody knows {what} of the client's address"),
            Missing::Number => f.write_str("int() finds no number"),
            Missing::Address => f.write_str("there is no address where one is asked for"),
        }
    }
}

/// True or false.
#[derive(Debug)]
pub(super) enum Truth {
    Literal(bool),
    Not(Box<Truth>),
    And(Box<Truth>, Box<Truth>),
    Or(Box<Truth>, Box<Truth>),
    Same(Box<Truth>, Box<Truth>),
    TextIs(Text, Text),
    NumberIs(Number, Comparison, Number),
    Part(Part, Text, Text),
    Matches(Text, Regex),
    HasHeader(String),
    Within { address: Address, ranges: Vec<IpNet>, except: Vec<IpNet> },
}

/// Where a text stands in another one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A text.
#[derive(Debug)]
pub(super) enum Text {
    Literal(String),
    Method,
    Path,
    Query,
    Scheme,
    RegionCode,
    Address(Address),
    Header(String),
    Joined(Box<Text>, Box<Text>),
    Changed(Change, Box<Text>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Lower,
    Upper,
    Base64,
    Url,
    UrlUnicode,
    Unicode,
}

/// An address.
#[derive(Debug)]
pub(super) enum Address {
    Client,
    User,
    Text(Box<Text>),
}

/// A whole number.
#[derive(Debug)]
pub(super) enum Number {
    Literal(i64),
    Asn,
    Size(Text),
    Int(Text),
}

impl Truth {
    /// CEL's own rule for errors: `false && error` is false and `true || error` is true, whichever
    /// stands first.
    pub(super) fn holds<'e>(&'e self, scope: &Scope<'_>) -> Result<bool, Missing<'e>> {
        Ok(match self {
            Truth::Literal(value) => *value,
            Truth::Not(one) => !one.holds(scope)?,
            Truth::And(one, other) => return either(one, other, scope, false),
            Truth::Or(one, other) => return either(one, other, scope, true),
            Truth::Same(one, other) => one.holds(scope)? == other.holds(scope)?,
            Truth::TextIs(one, other) => one.value(scope)? == other.value(scope)?,
            Truth::NumberIs(one, comparison, other) => {
                comparison.holds(one.value(scope)?.cmp(&other.value(scope)?))
            }
            Truth::Part(part, whole, of) => {
                let (whole, of) = (whole.value(scope)?, of.value(scope)?);
                match part {
                    Part::Contains => whole.contains(&*of),
                    Part::StartsWith => whole.starts_with(&*of),
                    Part::EndsWith => whole.ends_with(&*of),
                }
            }
            Truth::Matches(text, pattern) => pattern.is_match(&text.value(scope)?),
            Truth::HasHeader(name) => scope.request.header(name).is_some(),
            Truth::Within { address, ranges, except } => {
                let address = address.value(scope)?;
                within(ranges, address) && !within(except, address)
            }
        })
    }
}

/// One of two that is `decisive` decides; else an error does, the first one.
fn either<'e>(
    one: &'e Truth,
    other: &'e Truth,
    scope: &Scope<'_>,
    decisive: bool,
) -> Result<bool, Missing<'e>> {
    match one.holds(scope) {
        Ok(value) if value == decisive => Ok(decisive),
        first => match other.holds(scope) {
            Ok(value) if value == decisive => Ok(decisive),
            second => first.and(second),
        },
    }
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Text {
    fn value<'t, 'e: 't>(&'e self, scope: &Scope<'t>) -> Result<Cow<'t, str>, Missing<'e>> {
        let request = scope.request;
        Ok(match self {
            Text::Literal(text) => Cow::Borrowed(text),
            Text::Method => Cow::Borrowed(request.method),
            Text::Path => Cow::Borrowed(request.path),
            Text::Query => Cow::Borrowed(request.query),
            Text::Scheme => Cow::Borrowed(request.scheme),
            Text::RegionCode => {
                let known = scope.policy.origin(request.client);
                let code = known.and_then(|origin| origin.region_code.as_deref());
                Cow::Borrowed(code.ok_or(Missing::Origin("the region"))?)
            }
            Text::Address(address) => Cow::Owned(address.value(scope)?.to_string()),
            Text::Header(name) => request.header(name).ok_or(Missing::Header(name))?,
            Text::Joined(one, other) => one.value(scope)? + other.value(scope)?,
            Text::Changed(change, text) => {
                let text = text.value(scope)?;
                Cow::Owned(match change {
                    Change::Lower => text.to_lowercase(),
                    Change::Upper => text.to_uppercase(),
                    Change::Base64 => decode::base64(&text),
                    Change::Url => decode::url(&text, false),
                    Change::UrlUnicode => decode::url(&text, true),
                    Change::Unicode => decode::unicode(&text),
                })
            }
        })
    }
}

impl Address {
    fn value<'e>(&'e self, scope: &Scope<'_>) -> Result<IpAddr, Missing<'e>> {
        match self {
            Address::Client => Ok(scope.request.client),
            Address::User => Ok(scope.request.user(&scope.policy.user_ip_request_headers)),
            Address::Text(text) => text.value(scope)?.trim().parse().map_err(|_| Missing::Address),
        }
    }
}

impl Number {
    fn value<'e>(&'e self, scope: &Scope<'_>) -> Result<i64, Missing<'e>> {
        match self {
            Number::Literal(number) => Ok(*number),
            Number::Asn => {
                let known = scope.policy.origin(scope.request.client);
                known.and_then(|origin| origin.asn).map(i64::from).ok_or(Missing::Origin("the AS"))
            }
            Number::Size(text) => {
                Ok(i64::try_from(text.value(scope)?.chars().count()).unwrap_or(i64::MAX))
            }
            Number::Int(text) => text.value(scope)?.parse().map_err(|_| Missing::Number),
        }
    }
}
