//! How a transcript is read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Action, Dialog, DialogError, Postfix, Step, With};

impl Dialog {
    /// Reads all transcripts (`*.smtp`) of a folder and of those in it, by name; none is an error.
    pub fn in_folder(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Self)>> {
        let mut dialogs = Vec::new();
        read_folder(folder, &mut dialogs)?;
        dialogs.sort_by(|(a, _), (b, _)| a.cmp(b));
        anyhow::ensure!(!dialogs.is_empty(), "no transcripts in {}", folder.display());
        Ok(dialogs)
    }

    /// Reads a transcript.
    pub fn parse(text: &str) -> Result<Self, DialogError> {
        let mut reader = Reader::default();
        let mut last = 0;
        for (index, line) in text.lines().enumerate() {
            last = index + 1;
            reader.line(last, line.trim_ascii_end()).map_err(|problem| DialogError { line: last, problem })?;
        }
        reader.end().map_err(|problem| DialogError { line: last, problem })
    }
}

fn read_folder(folder: &Path, into: &mut Vec<(PathBuf, Dialog)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "smtp") {
            let text = fs::read_to_string(&path)?;
            let dialog = Dialog::parse(&text).with_context(|| path.display().to_string())?;
            into.push((path, dialog));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Reader {
    dialog: Dialog,
    /// May the next line be of one write, or of one message, with the one before?
    joins: bool,
    /// The block of `@times` at hand: how often, and its lines.
    block: Option<(usize, Vec<(usize, String)>)>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        match &mut self.block {
            Some(_) if line == "@end" => return self.repeat(),
            Some((_, lines)) => lines.push((number, line.to_owned())),
            None => self.one(number, line)?,
        }
        Ok(())
    }

    fn end(self) -> Result<Dialog, String> {
        if self.block.is_some() {
            return Err("@times without @end".to_owned());
        }
        let marked = matches!(self.dialog.postfix, Postfix::Differs(_));
        if marked != self.dialog.steps.iter().any(|step| step.with != With::Both) {
            return Err("`@postfix differs` and P lines go together".to_owned());
        }
        Ok(self.dialog)
    }

    fn repeat(&mut self) -> Result<(), String> {
        let (times, lines) = self.block.take().unwrap_or_default();
        for n in 1..=times {
            for (number, line) in &lines {
                self.one(*number, &line.replace("{n}", &n.to_string()))?;
            }
        }
        Ok(())
    }

    fn one(&mut self, number: usize, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            self.joins = false;
            return Ok(());
        }
        if let Some(text) = line.strip_prefix("P:") {
            self.postfix_says(number, text.trim_ascii_start());
        } else if let Some(directive) = line.strip_prefix('@') {
            if let Some(action) = self.directive(directive)? {
                self.push(number, With::Both, action);
            }
        } else {
            let action = action(line)?;
            if self.joins && join(&mut self.dialog, &action) {
                return Ok(());
            }
            self.push(number, With::Both, action);
            self.joins = true;
            return Ok(());
        }
        self.joins = false;
        Ok(())
    }

    fn push(&mut self, line: usize, with: With, action: Action) {
        self.dialog.steps.push(Step { line, with, action });
    }

    /// What stands right above is for us alone.
    fn postfix_says(&mut self, number: usize, text: &str) {
        let above = self.dialog.steps.iter_mut().rev();
        let said = above.take_while(|step| {
            step.with == With::Both && matches!(step.action, Action::Expect(_) | Action::Reply(_) | Action::Closed)
        });
        said.for_each(|step| step.with = With::Us);
        match text {
            "" => {}
            "@closed" => self.push(number, With::Postfix, Action::Closed),
            _ => self.push(number, With::Postfix, Action::Expect(text.to_owned())),
        }
    }

    fn directive(&mut self, directive: &str) -> Result<Option<Action>, String> {
        let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        let dialog = &mut self.dialog;
        match word {
            "tls" => return Ok(Some(Action::StartTls)),
            "closed" => return Ok(Some(Action::Closed)),
            "clear" => dialog.clear = true,
            "wire" => dialog.wire = true,
            "whole" => dialog.whole = true,
            "times" => {
                let times = rest.parse().map_err(|_| format!("how often? {rest:?}"))?;
                self.block = Some((times, Vec::new()));
            }
            "open" if dialog.steps.is_empty() => {
                dialog.opening = rest.split_whitespace().map(str::to_owned).collect();
            }
            "open" => return Err("@open comes first".to_owned()),
            "postfix" => dialog.postfix = postfix(rest)?,
            _ => return Err(format!("no such directive: @{directive}")),
        }
        Ok(None)
    }
}

fn postfix(text: &str) -> Result<Postfix, String> {
    match text.split_once(' ') {
        Some(("differs", reason)) => Ok(Postfix::Differs(reason.to_owned())),
        Some(("not", reason)) => Ok(Postfix::Not(reason.to_owned())),
        _ => Err("@postfix differs|not REASON".to_owned()),
    }
}

