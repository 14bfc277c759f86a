//! The `staffetta-auth` binary.

use std::process::ExitCode;

use staffetta_config::Service;
use staffetta_transport::launch::launch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    launch(Service::Auth, staffetta_telemetry::build!(), staffetta_auth::run)
}
