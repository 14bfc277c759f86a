//! Writes the journeys of many messages to standard output, to look at the log, to feed it to a tool, to time it.
//!
//! `cargo run -p staffetta-telemetry --example maillog -- postfix 1000 | pflogsumm`

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use staffetta_mail::{QueueId, Status};
use staffetta_policy::classify::Endpoint;
use staffetta_policy::diagnosis::Class;
use staffetta_telemetry::maillog::{self, Accepted, Attempt, Client, Delays, Rejected, Relay, Removed, Sasl};
use staffetta_telemetry::{Build, LogFormat, init, set_syslog_name};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let format = match arguments.next().as_deref() {
        Some("postfix") => LogFormat::Postfix,
        _ => LogFormat::Json,
    };
    let count: u32 = arguments.next().map_or(Ok(3), |count| count.parse())?;
    set_syslog_name("postfix");
    let guard = init(format, "info", &["example"], Build::UNKNOWN)?;
    let start = Instant::now();
    (0..count).for_each(journey);
    let spent = start.elapsed();
    drop(guard);
    writeln!(io::stderr(), "{count} journeys in {spent:?}")?;
    Ok(())
}

fn journey(number: u32) {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let qid = QueueId::new(0, millis, number);
    let client = Client { address: ([192, 0, 2, 7], 50123).into(), name: Some("client.example.org".into()) };
    maillog::accepted(&Accepted {
        qid,
        listener: "submission",
        client,
        helo: "client.example.org".into(),
        proto: "ESMTPSA",
        tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384"),
        sasl: Some(Sasl { method: "PLAIN", username: "john@example.org".into() }),
        from: "john@example.org".into(),
        size: 5120,
        nrcpt: 1,
        message_id: Some("20261124041727.1@client.example.org".into()),
        held: false,
        trace: None,
    });
    let attempt = Attempt {
        qid,
        to: "lisa@example.com".into(),
        orig_to: None,
        from: "john@example.org".into(),
        mail_from: None,
        relay: Some(Relay { host: "mx.example.com".into(), endpoint: &Endpoint::Tcp(([203, 0, 113, 25], 25).into()) }),
        source: None,
        protocol: "smtp",
        tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384"),
        tls_trust: Some("Verified"),
        tls_policy: Some("dane"),
        tls_waived: None,
        dkim: Some("example.org/s2026"),
        conn_use: 2,
        delays: Delays { connection: Duration::from_millis(250), ..Delays::default() },
        dsn: Status::new(2, 0, 0),
        code: Some(250),
        class: None,
        response: "250 2.0.0 Ok: queued as 4XyZ".into(),
        attempt: 1,
        next: None,
        trace: None,
    };
    match number % 10 {
        0 => maillog::bounced(&Attempt {
            dsn: Status::new(5, 1, 1),
            code: Some(550),
            class: Some(Class::BadMailbox),
            response:
                "host mx.example.com[203.0.113.25] said: 550 5.1.1 <lisa@example.com>: no (in reply to RCPT TO command)"
                    .into(),
            ..attempt
        }),
        1 => maillog::rejected(&Rejected {
            listener: "submission",
            client,
            stage: "RCPT",
            reply: "554 5.7.1 <lisa@example.com>: Relay access denied".into(),
            from: Some("john@example.org".into()),
            to: Some("lisa@example.com".into()),
            proto: "ESMTP",
            helo: Some("client.example.org".into()),
            sasl: None,
            trace: None,
        }),
        _ => maillog::delivered(&attempt),
    }
    maillog::removed(&Removed { qid });
}
