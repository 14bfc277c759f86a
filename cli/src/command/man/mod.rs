//! `staffetta man`: the manual, in the folders that `man -M` wants: a page for the command and each of its parts (1), for the
//! configuration file (5), for each of the services (8).

mod command;
mod roff;
mod service;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use staffetta_config::{Config, Service};

use crate::arguments::{Arguments, Man};

const SERVICES: [Service; 3] = [Service::Frontend, Service::Auth, Service::Delivery];

pub(super) fn run(man: &Man) -> anyhow::Result<ExitCode> {
    let directory = &man.directory;
    write(directory).with_context(|| format!("failed to write manual pages into {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path) -> io::Result<()> {
    let [commands, files, services] = ["man1", "man5", "man8"].map(|section| directory.join(section));
    for section in [&commands, &files, &services] {
        fs::create_dir_all(section)?;
    }
    let mut whole = Arguments::command().disable_help_subcommand(true);
    whole.build();
    command::write(&whole, &commands)?;
    fs::write(files.join("staffetta.toml.5"), configuration())?;
    for service in SERVICES {
        let (name, page) = service::page(service)?;
        fs::write(services.join(format!("{name}.8")), page)?;
    }
    Ok(())
}

/// docs/configuration.md as a page of the manual.
fn configuration() -> String {
    let reference = Config::reference();
    // Its first two paragraphs are a title and a word to those who change it.
    let text = reference.splitn(3, "\n\n").nth(2).unwrap_or_default();
    let mut page = roff::title("staffetta.toml", "5", "what the services of Staffetta are told");
    page += ".SH DESCRIPTION\n";
    page += &roff::from_markdown(text);
    page += &roff::from_markdown(
        "## FILES\n\n`/etc/staffetta/staffetta.toml`\n\n## SEE ALSO\n\n\
         **staffetta**(1), **staffetta-check**(1), **staffetta-frontend**(8), **staffetta-auth**(8), **staffetta-delivery**(8)\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_the_file_has_its_keys() {
        let page = configuration();
        for line in [
            ".TH staffetta.toml 5",
            ".SH \"[redis]\"",
            ".SS redis.url",
            ".SH \"[[delivery.route]]\"",
            "Default: \\fB\\(dqstaffetta\\(dq\\fR",
            ".SH \"SEE ALSO\"",
        ] {
            assert!(page.lines().any(|it| it.contains(line)), "{line}");
        }
        assert!(!page.contains("make docs") && !page.contains('`') && !page.contains("]("));
    }
}