fn action(line: &str) -> Result<Action, String> {
    let (mark, text) = (line.get(..2).unwrap_or(line), line.get(2..).unwrap_or_default());
    let text = text.strip_prefix(' ').unwrap_or(text);
    match mark {
        "C:" => Ok(Action::Send(format!("{text}\r\n").into_bytes())),
        "C=" => unescape(text).map(Action::Send),
        "S:" => Ok(Action::Expect(text.to_owned())),
        "S*" => Ok(Action::Reply(text.to_owned())),
        "M:" => Ok(Action::Stored(vec![text.to_owned()])),
        _ => Err(format!("neither C: C= S: S* P: M: @ nor #: {line:?}")),
    }
}

/// Adds to the step before, if both are of one write or one message.
fn join(dialog: &mut Dialog, action: &Action) -> bool {
    match (dialog.steps.last_mut().map(|step| &mut step.action), action) {
        (Some(Action::Send(before)), Action::Send(bytes)) => before.extend_from_slice(bytes),
        (Some(Action::Stored(before)), Action::Stored(lines)) => before.extend_from_slice(lines),
        _ => return false,
    }
    true
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let mut chars = after.chars();
        let byte = match chars.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits = after.get(1..3).ok_or_else(|| format!("two hex digits after \\x: {text:?}"))?;
                chars = after[3..].chars();
                u8::from_str_radix(digits, 16).map_err(|_| format!("two hex digits after \\x: {text:?}"))?
            }
            Some('{') => {
                let (inner, behind) = after[1..].split_once('}').ok_or_else(|| format!("\\{{ without }}: {text:?}"))?;
                bytes.extend(repeated(inner)?);
                rest = behind;
                continue;
            }
            _ => return Err(format!("unknown escape: {text:?}")),
        };
        bytes.push(byte);
        rest = chars.as_str();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// `N:text`
fn repeated(inner: &str) -> Result<Vec<u8>, String> {
    let (times, text) = inner.split_once(':').ok_or_else(|| format!("N:text, not {inner:?}"))?;
    let times: usize = times.parse().map_err(|_| format!("how often? {times:?}"))?;
    Ok(unescape(text)?.repeat(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(line: usize, action: Action) -> Step {
        Step { line, with: With::Both, action }
    }

    #[test]
    fn a_transcript_is_read_and_neighbours_are_joined() -> Result<(), DialogError> {
        let text = "# story\n@open relay stranger\nS: 220 …\nC: A\nC: B\n\nC: C\nC= d\\r\\n\\x2e\\\\\nS: 250 ok\n@tls\n@closed\nM: from=<a>\nM:\n";
        let dialog = Dialog::parse(text)?;
        assert_eq!(dialog.opening, ["relay", "stranger"]);
        assert_eq!(
            dialog.steps,
            [
                step(3, Action::Expect("220 …".into())),
                step(4, Action::Send(b"A\r\nB\r\n".to_vec())),
                step(7, Action::Send(b"C\r\nd\r\n.\\".to_vec())),
                step(9, Action::Expect("250 ok".into())),
                step(10, Action::StartTls),
                step(11, Action::Closed),
                step(12, Action::Stored(vec!["from=<a>".into(), String::new()])),
            ]
        );
        Ok(())
    }

    #[test]
    fn lines_and_texts_are_repeated() -> Result<(), DialogError> {
        let dialog = Dialog::parse("@times 2\nC: A{n}\nS* 250\n@end\nC= \\{3:x\\r}y\n")?;
        assert_eq!(
            dialog.steps,
            [
                step(2, Action::Send(b"A1\r\n".to_vec())),
                step(3, Action::Reply("250".into())),
                step(2, Action::Send(b"A2\r\n".to_vec())),
                step(3, Action::Reply("250".into())),
                step(5, Action::Send(b"x\rx\rx\ry".to_vec())),
            ]
        );
        Ok(())
    }

    #[test]
    fn what_a_transcript_says_of_itself() -> Result<(), DialogError> {
        let dialog = Dialog::parse("@open relay\n@clear\n@whole\n@wire\n@postfix not it has no such thing\nS: 220\n")?;
        assert!(dialog.clear && dialog.whole && dialog.wire && !dialog.is_for_tls());
        assert_eq!(dialog.postfix, Postfix::Not("it has no such thing".into()));
        assert!(!Dialog::parse("@open relay\n@tls\n")?.is_for_tls());
        assert!(Dialog::parse("@open relay\nC: x\n")?.is_for_tls());
        Ok(())
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, line) in [
            ("S: 220\nX: y", 2),
            ("@foo", 1),
            ("S: 220\n@open relay", 2),
            ("C= \\q", 1),
            ("C= \\x1", 1),
            ("C= \\{3:x", 1),
            ("C= \\{x}", 1),
            ("@times x\n@end", 1),
            ("@times 2\nC: x", 2),
            ("@postfix perhaps", 1),
            ("S: 1\nP: 2", 2),
            ("@postfix differs or not\nS: 1", 2),
        ] {
            assert_eq!(Dialog::parse(text).map_err(|error| error.line), Err(line), "{text}");
        }
    }
}
