//! The dialogue: keeps one message ahead of the server, sends bodies, takes reports, waits.
//!
//! With PIPELINING the commands of the next message travel behind the end of the one before, so a message costs one
//! write and one round trip. While it waits for the server the carrier claims its next batch.

use std::time::{Duration, Instant};

use bytes::Bytes;
use staffetta_dispatch::{Conversation, Course, Limits, Next, Seen};
use staffetta_mail::{Envelope, QueueId};
use staffetta_policy::classify::Failure;
use staffetta_policy::tls::Need;
use staffetta_queue::{Body, Chunks, Error};
use staffetta_smtp::client::{self, Event, Failure as SessionFailure, Outcome, Report, Stage, TransactionId};

use crate::carrier::{Carrier, Claim};
use crate::connection::{Connection, Heard, time_limit};
use crate::form::{self, Formless, Outlet, Writer};
use crate::leased::{Leased, Task};
use crate::record;
use crate::shaping::Verdicts;
use crate::signing::Hindrance;
use crate::traced;

/// How long a connection without work is kept.
const IDLE: Duration = Duration::from_secs(3);
/// Messages of one connection; then a new one is made, so that load spreads over a server's hosts again.
const MESSAGES: u32 = 1000;
/// Recipients of one transaction (RFC 5321 section 4.5.3.1.8: every server takes 100).
const RECIPIENTS: u32 = 100;
/// Transactions that are known to the session before their content is sent.
const AHEAD: usize = 2;
/// Chunks of a message (RFC 3030) that may be without an answer while more are sent.
const OWED: usize = 16;
/// A server that has said nothing for so long gives up the jobs that wait behind the one it has.
const STALLED: Duration = Duration::from_secs(5);
/// And after so long also the one whose commands it has got. That costs the connection, once the server comes to them.
const HANGING: Duration = Duration::from_secs(15);

type Talk = Conversation<Leased>;

impl Carrier {
    /// Sends jobs until the lane has no more, the server has had enough, or the worker stops.
    pub(crate) async fn converse(&mut self, mut connection: Connection) {
        let metrics = &self.worker.metrics;
        metrics.connections.increment(1.0);
        let mut talk = Conversation::default();
        let failure = loop {
            if connection.owed_for() < STALLED {
                // What may not travel over this connection comes to the front and waits for its end.
                let fits = |task: &Task| connection.security.satisfies(Need::of(&task.job.message.envelope));
                if !talk.has_aside() && self.jobs.front().is_none_or(fits) {
                    self.prefetch();
                }
                self.submit(&mut connection, &mut talk).await;
            }
            match connection.next() {
                Event::Read(stage) => self.wait(&mut connection, &mut talk, stage).await,
                Event::SendBody(id) => {
                    if !self.send_body(&mut connection, &mut talk, id).await {
                        // Without its final dot the message does not count; nothing else is under way.
                        connection.output.clear();
                        break None;
                    }
                }
                Event::Done(id, report) => self.done(&connection, &mut talk, id, report),
                Event::Idle => self.idle(&mut connection, &talk).await,
                Event::Closed(failure) => break failure,
                Event::Ready | Event::StartTls => {}
            }
        };
        self.worker.metrics.connections.decrement(1.0);
        let (portion, carried) = (connection.portion.take(), talk.submitted());
        self.learn(&connection, failure.as_ref());
        self.recover(&connection, talk, failure);
        connection.close().await;
        self.worker.has_carried(portion, carried).await;
    }

    /// What the end of the connection says of what its host cannot do.
    fn learn(&self, connection: &Connection, failure: Option<&SessionFailure>) {
        let (Some(ip), Some(failure)) = (connection.peer.endpoint.ip(), failure) else { return };
        if *failure == SessionFailure::NoBdat {
            tracing::info!(relay = %connection.peer.peer(), "BDAT is not known there: for a while mail goes by DATA");
            self.worker.unchunked.remember(ip, Instant::now());
        }
        if connection.session.capabilities().pipelining && is_stall(failure) {
            tracing::info!(relay = %connection.peer.peer(), "commands that came together are not answered there");
            let (worker, reason) = (self.worker.clone(), failure.to_string());
            self.worker.carriers.spawn(async move {
                if let Err(error) = worker.note_stall(ip, &reason).await {
                    tracing::debug!(%ip, %error, "a host that stalls is not remembered");
                }
            });
        }
    }

