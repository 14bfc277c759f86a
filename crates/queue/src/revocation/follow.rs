//! Reads the journal, for ever: one connection that waits for the next entry, and says once a second that it still does.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::block::Block;
use super::known::{Blocks, Change, Known, Position};
use super::target::Target;
use super::{BLOCKS, HOLD, Hearing, JOURNAL, REVOKE, SILENCE};
use crate::address::Address;
use crate::connection;
use crate::error::{Error, Fault, Trouble};
use crate::gate;
use crate::live::Live;
use crate::metrics;
use crate::outage::Witness;
use crate::partition::REGISTRY;
use crate::value;

/// How long Redis holds the question back when there is nothing new.
const WAIT: Duration = Duration::from_secs(1);
/// A connection that does not answer within this time is given up.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries read at a time, and blocks.
const PAGE: usize = 1_000;
/// Short: no mail is taken until it is read on.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// How long it takes to ask again what Redis does not allow to ask. Its operator may be waiting for it.
const BARRED: Duration = Duration::from_secs(2);

/// One pod's reader.
pub(super) struct Follower {
    address: Address,
    /// Whose pod it is.
    name: String,
    known: Arc<Known>,
    hearing: watch::Sender<Hearing>,
    /// In a cluster another server says whose it is, and is asked once.
    is_ours: AtomicBool,
}

/// Why reading has ended.
pub(super) enum End {
    /// The connection is of no use; another may be.
    Lost(Trouble),
    /// Redis forbids it (NOPERM), or is another cluster's: only an operator can help.
    Barred(String),
}

impl End {
    pub(super) fn reason(self) -> String {
        match self {
            Self::Lost(trouble) => trouble.into(),
            Self::Barred(reason) => reason,
        }
    }

    /// What it means to have come over this connection.
    fn over(self, live: &Live) -> Self {
        let not_followed = |reason: String| format!("revocations cannot be followed: {reason}");
        match self {
            Self::Lost(trouble) if live.is_unanswered() => Self::Lost(Trouble::Away(trouble.into())),
            Self::Lost(trouble) => Self::Lost(Trouble::Wrong(not_followed(trouble.into()))),
            Self::Barred(reason) => Self::Barred(not_followed(reason)),
        }
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Forbidden(text) => Self::Barred(text),
            fault => Self::Lost(Trouble::Wrong(fault.to_string())),
        }
    }
}

impl Follower {
    pub(super) fn new(address: &Address, name: String, known: Arc<Known>, hearing: watch::Sender<Hearing>) -> Self {
        Self { address: address.of_key(JOURNAL), name, known, hearing, is_ours: AtomicBool::new(false) }
    }

