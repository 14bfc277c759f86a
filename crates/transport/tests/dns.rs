//! The resolver against a fake DNS server.

use std::net::IpAddr;
use std::time::Duration;

use staffetta_testkit::dns::FakeDns;
use staffetta_transport::dns::{DnsSettings, MailDomain, MxHost, Proof, Resolver};

async fn world() -> anyhow::Result<(FakeDns, Resolver)> {
    let dns = FakeDns::start().await?;
    let resolver = Resolver::new(&DnsSettings { servers: vec![dns.address()], ..DnsSettings::default() })?;
    Ok((dns, resolver))
}

fn mx(preference: u16, name: &str) -> MxHost {
    MxHost { preference, name: name.to_owned() }
}

#[tokio::test]
async fn rfc5321_5_1_mail_hosts_come_from_mx_then_from_the_address() -> anyhow::Result<()> {
    let (dns, resolver) = world().await?;
    let v4: IpAddr = "192.0.2.1".parse()?;
    dns.mx("a.test", 20, "Backup.a.test").mx("a.test", 10, "mx.a.test").host("b.test", v4);
    dns.cname("alias.test", "a.test");
    let hosts = MailDomain::Hosts(vec![mx(10, "mx.a.test"), mx(20, "backup.a.test")]);
    assert_eq!(resolver.mail_domain("A.test").await?.data, hosts);
    assert_eq!(resolver.mail_domain("alias.test").await?.data, hosts, "an alias stands for its target");
    assert_eq!(resolver.mail_domain("b.test").await?.data, MailDomain::Hosts(vec![mx(0, "b.test")]));
    Ok(())
}

#[tokio::test]
async fn no_and_not_now_are_different_answers() -> anyhow::Result<()> {
    let (dns, resolver) = world().await?;
    dns.null_mx("null.test").servfail("broken.test").mx("c.test", 10, "broken.test");
    assert_eq!(resolver.mail_domain("null.test").await?.data, MailDomain::NullMx);
    assert_eq!(resolver.mail_domain("unknown.test").await?.data, MailDomain::NotFound);
    assert!(resolver.mail_domain("broken.test").await.is_err());
    assert!(resolver.addresses("broken.test").await.is_err());
    assert!(resolver.addresses("unknown.test").await?.data.is_empty());
    assert!(
        matches!(resolver.mail_domain("c.test").await?.data, MailDomain::Hosts(_)),
        "its hosts are looked up later"
    );
    Ok(())
}

/// "No such name" is about the name that was asked for, also over TCP: else mail is bounced for it.
#[tokio::test]
async fn rfc5452_9_1_an_answer_to_another_question_is_none() -> anyhow::Result<()> {
    let dns = FakeDns::start().await?;
    let patience = Some(Duration::from_millis(200));
    let resolver = Resolver::new(&DnsSettings { servers: vec![dns.address()], patience, ..DnsSettings::default() })?;
    dns.astray("a.test");
    let error = resolver.mail_domain("a.test").await.err();
    assert!(error.is_some_and(|error| error.name == "a.test"));
    assert!(dns.asked("a.test", "MX") > 1, "it was asked again");
    Ok(())
}

#[tokio::test]
async fn both_families_are_found_ipv6_first() -> anyhow::Result<()> {
    let (dns, resolver) = world().await?;
    let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse()?, "2001:db8::1".parse()?);
    dns.host("both.test", v4).host("both.test", v6).host("old.test", v4);
    assert_eq!(resolver.addresses("both.test").await?.data, [v6, v4]);
    assert_eq!(resolver.addresses("old.test").await?.data, [v4]);
    Ok(())
}

#[tokio::test]
async fn a_family_that_cannot_be_looked_up_does_not_hide_the_other() -> anyhow::Result<()> {
    let (dns, resolver) = world().await?;
    let v4: IpAddr = "192.0.2.1".parse()?;
    dns.host("half.test", v4).servfail_ipv6("half.test");
    assert_eq!(resolver.addresses("half.test").await?.data, [v4]);
    dns.mx("none.test", 10, "mx.test").servfail_ipv6("none.test");
    assert!(resolver.addresses("none.test").await.is_err(), "nobody knows whether it has one");
    Ok(())
}

#[tokio::test]
async fn answers_are_kept() -> anyhow::Result<()> {
    let (dns, resolver) = world().await?;
    dns.mx("a.test", 10, "mx.a.test");
    resolver.mail_domain("a.test").await?;
    let asked = dns.queries();
    resolver.mail_domain("a.test").await?;
    assert_eq!(dns.queries(), asked, "the second answer comes from the cache");
    Ok(())
}

/// A time to live of one second.
#[tokio::test]
async fn an_answer_whose_time_is_over_is_asked_for_anew() -> anyhow::Result<()> {
    let (dns, resolver) = world().await?;
    let [old, new]: [IpAddr; 2] = ["192.0.2.1".parse()?, "192.0.2.2".parse()?];
    dns.host("mx.test", old);
    assert_eq!(resolver.addresses("mx.test").await?.data, [old]);
    dns.remove("mx.test").host("mx.test", new);
    while resolver.addresses("mx.test").await?.data != [new] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(dns.asked("mx.test", "A"), 2, "and not before");
    Ok(())
}

/// Neither is it a domain without mail hosts, whose address would be taken for one.
#[tokio::test]
async fn an_mx_record_that_is_too_short_is_no_answer() -> anyhow::Result<()> {
    let (dns, resolver) = world().await?;
    for (domain, octets) in
        [("none.test", &[][..]), ("one.test", &[0]), ("two.test", &[0, 10]), ("four.test", &[0, 10, 5, b'm'])]
    {
        dns.raw_mx(domain, octets).host(domain, [192, 0, 2, 1]);
        let answer = resolver.mail_domain(domain).await;
        assert!(answer.is_err(), "{domain}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_vouches_for_what_is_not_validated() -> anyhow::Result<()> {
    let (dns, resolver) = world().await?;
    let v4: IpAddr = "192.0.2.1".parse()?;
    dns.mx("a.test", 10, "mx.a.test").host("mx.a.test", v4).host("b.test", v4);
    for domain in ["a.test", "b.test", "unknown.test", "a..test"] {
        assert_eq!(resolver.mail_domain(domain).await?.proof, Proof::Insecure, "{domain}");
        assert_eq!(resolver.addresses(domain).await?.proof, Proof::Insecure, "{domain}");
    }
    Ok(())
}
