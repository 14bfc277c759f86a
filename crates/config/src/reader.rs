//! Reads a document table by table and collects what is wrong on the way.
//!
//! A [`Section`] is a view of one table. Asking it for a key yields the value from the environment, else from the
//! file, else the default; a mistake is noted and the default stands in, so that one run finds all mistakes. At its
//! end a section reports the keys that nobody asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Service;
use crate::kind::{FilePath, Kind, Raw, Wrong, quoted};
use crate::problem::{Place, Problem};
use crate::settings::{Entry, Table};
use crate::suggest::nearest;

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
    service: Service,
    /// Where each value that is not the default came from.
    pub(crate) places: HashMap<String, Place>,
    pub(crate) problems: Vec<Problem>,
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
            service,
            places: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// Reads the whole document.
    pub(crate) fn document<T: Table>(&mut self, text: &str) -> T {
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = self.line(error.span());
            self.broken.insert(line);
            self.problem(Place::Line(line), "", format!("this is not TOML: {}", error.message().trim()), None);
        }
        let config = Section::new(self, String::new(), Some(document.get_ref()), None).finish(T::read);
        self.report_unused_variables();
        config
    }

    /// Notes a mistake, unless it follows from one that is noted already.
    pub(crate) fn problem(&mut self, place: Place, key: &str, what: String, allowed: Option<String>) {
        let follows = matches!(place, Place::Line(line) if self.broken.contains(&line)) && !key.is_empty();
        if !follows {
            self.problems.push(Problem { place, key: key.to_owned(), what, allowed });
        }
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

/// The name of the variable that overrides a key.
pub(crate) fn variable(path: &str) -> String {
    PREFIX.to_owned() + &path.to_ascii_uppercase().replace('.', "__")
}

/// A view of one table.
pub(crate) struct Section<'r, 't> {
    reader: &'r mut Reader,
    path: String,
    table: Option<&'t DeTable<'t>>,
    /// Where the text of the table is from, if it is not the file; spans then mean nothing.
    within: Option<Place>,
    known: Vec<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    fn new(reader: &'r mut Reader, path: String, table: Option<&'t DeTable<'t>>, within: Option<Place>) -> Self {
        Self { reader, path, table, within, known: Vec::new() }
    }

    /// Reads and reports the keys that are left over.
    fn finish<T>(mut self, read: fn(&mut Section<'_, '_>) -> T) -> T {
        let value = read(&mut self);
        self.report_unknown_keys();
        value
    }

    /// A value with a default.
    pub(crate) fn value<K: Kind>(&mut self, name: &'static str, default: &str) -> K::Value {
        self.given::<K>(name).unwrap_or_else(|| default_value::<K>(default))
    }

    /// A value that must be there; `filler` only keeps the reading going.
    pub(crate) fn need<K: Kind>(&mut self, name: &'static str, filler: &str) -> K::Value {
        let there = self.entry(name).is_some();
        let value = self.given::<K>(name);
        if !there {
            let place = self.here();
            self.reader.problem(place, &self.key(name), "is missing".into(), Some(K::allowed()));
        }
        value.unwrap_or_else(|| default_value::<K>(filler))
    }

    /// A secret, or the file that holds it under `…_file`.
    pub(crate) fn secret<K: Kind<Value = String>>(
        &mut self,
        name: &'static str,
        twin: &'static str,
        default: &str,
    ) -> SecretString {
        self.optional_secret::<K>(name, twin).unwrap_or_else(|| default.into())
    }

    /// A secret that need not be there.
    pub(crate) fn optional_secret<K: Kind<Value = String>>(
        &mut self,
        name: &'static str,
        twin: &'static str,
    ) -> Option<SecretString> {
        self.known.extend([name, twin]);
        let direct = self.find(name);
        let file = self.find(twin);
        match (direct, file) {
            (Some((_, place)), Some((_, other))) if place_rank(&place) == place_rank(&other) => {
                let what = format!("is set together with {twin}");
                self.reader.problem(place, &self.key(name), what, Some("one of the two".into()));
                None
            }
            // The environment wins over the file, whichever of the two forms it has.
            (Some((raw, place)), other) if other.is_none() || place_rank(&place) == 0 => {
                self.secret_text::<K>(name, &raw, place)
            }
            (_, Some((raw, place))) => self.secret_file::<K>(twin, &raw, place),
            _ => None,
        }
    }

    /// A table of its own.
    pub(crate) fn table<T: Table>(&mut self, name: &'static str) -> T {
        self.known.push(name);
        let path = self.key(name);
        let table = match self.entry(name).map(Spanned::get_ref) {
            None => None,
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                let what = format!("is of type {}, not a table", other.type_str());
                let place = self.place(name);
                self.reader.problem(place, &path, what, None);
                None
            }
        };
        Section::new(self.reader, path, table, self.within.clone()).finish(T::read)
    }

    /// An array of tables; `default` when the key is not there.
    pub(crate) fn list<T: Table>(&mut self, name: &'static str, default: &str) -> Vec<T> {
        self.known.push(name);
        let path = self.key(name);
        match self.find(name) {
            Some((Found::Variable(text), place)) => self.list_of_text(&path, &text, place),
            Some((Found::Toml(value), place)) => {
                self.items(&path, value.get_ref(), place, self.within.clone().as_ref())
            }
            None => self.list_of_text(&path, default, Place::File),
        }
    }

    /// Items from the text of a variable or of a default.
    fn list_of_text<T: Table>(&mut self, path: &str, text: &str, place: Place) -> Vec<T> {
        match DeValue::parse(text.trim()) {
            Ok(value) => self.items(path, value.get_ref(), place.clone(), Some(&place)),
            Err(error) => {
                let allowed = Some("an array of inline tables, as in TOML".to_owned());
                self.reader.problem(place, path, format!("this is not TOML: {}", error.message().trim()), allowed);
                Vec::new()
            }
        }
    }

    fn items<T: Table>(&mut self, path: &str, value: &DeValue<'_>, place: Place, within: Option<&Place>) -> Vec<T> {
        let DeValue::Array(array) = value else {
            let what = format!("is of type {}, not an array of tables", value.type_str());
            self.reader.problem(place, path, what, Some(format!("[[{path}]]")));
            return Vec::new();
        };
        let mut items = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let place = within.cloned().unwrap_or_else(|| Place::Line(self.reader.line(Some(item.span()))));
            self.reader.places.insert(path.clone(), place.clone());
            match item.get_ref() {
                DeValue::Table(table) => {
                    items.push(Section::new(self.reader, path, Some(table), within.cloned()).finish(T::read));
                }
                other => {
                    let what = format!("is of type {}, not a table", other.type_str());
                    self.reader.problem(place, &path, what, None);
                }
            }
        }
        items
    }

    /// The value of a key if it is given and good.
    fn given<K: Kind>(&mut self, name: &'static str) -> Option<K::Value> {
        self.known.push(name);
        let (found, place) = self.find(name)?;
        match K::read(found.raw()) {
            Ok(value) => Some(value),
            Err(wrongs) => {
                wrongs.into_iter().for_each(|wrong| self.wrong(name, &place, wrong));
                None
            }
        }
    }

    fn wrong(&mut self, name: &str, place: &Place, wrong: Wrong) {
        let place = match (place, wrong.span) {
            (Place::Line(_), Some(span)) => Place::Line(self.reader.line(Some(span))),
            (place, _) => place.clone(),
        };
        let what = format!("{} {}", shortened(&wrong.value), wrong.problem);
        self.reader.problem(place, &self.key(name), what, Some(wrong.allowed));
    }

    /// The text itself; never shown.
    fn secret_text<K: Kind<Value = String>>(
        &mut self,
        name: &str,
        found: &Found<'_>,
        place: Place,
    ) -> Option<SecretString> {
        match K::read(found.raw()) {
            Ok(value) => Some(value.into()),
            Err(_) => self.secret_refused::<K>(name, place, "the value"),
        }
    }

    /// The content of a file, without one line end.
    fn secret_file<K: Kind<Value = String>>(
        &mut self,
        twin: &str,
        found: &Found<'_>,
        place: Place,
    ) -> Option<SecretString> {
        let path: PathBuf = match FilePath::read(found.raw()) {
            Ok(path) => path,
            Err(wrongs) => {
                wrongs.into_iter().for_each(|wrong| self.wrong(twin, &place, wrong));
                return None;
            }
        };
        if !self.reader.service.reads(&self.path) && !path.exists() {
            return None;
        }
        match std::fs::read_to_string(&path) {
            Err(error) => {
                let what = format!("{} cannot be read: {error}", quoted(&path.to_string_lossy()));
                self.reader.problem(place, &self.key(twin), what, Some("a file that this process may read".into()));
                None
            }
            Ok(text) => {
                let text = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
                match K::parse(text) {
                    Ok(value) => Some(value.into()),
                    Err(_) => self.secret_refused::<K>(twin, place, "the content of the file"),
                }
            }
        }
    }

    fn secret_refused<K: Kind>(&mut self, name: &str, place: Place, which: &str) -> Option<SecretString> {
        let what = format!("{which} is not {}", K::NOUN);
        self.reader.problem(place, &self.key(name), what, Some(K::allowed()));
        None
    }

    /// Looks in the environment, then in the file.
    fn find(&mut self, name: &str) -> Option<(Found<'t>, Place)> {
        let path = self.key(name);
        self.reader.paths.insert(path.clone());
        let variable = self.reader.variables.get(&path).filter(|_| self.within.is_none());
        let (found, place) = match variable {
            Some((variable, text)) => (Found::Variable(text.clone()), Place::Variable(variable.clone())),
            None => (Found::Toml(self.entry(name)?), self.place(name)),
        };
        self.reader.places.insert(path, place.clone());
        Some((found, place))
    }

    fn entry(&self, name: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.and_then(|table| table.get(name))
    }

    /// Where a key of the file stands.
    fn place(&self, name: &str) -> Place {
        match (&self.within, self.entry(name)) {
            (Some(place), _) => place.clone(),
            (None, Some(value)) => Place::Line(self.reader.line(Some(value.span()))),
            (None, None) => Place::File,
        }
    }

    /// Where the section itself stands.
    fn here(&self) -> Place {
        self.reader.places.get(&self.path).cloned().unwrap_or(Place::File)
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn report_unknown_keys(&mut self) {
        let Some(table) = self.table else { return };
        for key in table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let (what, allowed) = match nearest(name, self.known.iter().copied()) {
                Some(near) => (format!("unknown key, did you mean {near}?"), None),
                None => match home_of(name) {
                    Some(home) => (format!("unknown key here, it belongs to [{home}]"), None),
                    None => ("unknown key".to_owned(), Some(self.known.join(", "))),
                },
            };
            let line = || Place::Line(self.reader.line(Some(key.span())));
            let place = self.within.clone().unwrap_or_else(line);
            self.reader.problem(place, &self.key(name), what, allowed);
        }
    }
}

