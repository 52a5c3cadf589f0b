//! `urlRewrite` (private-connectivity 2.6).

use crate::paths::Matched;
use crate::pattern::{PatternError, Substitution};
use crate::template::{PathTemplate, TemplateError, TemplateRewrite};
use http::HeaderValue;
use slice::load_balancer as raw;
use std::fmt;

/// A compiled `urlRewrite`.
#[derive(Clone, Debug, Default)]
pub struct UrlRewrite {
    host: Option<(Box<str>, HeaderValue)>,
    path: Option<PathRewrite>,
}

#[derive(Clone, Debug)]
enum PathRewrite {
    Prefix(Box<str>),
    /// One for the template of each match rule.
    Template(Vec<TemplateRewrite>),
    Regex(Box<Substitution>),
}

/// Why a rewrite is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewriteError {
    /// More than one of the three path forms.
    TwoPathForms,
    /// A host that is none.
    Host(String),
    /// A prefix that does not begin with `/`.
    NoSlash(String),
    /// A prefix or substitution with what no path has: a space, a control character, `?` or `#`.
    Character(String, char),
    /// `pathTemplateRewrite` where there is no `pathTemplateMatch`, or one of them without.
    NoTemplate,
    /// A template, and what is wrong with it.
    Template(String, TemplateError),
    /// `regexRewrite`, and what is wrong with it.
    Pattern(String, PatternError),
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RewriteError::TwoPathForms => f.write_str("at most one of pathPrefixRewrite, pathTemplateRewrite and regexRewrite is possible"),
            RewriteError::Host(host) => write!(f, "hostRewrite `{host}` is no host"),
            RewriteError::NoSlash(path) => write!(f, "pathPrefixRewrite `{path}` has to begin with `/`"),
            RewriteError::Character(text, c) => {
                write!(f, "`{text}` has the character {c:?}, which no path has")
            }
            RewriteError::NoTemplate => f.write_str("pathTemplateRewrite needs a pathTemplateMatch in every match rule"),
            RewriteError::Template(text, why) => write!(f, "pathTemplateRewrite `{text}` {why}"),
            RewriteError::Pattern(text, why) => write!(f, "regexRewrite `{text}`: {why}"),
        }
    }
}

/// A request's URL as the backend sees it, where it is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite<'s> {
    /// The new `Host`.
    pub host: Option<&'s str>,
    /// The new path, and the query as it was.
    pub path_and_query: Option<String>,
}

impl Rewrite<'_> {
    /// Nothing is rewritten.
    pub fn is_empty(&self) -> bool {
        self.host.is_none() && self.path_and_query.is_none()
    }
}

impl UrlRewrite {
    /// Compiles a rewrite. `templates`: the path templates of every match rule that leads here;
    /// empty where there is a match rule without one, and outside route rules.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(
        rewrite: &raw::UrlRewrite,
        templates: &[&PathTemplate],
    ) -> Result<UrlRewrite, RewriteError> {
        let raw::UrlRewrite {
            host_rewrite,
            path_prefix_rewrite,
            path_template_rewrite,
            regex_rewrite,
        } = rewrite;
        let host = match host_rewrite {
            None => None,
            Some(host) => {
                let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
                match HeaderValue::from_str(host) {
                    Ok(value) if !host.is_empty() && host.bytes().all(legal) => {
                        Some((host.as_str().into(), value))
                    }
                    _ => return Err(RewriteError::Host(host.clone())),
                }
            }
        };
        let path = match (path_prefix_rewrite, path_template_rewrite, regex_rewrite) {
            (None, None, None) => None,
            (Some(prefix), None, None) if prefix.starts_with('/') => {
                of_path(prefix)?;
                Some(PathRewrite::Prefix(prefix.as_str().into()))
            }
            (Some(prefix), None, None) => return Err(RewriteError::NoSlash(prefix.clone())),
            (None, Some(text), None) => {
                let wrong = |why| RewriteError::Template(text.clone(), why);
                if templates.is_empty() {
                    return Err(RewriteError::NoTemplate);
                }
                let parsed =
                    templates.iter().map(|template| TemplateRewrite::parse(text, template));
                Some(PathRewrite::Template(parsed.collect::<Result<_, _>>().map_err(wrong)?))
            }
            (None, None, Some(regex)) => {
                let raw::RegexRewrite { path_pattern, path_substitution } = regex;
                of_path(path_substitution)?;
                let parsed = Substitution::parse(path_pattern, path_substitution)
                    .map_err(|why| RewriteError::Pattern(path_pattern.clone(), why))?;
                Some(PathRewrite::Regex(Box::new(parsed)))
            }
            _ => return Err(RewriteError::TwoPathForms),
        };
        Ok(UrlRewrite { host, path })
    }

    /// The new URL. The query is always attached again.
    pub(crate) fn apply(&self, matched: Matched, path: &str, query: Option<&str>) -> Rewrite<'_> {
        let new = self.path.as_ref().map(|form| {
            let mut new = match form {
                PathRewrite::Prefix(prefix) => replace_prefix(matched, prefix, path),
                PathRewrite::Template(rewrites) => match matched {
                    Matched::Template(rule) => rewrites
                        .get(rule)
                        .map_or_else(|| path.to_owned(), |rewrite| rewrite.apply(path)),
                    _ => path.to_owned(),
                },
                PathRewrite::Regex(substitution) => substitution.apply(path),
            };
            if !new.starts_with('/') {
                new.insert(0, '/');
            }
            if let Some(query) = query {
                new.push('?');
                new.push_str(query);
            }
            new
        });
        Rewrite { host: self.host.as_ref().map(|(text, _)| &**text), path_and_query: new }
    }
}

fn of_path(text: &str) -> Result<(), RewriteError> {
    match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
        Some(c) => Err(RewriteError::Character(text.to_owned(), c)),
        None => Ok(()),
    }
}

/// The path with its matched portion replaced. That of a prefix is the prefix, that of the other
/// forms the whole path; a default has matched `/`, and the new prefix is put in front.
pub(crate) fn replace_prefix(matched: Matched, prefix: &str, path: &str) -> String {
    match matched {
        Matched::Prefix(length) => {
            format!("{prefix}{}", path.get(length..).unwrap_or_default())
        }
        Matched::Default => format!("{}{path}", prefix.strip_suffix('/').unwrap_or(prefix)),
        Matched::Whole | Matched::Template(_) => prefix.to_owned(),
    }
}
