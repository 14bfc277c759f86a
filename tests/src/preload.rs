//! A library that is loaded before libc, and lies to one process.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Compiles `source`, in C, into `folder`.
pub(crate) fn build(folder: &Path, name: &str, source: &str) -> anyhow::Result<()> {
    let file = folder.join(name).with_extension("c");
    fs::write(&file, source)?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([library(folder, name).as_ref(), file.as_path()])
        .arg("-ldl")
        .output()
        .context("cannot run cc")?;
    if !output.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// For `env`, in front of the program.
pub(crate) fn environment(folder: &Path, name: &str) -> OsString {
    let mut variable = OsString::from("LD_PRELOAD=");
    variable.push(library(folder, name));
    variable
}

fn library(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(name).with_extension("so")
}
