//! What of a configuration differs from another, in the text that shows both.

use std::collections::HashSet;

/// A table with its keys, one a line. The first has no header.
struct Section<'a> {
    header: &'a str,
    keys: Vec<&'a str>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut all = vec![Section { header: "", keys: Vec::new() }];
    for line in text.lines().filter(|line| !line.is_empty()) {
        match all.last_mut() {
            Some(last) if !line.starts_with('[') => last.keys.push(line),
            _ => all.push(Section { header: line, keys: Vec::new() }),
        }
    }
    all
}

/// The keys of `text` that `usual` has not, or has with another value. Of an array all tables are shown if one of them
/// differs: together they take the place of those that were there. A key in them that is as `in_rows` has it, by header
/// and line, goes without saying.
pub(crate) fn differing(text: &str, usual: &str, in_rows: &HashSet<(String, String)>) -> String {
    let (mine, theirs) = (sections(text), sections(usual));
    let known: HashSet<_> = theirs.iter().flat_map(|of| of.keys.iter().map(|key| (of.header, *key))).collect();
    let array = |of: &[Section<'_>], header: &str| -> Vec<String> {
        of.iter().filter(|it| it.header == header).map(|it| it.keys.join("\n")).collect()
    };
    let owned = |header: &str, key: &str| (header.to_owned(), key.to_owned());
    let mut shown = String::new();
    for section in &mine {
        let is_array = section.header.starts_with("[[");
        let keys: Vec<_> = match is_array {
            true if array(&mine, section.header) == array(&theirs, section.header) => Vec::new(),
            true => section.keys.iter().copied().filter(|key| !in_rows.contains(&owned(section.header, key))).collect(),
            false => section.keys.iter().copied().filter(|key| !known.contains(&(section.header, key))).collect(),
        };
        if !keys.is_empty() {
            let header = if section.header.is_empty() { String::new() } else { format!("\n{}\n", section.header) };
            shown += &format!("{header}{}\n", keys.join("\n"));
        }
    }
    shown
}
