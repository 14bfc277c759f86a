//! Pages of the manual from Markdown, as far as our pages use it: headings of two levels, paragraphs, lists, blocks of code,
//! and within a line code, bold text and links. Blocks are parted by empty lines.

use std::fmt::Write as _;

/// The head of a page, with its NAME.
pub(super) fn title(name: &str, section: &str, about: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(".TH {name} {section} \"\" \"Staffetta {version}\" Staffetta\n.SH NAME\n{name} \\- {}\n", inline(about))
}

/// The text as roff, in the macros of man(7).
pub(super) fn from_markdown(text: &str) -> String {
    let mut page = String::new();
    let mut lines = text.lines().peekable();
    let mut paragraph = true;
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            page += if paragraph { ".PP\n.RS 4\n.EX\n" } else { ".RS 4\n.EX\n" };
            lines.by_ref().take_while(|line| !line.starts_with("```")).for_each(|line| page += &code_line(line));
            page += ".EE\n.RE\n";
        } else if let Some(heading) = line.strip_prefix("### ") {
            page += &heading_line(".SS", heading);
            paragraph = false;
            continue;
        } else if let Some(heading) = line.strip_prefix("## ") {
            page += &heading_line(".SH", heading);
            paragraph = false;
            continue;
        } else if let Some(item) = line.strip_prefix("- ") {
            // Writing to a string cannot fail.
            let _ = writeln!(page, ".IP \\(bu 2\n{}", safe(inline(item)));
        } else if line.is_empty() {
            // Whether it begins a paragraph is said by what follows; behind a heading one has begun.
            let starts = lines.peek().is_some_and(|next| !next.starts_with(['#', '`', '-']) || next.starts_with("`/"));
            if starts && paragraph {
                page += ".PP\n";
            }
            continue;
        } else {
            page += &safe(inline(line));
            page.push('\n');
        }
        paragraph = true;
    }
    page
}

fn heading_line(macro_name: &str, heading: &str) -> String {
    let words = escaped(&heading.replace('`', ""));
    if words.contains([' ', '[']) { format!("{macro_name} \"{words}\"\n") } else { format!("{macro_name} {words}\n") }
}

fn code_line(line: &str) -> String {
    safe(escaped(line)) + "\n"
}

/// Code and bold text in bold, links as their text.
fn inline(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, from) = rest.split_at(at);
        out += &escaped(before);
        let taken = span(from, "`", "`").or_else(|| span(from, "**", "**"));
        if let Some((inner, after)) = taken {
            let _ = write!(out, "\\fB{}\\fR", escaped(inner));
            rest = after;
        } else if let Some((inner, after)) = link(from) {
            out += &inline(inner);
            rest = after;
        } else {
            let (one, after) = from.split_at(1);
            out += one;
            rest = after;
        }
    }
    out + &escaped(rest)
}

/// What stands between the marks, and what behind them.
fn span<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(open)?.split_once(close).filter(|(inner, _)| !inner.is_empty())
}

fn link(text: &str) -> Option<(&str, &str)> {
    let (inner, after) = text.strip_prefix('[')?.split_once("](")?;
    let (_, after) = after.split_once(')')?;
    (!inner.contains(['[', ']'])).then_some((inner, after))
}

/// Characters that mean something to roff, or that it makes typographic.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out += "\\(rs",
            '-' => out += "\\-",
            '\'' => out += "\\(aq",
            '"' => out += "\\(dq",
            '`' => out += "\\(ga",
            '~' => out += "\\(ti",
            '^' => out += "\\(ha",
            _ => out.push(c),
        }
    }
    out
}

/// No line of text is taken for a macro.
fn safe(line: String) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_pages_use_becomes_macros() {
        for (markdown, roff) in [
            ("## `[redis]`\n\nText.\n", ".SH \"[redis]\"\nText.\n"),
            ("### `redis.url`\n\nOne.\n\nTwo.\n", ".SS redis.url\nOne.\n.PP\nTwo.\n"),
            ("- Default: `\"1 MiB\"`\n", ".IP \\(bu 2\nDefault: \\fB\\(dq1 MiB\\(dq\\fR\n"),
            ("See [x-y.md](x-y.md#z), **now**.\n", "See x\\-y.md, \\fBnow\\fR.\n"),
            ("[[a]] * [b]\n", "[[a]] * [b]\n"),
            (".dot\n'tis\n", "\\&.dot\n\\(aqtis\n"),
            ("```toml\n.a = 'b\\n'\n```\n", ".PP\n.RS 4\n.EX\n\\&.a = \\(aqb\\(rsn\\(aq\n.EE\n.RE\n"),
        ] {
            assert_eq!(from_markdown(markdown), roff, "{markdown}");
        }
    }
}
