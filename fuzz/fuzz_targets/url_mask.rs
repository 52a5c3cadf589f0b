//! Any text as URL mask, any text as host and path: no panic, and what was found is really there.
//!
//! Input: mask, host and path, each on a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use url_map::{Placeholder, UrlMask};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (mask, host, path) = (next(), next(), next());
    let Ok(mask) = UrlMask::parse(mask) else { return };
    match mask.find(host, path) {
        Ok(found) => {
            assert_eq!(found.service.is_some(), mask.has(Placeholder::Service));
            assert_eq!(found.tag.is_some(), mask.has(Placeholder::Tag));
            for text in [found.service, found.tag].into_iter().flatten() {
                assert!(!text.is_empty() && !text.contains('/'));
                let lower = host.to_ascii_lowercase();
                assert!(lower.contains(&*text) || path.contains(&*text));
            }
        }
        Err(mismatch) => assert!(!mismatch.to_string().is_empty()),
    }
    // What the mask renders it reads again as some service and tag.
    let (host, path) = mask.render("a", "b");
    assert!(mask.find(&host, &path).is_ok(), "{host} {path}");
});
