//! The session: moves between the states, writes replies, counts errors. What a command means is in
//! [`crate::command`].

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use staffetta_mail::{Address, ReversePath};
use zeroize::Zeroize;

use super::event::{Answer, Event, Question, Refusal, SaslStep, Stage};
use super::line::{Framed, LineReader};
use super::receiving::{Receiving, Step};
use super::settings::{Link, Settings};
use super::state::{Helo, Pending, State, Transaction};
use crate::Reply;
use crate::command::auth::{Auth, MAX_RESPONSE, Response, challenge};
use crate::command::mail::Mail;
use crate::command::{Standing, Verb, data, ehlo, etrn, helo, help, noop, quit, rcpt, rset, starttls, vrfy};

/// Recipients beyond the limit that are refused without counting as errors (Postfix
/// `smtpd_recipient_overshoot_limit`).
const OVERSHOOT_LIMIT: usize = 1000;

/// One connection, from the greeting to the close.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    encrypted: bool,
    helo: Option<Helo>,
    login: Option<String>,
    state: State,
    lines: LineReader,
    /// What the client is doing, for a session that ends in the middle of it.
    stage: Stage,
    errors: u32,
    junk: u32,
    draining: bool,
    /// Refusals that the shell has not seen yet.
    refusals: Vec<Refusal>,
    deadline: Instant,
    /// Something happened since the deadline was set.
    stale: bool,
}

impl Session {
    /// A session whose greeting goes out with the first call of [`Self::next`].
    pub fn new(settings: Arc<Settings>, link: Link, now: Instant) -> Self {
        let deadline = now + settings.timeout;
        Self {
            settings,
            encrypted: link.encrypted,
            helo: None,
            login: None,
            state: State::Greeting,
            lines: LineReader::default(),
            stage: Stage::Connect,
            errors: 0,
            junk: 0,
            draining: false,
            refusals: Vec::new(),
            deadline,
            stale: false,
        }
    }

    /// Consumes input, appends replies to the output, and says what to do next.
    pub fn next(&mut self, input: &mut BytesMut, output: &mut BytesMut, now: Instant) -> Event {
        loop {
            if !self.refusals.is_empty() {
                return Event::Refused(self.refusals.remove(0));
            }
            self.drain(output);
            let event = match &self.state {
                State::Greeting => self.greet(!input.is_empty(), output),
                State::Ready | State::Mail(_) | State::Sasl => self.on_input(input, output),
                State::Data(_) => self.on_content(input, output),
                State::Asking(_) => self.on_missing_answer(output),
                State::Handshake => Some(Event::StartTls),
                State::Closed => (self.refusals.is_empty()).then_some(Event::Close),
            };
            match event {
                None => {}
                Some(Event::Read) => return self.read(now),
                Some(event) => return event,
            }
        }
    }

    /// Answers the question of the last [`Event::Ask`]; the reply goes to the output.
    pub fn answer(&mut self, answer: Answer, output: &mut BytesMut) {
        self.stale = true;
        match mem::replace(&mut self.state, State::Closed) {
            State::Asking(pending) => self.resolve(pending, answer, output),
            state => self.state = state,
        }
    }

    /// The handshake that [`Event::StartTls`] asked for is done. Nothing that was said in clear survives it
    /// (RFC 3207 section 4.2).
    pub fn tls_started(&mut self) {
        self.encrypted = true;
        self.helo = None;
        self.login = None;
        self.lines = LineReader::default();
        self.state = State::Ready;
        self.stale = true;
    }

    /// The deadline passed: says 421 and closes with the next call of [`Self::next`].
    pub fn on_timeout(&mut self, output: &mut BytesMut) {
        self.end(self.stage, Reply::timeout(&self.settings.hostname), output);
    }

    /// The server goes down: says 421 as soon as the client can tell what became of its message, at once if it can
    /// now, and closes.
    pub fn on_shutdown(&mut self, output: &mut BytesMut) {
        self.draining = true;
        self.drain(output);
    }

    /// Until when the shell waits for input.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How this listener is set up.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The transaction at hand, from MAIL to the final dot.
    pub fn transaction(&self) -> Option<&Transaction> {
        self.state.transaction()
    }

    /// How the client introduced itself, since TLS.
    pub fn helo(&self) -> Option<&Helo> {
        self.helo.as_ref()
    }

    /// Who logged in.
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Is the connection under TLS?
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// `ESMTP` after EHLO, else `SMTP`; what Postfix logs as `proto=`.
    pub fn protocol(&self) -> &'static str {
        if self.is_extended() { "ESMTP" } else { "SMTP" }
    }

    /// What the client was doing last.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Errors since the start or the last message; a shell may slow down a client that makes many.
    pub fn errors(&self) -> u32 {
        self.errors
    }
}

