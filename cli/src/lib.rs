//! The `staffetta` command: the whole cluster in one process, and the tools around it.
//!
//! The binary is a thin caller of [`run`]. The test MX ([`sink`]) is public because end-to-end tests script it,
//! [`command_line`] because they hold pages against it, and [`manual`] because `make docs` prints it.

mod arguments;
mod certificate;
mod command;
pub mod manual;
pub mod sink;
mod terminal;

use std::process::ExitCode;

use arguments::Arguments;
use clap::CommandFactory;
use staffetta_telemetry::Build;

/// The command line, for those who compare it with what a page says.
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// Parses the command line and does what it says. Exit codes: 0 done, 1 failed, 2 the command line is wrong;
/// of `sendmail` those of sysexits.h. `build` is shown by `--version`.
pub fn run(build: Build) -> ExitCode {
    let memory = staffetta_transport::launch::settle_memory();
    let arguments = Arguments::of_this_process(build);
    if let Err(error) = memory {
        terminal::complain(&format!("cannot switch core dumps and huge pages off: {error}"));
    }
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        terminal::complain("a TLS provider is installed already");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::complain(&format!("cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // The main thread drives the command itself: children are bound to the thread that starts them.
    let outcome = runtime.block_on(command::dispatch(arguments, build));
    runtime.shutdown_background();
    match outcome {
        Ok(_) if terminal::is_result_lost() => {
            terminal::complain("failed to write the result to standard output");
            ExitCode::FAILURE
        }
        Ok(code) => code,
        Err(error) => {
            terminal::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
