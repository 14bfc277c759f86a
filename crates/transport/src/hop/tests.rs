//! Tables.

use staffetta_mail::ReversePath;
use staffetta_policy::classify::Endpoint;
use staffetta_policy::mx::Proof;
use staffetta_policy::routing::{Pattern, Senders};
use staffetta_policy::tls::{Label, Sts, Trust};
use staffetta_smtp::client::Tls;

use staffetta_smtp::client::Secret;

use super::*;

fn router(routes: Vec<routing::Route>) -> Router {
    Router::with("relay.test", Defaults { tls: Level::May, concurrency: 20 }, routes)
}

/// What the first way has led to.
fn mx() -> Candidate {
    let endpoint = Endpoint::Tcp(([192, 0, 2, 1], 25).into());
    Candidate { host: "mx.a.test".into(), endpoint, proof: Proof::Insecure, sts: Sts::Off, way: 0 }
}

fn in_clear() -> Security {
    Security { starttls: Tls::Off, trust: Trust::Any, fallback: false, label: Label::None, waived: false }
}

#[test]
fn only_a_server_that_proved_itself_is_told_what_demands_that() {
    let hop = router(Vec::new()).hop("a.test", None);
    assert!(!hop.settings(&mx(), &in_clear(), None).verified);
    let unproven = Security { starttls: Tls::Required, ..in_clear() };
    assert!(!hop.settings(&mx(), &unproven, None).verified, "encrypted, with whomever");
    let proven = Security { trust: Trust::WebPki { name: "mx.a.test".into() }, ..unproven };
    assert!(hop.settings(&mx(), &proven, None).verified);
}

fn to(pattern: Pattern, via: Via) -> routing::Route {
    routing::Route {
        pattern,
        senders: None,
        of_login: None,
        via: vec![via],
        tls: None,
        login: false,
        concurrency: Some(5),
    }
}

#[test]
fn destinations_of_a_smart_host_share_its_connections() {
    let smart = Via::Smtp { host: "smart.test".to_owned(), port: 26, implicit_tls: false };
    let router = router(vec![
        to(Pattern::Exact("direct.test".to_owned()), Via::Mx),
        to(Pattern::Exact("local.test".to_owned()), Via::Lmtp { host: "::1".to_owned(), port: 24 }),
        to(Pattern::Any, smart),
    ]);
    let hop = |name: &str| router.hop(name, None);
    assert_eq!(hop("a.test").key, router.key("b.test", None));
    assert_eq!(hop("direct.test").key.targets[..], [Target::Domain("direct.test".into())]);
    assert_eq!(hop("local.test").protocol, Protocol::Lmtp);
    assert_eq!(hop("a.test").concurrency, 5);
    assert!(hop("a.test").settings(&mx(), &in_clear(), None).own_name.is_none());
}

#[test]
fn a_sender_may_have_a_next_hop_of_its_own_and_never_shares_a_login_with_others() {
    let smart = || Via::Smtp { host: "smart.test".to_owned(), port: 587, implicit_tls: false };
    let of = |sender: &str| Senders::Address(sender.parse().unwrap());
    let named = |sender| routing::Route { senders: Some(of(sender)), login: true, ..to(Pattern::Any, smart()) };
    let router = |password: &str| {
        let login = |username: &str| {
            let secret = Secret::Password(password.to_owned());
            Some(Login::Password(Arc::new(Credentials { username: username.to_owned(), secret })))
        };
        let routes = vec![named("a@home.test"), named("b@home.test"), to(Pattern::Any, smart())];
        Router { logins: vec![login("a"), login("b"), None], ..router(routes) }
    };
    let (again, changed, router) = (router("one"), router("two"), router("one"));
    let sender = ReversePath::Address("a@home.test".parse().unwrap());
    assert_eq!(
        router.key("x.test", Some((&sender).into())),
        again.key("x.test", Some((&sender).into())),
        "what is known of it stays"
    );
    assert_ne!(
        router.key("x.test", Some((&sender).into())),
        changed.key("x.test", Some((&sender).into())),
        "nobody has logged in by that"
    );
    let key = |sender: &str| router.key("x.test", Some((&ReversePath::Address(sender.parse().unwrap())).into()));
    let keys = [key("a@home.test"), key("b@home.test"), key("c@home.test")];
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
    assert_eq!(router.key("x.test", None), keys[2]);
    assert_eq!(router.hop("x.test", Some((&ReversePath::Null).into())).route, Some(2));
    assert_eq!(router.hop("x.test", None).places(), "smart.test:587 5");
    assert!(router.depends_on_submitter("x.test"));
}

