//! A fleet of workers in virtual time: one queue with leases, a few workers that are shells of the core, and hosts that
//! do what servers do. Nothing sleeps; days pass in milliseconds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use staffetta_dispatch::{
    Advice, Attempt, Backoffs, Conversation, Course, Facts, Fate, Handle, Limits, Next, Pool, Refused, Rules, Seen,
    Task, Work, decide,
};
use staffetta_mail::{Address, Envelope, Recipient, RemoteReply, ReversePath};
use staffetta_policy::classify::{Failure, Peer};
use staffetta_policy::schedule::Schedule;
use staffetta_policy::tls::{Label, Security, Trust};
use staffetta_smtp::client::{self, Outcome, Report, Stage, TransactionId};

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// How long a lease lasts that nobody renews.
pub(crate) const LEASE: Duration = seconds(120);
/// Connections of a worker.
pub(crate) const CONNECTIONS: usize = 20;
const QUANTUM: usize = 4;
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
}

/// A job in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) destination: usize,
    pub(crate) arrived: Duration,
    pub(crate) due: Duration,
    /// Held by this worker.
    pub(crate) lease: Option<(usize, u64)>,
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
}

struct Carrier {
    lane: usize,
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
    dead: bool,
}

/// See the module.
pub(crate) struct Sim {
    pub(crate) now: Duration,
    start: Instant,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    pub(crate) jobs: Vec<Queued>,
    parked: BTreeMap<usize, Duration>,
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
    pub(crate) fn new(hosts: &[Host], workers: usize) -> Self {
        let worker = |_| Worker {
            pool: Pool::new(CONNECTIONS),
            backoffs: Backoffs::default(),
            carriers: BTreeMap::new(),
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
            hosts: hosts.to_vec(),
            lies,
            workers: (0..workers).map(worker).collect(),
            rules: Rules { schedule, delay_warning: None, back_off: seconds(300), doubt: seconds(660) },
            noise: 1,
            dialled: vec![0; hosts.len()],
            living: vec![0; hosts.len()],
        };
        (0..workers).for_each(|worker| sim.at(Duration::ZERO, Event::Poll(worker)));
        sim.at(seconds(5), Event::Reclaim);
        sim
    }