/// A value that is given.
enum Found<'t> {
    Toml(&'t Spanned<DeValue<'t>>),
    Variable(String),
}

impl Found<'_> {
    fn raw(&self) -> Raw<'_> {
        match self {
            Self::Toml(value) => Raw::Toml(value.get_ref()),
            Self::Variable(text) => Raw::Text(text),
        }
    }
}

const fn place_rank(place: &Place) -> u8 {
    match place {
        Place::Variable(_) => 0,
        Place::Line(_) | Place::File => 1,
    }
}

/// The only table that has a key of this name.
fn home_of(name: &str) -> Option<String> {
    let entries = crate::Config::entries();
    let mut homes = entries.iter().filter_map(|entry| match entry {
        Entry::Key(key) => key.path.rsplit_once('.').filter(|(_, last)| *last == name).map(|(home, _)| home),
        Entry::Table(_) => None,
    });
    let home = homes.next().map(str::to_owned);
    home.filter(|_| homes.next().is_none())
}

#[expect(clippy::expect_used, reason = "defaults are literals of this crate, and a test reads every one of them")]
fn default_value<K: Kind>(text: &str) -> K::Value {
    K::read(Raw::Text(text)).expect("a default must be valid")
}

/// A value as it fits into a message.
fn shortened(value: &str) -> String {
    const MOST: usize = 80;
    match value.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}
