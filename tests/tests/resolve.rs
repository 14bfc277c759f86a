//! `staffetta resolve`: what an operator is told about the way of mail, and what the worker would do.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use staffetta_config::Rate;
use staffetta_queue::server::LocalServer;
use staffetta_queue::{Curb, Target};
use staffetta_testkit::dns::FakeDns;
use staffetta_testkit::tokens::Provider;
use staffetta_tests::{program, queue_of};
use tempfile::TempDir;

struct Desk {
    dns: FakeDns,
    _redis: LocalServer,
    config: PathBuf,
    _folder: TempDir,
}

impl Desk {
    /// With these lines in `[dns]`, and these at the end.
    async fn new(dnssec: &str, more: &str) -> anyhow::Result<Self> {
        let (dns, folder) = (FakeDns::start().await?, tempfile::tempdir()?);
        let redis = LocalServer::start(&folder.path().join("redis"))?;
        let config = folder.path().join("staffetta.toml");
        let text = format!(
            "[redis]\nurl = \"{}\"\npartitions = 2\n[dns]\nservers = [\"{}\"]\n{dnssec}\n{more}\n",
            redis.url(),
            dns.address()
        );
        fs::write(&config, text)?;
        Ok(Self { dns, _redis: redis, config, _folder: folder })
    }

    /// Exit code, standard output, standard error.
    async fn resolve(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        self.run(&[&["resolve"], arguments].concat()).await
    }

