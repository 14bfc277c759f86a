//! Which format may be written: the newest that every worker can read.
//!
//! Workers say what they can read, before they take their first job and every few seconds after; who says nothing for
//! half a minute is gone. Who writes looks once a second and takes the least that is said, so an upgrade begins to write a new
//! format when the last old worker is gone, and a downgrade stops it a second after the first one is back. Workers of the
//! time before there was this list say nothing: a queue of that time keeps its format until an operator raises the
//! field `format` of the registry, see docs/operations.md.
//!
//! What a version has learned since its first day has a word behind its number. Programs that know of no words overlook those who
//! say some, and lose nothing by it: whoever says one reads all that they can write.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::watch;

use crate::error::Fault;
use crate::format::OLDEST;
use crate::node::Node;
use crate::partition::{READERS, REGISTRY, REGISTRY_SLOT};
use crate::value;

/// How often is looked at what may be written.
const LOOK: Duration = Duration::from_secs(1);
/// How long something that only a newer format can say waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// How many looks pass between two signs of life.
const SIGN_EVERY: u32 = 5;
/// Who has said nothing for so long is gone, in milliseconds of Redis.
pub(crate) const GONE: u64 = 30_000;

/// What this version has learned since its first day.
#[derive(Clone, Copy)]
pub(crate) enum Word {
    /// It reads pieces of bodies that are frames of zstd.
    Zstd,
    /// It knows for which login a message counts, and that it does no longer when it is over.
    Depth,
    /// It finds bodies that were moved to the store while they waited.
    Offload,
}

impl Word {
    /// As it is said.
    const ALL: [&str; 3] = ["zstd", "depth", "offload"];
    /// The format in whose records it is of use.
    const SINCE: u8 = 2;
}

/// What this process reads and may write.
pub(crate) struct Formats {
    /// The newest format it can read.
    pub(crate) reads: u8,
    /// The format it may write.
    writes: AtomicU8,
    /// Of each word: every worker says it.
    said: [AtomicBool; Word::ALL.len()],
    /// Its name in the list, and what it reads.
    member: String,
    /// It takes jobs, so it is in the list.
    listed: AtomicBool,
    /// How many were in the list at the last look.
    workers: AtomicU32,
    /// Somebody has looked.
    looked: watch::Sender<bool>,
}

impl Formats {
    pub(crate) fn new(reads: u8) -> Self {
        let mut member = format!("{:016x} {reads}", rand::random::<u64>());
        if reads >= Word::SINCE {
            member = format!("{member} {}", Word::ALL.join(" "));
        }
        Self {
            reads,
            writes: AtomicU8::new(OLDEST),
            said: Default::default(),
            member,
            listed: AtomicBool::new(false),
            workers: AtomicU32::new(1),
            looked: watch::Sender::default(),
        }
    }

    /// Does this process take jobs?
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> u32 {
        self.workers.load(Ordering::Relaxed)
    }

    /// Waits until somebody has looked; a moment, then the oldest format it is.
    pub(crate) async fn looked(&self) {
        let mut looked = self.looked.subscribe();
        let _ = tokio::time::timeout(FIRST_LOOK, looked.wait_for(|looked| *looked)).await;
    }

    /// Does every worker say this word? Waits for the first look.
    pub(crate) async fn all_say(&self, word: Word) -> bool {
        self.looked().await;
        self.said[word as usize].load(Ordering::Relaxed)
    }

    /// The format to write now.
    pub(crate) fn writes(&self) -> u8 {
        self.writes.load(Ordering::Relaxed)
    }
}

