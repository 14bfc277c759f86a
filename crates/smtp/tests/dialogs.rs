//! Plays `tests/dialogs/**/*.smtp` on the core of the session, with a relay of a few lines around it. The same files are
//! played over TCP and TLS on the real frontend by `tests/tests/dialogs.rs`.
//!
//! `@open LISTENER CLIENT`: `relay` (25), `submission` (587) or `submissions` (465, encrypted from the start); the
//! client is a `stranger` or `trusted` (in `mynetworks`, and may use ETRN). John's password is summersun, he owns
//! john@example.org; example.org is a domain of ours, in which john and lisa exist.
#![expect(clippy::expect_used, reason = "tests")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use staffetta_mail::{Address, Envelope, QueueId};
use staffetta_smtp::Reply;
use staffetta_smtp::server::{self, Action, Answer, Kind, Question, SaslStep, Session, Settings};
use staffetta_testkit::dialog::{Dialog, Peer};

#[test]
fn every_dialog_goes_as_written() {
    let each = |(path, dialog): &(PathBuf, Dialog)| outcome(path, dialog, Link::Clear, Pieces::Of(usize::MAX)).err();
    let failures: Vec<String> = dialogs().iter().filter_map(each).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// But those whose point is that something came too early.
#[test]
fn every_dialog_goes_the_same_way_octet_by_octet() {
    for (path, dialog) in dialogs().into_iter().filter(|(_, dialog)| !dialog.whole) {
        for octets in [1, 2, 3, 7] {
            play(&path, &dialog, Link::Clear, Pieces::Of(octets));
        }
    }
}

#[test]
fn every_dialog_goes_the_same_way_wherever_a_write_is_cut() {
    for (path, dialog) in dialogs().into_iter().filter(|(_, dialog)| !dialog.whole) {
        for (write, length) in dialog.writes().into_iter().enumerate() {
            for at in cuts(length) {
                play(&path, &dialog, Link::Clear, Pieces::Cut { write, at });
            }
        }
    }
}

#[test]
fn what_does_not_need_a_connection_in_clear_goes_the_same_way_under_tls() {
    for (path, dialog) in dialogs().into_iter().filter(|(_, dialog)| dialog.is_for_tls()) {
        play(&path, &dialog, Link::Encrypted, Pieces::Of(usize::MAX));
    }
}

fn dialogs() -> Vec<(PathBuf, Dialog)> {
    let all = Dialog::in_folder(Path::new("../../tests/dialogs")).expect("tests/dialogs");
    all.into_iter().filter(|(_, dialog)| !dialog.wire).collect()
}

fn play(path: &Path, dialog: &Dialog, link: Link, pieces: Pieces) {
    assert_eq!(outcome(path, dialog, link, pieces), Ok(()));
}

fn outcome(path: &Path, dialog: &Dialog, link: Link, pieces: Pieces) -> Result<(), String> {
    let outcome = dialog.play(&mut Core::open(&dialog.opening, link, pieces));
    outcome.map_err(|error| format!("{} {link:?} {pieces:?}: {error}", path.display()))
}

/// Every place where a write can be cut; in the middle of a very long one, many.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (1..length).filter(move |at| *at < 400 || length - at < 400 || at % 97 == 0)
}

/// How a connection begins, unless its listener says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Clear,
    Encrypted,
}

/// How a write arrives.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    /// So many octets at a time.
    Of(usize),
    /// One write in two pieces, the others whole.
    Cut { write: usize, at: usize },
}

impl Pieces {
    fn of(self, write: usize, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Of(octets) => bytes.chunks(octets.min(bytes.len().max(1))).collect(),
            Self::Cut { write: this, at } if this == write => vec![&bytes[..at], &bytes[at..]],
            Self::Cut { .. } => vec![bytes],
        }
    }
}

/// The core, the smallest shell around it, and a small relay policy.
struct Core {
    session: Session,
    pieces: Pieces,
    /// Writes so far.
    writes: usize,
    trusted: bool,
    input: BytesMut,
    output: BytesMut,
    lines: VecDeque<String>,
    closed: bool,
    handshake: bool,
    body: Vec<u8>,
    stored: VecDeque<Vec<String>>,
}

impl Core {
    fn open(words: &[String], link: Link, pieces: Pieces) -> Self {
        let listener = words.first().map_or("relay", String::as_str);
        let settings = Settings {
            hostname: "mail.example.org".into(),
            kind: if listener == "relay" { Kind::Relay } else { Kind::Submission },
            size_limit: 51_200,
            recipient_limit: 100,
            mechanisms: vec!["PLAIN".into(), "LOGIN".into()],
            ..Settings::default()
        };
        let encrypted = listener == "submissions" || link == Link::Encrypted;
        let link = server::Link { encrypted, ..server::Link::default() };
        let mut core = Self {
            session: Session::new(Arc::new(settings), link, Instant::now()),
            pieces,
            writes: 0,
            trusted: words.get(1).is_some_and(|client| client == "trusted"),
            input: BytesMut::new(),
            output: BytesMut::new(),
            lines: VecDeque::new(),
            closed: false,
            handshake: false,
            body: Vec::new(),
            stored: VecDeque::new(),
        };
        core.run();
        core
    }

