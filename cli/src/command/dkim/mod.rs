//! `staffetta dkim`: keys, the records that publish them, and whether the DNS has these.

mod keygen;
mod records;

pub(super) use records::unpublished;

use std::process::ExitCode;

use crate::arguments::Dkim;

pub(super) async fn run(dkim: Dkim) -> anyhow::Result<ExitCode> {
    match dkim {
        Dkim::Keygen(keygen) => keygen::run(&keygen),
        Dkim::Dns(records) => records::show(&records),
        Dkim::Check(records) => records::check(&records).await,
    }
}

/// As it stands in a zone file: strings of at most 255 octets, on one line.
fn zone_line(name: &str, record: &str) -> String {
    format!("{name}. IN TXT \"{}\"", staffetta_dkim::strings(record).join("\" \""))
}
