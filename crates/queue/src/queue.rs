//! The handle that services hold.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;
use staffetta_mail::QueueId;
use staffetta_policy::conduct::Ladder;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::guess;
use crate::incoming::CHUNK;
use crate::inquiry::{PATIENCE, ask_one};
use crate::op::note;
use crate::packing::unpack;
use crate::partition::REGISTRY;
use crate::revocation::{self, By, Held};
use crate::shared::Shared;
use crate::spool::{PIECE, Spool, UNSET};
use crate::value;
use crate::{
    Act, Body, Budget, Chunks, Codec, Conduct, Counts, Curb, Deleted, Destination, EnqueueError, Entry, Error, Filter,
    Finding, Guesses, HardBounces, Headcount, Health, Incoming, Job, KeptPolicies, KeptTokens, Lease, Limiter, Moved,
    Offer, Page, Payer, Rate, Reckoning, Records, Settings, Settled, Settlement, Target, TlsCounts, UnixMillis,
    Verifications, Verified, Wakes,
};

/// How often [`Queue::ready`] looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long parts of a cluster are waited for when others are there.
const PARTS: Duration = Duration::from_secs(3);

/// The queue. Cheap to clone; all clones share connections.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    /// Starts the connections, which go on in the background until `shutdown`; never waits for Redis. Needs a running
    /// tokio runtime. Cancel `shutdown` after the last use, not when a drain begins: it ends what is under way.
    ///
    /// # Errors
    /// [`Error::Settings`] only.
    pub fn open(settings: Settings, shutdown: CancellationToken) -> Result<Self, Error> {
        Ok(Self { shared: Shared::open(settings, shutdown)? })
    }

    /// May it be used now? Never blocks.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Is Redis so far beyond its `maxmemory` that reports must wait? At the last look.
    pub fn is_overdrawn(&self) -> bool {
        self.shared.nodes().any(|node| node.memory().is_overdrawn())
    }

    /// Waits until every kind of operation can be used, or the time is over; [`Health::Full`] counts as usable. A part of a
    /// cluster that stays away is not waited for longer than some seconds.
    ///
    /// # Errors
    /// The reason why it is down.
    pub async fn ready(&self, timeout: Duration) -> Result<(), Error> {
        let (begin, end) = (Instant::now(), Instant::now() + timeout);
        loop {
            let admins = self.shared.nodes().map(|node| node.admin.trouble());
            let health = match admins.min_by_key(Option::is_some).flatten() {
                Some(reason) => Health::Down(reason),
                None => self.health(),
            };
            match health {
                Health::Ready | Health::Full if begin.elapsed() > PARTS || self.shared.is_whole() => return Ok(()),
                Health::Ready | Health::Full if Instant::now() >= end => return Ok(()),
                Health::Ready | Health::Full => tokio::time::sleep(LOOK).await,
                Health::Down(reason) if Instant::now() >= end => {
                    return Err(Error::Unavailable(reason.to_string()));
                }
                Health::Down(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// How many partitions there are, as far as is known: each must be offered from and reclaimed. More may come while
    /// the queue is open.
    pub fn partitions(&self) -> u16 {
        self.shared.count.known()
    }

    /// Partitions whose server cannot be asked now, each with the reason: in a cluster others may be there.
    pub fn away(&self) -> Vec<(u16, Arc<str>)> {
        self.shared.away()
    }

    /// Starts to listen for mail that comes into partitions which had nothing due, in the background as long as the queue is
    /// open.
    ///
    /// # Errors
    /// [`Error::Settings`] only.
    pub fn wakes(&self) -> Result<Wakes, Error> {
        Ok(Wakes::listen(self.shared.address().clone(), self.shared.shutdown.clone()))
    }

    /// Makes an id (so the trace field can name it) and a place for the body.
    ///
    /// # Errors
    /// The queue is full or down.
    pub fn receive(&self) -> Result<Incoming, EnqueueError> {
        Incoming::new(self.shared.clone(), None)
    }

    /// The same for a message that comes in from outside: what it takes before it is queued is on this account.
    ///
    /// # Errors
    /// The queue is full or down.
    pub fn receive_for(&self, budget: &Arc<Budget>, payer: Payer) -> Result<Incoming, EnqueueError> {
        Incoming::new(self.shared.clone(), Some(budget.purse(payer)))
    }

    /// Destinations with work now.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn offer(&self, partition: u16, limit: usize) -> Result<Offer, Error> {
        self.shared.offer(partition, limit).await
    }

    /// These destinations, which were offered here and are not for this worker, are offered again after this time. A hint:
    /// without it they are after the time of a visit.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn offer_again(&self, work: &[(u16, Destination)], after: Duration) -> Result<(), Error> {
        self.shared.offer_again(work, after).await
    }

    /// Up to `limit` (at most 500) due jobs of a destination, with records and inline bodies. Empty: nothing due.
    ///
    /// # Errors
    /// Redis is away; what was leased comes back when the lease ends.
    pub async fn claim(&self, partition: u16, destination: &Destination, limit: usize) -> Result<Vec<Job>, Error> {
        self.shared.claim(partition, destination, limit).await
    }

    /// Other due jobs of the message of `job`, to destinations that are `wanted`, with no more than `most` recipients together:
    /// what may travel with it. Empty: there are none, or they are not to be had now.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub async fn accompany(
        &self,
        job: &Job,
        most: usize,
        wanted: impl Fn(&Destination) -> bool,
    ) -> Result<Vec<Job>, Error> {
        self.shared.accompany(job, most, wanted).await
    }

    /// Lets a destination of this partition rest: nothing of it is claimed for so long, unless it is flushed. For what
    /// is known from another partition; a failed attempt says it by [`Settlement::Deferred`]. Zero: it rests no longer.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn park(&self, partition: u16, destination: &Destination, rest: Duration) -> Result<(), Error> {
        self.shared.park(partition, destination, rest).await
    }

    /// One chunk of a body, `0..count`. Asked for again while Redis is away, for some seconds: a transaction whose content
    /// has begun is not given up for the time that a Redis takes to start.
    ///
    /// # Errors
    /// Redis or the store stays away, or the chunk is not there or damaged.
    pub async fn chunk(&self, id: QueueId, chunks: &Chunks, index: u32) -> Result<Bytes, Error> {
        let (stored, largest) = match chunks.place(id) {
            None => (self.shared.chunk(id, index).await?, CHUNK),
            Some(place) => (self.shared.piece(place, index).await?, PIECE),
        };
        match chunks.codec {
            Codec::Plain => Ok(stored),
            Codec::Zstd => unpack(&stored, largest)
                .map_err(|what| Error::Damaged(id, format!("chunk {index} cannot be unpacked: {what}"))),
        }
    }

    /// Why a body that lies here cannot be read now, as far as is known. Never blocks.
    pub fn cannot_read(&self, body: &Body) -> Option<Arc<str>> {
        match body {
            Body::Chunks(chunks) if chunks.kept.is_in_store() => match &self.shared.spool {
                Some(spool) => spool.trouble(),
                None => Some(UNSET.into()),
            },
            _ => None,
        }
    }

    /// Why a new message of this size cannot be kept now, as far as is known: it would go to the store. Never blocks.
    pub fn cannot_keep(&self, size: u64) -> Option<Arc<str>> {
        self.shared.spool.as_ref().filter(|spool| size > spool.limit).and_then(|spool| spool.cannot_write())
    }

    /// The first octets of a message: all of it, or enough for its header section. Of content that is not there any more,
    /// or in a store that is away, nothing but the prefix: a report quotes what there is, for it must be made.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn head(&self, id: QueueId, prefix: &Bytes, body: &Body) -> Result<Bytes, Error> {
        match body {
            Body::Inline(body) => Ok(body.clone()),
            Body::Chunks(chunks) => match self.chunk(id, chunks, 0).await {
                Ok(chunk) if prefix.is_empty() => Ok(chunk),
                Ok(chunk) => Ok([&**prefix, &*chunk].concat().into()),
                Err(Error::Damaged(..) | Error::StoreAway(_)) => Ok(prefix.clone()),
                Err(error) => Err(error),
            },
        }
    }

    /// Extends leases; answers which are still ours, in order.
    ///
    /// # Errors
    /// Redis is away, or a part of it: the leases may or may not be extended.
    pub async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Error> {
        self.shared.renew(leases).await
    }

    /// The same, each for itself: one part of a cluster that is away is no matter for the leases of another.
    pub async fn renew_each(&self, leases: &[Lease]) -> Vec<Result<bool, Error>> {
        self.shared.renew_each(leases).await
    }

    /// An attempt of a job with [`Job::silences`] begins: if this worker goes silent now, the job may be why. False: the
    /// lease is not ours.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn begin(&self, lease: &Lease) -> Result<bool, Error> {
        self.shared.begin(lease).await
    }

    /// Attempts that are cut off on purpose count against no job.
    ///
    /// # Errors
    /// Redis is away: they may count.
    pub async fn excuse(&self, leases: &[Lease]) -> Result<(), Error> {
        self.shared.excuse(leases).await
    }

    /// A job goes back, not attempted, and is not offered before so long.
    ///
    /// # Errors
    /// As for [`Self::settle`].
    pub async fn put_off(&self, lease: &Lease, after: Duration) -> Result<(), Error> {
        self.shared.put_off(lease, after).await
    }

    /// Ends an attempt. Retries by itself while Redis is away, for at most the lease.
    ///
    /// # Errors
    /// Redis was away all the time. After a delivery that means: it will be delivered again.
    pub async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<Settled, Error> {
        self.shared.settle(lease, settlement).await
    }

    /// Takes expired leases back; poison (it went silent in five attempts) goes to held. Lets held jobs go whose message's
    /// life is over. Returns how many. Deletes what is left of messages that are over, too.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn reclaim(&self, partition: u16) -> Result<u64, Error> {
        self.shared.reclaim(partition).await
    }

    /// Moves bodies that have waited in Redis for `spool.offload_after` to the store, in this partition: how many. One worker at a
    /// time does so, for ten seconds at most, and while a worker is there that would not find them nobody does.
    ///
    /// # Errors
    /// Redis or the store is away; what was moved stays moved.
    pub async fn offload(&self, partition: u16) -> Result<u64, Error> {
        self.shared.offload(partition).await
    }

    /// A limit for the whole cluster; all that use the same `scope` share it and must agree on the rate.
    pub fn limiter(&self, scope: &'static str, rate: Rate) -> Limiter {
        Limiter::new(self.shared.clone(), scope, rate)
    }

    /// Blocks somebody for so long, as [`Announcer::block`](crate::Announcer::block) does for operators, whose word stays: false
    /// if a block holds already, or if there are too many.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second; all may be told or not. To tell it twice is no harm.
    pub async fn block(&self, target: &Target, life: Duration, reason: &str) -> Result<bool, Error> {
        let block = revocation::block(target, Some(life), reason, By::Program(Held::Stays));
        Ok(value::count(&ask_one(PATIENCE, &self.shared, block).await?) == 1)
    }

    /// The servers that go by this name get so little for so long, from now on; or for longer, where that was said already. False:
    /// there are too many blocks, or that is no name.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn curb(&self, servers: &str, curb: Curb, life: Duration, reason: &str) -> Result<bool, Error> {
        let Ok(target) = Target::curbed(servers, curb) else { return Ok(false) };
        self.prolong(&target, life, &format!("{curb} {reason}")).await
    }

    /// The temporary replies of these servers that the rule with this key is for are final for so long, from now on; or for
    /// longer, where that was said already. False: there are too many blocks, or these are no names.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn make_final(&self, servers: &str, rule: &str, life: Duration, reason: &str) -> Result<bool, Error> {
        let Ok(target) = Target::bounce(servers, rule) else { return Ok(false) };
        self.prolong(&target, life, reason).await
    }

    async fn prolong(&self, target: &Target, life: Duration, reason: &str) -> Result<bool, Error> {
        let block = revocation::block(target, Some(life), reason, By::Program(Held::Lasts));
        Ok(value::count(&ask_one(PATIENCE, &self.shared, block).await?) == 1)
    }

    /// A recipient's own server has refused it for good: counts it, and suppresses the recipient if it was often enough.
    ///
    /// # Errors
    /// As [`Self::block`]; told twice it counts twice.
    pub async fn hard_bounce(&self, target: &Target, rule: HardBounces, reason: &str) -> Result<Reckoning, Error> {
        let answer = ask_one(PATIENCE, &self.shared, revocation::hard_bounce(target, rule, reason)).await?;
        Ok(value::count(&answer).into())
    }

    /// The limits of guesses at passwords: `auth` of each client, `login` of each login.
    pub fn guesses(&self, per_client: Option<Rate>, per_login: Option<Rate>) -> Guesses {
        let limiter = |scope, rate: Option<Rate>| rate.map(|rate| self.limiter(scope, rate));
        Guesses::new(self.shared.clone(), limiter("auth", per_client), limiter(guess::SCOPE, per_login))
    }

    /// How logins behave, for the whole cluster; one for each pod. `block_for`: how long a login is blocked that has come to
    /// that step.
    pub fn conduct(&self, ladder: Ladder, block_for: Duration) -> Arc<Conduct> {
        Arc::new(Conduct::new(self.shared.clone(), ladder, block_for))
    }

    /// What was counted of logins.
    pub fn records(&self) -> Records {
        Records::new(self.shared.clone())
    }

    /// How many connections clients have, for the whole cluster; one for each pod.
    pub fn headcount(&self) -> Headcount {
        Headcount::new(self.shared.clone())
    }

    /// How many connections workers have to next hops, for the whole cluster; one for each pod.
    pub fn connections(&self) -> Headcount {
        Headcount::of_hops(self.shared.clone())
    }

    /// How many workers there are, with this one, as far as was seen a moment ago.
    pub fn workers(&self) -> u32 {
        self.shared.formats().workers()
    }

    /// What servers said of recipients, for the whole cluster.
    pub fn verifications(&self) -> Verifications {
        Verifications::new(self.shared.clone())
    }

    /// What domains have published about the TLS of their mail, for the whole cluster.
    pub fn policies(&self) -> KeptPolicies {
        KeptPolicies::new(self.shared.clone())
    }

    /// How the TLS of mail went, for the whole cluster.
    pub fn tls_counts(&self) -> TlsCounts {
        TlsCounts::new(self.shared.clone())
    }

    /// What servers want to be shown, for the whole cluster.
    pub fn tokens(&self) -> KeptTokens {
        KeptTokens::new(self.shared.clone())
    }

    /// How many messages of a login are in the queue, of those that were accepted to count for it
    /// ([`Incoming::count_for_login`]).
    ///
    /// # Errors
    /// Redis is away.
    pub async fn depth(&self, login: &str) -> Result<u64, Error> {
        self.shared.depth(login).await
    }

    /// Numbers for the metrics.
    ///
    /// # Errors
    /// Redis is away, or a part of it.
    pub async fn counts(&self) -> Result<Counts, Error> {
        self.shared.counts().await
    }

    /// The same of what is there, for operators who are told what is not ([`Queue::away`]).
    ///
    /// # Errors
    /// All of Redis is away.
    pub async fn counts_of_parts(&self) -> Result<Counts, Error> {
        self.shared.counts_of_parts().await
    }

    /// Notes for the mail log that so many deliveries, which a selection has found, were held, released or flushed.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn note_selection(&self, verb: &str, selection: &str, deliveries: u64) -> Result<(), Error> {
        Ok(self.shared.note_selection(verb, selection, deliveries).await?)
    }

    /// Looks whether every message and every delivery is in its place, and with `repair` puts right what is not; each finding
    /// is told as it is found. Mail may come and go meanwhile. Takes as long as the queue is long, a few seconds for 100,000
    /// messages.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn verify(&self, repair: bool, tell: &mut (dyn FnMut(&Finding) + Send)) -> Result<Verified, Error> {
        self.shared.verify(repair, tell).await
    }

    /// How long Redis takes to answer what costs it nothing; with several servers, the slowest.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn round_trip(&self) -> Result<Duration, Error> {
        self.shared.round_trip().await
    }

    /// At most `limit` messages after `cursor` (opaque, `None` starts), oldest first. A page may be short, or empty,
    /// although more follows. What is in a part of a cluster that is away ([`Queue::away`]) is left out.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn list(&self, filter: &Filter, cursor: Option<String>, limit: usize) -> Result<Page, Error> {
        self.shared.list(filter, cursor, limit).await
    }

    /// One message.
    ///
    /// # Errors
    /// Redis is away, or the record cannot be read: [`Queue::list`] with the id says what is known of it.
    pub async fn entry(&self, id: QueueId) -> Result<Option<Entry>, Error> {
        self.shared.entry(id).await
    }

    /// Makes waiting jobs due now, brings poison back and lifts back-offs; returns how many jobs.
    ///
    /// # Errors
    /// Redis is away; some jobs may have been moved.
    pub async fn flush(&self, filter: &Filter) -> Result<u64, Error> {
        self.shared.flush(filter).await
    }

    /// Takes waiting jobs out of the way until they are released, or until the life of their message is over.
    ///
    /// # Errors
    /// Redis is away; some jobs may have been moved.
    pub async fn hold(&self, filter: &Filter) -> Result<Moved, Error> {
        self.shared.hold(filter).await
    }

    /// Holds what waits of a login that was blocked a moment ago, twice at least: a frontend may take one more message until
    /// it has heard. Workers are told to hold what is under way once its attempt has failed; it stays so long for them. What
    /// is said is how it stands at the end.
    ///
    /// # Errors
    /// As [`Queue::hold`].
    pub async fn hold_blocked(&self, login: &str, patience: Duration) -> Result<Moved, Error> {
        self.shared.hold_blocked(login, patience).await
    }

    /// Makes held jobs due now, those that are held as poison too.
    ///
    /// # Errors
    /// Redis is away; some jobs may have been moved.
    pub async fn release(&self, filter: &Filter) -> Result<Moved, Error> {
        self.shared.release(filter).await
    }

    /// A selection by recipient never means the others of the same delivery: those that it means become a delivery of
    /// their own, where they are. One that is under way stays whole. [`Queue::hold`], [`Queue::release`] and [`Queue::flush`]
    /// do so by themselves.
    ///
    /// # Errors
    /// Redis is away, or a record cannot be read; some may have been separated.
    pub async fn separate(&self, filter: &Filter) -> Result<(), Error> {
        self.shared.separate(filter).await
    }

    /// What is stored of a message, whoever has it now: prefix and body as a worker would get them.
    ///
    /// # Errors
    /// Redis is away, or the record cannot be read.
    pub async fn stored(&self, id: QueueId) -> Result<Option<(Bytes, Body)>, Error> {
        match self.shared.record(id).await? {
            None => Ok(None),
            Some(Ok(record)) => Ok(Some((record.prefix, record.body))),
            Some(Err(error)) => Err(Error::Unreadable(id, error.to_string())),
        }
    }

    /// Deletes some jobs of a message, by their numbers; the message itself when no job would be left.
    ///
    /// # Errors
    /// Redis is away, or the record cannot be read.
    pub async fn delete_jobs(&self, id: QueueId, jobs: &[u16]) -> Result<Deleted, Error> {
        self.shared.delete_jobs(id, jobs).await
    }

    pub(crate) fn spool(&self) -> Option<&Spool> {
        self.shared.spool.as_deref()
    }

    pub(crate) async fn has_store(&self) -> Result<bool, staffetta_store::Fault> {
        self.shared.has_store().await
    }

    /// What the clock of Redis says, by which every time in the queue is meant.
    pub fn now(&self) -> UnixMillis {
        self.shared.home().clock.now()
    }

    /// When the queue was made, in milliseconds since the Unix epoch; `None`: before this was written down.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn created(&self) -> Result<Option<UnixMillis>, Error> {
        let mut command = Cmd::new();
        command.arg("HGET").arg(REGISTRY).arg("created");
        Ok(value::integer(&self.shared.home().admin.ask(command).await?).and_then(|at| u64::try_from(at).ok()))
    }

    /// Deletes a message with all its jobs; nobody is told.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn delete(&self, id: QueueId) -> Result<Deleted, Error> {
        self.shared.delete(id).await
    }

    /// What operators have done in a partition, for the mail log. Who asks must write it down: nobody else gets it.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn acts(&self, partition: u16) -> Result<Vec<Act>, Error> {
        self.shared.take_acts(partition).await
    }

    /// Notes for the mail log that an operator has blocked or unblocked a target.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn note_target(&self, target: &Target, verb: &str, reason: &str) -> Result<(), Error> {
        Ok(self.shared.note_target(target, verb, reason).await?)
    }

    /// Leases a job for an operator, whether it is due, later or held. `None`: a worker has it, or it is over.
    ///
    /// # Errors
    /// Redis is away; what was leased comes back when the lease ends.
    pub async fn take(&self, id: QueueId, job: u16, destination: &Destination) -> Result<Option<Job>, Error> {
        self.shared.take(id, job, destination).await
    }

    /// Notes for the mail log that an operator has bounced these recipients. `ended`: the message is gone with that.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn note_bounced(&self, id: QueueId, ended: bool, recipients: &[&str]) -> Result<(), Error> {
        let note = note(id, "bounced", recipients.iter().copied());
        Ok(self.shared.note_act(id, ended, &note).await?)
    }
}