    /// Keeps the session a message ahead.
    async fn submit(&mut self, connection: &mut Connection, talk: &mut Talk) {
        self.heed(connection.source);
        let announced = connection.session.capabilities();
        let most = self.hop.site.as_ref().and_then(|site| site.messages).unwrap_or(MESSAGES);
        let most = connection.portion.as_ref().map_or(most, |portion| most.min(portion.messages));
        let limits = Limits {
            recipients: announced.recipient_limit().unwrap_or(RECIPIENTS).min(RECIPIENTS) as usize,
            messages: announced.message_limit().unwrap_or(most).min(most),
        };
        let worker = self.worker.clone();
        let ours = |job: &Leased| !worker.leases.is_lost(&job.held) && !job.is_stopped(&worker.revocations);
        while connection.session.backlog() < AHEAD && !worker.stop.is_cancelled() && !self.turn_is_over() {
            match talk.next(&mut self.jobs, &connection.security, limits, ours, Instant::now()) {
                Next::Submit(id, transaction) => {
                    if let Some(failure) = self.objection(connection, talk, id).await {
                        let outcomes = vec![Outcome::Failed(failure); transaction.recipients.len()];
                        self.done(connection, talk, id, Report { outcomes, dsn_passed_on: false });
                        continue;
                    }
                    connection.session.submit(id, transaction);
                    if let Some(task) = talk.task(id).filter(|task| task.job.silences > 0) {
                        worker.begin(&task.job);
                    }
                    self.carried += 1;
                    if talk.submitted() > 1 {
                        worker.metrics.reuse.increment(1);
                    }
                }
                Next::Disown(task) if worker.leases.is_lost(&task.job.held) => worker.leases.forget(&task.job.held),
                Next::Disown(task) => worker.settler.release(task.job),
                Next::Nothing => return,
            }
        }
    }

    /// Writes, then waits for the server; claims finish meanwhile, and what waits behind a server that makes no
    /// progress is given to others.
    async fn wait(&mut self, connection: &mut Connection, talk: &mut Talk, stage: Stage) {
        let limit = time_limit(&self.worker.timeouts(), stage);
        let written = self.flush(connection, talk, limit).await;
        if written != Heard::Data {
            return connection.tell(written).await;
        }
        connection.allow_reply(stage, limit);
        loop {
            tokio::select! {
                biased;
                heard = connection.read() => return connection.tell(heard).await,
                _ = self.pulse.tick() => {
                    let owed = connection.owed_for();
                    self.relieve(connection, talk, owed);
                }
                claimed = Claim::ended(&mut self.claim) => {
                    self.take(claimed);
                    if connection.owed_for() >= STALLED {
                        self.release_all();
                    } else if connection.session.backlog() < AHEAD && !self.jobs.is_empty() {
                        return;
                    }
                }
            }
        }
    }

    /// Writing can hang as well. What was written stays written when it is taken up again.
    async fn flush(&mut self, connection: &mut Connection, talk: &mut Talk, limit: Duration) -> Heard {
        let since = Instant::now();
        loop {
            tokio::select! {
                biased;
                written = connection.flush(limit.saturating_sub(since.elapsed())) => return written,
                _ = self.pulse.tick() => {}
            }
            self.relieve(connection, talk, since.elapsed());
        }
    }

    /// The server makes no progress: what is not under way need not wait for it, and goes back for others.
    fn relieve(&mut self, connection: &mut Connection, talk: &mut Talk, silent: Duration) {
        if silent < STALLED {
            return;
        }
        let withdrawn = connection.session.withdraw(silent >= HANGING);
        self.jobs.extend(talk.withdraw(&withdrawn));
        self.release_all();
    }

    /// No transaction is under way: waits a while for work, then says goodbye.
    async fn idle(&mut self, connection: &mut Connection, talk: &Talk) {
        let written = connection.flush(self.worker.timeouts().mail).await;
        if written != Heard::Data {
            return connection.tell(written).await;
        }
        // Jobs that were not submitted although nothing is under way: this connection takes no more.
        if !self.jobs.is_empty() || talk.has_aside() || self.worker.stop.is_cancelled() || self.turn_is_over() {
            return connection.session.quit();
        }
        connection.allow(IDLE);
        self.worker.lanes.idle(&self.lane, true);
        let stay = self.await_work(connection).await;
        self.worker.lanes.idle(&self.lane, false);
        if !stay {
            connection.session.quit();
        }
    }

