//! The reference page, from the declarations of the tables.

use crate::Config;
use crate::effect::is_at_once;
use crate::reader::variable;
use crate::settings::{Entry, KeyEntry, TableEntry};

const INTRODUCTION: &str = "\
# Configuration

This page is made by `make docs` from `crates/config`; change it there.

Every service reads one TOML file: `--config FILE`, else `$STAFFETTA_CONFIG`, else `/etc/staffetta/staffetta.toml`. The
command `staffetta` takes `./.staffetta/staffetta.toml`, which `staffetta up` writes, where that one is not there. All
services of a cluster can share it, each uses the tables it needs. Unknown keys are refused. All mistakes are reported
at once, each with file, line, key and what is allowed; `staffetta check` does so without starting anything.

**Environment.** A variable overrides a key of the file: `STAFFETTA__REDIS__URL` sets `redis.url`. Its text is read as
what the key is: a number, a size, a list separated by commas or written as a TOML array, an array of inline tables. A
variable that names no key is a mistake too.

**Secrets.** A secret can be put into a file instead: `redis.url_file` holds what `redis.url` would say, one line end at
its end is ignored. Of the two only one may be set; the environment goes before the file.

**Changes.** A service reads the file again within ten seconds after it has changed, and on `SIGHUP`; a file with a mistake
changes nothing. What takes effect at once does so for what begins then: a connection, a recipient, an attempt. What takes
effect after a restart is named in a warning and is left as it was. [operations.md](operations.md#changing-the-configuration)
says more.

**Units.** Sizes are a number of bytes or `\"16KiB\"`, `\"40MiB\"`, `\"1GiB\"`. Durations are `\"90s\"`, `\"5m\"`,
`\"1h30m\"`, `\"5d\"`. Rates are a number in a duration, `\"10/10m\"`. Networks are in CIDR form; a bare address is a
network of one.
";

/// The page that `docs/configuration.md` holds.
pub(crate) fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page += &format!("\n## An example\n\n```toml\n{}```\n", include_str!("../example.toml"));
    page += &format!("\n## The file\n\n{}", paragraph(Config::ABOUT));
    for entry in Config::entries() {
        page += &match entry {
            Entry::Table(table) => table_section(&table),
            Entry::Key(key) => key_section(&key),
        };
    }
    page
}

fn table_section(table: &TableEntry) -> String {
    let header = if table.is_list { format!("[[{}]]", table.path) } else { format!("[{}]", table.path) };
    let default = match table.default {
        Some("[]") => "\nDefault: none.\n".to_owned(),
        Some(default) => format!("\nDefault:\n\n```toml\n{} = {}\n```\n", table.path, unindented(default)),
        None => String::new(),
    };
    format!("\n## `{header}`\n\n{}{default}", paragraph(table.about))
}

fn key_section(key: &KeyEntry) -> String {
    let mut text = format!("\n### `{}`\n\n{}\n", key.path, paragraph(key.doc));
    text += &match key.default.as_deref() {
        None => "- Must be given.\n".to_owned(),
        Some("") => "- Default: not set.\n".to_owned(),
        Some(default) if key.path == "hostname" => format!("- Default: `{default}`, the machine's name.\n"),
        Some(default) => format!("- Default: `{default}`\n"),
    };
    if key.words.is_empty() {
        text += &format!("- Allowed: {}.\n", key.allowed);
    }
    for (word, doc) in &key.words {
        // As it stands in the file.
        let word = if word.parse::<bool>().is_ok() { (*word).to_owned() } else { format!("\"{word}\"") };
        text += &format!("- `{word}`: {}", paragraph(doc));
    }
    if let Some(twin) = &key.twin {
        text += &format!("- A secret; its file: `{twin}`.\n");
    }
    let effect = if is_at_once(&key.path) { "at once" } else { "after a restart" };
    text += &format!("- Takes effect: {effect}.\n");
    // Keys of an array's tables are set by the variable of the array.
    if !is_in_list(&key.path) {
        text += &format!("- Environment: `{}`\n", variable(&key.path));
    }
    text
}

fn is_in_list(path: &str) -> bool {
    let lists = Config::entries().into_iter().filter_map(|entry| match entry {
        Entry::Table(table) if table.is_list => Some(table.path + "."),
        _ => None,
    });
    lists.into_iter().any(|list| path.starts_with(&list))
}

/// The lines of a doc comment as one paragraph.
fn paragraph(lines: &[&str]) -> String {
    let words: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    words.join(" ") + "\n"
}

/// A default of several lines, moved to the left.
fn unindented(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect();
    lines.join("\n")
}
