//! The page of a command, and of each command below it, as clap has them.

use std::path::Path;
use std::{fs, io};

use clap::Command;
use clap_mangen::Man;

use super::roff;

/// Writes the pages into a folder.
pub(super) fn write(command: &Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(below, folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    fs::write(folder.join(format!("{name}.1")), page(command, name)?)
}

fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = roff::title(name, "1", about.trim_end_matches('.')).into_bytes();
    let man = Man::new(command.clone());
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    page.extend(roff::from_markdown("## SEE ALSO\n\n**staffetta**(1), **staffetta.toml**(5)\n").into_bytes());
    Ok(page)
}
