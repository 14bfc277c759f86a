//! Transcripts of SMTP dialogues: `tests/dialogs/*.smtp`.
//!
//! ```text
//! # what the story is about
//! @open submission stranger      where, and who connects; the words mean what the peer makes of them
//! S: 220 mail.example.org ESMTP …
//! C: EHLO client.example
//! S: 250-mail.example.org
//! S: 250 …
//! ```
//!
//! | line | meaning |
//! |---|---|
//! | `C: text` | the client sends the text and CRLF; lines that follow each other go out in one write |
//! | `C= text` | the same without CRLF, with `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` replaced |
//! | `S: text` | the server sends this line; `…` stands for any text |
//! | `M: text` | the next stored message has this line; the first is `from=<…> to=<…>,<…>`; lines that follow each other are the whole message |
//! | `@open words` | connects; only at the beginning |
//! | `@tls` | the client does the TLS handshake |
//! | `@closed` | the server closes |
//! | `# text` | a comment, also an empty line; either ends a run of `C` or `M` lines |
//!
//! [`Dialog::parse`] reads a transcript, [`Dialog::play`] plays it on any [`Peer`]; [`Dialog::in_folder`] reads all of a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A transcript.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialog {
    /// The words after `@open`: listener, client, whatever the peer understands.
    pub opening: Vec<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The line of the file, from 1.
    pub line: usize,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The client writes this, in one write.
    Send(Vec<u8>),
    /// The server sends a line that [`matches`] this pattern.
    Expect(String),
    /// The client does the TLS handshake.
    StartTls,
    /// The server closes, and says nothing more.
    Closed,
    /// The next stored message has these lines, each a pattern; the first is about the envelope.
    Stored(Vec<String>),
}

/// What a transcript is played on. A peer that fails says so by `Err`, or by panicking: it is a test.
pub trait Peer {
    /// Sends the client's bytes in one write.
    fn send(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// The next line that the server sends, without CRLF; `None` if it closed.
    fn receive(&mut self) -> Result<Option<String>, String>;
    /// A line that is already there although nobody expects it; a peer that cannot tell says `None`.
    fn unexpected(&mut self) -> Option<String> {
        None
    }
    /// Does the client's side of the TLS handshake.
    fn start_tls(&mut self) -> Result<(), String>;
    /// The next stored message: `from=<…> to=<…>,<…>`, then its lines.
    fn stored(&mut self) -> Result<Vec<String>, String>;
}

/// Something is wrong with a transcript, or with what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogError {
    /// The line of the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for DialogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for DialogError {}

impl Dialog {
    /// Reads all transcripts (`*.smtp`) of a folder, by name; none is an error.
    pub fn in_folder(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Self)>> {
        let mut dialogs = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "smtp") {
                let text = std::fs::read_to_string(&path)?;
                let dialog = Self::parse(&text).with_context(|| path.display().to_string())?;
                dialogs.push((path, dialog));
            }
        }
        dialogs.sort_by(|(a, _), (b, _)| a.cmp(b));
        anyhow::ensure!(!dialogs.is_empty(), "no transcripts in {}", folder.display());
        Ok(dialogs)
    }

    /// Reads a transcript.
    pub fn parse(text: &str) -> Result<Self, DialogError> {
        let mut dialog = Self::default();
        let mut joins = false;
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let parsed = dialog.parse_line(line.trim_ascii_end());
            let action = parsed.map_err(|problem| DialogError { line: line_number, problem })?;
            let Some(action) = action else {
                joins = false;
                continue;
            };
            if !(joins && dialog.join(&action)) {
                dialog.steps.push(Step { line: line_number, action });
            }
            joins = true;
        }
        Ok(dialog)
    }

    /// Plays the transcript to its end.
    pub fn play(&self, peer: &mut impl Peer) -> Result<(), DialogError> {
        for step in &self.steps {
            step.play(peer).map_err(|problem| DialogError { line: step.line, problem })?;
        }
        match peer.unexpected() {
            Some(line) => {
                let line_number = self.steps.last().map_or(0, |step| step.line);
                Err(DialogError { line: line_number, problem: format!("the server also said {line:?}") })
            }
            None => Ok(()),
        }
    }

    fn parse_line(&mut self, line: &str) -> Result<Option<Action>, String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        if let Some(directive) = line.strip_prefix('@') {
            return self.parse_directive(directive);
        }
        let (mark, text) = (line.get(..2).unwrap_or(line), line.get(2..).unwrap_or_default());
        let text = text.strip_prefix(' ').unwrap_or(text);
        match mark {
            "C:" => Ok(Some(Action::Send(format!("{text}\r\n").into_bytes()))),
            "C=" => unescape(text).map(|bytes| Some(Action::Send(bytes))),
            "S:" => Ok(Some(Action::Expect(text.to_owned()))),
            "M:" => Ok(Some(Action::Stored(vec![text.to_owned()]))),
            _ => Err(format!("neither C: C= S: M: @ nor #: {line:?}")),
        }
    }

    fn parse_directive(&mut self, directive: &str) -> Result<Option<Action>, String> {
        let mut words = directive.split_whitespace();
        match words.next() {
            Some("tls") => Ok(Some(Action::StartTls)),
            Some("closed") => Ok(Some(Action::Closed)),
            Some("open") if self.steps.is_empty() => {
                self.opening = words.map(str::to_owned).collect();
                Ok(None)
            }
            Some("open") => Err("@open comes first".to_owned()),
            _ => Err(format!("neither @open, @tls nor @closed: @{directive}")),
        }
    }

    /// Adds to the step before, if both are of one write or one message.
    fn join(&mut self, action: &Action) -> bool {
        match (self.steps.last_mut().map(|step| &mut step.action), action) {
            (Some(Action::Send(before)), Action::Send(bytes)) => before.extend_from_slice(bytes),
            (Some(Action::Stored(before)), Action::Stored(lines)) => before.extend_from_slice(lines),
            _ => return false,
        }
        true
    }
}

