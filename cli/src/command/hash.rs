//! `staffetta hash`: a stored password for the accounts table.

use std::process::ExitCode;

use staffetta_auth::scheme;

use crate::arguments::Hash;
use crate::terminal::{complain, read_password, say};

pub(super) fn run(hash: &Hash) -> anyhow::Result<ExitCode> {
    let password = read_password("Password: ")?;
    say(&scheme::hash(&hash.scheme, &password)?);
    warn_if_weak(&hash.scheme);
    Ok(ExitCode::SUCCESS)
}

/// They are made for what else reads the table; nobody should choose one by chance.
pub(super) fn warn_if_weak(scheme: &str) {
    if scheme::is_weak(scheme) {
        let advice = scheme::DEFAULT;
        complain(&format!("warning: a stolen table of {scheme} gives its passwords away; {advice} does not"));
    }
}
