//! A carrier: one task that claims jobs of a lane, opens a connection to its next hop and sends them.
//!
//! ```text
//! stock (claim jobs) ─▶ connect (look up, dial, greet, TLS) ─▶ converse (many messages) ─┐
//!   ▲                      │ no host left: every job fails                               │
//!   └──────────────────────┴─────────────────────────────────────────────────────────────┘
//! ```
//!
//! It claims the next batch while it sends the current one. It ends when its lane has no work and the connection has
//! been idle for a short while, or when the worker stops.

mod hosts;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use staffetta_dispatch::{Fate, Handle, Progress};
use staffetta_policy::classify::Failure;
use staffetta_policy::tls::Need;
use staffetta_smtp::client;
use staffetta_transport::hop::{NextHop, Router};
use staffetta_transport::itinerary::Round;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use crate::lanes::{Berth, Company, Lane, Work};
use crate::leased::{Leased, Task};
use crate::metrics;
use crate::worker::{Claimed, Worker};

/// Most jobs of one claim.
const MAX_BATCH: usize = 32;
/// Jobs of the first claim.
const FIRST_BATCH: usize = 4;
/// A batch that is sent faster than this is doubled.
const QUICK: Duration = Duration::from_millis(300);
/// A batch that takes longer than this is halved.
const SLOW: Duration = Duration::from_secs(2);

/// A carrier that has carried so many messages, or so long, ends if a lane without a connection waits for one.
const TURN_MESSAGES: u32 = 200;
const TURN: Duration = Duration::from_secs(1);
/// How long the look for a destination's hosts may take; after that its limits are those of the domain alone.
const LOOK_UP: Duration = Duration::from_secs(2);
/// Between looks at whether a server makes progress.
const PULSE: Duration = Duration::from_secs(1);

/// Runs a carrier to its end. It was counted by `Lanes::admit`.
pub(crate) async fn run(worker: Arc<Worker>, lane: Arc<Lane>) {
    let mut berth = Berth::new(worker.clone(), lane.clone());
    let hop = Arc::new(at_its_site(&worker, &lane.hop).await);
    lane.provider.store(Arc::new(metrics::Provider::new(hop.provider())));
    let room = worker.room_at(&hop);
    let Some(company) = berth.join(&hop, room) else { return };
    let mut carrier = Carrier {
        berth,
        company,
        worker,
        hop,
        lane,
        jobs: VecDeque::new(),
        claim: None,
        round: Round::default(),
        progress: Progress::default(),
        room,
        turn: None,
        displaced: false,
        need: Need::Nothing,
        heard: 0,
        carried: 0,
        served: 0,
        batch: FIRST_BATCH,
        batch_began: Instant::now(),
        pulse: pulse(),
    };
    let Some(_slot) = carrier.worker.slots.take(carrier.hop.places(), room).await else {
        return carrier.berth.crowded().await;
    };
    while carrier.stock().await {
        if let Some(connection) = carrier.connect().await {
            carrier.converse(connection).await;
            carrier.berth.hung_up();
        }
        if carrier.turn_is_over() {
            return carrier.give_up().await;
        }
    }
}

/// The next hop with the limits of its destination. Its mail hosts say which that is; the resolver keeps them.
async fn at_its_site(worker: &Worker, hop: &NextHop) -> NextHop {
    let terms = worker.terms.load_full();
    let hosts = match Router::asks_for_hosts(hop) {
        Some(domain) => tokio::time::timeout(LOOK_UP, worker.planner.mail_hosts(domain)).await.unwrap_or_default(),
        None => Vec::new(),
    };
    terms.router.at_its_site(hop, hosts)
}

/// See the [module](self).
pub(crate) struct Carrier {
    pub(crate) worker: Arc<Worker>,
    pub(crate) lane: Arc<Lane>,
    /// That of the lane, with the limits of its destination.
    pub(crate) hop: Arc<NextHop>,
    berth: Berth,
    /// Those who share these limits.
    pub(crate) company: Company,
    /// How many of them there may be, itself included, as it was when it began.
    room: u32,
    /// Start of its turn: its first connection.
    turn: Option<Instant>,
    /// It gives its connection up, for others or because there are too many.
    displaced: bool,
    /// What the connection, or the search for one, is for.
    need: Need,
    /// What operators had said when the stock was last looked through.
    heard: u64,
    /// Messages of this turn.
    pub(crate) carried: u32,
    /// Messages that were taken since the last claim.
    pub(crate) served: u32,
    /// Claimed and not begun.
    pub(crate) jobs: VecDeque<Task>,
    /// A claim under way.
    pub(crate) claim: Option<Claim>,
    /// Hosts that were not tried yet; empty: look up again.
    round: Round,
    /// How far it has come with them.
    progress: Progress,
    batch: usize,
    batch_began: Instant,
    /// Ticks while a server is waited for. One timer for the life of the carrier: arming one for each reply costs.
    pub(crate) pulse: Interval,
}

fn pulse() -> Interval {
    let mut pulse = tokio::time::interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse
}

/// A claim that runs while the carrier does other things.
pub(crate) struct Claim {
    work: Work,
    running: JoinHandle<Claimed>,
}

impl Claim {
    /// Waits for it; for ever, if there is none. Cancel safe.
    pub(crate) async fn ended(claim: &mut Option<Self>) -> Claimed {
        match claim {
            Some(claim) => (&mut claim.running).await.unwrap_or_default(),
            None => std::future::pending().await,
        }
    }
}

