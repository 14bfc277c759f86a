//! What the client says: greeting, command lines, responses, content.

use std::mem;

use bytes::{Buf, BytesMut};
use zeroize::Zeroize;

use super::Session;
use crate::Reply;
use crate::command::auth::{Auth, MAX_RESPONSE, Response};
use crate::command::mail::Mail;
use crate::command::{Verb, data, ehlo, etrn, helo, help, noop, quit, rcpt, rset, starttls, vrfy};
use crate::server::event::{Answer, Event, Question, SaslStep, Stage};
use crate::server::line::Framed;
use crate::server::receiving::Step;
use crate::server::state::{Helo, Pending, State};

impl Session {
    /// RFC 5321 section 4.3.1: the client waits for the greeting.
    pub(super) fn greet(&mut self, early_talker: bool, output: &mut BytesMut) -> Option<Event> {
        if early_talker {
            self.end(Stage::Connect, Reply::out_of_turn(), output);
        } else {
            Reply::greeting(&self.settings.hostname, &self.settings.banner).write(output);
            self.state = State::Ready;
        }
        None
    }

    pub(super) fn on_input(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Option<Event> {
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
                self.say(&Reply::ready_to_start_tls(), output);
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
                self.say(&Reply::ok(), output);
            }
            Verb::Noop => self.say(&noop::reply(arguments), output),
            Verb::Help => self.say(&help::reply(arguments), output),
            Verb::Quit => {
                self.say(&quit::reply(arguments), output);
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
            self.tally.count(self.stage, 250);
        } else {
            self.say(&Reply::helo(&self.settings.hostname), output);
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

    pub(super) fn on_content(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Option<Event> {
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
    pub(super) fn on_missing_answer(&mut self, output: &mut BytesMut) -> Option<Event> {
        self.answer(Answer::Refuse(Reply::internal_error()), output);
        None
    }
}
