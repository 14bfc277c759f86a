//! The transactions of one session: which commands may go out now, and what each reply means.
//!
//! ```text
//! waiting ──▶ open: MAIL, RCPT…, DATA ──354──▶ content ──dot──▶ finishing ──▶ report
//!                     │ refused                                  (the next one may be open meanwhile)
//!                     └────────────▶ report, RSET before the next MAIL
//! ```
//!
//! At a server with CHUNKING there is no DATA: content follows the answers to RCPT in chunks, and the last one is the dot.
//!
//! `expected` names the replies that are on their way, in order. With PIPELINING (RFC 2920) commands go out without
//! waiting, DATA always last in its group; otherwise one at a time.

use std::collections::VecDeque;

use bytes::BytesMut;
use staffetta_mail::RemoteReply;

use super::transaction::{Due, Expected, Open};
use super::{Capabilities, Failure, Keyword, Outcome, Protocol, Report, Stage, TransactionId, Transfer, command};

/// Most replies on their way at a time. Bounds what both sides must buffer (RFC 2920 section 3.1: a client that only
/// writes and a server that only answers would block each other).
const MAX_IN_FLIGHT: usize = 200;

/// See the module.
#[derive(Debug)]
pub(super) struct Pipeline {
    protocol: Protocol,
    waiting: VecDeque<Open>,
    open: Option<Open>,
    finishing: Option<Open>,
    expected: VecDeque<Expected>,
    needs_reset: bool,
    /// In TLS, with a server that has proved who it is.
    verified: bool,
    /// Commands may not go out before the replies to the ones before.
    lock_step: bool,
    /// Content goes by BDAT (RFC 3030).
    chunking: bool,
    /// Octets written behind the last final dot.
    behind_dot: usize,
    /// The final dot of the message that finishes never left.
    dot_unwritten: bool,
    done: VecDeque<(TransactionId, Report)>,
}

