//! Leases as the queue has them and as workers believe.

use super::*;

impl Sim {
    /// Leases that nobody renewed are free after their time.
    pub(super) fn reclaim(&mut self) {
        for job in &mut self.jobs {
            if job.lease.is_some_and(|(_, ends)| ends <= self.now) {
                (job.lease, job.due) = (None, self.now);
            }
        }
        self.at(self.now + seconds(5), Event::Reclaim);
    }

    /// A worker renews what is older than a quarter of the term.
    pub(super) fn keep(&mut self, worker: usize) {
        if self.workers[worker].dead {
            return;
        }
        let aging = |(token, (_, ends)): (&u64, &(usize, Option<Duration>))| {
            ends.is_some_and(|ends| ends < self.now + LEASE * 3 / 4).then_some(*token)
        };
        let aging: Vec<u64> = self.workers[worker].held.iter().filter_map(aging).collect();
        aging.into_iter().for_each(|token| self.renew(worker, token));
        self.at(self.now + LEASE / 8, Event::Renew(worker));
    }

    fn renew(&mut self, worker: usize, token: u64) {
        if self.jitter() * 100.0 < self.leases.lost as f64 {
            return;
        }
        let (now, term) = (self.now, self.leases.term);
        let Some((at, ends)) = self.workers[worker].held.get_mut(&token) else { return };
        let lease = self.jobs[*at].lease.as_mut().filter(|lease| lease.0 == token);
        *ends = lease.map(|lease| {
            lease.1 = now + term;
            now + LEASE
        });
    }

    /// Is a lease good for as long as a final dot takes, as far as the worker can know?
    pub(super) fn is_secure(&mut self, worker: usize, token: u64) -> bool {
        let safe = |sim: &Self| sim.workers[worker].held.get(&token).and_then(|held| held.1);
        if safe(self).is_none_or(|ends| ends < self.now + SAFETY) {
            self.renew(worker, token);
        }
        safe(self).is_some_and(|ends| ends >= self.now + SAFETY)
    }

    /// Whoever holds this token is the one to say what becomes of the job.
    pub(super) fn surrender(&mut self, worker: usize, job: &Job) -> bool {
        self.workers[worker].held.remove(&job.token);
        let queued = &mut self.jobs[job.at];
        let ours = queued.lease.is_some_and(|lease| lease.0 == job.token);
        assert!(ours || self.leases.term < LEASE || self.leases.lost > 0, "settled without a lease");
        if ours {
            queued.lease = None;
        }
        ours
    }

    pub(super) fn work(&self, at: usize) -> Work<usize> {
        Work { partition: self.jobs[at].partition, destination: self.jobs[at].destination }
    }

    pub(super) fn is_due(&self, at: usize) -> bool {
        let job = &self.jobs[at];
        let parked = self.parked.get(&self.work(at)).is_some_and(|until| *until > self.now);
        !job.remaining.is_empty() && job.lease.is_none() && job.due <= self.now && !parked
    }
}
