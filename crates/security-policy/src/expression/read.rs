//! The parser's tree → typed expressions: what the language has, and nothing else.

use super::error::ExpressionError as Error;
use super::evaluate::{Address, Change, Comparison, Number, Part, Text, Truth};
use super::scan::HAS;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use ipnet::IpNet;
use regex::Regex;
use slice::load_balancer::AddressGroup;
use std::net::IpAddr;

pub(super) enum Typed {
    Truth(Truth),
    Text(Text),
    Number(Number),
}

impl Typed {
    pub(super) fn called(&self) -> &'static str {
        match self {
            Typed::Truth(_) => "true or false",
            Typed::Text(_) => "a string",
            Typed::Number(_) => "a number",
        }
    }
}

/// What the whole expression asks for.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) origins: bool,
    pub(super) impossible_headers: Vec<String>,
}

pub(super) struct Reader<'g> {
    pub(super) groups: &'g [AddressGroup],
    pub(super) facts: Facts,
}

/// What cannot be had offline, by name: no rule set, feed or model can be behind it.
const UNAVAILABLE: &[(&str, &str)] = &[
    ("evaluatePreconfiguredWaf", "the rule sets of preconfigured WAF rules are Google's own"),
    ("evaluatePreconfiguredExpr", "the rule sets of preconfigured WAF rules are Google's own"),
    ("evaluateThreatIntelligence", "the lists of threat intelligence are Google's own"),
    ("evaluateAdaptiveProtectionAutoDeploy", "there is no adaptive protection"),
    ("evaluateAdaptiveProtection", "there is no adaptive protection"),
    ("evaluateOrganizationAddressGroup", "address groups of organizations are not simulated"),
    ("origin.tls_ja3_fingerprint", "TLS fingerprints are not taken"),
    ("origin.tls_ja4_fingerprint", "TLS fingerprints are not taken"),
    ("token", "there is no reCAPTCHA service"),
];

fn unavailable(name: &str) -> Option<Error> {
    let found = UNAVAILABLE.iter().find(|(known, _)| {
        name == *known || name.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'))
    });
    found.map(|(_, why)| Error::Unavailable(name.to_owned(), why))
}

