//! Our client against our server, in memory: what one submits the other stores, however the octets are cut.

use std::time::Instant;

use proptest::prelude::*;
use staffetta_mail::{Envelope, QueueId, Return};

use super::*;
use crate::Reply;
use crate::server::{self, Answer, Kind, Link, Question, SaslStep};

/// Two sessions and the wire between them.
struct Pair {
    client: Client,
    server: server::Session,
    /// Most octets that cross at a time.
    cut: usize,
    to_server: BytesMut,
    to_client: BytesMut,
    client_input: BytesMut,
    server_input: BytesMut,
    now: Instant,
    /// Contents by transaction.
    bodies: Vec<Vec<u8>>,
    /// What the server receives.
    incoming: Vec<u8>,
    stored: Vec<(Envelope, Vec<u8>)>,
    reports: Vec<Report>,
    /// Times the client wrote.
    writes: usize,
}

impl Pair {
    fn new(client: ServerProfile, server: server::Settings, cut: usize) -> Self {
        let now = Instant::now();
        Self {
            client: Client::new(Arc::new(client)),
            server: server::Session::new(Arc::new(server), Link::default(), now),
            cut,
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
            client_input: BytesMut::new(),
            server_input: BytesMut::new(),
            now,
            bodies: Vec::new(),
            incoming: Vec::new(),
            stored: Vec::new(),
            reports: Vec::new(),
            writes: 0,
        }
    }

    fn submit(&mut self, transaction: Transfer, content: &[u8]) {
        let id = TransactionId(self.bodies.len() as u64);
        self.bodies.push(content.to_vec());
        self.client.submit(id, Transfer { size: content.len() as u64, ..transaction });
    }

    /// Until the client has said QUIT and the server has answered, or either gives up.
    fn run(&mut self) -> Option<Failure> {
        self.client.quit();
        loop {
            self.serve();
            carry(&mut self.to_client, &mut self.client_input, self.cut);
            if let Some(end) = self.send() {
                return end;
            }
            carry(&mut self.to_server, &mut self.server_input, self.cut);
        }
    }

    /// The client, until it has to read. `Some`: its end.
    fn send(&mut self) -> Option<Option<Failure>> {
        let before = self.to_server.len();
        loop {
            match self.client.next(&mut self.client_input, &mut self.to_server) {
                Event::Read(_) => break,
                Event::StartTls => {
                    assert!(self.to_client.is_empty(), "both sides are silent");
                    self.client.on_tls_started();
                    while !self.to_server.is_empty() {
                        carry(&mut self.to_server, &mut self.server_input, self.cut);
                        self.serve();
                    }
                }
                Event::SendBody(TransactionId(id)) => {
                    let mut framer = self.client.framer();
                    for (number, line) in self.bodies[id as usize].split_inclusive(|&b| b == b'\n').enumerate() {
                        framer.append(line, &mut self.to_server);
                        if number % 2 == 1 && framer.release(&mut self.to_server) {
                            self.client.on_chunk_sent();
                        }
                    }
                    framer.finish(&mut self.to_server);
                    self.client.on_body_sent();
                }
                Event::Done(TransactionId(id), report) => {
                    assert_eq!(id as usize, self.reports.len(), "in order");
                    self.reports.push(report);
                }
                Event::Closed(failure) => return Some(failure),
                Event::Ready | Event::Idle => {}
            }
        }
        self.writes += usize::from(self.to_server.len() > before);
        None
    }

    /// The server, until it has to read.
    fn serve(&mut self) {
        loop {
            match self.server.next(&mut self.server_input, &mut self.to_client, self.now) {
                server::Action::Read | server::Action::Close => return,
                server::Action::Ask(question) => {
                    let answer = self.answer(question);
                    self.server.answer(answer, &mut self.to_client);
                }
                server::Action::Body(content) => self.incoming.extend_from_slice(&content),
                server::Action::Abandon => self.incoming.clear(),
                server::Action::Refused(_) => {}
                server::Action::StartTls => self.server.tls_started(),
            }
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Recipient(recipient) if recipient.address.local().starts_with("no") => {
                Answer::Refuse(Reply::user_unknown(recipient.address.as_str()), ())
            }
            Question::Sasl(SaslStep::Start { initial: Some(initial), .. })
                if initial.expose() == b"\0john\0summersun" =>
            {
                Answer::Success { login: "john".to_owned() }
            }
            Question::Sasl(_) => Answer::Refuse(Reply::authentication_failed(), ()),
            Question::Store(envelope) => {
                let content = std::mem::take(&mut self.incoming);
                self.stored.push((envelope, content));
                Answer::Stored(QueueId::new(0, 0, self.stored.len() as u32))
            }
            _ => Answer::Proceed,
        }
    }
}

/// Moves up to `most` octets.
fn carry(from: &mut BytesMut, to: &mut BytesMut, most: usize) {
    to.extend_from_slice(&from.split_to(from.len().min(most)));
}

fn mx() -> server::Settings {
    server::Settings { hostname: "mx.example.net".to_owned(), ..server::Settings::default() }
}