#[test]
fn a_list_is_one_hop_and_its_own_mail_hosts_come_where_it_says() {
    let list = vec![Via::Mx, Via::Smtp { host: "spare.test".to_owned(), port: 465, implicit_tls: true }];
    let listed = routing::Route { via: list, ..to(Pattern::Subdomains("a.test".to_owned()), Via::Mx) };
    let relay = to(Pattern::Any, Via::MxOf("relay.test".to_owned()));
    let router = router(vec![listed, relay]);
    let hop = router.hop("x.a.test", None);
    let spare = Target::Host { host: "spare.test".into(), port: 465, implicit_tls: true };
    assert_eq!(hop.key.targets[..], [Target::Domain("x.a.test".into()), spare]);
    assert_ne!(hop.key, router.key("y.a.test", None), "their mail hosts differ");
    assert_eq!((hop.name().as_str(), hop.account().as_str()), ("x.a.test", "x.a.test,spare.test:465"));
    let spare = Candidate { way: 1, ..mx() };
    assert!(
        hop.settings(&mx(), &in_clear(), None).own_name.is_some()
            && hop.settings(&spare, &in_clear(), None).own_name.is_none()
    );
    let asked = |candidate| hop.security(candidate, &Published::default(), Need::Nothing, true).unwrap().starttls;
    assert_eq!((asked(&mx()), asked(&spare)), (Tls::Off, Tls::Implicit));
    assert_eq!(router.key("b.test", None), router.key("c.test", None), "all go to the hosts of relay.test");
    assert!(router.hop("b.test", None).settings(&mx(), &in_clear(), None).own_name.is_some());
}

#[test]
fn through_a_socket_nothing_is_encrypted_at_any_level() {
    let strict =
        routing::Route { tls: Some(Level::Verify), ..to(Pattern::Any, Via::LmtpSocket("/run/lmtp".to_owned())) };
    let hop = router(vec![strict]).hop("a.test", None);
    let asked = |need| hop.security(&mx(), &Published::default(), need, false).unwrap().starttls;
    assert_eq!((hop.protocol, asked(Need::Nothing)), (Protocol::Lmtp, Tls::Off));
    assert_eq!(asked(Need::AuthenticatedTls), Tls::Required, "which is not there");
    assert_eq!(hop.inquiry(&"lisa@a.test".parse().unwrap()), "lmtp unix:/run/lmtp lisa@a.test");
}

#[test]
fn the_same_host_at_another_level_is_another_hop() {
    let smart = || Via::Smtp { host: "smart.test".to_owned(), port: 26, implicit_tls: false };
    let strict = routing::Route { tls: Some(Level::Verify), ..to(Pattern::Exact("a.test".to_owned()), smart()) };
    let router = router(vec![strict, to(Pattern::Any, smart())]);
    let key = |name: &str| router.key(name, None);
    assert_ne!(key("a.test"), key("b.test"), "mail for a.test must not join a connection that checks nothing");
}

#[test]
fn what_is_said_of_a_recipient_belongs_to_the_server_that_said_it() {
    let local = Via::Lmtp { host: "::1".to_owned(), port: 24 };
    let router = router(vec![to(Pattern::Exact("a.test".to_owned()), local)]);
    for (address, inquiry) in [("Lisa@A.test", "lmtp ::1:24 Lisa@a.test"), ("lisa@b.test", "smtp mx lisa@b.test")] {
        let address: Address = address.parse().unwrap();
        assert_eq!(router.hop(&address.domain_key().unwrap(), None).inquiry(&address), inquiry);
    }
}

#[test]
fn without_a_route_each_domain_stands_alone_and_literals_are_addresses() {
    let router = router(Vec::new());
    let key = |name: &str| router.key(name, None);
    assert_ne!(key("a.test"), key("b.test"));
    assert_eq!(key("[192.0.2.1]").targets[..], [Target::Literal("192.0.2.1".parse().unwrap())]);
    assert!(matches!(key("[ipv6:::1]").targets[..], [Target::Literal(IpAddr::V6(_))]));
    assert!(router.hop("a.test", None).settings(&mx(), &in_clear(), None).own_name.is_some());
}

