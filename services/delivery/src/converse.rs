//! The dialogue: keeps one message ahead of the server, sends bodies, takes reports, waits.
//!
//! With PIPELINING the commands of the next message travel behind the end of the one before, so a message costs one
//! write and one round trip. While it waits for the server the carrier claims its next batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use staffetta_policy::classify::{Action, Failure, classify};
use staffetta_queue::Body;
use staffetta_smtp::client::{self, Event, Outcome, Report, Stage, Stuffer, Transaction, TransactionId};

use crate::attempt::Attempt;
use crate::carrier::Carrier;
use crate::connection::{Connection, Heard, time_limit};
use crate::outcome::Fate;
use crate::record;

/// How long a connection without work is kept.
const IDLE: Duration = Duration::from_secs(3);
/// Messages of one connection; then a new one is made, so that load spreads over a server's hosts again.
const MESSAGES: u32 = 1000;
/// Recipients of one transaction (RFC 5321 section 4.5.3.1.8: every server takes 100).
const RECIPIENTS: u32 = 100;
/// Transactions that are known to the session before their content is sent.
const AHEAD: usize = 2;

/// What is under way on one connection.
#[derive(Default)]
struct Flow {
    /// In the order of submission.
    transactions: VecDeque<Open>,
    /// Jobs of these transactions, by number.
    jobs: VecDeque<(u64, Attempt)>,
    next_job: u64,
    /// Transactions that ended with a report.
    done: u32,
}

/// One transaction.
struct Open {
    id: TransactionId,
    job: u64,
    recipients: Vec<u32>,
}

impl Carrier {
    /// Sends jobs until the lane has no more, the server has had enough, or the worker stops.
    pub(crate) async fn converse(&mut self, mut connection: Connection) {
        let metrics = &self.worker.metrics;
        metrics.connections.increment(1.0);
        let mut flow = Flow::default();
        let failure = loop {
            self.prefetch();
            self.submit(&mut connection, &mut flow);
            match connection.next() {
                Event::Read(stage) => self.wait(&mut connection, stage).await,
                Event::SendBody(id) => {
                    if !self.send_body(&mut connection, &mut flow, id).await {
                        // Without its final dot the message does not count; nothing else is under way.
                        connection.output.clear();
                        break None;
                    }
                }
                Event::Done(id, report) => self.done(&connection, &mut flow, id, report),
                Event::Idle => self.idle(&mut connection).await,
                Event::Closed(failure) => break failure,
                Event::Ready | Event::StartTls => {}
            }
        };
        self.worker.metrics.connections.decrement(1.0);
        self.recover(&connection, flow, failure);
        connection.close().await;
    }

    /// Keeps the session a message ahead.
    fn submit(&mut self, connection: &mut Connection, flow: &mut Flow) {
        let announced = connection.session.capabilities();
        let limit = announced.recipient_limit().unwrap_or(RECIPIENTS).min(RECIPIENTS) as usize;
        let messages = announced.message_limit().unwrap_or(MESSAGES).min(MESSAGES);
        while connection.session.backlog() < AHEAD
            && connection.uses < messages
            && !self.worker.stop.is_cancelled()
            && let Some(number) = flow.current(&mut self.jobs)
        {
            let id = TransactionId(u64::from(connection.uses));
            let Some(attempt) = flow.job(number) else { return };
            if self.worker.leases.is_lost(&attempt.held) {
                flow.disown(number, &self.worker.leases);
                continue;
            }
            if attempt.began.is_none() {
                attempt.began = Some(Instant::now());
            }
            let recipients = attempt.take_recipients(limit);
            attempt.open += 1;
            let transaction = Transaction::new(&attempt.message.envelope, &recipients, attempt.message.size);
            connection.session.submit(id, transaction);
            flow.transactions.push_back(Open { id, job: number, recipients });
            connection.uses += 1;
            if connection.uses > 1 {
                self.worker.metrics.reuse.increment(1);
            }
        }
    }

    /// Writes, then waits for the server; claims finish meanwhile.
    async fn wait(&mut self, connection: &mut Connection, stage: Stage) {
        let limit = time_limit(&self.worker.timeouts, stage);
        let written = connection.flush(limit).await;
        if written != Heard::Data {
            return connection.tell(written).await;
        }
        connection.allow_reply(stage, limit);
        loop {
            tokio::select! {
                biased;
                heard = connection.read() => return connection.tell(heard).await,
                () = self.claimed() => {
                    if connection.session.backlog() < AHEAD && !self.jobs.is_empty() {
                        return;
                    }
                }
            }
        }
    }

