//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::Path;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A line of the file, from 1.
    Line(usize),
    /// The file as a whole: the key is not in it.
    File,
    /// An environment variable.
    Variable(String),
}

impl Place {
    /// `file:line`, the file, or the variable.
    pub(crate) fn within(&self, file: &str) -> String {
        match self {
            Self::Line(number) => format!("{file}:{number}"),
            Self::File => file.to_owned(),
            Self::Variable(name) => name.clone(),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    /// Empty for a mistake of the file's syntax.
    pub(crate) key: String,
    pub(crate) what: String,
    pub(crate) allowed: Option<String>,
}

/// All that is wrong, one line each: `file:line: key: what is wrong; allowed: …`.
///
/// A mistake in the environment has the variable's name in front instead of file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    lines: Vec<String>,
}

impl std::error::Error for Errors {}

impl Errors {
    /// Sorted by place, without repetitions.
    pub(crate) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { lines: problems.iter().map(|p| p.line(file)).collect() }
    }

    /// What is wrong with a file as a whole.
    pub fn of_file(file: &Path, what: impl Into<String>) -> Self {
        let problem = Problem { place: Place::File, key: String::new(), what: what.into(), allowed: None };
        Self::new(&file.display().to_string(), vec![problem])
    }

    /// One message a mistake.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl Problem {
    fn line(&self, file: &str) -> String {
        let mut line = self.place.within(file) + ": ";
        if !self.key.is_empty() {
            line += &format!("{}: ", self.key);
        }
        line += &self.what;
        if let Some(allowed) = &self.allowed {
            line += &format!("; allowed: {allowed}");
        }
        line
    }
}
