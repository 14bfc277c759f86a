//! Secrets: given directly or through a file, and never shown.

use std::path::PathBuf;

use secrecy::SecretString;

use super::section::{Found, Section};
use crate::file::read_text_file;
use crate::kind::{FilePath, Kind, Wrong, quoted};
use crate::problem::Place;

impl Section<'_, '_> {
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

    /// The text itself; never shown.
    fn secret_text<K: Kind<Value = String>>(
        &mut self,
        name: &str,
        found: &Found<'_>,
        place: Place,
    ) -> Option<SecretString> {
        match K::read(found.raw()) {
            Ok(value) => Some(value.into()),
            Err(wrongs) => self.secret_refused::<K>(name, place, "the value", wrongs.first()),
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
        match read_text_file(&path) {
            Err(error) => {
                let what = format!("{} cannot be read: {error}", quoted(&path.to_string_lossy()));
                self.reader.problem(place, &self.key(twin), what, Some("a file that this process may read".into()));
                None
            }
            Ok(text) => {
                let text = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
                self.reader.secret_files.push((self.key(twin), path));
                match K::parse(text) {
                    Ok(value) => Some(value.into()),
                    Err(wrong) => self.secret_refused::<K>(twin, place, "the content of the file", Some(&wrong)),
                }
            }
        }
    }

    /// Of what is wrong only the problem is told: it never repeats the value.
    fn secret_refused<K: Kind>(
        &mut self,
        name: &str,
        place: Place,
        which: &str,
        wrong: Option<&Wrong>,
    ) -> Option<SecretString> {
        let problem = wrong.map_or_else(|| format!("is not {}", K::NOUN), |wrong| wrong.problem.clone());
        let what = format!("{which} {problem}");
        self.reader.problem(place, &self.key(name), what, Some(K::allowed()));
        None
    }
}

const fn place_rank(place: &Place) -> u8 {
    match place {
        Place::Variable(_) => 0,
        Place::Line(_) | Place::File => 1,
    }
}
