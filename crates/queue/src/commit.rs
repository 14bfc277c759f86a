//! Group commit: many concurrent calls share one pipeline, one sync of the append-only file, one WAIT.
//!
//! A [`Lane`] owns one connection. It takes what waits, at most 64 calls or 1 MB, sends it in one write, and takes the
//! next batch when the answers are there. There is no timer: a lone call leaves at once, and under load the batches grow
//! by themselves to what arrives during one round trip.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Settings;
use crate::connection::Link;
use crate::error::Fault;
use crate::value::integer;

const BATCH_CALLS: usize = 64;
const BATCH_BYTES: usize = 1 << 20;
/// Calls that may wait before callers are slowed down.
const BUFFER: usize = 1_024;
/// How long replicas may take for one batch, in milliseconds.
const WAIT_TIMEOUT: u32 = 5_000;

/// How many replicas must have what a connection writes; `None`: nobody asks.
#[derive(Clone, Copy)]
pub(crate) struct Replicas(Option<u32>);

impl Replicas {
    pub(crate) fn needed(settings: &Settings) -> Self {
        Self(settings.wait_for())
    }

    /// The question, behind what was written; they have `timeout` milliseconds.
    pub(crate) fn ask(self, pipeline: &mut Pipeline, timeout: u32) {
        if let Some(replicas) = self.0 {
            pipeline.cmd("WAIT").arg(replicas).arg(timeout);
        }
    }

    /// Takes its answer off. WAIT does not fail: its number must be compared.
    pub(crate) fn have(self, answers: &mut Vec<Result<Value, Fault>>) -> Result<(), Fault> {
        let Some(replicas) = self.0 else { return Ok(()) };
        let confirmed = answers.pop().and_then(Result::ok).and_then(|value| integer(&value)).unwrap_or(0);
        if confirmed >= i64::from(replicas) {
            return Ok(());
        }
        Err(Fault::Unknown(format!("{confirmed} of {replicas} replicas confirmed")))
    }
}

/// A connection with its batches.
pub(crate) struct Lane {
    link: Link,
    calls: mpsc::Sender<Call>,
    /// One reference for the lane, one for each call without an answer.
    pending: Arc<()>,
}

struct Call {
    /// What must have happened before; its own answer is nobody's concern.
    before: Option<Cmd>,
    command: Cmd,
    bytes: usize,
    answer: oneshot::Sender<Result<Value, Fault>>,
}

impl Lane {
    /// Starts the lane. With `replicas`, a batch counts only when that many replicas have it.
    pub(crate) fn start(link: Link, replicas: Option<u32>, shutdown: CancellationToken) -> Self {
        let (calls, queue) = mpsc::channel(BUFFER);
        let worker = Worker { link: link.clone(), replicas: Replicas(replicas), queue };
        tokio::spawn(async move { shutdown.run_until_cancelled(worker.run()).await });
        Self { link, calls, pending: Arc::new(()) }
    }

    /// The connection below.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// How many calls have no answer yet, more or less.
    pub(crate) fn pending(&self) -> usize {
        Arc::strong_count(&self.pending)
    }

    /// Sends one command with the next batch; `bytes` is its rough size.
    pub(crate) async fn call(&self, command: Cmd, bytes: usize) -> Result<Value, Fault> {
        self.send(None, command, bytes).await
    }

    /// Sends a command right behind another, whose success it tells by its own answer.
    pub(crate) async fn call_behind(&self, before: Cmd, command: Cmd, bytes: usize) -> Result<Value, Fault> {
        self.send(Some(before), command, bytes).await
    }

    /// The place is waited for before the call is moved there: while a session waits, its commands are kept once.
    async fn send(&self, before: Option<Cmd>, command: Cmd, bytes: usize) -> Result<Value, Fault> {
        let _pending = self.pending.clone();
        let stopped = || Fault::Refused("shutting down".into());
        let place = self.calls.reserve().await.map_err(|_| stopped())?;
        let (answer, reply) = oneshot::channel();
        place.send(Call { before, command, bytes, answer });
        reply.await.unwrap_or_else(|_| Err(Fault::Unknown("shutting down".into())))
    }
}

struct Worker {
    link: Link,
    replicas: Replicas,
    queue: mpsc::Receiver<Call>,
}

impl Worker {
    async fn run(mut self) {
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(call) => call,
                None => match self.queue.recv().await {
                    Some(call) => call,
                    None => return,
                },
            };
            let mut batch = Batch::default();
            batch.add(first);
            while batch.calls < BATCH_CALLS {
                match self.queue.try_recv() {
                    Ok(call) if batch.bytes + call.bytes > BATCH_BYTES => {
                        held = Some(call);
                        break;
                    }
                    Ok(call) => batch.add(call),
                    Err(_) => break,
                }
            }
            self.send(batch).await;
        }
    }

    async fn send(&self, mut batch: Batch) {
        self.replicas.ask(&mut batch.pipeline, WAIT_TIMEOUT);
        let outcome = self.link.send(&batch.pipeline).await.map(|answers| self.confirm(answers));
        match outcome {
            Ok(values) => {
                for (answer, value) in batch.answers.into_iter().zip(values) {
                    let _ = answer.map(|answer| answer.send(value));
                }
            }
            Err(fault) => {
                for answer in batch.answers.into_iter().flatten() {
                    let _ = answer.send(Err(fault.clone()));
                }
            }
        }
    }

    /// Too few replicas mean that nobody knows what a failover would keep.
    fn confirm(&self, mut values: Vec<Result<Value, Fault>>) -> Vec<Result<Value, Fault>> {
        if let Err(fault) = self.replicas.have(&mut values) {
            for value in values.iter_mut().filter(|value| value.is_ok()) {
                *value = Err(fault.clone());
            }
        }
        values
    }
}

#[derive(Default)]
struct Batch {
    pipeline: Pipeline,
    /// Who waits for the answer to each command, if anybody does.
    answers: Vec<Option<oneshot::Sender<Result<Value, Fault>>>>,
    calls: usize,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, call: Call) {
        if let Some(before) = call.before {
            self.pipeline.add_command(before);
            self.answers.push(None);
        }
        self.pipeline.add_command(call.command);
        self.answers.push(Some(call.answer));
        self.calls += 1;
        self.bytes += call.bytes;
    }
}
