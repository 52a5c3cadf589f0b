//! Any text as a condition, over any message: no panic, no endless work, the deciding comparison is
//! a part of the text, and parentheses change nothing.
//!
//! Input: the condition, a line `%%`, and a message (path, query, `name: value` headers, an empty
//! line, the payload).
#![no_main]

#[path = "../message.rs"]
mod message;

use libfuzzer_sys::fuzz_target;
use message::context;
use policy_bundle::Condition;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (source, message) = text.split_once("\n%%\n").unwrap_or((text, ""));
    let condition = match Condition::parse(source) {
        Ok(condition) => condition,
        Err(error) => {
            assert!(error.offset <= source.len() && !error.what.is_empty());
            return;
        }
    };
    let context = context(message);
    let evaluation = condition.evaluate(&context);
    if let Some(leaf) = evaluation.leaf {
        assert!(condition.leaf(leaf).is_some_and(|text| source.contains(text)));
        assert!(condition.leaf_variable(leaf).is_some());
    }
    assert_eq!(condition.evaluate(&context), evaluation);
    if source.trim().is_empty() {
        return;
    }
    let changes = [
        (format!("({source})"), evaluation.result),
        (format!("({source}) and ({source})"), evaluation.result),
        (format!("({source}) or ({source})"), evaluation.result),
        (format!("not ({source})"), !evaluation.result),
    ];
    for (changed, expected) in changes {
        // Only too much nesting or length may be refused here.
        let Ok(condition) = Condition::parse(&changed) else { continue };
        assert_eq!(condition.evaluate(&context).result, expected, "{changed}");
    }
});
