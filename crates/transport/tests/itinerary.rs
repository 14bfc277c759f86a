//! From a domain to addresses, against a DNS that plays its part.

use std::time::Duration;

use staffetta_config::{Config, Dnssec};
use staffetta_policy::classify::{Endpoint, Failure};
use staffetta_policy::mx::{Candidate, Proof};
use staffetta_policy::tls::{Dane, Need, Published, Sts};
use staffetta_testkit::dns::FakeDns;
use staffetta_testkit::ports::Port;
use staffetta_transport::dns::{DnsSettings, Resolver};
use staffetta_transport::hop::{NextHop, Router};
use staffetta_transport::itinerary::{Announced, Planner};

/// For the mail of `a.test`.
fn planner(settings: &DnsSettings) -> anyhow::Result<(NextHop, Planner)> {
    let config = Config::default();
    Ok((Router::new(&config).hop("a.test", None), Planner::new(&config, Resolver::new(settings)?)))
}

#[tokio::test]
async fn a_host_whose_name_server_is_silent_keeps_no_other_waiting() -> anyhow::Result<()> {
    let dns = FakeDns::start().await?;
    let names = ["mx1.silent.test", "mx2.silent.test", "mx3.silent.test", "mx4.silent.test"];
    for name in names {
        dns.mx("a.test", 10, name).silent(name);
    }
    dns.mx("a.test", 20, "mx5.a.test").host("mx5.a.test", [198, 51, 100, 5]);
    let patience = Some(Duration::from_secs(2));
    let (hop, planner) = planner(&DnsSettings { servers: vec![dns.address()], patience, ..DnsSettings::default() })?;

    let plan = tokio::spawn(async move { planner.plan(&hop, Need::Nothing).await });
    while dns.asked("mx5.a.test", "A") == 0 {
        anyhow::ensure!(!plan.is_finished(), "nothing is known yet");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked: usize = names.iter().map(|name| dns.asked(name, "A")).sum();
    assert!((4..8).contains(&asked), "one after the other each would have been given up by now: {asked}");
    let plan = plan.await?.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    assert_eq!(plan.len(), 1);
    assert_eq!(&*plan[0].host, "mx5.a.test");
    Ok(())
}

#[tokio::test]
async fn hosts_that_are_not_needed_are_not_looked_up() -> anyhow::Result<()> {
    let dns = FakeDns::start().await?;
    for number in 1..=12_u8 {
        let name = format!("mx{number}.a.test");
        dns.mx("a.test", number.into(), &name).host(&name, [198, 51, 100, number]);
    }
    let (hop, planner) = planner(&DnsSettings { servers: vec![dns.address()], ..DnsSettings::default() })?;
    let plan = planner.plan(&hop, Need::Nothing).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    assert_eq!((plan.len(), dns.asked("mx10.a.test", "A"), dns.asked("mx11.a.test", "A")), (5, 1, 0));
    Ok(())
}

#[tokio::test]
async fn what_is_published_about_a_host_whose_name_server_is_silent_keeps_no_other_waiting() -> anyhow::Result<()> {
    let dns = FakeDns::start().await?;
    dns.vouch();
    for number in 1..=5_u8 {
        let name = format!("mx{number}.a.test");
        dns.mx("a.test", number.into(), &name).host(&name, [198, 51, 100, number]);
    }
    let silent: Vec<String> = (1..=4).map(|number| format!("_25._tcp.mx{number}.a.test")).collect();
    for name in &silent {
        dns.silent(name);
    }
    dns.tlsa("_25._tcp.mx5.a.test", [3, 1, 1], &[1; 32]);
    let (servers, patience) = (vec![dns.address()], Some(Duration::from_secs(2)));
    let settings = DnsSettings { servers, patience, dnssec: Dnssec::TrustAd, ..DnsSettings::default() };
    let (hop, planner) = planner(&settings)?;
    let plan = planner.plan(&hop, Need::Nothing).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    let mut round = planner.round(&hop, Need::Nothing, plan);
    assert_eq!(dns.asked("", "TLSA"), 0, "not before it is wanted");
    let answers = tokio::spawn(async move {
        let mut answers = Vec::new();
        while let Some((_, published)) = round.next().await {
            answers.push(published);
        }
        answers
    });
    while dns.asked("_25._tcp.mx5.a.test", "TLSA") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked: usize = silent.iter().map(|name| dns.asked(name, "TLSA")).sum();
    assert!((4..8).contains(&asked), "one after the other each would have been given up by now: {asked}");
    let answers = answers.await?;
    let unproven = |answer: &Announced| matches!(answer, Err(Failure::Unproven { .. }));
    assert!(answers[..4].iter().all(unproven), "no answer is not the answer that there is nothing: {answers:?}");
    assert!(matches!(&answers[4..], [Ok(Published { dane: Dane::Records(_), .. })]), "{answers:?}");
    Ok(())
}

/// Five seconds thrice is what one question without an answer takes.
#[tokio::test(start_paused = true)]
async fn all_that_is_published_about_the_hosts_of_an_attempt_is_known_in_the_time_of_one() -> anyhow::Result<()> {
    let port = Port::reserve()?;
    let _mute = (std::net::UdpSocket::bind(port.address())?, std::net::TcpListener::bind(port.address())?);
    let settings = DnsSettings { servers: vec![port.address()], dnssec: Dnssec::TrustAd, ..DnsSettings::default() };
    let (hop, planner) = planner(&settings)?;
    let candidate = |number: u8| Candidate {
        host: format!("mx{number}.a.test").into(),
        endpoint: Endpoint::Tcp(([198, 51, 100, number], 25).into()),
        proof: Proof::Secure,
        sts: Sts::Off,
        way: 0,
    };
    let mut round = planner.round(&hop, Need::Nothing, (1..=5).map(candidate).collect());
    let began = tokio::time::Instant::now();
    let mut count = 0;
    while let Some((_, published)) = round.next().await {
        assert!(matches!(published, Err(Failure::Unproven { .. })), "{published:?}");
        count += 1;
    }
    assert_eq!(count, 5);
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2) && took <= Duration::from_secs(21), "{took:?}");
    Ok(())
}

