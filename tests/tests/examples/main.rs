//! What pages show is what the programs take: each command line, each script, each configuration.

mod commands;
mod configurations;
mod markdown;
mod shell;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use markdown::Page;

/// Where tests run, the root is above.
const ROOT: &str = "..";

/// What a block may be; without a word it is text that nobody types.
const LANGUAGES: [&str; 9] = ["", "conf", "ini", "json", "promql", "sh", "text", "toml", "yaml"];

/// Every page but the change log, which tells what was so once.
fn pages() -> anyhow::Result<Vec<Page>> {
    let mut names = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "fuzz/README.md"].map(str::to_owned).to_vec();
    for folder in ["docs", "docs/decisions"] {
        for entry in fs::read_dir(Path::new(ROOT).join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names.sort();
    names.iter().map(|name| Page::read(name, &read(name)?)).collect()
}

/// The names of all manifests and of the configurations beside them.
fn manifests() -> anyhow::Result<Vec<String>> {
    let (mut names, mut folders) = (Vec::new(), vec!["deploy".to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(ROOT).join(&folder))? {
            let entry = entry?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(name);
            } else if name.ends_with(".yaml") || name.ends_with(".toml") {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok(names)
}

/// What stands in the comments of manifests, as a page.
fn comments() -> anyhow::Result<Vec<Page>> {
    let of_line = |line: &str| line.trim_start().strip_prefix('#').unwrap_or_default().trim_start().to_owned() + "\n";
    let page = |name: &String| Page::read(name, &read(name)?.lines().map(of_line).collect::<String>());
    manifests()?.iter().map(page).collect()
}

fn read(name: &str) -> anyhow::Result<String> {
    fs::read_to_string(Path::new(ROOT).join(name)).with_context(|| format!("failed to read {name}"))
}

/// Fails with all of them.
fn none(wrong: &[String]) -> anyhow::Result<()> {
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Else nobody would look at what is in it.
#[test]
fn every_block_has_fences_and_says_what_it_is() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for page in pages()? {
        let name = &page.name;
        wrong.extend(page.indented.iter().map(|line| format!("{name}:{line}: an indented block: give it fences")));
        let strange = page.blocks.iter().filter(|block| !LANGUAGES.contains(&&*block.language));
        wrong.extend(strange.map(|block| format!("{name}:{}: a block in {:?}", block.line, block.language)));
    }
    none(&wrong)
}

#[test]
fn records_that_pages_show_are_json() -> anyhow::Result<()> {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages()? {
        for block in page.blocks.iter().filter(|block| block.language == "json") {
            for line in block.text.lines() {
                seen += 1;
                if let Err(error) = serde_json::from_str::<serde_json::Value>(line) {
                    wrong.push(format!("{}:{}: {error}: {line}", page.name, block.line));
                }
            }
        }
    }
    ensure!(seen > 20, "only {seen} records were found");
    none(&wrong)
}
