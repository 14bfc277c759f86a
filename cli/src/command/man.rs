//! `staffetta man`: a page of the manual for the command and for each of its parts.

use std::fs;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::arguments::{Arguments, Man};

pub(super) fn run(man: &Man) -> anyhow::Result<ExitCode> {
    let directory = &man.directory;
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Arguments::command(), directory));
    written.with_context(|| format!("failed to write manual pages into {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
