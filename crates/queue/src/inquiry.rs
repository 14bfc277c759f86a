//! Questions to Redis for which nobody waits long: what they would tell is worth less than a client's time.

use std::time::Duration;

use redis::{Cmd, Value};

use crate::Error;
use crate::error::Fault;
use crate::shared::{Requests, Shared};
use crate::slot;

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
    let mut requests = Requests::new(shared);
    for command in commands {
        let slot = if shared.table.is_of_many() { slot::of_command(&command) } else { 0 };
        requests.at(slot).add_command(command);
    }
    let late = |_| Err(Fault::Unknown("no answer in time".to_owned()));
    Ok(tokio::time::timeout(patience, shared.ask_each(&requests)).await.unwrap_or_else(late)?)
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
