//! The self-signed certificate of `staffetta up` and of the sink.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Uses the pair in `folder`, or makes one for `names` that only its owner can read.
pub(crate) fn self_signed(folder: &Path, names: &[&str]) -> anyhow::Result<Files> {
    let files = Files { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    if files.certificate.exists() && files.key.exists() {
        return Ok(files);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let pair = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    write_private(&files.key, pair.signing_key.serialize_pem().as_bytes())?;
    fs::write(&files.certificate, pair.cert.pem())
        .with_context(|| format!("cannot write {}", files.certificate.display()))?;
    Ok(files)
}

fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(content).with_context(|| format!("cannot write {}", path.display()))
}