impl Step {
    fn play(&self, peer: &mut impl Peer) -> Result<(), String> {
        match &self.action {
            Action::Send(bytes) => match peer.unexpected() {
                Some(line) => Err(format!("the server said {line:?} before")),
                None => peer.send(bytes),
            },
            Action::Expect(pattern) => match peer.receive()? {
                Some(line) if matches(pattern, &line) => Ok(()),
                Some(line) => Err(format!("expected {pattern:?}, the server said {line:?}")),
                None => Err(format!("expected {pattern:?}, the server closed")),
            },
            Action::StartTls => peer.start_tls(),
            Action::Closed => match peer.receive()? {
                Some(line) => Err(format!("expected the server to close, it said {line:?}")),
                None => Ok(()),
            },
            Action::Stored(patterns) => compare(patterns, &peer.stored()?),
        }
    }
}

/// Does the line fit the pattern, in which `…` stands for any text?
pub fn matches(pattern: &str, line: &str) -> bool {
    let mut pieces = pattern.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn compare(patterns: &[String], lines: &[String]) -> Result<(), String> {
    for (pattern, line) in patterns.iter().zip(lines) {
        if !matches(pattern, line) {
            return Err(format!("expected {pattern:?} in the stored message, found {line:?}"));
        }
    }
    if patterns.len() == lines.len() {
        return Ok(());
    }
    Err(format!("expected {} lines in the stored message, found {lines:#?}", patterns.len()))
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
            _ => return Err(format!("unknown escape: {text:?}")),
        };
        bytes.push(byte);
        rest = chars.as_str();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(line: usize, action: Action) -> Step {
        Step { line, action }
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
    fn mistakes_are_told_with_their_line() {
        for (text, line) in
            [("S: 220\nX: y", 2), ("@foo", 1), ("S: 220\n@open relay", 2), ("C= \\q", 1), ("C= \\x1", 1)]
        {
            assert_eq!(Dialog::parse(text).map_err(|error| error.line), Err(line), "{text}");
        }
    }

    #[test]
    fn an_ellipsis_stands_for_any_text() {
        for (pattern, line, expected) in [
            ("250 ok", "250 ok", true),
            ("250 ok", "250 ok.", false),
            ("250 …", "250 ", true),
            ("220 … ESMTP …", "220 mx ESMTP Staffetta", true),
            ("220 … ESMTP …", "220 mx SMTP", false),
            ("…a…a", "a", false),
            ("…a…a", "xaxa", true),
            ("a…", "ba", false),
        ] {
            assert_eq!(matches(pattern, line), expected, "{pattern} {line}");
        }
    }
}
