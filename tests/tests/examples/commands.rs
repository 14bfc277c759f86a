//! Command lines: those of our programs against their own definitions, those of this tree against what is in it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::error::ErrorKind;
use staffetta_config::Service;
use staffetta_transport::launch;

use crate::markdown::Page;
use crate::{ROOT, comments, none, pages, read, shell};

/// For `ID`; other placeholders in capitals are values as they are.
const AN_ID: &str = "0FD21GHPVY9NJ0VT";

/// A program of ours.
fn program(name: &str) -> Option<clap::Command> {
    match name {
        "staffetta" => Some(staffetta_cli::command_line()),
        "staffetta-frontend" => Some(launch::command(Service::Frontend)),
        "staffetta-auth" => Some(launch::command(Service::Auth)),
        "staffetta-delivery" => Some(launch::command(Service::Delivery)),
        _ => None,
    }
}

/// The words from the program on that a command runs in the end: behind variables, or behind the `--` of another program.
fn run_by(words: &[String]) -> &[String] {
    let begin = words.iter().position(|word| !word.contains('=')).unwrap_or(words.len());
    let words = &words[begin..];
    let behind = words.iter().position(|word| word == "--").map(|dashes| &words[dashes + 1..]);
    behind.filter(|words| words.first().is_some_and(|name| program(name).is_some())).unwrap_or(words)
}

/// Would the program take it?
fn takes(words: &[String]) -> Result<(), String> {
    let Some(program) = words.first().and_then(|name| program(name)) else { return Ok(()) };
    let words = words.iter().map(|word| if word == "ID" { AN_ID } else { word.as_str() });
    match program.try_get_matches_from(words) {
        Ok(_) => Ok(()),
        Err(error) if [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind()) => Ok(()),
        Err(error) => {
            let said = error.to_string();
            Err(said.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" "))
        }
    }
}

/// Is it a command's mere name, as in a sentence about it: `staffetta queue hold`?
fn is_name(words: &[String]) -> bool {
    let Some((mut command, rest)) = words.split_first().and_then(|(name, rest)| Some((program(name)?, rest))) else {
        return false;
    };
    for word in rest {
        match command.find_subcommand(word) {
            Some(found) => command = found.clone(),
            None => return false,
        }
    }
    true
}

/// In a sentence a command of `staffetta` may go without the program's name: `queue show ID`.
fn with_program(text: &str) -> String {
    let mut words = text.split(' ');
    let ours = staffetta_cli::command_line();
    let named = words.next().and_then(|first| ours.find_subcommand(first)).filter(|found| found.has_subcommands());
    match (named, words.next()) {
        (Some(found), Some(second)) if found.find_subcommand(second).is_some() => format!("staffetta {text}"),
        _ => text.to_owned(),
    }
}

/// All commands of a page, with their line, and whether they stand in a sentence.
fn commands(page: &Page) -> Vec<(usize, bool, Vec<String>)> {
    let mut all = Vec::new();
    for block in page.blocks.iter().filter(|block| block.language == "sh") {
        let lines = block.text.lines().flat_map(|line| synopsis(line).unwrap_or_else(|| vec![line.to_owned()]));
        let script = lines.collect::<Vec<_>>().join("\n");
        all.extend(shell::commands(&script).into_iter().map(|words| (block.line, false, words)));
    }
    for (line, text) in &page.words {
        let text = with_program(text);
        let texts = synopsis(&text).unwrap_or_else(|| vec![text]);
        // What is left out stands for anything.
        let whole = texts.iter().filter(|text| !text.contains('…'));
        all.extend(whole.flat_map(|text| shell::commands(text)).map(|words| (*line, true, words)));
    }
    all
}

/// What a line about one of our programs stands for, if it is one.
fn synopsis(line: &str) -> Option<Vec<String>> {
    let is_ours = line.starts_with("staffetta ") && !line.split(' ').any(|word| word == "…");
    is_ours.then(|| shell::meant(line))
}

