//! The `staffetta-delivery` binary.

use std::process::ExitCode;

use staffetta_config::Service;
use staffetta_transport::launch::launch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ABOUT: &str = "Delivers queued mail to the internet, smart hosts and LMTP servers";

fn main() -> ExitCode {
    launch(Service::Delivery, ABOUT, staffetta_delivery::run)
}
