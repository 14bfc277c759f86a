//! The part of a look that is about what is counted: deliveries beyond the first of each message, and messages of logins.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline};

use super::{Look, Walk};
use crate::Error;
use crate::finding::Problem;
use crate::partition::Partition;
use crate::script;
use crate::value::{self, count};

/// A count may be wrong only because mail moves: it must be wrong by the same number so many times in a row.
const RECOUNTS: usize = 3;

/// By how much more the counters say than there is.
#[derive(Default, PartialEq, Eq)]
struct Miscount {
    beyond: i64,
    /// Those for whom it is wrong.
    logins: BTreeMap<String, i64>,
}

impl Look<'_> {
    /// Compares the counters of a partition with what a walk over its messages has seen.
    pub(super) async fn recount(&mut self, keys: &Partition, walk: Walk) -> Result<(), Error> {
        let mut wrong = self.miscount(keys, walk).await?;
        for _ in 1..RECOUNTS {
            if wrong == Miscount::default() {
                return Ok(());
            }
            let walk = self.walk(keys).await?;
            if self.miscount(keys, walk).await? != wrong {
                wrong = Miscount::default();
            }
        }
        if wrong.beyond != 0 {
            if self.repair {
                let mut command = Cmd::new();
                command.arg("DECRBY").arg(&keys.extra).arg(wrong.beyond);
                self.shared.node(keys.number).admin.ask(command).await?;
            }
            self.found(keys.number, None, Problem::Miscounted, format!("{:+}", wrong.beyond));
        }
        for (login, messages) in wrong.logins {
            if self.repair {
                let (login, fewer) = (login.as_str().into(), messages.to_string());
                let call = script::Uncount { counted: &keys.logins, login, messages: (&*fewer).into() }.call();
                self.shared.node(keys.number).admin.ask(call).await?;
            }
            self.found(keys.number, None, Problem::Misjudged, format!("{login} {messages:+}"));
        }
        Ok(())
    }

    /// What is counted: deliveries beyond the first, and messages.
    pub(super) async fn counted(&self, keys: &Partition) -> Result<(i64, u64), Error> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("GET").arg(&keys.extra);
        pipeline.cmd("ZCARD").arg(&keys.ids);
        let answers = self.shared.node(keys.number).ask_all(&pipeline).await?;
        let beyond = answers.first().and_then(value::integer).unwrap_or(0);
        Ok((beyond, answers.get(1).map_or(0, count)))
    }

    /// Nothing where that is not known: mail came or went during the walk.
    async fn miscount(&self, keys: &Partition, walk: Walk) -> Result<Miscount, Error> {
        let mut logins: BTreeMap<String, i64> = BTreeMap::new();
        let mut cursor = Some("0".to_owned());
        while let Some(from) = cursor {
            let (next, fields) = self.shared.node(keys.number).fields(&keys.logins, &from).await?;
            logins.extend(fields.into_iter().filter_map(|(login, number)| Some((login, number.parse().ok()?))));
            cursor = next;
        }
        for (login, messages) in walk.logins {
            *logins.entry(login).or_default() -= messages;
        }
        logins.retain(|_, more| *more != 0);
        let counted = self.counted(keys).await?;
        let stood_still = counted == walk.counted && counted.1 == walk.messages && walk.unreadable == 0;
        Ok(if stood_still { Miscount { beyond: counted.0 - walk.beyond, logins } } else { Miscount::default() })
    }
}
