//! Configurations, whole or a table of one, in pages, in manifests, and in comments of these.

use std::fs;

use anyhow::ensure;
use staffetta_cli::sink::Scenario;
use staffetta_config::Config;
use tempfile::TempDir;

use crate::{manifests, none, pages, read};

/// Files that stand in for those that hold secrets.
struct Secrets(TempDir);

impl Secrets {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("other"), "postgres://mail:secret@db.example.org/mail\n")?;
        fs::write(folder.path().join("redis"), "rediss://:secret@redis:6379\n")?;
        Ok(Self(folder))
    }

    /// The same text with every secret's file replaced by one that is there.
    fn within(&self, text: &str) -> String {
        let line = |line: &str| match line.split_once("_file = ") {
            Some((key, path)) => {
                let secret = self.0.path().join(if path.contains("redis") { "redis" } else { "other" });
                format!("{key}_file = \"{}\"\n", secret.display())
            }
            None => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    /// What is wrong with it. Rules are those of a test server.
    fn judge(&self, text: &str, name: &str) -> Option<String> {
        if text.contains("[[rule]]") {
            return Scenario::parse(text).err().map(|error| format!("{name}: {error}"));
        }
        Config::parse(&self.within(text), name).err().map(|errors| errors.to_string())
    }
}

/// Tables in comments: lines from one in brackets on, as long as there are more comments that are indented as it is.
fn tables_in_comments(text: &str) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    let mut open = None;
    for line in text.lines() {
        let comment = line.trim_start().strip_prefix('#').unwrap_or_default();
        let inside = comment.trim_start();
        let depth = comment.len() - inside.len();
        match open {
            Some(begun) if begun == depth && !inside.is_empty() => {}
            _ if inside.starts_with('[') && inside.ends_with(']') => {
                open = Some(depth);
                tables.push(String::new());
            }
            _ => open = None,
        }
        if let (Some(_), Some(table)) = (open, tables.last_mut()) {
            table.push_str(inside);
            table.push('\n');
        }
    }
    tables
}

#[test]
fn configurations_of_pages_are_read() -> anyhow::Result<()> {
    let secrets = Secrets::new()?;
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages()? {
        for block in page.blocks.iter().filter(|block| block.language == "toml") {
            seen += 1;
            wrong.extend(secrets.judge(&block.text, &format!("{}, behind line {}", page.name, block.line)));
        }
    }
    ensure!(seen >= 20, "only {seen} configurations were found");
    none(&wrong)
}

#[test]
fn configurations_of_manifests_and_of_their_comments_are_read() -> anyhow::Result<()> {
    let secrets = Secrets::new()?;
    let (mut wrong, mut whole, mut tables) = (Vec::new(), 0, 0);
    for name in manifests()? {
        let text = read(&name)?;
        if name.ends_with(".toml") {
            whole += 1;
            wrong.extend(secrets.judge(&text, &name));
        }
        for table in tables_in_comments(&text) {
            tables += 1;
            wrong.extend(secrets.judge(&table, &format!("{name}, in a comment")));
        }
    }
    ensure!(whole >= 2 && tables >= 6, "only {whole} configurations and {tables} tables were found");
    none(&wrong)
}

#[test]
fn a_wrong_configuration_is_found() -> anyhow::Result<()> {
    let secrets = Secrets::new()?;
    for good in ["[redis]\nurl_file = \"/redis\"\n", "[[rule]]\nstage = \"end\"\naction = \"drop\"\n"] {
        ensure!(secrets.judge(good, "good").is_none(), "{good}: {:?}", secrets.judge(good, "good"));
    }
    for bad in
        ["[redis]\nuri_file = \"/redis\"\n", "[[rule]]\nstage = \"ende\"\n", "[frontend]\nsize_limit = \"big\"\n"]
    {
        ensure!(secrets.judge(bad, "bad").is_some(), "{bad}");
    }
    let comments = "# Text:\n#   [spool]\n#   url = \"a\"\n# Text.\nx: 1 # [no]\n\n# [[delivery.dkim]]\n# domain = \"d\"\n\n# [a]: text\n";
    ensure!(tables_in_comments(comments) == ["[spool]\nurl = \"a\"\n", "[[delivery.dkim]]\ndomain = \"d\"\n"]);
    Ok(())
}
