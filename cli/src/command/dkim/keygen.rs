//! `staffetta dkim keygen`: a new key in a file of its own, and the record to publish.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use staffetta_dkim::{Algorithm, Key, record, record_name};

use super::zone_line;
use crate::arguments::{KeyKind, Keygen};
use crate::terminal::{complain, say};

pub(super) fn run(keygen: &Keygen) -> anyhow::Result<ExitCode> {
    let Keygen { domain, selector, .. } = keygen;
    let algorithm = match keygen.algorithm {
        KeyKind::Rsa => Algorithm::Rsa,
        KeyKind::Ed25519 => Algorithm::Ed25519,
    };
    let path = keygen.out.clone().unwrap_or_else(|| PathBuf::from(format!("{domain}.{selector}.pem")));
    // First: a key that is never stored is not worth making.
    let file = create(&path)?;
    let (key, pem) = Key::generate(algorithm).context("cannot make a key")?;
    if let Err(error) = fill(file, pem.as_bytes()) {
        let _ = fs::remove_file(&path);
        return Err(error).with_context(|| format!("cannot write {}", path.display()));
    }
    say(&zone_line(&record_name(selector, domain), &record(&key)?));
    complain(&format!("the private key is in {}; publish the record above, wait until", path.display()));
    complain("`staffetta dkim check` finds it, and let deliveries sign with the key:");
    let shown = fs::canonicalize(&path).unwrap_or(path);
    let table = format!("[[delivery.dkim]]\ndomain = {domain:?}\nselector = {selector:?}\nkey = {shown:?}");
    table.lines().for_each(|line| complain(&format!("    {line}")));
    Ok(ExitCode::SUCCESS)
}

/// A new file that nobody else can read. One that is there stays as it is: it may be a key in use.
fn create(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot create {}", path.display()))
}

fn fill(mut file: File, content: &[u8]) -> std::io::Result<()> {
    file.write_all(content)?;
    file.sync_all()
}
