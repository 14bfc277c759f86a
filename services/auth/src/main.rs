//! The `staffetta-auth` binary: reads the configuration, starts telemetry, runs the service until SIGTERM.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use staffetta_config::{Config, LogFormat, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The auth service of Staffetta.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "STAFFETTA_CONFIG", default_value = "/etc/staffetta/staffetta.toml")]
    config: PathBuf,
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "telemetry may not be there yet")]
async fn main() -> ExitCode {
    match start(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("staffetta-auth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Arc::new(Config::load_for(&arguments.config, Service::Auth)?);
    let format = match config.log.format {
        LogFormat::Json => staffetta_telemetry::LogFormat::Json,
        LogFormat::Postfix => staffetta_telemetry::LogFormat::Postfix,
    };
    let _telemetry = staffetta_telemetry::init(format, &config.log.level, "auth").context("start telemetry")?;
    staffetta_auth::run(config, tokio_util::sync::CancellationToken::new()).await
}
