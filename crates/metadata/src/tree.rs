//! What one caller sees below `/computeMetadata/v1/`: a tree of values, and how each kind of value
//! is written as text and as JSON (cloud-run 1.5).

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};
use std::fmt::Write;

/// A value or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Names of Google's: `machine-type` in paths and text, `machineType` in JSON. In the order in
    /// which they are listed.
    Directory(Vec<(&'static str, Node)>),
    /// Names of users' (attributes, emails), which stay as they are in JSON.
    Named(Vec<(String, Node)>),
    /// A list of directories: `0/`, `1/`, …
    Indexed(Vec<Node>),
    /// A text.
    Text(String),
    /// A number: in JSON without quotes.
    Number(u64),
    /// A list of texts: one a line; a list in JSON.
    Lines(Vec<String>),
    /// A list of texts that is JSON unless text is asked for (`tags`).
    JsonList(Vec<String>),
    /// `token`: made when it is asked for, left out of recursive answers.
    Token,
    /// `identity`: likewise.
    Identity,
}

/// `alt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// `alt=text`.
    Text,
    /// `alt=json`.
    Json,
}

impl Node {
    /// The node at a path of decoded segments.
    pub fn find<'n, S: AsRef<str>>(&'n self, path: &[S]) -> Option<&'n Node> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let first = first.as_ref();
        let child = match self {
            Node::Directory(children) => {
                children.iter().find(|(name, _)| *name == first).map(|(_, child)| child)
            }
            Node::Named(children) => {
                children.iter().find(|(name, _)| name == first).map(|(_, child)| child)
            }
            // "00" is no index.
            Node::Indexed(children) => children
                .iter()
                .enumerate()
                .find(|(index, _)| index.to_string() == first)
                .map(|(_, child)| child),
            _ => None,
        };
        child?.find(rest)
    }

    /// Is it a directory, with a slash at the end of its path?
    pub fn is_directory(&self) -> bool {
        matches!(self, Node::Directory(_) | Node::Named(_) | Node::Indexed(_))
    }

    /// A directory's entries, one a line.
    pub fn listing(&self) -> String {
        let mut listing = String::new();
        let mut line = |name: &str, child: &Node| {
            listing.push_str(name);
            listing.push_str(if child.is_directory() { "/\n" } else { "\n" });
        };
        match self {
            Node::Directory(children) => children.iter().for_each(|(name, n)| line(name, n)),
            Node::Named(children) => children.iter().for_each(|(name, n)| line(name, n)),
            Node::Indexed(children) => {
                children.iter().enumerate().for_each(|(index, n)| line(&index.to_string(), n));
            }
            _ => {}
        }
        listing
    }

    /// A value's representation unless `alt` asks for another one.
    pub fn default_representation(&self) -> Representation {
        match self {
            Node::JsonList(_) => Representation::Json,
            _ => Representation::Text,
        }
    }

    /// The whole as JSON; none for what is left out of recursive answers.
    pub fn json(&self) -> Option<Value> {
        Some(match self {
            Node::Directory(children) => {
                let member = |(name, child): &(&str, Node)| Some((camel(name), child.json()?));
                Value::Object(children.iter().filter_map(member).collect::<Map<_, _>>())
            }
            Node::Named(children) => {
                let member = |(name, child): &(String, Node)| Some((name.clone(), child.json()?));
                Value::Object(children.iter().filter_map(member).collect::<Map<_, _>>())
            }
            Node::Indexed(children) => children.iter().filter_map(Node::json).collect(),
            Node::Text(text) => Value::from(text.as_str()),
            Node::Number(number) => Value::from(*number),
            Node::Lines(lines) | Node::JsonList(lines) => lines.iter().cloned().collect(),
            Node::Token | Node::Identity => return None,
        })
    }

    /// A value as text, or a whole directory as lines `path value`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match self {
            Node::Text(value) => text.push_str(value),
            Node::Number(number) => text = number.to_string(),
            Node::Lines(lines) | Node::JsonList(lines) => {
                for line in lines {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            directory => directory.write_lines("", &mut text),
        }
        text
    }

    fn write_lines(&self, path: &str, text: &mut String) {
        let below = |name: &str| {
            if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
        };
        let mut line = |value: &dyn std::fmt::Display| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{path} {value}");
        };
        match self {
            Node::Text(value) => line(value),
            Node::Number(number) => line(number),
            Node::Lines(lines) | Node::JsonList(lines) => {
                lines.iter().for_each(|value| line(value));
            }
            Node::Directory(children) => {
                for (name, child) in children {
                    child.write_lines(&below(name), text);
                }
            }
            Node::Named(children) => {
                for (name, child) in children {
                    child.write_lines(&below(name), text);
                }
            }
            Node::Indexed(children) => {
                for (index, child) in children.iter().enumerate() {
                    child.write_lines(&below(&index.to_string()), text);
                }
            }
            Node::Token | Node::Identity => {}
        }
    }

    /// 16 hex digits, equal for equal values whatever their representation. A directory's listing
    /// and its whole content have different ones.
    pub fn etag(&self, recursive: bool) -> String {
        let content = if self.is_directory() && !recursive {
            self.listing()
        } else {
            self.json().map(|value| value.to_string()).unwrap_or_default()
        };
        let hash = digest(&SHA256, content.as_bytes());
        hash.as_ref()[..8].iter().fold(String::with_capacity(16), |mut etag, byte| {
            let _ = write!(etag, "{byte:02x}");
            etag
        })
    }
}

