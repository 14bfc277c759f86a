//! From a domain to addresses, against a DNS that plays its part.

use std::time::Duration;

use staffetta_config::Config;
use staffetta_policy::tls::Need;
use staffetta_testkit::dns::FakeDns;
use staffetta_transport::dns::{DnsSettings, Resolver};
use staffetta_transport::hop::Router;
use staffetta_transport::itinerary::Planner;

#[tokio::test]
async fn a_host_whose_name_server_is_silent_keeps_no_other_waiting() -> anyhow::Result<()> {
    let dns = FakeDns::start().await?;
    let names = ["mx1.silent.test", "mx2.silent.test", "mx3.silent.test", "mx4.silent.test"];
    for name in names {
        dns.mx("a.test", 10, name).silent(name);
    }
    dns.mx("a.test", 20, "mx5.a.test").host("mx5.a.test", [198, 51, 100, 5]);
    let patience = Some(Duration::from_secs(2));
    let resolver = Resolver::new(&DnsSettings { servers: vec![dns.address()], patience, ..DnsSettings::default() })?;
    let config = Config::default();
    let (hop, planner) = (Router::new(&config).hop("a.test", None), Planner::new(&config, resolver));

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
    let resolver = Resolver::new(&DnsSettings { servers: vec![dns.address()], ..DnsSettings::default() })?;
    let config = Config::default();
    let (hop, planner) = (Router::new(&config).hop("a.test", None), Planner::new(&config, resolver));
    let plan = planner.plan(&hop, Need::Nothing).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    assert_eq!((plan.len(), dns.asked("mx10.a.test", "A"), dns.asked("mx11.a.test", "A")), (5, 1, 0));
    Ok(())
}
