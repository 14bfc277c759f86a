//! The session: from the greeting to the moment when transactions may begin, and the end.
//!
//! ```text
//! Wrap ─▶ Greeting ─▶ Hello ─▶ StartTls ─▶ Handshake ─┐   ┌─▶ Auth ─┐
//!                       ▲ └───────────────────────────┼───┴─────────┴─▶ Ready ─▶ Quit ─▶ Closed
//!                       └─────── EHLO again ──────────┘
//! ```
//!
//! It begins with `Wrap` where TLS comes before the first word, else with `Greeting`.

use std::sync::Arc;

use bytes::BytesMut;
use staffetta_mail::RemoteReply;

use super::pipeline::Pipeline;
use super::reply::Reader;
use super::sasl::{Exchange, Start, Step};
use super::{Capabilities, Event, Failure, Framer, Protocol, ServerProfile, Stage, Tls, TransactionId, Transfer};

#[derive(Debug)]
enum Phase {
    /// A handshake before the greeting.
    Wrap,
    Greeting,
    /// The verb goes out at the next call.
    SayHello(Hello),
    Hello(Hello),
    StartTls,
    Handshake,
    Auth(Exchange),
    /// [`Event::Ready`] goes out at the next call.
    SayReady,
    Ready,
    Quit,
    Closed(Option<Failure>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hello {
    Ehlo,
    Helo,
    Lhlo,
}

/// How the connection ended under us.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Lost,
    TimedOut,
}

/// One connection to one server.
#[derive(Debug)]
pub struct Client {
    settings: Arc<ServerProfile>,
    phase: Phase,
    replies: Reader,
    capabilities: Capabilities,
    encrypted: bool,
    /// The server refused STARTTLS and may be used without.
    plaintext: bool,
    pipeline: Pipeline,
    quit: bool,
    loss: Option<Loss>,
    /// See [`Client::answers`].
    answers: u64,
    /// What both ends of the TLS connection know it by.
    exporter: Option<Vec<u8>>,
    /// See [`Client::has_refused_scram`].
    refused_scram: bool,
}

impl Client {
    /// For a connection that has just been made; the server speaks first, after a handshake with [`Tls::Implicit`].
    pub fn new(settings: Arc<ServerProfile>) -> Self {
        let pipeline = Pipeline::new(settings.protocol);
        let phase = if settings.tls == Tls::Implicit { Phase::Wrap } else { Phase::Greeting };
        Self {
            settings,
            phase,
            replies: Reader::for_greeting(),
            capabilities: Capabilities::default(),
            encrypted: false,
            plaintext: false,
            pipeline,
            quit: false,
            loss: None,
            answers: 0,
            exporter: None,
            refused_scram: false,
        }
    }

    /// The server offers SCRAM, and would not have it for this account; the login went on in another way.
    pub fn has_refused_scram(&self) -> bool {
        self.refused_scram
    }

    /// Queues a message. It begins as soon as the session is ready and the ones before allow.
    pub fn submit(&mut self, id: TransactionId, transaction: Transfer) {
        self.pipeline.submit(id, transaction);
    }

    /// Asks whether the server would take a message for these recipients: MAIL and RCPT, never DATA. The report has the
    /// answer for each of them; [`super::Outcome::Delivered`] is a yes.
    pub fn ask(&mut self, id: TransactionId, transaction: Transfer) {
        self.pipeline.ask(id, transaction);
    }

    /// Takes back the messages of which nothing was sent: they are not this session's any more, and no report comes of
    /// them. With `begun` also the one whose commands travelled behind a final dot that is not answered: should the
    /// server come to it after all, the session ends at its `354`, for nothing but content can follow that.
    pub fn withdraw(&mut self, begun: bool) -> Vec<TransactionId> {
        self.pipeline.withdraw(begun)
    }

    /// Messages that were submitted and whose content is not sent yet. Pipelining works while this is not zero.
    pub fn backlog(&self) -> usize {
        self.pipeline.backlog()
    }

    /// Sends QUIT once the messages that were submitted are done.
    pub fn quit(&mut self) {
        self.quit = true;
    }