/// Input.
impl Session {
    /// RFC 5321 section 4.3.1: the client waits for the greeting.
    fn greet(&mut self, early_talker: bool, output: &mut BytesMut) -> Option<Event> {
        if early_talker {
            self.end(Stage::Connect, Reply::out_of_turn(), output);
        } else {
            Reply::greeting(&self.settings.hostname, &self.settings.banner).write(output);
            self.state = State::Ready;
        }
        None
    }

    fn on_input(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Option<Event> {
        let responding = matches!(self.state, State::Sasl);
        let limit = if responding { MAX_RESPONSE } else { self.settings.line_limit };
        let length = match self.lines.frame(input, limit) {
            Framed::Line(length) => length,
            Framed::Partial => return Some(Event::Read),
            Framed::TooLong if responding => return Some(self.end_sasl(Reply::response_too_long())),
            Framed::TooLong => {
                self.stale = true;
                self.refuse(Stage::Unknown, Reply::command_too_long(&self.settings.hostname), output);
                return None;
            }
            Framed::Bare(bare) => {
                input.clear();
                self.end(self.stage, Reply::bare_line_end(&self.settings.hostname, bare), output);
                return None;
            }
        };
        self.stale = true;
        let more = input.len() > length + 2;
        let event = match std::str::from_utf8(&input[..length]) {
            Ok(line) if responding => Some(self.on_response(line)),
            Ok(line) => self.on_command(line, more, output),
            Err(_) if responding => Some(self.end_sasl(Reply::malformed_response())),
            Err(_) => {
                self.refuse(Stage::Unknown, Reply::bad_utf8(), output);
                None
            }
        };
        if self.stage == Stage::Command(Verb::Auth) {
            input[..length].zeroize(); // a password must not stay behind in the buffer
        }
        input.advance(length + 2);
        event
    }

    /// `more`: is there input behind the command?
    fn on_command(&mut self, line: &str, more: bool, output: &mut BytesMut) -> Option<Event> {
        if self.errors >= self.settings.error_limit {
            self.end(self.stage, Reply::too_many_errors(&self.settings.hostname), output);
            return None;
        }
        let (verb, arguments) = match Verb::split(line) {
            Ok(command) => command,
            Err(reply) if reply.code() == 221 => {
                self.end(Stage::Unknown, reply, output);
                return None;
            }
            Err(reply) => {
                self.refuse(Stage::Unknown, reply, output);
                return None;
            }
        };
        self.stage = Stage::Command(verb);
        if let Err(reply) = verb.check_encryption(&self.standing()) {
            self.refuse(self.stage, reply, output);
            return None;
        }
        if more && verb != Verb::Quit && (verb.ends_group() || !self.is_extended()) {
            self.end(self.stage, Reply::out_of_turn(), output);
            return None;
        }
        self.count_junk(verb);
        match self.perform(verb, arguments, output) {
            Ok(event) => event,
            Err(reply) => {
                self.refuse(self.stage, reply, output);
                None
            }
        }
    }

    /// Carries out what the verb's ladder has nothing against.
    fn perform(&mut self, verb: Verb, arguments: &str, output: &mut BytesMut) -> Result<Option<Event>, Reply> {
        match verb {
            Verb::Helo => self.introduce(helo::check(arguments)?, false, output),
            Verb::Ehlo => self.introduce(ehlo::check(arguments)?, true, output),
            Verb::StartTls => {
                starttls::check(&self.standing(), arguments)?;
                Reply::ready_to_start_tls().write(output);
                self.state = State::Handshake;
            }
            Verb::Auth => return Auth::check(&self.standing(), arguments).map(|auth| Some(self.start_sasl(auth))),
            Verb::Mail => {
                let mail = Mail::check(&self.standing(), arguments)?;
                return Ok(Some(self.ask(Pending::Mail(mail.clone()), Question::Mail(mail))));
            }
            Verb::Rcpt => return self.recipient(arguments).map(Some),
            Verb::Data => {
                data::check(&self.standing(), arguments)?;
                if let Some(transaction) = self.take_transaction() {
                    return Ok(Some(self.ask(Pending::Data(transaction), Question::Data)));
                }
            }
            Verb::Rset => {
                rset::check(arguments)?;
                self.state = State::Ready;
                Reply::ok().write(output);
            }
            Verb::Noop => noop::reply(arguments).write(output),
            Verb::Help => help::reply(arguments).write(output),
            Verb::Quit => {
                quit::reply(arguments).write(output);
                self.state = State::Closed;
            }
            Verb::Vrfy => {
                let address = vrfy::check(&self.standing(), arguments)?;
                let pending = Pending::Verify(self.take_transaction(), address.clone(), arguments.to_owned());
                return Ok(Some(self.ask(pending, Question::Verify(address))));
            }
            Verb::Etrn => {
                let domain = etrn::check(&self.standing(), arguments)?.to_owned();
                return Ok(Some(self.ask(Pending::Etrn, Question::Etrn(domain))));
            }
        }
        Ok(None)
    }

    /// RFC 5321 section 4.1.4: EHLO and HELO also reset.
    fn introduce(&mut self, name: &str, extended: bool, output: &mut BytesMut) {
        self.state = State::Ready;
        self.helo = Some(Helo { name: name.to_owned(), extended });
        if extended {
            ehlo::write_reply(&self.standing(), output);
        } else {
            Reply::helo(&self.settings.hostname).write(output);
        }
    }

    fn recipient(&mut self, arguments: &str) -> Result<Event, Reply> {
        let recipient = rcpt::check(&self.standing(), arguments)?;
        let transaction = self.take_transaction().ok_or_else(Reply::need_mail)?;
        let question = Question::Recipient(recipient.clone());
        Ok(self.ask(Pending::Recipient(transaction, recipient), question))
    }

    fn start_sasl(&mut self, auth: Auth) -> Event {
        let Auth { mechanism, initial } = auth;
        self.ask(Pending::Sasl, Question::Sasl(SaslStep::Start { mechanism, initial }))
    }

    fn on_response(&mut self, line: &str) -> Event {
        match Response::parse(line) {
            Ok(Response::Octets(octets)) => self.ask(Pending::Sasl, Question::Sasl(SaslStep::Response(octets))),
            Ok(Response::Cancel) => self.end_sasl(Reply::authentication_aborted()),
            Err(reply) => self.end_sasl(reply),
        }
    }

    /// The exchange fails with this reply, which goes out when the shell has let go of it.
    fn end_sasl(&mut self, reply: Reply) -> Event {
        self.stale = true;
        self.ask(Pending::SaslEnd(reply), Question::Sasl(SaslStep::Cancel))
    }

    fn on_content(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Option<Event> {
        let before = input.len();
        let State::Data(receiving) = &mut self.state else { return None };
        let step = receiving.step(input, &self.settings);
        self.stale |= input.len() != before;
        match step {
            Step::Body(bytes) => Some(Event::Body(bytes)),
            Step::Abandon => Some(Event::Abandon),
            Step::Read => Some(Event::Read),
            Step::End(refusal) => self.end_of_message(refusal, output),
        }
    }

    fn end_of_message(&mut self, refusal: Option<Reply>, output: &mut BytesMut) -> Option<Event> {
        self.stage = Stage::EndOfMessage;
        let State::Data(receiving) = mem::replace(&mut self.state, State::Ready) else { return None };
        let envelope = receiving.transaction.envelope;
        match refusal {
            None => Some(self.ask(Pending::Store, Question::Store(envelope))),
            Some(reply) => {
                self.refuse_with(self.stage, reply, Some(envelope.sender), None, output);
                None
            }
        }
    }

    /// A shell that goes on without an answer has none.
    fn on_missing_answer(&mut self, output: &mut BytesMut) -> Option<Event> {
        self.answer(Answer::Refuse(Reply::internal_error()), output);
        None
    }
}

/// Answers.
impl Session {
    fn ask(&mut self, pending: Pending, question: Question) -> Event {
        self.state = State::Asking(pending);
        Event::Ask(question)
    }

    fn resolve(&mut self, pending: Pending, answer: Answer, output: &mut BytesMut) {
        match (pending, answer) {
            (Pending::SaslEnd(reply), _) => {
                self.state = State::Ready;
                self.refuse(Stage::Command(Verb::Auth), reply, output);
            }
            (Pending::Sasl, Answer::Challenge(octets)) => self.enter(State::Sasl, &challenge(&octets), output),
            (Pending::Sasl, Answer::Success { login }) => {
                self.login = Some(login);
                self.enter(State::Ready, &Reply::authentication_successful(), output);
            }
            (Pending::Mail(mail), Answer::Proceed) => {
                let transaction = Transaction::new(mail.sender, mail.parameters);
                self.enter(State::Mail(transaction), &Reply::mail_ok(), output);
            }
            (Pending::Recipient(mut transaction, recipient), Answer::Proceed) => {
                transaction.envelope.recipients.push(recipient);
                self.enter(State::Mail(transaction), &Reply::rcpt_ok(), output);
            }
            (Pending::Verify(transaction, _, typed), Answer::Proceed) => {
                self.enter(State::from(transaction), &Reply::would_accept(&typed), output);
            }
            (Pending::Etrn, Answer::Proceed) => self.enter(State::Ready, &Reply::etrn_started(), output),
            (Pending::Data(transaction), Answer::Proceed) => {
                let receiving = Receiving::new(transaction);
                self.enter(State::Data(receiving), &Reply::start_mail_input(), output);
            }
            (Pending::Store, Answer::Stored(id)) => self.stored(&Reply::queued(id), output),
            (Pending::Store, Answer::Reply(reply)) if !reply.is_refusal() => self.stored(&reply, output),
            (Pending::Verify(transaction, ..), Answer::Reply(reply)) if !reply.is_refusal() => {
                self.enter(State::from(transaction), &reply, output);
            }
            (Pending::Etrn, Answer::Reply(reply)) if !reply.is_refusal() => self.enter(State::Ready, &reply, output),
            (pending, Answer::Refuse(reply) | Answer::Reply(reply)) if reply.is_refusal() => {
                self.refuse_pending(pending, reply, output);
            }
            (pending, _) => self.refuse_pending(pending, Reply::internal_error(), output),
        }
    }

    fn enter(&mut self, state: State, reply: &Reply, output: &mut BytesMut) {
        reply.write(output);
        self.state = state;
    }

    /// A good message makes up for earlier errors, as in Postfix.
    fn stored(&mut self, reply: &Reply, output: &mut BytesMut) {
        self.errors = 0;
        self.junk = 0;
        self.enter(State::Ready, reply, output);
    }

    fn refuse_pending(&mut self, pending: Pending, reply: Reply, output: &mut BytesMut) {
        let stage = pending.stage();
        let (state, sender, recipient) = pending.refused();
        self.state = state;
        self.refuse_with(stage, reply, sender, recipient, output);
    }
}

/// Refusals.
impl Session {
    fn refuse(&mut self, stage: Stage, reply: Reply, output: &mut BytesMut) {
        self.refuse_with(stage, reply, None, None, output);
    }

    /// Writes the reply, counts the error, tells the shell; 421 and 521 also end the session.
    fn refuse_with(
        &mut self,
        stage: Stage,
        reply: Reply,
        sender: Option<ReversePath>,
        recipient: Option<Address>,
        output: &mut BytesMut,
    ) {
        reply.write(output);
        if !self.is_forgiven(&reply) {
            self.errors += 1;
        }
        let sender = sender.or_else(|| self.transaction().map(|transaction| transaction.envelope.sender.clone()));
        if reply.closes() {
            self.state = State::Closed;
        }
        self.refusals.push(Refusal { stage, reply, sender, recipient });
    }

    /// Refuses and ends the session, whatever the code.
    fn end(&mut self, stage: Stage, reply: Reply, output: &mut BytesMut) {
        self.refuse(stage, reply, output);
        self.state = State::Closed;
    }

    /// RFC 5321 section 4.5.3.1.10: a client may try more recipients than fit, within reason.
    fn is_forgiven(&mut self, reply: &Reply) -> bool {
        let State::Mail(transaction) = &mut self.state else { return false };
        if *reply != Reply::too_many_recipients() {
            return false;
        }
        transaction.overshoot += 1;
        transaction.overshoot <= OVERSHOOT_LIMIT
    }

    fn count_junk(&mut self, verb: Verb) {
        if verb.is_junk() {
            self.junk += 1;
            self.errors += u32::from(self.junk > self.settings.junk_limit);
        }
    }

    /// While the server goes down, a client that rests is sent away.
    fn drain(&mut self, output: &mut BytesMut) {
        if self.draining && self.state.is_resting() {
            self.end(self.stage, Reply::shutting_down(&self.settings.hostname), output);
        }
    }
}

/// Small things.
impl Session {
    fn standing(&self) -> Standing<'_> {
        Standing {
            settings: &self.settings,
            encrypted: self.encrypted,
            helo: self.helo.as_ref(),
            login: self.login.as_deref(),
            transaction: self.transaction(),
        }
    }

    fn is_extended(&self) -> bool {
        self.helo.as_ref().is_some_and(|helo| helo.extended)
    }

    /// Takes the transaction out of the state, which is replaced right after.
    fn take_transaction(&mut self) -> Option<Transaction> {
        match mem::replace(&mut self.state, State::Ready) {
            State::Mail(transaction) => Some(transaction),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// The clock starts again only after progress, so that a client cannot buy time by single bytes of a command.
    fn read(&mut self, now: Instant) -> Event {
        if mem::take(&mut self.stale) {
            self.deadline = now + self.settings.timeout;
        }
        Event::Read
    }
}
