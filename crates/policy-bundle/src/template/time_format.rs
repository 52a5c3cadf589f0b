//! Date patterns of Java's `SimpleDateFormat`, in UTC and English.

use crate::civil::{Civil, MONTHS, WEEKDAYS, days_from_civil};
use std::fmt::Write;

/// A parsed date pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeFormat {
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Text(String),
    /// Letter and how often it stands there.
    Letter(char, usize),
}

/// The letters that `SimpleDateFormat` knows.
const LETTERS: &str = "GyYMLwWDdFEuaHkKhmsSzZX";

impl TimeFormat {
    /// Parses a pattern.
    ///
    /// # Errors
    /// A letter that means nothing, or a quote that is not closed.
    pub fn parse(pattern: &str) -> Result<TimeFormat, String> {
        let mut fields = Vec::new();
        let mut text = String::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    text.push('\'');
                }
                '\'' => loop {
                    match chars.next() {
                        None => return Err(format!("`{pattern}` has an unterminated quote")),
                        Some('\'') if chars.peek() == Some(&'\'') => {
                            chars.next();
                            text.push('\'');
                        }
                        Some('\'') => break,
                        Some(c) => text.push(c),
                    }
                },
                c if c.is_ascii_alphabetic() => {
                    if !LETTERS.contains(c) {
                        return Err(format!("`{c}` is no letter of a date pattern"));
                    }
                    let mut count = 1;
                    while chars.peek() == Some(&c) {
                        chars.next();
                        count += 1;
                    }
                    if c == 'X' && count > 3 {
                        return Err("`X` may stand there three times at most".to_owned());
                    }
                    if !text.is_empty() {
                        fields.push(Field::Text(std::mem::take(&mut text)));
                    }
                    fields.push(Field::Letter(c, count));
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            fields.push(Field::Text(text));
        }
        Ok(TimeFormat { fields })
    }

    /// A moment, in milliseconds since the epoch, in this pattern.
    pub fn format(&self, unix_millis: i64) -> String {
        let at = Civil::of(unix_millis);
        let mut out = String::new();
        for field in &self.fields {
            match field {
                Field::Text(text) => out.push_str(text),
                Field::Letter(letter, count) => letter_text(*letter, *count, &at, &mut out),
            }
        }
        out
    }
}

fn letter_text(letter: char, count: usize, at: &Civil, out: &mut String) {
    let number = match letter {
        'G' => return out.push_str(if at.year > 0 { "AD" } else { "BC" }),
        'y' => return year(at.year, count, out),
        'Y' => return year(week(at).0, count, out),
        'M' | 'L' if count >= 3 => return name(MONTHS[at.month as usize - 1], count, out),
        'M' | 'L' => i64::from(at.month),
        'w' => week(at).1,
        'W' => (i64::from(at.day) + first_weekday_of_month(at) - 1) / 7 + 1,
        'D' => i64::from(at.day_of_year),
        'd' => i64::from(at.day),
        'F' => (i64::from(at.day) - 1) / 7 + 1,
        'E' => return name(WEEKDAYS[at.weekday as usize], count, out),
        'u' => i64::from((at.weekday + 6) % 7) + 1,
        'a' => return out.push_str(if at.hour < 12 { "AM" } else { "PM" }),
        'H' => i64::from(at.hour),
        'k' => i64::from((at.hour + 23) % 24 + 1),
        'K' => i64::from(at.hour % 12),
        'h' => i64::from((at.hour + 11) % 12 + 1),
        'm' => i64::from(at.minute),
        's' => i64::from(at.second),
        'S' => i64::from(at.millisecond),
        'z' if count >= 4 => return out.push_str("Coordinated Universal Time"),
        'z' => return out.push_str("UTC"),
        'Z' => return out.push_str("+0000"),
        _ => return out.push('Z'),
    };
    push(number, count, out);
}

fn push(number: i64, width: usize, out: &mut String) {
    write!(out, "{number:0width$}").expect("writing to a String does not fail");
}

fn year(year: i64, count: usize, out: &mut String) {
    if count == 2 { push(year.rem_euclid(100), 2, out) } else { push(year, count, out) }
}

fn name(name: &str, count: usize, out: &mut String) {
    out.push_str(if count >= 4 { name } else { &name[..3] });
}

fn first_weekday_of_month(at: &Civil) -> i64 {
    (i64::from(at.weekday) - (i64::from(at.day) - 1)).rem_euclid(7)
}

/// Week year and week of the year in the US locale: weeks begin on Sunday, the first holds 1 January.
fn week(at: &Civil) -> (i64, i64) {
    let today = days_from_civil(at.year, at.month, at.day);
    let week_begins = |year: i64| {
        let january = days_from_civil(year, 1, 1);
        january - (january + 4).rem_euclid(7)
    };
    let year = if today >= week_begins(at.year + 1) { at.year + 1 } else { at.year };
    (year, (today - week_begins(year)) / 7 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_print_what_java_prints() {
        let at = 1_494_390_266_007;
        for (pattern, text) in [
            ("yyyy-MM-dd", "2017-05-10"),
            ("yyyy-MM-dd HH-mm-ss", "2017-05-10 04-24-26"),
            ("yyyyMMddHHmmss", "20170510042426"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "2017-05-10T04:24:26.007Z"),
            ("EEE, d MMM yyyy h:mm a z", "Wed, 10 May 2017 4:24 AM UTC"),
            ("EEEE MMMM yy D", "Wednesday May 17 130"),
            ("''y'' 'it''s' XXX Z", "'2017' it's Z +0000"),
            ("YYYY w W u F k K", "2017 19 2 3 2 4 4"),
        ] {
            let format = TimeFormat::parse(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(format.format(at), text, "{pattern}");
        }
        // The week of 31 December 2016 is the last, that of 1 January 2017 the first.
        let format = TimeFormat::parse("YYYY-ww").expect("a pattern");
        assert_eq!(format.format(1_483_142_400_000), "2016-53");
        assert_eq!(format.format(1_483_228_800_000), "2017-01");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["b", "yyyy 'x", "XXXX"] {
            assert!(TimeFormat::parse(pattern).is_err(), "{pattern}");
        }
    }
}
