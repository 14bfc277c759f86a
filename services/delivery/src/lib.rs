//! The delivery worker: takes jobs from the queue, attempts them, settles them; makes bounces and delay notices.
//!
//! ```text
//! poller (one a partition) ─▶ (sorter ─▶) lane (one a next hop) ─▶ carrier (one a connection) ─▶ settler ─▶ queue
//!                                                        │ claims, looks up, connects, converses
//! reclaimer · lease keeper · gauges                      ▼
//!                                                   remote server
//! ```
//!
//! [`run`] is the whole service. Stopping: no new claims, what is being sent is finished and settled, what was not
//! begun goes back into the queue, connections say QUIT; after `delivery.drain_limit` the rest is left to its leases.

mod bounce;
mod carrier;
mod company;
mod connection;
mod converse;
mod form;
mod hard_bounces;
mod keys;
mod lanes;
mod leased;
mod letters;
mod metrics;
mod offload;
mod origin;
mod poller;
mod rate;
mod recent;
mod reclaim;
mod record;
mod renew;
mod seals;
mod settle;
mod shaping;
mod shelf;
mod signing;
mod slots;
mod sorting;
mod strangers;
mod terms;
mod tls_reports;
mod traced;
mod trial;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use staffetta_config::Config;
use staffetta_policy::diagnosis;
use staffetta_queue::{Health, Queue, Revocations, Suppressor};
use staffetta_telemetry::{Readiness, Standing, maillog};
use staffetta_transport::connect::TlsClient;
use staffetta_transport::dns::{DnsSettings, Resolver};
use staffetta_transport::fallback::{BrokenTls, Fallback};
use staffetta_transport::itinerary::Planner;
use staffetta_transport::live::Live;
use staffetta_transport::shutdown::Hangup;
use staffetta_transport::sts::Policies;
use staffetta_transport::token::Tokens;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use bounce::Reporter;
use keys::Keys;
use lanes::Lanes;
use letters::Letters;
use metrics::Metrics;
use origin::Spent;
pub use origin::spent_on;
use recent::Recent;
use renew::Leases;
use settle::{Office, Parcels, Settler};
use shaping::Shaping;
pub use shaping::forget_replies;
use shelf::InRedis;
use signing::Signing;
use slots::{Asked, Slots};
use sorting::Sorting;
use strangers::Strangers;
use terms::Terms;
use tls_reports::TlsReports;
pub use trial::{Closed, Trial};
use worker::{ROOM, Worker};

/// How long Redis may take to hear that what is cut off counts against nobody.
const EXCUSE: Duration = Duration::from_secs(2);

/// Runs the service until `shutdown` is cancelled and the drain is over.
///
/// # Errors
/// What makes a start pointless: the HTTP port is taken, the CA bundle, a DKIM key or the DNS configuration is unreadable,
/// the Redis URL is malformed. Redis or DNS being away is none: the worker waits for them.
///
/// What `config` becomes later holds for what begins then.
pub async fn run(config: impl Into<Live>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let live = config.into();
    let config = live.current();
    let http = TcpListener::bind(config.delivery.http)
        .await
        .with_context(|| format!("cannot listen on {} (delivery.http)", config.delivery.http))?;
    // The queue and the HTTP port outlive the drain.
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let queue = Queue::open((&*config).into(), end.clone()).context("cannot use redis.url")?;
    let (settler, parcels) = Settler::new();
    let keys = Arc::new(Keys::load(&config.delivery.dkim).context("cannot use delivery.dkim")?);
    let revocations = Revocations::follow(&(&*config).into(), end.clone()).context("cannot use redis.url")?;
    let (slots, asked) = Slots::new();
    let stop = shutdown.child_token();
    let worker = Arc::new(worker(&config, queue, settler, slots, keys.clone(), revocations, stop)?);
    if !keys.are_none() {
        tokio::spawn(keys.watch(Hangup::subscribe()?, end.clone()));
    }
    tokio::spawn(staffetta_telemetry::http::serve("delivery", http, readiness(&worker), end.clone()));
    tokio::task::spawn_blocking(diagnosis::prepare);
    tracing::info!(partitions = worker.queue.partitions(), "delivery worker started");
    let terms = worker.terms.clone();
    tokio::spawn(live.clone().follow(move |config| terms.store(Arc::new(Terms::new(config))), end.clone()));
    let worked = work(worker, parcels, asked, &live).await;
    tracing::info!("delivery worker stopped");
    worked
}