#[test]
fn a_destination_is_its_entry_or_the_set_of_its_hosts_and_a_route_goes_before_it() {
    let strict = routing::Route { tls: Some(Level::None), ..to(Pattern::Exact("routed.test".to_owned()), Via::Mx) };
    let smart = Via::Smtp { host: "smart.test".to_owned(), port: 26, implicit_tls: false };
    let mut router = router(vec![strict, to(Pattern::Exact("smart.test".to_owned()), smart)]);
    let rate = |count| Some(Rate { count, per: std::time::Duration::from_secs(1) });
    let entry = |domain: Option<&str>, host: Option<&str>| destination::Entry {
        domains: domain.map(|name| Pattern::Exact(name.to_owned())).into_iter().collect(),
        hosts: host.map(|name| Pattern::Subdomains(name.to_owned())).into_iter().collect(),
        tls: Some(Level::Encrypt),
        concurrency: Some(3),
        messages: Some(50),
        ..destination::Entry::default()
    };
    router.destinations = vec![(entry(Some("named.test"), None), None), (entry(None, Some("big.test")), rate(9))];
    router.rate = rate(1);
    let at = |domain: &str, hosts: &[&str]| {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        router.at_its_site(&router.hop(domain, None), hosts)
    };
    let messages = |hop: &NextHop| hop.site.as_ref().and_then(|site| site.messages);
    let big = at("a.test", &["mx.big.test"]);
    assert_eq!(
        (big.places(), big.level, big.rate, messages(&big)),
        ("*.big.test 3".into(), Level::Encrypt, rate(9), Some(50))
    );
    assert_eq!(big.account(), at("b.test", &["mx2.big.test"]).account(), "all behind them are one");
    assert_eq!(big.key, router.key("a.test", None), "connections are a domain's own");
    let usual = at("a.test", &["mx1.a.test", "mx2.a.test"]);
    assert_eq!((usual.places(), usual.level, usual.rate), ("mx1.a.test,mx2.a.test 20".into(), Level::May, rate(1)));
    assert_eq!(at("a.test", &[]).places(), "a.test 20", "nobody knows its hosts");
    let named = at("named.test", &[]);
    assert_eq!((named.places(), named.rate), ("named.test 3".into(), rate(1)));
    let routed = at("routed.test", &["mx.big.test"]);
    assert_eq!((routed.places(), routed.level, routed.rate), ("*.big.test 5".into(), Level::None, rate(9)));
    assert_eq!(at("smart.test", &[]).places(), "smart.test:26 5");
    let asks = |domain: &str| Router::asks_for_hosts(&router.hop(domain, None)).map(str::to_owned);
    assert_eq!((asks("a.test").as_deref(), asks("named.test").as_deref()), (Some("a.test"), Some("named.test")));
    assert_eq!((asks("smart.test"), asks("[192.0.2.1]")), (None, None));
    let speaker = |hop: &NextHop| hop.site.as_ref().map(|site| site.speaker.clone()).unwrap_or_default();
    assert_eq!((speaker(&big), speaker(&usual)), ("*.big.test".into(), "mx1.a.test,mx2.a.test".into()));
    let one = at("named.test", &["mx.named.test"]);
    assert_eq!(
        (one.account(), speaker(&one)),
        ("named.test".into(), "mx.named.test".into()),
        "only who has spoken rests"
    );
    assert!(big.has_host("MX.big.test.") && !big.has_host("mx.evil.test"), "strangers do not speak for it");
    assert!(at("a.test", &[]).has_host("mx.a.test"), "nobody knows its hosts");
    assert!(one.names("named.test").contains(&"mx.named.test".to_owned()));
}

#[test]
fn deliveries_are_counted_under_few_names_whatever_domains_there_are() {
    let smart = Via::Smtp { host: "Smart.test".to_owned(), port: 26, implicit_tls: false };
    let near = Via::Smtp { host: "192.0.2.7".to_owned(), port: 26, implicit_tls: false };
    let exact = |name: &str| Pattern::Exact(name.to_owned());
    let mut router = router(vec![to(exact("smart.test"), smart), to(exact("near.test"), near)]);
    let big = vec![Pattern::Subdomains("big.test".to_owned())];
    router.destinations = vec![(destination::Entry { hosts: big, ..destination::Entry::default() }, None)];
    let under = |domain: &str, hosts: &[&str]| {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        router.at_its_site(&router.hop(domain, None), hosts).provider().to_owned()
    };
    for (domain, hosts, name) in [
        ("a.test", &["mx.big.test"][..], "*.big.test"),
        ("b.test", &["aspmx.l.google.com", "alt1.aspmx.l.google.com"], "google"),
        ("c.test", &["aspmx.l.google.com", "mx.c.test"], "other"),
        ("d.test", &[], "other"),
        ("[192.0.2.1]", &[], "other"),
        ("smart.test", &[], "smart.test:26"),
        ("near.test", &[], "route"),
    ] {
        assert_eq!(under(domain, hosts), name, "{domain}");
        assert!(router.providers().contains(&name.to_owned()), "{name} is there from the start");
    }
    assert_eq!(router.hop("b.test", None).provider(), "other", "nobody has looked yet");
}

#[test]
fn servers_go_by_their_destination_their_hosts_their_domain_and_all_that_is_above() {
    let smart = Via::Smtp { host: "Smart.test".to_owned(), port: 26, implicit_tls: false };
    let router = router(vec![to(Pattern::Exact("routed.test".to_owned()), smart)]);
    let hop =
        router.at_its_site(&router.hop("a.example", None), vec!["mx1.big.test".to_owned(), "mx2.test".to_owned()]);
    let names = ["*.big.test", "*.example", "*.test", "a.example", "mx1.big.test", "mx1.big.test,mx2.test", "mx2.test"];
    assert_eq!(hop.names("A.example"), names);
    let routed = router.at_its_site(&router.hop("routed.test", None), Vec::new());
    assert_eq!(routed.names("routed.test"), ["*.test", "routed.test", "smart.test", "smart.test:26"]);
}
