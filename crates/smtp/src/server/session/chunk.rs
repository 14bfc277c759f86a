//! The chunks of a message (RFC 3030): where they go, and what is said at the end of each.

use std::mem;

use bytes::{Buf, BytesMut};

use super::Session;
use crate::Reply;
use crate::command::bdat::Chunk;
use crate::server::action::{Action, Activity, Grounds, Question, Refusal};
use crate::server::receiving::{Ending, Receiving};
use crate::server::state::{Pending, State};
use crate::standing::Transaction;

/// What a session may throw away of refused chunks at least, and where messages have no limit.
const MIN_DISCARD: u64 = 1 << 20;
const MAX_DISCARD: u64 = 1 << 30;

impl<C> Session<C> {
    /// A chunk follows. A refused one is read to its end as well: its octets are no commands.
    pub(super) fn on_chunk(&mut self, chunk: Chunk, output: &mut BytesMut) -> Option<Action<C>> {
        match mem::replace(&mut self.state, State::Ready) {
            State::Mail(transaction) if chunk.refusal.is_none() => {
                return Some(self.ask(Pending::Chunk(transaction, chunk), Question::Data));
            }
            State::Mail(transaction) => self.begin_chunks(transaction, chunk, None, output),
            State::Chunks(mut receiving) => {
                receiving.begin_chunk(chunk, &self.settings);
                self.receive_chunk(receiving, output);
            }
            _ => {
                let reply = chunk.refusal.unwrap_or_else(Reply::need_rcpt);
                if self.may_discard(chunk.octets) {
                    self.state = State::Skipping { left: chunk.octets, reply };
                } else {
                    self.end(self.activity, reply, output);
                }
            }
        }
        None
    }

    /// The first chunk of a message.
    pub(super) fn begin_chunks(
        &mut self,
        transaction: Transaction,
        chunk: Chunk,
        refusal: Option<Ending>,
        output: &mut BytesMut,
    ) {
        let receiving = Receiving::chunks(transaction, self.bare_lf(), chunk, refusal, &self.settings);
        self.receive_chunk(receiving, output);
    }

    /// The shell has no place for the message: said when the chunk is read, and told at once.
    pub(super) fn refuse_chunks(
        &mut self,
        transaction: Transaction,
        chunk: Chunk,
        reply: Reply,
        grounds: Grounds<C>,
        output: &mut BytesMut,
    ) {
        let sender = Some(transaction.envelope.sender.clone());
        self.note(Refusal { activity: self.activity, reply: reply.clone(), grounds, sender, recipient: None });
        self.begin_chunks(transaction, chunk, Some(Ending { reply, noted: true }), output);
    }

    fn receive_chunk(&mut self, receiving: Box<Receiving>, output: &mut BytesMut) {
        let octets = receiving.chunk().map_or(0, |chunk| chunk.octets);
        match receiving.refusal() {
            Some(reply) if !self.may_discard(octets) => {
                let reply = reply.clone();
                self.end(self.activity, reply, output);
            }
            _ => self.state = State::Data(receiving),
        }
    }

    /// Work for nothing has a bound, whatever a client announces: what two messages may have, until one is taken.
    fn may_discard(&mut self, octets: u64) -> bool {
        self.discarded = self.discarded.saturating_add(octets);
        let limit = match self.settings.size_limit {
            0 => MAX_DISCARD,
            limit => limit.saturating_mul(2).max(MIN_DISCARD),
        };
        self.discarded <= limit
    }

    /// A chunk that belongs to no message.
    pub(super) fn on_skipping(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Option<Action<C>> {
        let State::Skipping { left, .. } = &mut self.state else { return None };
        let n = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        self.stale |= n > 0;
        self.pace.received(n);
        input.advance(n);
        *left -= n as u64;
        if *left > 0 {
            return Some(Action::Read);
        }
        if let State::Skipping { reply, .. } = mem::replace(&mut self.state, State::Ready) {
            self.refuse(self.activity, reply, output);
        }
        None
    }

    /// A chunk is read that is not the last.
    pub(super) fn end_of_chunk(
        &mut self,
        mut receiving: Box<Receiving>,
        ending: Option<Ending>,
        output: &mut BytesMut,
    ) {
        let Some(Ending { reply, noted }) = ending else {
            let octets = receiving.chunk().map_or(0, |chunk| chunk.octets);
            return self.enter(State::Chunks(receiving), &Reply::chunk_taken(octets), output);
        };
        receiving.spoil();
        self.state = State::Chunks(receiving);
        if noted { reply.write(output) } else { self.refuse(self.activity, reply, output) }
    }

    /// Is there something of a message at the shell that it must be told to drop?
    pub(super) fn has_open_chunks(&self) -> bool {
        matches!(&self.state, State::Chunks(receiving) if receiving.is_open())
    }
}

/// What the client does when a chunk is at hand, for the log: the last one ends the message.
pub(super) fn activity(receiving: &Receiving) -> Activity {
    match receiving.chunk() {
        Some(chunk) if !chunk.last => Activity::Command(crate::command::Verb::Bdat),
        _ => Activity::EndOfMessage,
    }
}
