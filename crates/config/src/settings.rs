//! One declaration for each table: its fields, documentation, defaults, reader, reference and effective view.
//!
//! `settings!` takes a struct whose fields say how they are read:
//!
//! - `value name: Type as Kind = "default"`: a key; the default is written as in the environment.
//! - `need name: Type as Kind = "filler"`: a key that must be given (in tables of an array).
//! - `secret name or name_file: SecretString as Kind = "default"`: a secret with its twin, never shown.
//! - `hidden name or name_file: Option<SecretString> as Kind = ""`: a secret that need not be there.
//! - `table name: Type`: a table within.
//! - `noted name: bool = "table"`: whether a table within, or a key of it, is given; not a key itself.
//! - `list name: Vec<Type> = "default"`: an array of tables; the default is TOML.
//!
//! `choices!` declares an enum with the words that stand for its variants.

use secrecy::{ExposeSecret, SecretString};

use crate::effect::{Change, is_at_once};
use crate::reader::Section;

/// A table of the configuration.
pub(crate) trait Table: Sized {
    /// Reads the table; mistakes are noted in the reader.
    fn read(section: &mut Section<'_, '_>) -> Self;

    /// Adds the table's keys to the reference; `path` is empty for the document.
    fn describe(path: &str, entries: &mut Vec<Entry>);

    /// Adds the values in force, as TOML.
    fn show(&self, path: &str, shown: &mut Shown);

    /// Takes over from `new` what takes effect at once, and notes every key that differs.
    fn adopt(&mut self, new: &Self, path: &str, change: &mut Change);
}

/// A line of the reference.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Table(TableEntry),
    Key(KeyEntry),
}

/// A table in the reference.
#[derive(Clone, Debug)]
pub(crate) struct TableEntry {
    pub(crate) path: String,
    pub(crate) about: &'static [&'static str],
    /// `[[…]]`
    pub(crate) is_list: bool,
    /// What stands for an array that is not given.
    pub(crate) default: Option<&'static str>,
}

/// A key in the reference.
#[derive(Clone, Debug)]
pub(crate) struct KeyEntry {
    pub(crate) path: String,
    pub(crate) doc: &'static [&'static str],
    pub(crate) allowed: String,
    /// The words of a choice, each with its documentation.
    pub(crate) words: Vec<(&'static str, &'static [&'static str])>,
    /// As TOML; `None` when the key must be given, empty when it is left out.
    pub(crate) default: Option<String>,
    /// The key for a file with the secret.
    pub(crate) twin: Option<String>,
}

/// The values in force; tables come behind the keys of the table that holds them.
#[derive(Default)]
pub(crate) struct Shown {
    keys: String,
    tables: String,
}

impl Shown {
    /// One key; nothing for a value that is not there.
    pub(crate) fn key(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.keys += &format!("{name} = {value}\n");
        }
    }

    /// A table within, under `[header]` or `[[header]]`.
    pub(crate) fn table<T: Table>(&mut self, header: &str, path: &str, table: &T) {
        let mut inner = Self::default();
        table.show(path, &mut inner);
        self.tables += &format!("\n{header}\n{}{}", inner.keys, inner.tables);
    }

    /// All of it.
    pub(crate) fn into_text(self) -> String {
        self.keys + &self.tables
    }
}

/// Takes over an array of tables: the whole of it, or nothing.
pub(crate) fn adopt_list<T: Table + Clone>(old: &mut Vec<T>, new: &[T], path: &str, change: &mut Change) {
    let mut within = Change::default();
    old.clone().iter_mut().zip(new).for_each(|(old, new)| old.adopt(new, path, &mut within));
    let (differs, resized) = (!within.is_empty(), old.len() != new.len());
    for key in within.adopted.iter().chain(&within.waiting) {
        change.takes(key);
    }
    let taken = if resized { change.takes(path) } else { differs && is_at_once(path) };
    if taken {
        new.clone_into(old);
    }
}

/// Have two secrets the same text?
pub(crate) fn is_same(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    one.map(ExposeSecret::expose_secret) == other.map(ExposeSecret::expose_secret)
}

