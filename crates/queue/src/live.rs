//! One connection while it lives: commands in, answers out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, Value};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::error::{Fault, Trouble, is_elsewhere, spoils_connection};
use crate::script::load_all;

/// A checked connection with all scripts loaded.
#[derive(Clone)]
pub(crate) struct Live {
    connection: MultiplexedConnection,
    gone: CancellationToken,
    /// Nobody has answered (any longer), or Redis has still to read its data.
    unanswered: Arc<AtomicBool>,
    /// Whose member it is.
    cluster: Option<Arc<Cluster>>,
}

impl Live {
    /// `gone` is cancelled when the connection is lost or spoiled; `cluster` is told of slots that are elsewhere.
    pub(crate) fn new(
        connection: MultiplexedConnection,
        gone: CancellationToken,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        Self { connection, gone, unanswered: Arc::default(), cluster }
    }

    /// Cancelled when it is of no use any longer.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Has nobody answered, so that what comes of a question says nothing about the server?
    pub(crate) fn is_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// What it means that something has come to this over this connection.
    pub(crate) fn complaint(&self, reason: String) -> Trouble {
        if self.is_unanswered() { Trouble::Away(reason) } else { Trouble::Wrong(reason) }
    }

    /// Sends commands in one write; one answer for each. Scripts that Redis has forgotten are loaded and called again, and
    /// WAIT behind them: its first answer is about a time before they ran.
    pub(crate) async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let mut values = self.send_once(pipeline).await?;
        if values.iter().any(is_unknown_script) {
            self.repeat_unknown(pipeline, &mut values).await?;
        }
        Ok(values.into_iter().map(|value| self.judge(value)).collect())
    }

    /// Sends one command.
    pub(crate) async fn ask(&self, command: redis::Cmd) -> Result<Value, Fault> {
        only(self.send(&alone(command)).await?)
    }

    /// The outcome is unknown for all or known for each.
    async fn send_once(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
        if pipeline.is_empty() {
            // The client takes that for an error, and an error for the end of the connection.
            return Ok(Vec::new());
        }
        let mut connection = self.connection.clone();
        let answer = connection.req_packed_commands(pipeline, 0, pipeline.len()).await;
        answer.map_err(|error| {
            self.unanswered.store(true, Ordering::Relaxed);
            self.gone.cancel();
            Fault::from(error)
        })
    }

    async fn repeat_unknown(&self, pipeline: &Pipeline, values: &mut [Value]) -> Result<(), Fault> {
        let waits: Vec<bool> = pipeline.cmd_iter().map(is_wait).collect();
        let again = |index: &usize| is_unknown_script(&values[*index]) || waits.get(*index) == Some(&true);
        let unknown: Vec<usize> = (0..values.len()).filter(again).collect();
        let mut again = Pipeline::new();
        load_all(&mut again);
        let loads = again.len();
        for command in pipeline.cmd_iter().enumerate().filter(|(index, _)| unknown.contains(index)) {
            again.add_command(command.1.clone());
        }
        let answers = self.send_once(&again).await?;
        for (index, answer) in unknown.into_iter().zip(answers.into_iter().skip(loads)) {
            values[index] = answer;
        }
        Ok(())
    }

    fn judge(&self, value: Value) -> Result<Value, Fault> {
        match value {
            Value::ServerError(error) => {
                if error.code() == "LOADING" {
                    self.unanswered.store(true, Ordering::Relaxed);
                }
                match &self.cluster {
                    Some(cluster) if is_elsewhere(error.code()) => cluster.doubt(),
                    _ if spoils_connection(error.code()) => self.gone.cancel(),
                    _ => {}
                }
                Err(Fault::from(&error))
            }
            value => Ok(value),
        }
    }
}

/// A pipeline of one command.
pub(crate) fn alone(command: redis::Cmd) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.add_command(command);
    pipeline
}

/// What that one is answered with.
pub(crate) fn only(mut answers: Vec<Result<Value, Fault>>) -> Result<Value, Fault> {
    answers.pop().unwrap_or_else(|| Err(Fault::Unknown("no answer".into())))
}

fn is_wait(command: &redis::Cmd) -> bool {
    matches!(command.args_iter().next(), Some(redis::Arg::Simple(b"WAIT")))
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