/// Starts the tasks and waits for the end of the drain. An error: one of them has ended before, which is a fault of this
/// program; another process does better.
async fn work(worker: Arc<Worker>, parcels: Parcels, asked: Asked, live: &Live) -> anyhow::Result<()> {
    let background = CancellationToken::new();
    let _background = background.clone().drop_guard();
    let mut settling = JoinSet::new();
    settling.spawn(settle_all(worker.clone(), parcels, live.current().hostname.clone()));
    let mut tasks = JoinSet::new();
    let (keeper, keep) = (worker.clone(), background.clone());
    tasks.spawn(async move { keeper.leases.keep(keep).await });
    tasks.spawn(slots::keep(worker.queue.clone(), asked));
    tasks.spawn(reclaim::watch(worker.clone(), background.clone()));
    if live.current().spool.url.is_some() {
        tasks.spawn(offload::watch(worker.clone(), background.clone()));
    }
    let (conduct, end) = (worker.conduct.clone(), background.clone());
    tasks.spawn(
        async move { end.run_until_cancelled(conduct.run(false, maillog::conspicuous)).await.unwrap_or_default() },
    );
    if worker.tls_reports.is_some() {
        let (reporting, end) = (worker.clone(), background.clone());
        tasks.spawn(async move {
            if let Some(reports) = &reporting.tls_reports {
                reports.run(&reporting, end).await;
            }
        });
    }
    // Also where no route names a sender: one may come to do so.
    worker.carriers.spawn(worker.clone().clear_up());
    let mut pollers = JoinSet::new();
    pollers.spawn(poller::poll_all(worker.clone()));
    let outcome = until_stopped(&worker.stop, [&mut settling, &mut tasks, &mut pollers]).await;
    // After a fault the others are told, too.
    worker.stop.cancel();
    let drained = async {
        while pollers.join_next().await.is_some() {}
        worker.carriers.close();
        worker.carriers.wait().await;
        worker.settler.close();
        // Leases are renewed up to here.
        while let Some(ended) = settling.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the settling task failed");
            }
        }
    };
    if tokio::time::timeout(live.current().delivery.drain_limit, drained).await.is_err() {
        tracing::warn!("connections are cut; their messages are delivered by others once the leases end");
        let _ = tokio::time::timeout(EXCUSE, worker.leases.excuse()).await;
    }
    worker.slots.flush().await;
    // What the last seconds have brought.
    worker.conduct.flush(&maillog::conspicuous).await;
    if let Some(reports) = &worker.tls_reports {
        let _ = tokio::time::timeout(EXCUSE, reports.hand_on(&worker)).await;
    }
    outcome
}

/// Waits for `stop`; an error if one of the tasks ends before.
async fn until_stopped(stop: &CancellationToken, tasks: [&mut JoinSet<()>; 3]) -> anyhow::Result<()> {
    let [settling, others, pollers] = tasks;
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        Some(ended) = settling.join_next() => ended,
        Some(ended) = others.join_next() => ended,
        Some(ended) = pollers.join_next() => ended,
    };
    ended.context("a task of the worker panicked")?;
    anyhow::bail!("a task of the worker ended")
}

async fn settle_all(worker: Arc<Worker>, parcels: Parcels, hostname: String) {
    let queue = worker.queue.clone();
    let reporter = Reporter {
        terms: worker.terms.clone(),
        known: queue.verifications(),
        queue: queue.clone(),
        hostname,
        strangers: Strangers::new(&queue, worker.terms.clone()),
    };
    let office = Office {
        queue,
        reporter,
        duplicates: worker.metrics.duplicates.clone(),
        notices: worker.metrics.bounces.clone(),
        revocations: worker.revocations.clone(),
    };
    settle::run(&office, parcels, |held| worker.leases.forget(held)).await;
}

