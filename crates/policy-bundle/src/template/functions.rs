//! The functions of message templates (5).

use super::digest::{self, Algorithm};
use super::{Argument, Call, TimeFormat, escape, html, xeger};
use crate::context::{Context, uuid};
use crate::json_path::JsonPath;
use crate::pattern::JavaRegex;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Digest(Algorithm, Encoding),
    Hmac(Algorithm),
    EncodeBase64,
    DecodeBase64,
    ToUpperCase,
    ToLowerCase,
    Substring,
    ReplaceAll,
    ReplaceFirst,
    EscapeJson,
    EscapeXml,
    EscapeXml11,
    EncodeHtml,
    /// Milliseconds, not seconds?
    TimeFormat(bool),
    CreateUuid,
    RandomLong,
    Xeger,
    FirstNonNull,
    JsonPath,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Hex,
    Base64,
}

/// Functions that Apigee has and we have not: an XPath engine is not worth its weight here.
pub(super) fn known_but_not_supported(name: &str) -> bool {
    name == "xpath"
}

impl Function {
    /// The function of this name, with the fewest and the most arguments it takes.
    pub(super) fn named(name: &str) -> Option<(Function, usize, usize)> {
        use Function as F;
        if let Some(rest) = name.strip_prefix("hmac") {
            return Some((F::Hmac(Algorithm::of_hmac(rest)?), 2, 4));
        }
        for (suffix, encoding) in [("Hex", Encoding::Hex), ("Base64", Encoding::Base64)] {
            if let Some(algorithm) = name.strip_suffix(suffix).and_then(Algorithm::of_digest) {
                return Some((F::Digest(algorithm, encoding), 1, 1));
            }
        }
        Some(match name {
            "encodeBase64" => (F::EncodeBase64, 1, 1),
            "decodeBase64" => (F::DecodeBase64, 1, 1),
            "toUpperCase" => (F::ToUpperCase, 1, 1),
            "toLowerCase" => (F::ToLowerCase, 1, 1),
            "substring" => (F::Substring, 2, 3),
            "replaceAll" => (F::ReplaceAll, 3, 3),
            "replaceFirst" => (F::ReplaceFirst, 3, 3),
            "escapeJSON" => (F::EscapeJson, 1, 1),
            "escapeXML" => (F::EscapeXml, 1, 1),
            "escapeXML11" => (F::EscapeXml11, 1, 1),
            // The page's own example writes escapeHTML.
            "encodeHTML" | "escapeHTML" => (F::EncodeHtml, 1, 1),
            "timeFormat" | "timeFormatUTC" => (F::TimeFormat(false), 2, 2),
            "timeFormatMs" | "timeFormatUTCMs" => (F::TimeFormat(true), 2, 2),
            "createUuid" => (F::CreateUuid, 0, 0),
            "randomLong" => (F::RandomLong, 0, 2),
            "xeger" => (F::Xeger, 1, 1),
            "firstnonnull" => (F::FirstNonNull, 1, 64),
            "jsonPath" => (F::JsonPath, 2, 3),
            _ => return None,
        })
    }
}

