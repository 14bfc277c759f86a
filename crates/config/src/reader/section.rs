//! A view of one table of the document.
//!
//! Asking it for a key yields the value from the environment, else from the file, else the default. At its end it
//! reports the keys that nobody asked for.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Reader;
use crate::kind::{Kind, Raw, Wrong};
use crate::problem::Place;
use crate::settings::{Entry, Table};
use crate::suggest::nearest;

/// A view of one table.
pub(crate) struct Section<'r, 't> {
    pub(super) reader: &'r mut Reader,
    pub(super) path: String,
    table: Option<&'t DeTable<'t>>,
    /// Where the text of the table is from, if it is not the file; spans then mean nothing.
    within: Option<Place>,
    pub(super) known: Vec<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    pub(super) fn new(
        reader: &'r mut Reader,
        path: String,
        table: Option<&'t DeTable<'t>>,
        within: Option<Place>,
    ) -> Self {
        Self { reader, path, table, within, known: Vec::new() }
    }

    /// Reads and reports the keys that are left over.
    pub(super) fn finish<T>(mut self, read: fn(&mut Section<'_, '_>) -> T) -> T {
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

    /// Is this table, or a key of it, in the file or in the environment?
    pub(crate) fn is_given(&self, name: &str) -> bool {
        let inside = self.key(name) + ".";
        self.entry(name).is_some() || self.reader.variables.keys().any(|path| path.starts_with(&inside))
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

    pub(super) fn wrong(&mut self, name: &str, place: &Place, wrong: Wrong) {
        let place = match (place, wrong.span) {
            (Place::Line(_), Some(span)) => Place::Line(self.reader.line(Some(span))),
            (place, _) => place.clone(),
        };
        let what = format!("{} {}", shortened(&wrong.value), wrong.problem);
        self.reader.problem(place, &self.key(name), what, Some(wrong.allowed));
    }

    /// Looks in the environment, then in the file.
    pub(super) fn find(&mut self, name: &str) -> Option<(Found<'t>, Place)> {
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

    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn report_unknown_keys(&mut self) {
        let Some(table) = self.table else { return };
        for (key, value) in table.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let meant = nearest(name, self.known.iter().copied()).map(|near| self.key(near));
            self.reader.meant.extend(meant);
            // A key in the wrong table is no slip of another: `trusted_networks` is not nearly `blocked_networks`.
            let (what, allowed) = match (home_of(name, value.get_ref()), nearest(name, self.known.iter().copied())) {
                (Some(home), _) => (format!("unknown key here, it belongs to [{home}]"), None),
                (None, Some(near)) => (format!("unknown key, did you mean {near}?"), None),
                (None, None) => ("unknown key".to_owned(), Some(self.known.join(", "))),
            };
            let line = || Place::Line(self.reader.line(Some(key.span())));
            let place = self.within.clone().unwrap_or_else(line);
            self.reader.problem(place, &self.key(name), what, allowed);
        }
    }
}

/// A value that is given.
pub(super) enum Found<'t> {
    Toml(&'t Spanned<DeValue<'t>>),
    Variable(String),
}

impl Found<'_> {
    pub(super) fn raw(&self) -> Raw<'_> {
        match self {
            Self::Toml(value) => Raw::Toml(value.get_ref()),
            Self::Variable(text) => Raw::Text(text),
        }
    }
}

/// The only table that has a key of this name, if the value can be meant for it: a list of `domains` is no threshold.
fn home_of(name: &str, value: &DeValue<'_>) -> Option<String> {
    let entries = crate::Config::entries();
    let mut homes = entries.iter().filter_map(|entry| match entry {
        Entry::Key(key) => key.path.rsplit_once('.').filter(|(_, last)| *last == name).map(|(home, _)| (home, key)),
        Entry::Table(_) => None,
    });
    let (home, key) = homes.next()?;
    let wants_number = key.default.as_ref().is_some_and(|default| default.parse::<f64>().is_ok());
    let is_number = matches!(value, DeValue::Integer(_) | DeValue::Float(_));
    (homes.next().is_none() && (is_number || !wants_number)).then(|| home.to_owned())
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