/// `machine-type` → `machineType`.
fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        match character {
            '-' => upper = true,
            _ if upper => {
                camel.extend(character.to_uppercase());
                upper = false;
            }
            _ => camel.push(character),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tree() -> Node {
        Node::Directory(vec![
            ("machine-type", Node::Text("small".into())),
            ("id", Node::Number(7)),
            ("tags", Node::JsonList(vec!["a".into(), "b".into()])),
            (
                "interfaces",
                Node::Indexed(vec![Node::Directory(vec![("ip", Node::Text("10.0.0.5".into()))])]),
            ),
            ("attributes", Node::Named(vec![("my-key".into(), Node::Text("v".into()))])),
            ("token", Node::Token),
        ])
    }

    #[test]
    fn a_directory_lists_lines_and_a_whole_is_json_with_camel_case_names() {
        let tree = tree();
        assert_eq!(tree.listing(), "machine-type\nid\ntags\ninterfaces/\nattributes/\ntoken\n");
        assert_eq!(
            tree.json(),
            Some(json!({
                "machineType": "small", "id": 7, "tags": ["a", "b"],
                "interfaces": [{"ip": "10.0.0.5"}], "attributes": {"my-key": "v"},
            }))
        );
        assert_eq!(
            tree.text(),
            "machine-type small\nid 7\ntags a\ntags b\ninterfaces/0/ip 10.0.0.5\nattributes/my-key v\n"
        );
    }

    #[test]
    fn an_etag_tells_values_apart_and_listings_from_wholes() {
        let tree = tree();
        assert_eq!(tree.etag(true).len(), 16);
        assert_ne!(tree.etag(true), tree.etag(false));
        let value = Node::Text("v".into());
        assert_eq!(value.etag(true), value.etag(false));
        assert_ne!(value.etag(true), Node::Text("w".into()).etag(true));
    }

    #[test]
    fn paths_lead_to_nodes() {
        let tree = tree();
        for (path, found) in [
            (vec!["id"], true),
            (vec!["interfaces", "0", "ip"], true),
            (vec!["interfaces", "00", "ip"], false),
            (vec!["interfaces", "1"], false),
            (vec!["interfaces", "x"], false),
            (vec!["tags", "0"], false),
            (vec!["attributes", "my-key"], true),
            (vec!["attributes", "myKey"], false),
            (vec!["machineType"], false),
        ] {
            assert_eq!(tree.find(&path).is_some(), found, "{path:?}");
        }
    }
}
