//! Transcripts of SMTP dialogues: `tests/dialogs/**/*.smtp`.
//!
//! ```text
//! # what the story is about
//! @open submission stranger      where, and who connects; the words mean what the peer makes of them
//! S: 220 mail.example.org ESMTP …
//! C: EHLO client.example
//! S* 250
//! ```
//!
//! | line | meaning |
//! |---|---|
//! | `C: text` | the client sends the text and CRLF; lines that follow each other go out in one write |
//! | `C= text` | the same without CRLF, with `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` replaced, and `\{N:text}` by N times the text |
//! | `S: text` | the server sends this line; `…` stands for any text |
//! | `S* code` | the server sends a reply of any lines with this code |
//! | `P: text` | Postfix sends this line in place of the `S` lines right above; without text: none |
//! | `M: text` | the next stored message has this line; the first is `from=<…> to=<…>,<…>`; lines that follow each other are the whole message |
//! | `@open words` | connects; only at the beginning |
//! | `@postfix differs reason` | there are `P` lines, and this is why |
//! | `@postfix not reason` | Postfix cannot play this |
//! | `@clear` | holds only on a connection that was not encrypted from the start |
//! | `@wire` | only the whole service does this, not the core of a session alone |
//! | `@whole` | each write must arrive in one piece: something comes too early |
//! | `@times N` … `@end` | the lines between, N times; `{n}` in them is 1 to N |
//! | `@tls` | the client does the TLS handshake |
//! | `@closed` | the server closes |
//! | `# text` | a comment, also an empty line; either ends a run of `C` or `M` lines |
//!
//! [`Dialog::parse`] reads a transcript, [`Dialog::play`] plays it on any [`Peer`]; [`Dialog::in_folder`] reads all of a folder
//! and of those in it.

mod parse;

use std::fmt;

/// A transcript.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialog {
    /// The words after `@open`: listener, client, whatever the peer understands.
    pub opening: Vec<String>,
    /// What Postfix makes of it.
    pub postfix: Postfix,
    /// Does it hold only on a connection that was not encrypted from the start?
    pub clear: bool,
    /// Does only the whole service do this, not the core of a session alone?
    pub wire: bool,
    /// Must each write arrive in one piece?
    pub whole: bool,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// What Postfix makes of a transcript.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Postfix {
    /// The same.
    #[default]
    Same,
    /// Something else in some lines, for this reason.
    Differs(String),
    /// It cannot play it, for this reason.
    Not(String),
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The line of the file, from 1.
    pub line: usize,
    /// With whom.
    pub with: With,
    /// What.
    pub action: Action,
}

/// With whom something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Us and Postfix.
    Both,
    /// Us, for Postfix does something else.
    Us,
    /// Postfix.
    Postfix,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The client writes this, in one write.
    Send(Vec<u8>),
    /// The server sends a line that [`matches`] this pattern.
    Expect(String),
    /// The server sends a reply with this code, of any number of lines.
    Reply(String),
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
    /// The next stored message: `from=<…> to=<…>,<…>`, then its lines; `None` from a peer that cannot tell.
    fn stored(&mut self) -> Result<Option<Vec<String>>, String>;
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
    /// Plays the transcript to its end.
    pub fn play(&self, peer: &mut impl Peer) -> Result<(), DialogError> {
        self.play_with(With::Us, peer)
    }

    /// The same on Postfix, with what it says.
    pub fn play_as_postfix(&self, peer: &mut impl Peer) -> Result<(), DialogError> {
        self.play_with(With::Postfix, peer)
    }

    fn play_with(&self, whom: With, peer: &mut impl Peer) -> Result<(), DialogError> {
        for step in self.steps.iter().filter(|step| step.with == With::Both || step.with == whom) {
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

    /// Does it open a `relay` in clear, for no reason but that it must begin somehow? It goes the same way under TLS.
    pub fn is_for_tls(&self) -> bool {
        let relay = self.opening.first().is_some_and(|word| word == "relay");
        relay && !self.clear && self.steps.iter().all(|step| step.action != Action::StartTls)
    }

    /// How long the writes are.
    pub fn writes(&self) -> Vec<usize> {
        let length = |step: &Step| match &step.action {
            Action::Send(bytes) => Some(bytes.len()),
            _ => None,
        };
        self.steps.iter().filter_map(length).collect()
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
            Action::Reply(code) => reply(code, peer),
            Action::StartTls => peer.start_tls(),
            Action::Closed => match peer.receive()? {
                Some(line) => Err(format!("expected the server to close, it said {line:?}")),
                None => Ok(()),
            },
            Action::Stored(patterns) => peer.stored()?.map_or(Ok(()), |lines| compare(patterns, &lines)),
        }
    }
}

/// A reply of any lines (RFC 5321 section 4.2.1).
fn reply(code: &str, peer: &mut impl Peer) -> Result<(), String> {
    loop {
        let line = peer.receive()?.ok_or_else(|| format!("expected a {code}, the server closed"))?;
        match line.strip_prefix(code).and_then(|rest| rest.chars().next()) {
            Some('-') => {}
            Some(' ') => return Ok(()),
            _ => return Err(format!("expected a {code}, the server said {line:?}")),
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

#[cfg(test)]
mod tests {
    use super::*;

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

    /// A server that has said all it will ever say.
    struct Said(Vec<&'static str>);

    impl Peer for Said {
        fn send(&mut self, _: &[u8]) -> Result<(), String> {
            Ok(())
        }
        fn receive(&mut self) -> Result<Option<String>, String> {
            Ok((!self.0.is_empty()).then(|| self.0.remove(0).to_owned()))
        }
        fn unexpected(&mut self) -> Option<String> {
            self.0.first().map(|line| (*line).to_owned())
        }
        fn start_tls(&mut self) -> Result<(), String> {
            Ok(())
        }
        fn stored(&mut self) -> Result<Option<Vec<String>>, String> {
            Ok(None)
        }
    }

    #[test]
    fn a_reply_of_any_lines_ends_with_its_last() -> Result<(), DialogError> {
        let dialog = Dialog::parse("S* 250\nS: 221 bye\n@closed\n")?;
        assert_eq!(dialog.play(&mut Said(vec!["250-a", "250-b", "250 c", "221 bye"])), Ok(()));
        for said in [vec!["250-a", "221 bye"], vec!["250-a"], vec!["550 a"], vec!["250 a", "221 bye", "more"]] {
            assert!(dialog.play(&mut Said(said.clone())).is_err(), "{said:?}");
        }
        Ok(())
    }

    #[test]
    fn postfix_may_say_something_else() -> Result<(), DialogError> {
        let dialog = Dialog::parse("@postfix differs it is older\nS: 1\nS: 2\nS: 3\nP: 4\nS: 5\nP:\nS: 6\n")?;
        assert_eq!(dialog.play(&mut Said(vec!["1", "2", "3", "5", "6"])), Ok(()));
        assert_eq!(dialog.play_as_postfix(&mut Said(vec!["4", "6"])), Ok(()));
        Ok(())
    }
}
