//! `staffetta completions`: what a shell asks when TAB is pressed.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::arguments::{Arguments, Completions};
use crate::terminal::say;

pub(super) fn run(completions: &Completions) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(completions.shell, &mut Arguments::command(), "staffetta", &mut text);
    say(String::from_utf8_lossy(&text).trim_end());
    ExitCode::SUCCESS
}
