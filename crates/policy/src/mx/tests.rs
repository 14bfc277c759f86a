//! Tables and properties.

use std::collections::BTreeSet;

use proptest::prelude::*;

use staffetta_mail::tls_report::Flaw;

use super::*;

fn mx(preference: u16, name: &str) -> MxHost {
    MxHost { preference, name: name.to_owned() }
}

#[expect(clippy::unwrap_used, reason = "tests")]
fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[expect(clippy::unwrap_used, reason = "tests")]
fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// As text; empty for a unix socket.
fn address(candidate: &Candidate) -> String {
    candidate.endpoint.ip().map(|ip| ip.to_string()).unwrap_or_default()
}

fn names(order: Order) -> Vec<String> {
    match order {
        Order::Hosts(hosts) => hosts.into_iter().map(|host| host.name).collect(),
        Order::Loop => vec!["loop".to_owned()],
    }
}

#[test]
fn rfc7505_a_single_dot_takes_no_mail() {
    assert_eq!(mail_domain([mx(0, "")].into_iter()), Some(MailDomain::NullMx));
    assert_eq!(mail_domain(std::iter::empty()), None);
    let mixed = mail_domain([mx(0, ""), mx(20, "b"), mx(10, "a")].into_iter());
    assert_eq!(mixed, Some(MailDomain::Hosts(vec![mx(10, "a"), mx(20, "b")])));
}

#[test]
fn rfc5321_5_1_preference_orders_and_lots_break_ties() {
    let hosts = [mx(20, "c"), mx(10, "a"), mx(10, "b"), mx(10, "d")];
    for (lots, expected) in [
        ([0, 1, 2, 3], ["a", "b", "d", "c"]),
        ([0, 3, 2, 1], ["d", "b", "a", "c"]),
        ([9, 5, 1, 9], ["b", "a", "d", "c"]),
    ] {
        let mut lots = lots.into_iter();
        assert_eq!(names(order(&hosts, "me", || lots.next().unwrap_or_default())), expected);
    }
}

#[test]
fn rfc5321_5_1_a_backup_sends_only_towards_better_hosts() {
    let hosts = [mx(10, "primary"), mx(20, "me"), mx(20, "peer"), mx(30, "worse")];
    for (hosts, own, expected) in [
        (&hosts[..], "Me", &["primary"][..]),
        (&hosts[..], "stranger", &["primary", "me", "peer", "worse"]),
        (&hosts[1..], "me", &["loop"]),
        (&[mx(10, "me"), mx(5, "me"), mx(7, "b")], "me", &["loop"]),
        (&[mx(10, "notme")], "me", &["notme"]),
    ] {
        assert_eq!(names(order(hosts, own, || 0)), expected, "{own}");
    }
}

#[test]
fn families_take_turns() {
    let v6 = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(ip).to_vec();
    let v4 = vec![ip("192.0.2.1")];
    assert_eq!(interleave(v6.clone(), v4.clone()), [v6[0], v4[0], v6[1], v6[2]]);
}

