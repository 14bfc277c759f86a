//! Writes the reference page to standard output: `cargo run -p staffetta-config --example reference`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(staffetta_config::Config::reference().as_bytes())
}
