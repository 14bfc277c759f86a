//! `staffetta config`: the configuration in force, as `postconf` and `postconf -n` show it. Secrets are masked.

use std::process::ExitCode;

use staffetta_config::Service;

use crate::arguments::Config;
use crate::terminal::say;

pub(super) fn run(arguments: &Config) -> anyhow::Result<ExitCode> {
    let config = arguments.file.load(arguments.service.map_or(Service::All, Into::into))?;
    let text = if arguments.changed { config.changed() } else { config.effective() };
    say(text.trim());
    Ok(ExitCode::SUCCESS)
}