    fn run(&mut self) {
        while !self.closed && !self.handshake {
            match self.session.next(&mut self.input, &mut self.output, Instant::now()) {
                Action::Read => break,
                Action::Ask(question) => {
                    let answer = self.answer(question);
                    self.session.answer(answer, &mut self.output);
                }
                Action::Body(bytes) => self.body.extend_from_slice(&bytes),
                Action::Abandon => self.body.clear(),
                Action::Refused(_) => {}
                Action::StartTls => self.handshake = true,
                Action::Close => self.closed = true,
            }
        }
        let written = self.output.split();
        let text = std::str::from_utf8(&written).expect("replies are ASCII");
        assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
        self.lines.extend(text.split_terminator("\r\n").map(str::to_owned));
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Sasl(step) => sasl(&step),
            Question::Mail(_) => Answer::Proceed,
            Question::Recipient(recipient) => self.may_relay(&recipient.address),
            Question::Verify(address) => self.may_relay(&address),
            Question::Etrn(_) if self.trusted => Answer::Proceed,
            Question::Etrn(domain) => Answer::Refuse(Reply::etrn_unavailable(&domain), ()),
            Question::Client(_) => Answer::Proceed,
            Question::Data => {
                self.body.clear();
                Answer::Proceed
            }
            Question::Store(envelope) => self.store(&envelope),
        }
    }

    /// In the order of `policy::relay`.
    fn may_relay(&self, recipient: &Address) -> Answer {
        let refuse = |reply| Answer::Refuse(reply, ());
        let sender = self.session.transaction().map_or("", |transaction| transaction.envelope.sender.as_str());
        let ours = recipient.domain_key().is_none_or(|domain| domain == "example.org" || domain == "mail.example.org");
        match self.session.login() {
            Some(login) if !sender.is_empty() && !login.eq_ignore_ascii_case(sender) => {
                return refuse(Reply::sender_not_owned(sender, login));
            }
            None if !self.trusted && !ours => return refuse(Reply::relay_denied(recipient.as_str())),
            _ => {}
        }
        if recipient.is_postmaster() {
            return Answer::Proceed;
        }
        if !recipient.is_fully_qualified() {
            return refuse(Reply::recipient_not_qualified(recipient.as_str()));
        }
        if ours && !["john", "lisa"].contains(&recipient.local().to_ascii_lowercase().as_str()) {
            return refuse(Reply::user_unknown(recipient.as_str()));
        }
        Answer::Proceed
    }

    fn store(&mut self, envelope: &Envelope) -> Answer {
        let to: Vec<_> = envelope.recipients.iter().map(|recipient| format!("<{}>", recipient.address)).collect();
        let mut lines = vec![format!("from=<{}> to={}", envelope.sender, to.join(","))];
        let text = String::from_utf8_lossy(&self.body);
        lines.extend(text.split_terminator("\r\n").map(str::to_owned));
        self.stored.push_back(lines);
        Answer::Stored(QueueId::new(0, 0, self.stored.len() as u32))
    }
}

fn sasl(step: &SaslStep) -> Answer {
    let octets = match step {
        SaslStep::Start { mechanism, initial: None } if mechanism == "LOGIN" => {
            return Answer::Challenge(b"Username:".to_vec());
        }
        SaslStep::Start { initial: None, .. } => return Answer::Challenge(Vec::new()),
        SaslStep::Start { initial: Some(secret), .. } | SaslStep::Response(secret) => secret.expose(),
        SaslStep::Cancel => return Answer::Proceed,
    };
    match octets {
        b"" => Answer::Refuse(Reply::malformed_credentials(), ()),
        b"john@example.org" => Answer::Challenge(b"Password:".to_vec()),
        b"summersun" | b"john@example.org\0john@example.org\0summersun" | b"\0john@example.org\0summersun" => {
            Answer::Success { login: "john@example.org".into() }
        }
        _ => Answer::Refuse(Reply::authentication_failed(), ()),
    }
}

impl Peer for Core {
    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.closed || self.handshake {
            return Err("the server does not listen".into());
        }
        let pieces = self.pieces.of(self.writes, bytes);
        self.writes += 1;
        for bytes in pieces {
            if !self.closed {
                self.input.extend_from_slice(bytes);
                self.run();
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<String>, String> {
        match self.lines.pop_front() {
            None if !self.closed => Err("the server says nothing".into()),
            line => Ok(line),
        }
    }

    fn unexpected(&mut self) -> Option<String> {
        self.lines.front().cloned()
    }

    fn start_tls(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.handshake) {
            return Err("the server does not start TLS".into());
        }
        self.session.tls_started();
        self.run();
        Ok(())
    }

    fn stored(&mut self) -> Result<Option<Vec<String>>, String> {
        self.stored.pop_front().map(Some).ok_or_else(|| "nothing is stored".into())
    }
}
