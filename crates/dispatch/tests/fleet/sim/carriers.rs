//! A worker's carriers: what `services/delivery` does with the core, without sockets.

use super::replies::{envelope, in_clear, no, ok, peer, reply_to, session};
use super::*;

impl Sim {
    /// One step of a carrier.
    pub(super) fn go(&mut self, worker: usize, number: u64) {
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
            self.release(worker, carrier);
            return Some(Duration::ZERO);
        }
        if carrier.candidates.is_empty() {
            carrier.candidates.extend(&self.sites[carrier.lane]);
            carrier.progress = Progress::default();
        }
        Some(self.dial(carrier))
    }

    /// The next host of the round.
    fn dial(&mut self, carrier: &mut Carrier) -> Duration {
        carrier.host = carrier.candidates.pop_front().unwrap_or_default();
        let takes = match self.hosts[carrier.host] {
            Host::Silent => seconds(300),
            Host::Late(time) => time,
            _ => Duration::from_millis(50),
        };
        carrier.connecting = Some((self.now, self.now + takes));
        self.dialled[carrier.host] += 1;
        takes.min(seconds(1))
    }

    /// Looks now and then whether somebody else needs the connection more.
    fn setting_up(&mut self, worker: usize, carrier: &mut Carrier, began: Duration, end: Duration) -> Option<Duration> {
        if self.now >= end {
            return self.connected(worker, carrier);
        }
        if self.workers[worker].pool.must_yield(&carrier.lane, self.now - began) {
            let work: Vec<_> = carrier.jobs.iter().map(|task| self.work(task.job.at)).collect();
            self.workers[worker].pool.give_up(&carrier.lane, work);
            self.release(worker, carrier);
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
        let advice = self.workers[worker].backoffs.advise(&carrier.lane, &work, now);
        match advice {
            Advice::Claim | Advice::Probe => {}
            Advice::Park(rest) => {
                self.parked.insert(work, self.now + rest);
                return true;
            }
            Advice::Wait => return true,
        }
        let due: Vec<_> =
            (0..self.jobs.len()).filter(|&at| self.work(at) == work && self.is_due(at)).take(grant).collect();
        if advice == Advice::Probe && !due.is_empty() {
            // Another worker got through and released them.
            self.workers[worker].backoffs.lift(&carrier.lane, now);
        }
        if due.len() == grant {
            self.workers[worker].pool.put(&carrier.lane, &work, || (work.destination, 20));
        }
        for at in due {
            let jitter = self.jitter();
            self.sequence += 1;
            let token = self.sequence;
            self.workers[worker].held.insert(token, (at, Some(self.now + LEASE)));
            let job = &mut self.jobs[at];
            job.longest_wait = job.longest_wait.max(self.now - job.due);
            job.lease = Some((token, self.now + self.leases.term));
            let age = self.now - job.arrived;
            let facts = Facts {
                age,
                left: LIFE.saturating_sub(age),
                claimed: now,
                attempts: job.attempts,
                delay_noticed: false,
                jitter,
            };
            let handle = Job {
                envelope: envelope(job.taken.len()),
                at,
                token,
                destination: format!("d{}.test", job.destination),
            };
            carrier.jobs.push_back(Task { job: handle, attempt: Attempt::new(facts, job.remaining.iter().copied()) });
        }
        true
    }

    /// Back into the queue; what has got somewhere is settled as it is.
    fn release(&mut self, worker: usize, carrier: &mut Carrier) {
        for mut task in std::mem::take(&mut carrier.jobs) {
            if task.attempt.is_untouched() {
                self.surrender(worker, &task.job);
            } else {
                task.attempt.interrupt(&self.rules, self.instant());
                let reason = Failure::Local { reason: "interrupted".to_owned() };
                task.attempt.fail_rest(&Fate::of(&reason, "x.test"));
                self.settle(worker, carrier.lane, task);
            }
        }
    }

    fn connected(&mut self, worker: usize, carrier: &mut Carrier) -> Option<Duration> {
        carrier.connecting = None;
        let (lane, host) = (carrier.lane, carrier.host);
        let refusal = match self.hosts[host] {
            Host::Down(from, to) if (from..to).contains(&self.now) => {
                Some(Failure::Connect { peer: peer(), reason: "Connection refused".to_owned() })
            }
            Host::Silent => Some(session(client::Failure::TimedOut { stage: Stage::Greeting })),
            Host::Limiting(most) if self.living[host] >= most => Some(session(reply_to(Stage::Greeting, 421))),
            Host::Easing(_, most, until) if self.now < until && self.living[host] >= most => {
                Some(session(reply_to(Stage::Greeting, 421)))
            }
            _ => None,
        };
        if let Some(failure) = &refusal {
            carrier.progress.note(failure);
        }
        let Some(failure) = refusal else {
            self.workers[worker].pool.greeted(&lane);
            self.living[host] += 1;
            carrier.live = true;
            carrier.began.get_or_insert(self.now);
            for work in self.workers[worker].backoffs.end(&lane) {
                self.parked.remove(&work);
            }
            carrier.talk = Some(Conversation::default());
            return self.submit(worker, carrier);
        };
        if !carrier.candidates.is_empty() {
            return Some(self.dial(carrier));
        }
        match self.workers[worker].pool.refused(&lane) {
            Refused::Enough => self.release(worker, carrier),
            Refused::Dead => self.fail_all(worker, carrier, &failure),
        }
        Some(Duration::ZERO)
    }

    fn submit(&mut self, worker: usize, carrier: &mut Carrier) -> Option<Duration> {
        let turn_is_over =
            self.workers[worker].pool.is_starving() && carrier.began.is_some_and(|began| self.now - began >= TURN);
        let put_off = carrier.talk.as_ref().is_some_and(Conversation::has_aside);
        if !turn_is_over && !put_off && carrier.jobs.is_empty() {
            self.claim(worker, carrier);
        }
        let limits = Limits { recipients: 100, messages: if turn_is_over { 0 } else { 1000 } };
        let talk = carrier.talk.as_mut()?;
        let held = &self.workers[worker].held;
        let ours = |job: &Job| held.get(&job.token).is_some_and(|held| held.1.is_some());
        match talk.next(&mut carrier.jobs, &in_clear(), limits, ours, self.start + self.now) {
            Next::Submit(id, _) => {
                let token = talk.task(id).map(|task| task.job.token)?;
                assert!(held[&token].1.is_some(), "begun although the lease is known to be lost");
                carrier.under_way = Some(id);
                Some(match self.hosts[carrier.host] {
                    Host::Slow(time) | Host::Easing(time, ..) => time,
                    _ => Duration::from_millis(20),
                })
            }
            Next::Disown(task) => {
                self.workers[worker].held.remove(&task.job.token);
                self.submit(worker, carrier)
            }
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
        self.living[carrier.host] -= 1;
        carrier.live = false;
        self.workers[worker].pool.hung_up(&carrier.lane);
        let ended = carrier.talk.take()?.end(failure, !carrier.candidates.is_empty());
        for task in ended.stock.into_iter().rev() {
            carrier.jobs.push_front(task);
        }
        // All hosts of a lane are on one way: none is left out.
        if ended.course == Course::NextHost {
            carrier.progress.go_on(ended.said, carrier.candidates.iter().map(|_| 0));
        } else {
            carrier.candidates.clear();
        }
        if let Course::Fail(failure) = ended.course {
            self.fail_all(worker, carrier, &session(failure));
        }
        if end {
            self.release(worker, carrier);
            self.workers[worker].pool.resign(&carrier.lane);
            return None;
        }
        Some(Duration::ZERO)
    }

    /// What the host says to the message under way.
    fn reported(&mut self, worker: usize, carrier: &mut Carrier) -> Option<Duration> {
        let (Some(id), Some(talk)) = (carrier.under_way.take(), carrier.talk.as_mut()) else { return None };
        let parts: Vec<_> = talk.tasks(id).map(|task| (task.job.at, task.job.token)).collect();
        let (count, host, lane) = (talk.submitted(), carrier.host, carrier.lane);
        if parts.iter().any(|(_, token)| !self.is_secure(worker, *token)) {
            // No final dot, so nothing was sent; the connection is of no more use.
            for mut task in carrier.talk.as_mut().map(|talk| talk.take(id)).unwrap_or_default() {
                if self.is_secure(worker, task.job.token) {
                    task.attempt.turn_back();
                    carrier.jobs.push_front(task);
                } else {
                    self.workers[worker].held.remove(&task.job.token);
                }
            }
            return self.hang_up(worker, carrier, None, false);
        }
        if let Host::Rude = self.hosts[host] {
            return self.hang_up(worker, carrier, Some(reply_to(Stage::Idle, 421)), false);
        }
        let lies = self.lies[host] > 0;
        self.lies[host] -= u32::from(lies);
        let closing = match self.hosts[host] {
            Host::Rationing(most) if count > most => Some(reply_to(Stage::Mail, 421)),
            Host::Lying(_) if lies => Some(client::Failure::TimedOut { stage: Stage::Final }),
            _ => None,
        };
        let mut outcomes = Vec::new();
        for (at, token) in parts {
            outcomes.extend(self.said_of(worker, (at, token), host, closing.as_ref()));
        }
        let talk = carrier.talk.as_mut()?;
        let others = carrier.progress.others(carrier.candidates.iter().map(|_| 0));
        let now = self.start + self.now;
        let seen = Seen { peer: &peer, others, final_by: &|_, _, _| None, rules: &self.rules, now };
        let done = talk.on_report(id, Report { outcomes, dsn_passed_on: false }, &seen, |_, _, _| {});
        for task in done {
            self.workers[worker].pool.served(&lane, 1);
            self.settle(worker, lane, task);
        }
        match closing {
            Some(failure) => self.hang_up(worker, carrier, Some(failure), false),
            None => self.submit(worker, carrier),
        }
    }

    /// To the recipients of one job; with `closing` the host ends the connection by it.
    fn said_of(
        &mut self,
        worker: usize,
        (at, token): (usize, u64),
        host: usize,
        closing: Option<&client::Failure>,
    ) -> Vec<Outcome> {
        let open: Vec<u32> = self.jobs[at].remaining.clone();
        let age = self.now - self.jobs[at].arrived;
        match (closing, self.hosts[host]) {
            (Some(failure), _) => {
                if failure.is_ambiguous() {
                    self.take(worker, token, at, &open);
                }
                open.iter().map(|_| Outcome::Failed(failure.clone())).collect()
            }
            (None, Host::Greylisting(until)) if age < until => {
                open.iter().map(|_| Outcome::Failed(reply_to(Stage::Rcpt, 450))).collect()
            }
            (None, Host::Picky) => {
                let (odd, even): (Vec<u32>, Vec<u32>) = open.iter().partition(|index| **index % 2 == 1);
                self.take(worker, token, at, &even);
                let reply = |index: &u32| if odd.contains(index) { no(550) } else { ok() };
                open.iter().map(reply).collect()
            }
            (None, _) => {
                self.take(worker, token, at, &open);
                open.iter().map(|_| ok()).collect()
            }
        }
    }

    fn take(&mut self, worker: usize, token: u64, at: usize, recipients: &[u32]) {
        let believed = self.workers[worker].held.get(&token).and_then(|held| held.1);
        assert!(believed.is_some_and(|ends| ends > self.now), "sent after its lease");
        let honest = self.leases.term >= LEASE && self.leases.lost == 0;
        assert!(!honest || self.jobs[at].lease.is_some_and(|lease| lease.0 == token), "sent without a lease");
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
        let work = self.work(at);
        let plan = decide(task.attempt, &task.job.envelope, &self.rules, now).unwrap();
        if let Some(rest) = plan.back_off {
            self.workers[worker].backoffs.begin(lane, work.clone(), rest, now);
        }
        if !self.surrender(worker, &task.job) {
            return;
        }
        if let Some(rest) = plan.back_off {
            self.parked.insert(work, self.now + rest);
        }
        let job = &mut self.jobs[at];
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
