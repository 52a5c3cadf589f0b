//! Any text as path template, rewrite and path: no panic, and a rewrite that repeats the template
//! gives the path back.
//!
//! Input: template, rewrite and path, each on a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use url_map::{PathTemplate, TemplateRewrite};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (template, rewrite, path) = (next(), next(), next());
    let template = match PathTemplate::parse(template) {
        Ok(template) => template,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    if !template.matches(path) {
        return;
    }
    assert!(path.starts_with('/'));
    match TemplateRewrite::parse(rewrite, &template) {
        Ok(rewrite) => assert!(rewrite.apply(path).starts_with('/')),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some(same) = without_patterns(template.as_str())
        && let Ok(same) = TemplateRewrite::parse(&same, &template)
    {
        assert_eq!(same.apply(path), path);
    }
});

/// `/a/{x=b/*}` → `/a/{x}`; none where an operator has no name.
fn without_patterns(template: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, inside)) = rest.split_once('{') {
        let (variable, after) = inside.split_once('}')?;
        let name = variable.split('=').next()?;
        out.push_str(&format!("{before}{{{name}}}"));
        rest = after;
    }
    out.push_str(rest);
    (!out.contains('*')).then_some(out)
}
