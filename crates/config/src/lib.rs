//! The one configuration file: typed, documented, checked.
//!
//! All services read the same TOML file and each uses the tables it needs. Each table is declared once
//! (`src/table/`), and everything comes from that declaration: the struct, the defaults, the reader, the reference page
//! `docs/configuration.md`. [`Config::load`] reads the file and then the environment over it (`STAFFETTA__REDIS__URL`
//! sets `redis.url`), and reports all that is wrong at once, each with its place, its key and what is allowed. A key
//! whose feature this version does not have is refused, never ignored.

mod check;
mod effect;
mod file;
mod files;
mod kind;
mod problem;
mod reader;
mod reference;
mod schema;
mod settings;
mod shown;
mod suggest;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

pub use effect::Change;
pub use file::{read_file, read_file_within, read_text_file};
pub use files::open_to_all;
pub use kind::{DovecotAddress, Fingerprint, KeySource, WebUrl, parse_duration, with_translated};
pub use problem::Errors;
pub use table::{
    Abuse, Action, Addresses, Auth, Backend, BareLf, Canonical, ClientShown, Compression, Delivery, Destination, Dkim,
    Dns, Dnssec, Dovecot, Durability, Frontend, Listener, ListenerKind, ListenerTls, Log, LogFormat, Mechanism, OAuth,
    Redis, Route, Rpc, Rule, Schema, SenderLogin, Signature, Sni, Source, Spool, Sql, Telemetry, Timeouts, Tls,
    TlsReport, Verp,
};

use kind::HostName;
use problem::{Place, Problem};
use reader::{PREFIX, Reader};
use settings::{Entry, KeyEntry, Shown, Table, settings};
use staffetta_policy::routing::Pattern;

settings! {
    /// The whole file. Every key has a default, except those of tables that can be there many times.
    pub struct Config {
        /// The name of this server: in the greeting, in EHLO, in Received fields, in Message-IDs. Other servers expect
        /// it to resolve to the address that we connect from. Empty is the machine's own name.
        value hostname: String as HostName = "",
        /// `[redis]`
        table redis: Redis,
        /// `[spool]`
        table spool: Spool,
        /// `[tls]`
        table tls: Tls,
        /// `[rpc]`
        table rpc: Rpc,
        /// `[auth]`
        table auth: Auth,
        /// `[frontend]`
        table frontend: Frontend,
        /// `[dns]`
        table dns: Dns,
        /// `[delivery]`
        table delivery: Delivery,
        /// `[[verp]]`
        list verp: Vec<Verp> = "[]",
        /// `[log]`
        table log: Log,
        /// `[telemetry]`
        table telemetry: Telemetry,
    }
}

/// Octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// So many in a time: `"10/10m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Above 0.
    pub count: u32,
    /// Above 0.
    pub per: Duration,
}

/// Who reads the configuration, and so which files must be there.
///
/// In a cluster all pods have the same configuration, but certificates, passwords and databases are only where they
/// are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// One process with everything, or a check of everything.
    All,
    /// The SMTP server.
    Frontend,
    /// The auth service.
    Auth,
    /// The delivery worker.
    Delivery,
}

impl Service {
    /// Does it use this table?
    pub(crate) fn reads(self, path: &str) -> bool {
        let table = path.split(['.', '[']).next().unwrap_or(path);
        match self {
            Self::All => true,
            Self::Frontend => !matches!(table, "auth" | "delivery"),
            Self::Auth => matches!(table, "auth" | "rpc" | "log" | "telemetry" | "hostname" | "redis"),
            Self::Delivery => !matches!(table, "auth" | "frontend" | "tls" | "rpc"),
        }
    }
}

/// A mistake that only trying could find: a server that does not answer, a key that does not fit its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    key: Cow<'static, str>,
    what: String,
    allowed: String,
}

impl Finding {
    /// `key` is dotted, `what` says what is wrong, `allowed` what would be right.
    pub fn new(key: impl Into<Cow<'static, str>>, what: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into(), allowed: allowed.into() }
    }
}

/// A configuration that was read, and what is wrong with it so far.
pub struct Examined {
    /// Defaults stand in for what could not be read.
    pub config: Config,
    name: String,
    reader: Reader,
}

impl Examined {
    /// True if no mistake was found in this table.
    pub fn is_sound(&self, table: &str) -> bool {
        self.reader.is_sound(table)
    }

    /// Those of [`Config::warnings_for`] that come from what the file says, and not from a default in the place of a mistake.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.config.warnings_for(self.reader.service).into_iter();
        warnings.filter(|line| self.is_sound(&key_of(line))).collect()
    }

    /// The files with secrets that every user of the machine can read, a line each, which begins with the key.
    pub fn exposed(&self) -> Vec<String> {
        files::exposed(&self.config, &self.reader)
    }

    /// Where the key was set that a warning begins with: `file:line`, the file as a whole, or a variable.
    pub fn place_of(&self, warning: &str) -> String {
        self.reader.place(&key_of(warning)).within(&self.name)
    }

    /// The configuration, if nothing is wrong with it, not even what trying it has found.
    pub fn conclude(mut self, findings: Vec<Finding>) -> Result<Config, Errors> {
        for Finding { key, what, allowed } in findings {
            let place = self.reader.place(&key);
            self.reader.problem(place, &key, what, Some(allowed));
        }
        let problems = self.reader.problems;
        if problems.is_empty() { Ok(self.config) } else { Err(Errors::new(&self.name, problems)) }
    }
}

