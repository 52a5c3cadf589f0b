//! What is wrong with a bundle, where, and how to mend it.

use std::fmt;
use std::sync::Arc;

/// One mistake in a bundle. All mistakes of a bundle are reported at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleError {
    /// File inside the bundle, such as `apiproxy/policies/AM-SetAudience.xml`; the bundle's own
    /// path where the bundle as a whole is meant.
    pub file: Arc<str>,
    /// Line, from 1; 0 where no line is meant.
    pub line: u32,
    /// Column, from 1; 0 where no line is meant.
    pub column: u32,
    /// Stable code: Apigee's own name of the import or deployment error where it has one.
    pub code: &'static str,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub fix: String,
}

impl BundleError {
    /// Prints as `file:line:column: warning CODE: what fix`: the bundle runs nevertheless.
    pub fn as_warning(&self) -> impl fmt::Display + '_ {
        Line { severity: "warning", error: self }
    }
}

impl fmt::Display for BundleError {
    /// `file:line:column: error CODE: what fix`, as diagnostics of a topology begin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line { severity: "error", error: self }.fmt(f)
    }
}

struct Line<'a> {
    severity: &'static str,
    error: &'a BundleError,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { severity, error } = self;
        write!(f, "{}", error.file)?;
        if error.line > 0 {
            write!(f, ":{}:{}", error.line, error.column)?;
        }
        write!(f, ": {severity} {}: {}", error.code, error.what)?;
        if !error.fix.is_empty() {
            write!(f, " {}", error.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for BundleError {}

/// The mistakes and warnings of one bundle, while it is read.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    /// What makes the bundle unusable.
    pub errors: Vec<BundleError>,
    /// What the user should know.
    pub warnings: Vec<BundleError>,
}

/// A place in a file of the bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl At {
    /// The file as a whole.
    pub fn file(file: &Arc<str>) -> At {
        At { file: file.clone(), line: 0, column: 0 }
    }

    /// An error here.
    pub fn error(
        &self,
        code: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> BundleError {
        BundleError {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            code,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl Problems {
    /// Notes an error.
    pub fn error(
        &mut self,
        at: &At,
        code: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.errors.push(at.error(code, what, fix));
    }

    /// Notes a warning.
    pub fn warn(
        &mut self,
        at: &At,
        code: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.warnings.push(at.error(code, what, fix));
    }
}