impl Carrier {
    /// Sees to it that there are jobs. False: there are none, and the carrier has left its lane.
    async fn stock(&mut self) -> bool {
        while self.jobs.is_empty() {
            self.prefetch();
            if self.claim.is_some() {
                self.claimed().await;
            } else if self.worker.stop.is_cancelled() || self.berth.leave() {
                return false;
            }
        }
        if self.worker.stop.is_cancelled() {
            self.give_up().await;
            return false;
        }
        true
    }

    /// Ends before its work does. A claim under way has leased jobs too.
    async fn give_up(&mut self) {
        if self.claim.is_some() {
            self.claimed().await;
        }
        self.release_all();
    }

    /// Has it had its share while another lane waits for a connection, or must it end anyway?
    pub(crate) fn turn_is_over(&self) -> bool {
        let others_wait = self.worker.lanes.are_starving() || self.company.is_awaited();
        let was_long = || self.carried >= TURN_MESSAGES || self.turn.is_some_and(|since| since.elapsed() >= TURN);
        self.displaced || (others_wait && was_long())
    }

    /// What operators and servers have said since the jobs in stock were claimed: recipients to whom no mail is to be sent get
    /// none, destinations that rest are left alone, and from an address that was taken out nothing more is sent. Where there may be
    /// fewer connections now, all end, and as many come back.
    pub(crate) fn heed(&mut self, from: Option<IpAddr>) {
        let version = self.worker.revocations.version() + self.worker.shaping.version();
        if std::mem::replace(&mut self.heard, version) == version {
            return;
        }
        self.displaced |= self.worker.room_at(&self.hop) < self.room;
        let is_out = from.is_some_and(|address| self.worker.revocations.is_source_suspended(address));
        for mut task in std::mem::take(&mut self.jobs) {
            if is_out || self.worker.suspension(&self.hop, task.job.destination()).is_some() {
                self.release(task);
                continue;
            }
            self.worker.suppress(&mut task, &self.lane);
            if task.attempt.is_done() {
                self.worker.finish(task, &self.lane);
            } else {
                self.jobs.push_back(task);
            }
        }
    }

    /// Starts the next claim when stock runs low and the lane has work.
    pub(crate) fn prefetch(&mut self) {
        let stocked = self.jobs.len() > self.batch / 2;
        if self.claim.is_some() || stocked || self.worker.stop.is_cancelled() || self.turn_is_over() {
            return;
        }
        let served = std::mem::take(&mut self.served);
        let Some((work, jobs)) = self.worker.lanes.take(&self.lane, self.batch, served) else { return };
        let claim = self.worker.clone().claim(self.lane.clone(), self.hop.clone(), work.clone(), jobs);
        let running = self.worker.carriers.spawn(claim);
        self.claim = Some(Claim { work, running });
    }

    /// Waits for the claim under way and takes its jobs. Never returns without one. Cancel safe.
    pub(crate) async fn claimed(&mut self) {
        let claimed = Claim::ended(&mut self.claim).await;
        self.take(claimed);
    }

    /// The claim under way has brought this.
    pub(crate) fn take(&mut self, claimed: Claimed) {
        let Some(Claim { work, .. }) = self.claim.take() else { return };
        if claimed.full {
            self.worker.go_on(&self.lane, &work);
            self.adapt();
        }
        self.jobs.extend(claimed.tasks);
    }

    /// Small batches for slow servers, so that other connections get their share; large ones for fast servers.
    fn adapt(&mut self) {
        let took = self.batch_began.elapsed();
        self.batch_began = Instant::now();
        if took < QUICK {
            self.batch = (self.batch * 2).min(MAX_BATCH);
        } else if took > SLOW {
            self.batch = (self.batch / 2).max(1);
        }
    }

    /// Every job in stock meets this failure.
    pub(crate) fn fail_all(&mut self, failure: &Failure) {
        for task in std::mem::take(&mut self.jobs) {
            self.fail(task, failure);
        }
    }

    /// What is left of one job meets this failure.
    pub(crate) fn fail(&self, task: Task, failure: &Failure) {
        let fate = self.fate_of(failure, &task);
        self.fail_with(task, &fate);
    }

    fn fail_with(&self, task: Task, fate: &Fate) {
        self.worker.fail(task, &self.lane, fate);
    }

    /// A server has said why it does not take this message, if it has said anything.
    pub(crate) fn weigh(&self, failure: &client::Failure, job: &Leased) {
        if let Some(reply) = failure.reply() {
            self.worker.weigh(&self.hop, job, reply);
        }
    }

    /// Gives every job in stock back as if it had not been claimed; what has results is settled with them.
    pub(crate) fn release_all(&mut self) {
        for task in std::mem::take(&mut self.jobs) {
            self.release(task);
        }
    }

    /// Another carrier found out in the meantime that nobody can be reached.
    fn release_resting(&mut self) {
        if self.worker.lanes.rests(&self.lane) {
            let (fresh, begun) =
                std::mem::take(&mut self.jobs).into_iter().partition(|task: &Task| task.attempt.is_untouched());
            self.jobs = begun;
            VecDeque::into_iter(fresh).for_each(|task| self.release(task));
        }
    }

    /// One job back into the queue.
    pub(crate) fn release(&self, mut task: Task) {
        if task.attempt.is_untouched() {
            return self.worker.settler.release(task.job);
        }
        // Some transactions of a large job are done, or another host put it off; the rest goes on later.
        task.attempt.interrupt(&self.worker.rules(), Instant::now());
        let reason = Failure::Local { reason: "delivery was interrupted".to_owned() };
        self.fail(task, &reason);
    }
}
