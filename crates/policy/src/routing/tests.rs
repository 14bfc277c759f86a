//! Tables.

use super::*;

const DEFAULTS: Defaults = Defaults { tls: Level::May, concurrency: 20 };

fn to(pattern: Pattern, via: Via) -> Route {
    Route { pattern, senders: None, of_login: None, via: vec![via], tls: None, login: false, concurrency: None }
}

fn smtp(host: &str) -> Via {
    Via::Smtp { host: host.to_owned(), port: 25, implicit_tls: false }
}

#[test]
fn patterns_match_whole_labels() {
    let exact = Pattern::Exact("example.org".to_owned());
    let below = Pattern::Subdomains("example.org".to_owned());
    for (domain, is_exact, is_below) in [
        ("example.org", true, false),
        ("EXAMPLE.org", true, false),
        ("a.example.org", false, true),
        ("a.b.Example.ORG", false, true),
        ("badexample.org", false, false),
        (".example.org", false, false),
        ("org", false, false),
        ("", false, false),
        ("\u{e9}.example.org", false, true),
    ] {
        assert_eq!((exact.matches(domain), below.matches(domain)), (is_exact, is_below), "{domain:?}");
        assert!(Pattern::Any.matches(domain));
    }
}

#[test]
fn a_pattern_covers_what_it_would_take_from_a_later_route() {
    let exact = |name: &str| Pattern::Exact(name.to_owned());
    let below = |name: &str| Pattern::Subdomains(name.to_owned());
    for (earlier, later, covers) in [
        (Pattern::Any, below("a.org"), true),
        (Pattern::Any, Pattern::Any, true),
        (exact("a.org"), exact("A.org"), true),
        (exact("a.org"), exact("b.a.org"), false),
        (exact("a.org"), below("a.org"), false),
        (below("a.org"), exact("b.a.org"), true),
        (below("a.org"), exact("a.org"), false),
        (below("a.org"), below("A.org"), true),
        (below("a.org"), below("b.a.org"), true),
        (below("b.a.org"), below("a.org"), false),
        (below("a.org"), below("ba.org"), false),
        (below("a.org"), Pattern::Any, false),
        (exact("a.org"), Pattern::Any, false),
    ] {
        assert_eq!(earlier.covers(&later), covers, "{earlier:?} {later:?}");
    }
}

#[test]
fn the_first_match_wins_and_no_match_means_mx() {
    let routes = [
        to(Pattern::Exact("a.example.org".to_owned()), Via::Mx),
        to(Pattern::Subdomains("example.org".to_owned()), smtp("sub")),
        to(Pattern::Exact("example.org".to_owned()), Via::Lmtp { host: "dovecot".to_owned(), port: 24 }),
        to(Pattern::Exact("a.example.org".to_owned()), smtp("never")),
    ];
    for (domain, index) in [
        ("A.example.org", Some(0)),
        ("b.example.org", Some(1)),
        ("example.org", Some(2)),
        ("Example.NET", None),
        ("[192.0.2.1]", None),
    ] {
        assert_eq!(route(&routes, &DEFAULTS, domain, None).route, index, "{domain}");
    }
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn from(text: &str) -> ReversePath {
    if text.is_empty() { ReversePath::Null } else { ReversePath::Address(address(text)) }
}

/// One address, all of a domain, all below a domain, all addresses, the null path.
fn all_senders() -> [Senders; 5] {
    let domain = "news.example.org".to_owned();
    [
        Senders::Address(address("Bulk@news.example.org")),
        Senders::Domain(Pattern::Exact(domain.clone())),
        Senders::Domain(Pattern::Subdomains(domain)),
        Senders::Domain(Pattern::Any),
        Senders::Null,
    ]
}

#[test]
fn senders_are_an_address_those_of_a_domain_or_nobody() {
    for (sender, expected) in [
        ("bulk@NEWS.example.org", [true, true, false, true, false]),
        ("john@news.example.org", [false, true, false, true, false]),
        ("john@a.news.example.org", [false, false, true, true, false]),
        ("john@example.org", [false, false, false, true, false]),
        ("postmaster", [false, false, false, false, false]),
        ("", [false, false, false, false, true]),
    ] {
        assert_eq!(all_senders().map(|senders| senders.match_sender(&from(sender))), expected, "{sender:?}");
    }
    let international = Senders::Domain(Pattern::Exact("xn--bcher-kva.example".to_owned()));
    assert!(international.match_sender(&from("a@b\u{fc}cher.example")), "A-labels are compared");
}

#[test]
fn senders_cover_what_they_take_from_a_later_route() {
    let all = all_senders();
    let covers = all.each_ref().map(|one| all.each_ref().map(|other| u8::from(one.cover(other))));
    assert_eq!(
        covers,
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]],
        "{all:?}"
    );
}