    pub(crate) fn send(&mut self, destination: usize, recipients: u32) {
        let count = recipients as usize;
        self.jobs.push(Queued {
            destination,
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
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= end) && !self.is_drained() {
            let Some(Reverse((at, _, event))) = self.events.pop() else { return };
            self.now = at;
            match event {
                Event::Poll(worker) => self.poll(worker),
                Event::Go(worker, carrier) => self.go(worker, carrier),
                Event::Kill(worker) => {
                    self.workers[worker].dead = true;
                    let carriers = std::mem::take(&mut self.workers[worker].carriers);
                    carriers.values().filter(|c| c.live).for_each(|c| self.living[c.lane] -= 1);
                }
                Event::Reclaim => self.reclaim(),
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

    /// Leases of workers that died are free after their time.
    fn reclaim(&mut self) {
        for job in &mut self.jobs {
            if job.lease.is_some_and(|(worker, until)| self.workers[worker].dead && seconds(until) <= self.now) {
                job.lease = None;
                job.due = self.now;
            }
        }
        self.at(self.now + seconds(5), Event::Reclaim);
    }

    fn is_due(&self, job: &Queued) -> bool {
        let parked = self.parked.get(&job.destination).is_some_and(|until| *until > self.now);
        !job.remaining.is_empty() && job.lease.is_none() && job.due <= self.now && !parked
    }

    fn poll(&mut self, worker: usize) {
        if self.workers[worker].dead {
            return;
        }
        for destination in 0..self.hosts.len() {
            if self.jobs.iter().any(|job| job.destination == destination && self.is_due(job)) {
                let work = Work { partition: 0, destination };
                self.workers[worker].pool.put(&destination, &work, || (destination, 20));
            }
        }
        self.admit(worker);
        let next = self.next_due().clamp(self.now + seconds(1), self.now + seconds(30));
        self.at(next, Event::Poll(worker));
    }

    /// When the next job is due that nobody has.
    fn next_due(&self) -> Duration {
        let free = self.jobs.iter().filter(|job| !job.remaining.is_empty() && job.lease.is_none());
        let due = free.map(|job| job.due.max(self.parked.get(&job.destination).copied().unwrap_or_default()));
        due.min().unwrap_or(Duration::MAX)
    }

    fn admit(&mut self, worker: usize) {
        while let Some(lane) = self.workers[worker].pool.admit() {
            self.sequence += 1;
            let (jobs, talk) = (VecDeque::new(), None);
            let carrier = Carrier { lane, jobs, talk, under_way: None, live: false, began: None, connecting: None };
            let number = self.sequence;
            self.workers[worker].carriers.insert(number, carrier);
            self.at(self.now, Event::Go(worker, number));
        }
    }

    /// One step of a carrier.
    fn go(&mut self, worker: usize, number: u64) {
        let Some(mut carrier) = self.workers[worker].carriers.remove(&number) else { return };
        let next = if let Some((began, end)) = carrier.connecting {
            self.setting_up(worker, &mut carrier, began, end)
        } else if carrier.talk.is_some() {
            self.reported(worker, &mut carrier)
        } else {
            self.stocked(worker, &mut carrier)
        };
        if let Some(after) = next {
            self.workers[worker].carriers.insert(number, carrier);
            self.at(self.now + after, Event::Go(worker, number));
        }
        self.admit(worker);
    }

    /// Claims until there are jobs. `None`: it has left.
    fn stocked(&mut self, worker: usize, carrier: &mut Carrier) -> Option<Duration> {
        while carrier.jobs.is_empty() {
            if !self.claim(worker, carrier) && self.workers[worker].pool.leave(&carrier.lane) {
                return None;
            }
        }
        if self.workers[worker].backoffs.holds(&carrier.lane, self.instant()) {
            self.release(carrier);
            return Some(Duration::ZERO);
        }
        let takes = match self.hosts[carrier.lane] {
            Host::Silent => seconds(300),
            Host::Late(time) => time,
            _ => Duration::from_millis(50),
        };
        carrier.connecting = Some((self.now, self.now + takes));
        self.dialled[carrier.lane] += 1;
        Some(takes.min(seconds(1)))
    }

    /// Looks now and then whether somebody else needs the connection more.
    fn setting_up(&mut self, worker: usize, carrier: &mut Carrier, began: Duration, end: Duration) -> Option<Duration> {
        if self.now >= end {
            return self.connected(worker, carrier);
        }
        let pool = &mut self.workers[worker].pool;
        if pool.must_yield(&carrier.lane, self.now - began) {
            pool.give_up(&carrier.lane, [Work { partition: 0, destination: carrier.lane }]);
            self.release(carrier);
            self.workers[worker].pool.resign(&carrier.lane);
            return None;
        }
        let look = if self.now - began < seconds(10) { 1 } else { 10 };
        Some(seconds(look).min(end - self.now))
    }

    /// False: the lane gives nothing.
    fn claim(&mut self, worker: usize, carrier: &mut Carrier) -> bool {
        let Some((work, grant)) = self.workers[worker].pool.take(&carrier.lane, QUANTUM) else { return false };
        let now = self.instant();
        match self.workers[worker].backoffs.advise(&carrier.lane, &work, now) {
            Advice::Claim | Advice::Probe => {}
            Advice::Park(rest) => {
                self.parked.insert(work.destination, self.now + rest);
                return true;
            }
            Advice::Wait => return true,
        }
        let due: Vec<_> = (0..self.jobs.len())
            .filter(|&at| self.jobs[at].destination == work.destination && self.is_due(&self.jobs[at]))
            .take(grant)
            .collect();
        if due.len() == grant {
            self.workers[worker].pool.put(&carrier.lane, &work, || (work.destination, 20));
        }
        for at in due {
            let jitter = self.jitter();
            let job = &mut self.jobs[at];
            job.longest_wait = job.longest_wait.max(self.now - job.due);
            job.lease = Some((worker, (self.now + LEASE).as_secs()));
            let age = self.now - job.arrived;
            let facts = Facts {
                age,
                left: LIFE.saturating_sub(age),
                claimed: now,
                attempts: job.attempts,
                delay_noticed: false,
                jitter,
            };
            let handle =
                Job { envelope: envelope(job.taken.len()), at, destination: format!("d{}.test", job.destination) };
            carrier.jobs.push_back(Task { job: handle, attempt: Attempt::new(facts, job.remaining.iter().copied()) });
        }
        true
    }

    fn release(&mut self, carrier: &mut Carrier) {
        for task in carrier.jobs.drain(..) {
            assert!(task.attempt.is_untouched(), "only what was not attempted goes back uncounted");
            self.jobs[task.job.at].lease = None;
        }
    }

    fn connected(&mut self, worker: usize, carrier: &mut Carrier) -> Option<Duration> {
        carrier.connecting = None;
        let lane = carrier.lane;
        let refusal = match self.hosts[lane] {
            Host::Down(from, to) if (from..to).contains(&self.now) => {
                Some(Failure::Connect { peer: peer(), reason: "Connection refused".to_owned() })
            }
            Host::Silent => Some(session(client::Failure::TimedOut { stage: Stage::Greeting })),
            Host::Limiting(most) if self.living[lane] >= most => Some(session(said(Stage::Greeting, 421))),
            Host::Easing(_, most, until) if self.now < until && self.living[lane] >= most => {
                Some(session(said(Stage::Greeting, 421)))
            }
            _ => None,
        };
        let pool = &mut self.workers[worker].pool;
        let Some(failure) = refusal else {
            pool.greeted(&lane);
            self.living[lane] += 1;
            carrier.live = true;
            carrier.began.get_or_insert(self.now);
            for work in self.workers[worker].backoffs.end(&lane) {
                self.parked.remove(&work.destination);
            }
            carrier.talk = Some(Conversation::default());
            return self.submit(worker, carrier);
        };
        match pool.refused(&lane) {
            Refused::Enough => self.release(carrier),
            Refused::Dead => self.fail_all(worker, carrier, &failure),
        }
        Some(Duration::ZERO)
    }

    fn submit(&mut self, worker: usize, carrier: &mut Carrier) -> Option<Duration> {
        let lane = carrier.lane;
        let turn_is_over =
            self.workers[worker].pool.is_starving() && carrier.began.is_some_and(|began| self.now - began >= TURN);
        if !turn_is_over && carrier.jobs.is_empty() {
            self.claim(worker, carrier);
        }
        let limits = Limits { recipients: 100, messages: if turn_is_over { 0 } else { 1000 } };
        let talk = carrier.talk.as_mut()?;
        match talk.next(&mut carrier.jobs, &in_clear(), limits, |_| true, self.start + self.now) {
            Next::Submit(id, _) => {
                let at = talk.task(id).map(|task| task.job.at)?;
                assert_eq!(self.jobs[at].lease.map(|lease| lease.0), Some(worker), "sent without a lease");
                // Alive, and so renewed.
                self.jobs[at].lease = Some((worker, (self.now + LEASE).as_secs()));
                carrier.under_way = Some(id);
                Some(match self.hosts[lane] {
                    Host::Slow(time) | Host::Easing(time, ..) => time,
                    _ => Duration::from_millis(20),
                })
            }
            Next::Disown(_) => None,
            Next::Nothing => self.hang_up(worker, carrier, None, turn_is_over),
        }
    }

    fn hang_up(
        &mut self,
        worker: usize,
        carrier: &mut Carrier,
        failure: Option<client::Failure>,
        end: bool,
    ) -> Option<Duration> {
        self.living[carrier.lane] -= 1;
        carrier.live = false;
        self.workers[worker].pool.hung_up(&carrier.lane);
        let ended = carrier.talk.take()?.end(failure, false);
        for task in ended.stock.into_iter().rev() {
            carrier.jobs.push_front(task);
        }
        if let Course::Fail(failure) = ended.course {
            self.fail_all(worker, carrier, &session(failure));
        }
        if end {
            self.release(carrier);
            self.workers[worker].pool.resign(&carrier.lane);
            return None;
        }
        Some(Duration::ZERO)
    }

    /// What the host says to the message under way.
    fn reported(&mut self, worker: usize, carrier: &mut Carrier) -> Option<Duration> {
        let (Some(id), Some(talk)) = (carrier.under_way.take(), carrier.talk.as_mut()) else { return None };
        let at = talk.task(id).map(|task| task.job.at)?;
        let count = talk.submitted();
        let lane = carrier.lane;
        let open: Vec<u32> = self.jobs[at].remaining.clone();
        let mut closing = None;
        let age = self.now - self.jobs[at].arrived;
        let outcomes: Vec<Outcome> = match self.hosts[lane] {
            Host::Rude => return self.hang_up(worker, carrier, Some(said(Stage::Idle, 421)), false),
            Host::Rationing(most) if count > most => {
                closing = Some(said(Stage::Mail, 421));
                open.iter().map(|_| Outcome::Failed(said(Stage::Mail, 421))).collect()
            }
            Host::Greylisting(until) if age < until => {
                open.iter().map(|_| Outcome::Failed(said(Stage::Rcpt, 450))).collect()
            }
            Host::Lying(_) if self.lies[lane] > 0 => {
                self.lies[lane] -= 1;
                self.take(at, &open);
                closing = Some(client::Failure::TimedOut { stage: Stage::Final });
                open.iter().map(|_| Outcome::Failed(client::Failure::TimedOut { stage: Stage::Final })).collect()
            }
            Host::Picky => {
                let (odd, even): (Vec<u32>, Vec<u32>) = open.iter().partition(|index| **index % 2 == 1);
                self.take(at, &even);
                let reply = |index: &u32| if odd.contains(index) { no(550) } else { ok() };
                open.iter().map(reply).collect()
            }
            _ => {
                self.take(at, &open);
                open.iter().map(|_| ok()).collect()
            }
        };
        let talk = carrier.talk.as_mut()?;
        let seen = Seen { peer: &peer, other_host: false, rules: &self.rules, now: self.start + self.now };
        let done = talk.on_report(id, Report { outcomes, dsn_passed_on: false }, &seen, |_, _, _| {});
        if let Some(task) = done {
            self.workers[worker].pool.served(&lane, 1);
            self.settle(worker, lane, task);
        }
        match closing {
            Some(failure) => self.hang_up(worker, carrier, Some(failure), false),
            None => self.submit(worker, carrier),
        }
    }

    fn take(&mut self, at: usize, recipients: &[u32]) {
        recipients.iter().for_each(|index| self.jobs[at].taken[*index as usize] += 1);
    }

    fn fail_all(&mut self, worker: usize, carrier: &mut Carrier, failure: &Failure) {
        for mut task in std::mem::take(&mut carrier.jobs) {
            task.attempt.fail_rest(&Fate::of(failure, "x.test"));
            self.settle(worker, carrier.lane, task);
        }
    }

    fn settle(&mut self, worker: usize, lane: usize, task: Task<Job>) {
        let now = self.instant();
        let at = task.job.at;
        let plan = decide(task.attempt, &task.job.envelope, &self.rules, now).unwrap();
        let destination = self.jobs[at].destination;
        if let Some(rest) = plan.back_off {
            let work = Work { partition: 0, destination };
            self.workers[worker].backoffs.begin(lane, work, rest, now);
            self.parked.insert(destination, self.now + rest);
        }
        let job = &mut self.jobs[at];
        assert_eq!(job.lease.map(|lease| lease.0), Some(worker), "settled without a lease");
        job.lease = None;
        job.attempts += 1;
        job.doubtful += plan.doubtful;
        for index in &plan.delivered {
            job.ends[*index as usize].push(End::Delivered);
        }
        for (index, _) in &plan.failed {
            job.ends[*index as usize].push(End::Failed);
        }
        job.due = self.now + plan.after.min((job.arrived + LIFE).saturating_sub(self.now));
        job.remaining = plan.remaining;
    }
}

fn envelope(recipients: usize) -> Envelope {
    let address = |text: &str| Address::parse(text).unwrap();
    Envelope::new(
        ReversePath::Address(address("a@b.test")),
        (0..recipients).map(|i| Recipient::new(address(&format!("r{i}@x.test")))).collect(),
    )
}

fn in_clear() -> Security {
    Security { starttls: client::Tls::Off, trust: Trust::Any, fallback: false, label: Label::None }
}

fn peer() -> Peer {
    Peer { host: "mx.test".to_owned(), address: [192, 0, 2, 1].into(), port: 25 }
}

fn session(failure: client::Failure) -> Failure {
    Failure::Session { peer: peer(), failure }
}

fn said(stage: Stage, code: u16) -> client::Failure {
    client::Failure::Reply { stage, reply: reply(code) }
}

fn reply(code: u16) -> RemoteReply {
    RemoteReply { code, status: None, text: "as scripted".to_owned() }
}

fn no(code: u16) -> Outcome {
    Outcome::Failed(said(Stage::Rcpt, code))
}

fn ok() -> Outcome {
    Outcome::Delivered(reply(250))
}
