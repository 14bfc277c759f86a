//! The `staffetta-frontend` binary.

use std::process::ExitCode;

use staffetta_config::Service;
use staffetta_transport::launch::launch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ABOUT: &str = "Takes mail from users and trusted networks and puts it into the queue";

fn main() -> ExitCode {
    launch(Service::Frontend, ABOUT, staffetta_frontend::run)
}
