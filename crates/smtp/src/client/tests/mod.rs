//! Dialogues against scripted servers.

use bytes::BytesMut;
use staffetta_mail::{Address, BodyType, Notify, Recipient, ReversePath};

use super::*;

mod chunks;
mod pair;
mod random;
mod set_up;
mod transactions;

struct Dialogue {
    session: Client,
    input: BytesMut,
    output: BytesMut,
}

fn settings() -> ServerProfile {
    ServerProfile {
        helo_name: "relay.example.org".to_owned(),
        protocol: Protocol::Smtp,
        tls: Tls::Off,
        credentials: None,
        verified: false,
        nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
        ignored: Vec::new(),
        own_name: Some("relay.example.org".to_owned()),
    }
}

impl Dialogue {
    fn new(settings: ServerProfile) -> Self {
        let session = Client::new(Arc::new(settings));
        Self { session, input: BytesMut::new(), output: BytesMut::new() }
    }

    /// A session that is ready, at a server with these extensions.
    fn ready(settings: ServerProfile, extensions: &[&str]) -> Self {
        let mut dialogue = Self::new(settings);
        assert_eq!(dialogue.on("220 mx ESMTP\r\n"), Event::Read(Stage::Helo));
        assert_eq!(dialogue.on(&ehlo(extensions)), Event::Ready);
        dialogue.sent();
        dialogue
    }

    /// A pipelining server, and messages 1, 2, … for these recipients.
    fn pipelined(messages: &[&[&str]]) -> Self {
        Self::with(settings(), &["PIPELINING"], messages)
    }

    fn with(settings: ServerProfile, extensions: &[&str], messages: &[&[&str]]) -> Self {
        let mut dialogue = Self::ready(settings, extensions);
        for (number, recipients) in (1..).zip(messages) {
            dialogue.session.submit(TransactionId(number), message(recipients));
        }
        dialogue
    }

    fn next(&mut self) -> Event {
        self.session.next(&mut self.input, &mut self.output)
    }

    /// The server says this.
    fn on(&mut self, text: &str) -> Event {
        self.input.extend_from_slice(text.as_bytes());
        self.next()
    }

    /// What the client has written since the last look.
    fn sent(&mut self) -> String {
        String::from_utf8_lossy(&self.output.split()).into_owned()
    }

    /// Writes a body.
    fn body(&mut self, content: &str) -> Event {
        let mut framer = self.session.framer();
        framer.append(content.as_bytes(), &mut self.output);
        framer.finish(&mut self.output);
        self.session.on_body_sent();
        self.next()
    }

    fn done(event: Event) -> (u64, Vec<String>) {
        let Event::Done(TransactionId(id), report) = event else { panic!("no report: {event:?}") };
        (id, report.outcomes.iter().map(shown).collect())
    }
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered(reply) => format!("delivered {reply}"),
        Outcome::Failed(Failure::Reply { stage, reply }) => format!("{stage:?} {reply}"),
        Outcome::Failed(failure) => failure.to_string(),
    }
}

fn ehlo(extensions: &[&str]) -> String {
    let mut lines = vec!["mx.example.net"];
    lines.extend(extensions);
    let last = lines.len() - 1;
    let line = |(i, text): (usize, &&str)| format!("250{}{text}\r\n", if i == last { ' ' } else { '-' });
    lines.iter().enumerate().map(line).collect()
}

#[expect(clippy::unwrap_used, reason = "tests")]
fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn message(recipients: &[&str]) -> Transfer {
    Transfer {
        sender: ReversePath::Address(address("s@example.org")),
        recipients: recipients.iter().map(|text| Recipient::new(address(text))).collect(),
        size: 3,
        body: BodyType::SevenBit,
        ret: None,
        envid: None,
        smtputf8: false,
        require_tls: false,
    }
}

fn closed(stage: Stage, text: &str) -> Event {
    let mut input = BytesMut::from(format!("{text}\r\n").as_bytes());
    let reply = reply::Reader::default().next(&mut input).ok().flatten();
    Event::Closed(reply.map(|reply| Failure::Reply { stage, reply }))
}