    /// What the server offered in the last answer to EHLO, without what is not wanted.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Is the connection encrypted?
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Complete replies so far. While it stands still the server owes the same reply, however many octets of it have
    /// come: the time of a stage (RFC 5321 section 4.5.3.2) is for the reply, not for each read.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// The handshake asked for by [`Event::StartTls`] succeeded.
    pub fn on_tls_started(&mut self) {
        self.phase = match self.phase {
            Phase::Wrap => Phase::Greeting,
            Phase::Handshake => Phase::SayHello(self.verb()),
            _ => return,
        };
        self.encrypted = true;
        // RFC 3207 section 4.2: what was learned before is discarded.
        self.capabilities = Capabilities::default();
    }

    /// What both ends of the TLS connection know it by (RFC 9266: `tls-exporter`), where that says what it should. To be told once
    /// the handshake has succeeded; a login is tied to it, if the server can do that.
    pub fn bind_to(&mut self, exporter: Vec<u8>) {
        self.exporter = Some(exporter);
    }

    /// The handshake failed; the connection is of no use any more.
    pub fn on_tls_failed(&mut self, reason: impl Into<String>) {
        self.phase = Phase::Closed(Some(Failure::TlsHandshake(reason.into())));
    }

    /// What the content of the message of the last [`Event::SendBody`] goes through.
    pub fn framer(&self) -> Framer {
        Framer::new(self.pipeline.is_chunking())
    }

    /// A chunk of the content is in the output ([`Framer::release`]).
    pub fn on_chunk_sent(&mut self) {
        self.pipeline.on_chunk_sent();
    }

    /// Chunks that the server has not answered. Whoever only writes may find a server that only answers, so wait before there
    /// are many, and call [`Client::heed_chunks`].
    pub fn chunks_owed(&self) -> usize {
        self.pipeline.chunks_owed()
    }

