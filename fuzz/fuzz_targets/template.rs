//! Any text as a message template and as a JSONPath, over any message: no panic, no endless work,
//! and a text without braces is itself.
//!
//! Input: the template, a line `%%`, and a message as `condition` takes it.
#![no_main]

#[path = "../message.rs"]
mod message;

use libfuzzer_sys::fuzz_target;
use message::context;
use policy_bundle::{JsonPath, Template};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (source, message) = text.split_once("\n%%\n").unwrap_or((text, ""));
    match Template::parse(source) {
        Ok(template) => {
            assert_eq!(template.source(), source);
            let rendered = template.render(&context(message));
            if !source.contains('{') {
                assert_eq!(template.literal(), Some(source));
            }
            if let Some(literal) = template.literal() {
                assert_eq!(rendered, literal);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(path) = JsonPath::parse(source)
        && let Some((_, payload)) = message.split_once("\n\n")
        && let Ok(root) = serde_json::from_str(payload)
    {
        let _ = path.evaluate(&root);
    }
});
