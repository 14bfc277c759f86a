//! The delivery core in virtual time: a fleet of workers against hosts of every kind, and five days of retries.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sim;

use std::time::Duration;

use proptest::prelude::*;
use sim::{End, Host, LEASE, LIFE, Leases, Queued, Sim, seconds};

/// Everything is settled, and every recipient in exactly one way.
fn accounted(sim: &Sim) {
    for (at, job) in sim.jobs.iter().enumerate() {
        assert!(job.remaining.is_empty() && job.lease.is_none(), "job {at} is not settled: {job:?}");
        for (ends, taken) in job.ends.iter().zip(&job.taken) {
            assert_eq!(ends.len(), 1, "one fate a recipient: {job:?}");
            assert!(*taken > 0 || ends[0] == End::Failed, "delivered to nobody: {job:?}");
        }
    }
}

fn of(sim: &Sim, destination: usize) -> impl Iterator<Item = &Queued> {
    sim.jobs.iter().filter(move |job| job.destination == destination)
}

#[test]
fn five_days_of_retries_end_in_one_failure_and_follow_the_schedule() {
    let mut sim = Sim::new(&[Host::Greylisting(LIFE * 2)], 1);
    sim.send(0, 2);
    sim.run(LIFE + seconds(3600));
    accounted(&sim);
    let job = &sim.jobs[0];
    assert_eq!((&job.ends[0][..], job.taken[0]), (&[End::Failed][..], 0));
    // 5, 5, 10, 20, 40 minutes, then 67, give or take the jitter.
    assert!((100..125).contains(&job.attempts), "{} attempts", job.attempts);
    assert!(sim.now >= LIFE && sim.now < LIFE + seconds(60), "at its end, not later: {:?}", sim.now);
}

#[test]
fn a_host_that_is_down_for_two_days_is_asked_seldom_and_gets_its_mail() {
    let mut sim = Sim::new(&[Host::Down(Duration::ZERO, seconds(2 * 86_400))], 1);
    (0..100).for_each(|_| sim.send(0, 1));
    sim.run(LIFE);
    accounted(&sim);
    assert!(of(&sim, 0).all(|job| job.taken == [1]));
    assert!(sim.dialled[0] < 2 * 86_400 / 300 * 6 / 5, "{} connections", sim.dialled[0]);
}

#[test]
fn a_host_that_takes_three_connections_gets_all_its_mail_through_them() {
    let mut sim = Sim::new(&[Host::Limiting(3)], 1);
    (0..60).for_each(|_| sim.send(0, 1));
    sim.run(seconds(60));
    accounted(&sim);
    assert!(of(&sim, 0).all(|job| job.attempts == 1), "no refusal at set-up counted");
}

#[test]
fn a_host_that_takes_more_connections_later_gets_them_while_the_first_ones_live() {
    let time = Duration::from_millis(500);
    let mut sim = Sim::new(&[Host::Easing(time, 2, seconds(10))], 1);
    (0..1500).for_each(|_| sim.send(0, 1));
    sim.run(seconds(300));
    accounted(&sim);
    // By two connections it would take 375 s.
    assert!(sim.now < seconds(150), "{:?}", sim.now);
}

#[test]
fn a_host_that_ends_connections_after_three_messages_defers_none() {
    let mut sim = Sim::new(&[Host::Rationing(3)], 1);
    (0..40).for_each(|_| sim.send(0, 1));
    sim.run(seconds(60));
    accounted(&sim);
    assert!(of(&sim, 0).all(|job| job.attempts == 1 && job.taken == [1]));
}

#[test]
fn silent_hosts_do_not_starve_the_others() {
    let mut hosts = vec![Host::Silent; 12];
    hosts.extend([Host::Good; 3]);
    let mut sim = Sim::new(&hosts, 1);
    for destination in 0..15 {
        (0..20).for_each(|_| sim.send(destination, 1));
    }
    sim.run(seconds(60));
    assert!(sim.dialled[..12].iter().all(|count| *count == 1), "one for each that has not greeted: {:?}", sim.dialled);
    let slowest = (12..15).flat_map(|good| of(&sim, good)).map(|job| job.longest_wait).max();
    // There are connections for all at once: nobody waits until a silent one is given up.
    assert!(slowest < Some(seconds(1)), "{slowest:?}");
}

#[test]
fn more_silent_hosts_than_connections_do_not_keep_out_one_that_was_never_asked() {
    for silent in [20, 30, 60] {
        let mut hosts = vec![Host::Silent; silent];
        hosts.push(Host::Good);
        let mut sim = Sim::new(&hosts, 1);
        (0..=silent).for_each(|destination| (0..20).for_each(|_| sim.send(destination, 1)));
        sim.run(seconds(60));
        let slowest = of(&sim, silent).map(|job| (job.taken[0], job.longest_wait)).max_by_key(|(_, wait)| *wait);
        // Fifteen may be asked at a time, for two seconds each, and half of them again.
        let share = seconds(4 + 4 * (silent as u64).div_ceil(15));
        assert!(slowest.is_some_and(|(taken, wait)| taken == 1 && wait < share), "{silent}: {slowest:?}");
        let counted = (0..silent).flat_map(|destination| of(&sim, destination)).any(|job| job.attempts > 0);
        assert!(!counted, "what was given up counts against no message");
    }
}

#[test]
fn a_host_that_greets_late_is_waited_for_although_silent_ones_want_its_connection() {
    let mut hosts = vec![Host::Silent; 30];
    hosts.push(Host::Late(seconds(7)));
    let mut sim = Sim::new(&hosts, 1);
    (0..31).for_each(|destination| (0..20).for_each(|_| sim.send(destination, 1)));
    sim.run(seconds(120));
    assert!(of(&sim, 30).all(|job| job.taken == [1] && job.attempts == 1), "{:?}", of(&sim, 30).next());
}