    /// Takes the answers to chunks that have come. False: the rest of the content need not be written, and [`Client::next`]
    /// says why.
    pub fn heed_chunks(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> bool {
        while self.pipeline.chunks_owed() > 0 && matches!(self.phase, Phase::Ready) {
            match self.replies.next(input) {
                Ok(Some(reply)) => {
                    self.answers += 1;
                    self.on_reply(reply, input, output);
                }
                Ok(None) => break,
                Err(what) => self.fail(Failure::Malformed { stage: self.stage(), what }, output),
            }
        }
        self.loss.is_none() && matches!(self.phase, Phase::Ready)
    }

    /// The content of the message of the last [`Event::SendBody`] is in the output, to its end ([`Framer::finish`]).
    pub fn on_body_sent(&mut self) {
        self.pipeline.on_body_sent();
    }

    /// The content of the message of the last [`Event::SendBody`] is not for this server, and none of it is in the output. Where
    /// content is waited for, nothing else can follow: the session ends with this failure, which is that of all whom the server
    /// would have taken.
    pub fn give_up(&mut self, failure: Failure) {
        if matches!(self.phase, Phase::Ready) {
            self.phase = Phase::Closed(Some(self.pipeline.end(failure)));
        }
    }

    /// The connection was closed or reset, or cannot be written. Replies that are still in the input count.
    pub fn on_lost(&mut self) {
        self.loss.get_or_insert(Loss::Lost);
    }

    /// The connection broke, or time ran out, with so many octets of the output unwritten; say so before
    /// [`Client::on_lost`] or [`Client::on_timeout`]. A final dot among them was never sent, so the server cannot have
    /// the message, and sending it again makes no duplicate.
    pub fn on_unwritten(&mut self, octets: usize) {
        self.pipeline.on_unwritten(octets);
    }

    /// The server did not answer, or did not take the content, in the time of the stage.
    pub fn on_timeout(&mut self) {
        self.loss.get_or_insert(Loss::TimedOut);
    }

    /// Moves on as far as `input` allows.
    pub fn next(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Event {
        loop {
            if let Some((id, report)) = self.pipeline.next_done() {
                return Event::Done(id, report);
            }
            if let Some(event) = self.step(input, output) {
                return event;
            }
        }
    }

    /// One transition; `None` if there may be another one.
    fn step(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Option<Event> {
        match &self.phase {
            Phase::Closed(failure) => return Some(Event::Closed(failure.clone())),
            Phase::Wrap | Phase::Handshake if self.loss.is_none() => return Some(Event::StartTls),
            Phase::SayHello(verb) => {
                self.say_hello(*verb, output);
                return None;
            }
            Phase::SayReady => {
                self.phase = Phase::Ready;
                return Some(Event::Ready);
            }
            Phase::Ready if self.loss.is_none() => {
                if let Some(id) = self.pipeline.wants_content() {
                    return Some(Event::SendBody(id));
                }
            }
            _ => {}
        }
        match self.replies.next(input) {
            Ok(Some(reply)) => {
                self.answers += 1;
                self.on_reply(reply, input, output);
            }
            Ok(None) => return self.wait(output),
            Err(what) => self.fail(Failure::Malformed { stage: self.stage(), what }, output),
        }
        None
    }

    /// No complete reply is there.
    fn wait(&mut self, output: &mut BytesMut) -> Option<Event> {
        if let Some(loss) = self.loss {
            self.on_loss(loss);
            return None;
        }
        if !matches!(self.phase, Phase::Ready) {
            return Some(Event::Read(self.stage()));
        }
        self.pipeline.fill(&self.capabilities, output);
        if let Some((id, report)) = self.pipeline.next_done() {
            return Some(Event::Done(id, report));
        }
        match self.pipeline.stage() {
            Some(stage) => Some(Event::Read(stage)),
            None if self.quit => {
                output.extend_from_slice(b"QUIT\r\n");
                self.phase = Phase::Quit;
                None
            }
            None => Some(Event::Idle),
        }
    }

    fn stage(&self) -> Stage {
        match self.phase {
            Phase::Greeting => Stage::Greeting,
            Phase::SayHello(_) | Phase::Hello(_) => Stage::Helo,
            Phase::Wrap | Phase::StartTls | Phase::Handshake => Stage::StartTls,
            Phase::Auth(_) => Stage::Auth,
            Phase::SayReady | Phase::Ready => self.pipeline.stage().unwrap_or(Stage::Idle),
            Phase::Quit | Phase::Closed(_) => Stage::Quit,
        }
    }

    fn verb(&self) -> Hello {
        match self.settings.protocol {
            Protocol::Smtp => Hello::Ehlo,
            Protocol::Lmtp => Hello::Lhlo,
        }
    }

    fn say_hello(&mut self, verb: Hello, output: &mut BytesMut) {
        let word = match verb {
            Hello::Ehlo => "EHLO ",
            Hello::Helo => "HELO ",
            Hello::Lhlo => "LHLO ",
        };
        for part in [word, &self.settings.helo_name, "\r\n"] {
            output.extend_from_slice(part.as_bytes());
        }
        self.replies.keep_lines = true;
        self.phase = Phase::Hello(verb);
    }

    fn on_reply(&mut self, reply: RemoteReply, input: &BytesMut, output: &mut BytesMut) {
        match &mut self.phase {
            Phase::Greeting if reply.code / 100 == 2 => {
                self.replies.strict = false;
                self.phase = Phase::SayHello(self.verb());
            }
            Phase::Hello(verb) => {
                let verb = *verb;
                self.on_hello(verb, reply, output);
            }
            Phase::StartTls => self.on_starttls(reply, input, output),
            Phase::Auth(exchange) => match exchange.on_reply(&reply, output) {
                Step::Continue => {}
                Step::Done => self.become_ready(),
                Step::Refused => self.refuse(reply, output),
                Step::OtherMechanism => match self.login().and_then(|start| Exchange::without_scram(start, output)) {
                    Some(exchange) => {
                        self.refused_scram = true;
                        self.phase = Phase::Auth(exchange);
                    }
                    None => self.refuse(reply, output),
                },
                Step::Unproven => {
                    let what = "it has not proved that it knows the password";
                    self.fail(Failure::Malformed { stage: Stage::Auth, what }, output);
                }
            },
            Phase::Ready => {
                if let Err(failure) = self.pipeline.on_reply(reply, output) {
                    self.close(failure, output);
                }
            }
            Phase::Quit => self.phase = Phase::Closed(None),
            _ => self.refuse(reply, output),
        }
    }

    fn on_hello(&mut self, verb: Hello, reply: RemoteReply, output: &mut BytesMut) {
        let lines = self.replies.take_lines();
        self.replies.keep_lines = false;
        match (reply.code / 100, verb) {
            (2, _) => {
                self.capabilities = Capabilities::parse(&lines);
                if verb == Hello::Helo {
                    self.capabilities =
                        Capabilities { name: std::mem::take(&mut self.capabilities.name), ..Capabilities::default() };
                }
                self.after_hello(output);
            }
            // RFC 5321 section 4.1.4: a server that does not know EHLO.
            (5, Hello::Ehlo) => self.phase = Phase::SayHello(Hello::Helo),
            _ => self.refuse(reply, output),
        }
    }

    fn after_hello(&mut self, output: &mut BytesMut) {
        let settings = &self.settings;
        if settings.own_name.as_ref().is_some_and(|name| self.capabilities.name.eq_ignore_ascii_case(name)) {
            return self.fail(Failure::Loop, output);
        }
        if !self.encrypted && self.tls() != Tls::Off && !self.plaintext {
            if self.capabilities.starttls {
                output.extend_from_slice(b"STARTTLS\r\n");
                self.phase = Phase::StartTls;
                return;
            }
            if self.tls().is_required() {
                return self.fail(Failure::TlsNotOffered, output);
            }
        }
        self.authenticate(output);
    }

    /// The level in force: credentials never cross an unencrypted connection.
    fn tls(&self) -> Tls {
        let tls = self.settings.tls;
        if self.settings.credentials.is_some() && !tls.is_required() { Tls::Required } else { tls }
    }

    fn on_starttls(&mut self, reply: RemoteReply, input: &BytesMut, output: &mut BytesMut) {
        if reply.code == 220 {
            if input.is_empty() {
                self.phase = Phase::Handshake;
            } else {
                self.phase = Phase::Closed(Some(Failure::TlsInjection));
            }
        } else if self.tls() == Tls::IfOffered && reply.code != 421 {
            self.plaintext = true;
            self.authenticate(output);
        } else {
            self.refuse(reply, output);
        }
    }

    fn authenticate(&mut self, output: &mut BytesMut) {
        let Some(start) = self.login() else { return self.become_ready() };
        match Exchange::start(start, output) {
            Some(exchange) => self.phase = Phase::Auth(exchange),
            None => self.fail(Failure::NoMechanism, output),
        }
    }

    /// What there is to log in with; `None`: that is not done.
    fn login(&self) -> Option<Start<'_>> {
        Some(Start {
            mechanisms: &self.capabilities.mechanisms,
            credentials: self.settings.credentials.as_deref()?,
            nonce: &self.settings.nonce,
            exporter: self.exporter.as_deref(),
        })
    }

    fn become_ready(&mut self) {
        self.capabilities.ignore(&self.settings.ignored);
        self.pipeline.on_ready(&self.capabilities, self.encrypted && self.settings.verified);
        self.phase = Phase::SayReady;
    }

    /// Ends the session because of a reply outside of transactions.
    fn refuse(&mut self, reply: RemoteReply, output: &mut BytesMut) {
        let stage = self.stage();
        let failure = match reply.code / 100 {
            4 | 5 => Failure::Reply { stage, reply },
            _ => Failure::Malformed { stage, what: "reply out of order" },
        };
        self.close(failure, output);
    }

    /// Ends the session, and the transaction under way with it.
    fn fail(&mut self, failure: Failure, output: &mut BytesMut) {
        let failure = self.pipeline.end(failure);
        self.close(failure, output);
    }

    /// QUIT is polite where the server still listens for commands.
    fn close(&mut self, failure: Failure, output: &mut BytesMut) {
        let stage = failure.stage();
        let listens =
            matches!(failure, Failure::Reply { .. } | Failure::TlsNotOffered | Failure::NoMechanism | Failure::Loop);
        if listens && !failure.is_shutdown() && stage != Stage::Quit {
            output.extend_from_slice(b"QUIT\r\n");
        }
        self.phase = Phase::Closed(Some(failure));
    }

    fn on_loss(&mut self, loss: Loss) {
        let stage = self.stage();
        let failure = match loss {
            Loss::Lost => Failure::Lost { stage },
            Loss::TimedOut => Failure::TimedOut { stage },
        };
        // A server that hangs up instead of answering QUIT has done its work.
        let done = matches!(self.phase, Phase::Quit);
        self.phase = Phase::Closed(if done { None } else { Some(self.pipeline.end(failure)) });
    }
}