impl Pipeline {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            waiting: VecDeque::new(),
            open: None,
            finishing: None,
            expected: VecDeque::new(),
            needs_reset: false,
            verified: false,
            lock_step: true,
            chunking: false,
            behind_dot: 0,
            dot_unwritten: false,
            done: VecDeque::new(),
        }
    }

    /// The session is set up.
    pub(super) fn on_ready(&mut self, server: &Capabilities, verified: bool) {
        (self.lock_step, self.chunking, self.verified) = (!server.pipelining, server.chunking, verified);
    }

    /// Does content go out in chunks?
    pub(super) fn is_chunking(&self) -> bool {
        self.chunking
    }

    pub(super) fn submit(&mut self, id: TransactionId, transaction: Transfer) {
        self.waiting.push_back(Open::new(id, transaction));
    }

    /// As [`Self::submit`], without the content: MAIL and RCPT, and nothing behind them.
    pub(super) fn ask(&mut self, id: TransactionId, transaction: Transfer) {
        self.waiting.push_back(Open { probe: true, ..Open::new(id, transaction) });
    }

    /// Transactions whose content is not out yet.
    pub(super) fn backlog(&self) -> usize {
        self.waiting.len() + usize::from(self.open.is_some())
    }

    /// See [`super::Session::withdraw`]. Answers to commands that are out are still waited for and lead nowhere.
    pub(super) fn withdraw(&mut self, begun: bool) -> Vec<TransactionId> {
        let behind = |open: &&mut Open| begun && open.step != Due::Content && !open.withdrawn;
        let first = self.open.as_mut().filter(behind).filter(|_| self.finishing.is_some()).map(|open| {
            (open.withdrawn, open.aborted) = (true, true);
            open.id
        });
        first.into_iter().chain(self.waiting.drain(..).map(|open| open.id)).collect()
    }

    pub(super) fn next_done(&mut self) -> Option<(TransactionId, Report)> {
        self.done.pop_front()
    }

    /// The transaction whose content the shell must write now.
    pub(super) fn wants_content(&self) -> Option<TransactionId> {
        self.open.as_ref().filter(|open| open.step == Due::Content).map(|open| open.id)
    }

    /// The stage of the reply that comes next, if one is on its way.
    pub(super) fn stage(&self) -> Option<Stage> {
        match (self.expected.front(), self.wants_content()) {
            // The server cannot have the message.
            (Some(Expected::Chunk | Expected::Final | Expected::FinalOf(_)), _) if self.dot_unwritten => {
                Some(Stage::Transfer)
            }
            (Some(Expected::Chunk), Some(_)) => Some(Stage::Transfer),
            (Some(expected), _) => Some(expected.stage()),
            (None, Some(_)) => Some(Stage::Transfer),
            (None, None) => None,
        }
    }

    /// A chunk is written that is not the last.
    pub(super) fn on_chunk_sent(&mut self) {
        self.expected.push_back(Expected::Chunk);
    }

    /// Chunks of the content at hand that are not answered.
    pub(super) fn chunks_owed(&self) -> usize {
        self.expected.iter().filter(|expected| **expected == Expected::Chunk).count()
    }

    /// The content and its final dot are written.
    pub(super) fn on_body_sent(&mut self) {
        let Some(open) = self.open.take_if(|open| open.step == Due::Content) else { return };
        self.behind_dot = 0;
        match self.protocol {
            Protocol::Smtp => self.expected.push_back(Expected::Final),
            Protocol::Lmtp => self.expected.extend(open.accepted.iter().copied().map(Expected::FinalOf)),
        }
        self.finishing = Some(open);
    }

    /// The connection broke with so many octets unwritten.
    pub(super) fn on_unwritten(&mut self, octets: usize) {
        self.dot_unwritten = octets > self.behind_dot;
    }

    /// Writes the commands that may go out now.
    pub(super) fn fill(&mut self, server: &Capabilities, output: &mut BytesMut) {
        let before = output.len();
        self.send(server, output);
        self.behind_dot += output.len() - before;
    }

    fn send(&mut self, server: &Capabilities, output: &mut BytesMut) {
        while self.may_send() && (self.open.is_some() || self.begin(server, output)) {
            if !self.send_next(server, output) {
                return;
            }
        }
    }

    fn may_send(&self) -> bool {
        let limit = if self.lock_step { 1 } else { MAX_IN_FLIGHT };
        self.expected.len() < limit
    }

    /// Opens the next waiting transaction; false if there is none, or RSET must be answered first.
    fn begin(&mut self, server: &Capabilities, output: &mut BytesMut) -> bool {
        self.drop_unfit(server);
        if self.waiting.is_empty() {
            return false;
        }
        if std::mem::take(&mut self.needs_reset) {
            output.extend_from_slice(b"RSET\r\n");
            self.expected.push_back(Expected::Reset);
            if self.lock_step {
                return false;
            }
        }
        self.open = self.waiting.pop_front().map(|open| Open { chunking: self.chunking, ..open });
        true
    }

    /// What this server must not or cannot be given is not tried.
    fn drop_unfit(&mut self, server: &Capabilities) {
        while let Some(failure) = self.waiting.front().and_then(|open| self.objection(&open.transaction, server)) {
            let Some(mut open) = self.waiting.pop_front() else { return };
            open.settle_all(&Outcome::Failed(failure));
            self.done.push_back(open.report());
        }
    }

    /// RFC 8689 section 4.2.1, RFC 6531 section 3.6, RFC 1870 section 6.1.
    fn objection(&self, message: &Transfer, server: &Capabilities) -> Option<Failure> {
        match server.size_limit() {
            _ if message.require_tls && !(self.verified && server.requiretls) => Some(Failure::NoRequireTls),
            _ if message.smtputf8 && !server.smtputf8 => {
                Some(Failure::NoSmtpUtf8 { ignored: server.ignored.contains(&Keyword::SmtpUtf8) })
            }
            Some(limit) if message.size > limit => Some(Failure::TooLarge { size: message.size, limit }),
            _ => None,
        }
    }

    /// Writes one command of the open transaction; false if it has none to send now.
    fn send_next(&mut self, server: &Capabilities, output: &mut BytesMut) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| !open.aborted) else { return false };
        let recipients = &open.transaction.recipients;
        let expected = match open.step {
            Due::Mail => {
                command::mail(&open.transaction, server, output);
                open.dsn = server.dsn && recipients.iter().any(|recipient| recipient.notify.is_some());
                open.step = if recipients.is_empty() { open.after_recipients() } else { Due::Rcpt(0) };
                Expected::Mail
            }
            Due::Rcpt(index) => {
                command::rcpt(&recipients[index], server, output);
                open.step = if index + 1 < recipients.len() { Due::Rcpt(index + 1) } else { open.after_recipients() };
                Expected::Rcpt(index)
            }
            Due::Data => {
                output.extend_from_slice(b"DATA\r\n");
                open.step = Due::Answers;
                Expected::Data
            }
            Due::Answers | Due::Content => return false,
        };
        self.expected.push_back(expected);
        true
    }

    /// Takes one reply. The error ends the session; what it means for the transactions is already settled.
    pub(super) fn on_reply(&mut self, reply: RemoteReply, output: &mut BytesMut) -> Result<(), Failure> {
        let stage = self.stage().unwrap_or(Stage::Idle);
        if reply.code == 421 {
            return Err(self.end(Failure::Reply { stage, reply }));
        }
        let Some(expected) = self.expected.pop_front() else {
            // Before the dot only a refusal makes sense: the reason for the hang-up that stopped the content.
            let failure = match stage {
                Stage::Transfer => refusal(stage, reply).unwrap_or_else(|malformed| malformed),
                _ => Failure::Malformed { stage, what: "reply without a command" },
            };
            return Err(self.end(failure));
        };
        let result = match expected {
            Expected::Reset if !is_positive(&reply) => Err(Failure::Reply { stage, reply }),
            Expected::Reset | Expected::Empty => Ok(()),
            Expected::Mail => self.on_mail(reply),
            Expected::Rcpt(index) => self.on_rcpt(index, reply),
            Expected::Data => self.on_data(reply, output),
            Expected::Chunk => on_chunk(reply),
            Expected::Final => self.on_final(None, reply),
            Expected::FinalOf(index) => self.on_final(Some(index), reply),
        };
        if let Err(failure) = result {
            self.expected.push_front(expected);
            return Err(self.end(failure));
        }
        self.move_on();
        Ok(())
    }

    /// The session ends: settles the transaction that the oldest missing reply (or the content) belongs to. Later
    /// ones were not answered at all and are left without a report.
    pub(super) fn end(&mut self, failure: Failure) -> Failure {
        let concerned = match self.expected.front() {
            Some(Expected::Final | Expected::FinalOf(_)) => self.finishing.take(),
            Some(Expected::Chunk) if self.finishing.is_some() => self.finishing.take(),
            Some(Expected::Mail | Expected::Rcpt(_) | Expected::Data) => self.open.take(),
            Some(Expected::Reset | Expected::Empty) => None,
            Some(Expected::Chunk) | None => self.open.take_if(|open| open.step == Due::Content),
        };
        if let Some(mut open) = concerned.filter(|open| !open.withdrawn) {
            open.settle_all(&Outcome::Failed(failure.clone()));
            self.done.push_back(open.report());
        }
        failure
    }

    fn on_mail(&mut self, reply: RemoteReply) -> Result<(), Failure> {
        let lock_step = self.lock_step;
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if is_positive(&reply) {
            open.mail_accepted = true;
            return Ok(());
        }
        // "Nested MAIL": the server did not end the transaction before. The recipients that follow would join it.
        open.again = reply.code == 503 && !lock_step && !open.withdrawn;
        open.aborted = true;
        if !open.again {
            open.settle_all(&Outcome::Failed(refusal(Stage::Mail, reply)?));
        }
        Ok(())
    }

    fn on_rcpt(&mut self, index: usize, reply: RemoteReply) -> Result<(), Failure> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if is_positive(&reply) {
            open.accepted.push(index);
            if open.probe {
                open.settle(index, Outcome::Delivered(reply));
            }
            return Ok(());
        }
        let failure = refusal(Stage::Rcpt, reply)?;
        if !open.again {
            open.settle(index, Outcome::Failed(failure));
        }
        Ok(())
    }

    fn on_data(&mut self, reply: RemoteReply, output: &mut BytesMut) -> Result<(), Failure> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if reply.code / 100 == 3 {
            return if open.withdrawn {
                // Nothing but content can follow, and an empty message might reach somebody: hang up.
                Err(Failure::Lost { stage: Stage::Idle })
            } else if !open.aborted && !open.accepted.is_empty() {
                open.step = Due::Content;
                Ok(())
            } else {
                self.take_back(output)
            };
        }
        let failure = refusal(Stage::Data, reply)?;
        open.aborted = true;
        if !open.again {
            open.settle_all(&Outcome::Failed(failure));
        }
        Ok(())
    }

    /// RFC 2920 section 3.1: a `354` although every recipient was refused is answered with an empty message. After a
    /// refused MAIL an empty message might reach somebody; in LMTP the number of replies would be a guess: hang up.
    fn take_back(&mut self, output: &mut BytesMut) -> Result<(), Failure> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if !open.mail_accepted || !open.accepted.is_empty() || self.protocol == Protocol::Lmtp {
            return Err(Failure::Malformed { stage: Stage::Data, what: "354 without a transaction" });
        }
        open.aborted = true;
        open.mail_accepted = false;
        output.extend_from_slice(b".\r\n");
        self.expected.push_back(Expected::Empty);
        Ok(())
    }

    fn on_final(&mut self, recipient: Option<usize>, reply: RemoteReply) -> Result<(), Failure> {
        let Some(open) = self.finishing.as_mut() else { return Ok(()) };
        let outcome = if is_positive(&reply) {
            Outcome::Delivered(reply)
        } else if open.chunking {
            Outcome::Failed(refusal_of_chunk(Stage::Final, reply)?)
        } else {
            Outcome::Failed(refusal(Stage::Final, reply)?)
        };
        match recipient {
            Some(index) => open.settle(index, outcome),
            None => open.settle_all(&outcome),
        }
        if !matches!(self.expected.front(), Some(Expected::Final | Expected::FinalOf(_))) {
            self.done.extend(self.finishing.take().map(Open::report));
        }
        Ok(())
    }

    /// Once none of the replies of the open transaction is on its way: chunks may follow, or it ends if no content will come.
    fn move_on(&mut self) {
        let unanswered = |e: &Expected| matches!(e, Expected::Mail | Expected::Rcpt(_) | Expected::Data);
        if self.expected.iter().any(unanswered) {
            return;
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.awaits_chunks()) {
            open.step = Due::Content;
            return;
        }
        let Some(open) = self.open.take_if(|open| open.is_over()) else { return };
        self.needs_reset = open.mail_accepted || open.again;
        if open.withdrawn {
            return;
        }
        if open.again {
            self.lock_step = true;
            self.waiting.push_front(open.afresh());
        } else {
            self.done.push_back(open.report());
        }
    }
}