    /// No transaction is under way: waits a while for work, then says goodbye.
    async fn idle(&mut self, connection: &mut Connection) {
        let written = connection.flush(self.worker.timeouts.mail).await;
        if written != Heard::Data {
            return connection.tell(written).await;
        }
        // Jobs that were not submitted although nothing is under way: this connection takes no more.
        if !self.jobs.is_empty() || !self.elsewhere.is_empty() || self.worker.stop.is_cancelled() {
            return connection.session.quit();
        }
        connection.allow(IDLE);
        self.lane.idle(true);
        let stay = self.await_work(connection).await;
        self.lane.idle(false);
        if !stay {
            connection.session.quit();
        }
    }

    /// False: nobody needs the connection.
    async fn await_work(&mut self, connection: &mut Connection) -> bool {
        let (worker, lane) = (self.worker.clone(), self.lane.clone());
        loop {
            self.prefetch();
            let waiting = self.claim.is_none();
            tokio::select! {
                biased;
                () = self.claimed() => {
                    if !self.jobs.is_empty() {
                        return true;
                    }
                }
                heard = connection.read() => {
                    if heard != Heard::Silence {
                        connection.tell(heard).await;
                    }
                    return heard != Heard::Silence;
                }
                () = worker.stop.cancelled() => return false,
                () = lane.wake.notified(), if waiting => {}
                () = worker.pool.pressure.notified(), if waiting => return false,
            }
        }
    }

    /// Sends the content. False: the connection must be dropped as it is, without a final dot.
    async fn send_body(&mut self, connection: &mut Connection, flow: &mut Flow, id: TransactionId) -> bool {
        let Some(number) = flow.transactions.iter().find(|open| open.id == id).map(|open| open.job) else {
            return false;
        };
        let Some(attempt) = flow.job(number) else { return false };
        let mut stuffer = Stuffer::new();
        match &attempt.body {
            Body::Inline(body) => stuffer.append(body, &mut connection.output),
            Body::Chunks { count, .. } => {
                if let Err(error) = self.send_chunks(connection, attempt, *count, &mut stuffer).await {
                    self.unreadable(flow, number, &error);
                    return false;
                }
            }
        }
        if !self.worker.leases.secure(&attempt.held).await {
            tracing::warn!(qid = %attempt.message.id, "the lease was lost; the message is left to its new holder");
            flow.disown(number, &self.worker.leases);
            return false;
        }
        connection.output.extend_from_slice(stuffer.finish());
        connection.session.on_body_sent();
        true
    }

    /// The content cannot be had now: the job is tried again later.
    fn unreadable(&self, flow: &mut Flow, number: u64, error: &staffetta_queue::Error) {
        flow.transactions.retain(|open| open.job != number);
        let Some(mut attempt) = flow.remove(number) else { return };
        tracing::warn!(qid = %attempt.message.id, %error, "failed to read the body");
        self.worker.judge(&mut attempt);
        let failure = Failure::Local { reason: "the content could not be read from the queue".to_owned() };
        self.fail(attempt, &failure);
    }

    /// Fetches a chunk while the one before is written. That the server fails is no error: the session knows.
    async fn send_chunks(
        &self,
        connection: &mut Connection,
        attempt: &Attempt,
        count: u32,
        stuffer: &mut Stuffer,
    ) -> Result<(), staffetta_queue::Error> {
        let limit = self.worker.timeouts.transfer;
        let mut next = Some(self.worker.queue.chunk(attempt.message.id, 0).await);
        for index in 1..=count {
            let chunk = match next.take() {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Err(error),
                None => break,
            };
            stuffer.append(&chunk, &mut connection.output);
            let fetch = async {
                if index < count { Some(self.worker.queue.chunk(attempt.message.id, index).await) } else { None }
            };
            let (written, fetched) = tokio::join!(connection.flush(limit), fetch);
            next = fetched;
            if written != Heard::Data {
                connection.tell(written).await;
                break;
            }
        }
        Ok(())
    }