impl Node {
    /// Says what this worker can read, once, before it takes its first job.
    pub(crate) async fn announce_reader(&self) -> Result<(), Fault> {
        if !self.formats.is_listed() {
            let mut pipeline = Pipeline::new();
            self.say_alive(&mut pipeline);
            self.admin.send(&pipeline).await?;
            self.formats.listed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Looks as long as the process lives.
    pub(crate) async fn watch_readers(&self) {
        let mut looks = 0_u32;
        loop {
            if !self.partitions.has(*REGISTRY_SLOT) {
                tokio::time::sleep(LOOK).await;
            } else if self.admin.trouble().is_none() {
                let sign = looks.is_multiple_of(SIGN_EVERY) && self.formats.is_listed();
                match self.look_at_readers(sign).await {
                    Ok(()) => looks = looks.wrapping_add(1),
                    Err(reason) => tracing::debug!(%reason, "not known which format may be written"),
                }
                tokio::time::sleep(LOOK).await;
            } else {
                self.admin.wait().await;
            }
        }
    }

    pub(crate) async fn look_at_readers(&self, sign: bool) -> Result<(), Fault> {
        let mut pipeline = Pipeline::new();
        if sign {
            self.say_alive(&mut pipeline);
        }
        let since = self.clock.now().saturating_sub(GONE);
        pipeline.cmd("HGET").arg(REGISTRY).arg("format");
        pipeline.cmd("ZRANGEBYSCORE").arg(READERS).arg(since).arg("+inf");
        let mut answers = self.admin.send(&pipeline).await?.into_iter().rev();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let (readers, ceiling) = (next()?, next()?);
        let ceiling = value::integer(&ceiling).and_then(|format| u8::try_from(format).ok()).unwrap_or(OLDEST);
        let others = value::array(&readers).iter().filter_map(value::str).map(Reader::parse);
        let others: Vec<Reader> = others.collect();
        let workers = u32::try_from(value::array(&readers).len()).unwrap_or(u32::MAX);
        self.formats.workers.store(workers.max(1), Ordering::Relaxed);
        let least = others.iter().filter_map(|other| other.reads).min().unwrap_or(u8::MAX);
        let may = ceiling.min(self.formats.reads).min(least).max(OLDEST);
        for (index, word) in Word::ALL.into_iter().enumerate() {
            let all = may >= Word::SINCE && others.iter().all(|other| other.says[index]);
            if self.formats.said[index].swap(all, Ordering::Relaxed) != all {
                tracing::info!(word, all, "what every worker can read has changed");
            }
        }
        if self.formats.writes.swap(may, Ordering::Relaxed) != may {
            tracing::info!(format = may, "records are written in this format from now on");
        }
        self.formats.looked.send_replace(true);
        Ok(())
    }

    fn say_alive(&self, pipeline: &mut Pipeline) {
        let now = self.clock.now();
        pipeline.cmd("ZADD").arg(READERS).arg(now).arg(&self.formats.member);
        pipeline.cmd("ZREMRANGEBYSCORE").arg(READERS).arg("-inf").arg(now.saturating_sub(4 * GONE));
    }
}

/// What a worker can read.
#[derive(Debug, PartialEq, Eq)]
struct Reader {
    reads: Option<u8>,
    /// Which of the words.
    says: [bool; Word::ALL.len()],
}

impl Reader {
    fn parse(member: &str) -> Self {
        let mut words = member.split(' ').skip(1);
        let reads = words.next().and_then(|number| number.parse().ok());
        let mut says = [false; Word::ALL.len()];
        for word in words {
            for (says, known) in says.iter_mut().zip(Word::ALL) {
                *says |= word == known;
            }
        }
        Self { reads, says }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_behind_the_number_are_known_or_left_to_newer_programs() {
        for (member, reads, says) in [
            ("00000000000000aa 1", Some(1), [false; 3]),
            ("00000000000000aa 2", Some(2), [false; 3]),
            ("00000000000000aa 2 zstd", Some(2), [true, false, false]),
            ("00000000000000aa 3 offload other depth zstd more", Some(3), [true, true, true]),
            ("00000000000000aa 2 zstd2", Some(2), [false; 3]),
            ("00000000000000aa x depth", None, [false, true, false]),
            ("zstd", None, [false; 3]),
        ] {
            assert_eq!(Reader::parse(member), Reader { reads, says }, "{member}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_format_is_written_until_somebody_has_looked() {
        let formats = Formats::new(u8::MAX);
        assert_eq!((formats.writes(), formats.all_say(Word::Zstd).await), (OLDEST, false));
    }
}
