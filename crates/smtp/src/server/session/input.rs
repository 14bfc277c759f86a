//! What the client says: greeting, command lines, responses, content.

use std::mem;

use bytes::{Buf, BytesMut};
use zeroize::Zeroize;

use super::{Session, chunk};
use crate::Reply;
use crate::command::auth::{Auth, MAX_AUTH_LINE, MAX_RESPONSE, Response};
use crate::command::{Command, Verb, ehlo};
use crate::framing::line::Framed;
use crate::server::action::{Action, Activity, Grounds, Question, Refusal, SaslStep};
use crate::server::receiving::{Advance, Ending};
use crate::server::state::{Pending, State};
use crate::standing::Helo;

impl<C> Session<C> {
    /// RFC 5321 section 4.3.1: the client waits for the greeting.
    pub(super) fn greet(&mut self, early_talker: bool, output: &mut BytesMut) -> Option<Action<C>> {
        if early_talker {
            self.end(Activity::Connect, Reply::out_of_turn(), output);
        } else {
            Reply::greeting(&self.settings.hostname, &self.settings.banner).write(output);
            self.state = State::Ready;
        }
        None
    }

    pub(super) fn on_input(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Option<Action<C>> {
        let responding = matches!(self.state, State::Sasl);
        let limit = if responding { MAX_RESPONSE } else { self.line_limit(input) };
        let length = match self.lines.frame(input, limit) {
            Framed::Line(length) => length,
            Framed::Partial => return Some(Action::Read),
            Framed::TooLong if responding => return Some(self.end_sasl(Reply::response_too_long(), false)),
            Framed::TooLong => {
                self.stale = true;
                self.refuse(Activity::Unknown, Reply::command_too_long(&self.settings.hostname), output);
                return None;
            }
            Framed::Bare(bare) => {
                input.clear();
                self.end(self.activity, Reply::bare_line_end(&self.settings.hostname, bare), output);
                return None;
            }
        };
        self.stale = true;
        let more = input.len() > length + 2;
        let event = match std::str::from_utf8(&input[..length]) {
            Ok(line) if responding => Some(self.on_response(line)),
            Ok(line) => self.on_command(line, more, output),
            Err(_) if responding => Some(self.end_sasl(Reply::malformed_response(), false)),
            Err(_) => {
                self.refuse(Activity::Unknown, Reply::bad_utf8(), output);
                None
            }
        };
        if matches!(self.activity, Activity::Command(verb) if verb.row().secret) {
            input[..length].zeroize(); // a password must not stay behind in the buffer
        }
        input.advance(length + 2);
        event
    }

    /// `more`: is there input behind the command?
    fn on_command(&mut self, line: &str, more: bool, output: &mut BytesMut) -> Option<Action<C>> {
        if self.errors >= self.settings.error_limit {
            self.end(self.activity, Reply::too_many_errors(&self.settings.hostname), output);
            return None;
        }
        let (verb, arguments) = match Verb::split(line) {
            Ok(command) => command,
            Err(reply) if matches!(reply.code(), 221 | 554) => {
                self.end(Activity::Unknown, reply, output);
                return None;
            }
            Err(reply) => {
                self.refuse(Activity::Unknown, reply, output);
                return None;
            }
        };
        self.activity = Activity::Command(verb);
        if let Err(reply) = verb.check_encryption(&self.standing()) {
            self.refuse(self.activity, reply, output);
            return None;
        }
        if more && !verb.may_be_followed(self.is_extended()) {
            self.end(self.activity, Reply::out_of_turn(), output);
            return None;
        }
        self.count_junk(verb);
        match (verb.row().parse)(&self.standing(), arguments) {
            Ok(command) => self.perform(command, output),
            Err(reply) => {
                self.refuse(self.activity, reply, output);
                None
            }
        }
    }

    /// Carries out what the verb's ladder has nothing against.
    fn perform(&mut self, command: Command, output: &mut BytesMut) -> Option<Action<C>> {
        match command {
            Command::Say(reply) => self.say(&reply, output),
            Command::Introduce(helo) => return self.introduce(helo, output),
            Command::StartTls(reply) => self.enter(State::Handshake, &reply, output),
            Command::Reset(reply) => {
                let open = self.has_open_chunks();
                self.enter(State::Ready, &reply, output);
                return open.then_some(Action::Abandon);
            }
            Command::Close(reply) => self.enter(State::Closed, &reply, output),
            Command::Auth(Auth { mechanism, initial }) => {
                return Some(self.ask(Pending::Sasl, Question::Sasl(SaslStep::Start { mechanism, initial })));
            }
            Command::Mail(mail) => return Some(self.ask(Pending::Mail(mail.clone()), Question::Mail(mail))),
            Command::Recipient(recipient) => {
                let transaction = self.take_transaction()?;
                let question = Question::Recipient(recipient.clone());
                return Some(self.ask(Pending::Recipient(transaction, recipient), question));
            }
            Command::Data => {
                let transaction = self.take_transaction()?;
                return Some(self.ask(Pending::Data(transaction), Question::Data));
            }
            Command::Chunk(chunk) => return self.on_chunk(chunk, output),
            Command::Verify { address, typed } => {
                let pending = Pending::Verify(self.take_transaction(), address.clone(), typed);
                return Some(self.ask(pending, Question::Verify(address)));
            }
            Command::Client(attributes) => {
                let question = Question::Client(attributes.clone());
                return Some(self.ask(Pending::Client(attributes), question));
            }
            Command::Etrn(domain) => return Some(self.ask(Pending::Etrn, Question::Etrn(domain))),
        }
        None
    }

    /// RFC 5321 section 4.1.4: EHLO and HELO also reset.
    fn introduce(&mut self, helo: Helo, output: &mut BytesMut) -> Option<Action<C>> {
        let open = self.has_open_chunks();
        self.state = State::Ready;
        let extended = helo.extended;
        self.helo = Some(helo);
        if extended {
            ehlo::write_reply(&self.standing(), output);
            self.tally.count(self.activity, 250);
        } else {
            self.say(&Reply::helo(&self.settings.hostname), output);
        }
        open.then_some(Action::Abandon)
    }

    /// RFC 4954 section 4: the initial response may be as long as any other, and comes with its command.
    fn line_limit(&self, input: &[u8]) -> usize {
        let auth = input.get(..5).is_some_and(|front| front.eq_ignore_ascii_case(b"AUTH "));
        if auth { MAX_AUTH_LINE.max(self.settings.line_limit) } else { self.settings.line_limit }
    }

    fn on_response(&mut self, line: &str) -> Action<C> {
        match Response::parse(line) {
            Ok(Response::Octets(octets)) => self.ask(Pending::Sasl, Question::Sasl(SaslStep::Response(octets))),
            Ok(Response::Cancel) => self.end_sasl(Reply::authentication_aborted(), true),
            Err(reply) => self.end_sasl(reply, false),
        }
    }

    /// The exchange fails with this reply, which goes out when the shell has let go of it.
    fn end_sasl(&mut self, reply: Reply, cancelled: bool) -> Action<C> {
        self.stale = true;
        self.ask(Pending::SaslEnd { reply, cancelled }, Question::Sasl(SaslStep::Cancel))
    }

    pub(super) fn on_content(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Option<Action<C>> {
        let before = input.len();
        let State::Data(receiving) = &mut self.state else { return None };
        let step = receiving.step(input, &self.settings);
        self.stale |= input.len() != before;
        self.pace.received(before - input.len());
        match step {
            Advance::Body(bytes) => Some(Action::Body(bytes)),
            Advance::Abandon => Some(Action::Abandon),
            Advance::Read => Some(Action::Read),
            Advance::End(ending) => self.end_of_content(ending, output),
        }
    }

    /// The end of the message, or of a chunk that is not its last.
    fn end_of_content(&mut self, ending: Option<Ending>, output: &mut BytesMut) -> Option<Action<C>> {
        let State::Data(receiving) = mem::replace(&mut self.state, State::Ready) else { return None };
        self.activity = chunk::activity(&receiving);
        if self.activity != Activity::EndOfMessage {
            self.end_of_chunk(receiving, ending, output);
            return None;
        }
        let chunks = receiving.chunk().map(|_| receiving.size());
        let envelope = receiving.transaction.envelope;
        match ending {
            None => {
                let sender = envelope.sender.clone();
                Some(self.ask(Pending::Store { sender, chunks }, Question::Store(envelope)))
            }
            Some(Ending { reply, noted: true }) => {
                reply.write(output);
                None
            }
            Some(Ending { reply, noted: false }) => {
                let (activity, grounds, sender) = (self.activity, Grounds::Protocol, Some(envelope.sender));
                self.refuse_with(Refusal { activity, reply, grounds, sender, recipient: None }, output);
                None
            }
        }
    }

    /// A shell that goes on without an answer has none.
    pub(super) fn on_missing_answer(&mut self, output: &mut BytesMut) -> Option<Action<C>> {
        if let State::Asking(pending) = mem::replace(&mut self.state, State::Closed) {
            self.stale = true;
            self.refuse_pending(pending, Reply::internal_error(), Grounds::Protocol, output);
        }
        None
    }
}
