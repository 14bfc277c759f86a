//! A fleet of workers in virtual time: one queue with leases, a few workers that are shells of the core, and hosts that
//! do what servers do. Nothing sleeps; days pass in milliseconds.

mod carriers;
mod leases;
mod replies;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use staffetta_dispatch::{
    Advice, Attempt, Backoffs, Conversation, Course, Facts, Fate, Handle, Limits, Next, Pool, Progress, Refused, Rules,
    Seen, Task, Work, decide,
};
use staffetta_mail::{Address, Envelope, Recipient, RemoteReply, ReversePath};
use staffetta_policy::classify::{Failure, Peer};
use staffetta_policy::schedule::Schedule;
use staffetta_policy::tls::{Label, Security, Trust};
use staffetta_policy::verp::Signer;
use staffetta_smtp::client::{self, Outcome, Report, Stage, TransactionId};

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// How long a lease lasts that nobody renews.
pub(crate) const LEASE: Duration = seconds(120);
/// What must be left of it before a final dot, as in the service.
const SAFETY: Duration = seconds(30);
const PARTITIONS: usize = 4;
/// Jobs of a message, about.
const COMPANY: usize = 16;
/// Connections of a worker.
pub(crate) const CONNECTIONS: usize = 20;
const QUANTUM: usize = 4;
/// More steps at one instant than a fleet at work ever takes.
const STANDSTILL: u32 = 100_000;
/// A carrier that had its connection so long ends if others starve, as in the service.
const TURN: Duration = seconds(1);
/// The life of a message.
pub(crate) const LIFE: Duration = seconds(5 * 86_400);

/// What the host of a destination does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Host {
    /// Takes everything at once.
    Good,
    /// Takes this long for each message.
    Slow(Duration),
    /// Puts a recipient off until the message is this old.
    Greylisting(Duration),
    /// Greets the connection after so many living ones with `421`.
    Limiting(u32),
    /// Takes so long for each message, and until this time no more connections than that.
    Easing(Duration, u32, Duration),
    /// Ends a connection with `421` after so many messages.
    Rationing(u32),
    /// Does not greet; noticed after five minutes.
    Silent,
    /// Greets after so long.
    Late(Duration),
    /// Refuses connections from the first time to the second.
    Down(Duration, Duration),
    /// Takes the content and does not answer in time, so many times.
    Lying(u32),
    /// Greets and hangs up.
    Rude,
    /// Refuses the recipient with an odd number for good.
    Picky,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) envelope: Envelope,
    pub(crate) at: usize,
    /// Of its lease.
    token: u64,
    destination: String,
}

impl Handle for Job {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn size(&self) -> u64 {
        1000
    }

    fn destination(&self) -> &str {
        &self.destination
    }

    fn verp(&self) -> Option<&Signer> {
        None
    }

    /// So many that were sent one after the other are of one message.
    fn travels_with(&self, other: &Self) -> bool {
        self.at / COMPANY == other.at / COMPANY
    }
}

/// A job in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) destination: usize,
    pub(crate) partition: u16,
    pub(crate) arrived: Duration,
    pub(crate) due: Duration,
    /// The token of the lease, and when it really ends.
    pub(crate) lease: Option<(u64, Duration)>,
    pub(crate) remaining: Vec<u32>,
    /// By recipient: how often a server took it, and the final state if there is one.
    pub(crate) taken: Vec<u32>,
    pub(crate) ends: Vec<Vec<End>>,
    pub(crate) attempts: u32,
    pub(crate) doubtful: u32,
    pub(crate) longest_wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Failed,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Poll(usize),
    /// A carrier of a worker goes on.
    Go(usize, u64),
    Kill(usize),
    Reclaim,
    Renew(usize),
}

/// How far leases are what workers believe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leases {
    /// How long they last in truth; workers count on [`LEASE`].
    pub(crate) term: Duration,
    /// Renewals of a hundred that get lost.
    pub(crate) lost: u64,
}

impl Leases {
    pub(crate) const HONEST: Self = Self { term: LEASE, lost: 0 };
}

struct Carrier {
    lane: usize,
    /// Hosts that this round has not tried, and the one that it talks to.
    candidates: VecDeque<usize>,
    host: usize,
    progress: Progress,
    jobs: VecDeque<Task<Job>>,
    talk: Option<Conversation<Job>>,
    under_way: Option<TransactionId>,
    live: bool,
    began: Option<Duration>,
    /// A set-up: when it began, and when it will end.
    connecting: Option<(Duration, Duration)>,
}

struct Worker {
    pool: Pool<usize, usize, usize>,
    backoffs: Backoffs<usize, usize>,
    carriers: BTreeMap<u64, Carrier>,
    /// Leases by token: which job, and when it ends as far as the worker knows; `None`: it has passed to somebody else.
    held: BTreeMap<u64, (usize, Option<Duration>)>,
    dead: bool,
}

/// See the module.
pub(crate) struct Sim {
    pub(crate) now: Duration,
    start: Instant,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    pub(crate) jobs: Vec<Queued>,
    parked: BTreeMap<Work<usize>, Duration>,
    /// Of each destination, best first.
    sites: Vec<Vec<usize>>,
    leases: Leases,
    hosts: Vec<Host>,
    lies: Vec<u32>,
    workers: Vec<Worker>,
    rules: Rules,
    noise: u64,
    /// Connections to each host: dialled so far, living now.
    pub(crate) dialled: Vec<u32>,
    living: Vec<u32>,
}

