//! Refusals: written, counted, told to the shell; some end the session.

use bytes::BytesMut;

use super::Session;
use crate::Reply;
use crate::command::Verb;
use crate::server::action::{Activity, Grounds, Refusal};
use crate::server::state::State;

impl<C> Session<C> {
    /// The protocol refuses.
    pub(super) fn refuse(&mut self, activity: Activity, reply: Reply, output: &mut BytesMut) {
        self.refuse_with(
            Refusal { activity, reply, grounds: Grounds::Protocol, sender: None, recipient: None },
            output,
        );
    }

    /// Writes the reply, counts the error, tells the shell; 421 and 521 also end the session.
    pub(super) fn refuse_with(&mut self, refusal: Refusal<C>, output: &mut BytesMut) {
        refusal.reply.write(output);
        self.note(refusal);
    }

    /// All of it but the writing.
    pub(super) fn note(&mut self, mut refusal: Refusal<C>) {
        let reply = &refusal.reply;
        self.tally.count(refusal.activity, reply.code());
        if !self.is_forgiven(reply) {
            self.errors += 1;
        }
        if refusal.sender.is_none() {
            refusal.sender = self.transaction().map(|transaction| transaction.envelope.sender.clone());
        }
        if reply.closes() {
            self.state = State::Closed;
        }
        self.refusals.push(refusal);
    }

    /// Refuses and ends the session, whatever the code.
    pub(super) fn end(&mut self, activity: Activity, reply: Reply, output: &mut BytesMut) {
        self.refuse(activity, reply, output);
        self.state = State::Closed;
    }

    /// Ends the session unasked, whatever the client is doing.
    pub(super) fn interrupt(&mut self, reply: Reply, grounds: Grounds<C>, output: &mut BytesMut) {
        reply.write(output);
        self.state = State::Closed;
        self.refusals.push(Refusal { activity: self.activity, reply, grounds, sender: None, recipient: None });
    }

    /// RFC 5321 section 4.5.3.1.10: a client may try more recipients than fit, within reason. So may a login whose limit is
    /// reached, or a message to more than are left would end the session each time, and never go to any.
    fn is_forgiven(&mut self, reply: &Reply) -> bool {
        let State::Mail(transaction) = &mut self.state else { return false };
        let limited = || self.login.as_deref().is_some_and(|login| *reply == Reply::too_many_recipients_of(login));
        if *reply != Reply::too_many_recipients() && !limited() {
            return false;
        }
        transaction.overshoot += 1;
        transaction.overshoot <= self.settings.overshoot_limit
    }

    pub(super) fn count_junk(&mut self, verb: Verb) {
        if verb.row().junk {
            self.junk += 1;
            self.errors += u32::from(self.junk > self.settings.junk_limit);
        }
    }

    /// A client that was dismissed leaves as soon as it waits for the answer to a command.
    pub(super) fn leave(&mut self, output: &mut BytesMut) {
        if self.state.awaits_command()
            && let Some(dismissal) = self.dismissal.take()
        {
            self.interrupt(dismissal.0, Grounds::Shell(dismissal.1), output);
        }
    }

    /// While the server goes down, a client that rests is sent away.
    pub(super) fn drain(&mut self, output: &mut BytesMut) {
        if self.draining && self.state.is_resting() {
            self.interrupt(Reply::shutting_down(&self.settings.hostname), Grounds::Shutdown, output);
        }
    }
}
