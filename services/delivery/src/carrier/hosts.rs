//! How a carrier comes to a connection: host by host, address by address, and what it means when none lets it in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use staffetta_dispatch::{Fate, Handle, Others, Progress, Refused, Said};
use staffetta_policy::classify::{Action, Failure, classify};
use staffetta_policy::destination;
use staffetta_policy::tls::Need;
use staffetta_smtp::client::Stage;
use staffetta_transport::hop::Router;
use staffetta_transport::itinerary::{Announced, Candidate};

use super::Carrier;
use crate::connection::{Connection, Opener};
use crate::lanes::Work;
use crate::leased::Task;
use crate::metrics;
use crate::origin::Origin;

impl Carrier {
    /// Opens a connection to the first host that takes one. `None`: the jobs are dealt with.
    pub(super) async fn connect(&mut self) -> Option<Connection> {
        self.release_resting();
        self.heed(None);
        if self.jobs.is_empty() || self.displaced {
            return None;
        }
        let need = self.jobs.front().map_or(Need::Nothing, |task| Need::of(&task.job.message.envelope));
        if std::mem::replace(&mut self.need, need) != need {
            // Hosts that will not do for the one may do for the other.
            self.start_over();
        }
        let (worker, lane) = (self.worker.clone(), self.lane.clone());
        let result = tokio::select! {
            biased;
            () = worker.stop.cancelled() => None,
            result = self.try_hosts() => Some(result),
            () = worker.lanes.out_of_patience(&lane) => {
                self.yield_connection();
                return None;
            }
        };
        match result {
            Some(Ok(connection)) => {
                self.turn.get_or_insert_with(Instant::now);
                self.berth.greeted();
                self.worker.release_hop(&self.lane);
                Some(connection)
            }
            Some(Err(failure)) => {
                self.refused(&failure);
                None
            }
            None => {
                self.release_all();
                None
            }
        }
    }

    /// The set-up is slow and other lanes have no connection: one of them gets this one. Nothing was attempted.
    fn yield_connection(&mut self) {
        tracing::debug!(hop = self.lane.hop.name(), "a slow set-up is given up, others wait for a connection");
        let work = self.jobs.iter().map(|task| Work {
            partition: task.job.held.lease.id.partition(),
            destination: task.job.held.lease.destination.clone(),
        });
        self.berth.give_up(work);
        self.release_all();
        self.displaced = true;
    }

    /// No host lets this carrier in. While another connection lives that is the server's limit, and nobody's fault.
    fn refused(&mut self, failure: &Failure) {
        if self.is_about_need(failure) {
            return self.fail_demanding(failure);
        }
        if let (Failure::Session { failure, .. }, Some(task)) = (failure, self.jobs.front()) {
            self.weigh(failure, &task.job);
        }
        let refused = self.berth.refused();
        let about_mail = classify(failure, &self.lane.hop.name()).action == Action::Bounce;
        match refused {
            Refused::Enough if !about_mail => self.release_all(),
            Refused::Enough | Refused::Dead => self.fail_all(failure),
        }
    }

    /// Is it what the messages at hand need that no host has, while others may be served?
    fn is_about_need(&self, failure: &Failure) -> bool {
        let is_why = match failure {
            Failure::Session { failure, .. } => self.need.is_why(failure),
            Failure::Unproven { .. } => self.need > Need::Waived,
            _ => false,
        };
        let needs_less = |task: &Task| Need::of(&task.job.message.envelope) < self.need;
        is_why && (self.need == Need::AuthenticatedTls || self.jobs.iter().any(needs_less))
    }

    /// No host is good enough for those with this need; the others have nothing to do with it.
    fn fail_demanding(&mut self, failure: &Failure) {
        let demanding = |task: &Task| Need::of(&task.job.message.envelope) == self.need;
        let (met, rest) = std::mem::take(&mut self.jobs).into_iter().partition(demanding);
        self.jobs = rest;
        for task in VecDeque::into_iter(met) {
            let mut fate = self.fate_of(failure, &task);
            if let Fate::Failed(failed) = &mut fate {
                failed.back_off = false;
            }
            self.fail_with(task, &fate);
        }
    }

    /// Host by host, address by address; the last failure counts.
    async fn try_hosts(&mut self) -> Result<Connection, Failure> {
        let started = Instant::now();
        if self.round.is_empty() {
            self.start_over();
            let planned = self.worker.planner.plan(&self.hop, self.need).await;
            let planned = planned.inspect_err(|failure| {
                self.worker.metrics.attempt_failed(metrics::DNS);
                self.note_unproven(None, failure);
            })?;
            self.settle_site(&planned)?;
            self.round = self.worker.planner.round(&self.hop, self.need, planned);
        }
        let found = Instant::now();
        let mut last = Failure::Local { reason: "no address to try".to_owned() };
        while let Some((candidate, published)) = self.round.next().await {
            self.progress.visit(&candidate.host, candidate.way);
            match self.open(&candidate, &published, started).await {
                Ok(mut connection) => {
                    connection.looked_up = Some((started, found));
                    return Ok(connection);
                }
                Err(failure) => last = failure,
            }
            self.progress.note(&last);
            if classify(&last, &self.lane.hop.name()).action != Action::NextHost {
                self.round.clear();
            }
        }
        Err(last)
    }

