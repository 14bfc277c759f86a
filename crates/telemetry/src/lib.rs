//! Mail log, diagnostics, metrics registry and the HTTP endpoints of every service.
//!
//! A process calls [`init`] once and keeps the [`Guard`] until it ends. Then there are two streams that never mix:
//! the mail log ([`maillog`]) on standard output, complete, for operators and their tools; and diagnostics (`tracing`)
//! on standard error, filtered by level, for those who look for a fault. In JSON both are one schema (docs/log.md). Numbers go through the `metrics` crate and
//! come out at `/metrics` ([`http::serve`]). Traces ([`spans`]) go to a collector, where one is named.
//!
//! Naming of metrics: prefix `staffetta_`, base units, counters end in `_total`, durations in `_seconds`, sizes in
//! `_bytes`. Names are written out in full where they are used; nothing is appended to them. Every family is
//! described where it is declared, with `describe_*`, and counters are registered at start so that they show as 0.

mod build;
pub mod catalogue;
mod diagnostics;
pub mod http;
pub mod maillog;
mod origin;
mod plain;
mod process;
mod readiness;
mod registry;
pub mod spans;
mod terminal;

pub use build::Build;
pub use origin::set_syslog_name;
pub use plain::as_logged;
pub use readiness::{Readiness, Standing};
pub use registry::config_read;
pub use terminal::printable;

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use diagnostics::Records;
use origin::Origin;
use plain::Plain;

/// How the two streams are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json = 0,
    /// The lines that Postfix would write; diagnostics as plain text.
    Postfix = 1,
}

impl LogFormat {
    const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Postfix,
            _ => Self::Json,
        }
    }
}

/// Why telemetry did not start. Completes "failed to start telemetry: …".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `log.level` is neither a level nor a list of `target=level`.
    #[error("\"{level}\" is not a log level: {source}")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another recorder is installed in this process.
    #[error("the metrics recorder: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// A thread could not be started, or standard output is closed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Keep it until the end of the process: dropping it writes what the mail log still holds.
#[derive(Debug)]
#[must_use = "dropping the guard flushes the mail log; keep it until the process ends"]
pub struct Guard(());

/// Longest wait for a reader of standard output at the end.
const LAST_FLUSH: Duration = Duration::from_secs(5);

impl Drop for Guard {
    fn drop(&mut self) {
        maillog::flush(LAST_FLUSH);
    }
}

/// Hides the local parts of addresses, and logins, in both streams behind a hash with this key. Before [`init`]; the first
/// key stays.
pub fn hide_addresses(key: &str) {
    maillog::hidden::hide(key);
}

/// Starts the mail log on standard output, diagnostics on standard error and the metrics registry.
///
/// `level` is `error`, `warn`, `info`, `debug` or `trace` for Staffetta's own code (libraries stay one level quieter,
/// at `warn` while it is `info`, rustls at `error`), or a list of directives such as `info,staffetta_queue=debug,hickory_resolver=debug`.
/// `services` are those that run in this process, each with its `staffetta_build_info`; at the port of the first is the page
/// of metrics. `build` is what that says of the program: [`build!`]. Needs no async runtime. A second call changes the format of
/// the mail log and nothing else.
pub fn init(format: LogFormat, level: &str, services: &'static [&'static str], build: Build) -> Result<Guard, Error> {
    let origin = Origin::here(services);
    let filter = filter(level)?;
    show_connections(&filter);
    maillog::set_format(format);
    start_tracing(format, filter, origin.clone());
    registry::install(services, build)?;
    spans::declare_metrics();
    // A handle of our own: the one in `std` buffers by line and locks.
    let output = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    maillog::start(output, origin)?;
    Ok(Guard(()))
}

/// Another level from now on, as [`init`] takes it; nothing before the first call of that.
///
/// # Errors
/// [`Error::Level`]; everything stays as it was.
pub fn set_level(level: &str) -> Result<(), Error> {
    let filter = filter(level)?;
    show_connections(&filter);
    if let Some(replace) = FILTER.get() {
        replace(filter);
    }
    Ok(())
}

/// Puts another filter into the place of the one in use.
type Replace = Box<dyn Fn(EnvFilter) + Send + Sync>;
static FILTER: OnceLock<Replace> = OnceLock::new();

fn show_connections(filter: &EnvFilter) {
    maillog::set_connections(filter.max_level_hint().is_none_or(|hint| hint >= LevelFilter::DEBUG));
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let directives = match level.parse::<LevelFilter>() {
        Ok(LevelFilter::TRACE) => "debug,staffetta=trace".to_owned(),
        // rustls warns of what strangers put into a handshake, such as an address as the name of the server.
        Ok(LevelFilter::DEBUG) => "info,rustls=error,staffetta=debug".to_owned(),
        Ok(LevelFilter::INFO) => "warn,rustls=error,staffetta=info".to_owned(),
        Ok(LevelFilter::WARN) => "warn,rustls=error".to_owned(),
        Ok(level) => level.to_string(),
        Err(_) => level.to_owned(),
    };
    EnvFilter::try_new(directives).map_err(|source| Error::Level { level: level.to_owned(), source })
}

/// Leaves a subscriber alone that is there already.
fn start_tracing(format: LogFormat, filter: EnvFilter, origin: Origin) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        // A line that cannot be written would be told on standard error, with a panic if that is what is closed.
        .log_internal_errors(false)
        .with_writer(match format {
            LogFormat::Json => BoxMakeWriter::new(io::stderr),
            LogFormat::Postfix => BoxMakeWriter::new(|| Plain(io::stderr())),
        });
    let (started, replace): (_, Replace) = match format {
        LogFormat::Json => {
            let builder = builder.event_format(Records(origin)).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| drop(handle.reload(filter))))
        }
        LogFormat::Postfix => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| drop(handle.reload(filter))))
        }
    };
    if started.is_ok() {
        let _ = FILTER.set(replace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_understood() {
        let rows = [
            ("error", LevelFilter::ERROR),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("off", LevelFilter::OFF),
            ("warn,staffetta_queue=trace", LevelFilter::TRACE),
        ];
        for (level, max) in rows {
            assert_eq!(filter(level).ok().and_then(|f| f.max_level_hint()), Some(max), "{level}");
        }
        let error = filter("staffetta=loud").map(|_| ()).map_err(|e| e.to_string());
        assert!(error.is_err_and(|e| e.starts_with("\"staffetta=loud\" is not a log level: ")));
    }
}
