//! The cookie of session affinity (cloud-run 2.4): which instance served a client before.
//!
//! It is no credential: all it can do is choose among the instances that the request may get
//! anyway, so forging one gains nothing. One that fits no instance is as good as none.

use std::fmt;

/// Its name (unconfirmed).
pub const COOKIE: &str = "GAESA";

/// How long a client keeps it: 30 days, in seconds.
pub const MAX_AGE: u32 = 30 * 24 * 60 * 60;

/// An instance, as the cookie names it. The form of the real value is opaque; ours is 40
/// hexadecimal digits (unconfirmed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// [`digest`] of the revision's name.
    pub revision: u64,
    /// The instance's number in the revision.
    pub ordinal: u32,
    /// [`digest`] of its id: numbers come again after a restart.
    pub instance: u64,
}

impl Affinity {
    /// From the values of a request's `Cookie` headers. The first cookie of the name counts.
    pub fn from_cookies<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let cookies = values.into_iter().flat_map(|value| value.split(|byte| *byte == b';'));
        let value = cookies
            .filter_map(|cookie| cookie.trim_ascii().strip_prefix(COOKIE.as_bytes()))
            .find_map(|rest| rest.strip_prefix(b"="))?;
        let text = std::str::from_utf8(value).ok()?;
        if text.len() != 40 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        Some(Affinity {
            revision: u64::from_str_radix(text.get(..16)?, 16).ok()?,
            ordinal: u32::from_str_radix(text.get(16..24)?, 16).ok()?,
            instance: u64::from_str_radix(text.get(24..)?, 16).ok()?,
        })
    }

    /// The value of `Set-Cookie` (its attributes (unconfirmed)).
    pub fn set_cookie(&self) -> String {
        format!("{COOKIE}={self}; Max-Age={MAX_AGE}; Path=/; HttpOnly")
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:08x}{:016x}", self.revision, self.ordinal, self.instance)
    }
}

/// A short stable number for a name (FNV-1a).
pub fn digest(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_comes_back_among_others_and_anything_else_is_none() {
        let affinity =
            Affinity { revision: digest("orders-00001-abc"), ordinal: 7, instance: u64::MAX };
        let set = affinity.set_cookie();
        let pair = set.split(';').next().expect("a pair");
        let read =
            |values: &[&str]| Affinity::from_cookies(values.iter().map(|value| value.as_bytes()));
        assert_eq!(read(&[pair]), Some(affinity));
        assert_eq!(read(&["a=b", &format!("c=d; {pair};e=f")]), Some(affinity));
        assert_eq!(read(&[&format!("x{pair}")]), None, "another name");
        for wrong in [
            "",
            "GAESA",
            "GAESA=",
            "GAESA=1",
            "GAESA=+000000000000000000000000000000000000001",
            "GAESA=zz00000000000000000000000000000000000000",
            &format!("{pair}0"),
        ] {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
    }
}
