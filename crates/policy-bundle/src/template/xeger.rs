//! Text that matches a regular expression (`xeger`), bounded.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The most repetitions of `*`, `+` and `{n,}` beyond their minimum; Java's library has no
/// documented bound.
const EXTRA_MAX: u32 = 8;

/// The longest text that is made.
const CHARS_MAX: usize = 4096;

/// A text that matches, from these random numbers.
///
/// # Errors
/// The pattern is malformed, or its texts are too long.
pub(super) fn generate(pattern: &str, entropy: impl FnMut() -> u64) -> Result<String, String> {
    let hir = regex_syntax::ParserBuilder::new()
        .nest_limit(64)
        .build()
        .parse(pattern)
        .map_err(|_| format!("`{pattern}` is not a regular expression"))?;
    let mut generator = Generator { entropy, out: String::new() };
    generator.emit(&hir)?;
    Ok(generator.out)
}

struct Generator<E> {
    entropy: E,
    out: String,
}

impl<E: FnMut() -> u64> Generator<E> {
    fn below(&mut self, bound: u64) -> u64 {
        (self.entropy)() % bound.max(1)
    }

    fn emit(&mut self, hir: &Hir) -> Result<(), String> {
        if self.out.len() > CHARS_MAX {
            return Err("its texts are too long".to_owned());
        }
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => self.out.push_str(&String::from_utf8_lossy(&literal.0)),
            HirKind::Class(class) => self.class(class),
            HirKind::Repetition(repetition) => {
                let most = repetition.max.unwrap_or(repetition.min.saturating_add(EXTRA_MAX));
                let spread = u64::from(most.saturating_sub(repetition.min)) + 1;
                let times = u64::from(repetition.min) + self.below(spread);
                for _ in 0..times {
                    self.emit(&repetition.sub)?;
                }
            }
            HirKind::Capture(capture) => self.emit(&capture.sub)?,
            HirKind::Concat(parts) => {
                for part in parts {
                    self.emit(part)?;
                }
            }
            HirKind::Alternation(parts) => {
                let chosen = self.below(parts.len() as u64) as usize;
                self.emit(&parts[chosen])?;
            }
        }
        Ok(())
    }

    /// A character of a class; printable ASCII where the class has any.
    fn class(&mut self, class: &Class) {
        let ranges: Vec<(u32, u32)> = match class {
            Class::Unicode(class) => {
                class.ranges().iter().map(|r| (r.start() as u32, r.end() as u32)).collect()
            }
            Class::Bytes(class) => {
                class.ranges().iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect()
            }
        };
        let printable: Vec<(u32, u32)> = ranges
            .iter()
            .map(|(start, end)| ((*start).max(0x20), (*end).min(0x7e)))
            .filter(|(start, end)| start <= end)
            .collect();
        let ranges = if printable.is_empty() { ranges } else { printable };
        let size: u64 = ranges.iter().map(|(start, end)| u64::from(end - start) + 1).sum();
        let mut index = self.below(size);
        for (start, end) in ranges {
            let width = u64::from(end - start) + 1;
            if index < width {
                // A class of characters holds no surrogates, so this is one.
                self.out.extend(char::from_u32(start + index as u32));
                return;
            }
            index -= width;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_made_matches(seed: u64) {
            for pattern in ["[1-9]{7}", "(ab|c)+x?", "[^a]*", "a.b\\d{2,4}", "\\PC"] {
                let mut state = seed;
                let text = generate(pattern, || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    state >> 33
                }).expect("a pattern");
                let regex = regex::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
                prop_assert!(regex.is_match(&text), "{} {:?}", pattern, text);
            }
        }
    }

    #[test]
    fn a_pattern_that_would_fill_the_memory_is_refused() {
        assert!(generate("((a{999}){999}){999}", || 0).is_err());
        assert!(generate("(", || 0).is_err());
    }
}
