//! Plays `tests/dialogs/*.smtp` on the core of the session, with a relay of a few lines around it. The same files are
//! played over TCP and TLS on the real frontend by `tests/tests/dialogs.rs`.
//!
//! `@open LISTENER CLIENT`: `relay` (25), `submission` (587) or `submissions` (465, encrypted from the start); the
//! client is a `stranger` or `trusted` (in `mynetworks`, and may use ETRN). John's password is summersun, he owns
//! john@example.org; example.org is a domain of ours, in which john and lisa exist.
#![expect(clippy::expect_used, reason = "tests")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use staffetta_mail::{Address, Envelope, QueueId};
use staffetta_smtp::Reply;
use staffetta_smtp::server::{Action, Answer, Kind, Link, Question, SaslStep, Session, Settings};
use staffetta_testkit::dialog::{Dialog, Peer};

#[test]
fn every_dialog_goes_as_written() {
    play(usize::MAX, |_| true);
}

/// But those whose point is that something came too early.
#[test]
fn every_dialog_goes_the_same_way_octet_by_octet() {
    for step in [1, 2, 3, 7] {
        play(step, |name| !name.starts_with("out-of-turn") && !name.ends_with("injection"));
    }
}

fn play(step: usize, wanted: fn(&str) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogs");
    for (path, dialog) in Dialog::in_folder(&folder).expect("tests/dialogs") {
        if path.file_stem().is_some_and(|name| wanted(&name.to_string_lossy())) {
            let outcome = dialog.play(&mut Core::open(&dialog.opening, step));
            assert_eq!(outcome.map_err(|error| error.to_string()), Ok(()), "{} by {step}", path.display());
        }
    }
}

/// The core, the smallest shell around it, and a small relay policy.
struct Core {
    session: Session,
    /// Octets that arrive at a time.
    step: usize,
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
    fn open(words: &[String], step: usize) -> Self {
        let listener = words.first().map_or("relay", String::as_str);
        let settings = Settings {
            hostname: "mail.example.org".into(),
            kind: if listener == "relay" { Kind::Relay } else { Kind::Submission },
            size_limit: 10_240_000,
            mechanisms: vec!["PLAIN".into(), "LOGIN".into()],
            ..Settings::default()
        };
        let link = Link { encrypted: listener == "submissions", ..Link::default() };
        let mut core = Self {
            session: Session::new(Arc::new(settings), link, Instant::now()),
            step,
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

    fn may_relay(&self, recipient: &Address) -> Answer {
        let sender = self.session.transaction().map_or("", |transaction| transaction.envelope.sender.as_str());
        match self.session.login() {
            Some(login) if !sender.is_empty() && login != sender => {
                return Answer::Refuse(Reply::sender_not_owned(sender, login), ());
            }
            None if !self.trusted && recipient.domain_str().is_some_and(|domain| domain != "example.org") => {
                return Answer::Refuse(Reply::relay_denied(recipient.as_str()), ());
            }
            _ => {}
        }
        let ours = recipient.domain_str().is_none_or(|domain| domain == "example.org");
        if ours
            && !recipient.is_postmaster()
            && !["john", "lisa"].contains(&recipient.local().to_ascii_lowercase().as_str())
        {
            return Answer::Refuse(Reply::user_unknown(recipient.as_str()), ());
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
        for bytes in bytes.chunks(self.step.min(bytes.len().max(1))) {
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

    fn stored(&mut self) -> Result<Vec<String>, String> {
        self.stored.pop_front().ok_or_else(|| "nothing is stored".into())
    }
}