impl Reader<'_> {
    pub(super) fn read(&mut self, expression: &IdedExpr) -> Result<Typed, Error> {
        match &expression.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => {
                Ok(Typed::Truth(Truth::Literal(*value.inner())))
            }
            Expr::Literal(LiteralValue::String(text)) => {
                Ok(Typed::Text(Text::Literal(text.inner().to_owned())))
            }
            Expr::Literal(LiteralValue::Int(number)) => {
                Ok(Typed::Number(Number::Literal(*number.inner())))
            }
            Expr::Ident(_) | Expr::Select(_) => self.attribute(expression),
            Expr::Call(call) => self.call(call),
            Expr::Literal(_) => Err(Error::Unknown("a literal of this type".to_owned())),
            Expr::List(_) => Err(Error::Unknown("a list in this place".to_owned())),
            Expr::Map(_) | Expr::Struct(_) => Err(Error::Unknown("a map".to_owned())),
            Expr::Comprehension(_) => Err(Error::Unknown("a macro".to_owned())),
            Expr::Unspecified => Err(Error::Syntax("something is missing".to_owned())),
        }
    }

    fn attribute(&mut self, expression: &IdedExpr) -> Result<Typed, Error> {
        let name =
            name(expression).ok_or_else(|| Error::Unknown("a field of such a value".to_owned()))?;
        Ok(Typed::Text(match name.as_str() {
            "origin.ip" => Text::Address(Address::Client),
            "origin.user_ip" => Text::Address(Address::User),
            "origin.region_code" => {
                self.facts.origins = true;
                Text::RegionCode
            }
            "origin.asn" => {
                self.facts.origins = true;
                return Ok(Typed::Number(Number::Asn));
            }
            "request.method" => Text::Method,
            "request.path" => Text::Path,
            "request.query" => Text::Query,
            "request.scheme" => Text::Scheme,
            other => {
                return Err(unavailable(other)
                    .unwrap_or_else(|| Error::Unknown(format!("the attribute `{other}`"))));
            }
        }))
    }

    fn call(&mut self, call: &CallExpr) -> Result<Typed, Error> {
        let all: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let function = call.func_name.as_str();
        if let Some(error) = unavailable(function) {
            return Err(error);
        }
        let comparison = match function {
            operators::LESS => Some(Comparison::Less),
            operators::LESS_EQUALS => Some(Comparison::LessOrEqual),
            operators::GREATER => Some(Comparison::Greater),
            operators::GREATER_EQUALS => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        if let (Some(comparison), [one, other]) = (comparison, all.as_slice()) {
            let (one, other) = (self.number(one)?, self.number(other)?);
            return Ok(Typed::Truth(Truth::NumberIs(one, comparison, other)));
        }
        let change = match function {
            "lower" => Some(Change::Lower),
            "upper" => Some(Change::Upper),
            "base64Decode" => Some(Change::Base64),
            "urlDecode" => Some(Change::Url),
            "urlDecodeUni" => Some(Change::UrlUnicode),
            "utf8ToUnicode" => Some(Change::Unicode),
            _ => None,
        };
        if let (Some(change), [text]) = (change, all.as_slice()) {
            return Ok(Typed::Text(Text::Changed(change, Box::new(self.text(text)?))));
        }
        let part = match function {
            "contains" => Some(Part::Contains),
            "startsWith" => Some(Part::StartsWith),
            "endsWith" => Some(Part::EndsWith),
            _ => None,
        };
        if let (Some(part), [whole, of]) = (part, all.as_slice()) {
            return Ok(Typed::Truth(Truth::Part(part, self.text(whole)?, self.text(of)?)));
        }
        match (function, all.as_slice()) {
            (operators::LOGICAL_AND, [one, other]) => {
                let (one, other) = (self.truth(one)?, self.truth(other)?);
                Ok(Typed::Truth(Truth::And(one, other)))
            }
            (operators::LOGICAL_OR, [one, other]) => {
                let (one, other) = (self.truth(one)?, self.truth(other)?);
                Ok(Typed::Truth(Truth::Or(one, other)))
            }
            (operators::LOGICAL_NOT, [one]) => Ok(Typed::Truth(Truth::Not(self.truth(one)?))),
            (operators::EQUALS, [one, other]) => Ok(Typed::Truth(self.same(one, other)?)),
            (operators::NOT_EQUALS, [one, other]) => {
                Ok(Typed::Truth(Truth::Not(Box::new(self.same(one, other)?))))
            }
            (operators::ADD, [one, other]) => {
                let (one, other) = (self.text(one)?, self.text(other)?);
                Ok(Typed::Text(Text::Joined(Box::new(one), Box::new(other))))
            }
            (operators::INDEX, [map, key]) => Ok(Typed::Text(Text::Header(self.header(map, key)?))),
            (HAS, [one]) => match &one.expr {
                Expr::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
                    let name = self.header(&call.args[0], &call.args[1])?;
                    Ok(Typed::Truth(Truth::HasHeader(name)))
                }
                _ => Err(Error::Unknown("`has` of anything but a header".to_owned())),
            },
            ("size", [one]) => Ok(Typed::Number(Number::Size(self.text(one)?))),
            ("int", [one]) => match self.read(one)? {
                Typed::Text(text) => Ok(Typed::Number(Number::Int(text))),
                Typed::Number(number) => Ok(Typed::Number(number)),
                other => Err(wrong(function, "a string", &other)),
            },
            ("matches", [text, pattern]) => {
                let text = self.text(text)?;
                let pattern = literal(pattern).ok_or(Error::NotLiteral("a pattern"))?;
                let pattern = Regex::new(pattern).map_err(|error| {
                    Error::Pattern(error.to_string().lines().last().unwrap_or_default().to_owned())
                })?;
                Ok(Typed::Truth(Truth::Matches(text, pattern)))
            }
            ("inIpRange", [address, range]) => {
                let address = self.address(address)?;
                let range = literal(range).ok_or(Error::NotLiteral("a range"))?;
                let ranges = vec![ip_net(range)?];
                Ok(Typed::Truth(Truth::Within { address, ranges, except: Vec::new() }))
            }
            ("evaluateAddressGroup", [group, address, rest @ ..]) if rest.len() <= 1 => {
                let name = literal(group).ok_or(Error::NotLiteral("the name of a group"))?;
                let group = self.groups.iter().find(|group| group.name == name);
                let group = group.ok_or_else(|| Error::UnknownGroup(name.to_owned()))?;
                let ranges = group.items.clone();
                let except = rest.first().map_or(Ok(Vec::new()), |list| exceptions(list))?;
                let address = self.address(address)?;
                Ok(Typed::Truth(Truth::Within { address, ranges, except }))
            }
            (known, all) if FUNCTIONS.contains(&known) => {
                Err(Error::Arguments(known.trim_end_matches('_').to_owned(), all.len()))
            }
            (other, _) => Err(Error::Unknown(spoken(other))),
        }
    }

    fn same(&mut self, one: &IdedExpr, other: &IdedExpr) -> Result<Truth, Error> {
        Ok(match (self.read(one)?, self.read(other)?) {
            (Typed::Text(one), Typed::Text(other)) => Truth::TextIs(one, other),
            (Typed::Number(one), Typed::Number(other)) => {
                Truth::NumberIs(one, Comparison::Equal, other)
            }
            (Typed::Truth(one), Typed::Truth(other)) => Truth::Same(Box::new(one), Box::new(other)),
            (one, other) => return Err(wrong("what is compared with it", one.called(), &other)),
        })
    }

    fn header(&mut self, map: &IdedExpr, key: &IdedExpr) -> Result<String, Error> {
        if name(map).as_deref() != Some("request.headers") {
            return Err(Error::Unknown("an index of anything but request.headers".to_owned()));
        }
        let name = literal(key).ok_or(Error::NotLiteral("the name of a header"))?;
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            self.facts.impossible_headers.push(name.to_owned());
        }
        Ok(name.to_owned())
    }

    fn truth(&mut self, expression: &IdedExpr) -> Result<Box<Truth>, Error> {
        match self.read(expression)? {
            Typed::Truth(truth) => Ok(Box::new(truth)),
            other => Err(wrong("an operand of a logical operator", "true or false", &other)),
        }
    }

    fn text(&mut self, expression: &IdedExpr) -> Result<Text, Error> {
        match self.read(expression)? {
            Typed::Text(text) => Ok(text),
            other => Err(wrong("an argument", "a string", &other)),
        }
    }

    fn number(&mut self, expression: &IdedExpr) -> Result<Number, Error> {
        match self.read(expression)? {
            Typed::Number(number) => Ok(number),
            other => Err(wrong("an operand of a comparison", "a number; see int()", &other)),
        }
    }

    fn address(&mut self, expression: &IdedExpr) -> Result<Address, Error> {
        Ok(match self.text(expression)? {
            Text::Address(address) => address,
            text => Address::Text(Box::new(text)),
        })
    }
}