impl Config {
    /// Reads the file, then the environment over it, and looks for every file that is named in it.
    pub fn load(path: &Path) -> Result<Self, Errors> {
        Self::load_for(path, Service::All)
    }

    /// Like [`Config::load`], but files that only other services use need not be there.
    pub fn load_for(path: &Path, service: Service) -> Result<Self, Errors> {
        Self::examine(path, service)?.conclude(Vec::new())
    }

    /// Reads like [`Config::load_for`], and goes on after mistakes with the defaults in their place, so that what is
    /// sound can be tried. Fails only if there is no file to read.
    pub fn examine(path: &Path, service: Service) -> Result<Examined, Errors> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|error| Errors::of_file(path, format!("cannot be read: {error}")))?;
        let (variables, mut problems) = environment();
        let (config, mut reader) = Self::read_text(&text, variables, service);
        files::check(&config, &mut reader, service);
        reader.problems.append(&mut problems);
        Ok(Examined { config, name, reader })
    }

    /// From a text, without the environment and without a look at certificates; `name` stands for the file in errors.
    pub fn parse(text: &str, name: &str) -> Result<Self, Errors> {
        let (config, reader) = Self::read_text(text, Vec::new(), Service::All);
        if reader.problems.is_empty() { Ok(config) } else { Err(Errors::new(name, reader.problems)) }
    }

    /// What is allowed and yet probably not meant, one line each.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }

    /// Those of [`Config::warnings`] that concern this service; each begins with its key.
    pub fn warnings_for(&self, service: Service) -> Vec<String> {
        self.warnings().into_iter().filter(|line| service.reads(&key_of(line))).collect()
    }

    /// Why mail for postmaster is refused (RFC 5321 section 4.5.1), in a line that begins with the key; `None` where it goes
    /// somewhere.
    pub fn postmaster_refused(&self) -> Option<String> {
        let takes_it = |route: &Route| {
            route.sender.is_none() && route.login.is_none() && route.domain == Pattern::Exact(self.hostname.clone())
        };
        let is_read = self.frontend.postmaster.is_some() || self.delivery.route.iter().any(takes_it);
        let what = "frontend.postmaster is not set: mail for postmaster is refused, unless a [[delivery.route]] names";
        (!is_read).then(|| format!("{what} {}", self.hostname))
    }

    /// `redis.url` for messages: in quotes, without user, password and parameters.
    pub fn shown_redis(&self) -> String {
        settings::masked(&self.redis.url)
    }

    /// Takes over what a service may change while it runs, and says what that is; and what differs, is used by `service`,
    /// and waits for its restart.
    pub fn adopt(&mut self, new: &Self, service: Service) -> Change {
        let mut change = Change::default();
        Table::adopt(self, new, "", &mut change);
        change.of_concern_to(service)
    }

    /// The values in force as TOML, with secrets masked.
    pub fn effective(&self) -> String {
        let mut shown = Shown::default();
        self.show("", &mut shown);
        shown.into_text()
    }

    /// The same, without what is so by default; as TOML that says the same, but for secrets.
    pub fn changed(&self) -> String {
        let in_rows = Self::entries().into_iter().filter_map(|entry| match entry {
            Entry::Key(KeyEntry { path, default: Some(default), .. }) => {
                path.rsplit_once('.').map(|(table, key)| (format!("[[{table}]]"), format!("{key} = {default}")))
            }
            _ => None,
        });
        shown::differing(&self.effective(), &Self::default().effective(), &in_rows.collect())
    }

    /// The reference page, in Markdown.
    pub fn reference() -> String {
        reference::page()
    }

    /// Every table and key, in the order of the file.
    pub(crate) fn entries() -> Vec<Entry> {
        let mut entries = Vec::new();
        Self::describe("", &mut entries);
        entries
    }

    fn read_text(text: &str, variables: Vec<(String, String)>, service: Service) -> (Self, Reader) {
        let mut reader = Reader::new(text, variables, service);
        let mut config: Self = reader.document(text);
        schema::apply(&mut config.auth.sql, &reader);
        check::check(&config, &mut reader);
        (config, reader)
    }
}

impl Default for Config {
    /// Every key at its default.
    fn default() -> Self {
        Self::read_text("", Vec::new(), Service::All).0
    }
}

/// The key that a warning begins with.
fn key_of(line: &str) -> String {
    match line.strip_prefix('[') {
        Some(table) => table.split(']').next().unwrap_or_default().to_owned(),
        None => line.split([' ', ':']).next().unwrap_or_default().to_owned(),
    }
}

/// The variables that override keys.
fn environment() -> (Vec<(String, String)>, Vec<Problem>) {
    let mut variables = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)).map(str::to_owned) else { continue };
        match text.into_string() {
            Ok(text) => variables.push((name, text)),
            Err(_) => {
                let (place, what) = (Place::Variable(name), "is not UTF-8".to_owned());
                problems.push(Problem { place, key: String::new(), what, allowed: None });
            }
        }
    }
    (variables, problems)
}
