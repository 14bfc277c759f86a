//! Prints the page about metrics: `cargo run -p staffetta-cli --example metrics > docs/metrics.md`.

use std::io::{self, Write};

#[tokio::main]
async fn main() -> io::Result<()> {
    let page = staffetta_cli::manual::metrics().map_err(io::Error::other)?;
    io::stdout().write_all(page.as_bytes())
}