    async fn look_whose(&self, live: &Live) -> Result<(), End> {
        if self.address.cluster().is_some() && self.is_ours.load(Ordering::Relaxed) {
            return Ok(());
        }
        is_ours(&self.address, live, &self.name).await?;
        self.is_ours.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Does once what it does.
    pub(super) async fn try_once(&self) -> Result<(), Error> {
        let opened = connection::open(&self.address, RESPONSE_TIMEOUT).await;
        let live = opened.map_err(|trouble| Error::Unavailable(trouble.into()))?;
        let outcome = async {
            self.look_whose(&live).await?;
            self.begin(&live).await?;
            self.read_on(&live, self.known.place().unwrap_or_default(), Duration::from_millis(1)).await
        };
        let says =
            |end: End| Error::Settings(format!("the journal of revocations cannot be followed: {}", end.reason()));
        outcome.await.map_err(says)
    }

    pub(super) async fn run(self) {
        let mut pause = BACK_OFF.0;
        let mut witness = Witness::of(&self.address);
        loop {
            let end = match connection::open(&self.address, RESPONSE_TIMEOUT).await {
                Ok(live) => {
                    let Err(end) = self.follow(&live, &mut witness).await;
                    pause = BACK_OFF.0;
                    end.over(&live)
                }
                Err(trouble) => End::Lost(trouble),
            };
            let (hearing, trouble, rest) = match end {
                End::Lost(trouble) => {
                    let rest = pause.mul_f64(rand::random_range(0.5..1.0));
                    (self.without_a_word(*self.hearing.borrow()), trouble, rest)
                }
                End::Barred(reason) => (Hearing::Barred, Trouble::Wrong(reason), BARRED),
            };
            metrics::revocations_current().set(if matches!(hearing, Hearing::Heard(_)) { 1.0 } else { 0.0 });
            witness.lost(&trouble);
            self.hearing.send_replace(hearing);
            tokio::time::sleep(rest).await;
            pause = BACK_OFF.1.min(pause * 2);
        }
    }

    /// In a cluster mail goes on at the other servers, and nobody can be blocked before the journal has its primary again. So
    /// what was heard last counts until the silence is too long, as with a connection that hangs.
    fn without_a_word(&self, last: Hearing) -> Hearing {
        match last {
            Hearing::Heard(at) if self.address.cluster().is_some() && at.elapsed() < SILENCE => last,
            _ => Hearing::Away,
        }
    }

    async fn follow(&self, live: &Live, witness: &mut Witness) -> Result<Infallible, End> {
        self.look_whose(live).await?;
        loop {
            match self.known.place() {
                None => self.begin(live).await?,
                Some(place) => self.read_on(live, place, WAIT).await?,
            }
            witness.found();
        }
    }

    /// The end of the journal first, then all blocks: what changes meanwhile is read afterwards, and is no harm twice.
    async fn begin(&self, live: &Live) -> Result<(), End> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("TIME");
        pipeline.cmd("ROLE");
        pipeline.cmd("XREVRANGE").arg(JOURNAL).arg("+").arg("-").arg("COUNT").arg(1);
        let [time, role, last] = answers(live, &pipeline).await?;
        self.check(&time, &role)?;
        let place = entries(&last?).next().map_or(Ok(Position::default()), |(place, _)| place)?;
        let mut blocks = Blocks::default();
        each_block(live, |target, block| blocks.put(target, block)).await?;
        self.known.begin(place, blocks);
        self.heard();
        Ok(())
    }

    /// What comes behind this place, as soon as there is something, for so long. The entry at the place must be there still: a Redis that
    /// was emptied or replaced does not have it.
    async fn read_on(&self, live: &Live, place: Position, wait: Duration) -> Result<(), End> {
        let at = place.to_string();
        let mut pipeline = Pipeline::new();
        pipeline.cmd("TIME");
        pipeline.cmd("ROLE");
        pipeline.cmd("XRANGE").arg(JOURNAL).arg(&at).arg(&at);
        pipeline.cmd("XREAD").arg("COUNT").arg(PAGE).arg("BLOCK").arg(wait.as_millis() as u64);
        pipeline.arg("STREAMS").arg(JOURNAL).arg(&at);
        let [time, role, here, news] = answers(live, &pipeline).await?;
        self.check(&time, &role)?;
        if place != Position::default() && entries(&here?).next().is_none() {
            return self.begin_anew(live).await;
        }
        let mut last = place;
        for (place, fields) in entries(of_journal(&news?)) {
            let place = place?;
            if field(fields, "after").and_then(|after| after.parse().ok()) != Some(last) {
                return self.begin_anew(live).await;
            }
            let (what, change) = change(fields);
            metrics::revocation(what).increment(1);
            self.known.apply(place, change);
            last = place;
        }
        self.heard();
        Ok(())
    }

    async fn begin_anew(&self, live: &Live) -> Result<(), End> {
        tracing::warn!("the journal of revocations has a gap: every login is asked again");
        metrics::revocation_gaps().increment(1);
        self.begin(live).await
    }

    /// A server that is no primary (any longer) would be silent for ever.
    fn check(&self, time: &Result<Value, Fault>, role: &Result<Value, Fault>) -> Result<(), End> {
        if let Ok(Some(now)) = time.as_ref().map(value::time) {
            self.known.tick(now);
        }
        match role.as_ref().ok().and_then(|role| value::array(role).first()).and_then(value::str) {
            Some("master") | None => Ok(()),
            Some(role) => Err(End::Lost(Trouble::Wrong(format!("its role is {role}")))),
        }
    }