#[test]
fn domain_and_sender_must_both_match_and_the_first_route_wins() {
    let named = |pattern, senders| Route { senders: Some(senders), ..to(pattern, smtp("named")) };
    let [_, news, _, _, reports] = all_senders();
    let routes = [
        to(Pattern::Exact("first.test".to_owned()), smtp("first")),
        named(Pattern::Subdomains("test".to_owned()), news),
        named(Pattern::Any, reports),
        to(Pattern::Exact("x.test".to_owned()), smtp("later")),
    ];
    let way = |domain: &str, sender: Option<&str>| {
        route(&routes, &DEFAULTS, domain, sender.map(from).as_ref().map(Submitter::from)).route
    };
    for (domain, [news, nobody, other, unknown]) in [
        ("first.test", [Some(0), Some(0), Some(0), Some(0)]),
        ("x.test", [Some(1), Some(2), Some(3), Some(3)]),
        ("y.test", [Some(1), Some(2), None, None]),
        ("z.example", [None, Some(2), None, None]),
    ] {
        let ways = [Some("a@news.example.org"), Some(""), Some("a@example.org"), None].map(|it| way(domain, it));
        assert_eq!(ways, [news, nobody, other, unknown], "{domain}");
        assert_eq!(depends_on_submitter(&routes, domain), domain != "first.test", "{domain}");
    }
    assert!(!depends_on_submitter(&routes[3..], "x.test") && !depends_on_submitter(&[], "x.test"));
}

#[test]
fn a_route_of_a_login_is_for_whatever_it_hands_in_and_for_nothing_else() {
    let news = Route { of_login: Some("news@example.org".to_owned()), ..to(Pattern::Any, smtp("news")) };
    let routes = [news, to(Pattern::Any, smtp("rest"))];
    let sender = from("john@example.org");
    for (login, index) in [(Some("News@example.org"), 0), (Some("john@example.org"), 1), (None, 1)] {
        let by = Some(Submitter { sender: &sender, login });
        assert_eq!(route(&routes, &DEFAULTS, "x.test", by).route, Some(index), "{login:?}");
    }
    assert!(is_same_login("J\u{d6}HN@x", "j\u{f6}hn@X") && !is_same_login("john", "johnny"));
    assert_eq!(route(&routes, &DEFAULTS, "x.test", None).route, Some(1));
    assert!(depends_on_submitter(&routes, "x.test") && !depends_on_submitter(&routes[1..], "x.test"));
}

#[test]
fn a_route_overrides_the_defaults() {
    let mut relay = to(Pattern::Any, smtp("smart"));
    assert_eq!((route(&[], &DEFAULTS, "x", None).tls, route(&[], &DEFAULTS, "x", None).concurrency), (Level::May, 20));
    relay.concurrency = Some(5);
    relay.login = true;
    let path = route(&[to(Pattern::Exact("y".to_owned()), Via::Mx), relay.clone()], &DEFAULTS, "x", None);
    assert_eq!((path.tls, path.credentials, path.concurrency), (Level::May, Some(1), 5));
    relay.tls = Some(Level::Verify);
    assert_eq!(route(&[relay], &DEFAULTS, "x", None).tls, Level::Verify);
}