/// The same for the names of the hosts: what one of them takes is what all take.
#[tokio::test]
async fn hosts_that_are_not_to_be_found_end_in_the_time_of_one() -> anyhow::Result<()> {
    let dns = FakeDns::start().await?;
    for name in ["mx1.test", "mx2.test", "mx3.test", "mx4.test"] {
        dns.mx("a.test", 10, name).silent(name);
    }
    let (hop, planner) = planner(&DnsSettings { servers: vec![dns.address()], ..DnsSettings::default() })?;
    // The time of the names alone: the hosts are in the cache.
    assert_eq!(planner.mail_hosts("a.test").await.len(), 4);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let plan = planner.plan(&hop, Need::Nothing).await;
    assert!(matches!(plan, Err(Failure::Dns { .. })), "{plan:?}");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2) && took <= Duration::from_secs(17), "{took:?}");
    Ok(())
}

/// Each of these questions would take as long as the plan may and more: what has come until then is used.
#[tokio::test]
async fn a_plan_ends_in_its_time_with_the_hosts_that_are_known() -> anyhow::Result<()> {
    let dns = FakeDns::start().await?;
    for name in ["mx1.test", "mx2.test"] {
        dns.mx("a.test", 10, name).silent(name);
    }
    dns.mx("a.test", 20, "mx3.test").host("mx3.test", [198, 51, 100, 3]);
    let patience = Some(Duration::from_secs(60));
    let (hop, planner) = planner(&DnsSettings { servers: vec![dns.address()], patience, ..DnsSettings::default() })?;
    // They are in the cache, so that nothing real is waited for while time is not.
    assert_eq!(planner.mail_hosts("a.test").await.len(), 3);
    let began = tokio::time::Instant::now();
    let (plan, ()) = tokio::join!(planner.plan(&hop, Need::Nothing), async {
        while dns.asked("mx3.test", "AAAA") == 0 || dns.asked("mx3.test", "A") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::time::pause();
    });
    let plan = plan.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    assert_eq!(plan.iter().map(|candidate| &*candidate.host).collect::<Vec<_>>(), ["mx3.test"]);
    let took = began.elapsed();
    assert!(took > Duration::from_secs(19) && took < Duration::from_secs(22), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn the_ways_of_a_route_are_looked_up_together_and_tried_in_their_order() -> anyhow::Result<()> {
    let dns = FakeDns::start().await?;
    dns.silent("one.test").silent("two.test").host("three.test", [198, 51, 100, 3]);
    let patience = Some(Duration::from_secs(1));
    let resolver = Resolver::new(&DnsSettings { servers: vec![dns.address()], patience, ..DnsSettings::default() })?;
    let via = "via = [\"smtp://one.test:25\", \"smtp://two.test:25\", \"smtp://three.test:25\"]";
    let text = format!("[[delivery.route]]\ndomain = \"*\"\n{via}\n");
    let config = Config::parse(&text, "test.toml").map_err(|error| anyhow::anyhow!("{error}"))?;
    let (hop, planner) = (Router::new(&config).hop("a.test", None), Planner::new(&config, resolver));
    let plan = tokio::spawn(async move { planner.plan(&hop, Need::Nothing).await });
    while dns.asked("three.test", "A") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = dns.asked("one.test", "A");
    assert!(asked < 3, "it was given up before the others were asked: {asked}");
    let plan = plan.await?.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    assert_eq!(plan.iter().map(|candidate| (&*candidate.host, candidate.way)).collect::<Vec<_>>(), [("three.test", 2)]);
    Ok(())
}
