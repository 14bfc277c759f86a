//! What the resolver proves, and what it finds about certificates (RFC 4035, RFC 7672): both modes, each against a DNS that
//! plays its part.

use std::net::IpAddr;
use std::time::Duration;

use staffetta_config::Dnssec;
use staffetta_policy::tls::Dane;
use staffetta_testkit::dns::FakeDns;
use staffetta_transport::dns::{DnsSettings, MailDomain, Proof, Resolver, SetupError};

const MODES: [Dnssec; 2] = [Dnssec::TrustAd, Dnssec::Validate];
const ADDRESS: [u8; 4] = [192, 0, 2, 1];

async fn world(dnssec: Dnssec) -> anyhow::Result<(FakeDns, Resolver, tempfile::TempDir)> {
    let (dns, dir) = (FakeDns::start().await?, tempfile::tempdir()?);
    let anchor = dir.path().join("root.key");
    if dnssec == Dnssec::Validate {
        std::fs::write(&anchor, dns.sign()?)?;
    } else {
        dns.vouch();
    }
    let trust_anchor = (dnssec == Dnssec::Validate).then_some(anchor);
    let resolver = Resolver::new(&DnsSettings { servers: vec![dns.address()], patience: None, dnssec, trust_anchor })?;
    dns.unsigned("plain.test");
    Ok((dns, resolver, dir))
}

