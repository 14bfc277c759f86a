//! The `staffetta-auth` binary.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use staffetta_config::{Config, LogFormat, Service};
use staffetta_transport::{shutdown, tls};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Says who may log in, who owns which sender address, and which domains and recipients are ours.
#[derive(Parser)]
#[command(name = "staffetta-auth", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "STAFFETTA_CONFIG", default_value = "/etc/staffetta/staffetta.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "staffetta-auth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Arc::new(Config::load_for(&arguments.config, Service::Auth)?);
    tls::install_provider();
    let format = match config.log.format {
        LogFormat::Json => staffetta_telemetry::LogFormat::Json,
        LogFormat::Postfix => staffetta_telemetry::LogFormat::Postfix,
    };
    let _telemetry = staffetta_telemetry::init(format, &config.log.level, "auth")?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let shutdown = shutdown::on_signal()?;
        staffetta_auth::run(config, shutdown).await
    })
}
