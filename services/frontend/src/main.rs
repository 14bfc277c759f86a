//! The `staffetta-frontend` binary.

use std::process::ExitCode;

use staffetta_config::Service;
use staffetta_transport::launch::launch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    launch(Service::Frontend, staffetta_telemetry::build!(), staffetta_frontend::run)
}
