//! Reads a document table by table and collects what is wrong on the way.
//!
//! The [`Reader`] holds what is known of the whole document: its lines, the variables that override keys, where each
//! value came from, and the mistakes. A [`Section`] is a view of one table. A mistake is noted and the default stands
//! in, so that one run finds all mistakes; what follows from a mistake is not reported a second time.

mod secret;
mod section;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeTable;

use crate::Service;
use crate::problem::{Place, Problem};
use crate::settings::Table;
use crate::suggest::nearest;

pub(crate) use section::Section;

/// Every variable that overrides a key begins like this.
pub(crate) const PREFIX: &str = "STAFFETTA__";

/// What is known while a configuration is read.
pub(crate) struct Reader {
    /// Offset of the first octet of each line of the file.
    lines: Vec<usize>,
    /// By path of the key, in lower case: name and text of a variable.
    variables: BTreeMap<String, (String, String)>,
    /// Paths that a variable could set.
    paths: BTreeSet<String>,
    /// Lines that are not TOML; what else is wrong there is a consequence.
    broken: BTreeSet<usize>,
    /// The header of a table is not TOML: nobody knows what is set in the table that was meant.
    headless: bool,
    /// Whose file it is.
    pub(crate) service: Service,
    /// Where each value that is not the default came from.
    pub(crate) places: HashMap<String, Place>,
    pub(crate) problems: Vec<Problem>,
    /// What unknown keys and tables were most likely meant to be.
    meant: Vec<String>,
    /// The files that secrets were read from, each with the key that names it.
    pub(crate) secret_files: Vec<(String, PathBuf)>,
}

impl Reader {
    pub(crate) fn new(text: &str, variables: Vec<(String, String)>, service: Service) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        let path = |name: &str| name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        Self {
            lines: std::iter::once(0).chain(starts).collect(),
            variables: variables.into_iter().map(|(name, text)| (path(&name), (name, text))).collect(),
            paths: BTreeSet::new(),
            broken: BTreeSet::new(),
            headless: false,
            service,
            places: HashMap::new(),
            problems: Vec::new(),
            meant: Vec::new(),
            secret_files: Vec::new(),
        }
    }

    /// Reads the whole document.
    pub(crate) fn document<T: Table>(&mut self, text: &str) -> T {
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = self.line(error.span());
            self.broken.insert(line);
            let rest: Vec<&str> = text.lines().skip(line - 1).collect();
            if rest.first().is_some_and(|line| is_header(line)) {
                // What stands below was meant for a table that is not there.
                let below = rest.iter().skip(1).take_while(|line| !is_header(line)).count();
                self.broken.extend(line..=line + below);
                self.headless = true;
            }
            let has_escape = text.lines().nth(line - 1).is_some_and(has_escape);
            let hint = if has_escape { "; a text with \\ in it goes into single quotes" } else { "" };
            let what = format!("this is not TOML: {}{hint}", error.message().trim());
            self.problem(Place::Line(line), "", what, None);
        }
        let config = Section::new(self, String::new(), Some(document.get_ref()), None).finish(T::read);
        self.report_unused_variables();
        config
    }

    /// Notes a mistake, unless it follows from one that is noted already.
    pub(crate) fn problem(&mut self, place: Place, key: &str, what: String, allowed: Option<String>) {
        let broken = match &place {
            Place::Line(line) => self.broken.contains(line),
            // It may be missing only because its table is.
            Place::File => self.headless,
            Place::Variable(_) => false,
        };
        if !broken || key.is_empty() {
            self.problems.push(Problem { place, key: key.to_owned(), what, allowed });
        }
    }

    /// May what it says of this table be tried? Not if one that is written much alike was most likely meant to be it.
    pub(crate) fn is_sound(&self, table: &str) -> bool {
        let inside =
            |key: &str| key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        let below = |key: &str| table.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '[']));
        let is_meant = |key: &String| inside(key) || below(key);
        !self.headless && !self.problems.iter().any(|problem| inside(&problem.key)) && !self.meant.iter().any(is_meant)
    }

    /// Where a key was set; a key of a table that is not there points at its table.
    pub(crate) fn place(&self, key: &str) -> Place {
        let mut parents = std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(parent, _)| parent));
        parents.find_map(|key| self.places.get(key)).cloned().unwrap_or(Place::File)
    }

    fn line(&self, span: Option<Range<usize>>) -> usize {
        let start = span.map_or(0, |span| span.start);
        self.lines.partition_point(|&line| line <= start).max(1)
    }

    fn report_unused_variables(&mut self) {
        let unused: Vec<_> = self.variables.iter().filter(|(path, _)| !self.paths.contains(*path)).collect();
        let mut problems = Vec::new();
        for (path, (name, _)) in unused {
            let near = nearest(path, self.paths.iter().map(String::as_str)).map(variable);
            let hint = near.map(|near| format!(", did you mean {near}?")).unwrap_or_default();
            problems.push((Place::Variable(name.clone()), format!("no such key{hint}")));
        }
        for (place, what) in problems {
            self.problem(place, "", what, None);
        }
    }
}

/// Has it a backslash in double quotes that TOML takes for the beginning of something else?
fn has_escape(line: &str) -> bool {
    let known = |rest: &str| rest.starts_with(['b', 't', 'n', 'f', 'r', 'e', '"', '\\', 'u', 'U', 'x']);
    line.split_once('"').is_some_and(|(_, text)| text.replace("\\\\", "").split('\\').skip(1).any(|rest| !known(rest)))
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The name of the variable that overrides a key.
pub(crate) fn variable(path: &str) -> String {
    PREFIX.to_owned() + &path.to_ascii_uppercase().replace('.', "__")
}
