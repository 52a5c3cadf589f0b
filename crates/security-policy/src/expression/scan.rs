//! What has to be known of an expression's text before it is parsed.

/// The result.
pub(super) struct Scanned {
    /// The text, its `has(` replaced: CEL's macro of that name takes fields alone, and Cloud Armor
    /// writes `has(request.headers['k'])`.
    pub(super) text: String,
    /// Characters of each operand of `&&` and `||`.
    pub(super) operands: Vec<usize>,
}

/// The name that [`scan`] gives to `has`.
pub(super) const HAS: &str = "has_";

/// One pass over the text that knows string literals, raw ones and those with three quotes too.
pub(super) fn scan(text: &str) -> Scanned {
    let mut out = String::with_capacity(text.len() + 8);
    let mut operands = Vec::new();
    let mut start = 0;
    let mut rest = text;
    let mut word = false; // does an identifier end here?
    let at = |rest: &str| text.len() - rest.len();
    while let Some(c) = rest.chars().next() {
        if !word && rest.starts_with("has") && rest[3..].trim_start().starts_with('(') {
            out.push_str(HAS);
            rest = &rest[3..];
            word = true;
            continue;
        }
        if rest.starts_with("&&") || rest.starts_with("||") {
            operands.push(text[start..at(rest)].trim().chars().count());
            out.push_str(&rest[..2]);
            rest = &rest[2..];
            start = at(rest);
            word = false;
            continue;
        }
        let taken = match c {
            '\'' | '"' => literal(rest, c, word && out.ends_with(['r', 'R'])),
            _ => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
        word = c.is_alphanumeric() || c == '_' || c == '.';
    }
    operands.push(text[start..].trim().chars().count());
    Scanned { text: out, operands }
}

/// The length of the literal at the start of `text`; one that does not end takes all of it.
fn literal(text: &str, quote: char, raw: bool) -> usize {
    let three: String = std::iter::repeat_n(quote, 3).collect();
    let end = if text.starts_with(&three) { three } else { quote.to_string() };
    let mut rest = &text[end.len()..];
    while let Some(c) = rest.chars().next() {
        if rest.starts_with(&end) {
            return text.len() - rest.len() + end.len();
        }
        rest = &rest[c.len_utf8()..];
        if c == '\\' && !raw {
            rest = rest.chars().next().map_or("", |next| &rest[next.len_utf8()..]);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::scan;

    #[test]
    fn literals_are_left_alone() {
        for (text, expected, operands) in [
            ("has(a) && has (b)", "has_(a) && has_ (b)", vec![6, 7]),
            ("'has(a) && b' == x.has(y)", "'has(a) && b' == x.has(y)", vec![25]),
            (r"R'\' || 'has(' || b", r"R'\' || 'has(' || b", vec![4, 6, 1]),
            (r"'\' || has(' || b", r"'\' || has(' || b", vec![12, 1]),
            ("'''a'b || '''||has(b)", "'''a'b || '''||has_(b)", vec![13, 6]),
            ("'é ||x", "'é ||x", vec![6]),
            ("hash(a)||xhas(b)", "hash(a)||xhas(b)", vec![7, 7]),
            ("", "", vec![0]),
        ] {
            let scanned = scan(text);
            assert_eq!((scanned.text.as_str(), scanned.operands), (expected, operands), "{text}");
        }
    }
}
