//! Real pipes, real files.

use super::*;
use serde_json::Value;
use std::io::Read;
use std::process::{Command, Stdio};

/// Runs a script with its output in a log, to its end and that of the log.
fn run(script: &str, origin: Option<Origin>, done: impl Fn(&str) -> bool) -> String {
    let path = std::env::temp_dir().join(format!(
        "output-{}-{:?}.log",
        std::process::id(),
        std::thread::current().id()
    ));
    let log = crate::child::open_log(&path).expect("a log");
    let output = Output::start().expect("started");
    let [stdout, stderr] = output.pipes(log, origin).expect("pipes");
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().expect("started");
    drop(command);
    assert!(child.wait().expect("ended").success(), "it is never held up");
    let began = Instant::now();
    let text = loop {
        let mut text = String::new();
        let mut file = File::open(&path).expect("the log");
        file.read_to_string(&mut text).expect("UTF-8");
        if done(&text) {
            break text;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it never came: {text}");
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = std::fs::remove_file(path);
    text
}

#[test]
fn lines_become_entries_of_their_stream() {
    let origin = Origin { project: "p".to_owned(), ..Origin::default() };
    let script = r#"echo plain; echo '{"severity":"ERROR","message":"oh"}' >&2; printf last"#;
    let text = run(script, Some(origin), |text| text.lines().count() == 3);
    let entries: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let find = |payload: &str| {
        let found = entries.iter().find(|entry| entry["textPayload"] == payload);
        let entry = found.unwrap_or_else(|| panic!("{payload} in {text}"));
        let name = entry["logName"].as_str().unwrap_or_default();
        (
            entry["severity"].as_str().unwrap_or_default(),
            name.rsplit("%2F").next().unwrap_or_default(),
        )
    };
    assert_eq!(find("plain"), ("DEFAULT", "stdout"));
    assert_eq!(find("oh"), ("ERROR", "stderr"));
    assert_eq!(find("last"), ("DEFAULT", "stdout"), "a last line without an end");
}

#[test]
fn a_flood_is_dropped_and_told_and_others_are_heard() {
    let flood = "i=0; while [ $i -lt 3 ]; do head -c 1000000 /dev/zero | tr '\\0' '\\n' | sed s/^/xxxxxxxxxx/; i=$((i+1)); done; echo quiet >&2";
    let text = run(flood, None, |text| text.contains("were dropped") && text.contains("quiet"));
    let size = text.len();
    assert!(size < 1 << 20, "{size} bytes of some 33 MB");
    assert!(text.lines().any(|line| line.contains("of stdout were dropped")));
}
