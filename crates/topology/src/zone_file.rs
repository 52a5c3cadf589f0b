//! Zone files in the master format (RFC 1035, 5.1; `$TTL`: RFC 2308, 4), as BIND writes them and as
//! `gcloud dns record-sets export --zone-file-format` does, named by a managed zone's
//! `postern: {zoneFile: PATH}`.
//!
//! A file becomes the record sets that `gcloud dns record-sets import` makes of it: the SOA record
//! keeps the managed zone's own primary name server, the apex's NS records are left out. What is
//! wrong with names and data is said where all record sets are checked, at the place in the file.

mod tokens;

use crate::decode::{At, Int, Text};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::dns::ResourceRecordSet;
use crate::model::Model;
use std::collections::HashMap;
use std::path::Path;
use tokens::{Entry, Token, entries};

/// Reads a file, or says why not.
pub(crate) type ReadFile<'r> = &'r dyn Fn(&Path) -> Result<String, (Code, String)>;

/// Adds the records of zone files to their zones.
pub(crate) fn import(model: &mut Model, read: ReadFile<'_>, findings: &mut Findings) {
    let mut items = std::mem::take(&mut model.managed_zones.items);
    for item in &mut items {
        let raw = &mut item.raw;
        let Some(named) = raw.postern.as_ref().and_then(|ours| ours.zone_file.as_ref()) else {
            continue;
        };
        let path = model.directory(named.at).join(&named.value);
        match read(&path) {
            Ok(text) => {
                let file = findings.file(&path);
                raw.rrsets.extend(parse(&text, file, &raw.dns_name.value, findings));
            }
            Err((code, what)) => findings.error(
                code,
                named.at,
                format!("the zone file `{}`: {what}", path.display()),
                "write the path of a zone file, relative to this file",
            ),
        }
    }
    model.managed_zones.items = items;
}

/// The record sets of a zone file whose origin is this zone.
pub(crate) fn parse(
    text: &str,
    file: u32,
    zone: &str,
    findings: &mut Findings,
) -> Vec<ResourceRecordSet> {
    let mut reader = Reader {
        zone,
        origin: zone.to_owned(),
        owner: None,
        ttl: None,
        last_ttl: None,
        sets: Vec::new(),
        known: HashMap::new(),
        findings,
    };
    for entry in entries(text, file) {
        match entry {
            Ok(entry) => reader.entry(&entry),
            Err((at, what)) => {
                reader.findings.error(Code::Syntax, at, what, "correct the zone file");
            }
        }
    }
    reader.sets
}

struct Reader<'r> {
    zone: &'r str,
    origin: String,
    /// The owner of the record before, for lines that begin with white space.
    owner: Option<Text>,
    /// `$TTL`.
    ttl: Option<i64>,
    /// The TTL of the record before, where there is no `$TTL` (RFC 1035, 5.1).
    last_ttl: Option<i64>,
    sets: Vec<ResourceRecordSet>,
    known: HashMap<(String, String), usize>,
    findings: &'r mut Findings,
}