#[test]
fn dsn_parameters_and_body_type_arrive_as_they_were_submitted() {
    let mut pair = Pair::new(settings(), mx(), usize::MAX);
    let mut transaction = message(&["a@b.c", "d@b.c"]);
    transaction.body = BodyType::EightBitMime;
    transaction.ret = Some(Return::Headers);
    transaction.envid = Some("id+20one".to_owned());
    transaction.recipients[0].notify = Some(Notify { failure: true, delay: true, success: false });
    transaction.recipients[0].orcpt = Some("rfc822;x+2By@b.c".to_owned());
    let expected = transaction.clone();
    pair.submit(transaction, b"caf\xc3\xa9\r\n");
    assert_eq!(pair.run(), None);
    let (envelope, content) = &pair.stored[0];
    assert_eq!(content, b"caf\xc3\xa9\r\n");
    assert_eq!((&envelope.sender, &envelope.recipients), (&expected.sender, &expected.recipients));
    assert_eq!((envelope.body, envelope.ret, &envelope.envid), (expected.body, expected.ret, &expected.envid));
    assert!(pair.reports[0].dsn_passed_on);
}

#[test]
fn submission_over_tls_with_a_login() {
    let offers = server::Settings { kind: Kind::Submission, mechanisms: vec!["PLAIN".to_owned()], ..mx() };
    for (password, end) in [("summersun", None), ("wrong", Some(Stage::Auth))] {
        let credentials = Credentials { username: "john".to_owned(), secret: Secret::Password(password.to_owned()) };
        let login = ServerProfile { credentials: Some(Arc::new(credentials)), ..settings() };
        let mut pair = Pair::new(login, offers.clone(), usize::MAX);
        pair.submit(message(&["a@b.c"]), b"x\r\n");
        assert_eq!(pair.run().map(|failure| failure.stage()), end);
        assert_eq!(pair.stored.len(), usize::from(end.is_none()));
        assert!(pair.client.is_encrypted() && pair.server.is_encrypted());
    }
}

#[test]
fn a_hundred_messages_take_a_hundred_round_trips_and_three() {
    let mut pair = Pair::new(settings(), mx(), usize::MAX);
    for _ in 0..100 {
        pair.submit(message(&["a@b.c", "d@b.c"]), b"Subject: x\r\n\r\n.text\r\n");
    }
    assert_eq!(pair.run(), None);
    assert_eq!(pair.stored.len(), 100);
    // EHLO, the first group, the contents, QUIT.
    assert_eq!(pair.writes, 103);
}

#[test]
fn a_message_above_the_limit_is_not_offered() {
    let mut pair = Pair::new(settings(), server::Settings { size_limit: 10, ..mx() }, usize::MAX);
    pair.submit(message(&["a@b.c"]), b"12345678901\r\n");
    pair.submit(message(&["a@b.c"]), b"12345678\r\n");
    assert_eq!(pair.run(), None);
    assert_eq!(pair.reports[0].outcomes, [Outcome::Failed(Failure::TooLarge { size: 13, limit: 10 })]);
    assert_eq!(pair.stored.len(), 1);
}

#[test]
fn a_server_that_goes_down_ends_the_session_between_messages() {
    let mut pair = Pair::new(settings(), mx(), usize::MAX);
    pair.submit(message(&["a@b.c"]), b"x\r\n");
    pair.serve();
    pair.server.on_shutdown(&mut pair.to_client);
    let Some(failure) = pair.run() else { panic!("no failure") };
    assert!(failure.is_shutdown());
    assert!(pair.reports.is_empty() && pair.stored.is_empty());
}

/// A message: which recipients are refused, and its content, by lines.
fn messages() -> impl Strategy<Value = Vec<(Vec<bool>, Vec<u8>)>> {
    let recipients = prop::collection::vec(any::<bool>(), 1..4);
    let content = prop::collection::vec("[.]{0,3}[a-z\u{e9}]{0,9}[.]?", 0..6);
    let whole = content.prop_map(|lines| lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect());
    prop::collection::vec((recipients, whole), 0..5)
}

proptest! {
    #[test]
    fn what_is_delivered_is_stored_and_nothing_else(messages in messages(), cut in 1usize..200, tls: bool) {
        let tls = if tls { Tls::Required } else { Tls::Off };
        let mut pair = Pair::new(ServerProfile { tls, ..settings() }, mx(), cut);
        let mut expected = Vec::new();
        for (refused, content) in &messages {
            let name = |(i, &no): (usize, &bool)| format!("{}{i}@b.c", if no { "no" } else { "ok" });
            let names: Vec<_> = refused.iter().enumerate().map(name).collect();
            pair.submit(message(&names.iter().map(String::as_str).collect::<Vec<_>>()), content);
            let accepted: Vec<_> = names.into_iter().filter(|name| name.starts_with("ok")).collect();
            if !accepted.is_empty() {
                expected.push((accepted, content.clone()));
            }
        }
        prop_assert_eq!(pair.run(), None);
        let names = |envelope: &Envelope| envelope.recipients.iter().map(|r| r.address.to_string()).collect::<Vec<_>>();
        let stored: Vec<_> = pair.stored.iter().map(|(envelope, content)| (names(envelope), content.clone())).collect();
        prop_assert_eq!(stored, expected);
        for ((refused, _), report) in messages.iter().zip(&pair.reports) {
            let failed: Vec<_> = report.outcomes.iter().map(|outcome| matches!(outcome, Outcome::Failed(_))).collect();
            prop_assert_eq!(refused, &failed);
        }
        prop_assert_eq!(pair.reports.len(), messages.len());
    }
}
