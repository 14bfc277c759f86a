//! Traces: one message, one trace, over three services and the queue between them.

use std::collections::HashSet;

use anyhow::Context as _;
use staffetta_cli::sink::Scenario;
use staffetta_tests::{Collector, SOON, Service, Span, World, eventually, next};

const MESSAGE: &str = "From: john@example.org\r\nTo: lisa@example.com\r\nSubject: SECRET\r\n\r\nBODY\r\n";
const JOHN: &str = "john@example.org";
const PASSWORD: &str = "summersun";
const DROPPED: &str = "staffetta_spans_dropped_total";

async fn world(endpoint: &str) -> anyhow::Result<World> {
    let world = World::new().await?.user(JOHN, PASSWORD).await?;
    Ok(world.set("telemetry.otlp_endpoint", format!("{endpoint:?}")))
}

/// John logs in and sends to Lisa; the queue id.
async fn send(world: &World) -> anyhow::Result<String> {
    let mut client = world.login(JOHN, PASSWORD).await?;
    let accepted = client.send(JOHN, &["lisa@example.com"], MESSAGE).await?;
    anyhow::ensure!(accepted.code == 250, "{}", accepted.text());
    Ok(accepted.text().rsplit(' ').next().unwrap_or_default().to_owned())
}

/// The spans of the collector once there is one that fits.
async fn until(collector: &Collector, fits: impl Fn(&Span) -> bool) -> anyhow::Result<Vec<Span>> {
    let come = || async {
        collector.spans().iter().any(&fits).then_some(()).context(format!("{:?}", names(&collector.spans())))
    };
    eventually(SOON, come).await?;
    Ok(collector.spans())
}

fn names(spans: &[Span]) -> Vec<(&str, &str)> {
    spans.iter().map(|span| (span.service.as_str(), span.name.as_str())).collect()
}