    /// False: nobody needs the connection.
    async fn await_work(&mut self, connection: &mut Connection) -> bool {
        let (worker, lane, company) = (self.worker.clone(), self.lane.clone(), self.company.clone());
        loop {
            self.prefetch();
            let waiting = self.claim.is_none();
            if waiting && self.company.is_awaited() {
                return false;
            }
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
                () = worker.lanes.pressure.notified(), if waiting => return false,
                () = company.pressed(), if waiting => return false,
            }
        }
    }

    /// Why this server must not be given a message, besides what the session itself finds.
    async fn objection(&self, connection: &Connection, talk: &Talk, id: TransactionId) -> Option<SessionFailure> {
        let Task { job, .. } = talk.task(id)?;
        let needs = form::needs(&job.message, connection.session.capabilities());
        let why = form::objection(&self.worker.queue, job, needs).await?;
        Some(SessionFailure::NoEightBitMime(why.to_string()))
    }

    /// Sends the content. False: the connection must be dropped as it is, without a final dot.
    async fn send_body(&mut self, connection: &mut Connection, talk: &mut Talk, id: TransactionId) -> bool {
        let Some(Task { job, .. }) = talk.task(id) else { return false };
        let needs = form::needs(&job.message, connection.session.capabilities());
        let form = match form::find(&self.worker.queue, job, needs).await {
            Ok(form) => form,
            Err(Formless::Unconvertible(why)) => {
                connection.session.give_up(SessionFailure::NoEightBitMime(why.to_string()));
                return true;
            }
            Err(Formless::Unreadable(error)) => {
                let error = Hindrance::Unreadable(error);
                self.withhold(talk.take(id), id, error.reason(), &error).await;
                return false;
            }
        };
        let opening = match self.worker.signing.open(&self.worker.queue, job, &form).await {
            Ok(opening) => opening,
            Err(error) => {
                self.withhold(talk.take(id), id, error.reason(), &error).await;
                return false;
            }
        };
        let mut outlet = Outlet { writer: Writer::new(&form), framer: connection.session.framer() };
        if let Some(seal) = opening.seal {
            outlet.framer.append(&seal.fields, &mut connection.output);
        }
        match &job.body {
            Body::Inline(body) => outlet.append(body, &mut connection.output),
            Body::Chunks(chunks) => {
                outlet.append(&job.prefix, &mut connection.output);
                let body = (job.message.id, *chunks, opening.first);
                match self.send_chunks(connection, talk, body, &mut outlet).await {
                    Ok(true) => {}
                    // The session knows why.
                    Ok(false) => return true,
                    Err(error) => {
                        let error = Hindrance::Unreadable(error);
                        self.withhold(talk.take(id), id, error.reason(), &error).await;
                        return false;
                    }
                }
            }
        }
        if !self.are_secure(talk, id).await {
            self.leave_lost(talk.take(id));
            return false;
        }
        outlet.finish(&mut connection.output);
        connection.session.on_body_sent();
        true
    }

    /// Do all jobs of a transaction belong to us for long enough to end it?
    async fn are_secure(&self, talk: &Talk, id: TransactionId) -> bool {
        let held: Vec<_> = talk.tasks(id).map(|task| task.job.held.clone()).collect();
        for held in &held {
            if !self.worker.leases.secure(held).await {
                return false;
            }
        }
        !held.is_empty()
    }

    /// Of a transaction that is not ended, what has passed to others is theirs, and the rest goes out by another one.
    fn leave_lost(&mut self, tasks: Vec<Task>) {
        for mut task in tasks {
            if self.worker.leases.is_safe(&task.job.held) {
                task.attempt.turn_back();
                self.jobs.push_front(task);
                continue;
            }
            tracing::warn!(qid = %task.job.message.id, "the lease was lost; the message is left to its new holder");
            self.worker.leases.forget(&task.job.held);
        }
    }

    /// The content cannot be had now, or not signed: the jobs are tried again later. That the store of large bodies is away is
    /// no attempt.
    async fn withhold(&self, tasks: Vec<Task>, id: TransactionId, reason: &str, error: &Hindrance) {
        for task in tasks {
            tracing::warn!(qid = %task.job.message.id, %error, "{reason}");
            if matches!(error, Hindrance::Unreadable(Error::StoreAway(_))) && task.attempt.is_only_in(id) {
                self.worker.put_off_unread(&task.job.held.lease).await;
                self.worker.leases.forget(&task.job.held);
                continue;
            }
            self.fail(task, &Failure::Local { reason: reason.to_owned() });
        }
    }

    /// Fetches a chunk while the one before is written; the first one may be here already. False: the server takes no more.
    async fn send_chunks(
        &mut self,
        connection: &mut Connection,
        talk: &mut Talk,
        (message, chunks, first): (QueueId, Chunks, Option<Bytes>),
        outlet: &mut Outlet,
    ) -> Result<bool, Error> {
        let limit = self.worker.timeouts().transfer;
        let queue = self.worker.queue.clone();
        let mut next = Some(match first {
            Some(first) => Ok(first),
            None => queue.chunk(message, &chunks, 0).await,
        });
        let mut octets = 0;
        for index in 1..=chunks.count {
            let chunk = match next.take() {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Err(error),
                None => break,
            };
            octets += chunk.len() as u64;
            if index == chunks.count && chunks.kept.is_in_store() && octets != chunks.size {
                return Err(Error::Damaged(message, format!("its pieces have {octets} octets of {}", chunks.size)));
            }
            outlet.append(&chunk, &mut connection.output);
            if outlet.framer.release(&mut connection.output) {
                connection.session.on_chunk_sent();
            }
            let fetch =
                async { if index < chunks.count { Some(queue.chunk(message, &chunks, index).await) } else { None } };
            let (written, fetched) = tokio::join!(self.flush(connection, talk, limit), fetch);
            next = fetched;
            if written != Heard::Data {
                connection.tell(written).await;
                return Ok(false);
            }
            while connection.session.chunks_owed() > OWED {
                self.wait(connection, talk, Stage::Transfer).await;
                if !connection.heed_chunks() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// A transaction has ended: each of its recipients has a fate, or is offered to another host.
    fn done(&mut self, connection: &Connection, talk: &mut Talk, id: TransactionId, report: Report) {
        self.count(&report);
        let failed = report.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Delivered(_) => None,
        });
        if let (Some(failure), Some(task)) = (failed, talk.task(id)) {
            self.weigh(failure, &task.job);
        }
        let (worker, lane) = (&self.worker, &self.lane);
        let (peer, terms) = (|| connection.peer.peer(), worker.terms.load());
        let verdicts = Verdicts::new(worker, &self.hop, &terms.shaping);
        let final_by =
            |envelope: &Envelope, domain: &str, failure: &SessionFailure| verdicts.final_by(domain, envelope, failure);
        let (others, now) = (self.others(), Instant::now());
        let seen = Seen { peer: &peer, others, final_by: &final_by, rules: &terms.rules, now };
        talk.tasks(id).for_each(|task| traced::transaction(task, connection, use_of(id), &report));
        let ended = talk.on_report(id, report, &seen, |task, index, fate| {
            record::outcome(worker, lane, task, index, fate, Some((connection, use_of(id))));
        });
        for task in ended {
            worker.finish(task, lane);
        }
        verdicts.count();
    }

    fn count(&mut self, report: &Report) {
        let failed = |outcome: &Outcome| match outcome {
            Outcome::Delivered(_) => None,
            Outcome::Failed(failure) => Some(failure.stage()),
        };
        match report.outcomes.iter().map(failed).max_by_key(|stage| stage.is_none()) {
            Some(Some(stage)) => self.worker.metrics.attempt_failed_at(stage),
            _ => {
                self.served += 1;
                self.worker.metrics.attempt_ok();
            }
        }
    }

    /// The connection has ended: what is not finished goes back into stock.
    fn recover(&mut self, connection: &Connection, talk: Talk, failure: Option<client::Failure>) {
        let ended = talk.end(failure, self.others().any);
        for task in ended.stock.into_iter().rev() {
            self.jobs.push_front(task);
        }
        match ended.course {
            Course::NextHost => self.go_on(ended.said),
            Course::Afresh => self.start_over(),
            Course::Fail(failure) => {
                self.start_over();
                if let Some(task) = self.jobs.front() {
                    self.weigh(&failure, &task.job);
                }
                self.fail_all(&Failure::Session { peer: connection.peer.peer(), failure });
            }
        }
    }
}

/// No answer to a command that came together with others.
fn is_stall(failure: &SessionFailure) -> bool {
    matches!(failure, SessionFailure::TimedOut { stage: Stage::Mail | Stage::Rcpt | Stage::Data })
}

/// Which message of its connection a transaction was, from 1.
fn use_of(id: TransactionId) -> u32 {
    id.0 as u32 + 1
}