#[test]
fn an_ipv4_address_inside_of_ipv6_is_what_it_stands_for() {
    let blocked = networks(&["127.0.0.0/8", "10.0.0.0/8", "::1/128", "fe80::/10"]);
    for (address, expected) in [
        ("127.0.0.1", true),
        ("::ffff:127.0.0.1", true),
        ("::ffff:7f00:2", true),
        ("::ffff:10.1.2.3", true),
        ("::ffff:192.0.2.1", false),
        ("::1", true),
        ("fe80::1", true),
        ("0.0.0.0", true),
        ("::", true),
        ("::ffff:0.0.0.0", true),
        ("192.0.2.1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(is_blocked(&blocked, ip(address)), expected, "{address}");
        let open = ip(address).to_canonical().is_unspecified();
        assert_eq!(is_blocked(&[], ip(address)), open, "{address}");
    }
}

/// What is tried of these hosts, `name=address`; or the failure.
fn search(
    hosts: &[(&str, &[&str])],
    blocked: &[&str],
    has_route: impl Fn(IpAddr) -> bool,
) -> Result<Vec<String>, Failure> {
    let blocked = networks(blocked);
    let mut search = Search::new(25, &blocked, Proof::Insecure);
    for (name, addresses) in hosts {
        if !search.wants_more() {
            break;
        }
        let answer = Answer { data: addresses.iter().copied().map(ip).collect(), proof: Proof::Secure };
        search.add(&(*name).into(), Ok(answer), &has_route);
    }
    let show = |candidate: Candidate| {
        assert_eq!((candidate.proof, candidate.endpoint.port()), (Proof::Insecure, Some(25)));
        format!("{}={}", candidate.host, address(&candidate))
    };
    Ok(search.finish()?.into_iter().map(show).collect())
}

const FIVE_V6: [&str; 5] = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5"];

#[test]
fn each_family_keeps_a_place() {
    let v4 = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    for (hosts, expected) in [
        // Five AAAA do not hide the A of the next host.
        (
            &[("a", &FIVE_V6[..]), ("b", &v4[..1])][..],
            &["a=2001:db8::1", "a=2001:db8::2", "a=2001:db8::3", "a=2001:db8::4", "b=192.0.2.1"][..],
        ),
        (
            &[("a", &FIVE_V6[..]), ("b", &v4[..])],
            &["a=2001:db8::1", "a=2001:db8::2", "a=2001:db8::3", "b=192.0.2.1", "b=192.0.2.2"],
        ),
        // Without the other family all places are taken.
        (
            &[("a", &FIVE_V6[..])],
            &["a=2001:db8::1", "a=2001:db8::2", "a=2001:db8::3", "a=2001:db8::4", "a=2001:db8::5"],
        ),
        // Nothing is moved while there is room.
        (&[("a", &v4[..2]), ("b", &FIVE_V6[..1])], &["a=192.0.2.1", "a=192.0.2.2", "b=2001:db8::1"]),
    ] {
        assert_eq!(
            search(hosts, &[], |_| true).as_deref(),
            Ok(&expected.iter().map(|&s| s.to_owned()).collect::<Vec<_>>()[..])
        );
    }
}

#[test]
fn the_hunt_for_the_other_family_has_an_end() {
    let mut search = Search::new(25, &[], Proof::Insecure);
    let mut hosts = 0;
    while search.wants_more() {
        let data = if hosts < 5 { vec![ip("192.0.2.1")] } else { Vec::new() };
        search.add(&"a".into(), Ok(Answer { data, proof: Proof::Insecure }), |_| true);
        hosts += 1;
        assert!(hosts <= HOSTS, "a domain may have a hundred hosts");
    }
    assert_eq!(search.finish().map(|found| found.len()), Ok(5));
}

#[test]
fn hosts_without_an_address_do_not_hide_the_one_that_has_one() {
    let look = |with_address: usize| {
        let mut search = Search::new(25, &[], Proof::Insecure);
        let mut hosts = 0;
        while search.wants_more() {
            let data = if hosts == with_address { vec![ip("192.0.2.1")] } else { Vec::new() };
            search.add(&"a".into(), Ok(Answer { data, proof: Proof::Insecure }), |_| true);
            hosts += 1;
        }
        (hosts, search.finish().map(|found| found.len()))
    };
    assert_eq!(look(50), (51, Ok(1)));
    let (hosts, nothing) = look(usize::MAX);
    assert_eq!(hosts, EMPTY_HOSTS);
    assert!(
        matches!(nothing, Err(Failure::Dns { .. })),
        "who has not looked at all hosts does not bounce: {nothing:?}"
    );
}

#[test]
fn a_look_up_that_fails_is_no_reason_to_look_up_a_hundred() {
    let mut search = Search::new(25, &[], Proof::Insecure);
    let mut hosts = 0;
    while search.wants_more() {
        search.add(&"a".into(), Err(Failure::Dns { detail: "silent".to_owned() }), |_| true);
        hosts += 1;
    }
    assert_eq!(hosts, HOSTS);
}

#[test]
fn a_family_without_a_route_is_dropped_unless_it_is_all_there_is() {
    let hosts: [(&str, &[&str]); 2] = [("a", &FIVE_V6[..]), ("b", &["192.0.2.1"])];
    assert_eq!(search(&hosts, &[], |ip| ip.is_ipv4()), Ok(vec!["b=192.0.2.1".to_owned()]));
    assert_eq!(
        search(&hosts[..1], &[], |ip| ip.is_ipv4()).map(|found| found.len()),
        Ok(5),
        "so that the error is true"
    );
}

#[test]
fn what_is_mapped_is_dialled_as_ipv4() {
    assert_eq!(search(&[("a", &["::ffff:192.0.2.1"])], &[], |ip| ip.is_ipv4()), Ok(vec!["a=192.0.2.1".to_owned()]));
    assert_eq!(search(&[("a", &["::ffff:127.0.0.1"])], &["127.0.0.0/8"], |_| true), Err(Failure::Blocked));
}

#[test]
fn the_failure_that_may_pass_outweighs_the_certain_one() {
    let dns = || Failure::Dns { detail: "x".to_owned() };
    let answer = |data: &[&str], proof| Ok(Answer { data: data.iter().copied().map(ip).collect(), proof });
    let none = || answer(&[], Proof::Insecure);
    let inner = || answer(&["127.0.0.1"], Proof::Insecure);
    for (results, expected) in [
        (vec![none()], not_found("a", "A")),
        (vec![inner()], Failure::Blocked),
        (vec![none(), inner()], not_found("a", "A")),
        (vec![none(), Err(dns())], dns()),
        (vec![Err(dns()), none()], dns()),
    ] {
        let blocked = networks(&["127.0.0.0/8"]);
        let mut search = Search::new(25, &blocked, Proof::Secure);
        results.into_iter().for_each(|result| search.add(&"a".into(), result, |_| true));
        assert_eq!(search.finish(), Err(expected));
    }
}

#[test]
fn rfc5321_5_1_a_host_at_our_own_address_hides_its_equals_and_all_that_is_worse() {
    let found = |address: &str| Ok(Answer { data: vec![ip(address)], proof: Proof::Insecure });
    let late = || Err(Failure::Dns { detail: "x".to_owned() });
    for (hosts, expected) in [
        (vec![(10, Some(found("192.0.2.1"))), (20, Some(found("192.0.2.2"))), (20, None)], Ok(vec!["192.0.2.1"])),
        (vec![(0, Some(found("192.0.2.1"))), (0, None)], Err(Failure::Loop)),
        (vec![(10, None)], Err(Failure::Loop)),
        (vec![(5, Some(late())), (10, None)], late().map(|_: Answer<Vec<IpAddr>>| vec![])),
        (vec![(5, Some(found("127.0.0.1"))), (10, None)], Err(Failure::Loop)),
    ] {
        let blocked = networks(&["127.0.0.0/8"]);
        let mut search = Search::new(25, &blocked, Proof::Insecure);
        for (preference, host) in hosts {
            assert!(search.wants_more());
            search.prefer(preference);
            match host {
                Some(result) => search.add(&"a".into(), result, |_| true),
                None => search.comes_back(),
            }
        }
        assert!(expected != Err(Failure::Loop) || !search.wants_more());
        let found = search.finish().map(|found| found.iter().map(address).collect::<Vec<_>>());
        assert_eq!(found, expected.map(|list| list.into_iter().map(str::to_owned).collect()));
    }
}

#[test]
fn what_the_policy_does_not_name_is_left_out_for_that_reason() {
    let unproven = || Failure::Unproven { flaw: Flaw::ValidationFailure, reason: "not named".to_owned() };
    let dns = || Failure::Dns { detail: "x".to_owned() };
    let none = || Ok(Answer { data: Vec::new(), proof: Proof::Insecure });
    let found = || Ok(Answer { data: vec![ip("192.0.2.1")], proof: Proof::Insecure });
    // `None` is a host that is skipped.
    for (hosts, expected) in [
        (vec![None, Some(found())], Ok(())),
        (vec![None], Err(unproven())),
        (vec![Some(none()), None], Err(unproven())),
        (vec![None, Some(none())], Err(unproven())),
        (vec![Some(Err(dns())), None], Err(dns())),
        (vec![None, Some(Err(dns()))], Err(dns())),
    ] {
        let mut search = Search::new(25, &[], Proof::Insecure);
        search.published(Sts::Enforce);
        for host in hosts {
            match host {
                Some(result) => search.add(&"a".into(), result, |_| true),
                None => search.skip(unproven()),
            }
        }
        let result = search.finish().map(|found| assert!(found.iter().all(|found| found.sts == Sts::Enforce)));
        assert_eq!(result, expected);
    }
}

#[test]
fn a_candidate_is_as_sure_as_what_named_its_host() {
    for (domain, address) in [(Proof::Secure, Proof::Insecure), (Proof::Insecure, Proof::Secure)] {
        let mut search = Search::new(25, &[], domain);
        search.add(&"a".into(), Ok(Answer { data: vec![ip("192.0.2.1")], proof: address }), |_| true);
        assert_eq!(search.finish().map(|found| found[0].proof), Ok(domain));
    }
    assert_eq!(Proof::Secure.and(Proof::Insecure), Proof::Insecure);
}

/// A candidate without a name.
fn at(address: &str) -> Candidate {
    let endpoint = Endpoint::Tcp(SocketAddr::new(ip(address), 25));
    Candidate { host: "".into(), endpoint, proof: Proof::Insecure, sts: Sts::Off, way: 0 }
}

#[test]
fn the_ways_of_a_list_are_tried_in_their_order_and_a_reason_that_may_go_away_counts_most() {
    let found = |address: &str| Ok(vec![at(address)]);
    let gone = || Err(not_found("x.test", "MX"));
    let later = || Err(Failure::Dns { detail: "timeout".to_owned() });
    let shown = |ways: Vec<Result<Vec<Candidate>, Failure>>| match one_after_the_other(ways) {
        Ok(found) => found.iter().map(|c| format!("{}:{}", c.way, address(c))).collect::<Vec<_>>().join(" "),
        Err(failure) => classify(&failure, "x.test").status.to_string(),
    };
    for (ways, expected) in [
        (vec![found("192.0.2.1"), found("192.0.2.2")], "0:192.0.2.1 1:192.0.2.2"),
        (vec![gone(), found("192.0.2.2")], "1:192.0.2.2"),
        (vec![found("192.0.2.1"), later()], "0:192.0.2.1"),
        (vec![gone()], "5.4.4"),
        (vec![gone(), later()], "4.4.3"),
        (vec![later(), gone()], "4.4.3"),
        (vec![Err(Failure::NullMx), gone()], "5.1.0"),
        (vec![gone(), Err(Failure::NotFound { detail: String::new() }.of_a_route("y"))], "4.3.5"),
    ] {
        assert_eq!(shown(ways), expected);
    }
}

proptest! {
    #[test]
    fn the_few_keep_their_order_and_leave_out_nobody_without_need(v4s in prop::collection::vec(any::<bool>(), 1..20)) {
        let candidate = |(i, v4): (usize, bool)| Candidate {
            host: i.to_string().into(),
            ..at(if v4 { "192.0.2.1" } else { "2001:db8::1" })
        };
        let found: Vec<_> = v4s.iter().copied().enumerate().map(candidate).collect();
        let few = first_few(found.clone());
        prop_assert_eq!(few.len(), found.len().min(ADDRESSES));
        let places: Vec<usize> = few.iter().filter_map(|c| c.host.parse().ok()).collect();
        prop_assert!(places.is_sorted());
        prop_assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), few.len());
        for family in [true, false] {
            let has = |list: &[Candidate]| list.iter().filter(|c| is_v4(c) == family).count();
            prop_assert!(has(&few) >= has(&found).min(PLACES));
        }
    }
}
