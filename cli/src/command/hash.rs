//! `staffetta hash`: a stored password for the accounts table.

use std::process::ExitCode;

use staffetta_auth::scheme;

use crate::arguments::Hash;
use crate::terminal;

pub(super) fn run(hash: &Hash) -> anyhow::Result<ExitCode> {
    let password = terminal::read_password("Password: ")?;
    terminal::say(&scheme::hash(&hash.scheme, &password)?);
    if scheme::is_weak(&hash.scheme) {
        let advice = scheme::DEFAULT;
        terminal::complain(&format!(
            "warning: a stolen table of {} gives its passwords away; choose {advice}",
            hash.scheme
        ));
    }
    Ok(ExitCode::SUCCESS)
}