fn find<'a>(spans: &'a [Span], service: &str, name: &str) -> anyhow::Result<&'a Span> {
    let found = spans.iter().find(|span| span.service == service && span.name == name);
    found.with_context(|| format!("no {name} of {service} in {:?}", names(spans)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_one_trace_from_the_login_to_the_remote_reply() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let mut world = world(collector.url()).await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let qid = send(&world).await?;
    next(&mut mx).await?;
    world.until_empty().await?;
    // Each service sends for itself.
    until(&collector, |span| span.name == "smtp.receive").await?;
    until(&collector, |span| span.service == "staffetta-auth" && span.name == "CheckSender").await?;
    let spans = until(&collector, |span| span.name == "smtp.attempt").await?;

    let (frontend, auth, delivery) = ("staffetta-frontend", "staffetta-auth", "staffetta-delivery");
    let root = find(&spans, frontend, "smtp.receive")?;
    assert_eq!(spans.iter().map(|span| &span.trace).collect::<HashSet<_>>().len(), 1, "{:?}", names(&spans));
    for (service, name, parent) in [
        (frontend, "Authenticate", root),
        (auth, "Authenticate", find(&spans, frontend, "Authenticate")?),
        (auth, "CheckSender", find(&spans, frontend, "CheckSender")?),
        (frontend, "queue.enqueue", root),
        (delivery, "smtp.attempt", find(&spans, frontend, "queue.enqueue")?),
        (delivery, "dns.lookup", find(&spans, delivery, "smtp.attempt")?),
        (delivery, "smtp.connect", find(&spans, delivery, "smtp.attempt")?),
        (delivery, "smtp.transaction", find(&spans, delivery, "smtp.attempt")?),
        (delivery, "queue.settle", find(&spans, delivery, "smtp.attempt")?),
    ] {
        let span = find(&spans, service, name)?;
        assert_eq!(span.parent, parent.id, "{service} {name}");
        assert_eq!(span.failure, None, "{service} {name}");
        assert!(parent.nanos.0 <= span.nanos.0 && span.nanos.0 <= span.nanos.1, "{service} {name}");
    }
    assert_eq!(root.parent, "");
    assert_eq!(root.attribute("messaging.message.id"), Some(qid.clone()));
    let attempt = find(&spans, delivery, "smtp.attempt")?;
    assert_eq!(attempt.attribute("staffetta.delivered").as_deref(), Some("1"));
    let transaction = find(&spans, delivery, "smtp.transaction")?;
    assert_eq!(transaction.attribute("smtp.response.status_code").as_deref(), Some("250"));
    assert!(find(&spans, delivery, "smtp.connect")?.attribute("staffetta.tls").is_some_and(|tls| tls.contains("TLS")));
    let all = format!("{spans:?}");
    assert!(!all.contains(PASSWORD) && !all.contains("SECRET") && !all.contains("BODY"), "{all}");

    for (service, event) in [(Service::Frontend, "accepted"), (Service::Delivery, "delivered")] {
        let log = world.log(service);
        let line = log.lines().find(|line| line.contains(&format!("\"event\":\"{event}\"")) && line.contains(&qid));
        assert!(line.is_some_and(|line| line.contains(&format!("\"trace_id\":\"{}\"", root.trace))), "{log}");
        if service == Service::Frontend {
            let log = world.folder().join("staffetta-frontend.log");
            let journey = world.staffetta(&["trace", &qid, "--log", &log.display().to_string()])?;
            assert!(journey.contains(&format!(", trace {}", root.trace)), "{journey}");
        }
        eventually(SOON, || async {
            let metrics = world.metrics(service).await?;
            let exported = metrics.sum("staffetta_spans_exported_total", &[]);
            anyhow::ensure!(exported > 0.0 && metrics.sum(DROPPED, &[]) == 0.0, "{exported}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// A retry may come days after: a trace of its own, which leads back. What was hidden in the log is hidden here.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_is_a_trace_of_its_own_that_leads_back() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let world = world(collector.url()).await?;
    let world = world.set("log.addresses", "\"hashed\"").set("log.address_key", "\"0123456789abcdef\"");
    let mut world = world.start().await?;
    let mx = world.hand("example.com").await?;
    let qid = send(&world).await?;
    for reply in ["451 4.2.1 <lisa@example.com> later", "550 5.1.1 <lisa@example.com> gone"] {
        let mut visit = mx.accept().await?;
        visit.until_data().await?;
        visit.say("354 go on").await?;
        visit.content().await?;
        visit.say(reply).await?;
        until(&collector, |span| span.failure.as_ref().is_some_and(|text| text.contains(&reply[..3]))).await?;
        world.staffetta(&["queue", "flush", &qid]).ok();
    }
    let spans = until(&collector, |span| !span.links.is_empty()).await?;
    let root = find(&spans, "staffetta-frontend", "smtp.receive")?;
    let later = spans.iter().find(|span| !span.links.is_empty()).context("no link")?;
    assert_eq!((later.name.as_str(), &later.links), ("smtp.attempt", &vec![root.trace.clone()]));
    assert_ne!(later.trace, root.trace);
    assert_eq!(later.attribute("staffetta.attempt").as_deref(), Some("2"));
    let log = world.log(Service::Delivery);
    let bounced = log.lines().find(|line| line.contains("\"event\":\"bounced\"")).context("not bounced")?;
    assert!(bounced.contains(&format!("\"trace_id\":\"{}\"", later.trace)), "{bounced}");
    let all = format!("{spans:?}");
    assert!(all.contains("@example.com") && !all.contains("lisa@") && !all.contains("john"), "{all}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_flows_without_a_collector_and_what_it_does_not_get_is_counted() -> anyhow::Result<()> {
    let nobody = staffetta_testkit::ports::Port::reserve()?;
    let mut world = world(&format!("http://{}", nobody.address())).await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    send(&world).await?;
    next(&mut mx).await?;
    world.until_empty().await?;
    eventually(SOON, || async {
        let metrics = world.metrics(Service::Delivery).await?;
        let dropped = metrics.sum(DROPPED, &["reason=\"unreachable\""]);
        anyhow::ensure!(dropped > 0.0 && metrics.sum("staffetta_spans_exported_total", &[]) == 0.0, "{dropped}");
        Ok(())
    })
    .await?;
    let log = world.log(Service::Delivery);
    assert_eq!(log.matches("the collector of traces does not take spans").count(), 1, "{log}");
    let checked = world.staffetta(&["check"]).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(checked.contains("telemetry.otlp_endpoint: nobody takes spans at http://"), "{checked}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_no_message_is_a_trace_taken_with_a_ratio_of_nothing() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let mut world = world(collector.url()).await?.set("telemetry.sample_ratio", "0").start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    send(&world).await?;
    next(&mut mx).await?;
    world.until_empty().await?;
    // A stop exports what there is.
    for service in [Service::Frontend, Service::Delivery] {
        world.stop(service)?;
    }
    assert!(collector.spans().is_empty(), "{:?}", names(&collector.spans()));
    assert!(!world.log(Service::Frontend).contains("trace_id"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_believed_by_its_certificate() -> anyhow::Result<()> {
    let world = World::new().await?.user(JOHN, PASSWORD).await?;
    let collector = Collector::encrypted(&world.certificate("collector")?).await?;
    let ca = world.ca();
    let world = world.set("telemetry.otlp_endpoint", format!("{:?}", collector.url()));
    let mut world = world.set("telemetry.otlp_ca", format!("{ca:?}")).start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    send(&world).await?;
    next(&mut mx).await?;
    until(&collector, |span| span.name == "smtp.attempt").await?;
    Ok(())
}