#[tokio::test]
async fn an_answer_is_as_sure_as_its_weakest_link() -> anyhow::Result<()> {
    for mode in MODES {
        let (dns, resolver, _dir) = world(mode).await?;
        dns.mx("a.test", 10, "mx.a.test").host("mx.a.test", ADDRESS).host("b.test", ADDRESS);
        dns.mx("plain.test", 10, "mx.plain.test").host("mx.plain.test", ADDRESS);
        dns.cname("out.test", "mx.plain.test").cname("in.test", "mx.a.test").cname("back.plain.test", "mx.a.test");
        for (domain, proof) in [("a.test", Proof::Secure), ("b.test", Proof::Secure), ("plain.test", Proof::Insecure)] {
            let answer = resolver.mail_domain(domain).await?;
            assert!(matches!(answer.data, MailDomain::Hosts(_)), "{mode:?} {domain}");
            assert_eq!(answer.proof, proof, "{mode:?} {domain}");
        }
        for (host, proof) in [
            ("mx.a.test", Proof::Secure),
            ("in.test", Proof::Secure),
            ("mx.plain.test", Proof::Insecure),
            ("out.test", Proof::Insecure),
            ("back.plain.test", Proof::Insecure),
        ] {
            let answer = resolver.addresses(host).await?;
            assert_eq!((answer.data, answer.proof), (vec![IpAddr::from(ADDRESS)], proof), "{mode:?} {host}");
        }
        assert_eq!(resolver.mail_domain("nowhere.test").await?.data, MailDomain::NotFound, "{mode:?}");
        assert_eq!(resolver.mail_domain("nowhere.plain.test").await?.data, MailDomain::NotFound, "{mode:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_forged_is_no_answer() -> anyhow::Result<()> {
    for mode in MODES {
        let (dns, resolver, _dir) = world(mode).await?;
        dns.mx("a.test", 10, "mx.a.test").host("mx.a.test", ADDRESS).forged("a.test").forged("mx.a.test");
        assert!(resolver.mail_domain("a.test").await.is_err(), "{mode:?}");
        assert!(resolver.addresses("mx.a.test").await.is_err(), "{mode:?}");
        assert!(resolver.dane("mx.a.test", ADDRESS.into(), 25, &[]).await.is_err(), "{mode:?}");
    }
    Ok(())
}

/// `base=data` of the records, or what else is known.
async fn found(resolver: &Resolver, host: &str) -> String {
    match resolver.dane(host, ADDRESS.into(), 25, &["a.test"]).await {
        Ok(Dane::Absent) => "absent".to_owned(),
        Ok(Dane::Unusable) => "unusable".to_owned(),
        Ok(Dane::Records(pins)) => format!("{}: {}", pins.names.join(" "), pins.records[0].data[0]),
        Err(_) => "later".to_owned(),
    }
}

#[tokio::test]
async fn rfc7672_2_2_the_records_of_a_host_are_found_where_its_name_leads() -> anyhow::Result<()> {
    for mode in MODES {
        let (dns, resolver, _dir) = world(mode).await?;
        let record = |name: &str, mark: u8| dns.tlsa(&format!("_25._tcp.{name}"), [3, 1, 1], &[mark; 32]);
        for host in ["mx", "none", "odd", "late", "forged", "away", "target", "self", "round", "empty", "void", "far"] {
            dns.host(&format!("{host}.test"), ADDRESS);
        }
        dns.host("mx.plain.test", ADDRESS).cname("out.test", "mx.plain.test").cname("back.plain.test", "mx.test");
        dns.cname("both.test", "mx.test").cname("own.test", "target.test");
        record("mx.test", 1);
        record("both.test", 2);
        record("own.test", 3);
        record("out.test", 4);
        record("mx.plain.test", 5);
        record("forged.test", 6);
        dns.tlsa("_25._tcp.odd.test", [1, 1, 1], &[7; 32]).servfail("_25._tcp.late.test");
        dns.forged("_25._tcp.forged.test").cname("_25._tcp.away.test", "_25._tcp.mx.plain.test");
        dns.cname("_25._tcp.self.test", "_25._tcp.self.test");
        dns.cname("_25._tcp.round.test", "there.test").cname("there.test", "_25._tcp.round.test");
        dns.txt("_25._tcp.empty.test", "no such record").cname("_25._tcp.void.test", "none.test");
        dns.txt("txt.plain.test", "no such record").cname("_25._tcp.far.test", "txt.plain.test");
        for (host, expected) in [
            ("mx.test", "mx.test a.test: 1"),
            // An alias: where it leads, else its own name.
            ("both.test", "mx.test both.test a.test: 1"),
            ("own.test", "own.test a.test: 3"),
            // It leads out of what is signed, so only its own name counts.
            ("out.test", "out.test a.test: 4"),
            // Nobody vouches for the name, or for the records.
            ("mx.plain.test", "absent"),
            ("back.plain.test", "absent"),
            ("away.test", "absent"),
            ("none.test", "absent"),
            ("odd.test", "unusable"),
            ("late.test", "later"),
            ("forged.test", "later"),
            // Aliases in a circle say nothing; there may be records.
            ("self.test", "later"),
            ("round.test", "later"),
            ("empty.test", "absent"),
            ("void.test", "absent"),
            ("far.test", "absent"),
        ] {
            assert_eq!(found(&resolver, host).await, expected, "{mode:?} {host}");
        }
        assert_eq!(
            dns.asked("_25._tcp.mx.plain.test", "TLSA"),
            0,
            "{mode:?}: what would be said there counts for nothing"
        );
    }
    Ok(())
}

/// What cannot be read is never taken for nothing: the host is left alone, or TLS is asked of it.
#[tokio::test]
async fn records_that_are_too_short_open_no_way_to_clear_text() -> anyhow::Result<()> {
    for mode in MODES {
        let (dns, resolver, _dir) = world(mode).await?;
        for (name, octets, alone) in [
            ("none", &[][..], "later"),
            ("one", &[3], "later"),
            ("two", &[3, 1], "later"),
            ("three", &[3, 1, 1], "unusable"),
            ("six", &[3, 1, 1, 9, 9, 9], "unusable"),
            ("key", &[3, 1, 0, 9], "unusable"),
            ("nineteen", &[3, 1, 2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], "unusable"),
        ] {
            let host = format!("{name}.test");
            dns.host(&host, ADDRESS).raw_tlsa(&format!("_25._tcp.{host}"), octets);
            assert_eq!(found(&resolver, &host).await, alone, "{mode:?} {host}");
            // One that can be used counts, whatever lies beside it, if it can be read at all.
            let host = format!("{name}.beside.test");
            dns.host(&host, ADDRESS).raw_tlsa(&format!("_25._tcp.{host}"), octets);
            dns.tlsa(&format!("_25._tcp.{host}"), [3, 1, 1], &[7; 32]);
            let beside = if alone == "later" { alone.to_owned() } else { format!("{host} a.test: 7") };
            assert_eq!(found(&resolver, &host).await, beside, "{mode:?} {host}");
        }
    }
    Ok(())
}

#[test]
fn a_trust_anchor_that_is_none_is_refused_with_its_path() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("root.key");
    let runtime = tokio::runtime::Runtime::new()?;
    let _inside = runtime.enter();
    let settings = DnsSettings {
        servers: vec!["127.0.0.1:53".parse()?],
        patience: None,
        dnssec: Dnssec::Validate,
        trust_anchor: Some(path.clone()),
    };
    for content in [None, Some(""), Some("; nothing\n"), Some(". IN DS 20326 8 2 00\n")] {
        if let Some(content) = content {
            std::fs::write(&path, content)?;
        }
        let Err(error @ SetupError::TrustAnchor { .. }) = Resolver::new(&settings) else {
            anyhow::bail!("{content:?} is taken for an anchor");
        };
        assert!(error.to_string().contains("root.key"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn that_there_is_nothing_is_remembered_when_we_have_proven_it_too() -> anyhow::Result<()> {
    let (dns, resolver, _dir) = world(Dnssec::Validate).await?;
    dns.host("none.test", ADDRESS);
    for _ in 0..2 {
        assert_eq!(found(&resolver, "none.test").await, "absent");
        // Longer than an answer lives that nobody wants to keep.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(dns.asked("_25._tcp.none.test", "TLSA"), 1);
    Ok(())
}