fn worker(
    config: &Config,
    queue: Queue,
    settler: Settler,
    slots: Slots,
    keys: Arc<Keys>,
    revocations: Revocations,
    stop: CancellationToken,
) -> anyhow::Result<Worker> {
    let delivery = &config.delivery;
    // First: the other parts take their handles from the recorder that this describes.
    let metrics = Metrics::new();
    let resolver =
        Resolver::new(&DnsSettings::from(&config.dns)).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    let tls = TlsClient::new(delivery.ca.as_deref()).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    let planner = planner(config, resolver, tls.clone(), &queue);
    let terms = Terms::new(config);
    metrics::declare_providers(&terms.router);
    let terms = terms.into_force();
    let carriers = TaskTracker::new();
    Ok(Worker {
        planner,
        tokens: Tokens::new(tls.clone(), Box::new(InRedis(queue.tokens()))),
        tls,
        sources: delivery.source_addresses.iter().copied().collect(),
        spent: Spent::default(),
        shaping: Shaping::default(),
        inline_limit: config.spool.inline_limit.0,
        signing: Signing::new(keys, terms.clone(), &metrics),
        terms,
        suppressor: Suppressor::new(
            queue.clone(),
            "hard_bounces",
            metrics.suppressions.clone(),
            maillog::suppressed,
            carriers.clone(),
        ),
        metrics,
        conduct: queue.conduct(config.frontend.abuse.ladder(), config.frontend.abuse.block_for),
        revocations,
        leases: Leases::new(queue.clone(), delivery.lease),
        recent: Recent::default(),
        fallback: BrokenTls::default(),
        unchunked: Fallback::default(),
        unscrammed: Fallback::default(),
        tls_reports: TlsReports::new(config, &queue),
        settler,
        slots,
        lanes: Lanes::new(delivery.concurrency.max(1) as usize),
        sorting: Sorting::default(),
        letters: Letters::default(),
        room: Arc::new(Semaphore::new(ROOM)),
        alone: Arc::new(Semaphore::new(1)),
        stop,
        wakes: queue.wakes()?,
        carriers,
        queue,
    })
}

/// The way of mail: where it goes, and what is asked of who takes it. A delivery obeys it, and `staffetta resolve` tells it.
pub fn planner(config: &Config, resolver: Resolver, tls: TlsClient, queue: &Queue) -> Planner {
    let delivery = &config.delivery;
    let planner = Planner::new(config, resolver.clone());
    if !delivery.mta_sts {
        return planner;
    }
    let blocked = staffetta_config::with_translated(&delivery.blocked_networks);
    let shelf = Box::new(InRedis(queue.policies()));
    planner.obeying(Policies::new(resolver, tls, delivery.mta_sts_port, blocked, shelf))
}

/// `/readyz`: may mail be delivered now? What is queued leaves a full queue, too.
fn readiness(worker: &Arc<Worker>) -> Readiness {
    let queue = worker.queue.clone();
    Readiness::new(worker.stop.clone()).needs("redis", move || match queue.health() {
        Health::Down(reason) => Standing::Away(format!("queue: {reason}")),
        Health::Ready | Health::Full => Standing::Up,
    })
}

/// Declares every family of metrics with its series, for docs/metrics.md.
pub fn declare_metrics() {
    metrics::declare();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_goes_on_until_it_is_told_to_stop_or_one_of_its_tasks_ends() {
        async fn outcome(at: usize, task: impl Future<Output = ()> + Send + 'static, stop: bool) -> Option<String> {
            let mut sets = [(); 3].map(|()| JoinSet::new());
            sets.iter_mut().for_each(|set| drop(set.spawn(std::future::pending())));
            sets[at].spawn(task);
            let token = CancellationToken::new();
            if stop {
                token.cancel();
            }
            let [first, second, third] = &mut sets;
            until_stopped(&token, [first, second, third]).await.err().map(|error| error.to_string())
        }
        for at in 0..3 {
            assert_eq!(outcome(at, async {}, false).await.as_deref(), Some("a task of the worker ended"));
            let panics = outcome(at, async { panic!("a fault") }, false).await;
            assert_eq!(panics.as_deref(), Some("a task of the worker panicked"));
            assert_eq!(outcome(at, std::future::pending(), true).await, None);
        }
    }
}