const FUNCTIONS: &[&str] = &[
    HAS,
    "size",
    "int",
    "matches",
    "inIpRange",
    "evaluateAddressGroup",
    "contains",
    "startsWith",
    "endsWith",
    "lower",
    "upper",
    "base64Decode",
    "urlDecode",
    "urlDecodeUni",
    "utf8ToUnicode",
];

fn wrong(what: &str, wants: &'static str, is: &Typed) -> Error {
    Error::WrongType { what: what.to_owned(), wants, is: is.called() }
}

/// How people call a function of the parser's.
fn spoken(function: &str) -> String {
    match function {
        operators::CONDITIONAL => "the operator `? :`".to_owned(),
        operators::IN => "the operator `in`".to_owned(),
        _ => match function.strip_prefix('_').and_then(|rest| rest.strip_suffix('_')) {
            Some(operator) => format!("the operator `{operator}`"),
            None => format!("the function `{function}`"),
        },
    }
}

/// `a.b.c`.
fn name(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", name(&select.operand)?, select.field))
        }
        _ => None,
    }
}

fn literal(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn exceptions(list: &IdedExpr) -> Result<Vec<IpNet>, Error> {
    let Expr::List(list) = &list.expr else { return Err(Error::NotLiteral("the exceptions")) };
    let items = list.elements.iter();
    items.map(|item| ip_net(literal(item).ok_or(Error::NotLiteral("an exception"))?)).collect()
}

/// A range, or an address.
pub(crate) fn ip_net(text: &str) -> Result<IpNet, Error> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| Error::Range(text.to_owned()))
}

/// Every address group that the tree names.
pub(super) fn groups(expression: &IdedExpr) -> Vec<String> {
    let Expr::Call(call) = &expression.expr else { return Vec::new() };
    let mut all = Vec::new();
    if call.func_name == "evaluateAddressGroup" {
        all.extend(call.args.first().and_then(literal).map(str::to_owned));
    }
    let inner = call.target.as_deref().into_iter().chain(&call.args);
    all.extend(inner.flat_map(groups));
    all
}