    fn heard(&self) {
        metrics::revocations_current().set(1.0);
        for (kind, counts) in self.known.counts() {
            for (by, count) in metrics::BY.into_iter().zip(counts) {
                metrics::blocks(kind, by).set(u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        self.hearing.send_replace(Hearing::Heard(Instant::now()));
    }
}

/// Is it our cluster's Redis? One that has no queue, or does not allow to see whose it is, may be. `live` leads to the address;
/// in a Redis Cluster the registry is at a server of its own.
pub(super) async fn is_ours(address: &Address, live: &Live, name: &str) -> Result<(), End> {
    let mut command = Cmd::new();
    command.arg("HGET").arg(REGISTRY).arg("name");
    let named = match address.cluster() {
        None => live.ask(command).await,
        Some(_) => {
            let home = connection::open(&address.of_key(REGISTRY), RESPONSE_TIMEOUT).await.map_err(End::Lost)?;
            home.ask(command).await
        }
    };
    let named = match named {
        Err(Fault::Forbidden(_)) => return Ok(()),
        named => named?,
    };
    gate::is_ours(value::str(&named), name).map_err(End::Barred)
}

/// One answer for each command.
async fn answers<const N: usize>(live: &Live, pipeline: &Pipeline) -> Result<[Result<Value, Fault>; N], End> {
    let answers = live.send(pipeline).await?;
    answers.try_into().map_err(|_| End::Lost(Trouble::Wrong("an answer is missing".to_owned())))
}

/// All blocks that are written down, page by page.
pub(super) async fn each_block(live: &Live, mut visit: impl FnMut(Target, Block)) -> Result<(), Fault> {
    let mut cursor = 0u64;
    loop {
        let mut command = Cmd::new();
        command.arg("HSCAN").arg(BLOCKS).arg(cursor).arg("COUNT").arg(PAGE);
        let page = live.ask(command).await?;
        let [next, fields] = value::array(&page) else { return Err(Fault::Unknown(format!("{page:?}"))) };
        for pair in value::array(fields).chunks_exact(2) {
            let Some(target) = value::str(&pair[0]).and_then(Target::parse) else { continue };
            if let Some(block) = value::str(&pair[1]).and_then(|text| Block::parse(&target, text)) {
                visit(target, block);
            }
        }
        cursor = value::integer(next).and_then(|next| u64::try_from(next).ok()).unwrap_or(0);
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Of what XREAD answers, in either protocol; nothing new is nothing.
fn of_journal(news: &Value) -> &Value {
    match news {
        Value::Map(streams) => streams.first().map_or(&Value::Nil, |(_, entries)| entries),
        streams => value::array(streams).first().and_then(|stream| value::array(stream).get(1)).unwrap_or(&Value::Nil),
    }
}

/// Places and fields.
fn entries(entries: &Value) -> impl Iterator<Item = (Result<Position, Fault>, &[Value])> {
    value::array(entries).iter().map(|entry| match value::array(entry) {
        [place, fields] => {
            let read = value::str(place).and_then(|place| place.parse().ok());
            (read.ok_or_else(|| Fault::Unknown(format!("{place:?} is no place"))), value::array(fields))
        }
        _ => (Err(Fault::Unknown(format!("{entry:?} is no entry"))), &[][..]),
    })
}

fn field<'a>(fields: &'a [Value], name: &str) -> Option<&'a str> {
    let pair = fields.chunks_exact(2).find(|pair| value::str(&pair[0]) == Some(name))?;
    value::str(&pair[1])
}

/// What an entry says, and its label.
fn change(fields: &[Value]) -> (&'static str, Change) {
    let target = field(fields, "of").and_then(Target::parse);
    match (field(fields, "what"), target) {
        (Some(REVOKE), Some(Target::Login(login))) => (REVOKE, Change::Revoked(login)),
        (Some(HOLD), Some(Target::Login(login))) => (HOLD, Change::Held(login)),
        (Some("block"), Some(target)) => match field(fields, "block").and_then(|text| Block::parse(&target, text)) {
            Some(block) => ("block", Change::Blocked(target, block)),
            None => ("unknown", Change::Unknown),
        },
        (Some("unblock"), Some(target)) => ("unblock", Change::Unblocked(target)),
        _ => ("unknown", Change::Unknown),
    }
}
