//! SPLIT: where an operator means some recipients of a delivery and not the others, they become a delivery of their own, so
//! that it can be held, released, flushed, deleted or bounced without the rest.

use redis::Cmd;
use staffetta_mail::QueueId;

use super::unexpected;
use crate::format::{State, version_of_state};
use crate::record::Record;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;
use crate::{Entry, Error, Filter, JobState, Place};

/// Messages in one page.
const PAGE: usize = 500;

impl Shared {
    /// Afterwards what a filter selects has no other recipients, but for deliveries that are under way.
    pub(crate) async fn separate(&self, filter: &Filter) -> Result<(), Error> {
        if filter.recipient.is_none() {
            return Ok(());
        }
        let mut cursor = None;
        loop {
            let page = self.list(filter, cursor, PAGE).await?;
            for entry in &page.entries {
                let shared = entry.selected(filter).filter(|job| entry.has_others(job, filter));
                // The number of a new job depends on those that there are, so one after the other.
                for job in shared.filter(|job| !matches!(job.place, Place::Leased(_))) {
                    self.split(entry, job, filter).await?;
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Nothing happens if somebody else is faster, or to what cannot be read.
    async fn split(&self, entry: &Entry, job: &JobState, filter: &Filter) -> Result<(), Error> {
        let id = entry.message.id;
        let keys = self.partition(id.partition());
        let state_key = keys.state(id, job.number);
        let Some(was) = self.octets(id, &keys.record(id)).await? else { return Ok(()) };
        let was_state = self.octets(id, &state_key).await?.unwrap_or_default();
        let apart: Vec<u32> = entry.selected_of(job, filter).collect();
        let split = Record::decode(id, &was, self.reads).and_then(|it| it.split(&was, self.reads, job.number, &apart));
        let (Ok(Some((number, octets))), Ok(state)) = (split, State::read(&was_state, self.reads)) else {
            return Ok(());
        };
        let stored = |of_new: bool| {
            let mut octets = was_state.get(..1).unwrap_or_default().to_vec();
            if let Some(mut state) = state.clone() {
                state.remaining.retain(|recipient| apart.contains(recipient) == of_new);
                octets.extend(state.encode(version_of_state(&was_state)));
            }
            octets
        };
        let call = script::Split {
            record: &keys.record(id),
            open: &keys.open_jobs(id),
            extra: &keys.extra,
            held: &keys.held,
            waiting: &keys.waiting(job.destination.as_str()),
            state: &state_key,
            new_state: &keys.state(id, number),
            id: Arg::Id(id),
            job: u64::from(job.number).into(),
            number: u64::from(number).into(),
            was: (&*was).into(),
            octets: octets.as_slice().into(),
            was_state: (&*was_state).into(),
            state_octets: stored(false).as_slice().into(),
            new_state_octets: stored(true).as_slice().into(),
        }
        .call();
        let answer = self.node(id.partition()).admin.ask(call).await?;
        match value::str(&answer) {
            Some("OK" | "CHANGED" | "LEASED") => Ok(()),
            _ => Err(unexpected("split", &answer).into()),
        }
    }

    async fn octets(&self, id: QueueId, key: &str) -> Result<Option<bytes::Bytes>, Error> {
        let mut command = Cmd::new();
        command.arg("GET").arg(key);
        Ok(value::into_bytes(self.node(id.partition()).admin.ask(command).await?))
    }
}