impl Reader<'_> {
    fn error(&mut self, at: Mark, what: impl Into<String>, fix: &str) {
        self.findings.error(Code::Syntax, at, what, fix);
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        let Some(first) = entry.tokens.first() else { return };
        let argument = entry.tokens.get(1);
        match (first.text.to_ascii_uppercase().as_str(), argument) {
            ("$ORIGIN", Some(name)) => self.origin = self.absolute(name),
            ("$TTL", Some(text)) => match seconds(text.text) {
                Some(ttl) => self.ttl = Some(ttl),
                None => self.error(text.at, "no TTL", "write seconds, or 1h30m"),
            },
            ("$ORIGIN" | "$TTL", None) => {
                self.error(first.at, format!("{} has no value", first.text), "write it behind");
            }
            (directive, _) if directive.starts_with('$') => {
                let fix = "write the records out into one file";
                self.error(first.at, format!("{} is not read", first.text), fix);
            }
            _ => self.record(entry, first),
        }
    }

    fn record(&mut self, entry: &Entry<'_>, first: &Token<'_>) {
        let mut rest = &entry.tokens[..];
        if !entry.owner_is_above {
            rest = &rest[1..];
            self.owner = Some(At { at: first.at, value: self.absolute(first) });
        }
        let Some(owner) = self.owner.clone() else {
            self.error(first.at, "the first record has no owner", "begin the line with a name");
            return;
        };
        // TTL and class, in either order, both optional.
        let mut ttl = None;
        while let Some((token, others)) = rest.split_first() {
            match token.text.to_ascii_uppercase().as_str() {
                "IN" => {}
                "CH" | "HS" | "CS" => {
                    let what = format!("class {}; Cloud DNS has class IN only", token.text);
                    self.error(token.at, what, "remove the record");
                    return;
                }
                text if ttl.is_none() && text.starts_with(|c: char| c.is_ascii_digit()) => {
                    ttl = seconds(text);
                    if ttl.is_none() {
                        self.error(token.at, "no TTL", "write seconds, or 1h30m");
                        return;
                    }
                }
                _ => break,
            }
            rest = others;
        }
        let Some((kind, data)) = rest.split_first() else {
            self.error(first.at, "the record has no type", "write OWNER TTL IN TYPE DATA");
            return;
        };
        self.last_ttl = ttl.or(self.ttl).or(self.last_ttl);
        let ttl = self.last_ttl;
        let record_type = kind.text.to_ascii_uppercase();
        let Some(data_at) = data.first().map(|token| token.at) else {
            self.error(kind.at, format!("the {record_type} record has no data"), "write its data");
            return;
        };
        let apex = owner.eq_ignore_ascii_case(self.zone);
        if record_type == "NS" && apex {
            return;
        }
        let value = self.data(&record_type, data);
        let data = At { at: data_at, value };
        let key = (owner.to_ascii_lowercase(), record_type.clone());
        if let Some(held) = self.known.get(&key).and_then(|index| self.sets.get_mut(*index)) {
            if held.ttl.as_ref().map(|ttl| ttl.0) != ttl {
                let what = format!(
                    "another TTL than the {record_type} records of {} above; theirs is taken (RFC 2181, 5.2)",
                    owner.value
                );
                self.findings.warning(Code::RecordConflict, owner.at, what, "write one TTL");
            }
            held.rrdatas.push(data);
            return;
        }
        self.known.insert(key, self.sets.len());
        self.sets.push(ResourceRecordSet {
            at: first.at,
            faulty: false,
            name: owner,
            record_type: At { at: kind.at, value: record_type },
            ttl: ttl.map(Int),
            rrdatas: vec![data],
            routing_policy: None,
        });
    }

    /// A name with its origin, where it is relative.
    fn absolute(&self, name: &Token<'_>) -> String {
        match name.text {
            "@" => self.origin.clone(),
            text if ends_with_root(text) => text.to_owned(),
            text if self.origin == "." => format!("{text}."),
            text => format!("{text}.{}", self.origin),
        }
    }

    /// Data in presentation format with absolute names and numbers of seconds.
    fn data(&self, record_type: &str, tokens: &[Token<'_>]) -> String {
        // Which of the fields are names, and which are times.
        let (names, times): (&[usize], &[usize]) = match record_type {
            "CNAME" | "NS" | "PTR" | "DNAME" => (&[0], &[]),
            "MX" | "AFSDB" | "KX" | "SVCB" | "HTTPS" => (&[1], &[]),
            "SRV" => (&[3], &[]),
            "NAPTR" => (&[5], &[]),
            "SOA" => (&[0, 1], &[3, 4, 5, 6]),
            _ => (&[], &[]),
        };
        let field = |(index, token): (usize, &Token<'_>)| {
            if record_type == "SOA" && index == 0 {
                managed_zone::PRIMARY_NAME_SERVER.to_owned()
            } else if names.contains(&index) {
                self.absolute(token)
            } else if times.contains(&index)
                && let Some(seconds) = seconds(token.text)
            {
                seconds.to_string()
            } else {
                token.text.to_owned()
            }
        };
        tokens.iter().enumerate().map(field).collect::<Vec<_>>().join(" ")
    }
}

/// Ends with a dot that is no escaped one.
fn ends_with_root(text: &str) -> bool {
    let Some(before) = text.strip_suffix('.') else { return false };
    before.bytes().rev().take_while(|octet| *octet == b'\\').count() % 2 == 0
}

/// `3600`, or `1h30m` as BIND has it.
fn seconds(text: &str) -> Option<i64> {
    let mut sum: i64 = 0;
    let mut number: Option<i64> = None;
    for octet in text.bytes() {
        if octet.is_ascii_digit() {
            let digit = i64::from(octet - b'0');
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match octet.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        sum = sum.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    // A TTL has 31 bits (RFC 2181, 8).
    let sum = sum.checked_add(number.unwrap_or(0))?;
    (!text.is_empty() && sum <= i64::from(i32::MAX)).then_some(sum)
}

#[cfg(test)]
mod tests;