    /// A transaction has ended: each of its recipients has a fate, or is offered to another host.
    fn done(&mut self, connection: &Connection, flow: &mut Flow, id: TransactionId, report: Report) {
        let Some(at) = flow.transactions.iter().position(|open| open.id == id) else { return };
        let Some(open) = flow.transactions.remove(at) else { return };
        flow.done += 1;
        let Some(attempt) = flow.job(open.job) else { return };
        attempt.open -= 1;
        self.worker.judge(attempt);
        self.count(&report);
        let other_host = self.has_other_host();
        let domain = attempt.held.lease.destination.clone();
        for (&index, outcome) in open.recipients.iter().zip(report.outcomes) {
            let fate = match outcome {
                Outcome::Delivered(reply) => Fate::Delivered { reply, dsn_passed_on: report.dsn_passed_on },
                Outcome::Failed(failure) => {
                    let failure = Failure::Session { peer: connection.peer.peer(), failure };
                    if other_host && is_worth_another_host(&failure, domain.as_str()) {
                        attempt.elsewhere.push(index);
                        continue;
                    }
                    Fate::of(&failure, domain.as_str())
                }
            };
            record::outcome(&self.worker, &self.lane.hop, attempt, index, &fate, Some((connection, use_of(id))));
            attempt.results.push((index, fate));
        }
        if attempt.is_complete()
            && let Some(attempt) = flow.remove(open.job)
        {
            self.leave(attempt);
        }
    }

    /// Nothing more happens to this job on this connection.
    fn leave(&mut self, mut attempt: Attempt) {
        if attempt.elsewhere.is_empty() {
            return self.worker.finish(attempt, self.lane.hop.protocol);
        }
        attempt.turn_elsewhere();
        self.elsewhere.push(attempt);
    }

    fn count(&self, report: &Report) {
        let failed = |outcome: &Outcome| match outcome {
            Outcome::Delivered(_) => None,
            Outcome::Failed(failure) => Some(failure.stage()),
        };
        match report.outcomes.iter().map(failed).max_by_key(|stage| stage.is_none()) {
            Some(Some(stage)) => self.worker.metrics.attempt_failed_at(stage),
            _ => self.worker.metrics.attempt_ok(),
        }
    }

    /// The connection has ended: what was not attempted goes back into stock.
    fn recover(&mut self, connection: &Connection, mut flow: Flow, failure: Option<client::Failure>) {
        for open in flow.transactions.drain(..).rev() {
            if let Some((_, attempt)) = flow.jobs.iter_mut().find(|(number, _)| *number == open.job) {
                attempt.open -= 1;
                attempt.give_back(&open.recipients);
            }
        }
        for (_, mut attempt) in flow.jobs.into_iter().rev() {
            attempt.turn_elsewhere();
            self.jobs.push_front(attempt);
        }
        let other_host = !self.elsewhere.is_empty();
        self.jobs.extend(self.elsewhere.drain(..));
        if !other_host {
            self.start_over();
        }
        // A server that takes connections and ends them before any mail would be asked for ever.
        if let Some(failure) = failure
            && flow.done == 0
            && connection.uses > 0
        {
            self.fail_all(&Failure::Session { peer: connection.peer.peer(), failure });
        }
    }
}

/// Which message of its connection a transaction was, from 1.
fn use_of(id: TransactionId) -> u32 {
    id.0 as u32 + 1
}

/// Lost sessions and temporary refusals are offered to the next host (RFC 5321 section 5.1).
fn is_worth_another_host(failure: &Failure, domain: &str) -> bool {
    classify(failure, domain).action == Action::NextHost
}

impl Flow {
    /// The job whose recipients come next; takes one from the stock if need be.
    fn current(&mut self, stock: &mut VecDeque<Attempt>) -> Option<u64> {
        if let Some((number, _)) = self.jobs.back().filter(|(_, attempt)| !attempt.waiting.is_empty()) {
            return Some(*number);
        }
        let attempt = stock.pop_front()?;
        let number = self.next_job;
        self.next_job += 1;
        self.jobs.push_back((number, attempt));
        Some(number)
    }

    fn job(&mut self, number: u64) -> Option<&mut Attempt> {
        self.jobs.iter_mut().find(|(n, _)| *n == number).map(|(_, attempt)| attempt)
    }

    fn remove(&mut self, number: u64) -> Option<Attempt> {
        let at = self.jobs.iter().position(|(n, _)| *n == number)?;
        self.jobs.remove(at).map(|(_, attempt)| attempt)
    }

    /// The job belongs to somebody else now: it is neither sent nor settled.
    fn disown(&mut self, number: u64, leases: &crate::renew::Leases) {
        self.transactions.retain(|open| open.job != number);
        if let Some(attempt) = self.remove(number) {
            leases.forget(&attempt.held);
        }
    }
}
