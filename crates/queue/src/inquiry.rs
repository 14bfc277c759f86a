//! Questions to Redis for which nobody waits long: what they would tell is worth less than a client's time.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};

use crate::Error;
use crate::error::Fault;
use crate::shared::Shared;

/// Longest wait for an answer, where a greeting does not wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// To one command.
pub(crate) type Answer = Result<Value, Fault>;

/// Asks all of it in one go, an answer for each; nobody waits for longer than [`PATIENCE`].
pub(crate) async fn ask(shared: &Shared, commands: impl IntoIterator<Item = Cmd>) -> Result<Vec<Answer>, Error> {
    ask_within(PATIENCE, shared, commands).await
}

/// The same, with this much patience.
pub(crate) async fn ask_within(
    patience: Duration,
    shared: &Shared,
    commands: impl IntoIterator<Item = Cmd>,
) -> Result<Vec<Answer>, Error> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    if pipeline.is_empty() {
        return Ok(Vec::new());
    }
    let late = |_| Err(Fault::Unknown("no answer in time".to_owned()));
    Ok(tokio::time::timeout(patience, shared.home().admin.send(&pipeline)).await.unwrap_or_else(late)?)
}

/// The next of some answers.
pub(crate) fn next(answers: &mut impl Iterator<Item = Answer>) -> Answer {
    answers.next().unwrap_or_else(|| Err(Fault::Unknown("an answer is missing".to_owned())))
}

/// The answer to one command, within this time.
pub(crate) async fn ask_one(patience: Duration, shared: &Shared, command: Cmd) -> Result<Value, Error> {
    let answers = ask_within(patience, shared, [command]).await?;
    Ok(next(&mut answers.into_iter())?)
}
