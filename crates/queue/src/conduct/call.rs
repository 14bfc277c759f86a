//! COUNT: what was seen of one login, and what Redis says of it then. The names of all keys.

use redis::{Cmd, Value};
use staffetta_policy::conduct::{Counts, Signal, Step};

use super::LIFE;
use super::table::Seen;
use crate::error::Fault;
use crate::op::unexpected;
use crate::script::{self, Arg};
use crate::value;

/// Logins of a top: beyond it those go that have done least.
const ROOM: u64 = 10_000;

/// What is told of one login.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// As sessions spell it.
    pub(super) login: Box<str>,
    /// As [`crate::login_key`] does.
    pub(super) key: String,
    /// In which hour the pod believes to be.
    pub(super) hour: u64,
    /// Higher than that of each call before.
    pub(super) number: u64,
    pub(super) seen: Seen,
}

/// What Redis has answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It is counted; the login's counts of this hour, and the steps that were taken.
    Now { counts: Counts, taken: Vec<(Signal, Step)> },
    /// It is another hour: nothing was counted.
    Elsewhen,
}

impl Call {
    /// The key of the login's counts.
    pub(super) fn record(&self) -> String {
        record(self.hour, &self.key)
    }

    /// `pod`: the field of this pod.
    pub(super) fn command(&self, pod: &str) -> Cmd {
        let counted: Vec<(Signal, u64)> = self.seen.amounts.each().filter(|(_, amount)| *amount > 0).collect();
        let domains: Vec<[u8; 8]> = self.seen.domains.iter().map(|digest| digest.to_be_bytes()).collect();
        let ranked = counted.iter().map(|(signal, _)| *signal).chain((!domains.is_empty()).then_some(Signal::Domains));
        let tops: Vec<String> = ranked.map(|signal| top(self.hour, signal)).collect();
        let fields: Vec<Arg<'_>> = counted.iter().map(|(signal, _)| signal.name().into()).collect();
        let amounts: Vec<Arg<'_>> = counted.iter().map(|(_, amount)| (*amount).into()).collect();
        let domains: Vec<Arg<'_>> = domains.iter().map(|digest| digest[..].into()).collect();
        script::Count {
            login: &self.record(),
            seen: &format!("{{A}}domains:{}:{}", self.hour, self.key),
            tops: &tops,
            hour: self.hour.into(),
            name: self.key.as_str().into(),
            pod: pod.into(),
            number: self.number.into(),
            room: ROOM.into(),
            life: LIFE.into(),
            fields: &fields,
            amounts: &amounts,
            domains: &domains,
        }
        .call()
    }
}

impl Counted {
    pub(super) fn read(answer: &Value) -> Result<Self, Fault> {
        match value::array(answer) {
            [_] => Ok(Self::Elsewhen),
            [_, fields] => {
                let (counts, taken) = read(fields);
                Ok(Self::Now { counts, taken })
            }
            _ => Err(unexpected("count", answer)),
        }
    }
}

/// The counts of a login as they lie in Redis, and the steps that were taken; other fields are overlooked.
pub(super) fn read(fields: &Value) -> (Counts, Vec<(Signal, Step)>) {
    let (mut counts, mut taken) = (Counts::default(), Vec::new());
    let mut note = |name: &Value, count: &Value| {
        let name = value::str(name).unwrap_or_default();
        let (name, step) = name.split_once(':').map_or((name, None), |(signal, step)| (signal, Some(step)));
        let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.name() == name) else { return };
        if let Some(name) = step {
            let step = Step::ALL.into_iter().find(|step| step.name() == name);
            taken.extend(step.map(|step| (signal, step)));
        } else {
            counts[signal] = value::count(count);
        }
    };
    match fields {
        Value::Map(pairs) => pairs.iter().for_each(|(name, count)| note(name, count)),
        flat => value::array(flat).chunks_exact(2).for_each(|pair| note(&pair[0], &pair[1])),
    }
    (counts, taken)
}

/// The key of a login's counts in an hour.
pub(super) fn record(hour: u64, login: &str) -> String {
    format!("{{A}}login:{hour}:{login}")
}

/// The key of those who have done most of it.
pub(super) fn top(hour: u64, signal: Signal) -> String {
    format!("{{A}}top:{hour}:{}", signal.name())
}

/// The field that says that a step was taken.
pub(super) fn field_of(signal: Signal, step: Step) -> String {
    format!("{}:{}", signal.name(), step.name())
}

/// Asks how many have done so much, or more.
pub(super) fn over(hour: u64, signal: Signal, threshold: u64) -> Cmd {
    let mut command = Cmd::new();
    command.arg("ZCOUNT").arg(top(hour, signal)).arg(threshold).arg("+inf");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_steps_are_read_and_what_a_newer_program_has_added_is_overlooked() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let words = ["pod:0011", "7", "messages", "12", "messages:notify", "1", "bounces:hold", "1", "complaints", "3"];
        let flat = Value::Array(words.map(text).into());
        let map = Value::Map(words.chunks(2).map(|pair| (text(pair[0]), text(pair[1]))).collect());
        let expected =
            (Counts::new([12, 0, 0, 0, 0, 0]), vec![(Signal::Messages, Step::Notify), (Signal::Bounces, Step::Hold)]);
        assert_eq!((read(&flat), read(&map)), (expected.clone(), expected));
        assert_eq!(Counted::read(&Value::Array(vec![Value::Int(9)])), Ok(Counted::Elsewhen));
        assert!(Counted::read(&Value::Nil).is_err());
    }
}
