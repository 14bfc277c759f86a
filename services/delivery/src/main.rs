//! The `staffetta-delivery` binary.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use staffetta_config::{Config, LogFormat, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Delivers queued mail to the internet, smart hosts and LMTP servers.
#[derive(Parser)]
#[command(name = "staffetta-delivery", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "STAFFETTA_CONFIG", default_value = "/etc/staffetta/staffetta.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "staffetta-delivery: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load_for(&arguments.config, Service::Delivery)?;
    staffetta_transport::tls::install_provider();
    let format = match config.log.format {
        LogFormat::Json => staffetta_telemetry::LogFormat::Json,
        LogFormat::Postfix => staffetta_telemetry::LogFormat::Postfix,
    };
    let _telemetry = staffetta_telemetry::init(format, &config.log.level, "delivery")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let shutdown = staffetta_transport::shutdown::on_signal().context("cannot watch for signals")?;
        // SIGHUP must not end the process; this service has nothing to reload.
        let _hangup = staffetta_transport::shutdown::Hangup::subscribe()?;
        staffetta_delivery::run(Arc::new(config), shutdown).await
    })
}