/// `path.name`, without the `r#` of a Rust keyword.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The key that a field stands for.
pub(crate) fn field(name: &'static str) -> &'static str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// The URL of a store as the effective view shows it: without user, password and parameters.
pub(crate) fn masked(secret: &SecretString) -> String {
    let url = secret.expose_secret();
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let slashes = if rest.starts_with("//") { "//" } else { "" };
    // From the last @, so that a password with an unescaped / or @ does not show.
    let (mask, rest) = match rest.rsplit_once('@') {
        Some((_, host)) => (format!("{slashes}***@"), host),
        None => (String::new(), rest),
    };
    let (rest, parameters) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
    crate::kind::quoted(&format!("{scheme}:{mask}{rest}{parameters}"))
}

macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $(#[derive($($derive:ident),+)])?
        pub struct $table:ident {
            $(
                $(#[doc = $doc:literal])*
                $how:ident $name:ident $(or $twin:ident)? : $ty:ty $(as $kind:ty)? $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug $($(, $derive)+)?)]
        pub struct $table {
            $( $(#[doc = $doc])* pub $name: $ty, )*
        }

        impl $crate::settings::Table for $table {
            fn read(section: &mut $crate::reader::Section<'_, '_>) -> Self {
                Self { $( $name: settings!(@read $how section, $name $(or $twin)?, $ty $(as $kind)? $(= $default)?), )* }
            }

            fn describe(path: &str, entries: &mut Vec<$crate::settings::Entry>) {
                $( settings!(@describe $how path, entries, &[$($doc),*], $name $(or $twin)?, $ty $(as $kind)? $(= $default)?); )*
            }

            fn show(&self, path: &str, shown: &mut $crate::settings::Shown) {
                // Only tables within need it.
                let _ = path;
                $( settings!(@show $how self, path, shown, $name, $ty $(as $kind)?); )*
            }

            fn adopt(&mut self, new: &Self, path: &str, change: &mut $crate::effect::Change) {
                $( settings!(@adopt $how self, new, path, change, $name, $ty $(as $kind)?); )*
            }
        }

        impl $table {
            /// The table's own words in the reference.
            pub(crate) const ABOUT: &'static [&'static str] = &[$($about),*];
        }
    };

    (@read value $section:ident, $name:ident, $ty:ty as $kind:ty = $default:expr) => {
        $section.value::<$kind>($crate::settings::field(stringify!($name)), $default)
    };
    (@read need $section:ident, $name:ident, $ty:ty as $kind:ty = $default:expr) => {
        $section.need::<$kind>($crate::settings::field(stringify!($name)), $default)
    };
    (@read secret $section:ident, $name:ident or $twin:ident, $ty:ty as $kind:ty = $default:expr) => {
        $section.secret::<$kind>(stringify!($name), stringify!($twin), $default)
    };
    (@read hidden $section:ident, $name:ident or $twin:ident, $ty:ty as $kind:ty = $default:expr) => {
        $section.optional_secret::<$kind>(stringify!($name), stringify!($twin))
    };
    (@read table $section:ident, $name:ident, $ty:ty) => {
        $section.table::<$ty>(stringify!($name))
    };
    (@read noted $section:ident, $name:ident, $ty:ty = $table:expr) => {
        $section.is_given($table)
    };
    (@read list $section:ident, $name:ident, $ty:ty = $default:expr) => {
        $section.list(stringify!($name), $default)
    };

    (@describe table $path:ident, $entries:ident, $doc:expr, $name:ident, $ty:ty) => {{
        let path = $crate::settings::join($path, stringify!($name));
        let entry = $crate::settings::TableEntry { path: path.clone(), about: <$ty>::ABOUT, is_list: false, default: None };
        $entries.push($crate::settings::Entry::Table(entry));
        <$ty as $crate::settings::Table>::describe(&path, $entries);
    }};
    (@describe noted $($ignored:tt)*) => {};
    (@describe list $path:ident, $entries:ident, $doc:expr, $name:ident, $ty:ty = $default:expr) => {{
        type Item = <$ty as IntoIterator>::Item;
        let path = $crate::settings::join($path, stringify!($name));
        let default = Some($default);
        let entry = $crate::settings::TableEntry { path: path.clone(), about: <Item>::ABOUT, is_list: true, default };
        $entries.push($crate::settings::Entry::Table(entry));
        <Item as $crate::settings::Table>::describe(&path, $entries);
    }};
    (@describe $how:ident $path:ident, $entries:ident, $doc:expr, $name:ident $(or $twin:ident)?, $ty:ty as $kind:ty = $default:expr) => {
        $entries.push($crate::settings::Entry::Key($crate::settings::KeyEntry {
            path: $crate::settings::join($path, $crate::settings::field(stringify!($name))),
            doc: $doc,
            allowed: <$kind as $crate::kind::Kind>::allowed(),
            words: <$kind as $crate::kind::Kind>::words(),
            default: settings!(@default $how <$kind as $crate::kind::Kind>::literal($default)),
            twin: None$(.or(Some($crate::settings::join($path, stringify!($twin)))))?,
        }))
    };

    (@default need $literal:expr) => { None };
    (@default hidden $literal:expr) => { Some(String::new()) };
    (@default $how:ident $literal:expr) => { Some($literal) };

    (@show table $self:ident, $path:ident, $shown:ident, $name:ident, $ty:ty) => {{
        let path = $crate::settings::join($path, stringify!($name));
        $shown.table(&format!("[{path}]"), &path, &$self.$name);
    }};
    (@show noted $($ignored:tt)*) => {};
    (@show list $self:ident, $path:ident, $shown:ident, $name:ident, $ty:ty) => {{
        let path = $crate::settings::join($path, stringify!($name));
        $self.$name.iter().for_each(|item| $shown.table(&format!("[[{path}]]"), &path, item));
    }};
    (@show secret $self:ident, $path:ident, $shown:ident, $name:ident, $ty:ty as $kind:ty) => {
        $shown.key(stringify!($name), &$crate::settings::masked(&$self.$name))
    };
    (@show hidden $self:ident, $path:ident, $shown:ident, $name:ident, $ty:ty as $kind:ty) => {
        if $self.$name.is_some() {
            $shown.key(stringify!($name), "\"***\"");
        }
    };
    (@show $how:ident $self:ident, $path:ident, $shown:ident, $name:ident, $ty:ty as $kind:ty) => {
        $shown.key(
            $crate::settings::field(stringify!($name)),
            &<$kind as $crate::kind::Kind>::show(&$self.$name),
        )
    };

    (@adopt table $self:ident, $new:ident, $path:ident, $change:ident, $name:ident, $ty:ty) => {
        $self.$name.adopt(&$new.$name, &$crate::settings::join($path, stringify!($name)), $change)
    };
    (@adopt list $self:ident, $new:ident, $path:ident, $change:ident, $name:ident, $ty:ty) => {{
        let path = $crate::settings::join($path, stringify!($name));
        $crate::settings::adopt_list(&mut $self.$name, &$new.$name, &path, $change);
    }};
    // What is in the table that it is about differs, too, or does not matter.
    (@adopt noted $($ignored:tt)*) => {};
    (@adopt secret $self:ident, $new:ident, $path:ident, $change:ident, $name:ident, $ty:ty as $kind:ty) => {
        settings!(@take $self, $new, $path, $change, $name,
            $crate::settings::is_same(Some(&$self.$name), Some(&$new.$name)))
    };
    (@adopt hidden $self:ident, $new:ident, $path:ident, $change:ident, $name:ident, $ty:ty as $kind:ty) => {
        settings!(@take $self, $new, $path, $change, $name,
            $crate::settings::is_same($self.$name.as_ref(), $new.$name.as_ref()))
    };
    (@adopt $how:ident $self:ident, $new:ident, $path:ident, $change:ident, $name:ident, $ty:ty as $kind:ty) => {
        settings!(@take $self, $new, $path, $change, $name,
            <$kind as $crate::kind::Kind>::show(&$self.$name) == <$kind as $crate::kind::Kind>::show(&$new.$name))
    };
    (@take $self:ident, $new:ident, $path:ident, $change:ident, $name:ident, $same:expr) => {
        if !$same && $change.takes(&$crate::settings::join($path, $crate::settings::field(stringify!($name)))) {
            $self.$name = $new.$name.clone();
        }
    };
}

macro_rules! choices {
    (
        $(#[doc = $about:literal])*
        pub enum $name:ident {
            $( $(#[doc = $doc:literal])* $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl $crate::kind::Choices for $name {
            const ALL: &'static [(&'static str, Self)] = &[$( ($word, Self::$variant) ),*];
            const DOCS: &'static [&'static [&'static str]] = &[$( &[$($doc),*] ),*];
        }

        impl $name {
            /// The word that stands for it in the file.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use {choices, settings};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_do_not_show() {
        let rows = [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://user:pass@host:6379/0", "redis://***@host:6379/0"),
            ("postgres://user:p/a@ss@host/db?sslpassword=x", "postgres://***@host/db?***"),
            ("mysql://host/db?password=a@b", "mysql://***@b"),
            ("unix:/run/redis.sock?pass=x", "unix:/run/redis.sock?***"),
            ("sqlite:///var/lib/users.db", "sqlite:///var/lib/users.db"),
        ];
        for (url, shown) in rows {
            assert_eq!(masked(&url.into()), crate::kind::quoted(shown));
        }
    }
}