/// Finds mistakes in literal arguments when the bundle is loaded.
pub(super) fn check(call: &Call) -> Result<(), String> {
    let literal = |index: usize| match call.arguments.get(index) {
        Some(Argument::Literal(text)) => Some(&**text),
        _ => None,
    };
    let wrong = |what: String| format!("`{}`: {what}.", call.source);
    match call.function {
        Function::ReplaceAll | Function::ReplaceFirst => {
            if let Some(pattern) = literal(1) {
                JavaRegex::find(pattern).map_err(wrong)?;
            }
        }
        Function::Xeger => {
            if let Some(pattern) = literal(0) {
                xeger::generate(pattern, || 0).map_err(wrong)?;
            }
        }
        Function::TimeFormat(_) => {
            if let Some(format) = literal(0) {
                TimeFormat::parse(format).map_err(wrong)?;
            }
        }
        Function::JsonPath => {
            if let Some(path) = literal(0) {
                JsonPath::parse(path).map_err(|error| wrong(error.to_string()))?;
            }
        }
        Function::Hmac(_) => {
            for index in [2, 3] {
                if let Some(name) = literal(index)
                    && digest::KeyEncoding::named(name).is_none()
                {
                    return Err(wrong(format!("there is no encoding `{name}`")));
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The result; none is null.
pub(super) fn call(call: &Call, context: &Context) -> Option<String> {
    use Function as F;
    let argument = |index: usize| -> Option<Cow<'_, str>> {
        match call.arguments.get(index)? {
            Argument::Literal(text) => Some(Cow::Borrowed(&**text)),
            Argument::Variable(reference) => {
                Some(Cow::Owned(reference.read(context)?.as_text().into_owned()))
            }
        }
    };
    Some(match call.function {
        F::Digest(algorithm, encoding) => {
            let digest = algorithm.digest(argument(0)?.as_bytes());
            match encoding {
                Encoding::Hex => digest::hex(&digest),
                Encoding::Base64 => STANDARD.encode(digest),
            }
        }
        F::Hmac(algorithm) => {
            let encoding = match argument(2) {
                Some(name) => digest::KeyEncoding::named(&name)?,
                None => digest::KeyEncoding::Utf8,
            };
            let hex = match argument(3).as_deref() {
                None => false,
                Some(name) => match digest::KeyEncoding::named(name)? {
                    digest::KeyEncoding::Hex => true,
                    digest::KeyEncoding::Base64 => false,
                    digest::KeyEncoding::Utf8 => return None,
                },
            };
            let mac = algorithm.hmac(&encoding.decode(&argument(0)?)?, argument(1)?.as_bytes());
            if hex { digest::hex(&mac) } else { STANDARD.encode(mac) }
        }
        F::EncodeBase64 => STANDARD.encode(argument(0)?.as_bytes()),
        // Bad input, the URL alphabet included, gives an empty text.
        F::DecodeBase64 => STANDARD
            .decode(argument(0)?.trim_ascii())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default(),
        F::ToUpperCase => argument(0)?.to_uppercase(),
        F::ToLowerCase => argument(0)?.to_lowercase(),
        F::Substring => substring(&argument(0)?, &argument(1)?, argument(2).as_deref())?,
        F::ReplaceAll | F::ReplaceFirst => {
            let regex = JavaRegex::find(&argument(1)?).ok()?;
            let all = call.function == F::ReplaceAll;
            regex.replace(&argument(0)?, &argument(2)?, all)
        }
        F::EscapeJson => escape::json(&argument(0)?),
        F::EscapeXml => escape::xml10(&argument(0)?),
        F::EscapeXml11 => escape::xml11(&argument(0)?),
        F::EncodeHtml => html::encode(&argument(0)?),
        F::TimeFormat(millis) => {
            let format = TimeFormat::parse(&argument(0)?).ok()?;
            let time: i64 = argument(1)?.trim().parse().ok()?;
            format.format(if millis { time } else { time.checked_mul(1000)? })
        }
        F::CreateUuid => uuid(context.entropy),
        F::RandomLong => random_long(context, argument(0).as_deref(), argument(1).as_deref())?,
        F::Xeger => xeger::generate(&argument(0)?, context.entropy).ok()?,
        F::FirstNonNull => (0..call.arguments.len()).find_map(argument)?.into_owned(),
        F::JsonPath => {
            let path = JsonPath::parse(&argument(0)?).ok()?;
            let json: serde_json::Value = match serde_json::from_str(&argument(1)?) {
                Ok(json) => json,
                Err(_) => return Some(String::new()),
            };
            let whole = argument(2).is_some_and(|text| text.eq_ignore_ascii_case("true"));
            path.as_text(&json, whole)
        }
    })
}

/// Java's indices count UTF-16 units; characters serve every text that people cut (unconfirmed
/// beyond the basic plane). Negative ones count from the end, too large ones stop there.
fn substring(text: &str, start: &str, end: Option<&str>) -> Option<String> {
    let length = text.chars().count() as i64;
    let index = |text: &str| -> Option<i64> {
        let index: i64 = text.trim().parse().ok()?;
        Some(if index < 0 { index + length } else { index }.clamp(0, length))
    };
    let start = index(start)?;
    let end = match end {
        Some(end) => index(end)?,
        None => length,
    };
    let take = usize::try_from(end - start).unwrap_or(0);
    Some(text.chars().skip(start as usize).take(take).collect())
}

/// `randomLong()`, `randomLong(min)`, `randomLong(min,max)`.
fn random_long(context: &Context, min: Option<&str>, max: Option<&str>) -> Option<String> {
    let bits = (context.entropy)();
    let Some(min) = min else { return Some((bits as i64).to_string()) };
    let min: i64 = min.trim().parse().ok()?;
    let max: i64 = match max {
        Some(max) => max.trim().parse().ok()?,
        None => i64::MAX,
    };
    if max <= min {
        return Some(min.to_string());
    }
    let span = max.abs_diff(min);
    let offset = if span == u64::MAX { bits } else { bits % (span + 1) };
    Some((i128::from(min) + i128::from(offset)).to_string())
}
