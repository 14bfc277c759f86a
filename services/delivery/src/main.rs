//! The `staffetta-delivery` binary.

use std::process::ExitCode;

use staffetta_config::Service;
use staffetta_transport::launch::launch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    launch(Service::Delivery, staffetta_telemetry::build!(), staffetta_delivery::run)
}