const fn is_positive(reply: &RemoteReply) -> bool {
    reply.code / 100 == 2
}

/// RFC 3030 section 2: behind a chunk that was refused all others are, and servers differ in how. The session ends.
fn on_chunk(reply: RemoteReply) -> Result<(), Failure> {
    if is_positive(&reply) {
        return Ok(());
    }
    Err(refusal_of_chunk(Stage::Transfer, reply).unwrap_or_else(|malformed| malformed))
}

/// A server that does not know the command takes what follows it for commands, too: hang up at once. It may call that a bad
/// order, or bad parameters; of the message it has said nothing.
fn refusal_of_chunk(stage: Stage, reply: RemoteReply) -> Result<Failure, Failure> {
    let is_syntax = reply.status.is_none_or(|status| status.subject == 5);
    if matches!(reply.code, 500..=503 | 555) && is_syntax {
        return Err(Failure::NoBdat);
    }
    refusal(stage, reply)
}

/// A reply that refuses; positive and intermediate ones are out of place here.
fn refusal(stage: Stage, reply: RemoteReply) -> Result<Failure, Failure> {
    match reply.code / 100 {
        4 | 5 => Ok(Failure::Reply { stage, reply }),
        _ => Err(Failure::Malformed { stage, what: "reply out of order" }),
    }
}