    /// Hosts of a plan that are not those by which the destination is known, or none was known in time: what is asked of the
    /// destination, and whether it rests, goes by these.
    fn settle_site(&mut self, planned: &[Candidate]) -> Result<(), Failure> {
        let is_known = |candidate: &Candidate| !self.hop.mail_hosts().is_empty() && self.hop.has_host(&candidate.host);
        if Router::asks_for_hosts(&self.hop).is_none() || planned.iter().all(is_known) {
            return Ok(());
        }
        let hosts = destination::normalized(planned.iter().map(|candidate| &*candidate.host));
        self.hop = Arc::new(self.worker.terms.load().router.at_its_site(&self.lane.hop, hosts));
        let domain = self.jobs.front().map_or("", |task| task.job.destination());
        match self.worker.suspension(&self.hop, domain) {
            Some(suspension) => Err(Failure::Suspended { reason: suspension.reason }),
            None => Ok(()),
        }
    }

    /// One address. One of ours that this machine lacks, or that is new and has sent what it may while the connection came about,
    /// leaves it to the others of its pool.
    async fn open(
        &self,
        candidate: &Candidate,
        published: &Announced,
        started: Instant,
    ) -> Result<Connection, Failure> {
        loop {
            let origin = self.worker.origin_for(&self.hop, candidate).await?;
            let opened = self.open_from(&origin, (candidate, published), started).await;
            if let (Err(Failure::NoSource { reason }), Some(address), Some(_)) =
                (&opened, origin.address, &self.hop.pool)
            {
                self.worker.note_absent(address, reason);
                continue;
            }
            let mut connection = opened?;
            let Some(allowance) = origin.allowance else { return Ok(connection) };
            connection.portion = self.worker.portion(allowance).await;
            if connection.portion.is_some() {
                return Ok(connection);
            }
            connection.close().await;
        }
    }

    async fn open_from(
        &self,
        origin: &Origin,
        (candidate, published): (&Candidate, &Announced),
        started: Instant,
    ) -> Result<Connection, Failure> {
        let (worker, timeouts) = (&self.worker, self.worker.timeouts());
        let opener = Opener {
            hop: &self.hop,
            published,
            tls: &worker.tls,
            tokens: &worker.tokens,
            timeouts: &timeouts,
            origin,
            metrics: &worker.metrics,
            fallback: &worker.fallback,
            unchunked: &worker.unchunked,
            unscrammed: &worker.unscrammed,
            revocations: &worker.revocations,
            need: self.need,
            sessions: worker.tls_reports.as_ref().map(|reports| &reports.sessions),
        };
        let unmet = |failure| match failure {
            Failure::Session { peer, failure } => Failure::Session { peer, failure: self.need.unmet(failure) },
            other => other,
        };
        let result = opener.open(candidate, started).await.map_err(unmet);
        result.inspect_err(|failure| self.note_unproven(Some(candidate), failure)).inspect_err(
            |failure| match failure {
                Failure::Session { failure, .. } => worker.metrics.attempt_failed_at(failure.stage()),
                Failure::NoToken { .. } => worker.metrics.attempt_failed_at(Stage::Auth),
                Failure::Unproven { .. } => worker.metrics.attempt_failed_at(Stage::StartTls),
                _ => worker.metrics.attempt_failed(metrics::CONNECT),
            },
        )
    }

    /// For reports on TLS: that no host, or not this one, may be used.
    fn note_unproven(&self, candidate: Option<&Candidate>, failure: &Failure) {
        if let (Some(reports), Failure::Unproven { flaw, reason }) = (&self.worker.tls_reports, failure) {
            reports.sessions.note_unproven((&self.hop, self.need), candidate, *flaw, reason);
        }
    }

    /// The hosts besides the one at hand.
    pub(crate) fn others(&self) -> Others {
        self.progress.others(self.round.ways())
    }

    /// What the host at hand has not taken is for the next one.
    pub(crate) fn go_on(&mut self, said: Said) {
        if let Some(way) = self.progress.go_on(said, self.round.ways()) {
            self.round.leave(way);
        }
    }

    /// What is left of a job meets this failure, the last of the round.
    pub(super) fn fate_of(&self, failure: &Failure, task: &Task) -> Fate {
        Fate::of_last(failure, task.job.destination(), self.others().undecided)
    }

    /// The next connection begins with a fresh look-up.
    pub(crate) fn start_over(&mut self) {
        self.round.clear();
        self.progress = Progress::default();
    }
}