impl Sim {
    /// One host a destination, and leases that are what they say.
    pub(crate) fn new(hosts: &[Host], workers: usize) -> Self {
        Self::with(&hosts.iter().map(|host| vec![*host]).collect::<Vec<_>>(), workers, Leases::HONEST)
    }

    /// A list of hosts for each destination.
    pub(crate) fn with(sites: &[Vec<Host>], workers: usize, leases: Leases) -> Self {
        let hosts: Vec<Host> = sites.iter().flatten().copied().collect();
        let mut number = 0..;
        let sites = sites.iter().map(|site| number.by_ref().take(site.len()).collect()).collect();
        let worker = |_| Worker {
            pool: Pool::new(CONNECTIONS),
            backoffs: Backoffs::default(),
            carriers: BTreeMap::new(),
            held: BTreeMap::new(),
            dead: false,
        };
        let schedule = Schedule { min: seconds(300), max: seconds(4020), lifetime: LIFE };
        let lies = hosts.iter().map(|host| if let Host::Lying(times) = host { *times } else { 0 }).collect();
        let mut sim = Self {
            now: Duration::ZERO,
            start: Instant::now(),
            events: BinaryHeap::new(),
            sequence: 0,
            jobs: Vec::new(),
            parked: BTreeMap::new(),
            sites,
            leases,
            hosts: hosts.clone(),
            lies,
            workers: (0..workers).map(worker).collect(),
            rules: Rules { schedule, delay_warning: None, back_off: seconds(300), doubt: seconds(660) },
            noise: 1,
            dialled: vec![0; hosts.len()],
            living: vec![0; hosts.len()],
        };
        for worker in 0..workers {
            sim.at(Duration::ZERO, Event::Poll(worker));
            sim.at(LEASE / 8, Event::Renew(worker));
        }
        sim.at(seconds(5), Event::Reclaim);
        sim
    }

    pub(crate) fn send(&mut self, destination: usize, recipients: u32) {
        let count = recipients as usize;
        self.jobs.push(Queued {
            destination,
            partition: (self.jobs.len() % PARTITIONS) as u16,
            arrived: self.now,
            due: self.now,
            lease: None,
            remaining: (0..recipients).collect(),
            taken: vec![0; count],
            ends: vec![Vec::new(); count],
            attempts: 0,
            doubtful: 0,
            longest_wait: Duration::ZERO,
        });
    }

    pub(crate) fn kill(&mut self, worker: usize, at: Duration) {
        self.at(at, Event::Kill(worker));
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.jobs.iter().all(|job| job.remaining.is_empty())
    }

    /// Lets time pass until everything is settled, or the end.
    pub(crate) fn run(&mut self, end: Duration) {
        let mut steps = 0;
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= end) && !self.is_drained() {
            let Some(Reverse((at, _, event))) = self.events.pop() else { return };
            steps = if at > self.now { 0 } else { steps + 1 };
            assert!(steps < STANDSTILL, "time stands still at {at:?} with {event:?}");
            self.now = at;
            match event {
                Event::Poll(worker) => self.poll(worker),
                Event::Go(worker, carrier) => self.go(worker, carrier),
                Event::Kill(worker) => {
                    self.workers[worker].dead = true;
                    let carriers = std::mem::take(&mut self.workers[worker].carriers);
                    carriers.values().filter(|c| c.live).for_each(|c| self.living[c.host] -= 1);
                }
                Event::Reclaim => self.reclaim(),
                Event::Renew(worker) => self.keep(worker),
            }
        }
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn jitter(&mut self) -> f64 {
        self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.noise >> 11) as f64 / (1u64 << 53) as f64
    }

    fn poll(&mut self, worker: usize) {
        if self.workers[worker].dead {
            return;
        }
        let due = (0..self.jobs.len()).filter(|at| self.is_due(*at)).map(|at| self.work(at));
        for work in due.collect::<BTreeSet<_>>() {
            self.workers[worker].pool.put(&work.destination, &work, || (work.destination, 20));
        }
        self.admit(worker);
        let next = self.next_due().clamp(self.now + seconds(1), self.now + seconds(30));
        self.at(next, Event::Poll(worker));
    }

    /// When the next job is due that nobody has.
    fn next_due(&self) -> Duration {
        let free =
            (0..self.jobs.len()).filter(|at| !self.jobs[*at].remaining.is_empty() && self.jobs[*at].lease.is_none());
        let due = free.map(|at| self.jobs[at].due.max(self.parked.get(&self.work(at)).copied().unwrap_or_default()));
        due.min().unwrap_or(Duration::MAX)
    }

    fn admit(&mut self, worker: usize) {
        while let Some(lane) = self.workers[worker].pool.admit() {
            self.sequence += 1;
            let (jobs, talk) = (VecDeque::new(), None);
            let (candidates, host) = (VecDeque::new(), 0);
            let carrier = Carrier {
                lane,
                candidates,
                host,
                progress: Progress::default(),
                jobs,
                talk,
                under_way: None,
                live: false,
                began: None,
                connecting: None,
            };
            let number = self.sequence;
            self.workers[worker].carriers.insert(number, carrier);
            self.at(self.now, Event::Go(worker, number));
        }
    }
}