#[test]
fn slow_destinations_take_turns_with_a_third_one() {
    let mut hosts = vec![Host::Slow(Duration::from_millis(400)); 20];
    hosts.push(Host::Good);
    let mut sim = Sim::new(&hosts, 1);
    for destination in 0..20 {
        (0..400).for_each(|_| sim.send(destination, 1));
    }
    sim.run(seconds(20));
    sim.send(20, 1);
    sim.run(seconds(40));
    let waited = of(&sim, 20).next().map(|job| (job.taken.clone(), job.longest_wait));
    assert!(waited.as_ref().is_some_and(|(taken, wait)| *taken == [1] && *wait < seconds(4)), "{waited:?}");
}

#[test]
fn a_late_answer_to_the_dot_is_counted_and_not_tried_again_at_once() {
    let mut sim = Sim::new(&[Host::Lying(1)], 1);
    sim.send(0, 1);
    sim.run(seconds(650));
    assert_eq!((sim.jobs[0].doubtful, &sim.jobs[0].taken[..]), (1, &[1][..]), "the remote is given its time");
    sim.run(seconds(700));
    accounted(&sim);
    assert_eq!(sim.jobs[0].taken, [2]);
}

#[test]
fn a_worker_that_dies_loses_nothing_and_its_jobs_wait_for_the_lease_only() {
    let mut sim = Sim::new(&[Host::Slow(seconds(2))], 2);
    // As many as keep all connections of both busy, and end long before the lease.
    (0..300).for_each(|_| sim.send(0, 1));
    sim.kill(0, seconds(8));
    sim.run(seconds(600));
    accounted(&sim);
    assert!(sim.now < LEASE + seconds(120), "{:?}", sim.now);
    // The one that is left goes on, time after time.
    for _ in 0..5 {
        (0..60).for_each(|_| sim.send(0, 1));
        sim.run(sim.now + seconds(300));
        accounted(&sim);
    }
}

/// One that answers within a minute.
fn soon() -> impl Strategy<Value = Host> {
    prop_oneof![
        Just(Host::Good),
        (1u64..4000).prop_map(|ms| Host::Slow(Duration::from_millis(ms))),
        (1u64..20_000).prop_map(|s| Host::Greylisting(seconds(s))),
        (1u32..6).prop_map(Host::Limiting),
        (1u32..6).prop_map(Host::Rationing),
        (30u64..60).prop_map(|s| Host::Late(seconds(s))),
        Just(Host::Picky),
    ]
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        5 => soon(),
        1 => Just(Host::Silent),
        1 => (1u64..60).prop_map(|s| Host::Late(seconds(s))),
        1 => (0u64..9000, 1u64..90_000).prop_map(|(from, time)| Host::Down(seconds(from), seconds(from + time))),
        1 => (1u32..4).prop_map(Host::Lying),
        1 => Just(Host::Rude),
    ]
}

/// As they should be, or shorter than workers believe, with renewals that get lost.
fn leases() -> impl Strategy<Value = Leases> {
    let lying = (60u64..120, 0u64..10).prop_map(|(term, lost)| Leases { term: seconds(term), lost });
    prop_oneof![Just(Leases::HONEST), lying]
}

/// Hosts and leases. Some leases end while a connection is set up.
fn worlds() -> impl Strategy<Value = (Vec<Vec<Host>>, Leases)> {
    let short = (20u64..45, 0u64..10).prop_map(|(term, lost)| Leases { term: seconds(term), lost });
    prop_oneof![
        (prop::collection::vec(prop::collection::vec(host(), 1..4), 1..12), leases()),
        (prop::collection::vec(prop::collection::vec(soon(), 1..2), 1..12), short),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, max_shrink_time: 60_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every recipient ends in exactly one fate; nothing is begun or sent by a worker that can know that its lease is over
    /// (asserted in the simulation), whatever leases are in truth; who is due at a domain that works waits no longer
    /// than its share, and gets it once while leases are what they say.
    #[test]
    fn whatever_the_hosts_and_leases_do_every_recipient_has_one_fate(
        (sites, leases) in worlds(),
        mails in prop::collection::vec((0usize..12, 1u32..5), 1..80),
        kill in prop::option::of(1u64..100),
    ) {
        let mut sim = Sim::with(&sites, 2, leases);
        for (destination, recipients) in mails {
            sim.send(destination % sites.len(), recipients);
        }
        if let Some(at) = kill {
            sim.kill(0, seconds(at));
        }
        if leases.term < seconds(60) {
            // Shorter than workers renew them: what is sent may never be settled, but nothing may be begun too late.
            sim.run(seconds(600));
            return Ok(());
        }
        sim.run(LIFE + seconds(86_400));
        accounted(&sim);
        let honest = kill.is_none() && leases.term >= LEASE && leases.lost == 0;
        let share = if kill.is_some() { LEASE + seconds(30) } else { seconds(30) };
        for (destination, site) in sites.iter().enumerate() {
            if site.iter().all(|host| matches!(host, Host::Good | Host::Picky | Host::Rationing(_))) {
                for job in of(&sim, destination) {
                    prop_assert!(job.longest_wait < share, "{site:?}: {job:?}");
                    prop_assert!(!honest || job.taken.iter().all(|taken| *taken <= 1), "twice: {job:?}");
                }
            }
        }
    }
}
