//! The start of a service's process, the same for all of them: arguments, configuration and its reload, TLS provider,
//! telemetry, signals, exit code. [`launch`] is all that a `main` calls.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Arg, Command, value_parser};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::disable_transparent_huge_pages;
use secrecy::ExposeSecret;
use staffetta_config::{Addresses, Config, LogFormat, Service, read_file};
use staffetta_telemetry::{self as telemetry, Build, spans};
use tokio_util::sync::CancellationToken;

use crate::live::{Keeper, Live};
use crate::{shutdown, tls};

/// What blocks a thread when a service has ended is waited for so long.
const LAST_MOMENT: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs a service until SIGTERM or SIGINT and the end of its drain. What keeps it from running goes to standard error;
/// the exit code is 1 then. `build` is shown by `--version`.
pub fn launch<R, F>(service: Service, build: Build, run: R) -> ExitCode
where
    R: FnOnce(Live, CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    // First, before anything is allocated that lasts.
    let memory = settle_memory();
    let program = program(service);
    let arguments = command(service).version(build.text()).get_matches();
    let Some(file) = arguments.get_one::<PathBuf>("config") else { return ExitCode::FAILURE };
    match start(service, file, memory, build, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in telemetry::printable(&format!("{error:#}")).lines() {
                let _ = writeln!(std::io::stderr(), "{program}: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// What the kernel is told of this process' memory.
///
/// Passwords pass through it: it leaves no core dump, not even to a program that collects them, and no other process of the
/// same user may look into it. And no huge pages: the allocator asks for them, and each first octet of a size and a
/// thread would take two megabytes.
///
/// # Errors
/// Of the system. Nothing else depends on it.
pub fn settle_memory() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Last: a sandbox that refuses this must not cost the others.
    Ok(disable_transparent_huge_pages(true)?)
}

/// Addresses are written as `log.addresses` says.
pub fn hide_addresses(config: &Config) {
    if let (Addresses::Hashed, Some(key)) = (config.log.addresses, &config.log.address_key) {
        telemetry::hide_addresses(key.expose_secret());
    }
}

/// Starts telemetry as the configuration says; keep the guard until the process ends. `service` is the one that runs
/// here; all of them do under [`Service::All`].
///
/// # Errors
/// As [`telemetry::init`].
pub fn start_telemetry(config: &Config, service: Service, build: Build) -> Result<telemetry::Guard, telemetry::Error> {
    let format = match config.log.format {
        LogFormat::Json => telemetry::LogFormat::Json,
        LogFormat::Postfix => telemetry::LogFormat::Postfix,
    };
    telemetry::set_syslog_name(&config.log.syslog_name);
    hide_addresses(config);
    telemetry::init(format, &config.log.level, services(service), build)
}

/// Where the configuration wants spans; `None`: nowhere.
///
/// # Errors
/// `telemetry.otlp_ca` cannot be read.
pub fn traces(config: &Config) -> std::io::Result<Option<spans::Settings>> {
    let telemetry = &config.telemetry;
    let Some(endpoint) = telemetry.otlp_endpoint.clone() else { return Ok(None) };
    let ca = telemetry.otlp_ca.as_deref().map(read_file).transpose()?;
    Ok(Some(spans::Settings { endpoint, ca, share: telemetry.sample_ratio }))
}

/// Exports traces, if the configuration wants them; [`spans::finish`] ends that. Inside a runtime.
///
/// # Errors
/// [`traces`], or what is in the file is of no use.
pub fn start_traces(config: &Config, build: Build) -> anyhow::Result<()> {
    match traces(config).context("telemetry.otlp_ca")? {
        Some(settings) => spans::start(&settings, build).context("cannot export traces"),
        None => Ok(()),
    }
}

fn start<R, F>(service: Service, file: &Path, memory: std::io::Result<()>, build: Build, run: R) -> anyhow::Result<()>
where
    R: FnOnce(Live, CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let config = Arc::new(Config::load_for(file, service)?);
    tls::install_provider();
    let _telemetry = start_telemetry(&config, service, build)?;
    if let Err(error) = memory {
        tracing::warn!(%error, "cannot switch core dumps and huge pages off");
    }
    warn(&config, service);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let outcome = runtime.block_on(async {
        let shutdown = shutdown::on_signal().context("cannot watch for signals")?;
        start_traces(&config, build)?;
        let outcome = run(keep(file, service, config, &shutdown)?, shutdown).await;
        spans::finish().await;
        outcome
    });
    // A file system that hangs keeps no process.
    runtime.shutdown_timeout(LAST_MOMENT);
    outcome
}

/// Keeps the configuration that was read from `file` in force until `shutdown`. From now on SIGHUP no longer ends the
/// process. Must be called inside a runtime.
///
/// # Errors
/// Signals cannot be watched.
pub fn keep(file: &Path, service: Service, config: Arc<Config>, shutdown: &CancellationToken) -> anyhow::Result<Live> {
    let hangup = shutdown::Hangup::subscribe().context("cannot watch for signals")?;
    let (keeper, live) = Keeper::new(file, service, config);
    tokio::spawn(keeper.watch(hangup, shutdown.clone()));
    Ok(live)
}

/// Logs what is probably not meant, once, and only what concerns this service.
pub fn warn(config: &Config, service: Service) {
    for warning in config.warnings_for(service) {
        tracing::warn!("{warning}");
    }
}

/// The command line of a service, as `--help` and its page of the manual show it.
pub fn command(service: Service) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("STAFFETTA_CONFIG")
        .default_value("/etc/staffetta/staffetta.toml")
        .value_parser(value_parser!(PathBuf))
        .help("The configuration file");
    Command::new(program(service)).version(env!("CARGO_PKG_VERSION")).about(about(service)).arg(config)
}

const fn program(service: Service) -> &'static str {
    match service {
        Service::All => "staffetta",
        Service::Frontend => "staffetta-frontend",
        Service::Auth => "staffetta-auth",
        Service::Delivery => "staffetta-delivery",
    }
}

const fn about(service: Service) -> &'static str {
    match service {
        Service::All => "Runs the whole cluster in one process",
        Service::Frontend => "Takes mail from users and trusted networks and puts it into the queue",
        Service::Auth => {
            "Says who may log in, who owns which sender address, and which domains and recipients are ours"
        }
        Service::Delivery => "Delivers queued mail to the internet, smart hosts and LMTP servers",
    }
}

/// The first has the page of metrics.
const fn services(service: Service) -> &'static [&'static str] {
    match service {
        Service::All => &["frontend", "auth", "delivery"],
        Service::Frontend => &["frontend"],
        Service::Auth => &["auth"],
        Service::Delivery => &["delivery"],
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rustix::thread::transparent_huge_pages_are_disabled;

    use super::*;

    #[test]
    fn no_core_is_dumped_nobody_looks_in_and_pages_are_small() {
        settle_memory().unwrap();
        assert_eq!(rustix::process::getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert!(transparent_huge_pages_are_disabled().unwrap());
    }

    #[test]
    fn the_arguments_make_sense() {
        let command = command(Service::Auth);
        command.clone().debug_assert();
        let arguments = command.try_get_matches_from(["staffetta-auth", "--config", "/x.toml"]).unwrap();
        assert_eq!(arguments.get_one::<PathBuf>("config").unwrap(), Path::new("/x.toml"));
    }
}
