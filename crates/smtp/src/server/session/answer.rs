//! What the shell answers: every question's pending step is resolved here.

use bytes::BytesMut;

use super::{Link, Session};
use crate::Reply;
use crate::command::Verb;
use crate::command::auth::challenge;
use crate::command::xclient::{ClientAttributes, Told};
use crate::server::action::{Action, Activity, Answer, Grounds, Question, Refusal};
use crate::server::receiving::Receiving;
use crate::server::state::{Pending, State};
use crate::standing::{Helo, Transaction};

impl<C> Session<C> {
    pub(super) fn ask(&mut self, pending: Pending, question: Question) -> Action<C> {
        self.state = State::Asking(pending);
        Action::Ask(question)
    }

    pub(super) fn resolve(&mut self, pending: Pending, answer: Answer<C>, output: &mut BytesMut) {
        match (pending, answer) {
            (Pending::SaslEnd { reply, cancelled }, _) => {
                self.state = State::Ready;
                let grounds = if cancelled { Grounds::Cancelled } else { Grounds::Protocol };
                let activity = Activity::Command(Verb::Auth);
                self.refuse_with(Refusal { activity, reply, grounds, sender: None, recipient: None }, output);
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
            (Pending::Client(attributes), Answer::Client(link)) => self.begin_anew(*attributes, link),
            (Pending::Etrn, Answer::Proceed) => self.enter(State::Ready, &Reply::etrn_started(), output),
            (Pending::Data(transaction), Answer::Proceed) => {
                let receiving = Receiving::data(transaction, self.bare_lf());
                self.enter(State::Data(receiving), &Reply::start_mail_input(), output);
            }
            (Pending::Chunk(transaction, chunk), Answer::Proceed) => {
                self.begin_chunks(transaction, chunk, None, output);
            }
            (Pending::Chunk(transaction, chunk), Answer::Refuse(reply, cause))
                if reply.is_refusal() && !reply.closes() =>
            {
                self.refuse_chunks(transaction, chunk, reply, Grounds::Shell(cause), output);
            }
            (Pending::Store { chunks: None, .. }, Answer::Stored(id)) => self.stored(&Reply::queued(id), output),
            (Pending::Store { chunks: Some(octets), .. }, Answer::Stored(id)) => {
                self.stored(&Reply::chunks_queued(octets, id), output);
            }
            (pending, Answer::Refuse(reply, cause)) if reply.is_refusal() => {
                self.refuse_pending(pending, reply, Grounds::Shell(cause), output);
            }
            (pending, _) => self.refuse_pending(pending, Reply::internal_error(), Grounds::Protocol, output),
        }
    }

    /// As if the client that was named had just connected, apart from what was said of it. TLS stays as it is.
    fn begin_anew(&mut self, told: ClientAttributes, link: Link) {
        self.tally.count(self.activity, 220);
        let extended = told.extended == Told::This(true);
        self.helo = if let Told::This(name) = told.helo { Some(Helo { name, extended }) } else { None };
        self.login = if let Told::This(login) = told.login { Some(login) } else { None };
        self.certified = false;
        self.normalize_bare_lf = link.normalize_bare_lf;
        self.xclient = link.xclient;
        self.activity = Activity::Connect;
        self.state = State::Greeting;
    }

    pub(super) fn enter(&mut self, state: State, reply: &Reply, output: &mut BytesMut) {
        self.say(reply, output);
        self.state = state;
    }

    /// A good message makes up for earlier errors, as in Postfix.
    fn stored(&mut self, reply: &Reply, output: &mut BytesMut) {
        self.errors = 0;
        self.junk = 0;
        self.discarded = 0;
        self.enter(State::Ready, reply, output);
    }

    pub(super) fn refuse_pending(
        &mut self,
        pending: Pending,
        reply: Reply,
        grounds: Grounds<C>,
        output: &mut BytesMut,
    ) {
        let activity = pending.activity();
        let (state, sender, recipient) = pending.refused();
        self.state = state;
        self.refuse_with(Refusal { activity, reply, grounds, sender, recipient }, output);
    }
}