#[test]
fn commands_of_pages_are_those_that_the_programs_take() -> anyhow::Result<()> {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages()?.into_iter().chain(comments()?) {
        for (line, in_sentence, words) in commands(&page) {
            let words = run_by(&words);
            seen += usize::from(words.first().is_some_and(|name| program(name).is_some()));
            if !(in_sentence && is_name(words))
                && let Err(error) = takes(words)
            {
                wrong.push(format!("{}:{line}: {}: {error}", page.name, words.join(" ")));
            }
        }
    }
    ensure!(seen > 180, "only {seen} commands were found");
    none(&wrong)
}

#[test]
fn scripts_and_targets_that_pages_name_are_there() -> anyhow::Result<()> {
    let makefile = read("Makefile")?;
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages()?.into_iter().chain(comments()?) {
        for (line, _, words) in commands(&page) {
            let Some((name, rest)) = run_by(&words).split_first() else { continue };
            let is_wrong = if name == "make" {
                let mut targets = rest.iter().filter(|word| !word.contains('='));
                targets.any(|target| !makefile.contains(&format!("\n{target}:")))
            } else if name.starts_with("scripts/") || name.starts_with("deploy/") {
                !Path::new(ROOT).join(name).exists()
            } else {
                continue;
            };
            seen += 1;
            if is_wrong {
                wrong.push(format!("{}:{line}: {}: there is no such thing", page.name, words.join(" ")));
            }
        }
    }
    ensure!(seen > 20, "only {seen} were found");
    none(&wrong)
}

#[test]
fn bash_understands_every_script_of_a_page() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for page in pages()? {
        for block in page.blocks.iter().filter(|block| block.language == "sh") {
            let mut shell = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            shell.stdin.take().context("no input")?.write_all(block.text.as_bytes())?;
            let output = shell.wait_with_output()?;
            if !output.status.success() || !output.stderr.is_empty() {
                let said = String::from_utf8_lossy(&output.stderr);
                wrong.push(format!("{}:{}: {said}", page.name, block.line));
            }
        }
    }
    none(&wrong)
}

#[test]
fn a_wrong_command_is_found() -> anyhow::Result<()> {
    let found = |text: &str| -> anyhow::Result<Vec<String>> {
        let page = Page::read("page", text)?;
        let commands = commands(&page).into_iter();
        let wrong = commands.filter(|(_, in_sentence, words)| {
            !(*in_sentence && is_name(run_by(words))) && takes(run_by(words)).is_err()
        });
        Ok(wrong.map(|(_, _, words)| words.join(" ")).collect())
    };
    for good in [
        "Say `staffetta queue hold`, `queue release ID…` or `staffetta queue …`; `staffetta` and `queue up` are none.",
        "```sh\nA=1 staffetta check --config FILE >b # --nothing\nstaffetta queue cat ID [-H | -b]\n```",
        "```sh\nrunuser -u x -- staffetta queue init\n```",
        "```sh\nkubectl exec deploy/auth -- staffetta user add john@example.org | staffetta-auth --config FILE\n```",
        "```text\nstaffetta nothing\n```",
    ] {
        ensure!(found(good)?.is_empty(), "{good}: {:?}", found(good)?);
    }
    for bad in [
        "`staffetta queue holds`",
        "`staffetta queue list --login`",
        "`queue list --everything`",
        "`staffetta dkim keygen --domain example.org`",
        "```sh\nstaffetta queue hold\n```",
        "```sh\nstaffetta queue cat ID [-H | -x]\n```",
        "```sh\nkubectl exec deploy/auth -- staffetta user create john@example.org\n```",
        "```sh\na | staffetta trace --log -\n```",
        "```sh\nstaffetta-auth --service auth\n```",
    ] {
        ensure!(found(bad)?.len() == 1, "{bad}: {:?}", found(bad)?);
    }
    Ok(())
}
