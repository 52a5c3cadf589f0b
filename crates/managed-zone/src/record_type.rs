//! Record types and response codes by number and name.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A record type or question type, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub u16);

macro_rules! record_types {
    ($($name:ident = $number:literal $text:literal $held:literal;)*) => {
        impl RecordType {
            $(#[doc = concat!("`", $text, "`.")] pub const $name: RecordType = RecordType($number);)*

            /// The type's mnemonic, where it has one.
            pub const fn mnemonic(self) -> Option<&'static str> {
                match self.0 { $($number => Some($text),)* _ => None }
            }

            /// May a private zone hold records of this type? (private-connectivity 4.2; the list
            /// is unconfirmed)
            pub const fn may_be_held(self) -> bool {
                match self.0 { $($number => $held,)* _ => false }
            }

            const NAMED: &'static [(&'static str, RecordType)] = &[$(($text, RecordType($number)),)*];
        }
    };
}

record_types! {
    A = 1 "A" true;
    NS = 2 "NS" true;
    CNAME = 5 "CNAME" true;
    SOA = 6 "SOA" true;
    PTR = 12 "PTR" true;
    HINFO = 13 "HINFO" false;
    MX = 15 "MX" true;
    TXT = 16 "TXT" true;
    AAAA = 28 "AAAA" true;
    SRV = 33 "SRV" true;
    NAPTR = 35 "NAPTR" true;
    DNAME = 39 "DNAME" false;
    OPT = 41 "OPT" false;
    DS = 43 "DS" true;
    SSHFP = 44 "SSHFP" true;
    IPSECKEY = 45 "IPSECKEY" true;
    RRSIG = 46 "RRSIG" false;
    NSEC = 47 "NSEC" false;
    DNSKEY = 48 "DNSKEY" false;
    TLSA = 52 "TLSA" true;
    SVCB = 64 "SVCB" true;
    HTTPS = 65 "HTTPS" true;
    SPF = 99 "SPF" true;
    TKEY = 249 "TKEY" false;
    TSIG = 250 "TSIG" false;
    IXFR = 251 "IXFR" false;
    AXFR = 252 "AXFR" false;
    MAILB = 253 "MAILB" false;
    MAILA = 254 "MAILA" false;
    ANY = 255 "ANY" false;
    CAA = 257 "CAA" true;
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(text) => f.pad(text),
            None => write!(f, "TYPE{}", self.0), // RFC 3597, 5
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no record type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotARecordType(pub String);

impl fmt::Display for NotARecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no record type; write one such as A, CNAME or TYPE65280", self.0)
    }
}

impl std::error::Error for NotARecordType {}

impl FromStr for RecordType {
    type Err = NotARecordType;

    fn from_str(text: &str) -> Result<Self, NotARecordType> {
        let named = RecordType::NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        named
            .map(|(_, number)| *number)
            .or_else(|| {
                let (word, digits) = text.split_at_checked(4)?;
                word.eq_ignore_ascii_case("TYPE").then(|| digits.parse().ok())?.map(RecordType)
            })
            .ok_or_else(|| NotARecordType(text.to_owned()))
    }
}

impl Serialize for RecordType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a question was answered: the response code, with the EDNS part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseCode {
    /// Answered, perhaps with no records.
    NoError,
    /// The message is malformed.
    FormErr,
    /// Resolution failed.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// Another operation than a query.
    NotImp,
    /// Not answered as a matter of policy.
    Refused,
    /// An EDNS version other than 0.
    BadVers,
}

impl ResponseCode {
    /// All of them; the position is [`ResponseCode::index`].
    pub const ALL: [ResponseCode; 7] = [
        ResponseCode::NoError,
        ResponseCode::FormErr,
        ResponseCode::ServFail,
        ResponseCode::NxDomain,
        ResponseCode::NotImp,
        ResponseCode::Refused,
        ResponseCode::BadVers,
    ];

    /// The number on the wire; above 15 only with EDNS.
    pub const fn number(self) -> u8 {
        match self {
            ResponseCode::NoError => 0,
            ResponseCode::FormErr => 1,
            ResponseCode::ServFail => 2,
            ResponseCode::NxDomain => 3,
            ResponseCode::NotImp => 4,
            ResponseCode::Refused => 5,
            ResponseCode::BadVers => 16,
        }
    }

    /// The name that Cloud DNS logs and metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            ResponseCode::NoError => "NOERROR",
            ResponseCode::FormErr => "FORMERR",
            ResponseCode::ServFail => "SERVFAIL",
            ResponseCode::NxDomain => "NXDOMAIN",
            ResponseCode::NotImp => "NOTIMP",
            ResponseCode::Refused => "REFUSED",
            ResponseCode::BadVers => "BADVERS",
        }
    }

    /// A small number for tables of counters: the position in [`ResponseCode::ALL`].
    pub const fn index(self) -> usize {
        match self {
            ResponseCode::NoError => 0,
            ResponseCode::FormErr => 1,
            ResponseCode::ServFail => 2,
            ResponseCode::NxDomain => 3,
            ResponseCode::NotImp => 4,
            ResponseCode::Refused => 5,
            ResponseCode::BadVers => 6,
        }
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for ResponseCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_mnemonic_or_number() {
        let check = |text: &str, number: u16, printed: &str| {
            let found = text.parse::<RecordType>();
            assert_eq!(found, Ok(RecordType(number)));
            assert_eq!(found.map(|t| t.to_string()).as_deref(), Ok(printed));
        };
        check("A", 1, "A");
        check("https", 65, "HTTPS");
        check("TYPE28", 28, "AAAA");
        check("type65280", 65280, "TYPE65280");
        for bad in ["", "B", "TYPE", "TYPE65536", "TYPE-1"] {
            assert_eq!(bad.parse::<RecordType>(), Err(NotARecordType(bad.to_owned())));
        }
    }

    #[test]
    fn the_position_of_a_code_is_its_index() {
        for (position, code) in ResponseCode::ALL.iter().enumerate() {
            assert_eq!(code.index(), position);
        }
    }
}
