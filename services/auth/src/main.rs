//! The `staffetta-auth` binary.

use std::process::ExitCode;

use staffetta_config::Service;
use staffetta_transport::launch::launch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ABOUT: &str = "Says who may log in, who owns which sender address, and which domains and recipients are ours";

fn main() -> ExitCode {
    launch(Service::Auth, ABOUT, staffetta_auth::run)
}