    /// Any command of the program.
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        let mut command = Command::new(program("staffetta")?);
        command.args(arguments).arg("--config").arg(&self.config);
        // The DNS answers in this process.
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
        Ok((output.status.code(), text(output.stdout), text(output.stderr)))
    }

    async fn json(&self, domain: &str) -> anyhow::Result<(Option<i32>, Value)> {
        let (code, out, err) = self.resolve(&["--json", domain]).await?;
        ensure!(!out.is_empty(), "{code:?} {err}");
        Ok((code, serde_json::from_str(&out)?))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_addresses_and_what_is_asked_of_them_are_told_in_the_order_of_attempts() -> anyhow::Result<()> {
    let desk = Desk::new("", "").await?;
    desk.dns.mx("a.example", 20, "late.example").mx("a.example", 10, "mx.a.example").mx(
        "a.example",
        30,
        "gone.example",
    );
    desk.dns.host("mx.a.example", [203, 0, 113, 5]).host("late.example", [203, 0, 113, 6]);
    let (code, out, err) = desk.resolve(&["John@A.example"]).await?;
    ensure!(code == Some(0), "{out}{err}");
    for part in [
        "a.example: by smtp to its mail hosts",
        "route: none is for it",
        "MTA-STS: no policy",
        "10 mx.a.example: 203.0.113.5",
        "30 gone.example: no address",
        "1. mx.a.example[203.0.113.5]:25  TLS if offered; plaintext if not, or if it fails (opportunistic)",
        "2. late.example[203.0.113.6]:25",
    ] {
        ensure!(out.contains(part), "{part}: {out}");
    }
    let (_, told) = desk.json("a.example").await?;
    let first = &told["attempts"][0];
    ensure!(
        (&first["host"], &first["address"], &first["policy"])
            == (&json!("mx.a.example"), &json!("203.0.113.5"), &json!("opportunistic")),
        "{told}"
    );
    ensure!(told["deliverable"] == json!(true) && told["hosts"][2]["addresses"] == json!([]), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn why_there_is_no_way_is_told_with_what_would_become_of_the_mail() -> anyhow::Result<()> {
    let desk = Desk::new("", "").await?;
    desk.dns.null_mx("null.example").servfail("late.example").mx("inner.example", 10, "mx.inner.example");
    desk.dns.host("mx.inner.example", [127, 0, 0, 1]);
    for (domain, part) in [
        ("null.example", "A delivery would end: bounced, 5.1.0 Domain null.example does not accept mail (nullMX)"),
        ("none.example", "A delivery would end: bounced, 5.4.4 Host or domain name not found."),
        ("late.example", "A delivery would end: deferred, 4.4.3 "),
        ("inner.example", "A delivery would end: bounced, 5.4.4 every mail host of inner.example has an address"),
    ] {
        let (code, out, err) = desk.resolve(&[domain]).await?;
        ensure!(code == Some(1) && out.contains(part), "{domain}: {code:?} {out}{err}");
        let (_, told) = desk.json(domain).await?;
        ensure!(told["deliverable"] == json!(false) && told["problem"].is_string(), "{told}");
    }
    let (code, out, err) = desk.resolve(&["no domain"]).await?;
    ensure!(code == Some(2) && out.is_empty() && err.contains("is no domain"), "{code:?} {out}{err}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_told_with_its_level() -> anyhow::Result<()> {
    let route = "[[delivery.route]]\ndomain = \"*.b.example\"\nvia = \"smtp://smart.example:587\"\ntls = \"verify\"\n";
    let desk = Desk::new("", route).await?;
    desk.dns.host("smart.example", [203, 0, 113, 7]);
    let (code, out, _) = desk.resolve(&["x.b.example"]).await?;
    for part in [
        "route: domain = \"*.b.example\", via = \"smtp://smart.example:587\"",
        "TLS level verify",
        "1. smart.example[203.0.113.7]:587  TLS required; a certificate for smart.example from a trusted CA (verify)",
    ] {
        ensure!(code == Some(0) && out.contains(part), "{part}: {out}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_a_list_is_told_and_whose_mail_takes_it() -> anyhow::Result<()> {
    let list = "[\"mx\", \"smtps://smart.example\", \"mx://relay.example\"]";
    let routes = format!(
        "[[delivery.route]]\nsender = \"@news.example\"\nvia = {list}\n\
         [[delivery.route]]\ndomain = \"box.example\"\nvia = \"lmtp://unix:/run/lmtp\"\n"
    );
    let desk = Desk::new("", &routes).await?;
    let dns = &desk.dns;
    dns.host("b.example", [203, 0, 113, 1]).host("smart.example", [203, 0, 113, 2]);
    dns.mx("relay.example", 10, "mx.relay.example").host("mx.relay.example", [203, 0, 113, 3]).null_mx("null.example");
    let (code, out, _) = desk.resolve(&["b.example", "--sender", "a@News.example"]).await?;
    for part in [
        "b.example: by smtp to its mail hosts; else to smart.example, port 465, without a look-up of MX records; else to the \
         mail hosts of relay.example",
        &format!(
            "route: domain = \"*\", sender = \"*@news.example\", via = {}",
            list.replace("smart.example", "smart.example:465")
        ),
        "1. b.example[203.0.113.1]:25  TLS if offered",
        "2. smart.example[203.0.113.2]:465  TLS from the first octet; the certificate is not checked (encrypt)",
        "3. mx.relay.example[203.0.113.3]:25  TLS if offered",
    ] {
        ensure!(code == Some(0) && out.contains(part), "{part}: {out}");
    }
    let (code, out, _) = desk.resolve(&["null.example", "--sender", "a@news.example"]).await?;
    ensure!(code == Some(1) && out.contains("nothing behind it is tried") && out.contains("bounced, 5.1.0"), "{out}");
    let (_, out, _) = desk.resolve(&["b.example"]).await?;
    ensure!(out.contains("route: none is for it") && out.contains("--sender and --login tell which"), "{out}");
    let (_, out, _) = desk.resolve(&["b.example", "--sender", "<>"]).await?;
    ensure!(out.contains("route: none is for it") && !out.contains("--sender and --login tell which"), "{out}");
    let (_, out, _) = desk.resolve(&["box.example"]).await?;
    ensure!(out.contains("by lmtp through the unix socket /run/lmtp") && out.contains("[/run/lmtp]  no TLS"), "{out}");
    let (_, told) = desk.json("box.example").await?;
    let first = &told["attempts"][0];
    ensure!((&first["socket"], &first["port"]) == (&json!("/run/lmtp"), &Value::Null), "{told}");
    ensure!(told["depends_on_sender"] == json!(true), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_has_published_is_told_as_a_delivery_would_obey_it() -> anyhow::Result<()> {
    let desk = Desk::new("dnssec = \"trust-ad\"", "").await?;
    desk.dns.vouch().unsigned("sts.example");
    for domain in ["good", "odd", "late", "sts"] {
        let host = format!("mx.{domain}.example");
        desk.dns.mx(&format!("{domain}.example"), 10, &host).host(&host, [203, 0, 113, 8]);
    }
    desk.dns.tlsa("_25._tcp.mx.good.example", [3, 1, 1], &[0xab; 32]);
    desk.dns.tlsa("_25._tcp.mx.odd.example", [1, 1, 1], &[0xab; 32]).servfail("_25._tcp.mx.late.example");
    let (code, out, _) = desk.resolve(&["good.example"]).await?;
    let dane = format!("a certificate that matches at _25._tcp.mx.good.example: [3 1 1 {}] (dane)", "ab".repeat(32));
    ensure!(code == Some(0) && out.contains(&dane) && out.contains("DNS: proven"), "{out}");
    let (code, out, _) = desk.resolve(&["odd.example"]).await?;
    ensure!(code == Some(0) && out.contains("TLS required; the certificate is not checked (dane)"), "{out}");
    let (code, out, _) = desk.resolve(&["late.example"]).await?;
    ensure!(code == Some(1) && out.contains("not used now: TLSA lookup error for mx.late.example:25"), "{out}");

    // A policy that the cluster has kept, and the domain hides.
    let queue = queue_of(&desk.config).await?;
    let policy = |host: &str| format!("a1\nversion: STSv1\nmode: enforce\nmx: {host}\nmax_age: 86400\n");
    let day = Duration::from_secs(86_400);
    queue.policies().keep("sts.example", &policy("mx.sts.example"), day).await?;
    let (code, out, _) = desk.resolve(&["sts.example"]).await?;
    for part in [
        "DNS: not proven, so no DANE",
        "MTA-STS: enforce, id a1, max_age 86400: mx.sts.example",
        "a certificate for mx.sts.example from a trusted CA (mta-sts)",
    ] {
        ensure!(code == Some(0) && out.contains(part), "{part}: {out}");
    }
    queue.policies().keep("sts.example", &policy("mx.other.example"), day).await?;
    let (code, out, _) = desk.resolve(&["sts.example"]).await?;
    let part = "passed by: the MTA-STS policy of sts.example does not list mx.sts.example";
    ensure!(code == Some(1) && out.contains(part), "{out}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_sender_becomes_and_whether_recipients_get_one_each_is_told() -> anyhow::Result<()> {
    let tables = "[[frontend.canonical]]\nsender = \"*@web1.lan\"\nbecomes = \"news@home.example\"\n\
                  [[verp]]\nsender = \"news@home.example\"\nkey = \"a key that nobody knows\"\n";
    let desk = Desk::new("", tables).await?;
    desk.dns.mx("b.example", 10, "mx.b.example").host("mx.b.example", [203, 0, 113, 6]);
    let (becomes, each) =
        ("of <news@home.example>, whom frontend.canonical makes", "an envelope sender of his own (verp)");
    for (sender, other, own) in
        [("root@web1.lan", true, true), ("news@home.example", false, true), ("john@home.example", false, false)]
    {
        let (_, out, _) = desk.resolve(&["b.example", "--sender", sender]).await?;
        ensure!(out.contains(becomes) == other && out.contains(each) == own, "{sender}: {out}");
        let (_, out, _) = desk.resolve(&["b.example", "--json", "--sender", sender]).await?;
        let told: Value = serde_json::from_str(&out)?;
        ensure!(
            told["stopped"] == json!([]) && told["verp"] == own && told["canonical_sender"].is_string() == other,
            "{sender}: {told}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_told_with_its_limits_and_whether_it_rests() -> anyhow::Result<()> {
    let table = "[[delivery.destination]]\nmx = [\"*.big.example\"]\nconcurrency = 5\nrate = \"100/1m\"\n\
                 messages_per_connection = 50\ntls = \"encrypt\"\nignore_extensions = [\"CHUNKING\", \"SMTPUTF8\"]\n";
    let desk = Desk::new("", table).await?;
    desk.dns.mx("a.example", 10, "mx1.big.example").mx("b.example", 10, "mx.b.example");
    desk.dns.host("mx1.big.example", [203, 0, 113, 5]).host("mx.b.example", [203, 0, 113, 6]);
    let (code, out, err) = desk.resolve(&["a.example"]).await?;
    ensure!(code == Some(0), "{code:?} {out}{err}");
    ensure!(
        out.contains("limits of *.big.example: 5 connections, 50 messages each, 100/1m; not used: CHUNKING, SMTPUTF8"),
        "{out}"
    );
    ensure!(out.contains("TLS level encrypt") && !out.contains("suspended"), "{out}");
    let (_, told) = desk.json("b.example").await?;
    let usual = json!({
        "name": "mx.b.example", "concurrency": 20, "rate": null, "messages_per_connection": null, "ignore_extensions": [],
    });
    ensure!(told["destination"] == usual && told["suspended"].is_null(), "{told}");

    let (code, out, _) =
        desk.run(&["destination", "suspend", "*.Big.example", "--for", "1h", "--reason", "busy"]).await?;
    ensure!(code == Some(0) && out == "destination *.big.example is suspended\n", "{code:?} {out}");
    let (_, out, _) = desk.resolve(&["a.example"]).await?;
    ensure!(out.contains("suspended, its mail waits: *.big.example, since ") && out.contains(" more: busy"), "{out}");
    let (_, told) = desk.json("b.example").await?;
    ensure!(told["suspended"].is_null(), "{told}");
    let (code, out, _) = desk.run(&["destination", "list", "--json"]).await?;
    let listed: Value = serde_json::from_str(&out)?;
    ensure!(code == Some(0) && listed["kind"] == "destination" && listed["name"] == "*.big.example", "{out}");
    let (_, out, _) = desk.run(&["blocks"]).await?;
    ensure!(out == "Nothing is blocked.\n", "{out}");
    let (code, out, _) = desk.run(&["destination", "resume", "*.big.example"]).await?;
    ensure!(code == Some(0) && out == "destination *.big.example is resumed\n", "{code:?} {out}");
    let (code, _, err) = desk.run(&["destination", "resume", "*.big.example"]).await?;
    ensure!(code == Some(1) && err.contains("destination *.big.example is not suspended"), "{code:?} {err}");
    ensure!(err.contains("and gets no less than usual") && err.contains("`staffetta destination list`"), "{err}");
    let (code, _, err) = desk.run(&["destination", "suspend", "*"]).await?;
    ensure!(code == Some(2) && err.contains("is no destination; allowed: a domain such as"), "{code:?} {err}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_reports_on_tls_is_told_and_whether_any_are_sent() -> anyhow::Result<()> {
    let tells = |from: &str| format!("[delivery.tls_report]\n{from}\n");
    for (from, end) in [("", "; none are sent without delivery.tls_report.from"), ("from = \"tls@home.example\"", "")] {
        let desk = Desk::new("", &tells(from)).await?;
        for domain in ["a.example", "b.example"] {
            desk.dns.mx(domain, 10, "mx.a.example");
        }
        desk.dns.host("mx.a.example", [203, 0, 113, 5]);
        desk.dns.txt("_smtp._tls.a.example", "v=TLSRPTv1; rua=mailto:tls@a.example");
        let (_, out, err) = desk.resolve(&["a.example"]).await?;
        ensure!(out.contains(&format!("TLSRPT: mailto:tls@a.example would have reports{end}\n")), "{out}{err}");
        let (_, out, _) = desk.resolve(&["b.example"]).await?;
        ensure!(out.contains("TLSRPT: nobody wants reports\n"), "{out}");
        let (_, told) = desk.json("a.example").await?;
        ensure!(told["tls_reports"] == json!(["mailto:tls@a.example"]), "{told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_get_less_of_is_told_until_it_is_ended() -> anyhow::Result<()> {
    let desk = Desk::new("", "").await?;
    desk.dns.mx("a.example", 10, "mx.a.example").host("mx.a.example", [203, 0, 113, 5]);
    let (queue, hour) = (queue_of(&desk.config).await?, Duration::from_secs(3_600));
    let minute = Rate { count: 10, per: Duration::from_secs(60) };
    ensure!(queue.curb("mx.a.example", Curb::Connections(2), hour, "421 too many").await?);
    ensure!(queue.curb("mx.a.example", Curb::Rate(minute), hour, "450 too fast").await?);
    for (begin, end) in [("slow", ": 10/1m, 450 too fast"), ("fewer", ": 2 connections, 421 too many")] {
        let (_, out, _) = desk.resolve(&["a.example"]).await?;
        ensure!(
            out.contains(&format!("  its servers have asked for less, {begin}: since ")) && out.contains(end),
            "{out}"
        );
        let (_, out, _) = desk.run(&["destination", "list"]).await?;
        ensure!(out.contains(&format!("{begin} mx.a.example  since ")) && out.contains(end), "{out}");
    }
    let (_, told) = desk.json("a.example").await?;
    ensure!(told["curbs"][0]["connections"] == 2 && told["curbs"][1]["rate"] == "10/1m", "{told}");
    ensure!(told["suspended"].is_null(), "{told}");
    let (code, out, _) = desk.run(&["destination", "resume", "MX.a.example"]).await?;
    ensure!(code == Some(0) && out == "destination mx.a.example is resumed\n", "{code:?} {out}");
    // What is said to one pool ends with the rest, and by its own name.
    for name in ["mx.a.example", "mx.a.example from news"] {
        ensure!(queue.block(&Target::destination("mx.a.example from news")?, hour, "421 [TSS04]").await?);
        let (code, out, err) = desk.run(&["destination", "resume", name]).await?;
        ensure!(code == Some(0) && out == "destination mx.a.example from news is resumed\n", "{name}: {out}{err}");
    }
    let (code, _, err) = desk.run(&["destination", "resume", "mx.a.example"]).await?;
    ensure!(code == Some(1) && err.contains("is not suspended"), "{err}");
    let of_a_pool = ["destination", "suspend", "mx.a.example from newz", "--reason", "a test"];
    let (code, _, err) = desk.run(&of_a_pool).await?;
    let note = "note: no [[delivery.source]] of this configuration has the pool newz";
    ensure!(code == Some(0) && err.contains(note), "{code:?} {err}");
    let (_, out, _) = desk.resolve(&["a.example"]).await?;
    ensure!(out.contains("suspended for other mail, from one pool: mx.a.example from newz, since "), "{out}");
    let (_, told) = desk.json("a.example").await?;
    ensure!(told["suspended"].is_null() && told["suspended_for_other_pools"][0].is_string(), "{told}");
    let (code, _, err) = desk.run(&["destination", "resume", "mx.a.example"]).await?;
    ensure!(code == Some(0), "{err}");
    ensure!(queue.block(&Target::Unpipelined([203, 0, 113, 5].into()), hour, "timed out").await?);
    let (_, out, _) = desk.resolve(&["a.example"]).await?;
    ensure!(
        out.contains("or if it fails (opportunistic); commands one by one, since ") && out.contains(": timed out"),
        "{out}"
    );
    let (_, told) = desk.json("a.example").await?;
    ensure!(told["attempts"][0]["lock_step"].as_str().is_some_and(|why| why.ends_with(": timed out")), "{told}");
    let (_, out, _) = desk.run(&["destination", "list"]).await?;
    ensure!(out.starts_with("unpipelined 203.0.113.5  since "), "{out}");
    let (code, _, err) = desk.run(&["destination", "resume", "203.0.113.5"]).await?;
    ensure!(code == Some(0), "{err}");
    let (_, out, _) = desk.run(&["destination", "list"]).await?;
    ensure!(out == "No destination is suspended, or gets less.\n", "{out}");
    let (_, told) = desk.json("a.example").await?;
    ensure!(told["curbs"] == json!([]), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_which_rules_replies_are_final_is_told_until_it_is_ended() -> anyhow::Result<()> {
    let desk = Desk::new("", "").await?;
    desk.dns.mx("a.example", 10, "mx.a.example").host("mx.a.example", [203, 0, 113, 5]);
    let (queue, hour) = (queue_of(&desk.config).await?, Duration::from_secs(3_600));
    let holds = async |servers: &str, rule: &str| queue.make_final(servers, rule, hour, "450 never").await;
    for name in ["mx.a.example", "mx.a.example by 1f3a9c2e"] {
        ensure!(holds("mx.a.example", "1f3a9c2e").await?);
        let (_, out, _) = desk.resolve(&["a.example"]).await?;
        ensure!(out.contains("  refusals are final by a rule, bounce by 1f3a9c2e: since "), "{out}");
        let (_, out, _) = desk.run(&["destination", "list"]).await?;
        ensure!(out.starts_with("bounce mx.a.example by 1f3a9c2e  since ") && out.ends_with(": 450 never\n"), "{out}");
        let (_, told) = desk.json("a.example").await?;
        ensure!(told["curbs"][0]["kind"] == "bounce" && told["curbs"][0]["reason"] == "450 never", "{told}");
        let (code, out, err) = desk.run(&["destination", "resume", name]).await?;
        ensure!(code == Some(0) && out == format!("destination {name} is resumed\n"), "{code:?} {out}{err}");
    }
    // What was said to one pool ends with the rest, by whatever rules, and what is another's stays.
    for (servers, rule) in
        [("mx.a.example from news", "1f3a9c2e"), ("mx.a.example", "00c0ffee"), ("mx.b.example", "1f3a9c2e")]
    {
        ensure!(holds(servers, rule).await?);
    }
    let (code, out, err) = desk.run(&["destination", "resume", "mx.a.example"]).await?;
    ensure!(code == Some(0) && out.contains("destination mx.a.example from news is resumed\n"), "{out}{err}");
    let (_, out, _) = desk.run(&["destination", "list"]).await?;
    ensure!(out.starts_with("bounce mx.b.example by 1f3a9c2e  since ") && out.lines().count() == 1, "{out}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_addresses_that_mail_leaves_from_are_told() -> anyhow::Result<()> {
    let table = "[delivery]\ndefault_source = \"pool-a\"\n[[delivery.source]]\npool = \"pool-a\"\naddress = \"127.0.0.10\"\n\
                 hostname = \"out1.example.org\"\nweight = 3\nwarm_up = \"2999-01-01\"\n[[delivery.source]]\npool = \"pool-a\"\naddress = \"127.0.0.11\"\n";
    let desk = Desk::new("", table).await?;
    desk.dns.mx("a.example", 10, "mx.a.example").host("mx.a.example", [203, 0, 113, 5]);
    let (code, _, err) = desk.run(&["queue", "init"]).await?;
    ensure!(code == Some(0), "{err}");
    let (_, out, err) = desk.run(&["source", "suspend", "127.0.0.11"]).await?;
    ensure!(out.contains("is suspended"), "{out}{err}");
    let (_, out, err) = desk.resolve(&["a.example"]).await?;
    let line =
        "  from pool-a, one of 127.0.0.10 as out1.example.org (new: 0 of 0 messages today), 127.0.0.11 (suspended)\n";
    ensure!(out.contains(line), "{out}{err}");
    let (_, told) = desk.json("a.example").await?;
    let expected = json!([
        { "address": "127.0.0.10", "hostname": "out1.example.org", "weight": 3, "suspended": false, "allowed_today": 0, "spent_today": 0 },
        { "address": "127.0.0.11", "hostname": null, "weight": 1, "suspended": true, "allowed_today": null, "spent_today": null },
    ]);
    ensure!(told["source"] == "pool-a" && told["addresses"] == expected, "{told}");
    Ok(())
}

/// And the check of the configuration asks for real.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_told_without_its_secret_and_a_token_tried() -> anyhow::Result<()> {
    let provider = Provider::start_in_clear(([127, 0, 0, 1], 0).into()).await?;
    let smart = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let place = smart.local_addr()?;
    // Who hangs up has refused nobody.
    tokio::spawn(async move { while smart.accept().await.is_ok() {} });
    let route = |domain: &str, login: &str| {
        format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"smtp://{place}\"\nusername = \"john\"\n{login}\n")
    };
    let token = format!(
        "token_url = \"http://{}/token\"\nclient_id = \"relay\"\nclient_secret = \"s3cret\"",
        provider.address()
    );
    let more = route("p.example", "password = \"s3cret\"") + &route("t.example", &token);
    let desk = Desk::new("", &more).await?;
    for (domain, kind) in [("p.example", "password"), ("t.example", "token")] {
        let (_, out, err) = desk.resolve(&[domain]).await?;
        ensure!(out.contains(&format!("with a login: john, {kind}")) && !out.contains("s3cret"), "{out}{err}");
        let (_, report) = desk.json(domain).await?;
        let told = [&report["login"], &report["login_with"], &report["login_name"]];
        ensure!(told == [&json!(true), &json!(kind), &json!("john")], "{report}");
    }
    ensure!(provider.asked().is_empty(), "nobody is asked to tell the way");
    let refusal = r#"{"error":"invalid_client","error_description":"no such secret"}"#;
    provider.answer("/token", "401 Unauthorized", refusal);
    let (_, out, err) = desk.run(&["check", "--service", "delivery"]).await?;
    ensure!(err.contains("delivery.route[1].token_url: refused: invalid_client: no such secret"), "{out}{err}");
    ensure!(!err.contains("s3cret"), "{err}");
    provider.answer("/token", "200 OK", r#"{"access_token":"t","token_type":"Bearer"}"#);
    let (_, out, err) = desk.run(&["check", "--service", "delivery"]).await?;
    ensure!(!err.contains("token_url") && provider.asked().len() == 2, "{out}{err}");
    Ok(())
}
