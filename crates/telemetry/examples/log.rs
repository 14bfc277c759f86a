//! Prints the page about the log: `cargo run -p staffetta-telemetry --example log > docs/log.md`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(staffetta_telemetry::maillog::reference().as_bytes())
}
