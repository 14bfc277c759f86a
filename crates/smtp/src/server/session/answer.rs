//! What the shell answers: every question's pending step is resolved here.

use bytes::BytesMut;

use super::Session;
use crate::Reply;
use crate::command::Verb;
use crate::command::auth::challenge;
use crate::server::event::{Answer, Event, Question, Stage};
use crate::server::receiving::Receiving;
use crate::server::state::{Pending, State, Transaction};

impl Session {
    pub(super) fn ask(&mut self, pending: Pending, question: Question) -> Event {
        self.state = State::Asking(pending);
        Event::Ask(question)
    }

    pub(super) fn resolve(&mut self, pending: Pending, answer: Answer, output: &mut BytesMut) {
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
        self.say(reply, output);
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
