//! DKIM from the key to the verifier: dkimpy reads what arrives, keys change while mail is on its way, and the `staffetta`
//! command makes keys, shows their records and looks them up.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use staffetta_cli::sink::Scenario;
use staffetta_dkim::{Algorithm, Draft, Key, KeyError, Row, record, record_name};
use staffetta_testkit::dkim::verify;
use staffetta_testkit::dns::FakeDns;
use staffetta_tests::{Client, SOON, Service, World, eventually, next, program};

/// Reads records and messages, and says of each message which of its signatures are good.
const DKIMPY: &str = r#"
import base64, dkim, json, sys
asked = json.load(sys.stdin)
def txt(name, timeout=5):
    return asked["records"][name.decode().rstrip(".")].encode()
def verified(message, index):
    try:
        return dkim.DKIM(message).verify(idx=index, dnsfunc=txt)
    except dkim.DKIMException as error:
        return str(error)
messages = [base64.b64decode(text) for text in asked["messages"]]
json.dump([[verified(message, index) for index in range(asked["signatures"])] for message in messages], sys.stdout)
"#;

/// The one that `scripts/setup test` has furnished with dkimpy; else the system's.
fn python() -> PathBuf {
    let cache = std::env::var_os("STAFFETTA_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|text| !text.is_empty()).map(PathBuf::from).or(home);
        cache.map(|cache| cache.join("staffetta"))
    });
    let ours = cache.map(|cache| cache.join("python/bin/python")).filter(|path| path.exists());
    ours.unwrap_or_else(|| "python3".into())
}

/// What dkimpy says of the first signatures of each message.
async fn dkimpy(records: Vec<(String, String)>, messages: Vec<Vec<u8>>, signatures: usize) -> anyhow::Result<Value> {
    let encoded: Vec<String> = messages.iter().map(|message| BASE64_STANDARD.encode(message)).collect();
    let records: serde_json::Map<_, _> = records.into_iter().map(|(name, text)| (name, text.into())).collect();
    let asked = json!({"records": records, "messages": encoded, "signatures": signatures}).to_string();
    tokio::task::spawn_blocking(move || {
        let mut child = Command::new(python())
            .args(["-c", DKIMPY])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("no input")?.write_all(asked.as_bytes())?;
        let output = child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "is dkimpy there? `scripts/setup test` installs it: {errors}");
        Ok(serde_json::from_slice(&output.stdout)?)
    })
    .await?
}

/// An RSA and an Ed25519 key.
fn pair() -> anyhow::Result<Vec<Row>> {
    let row = |selector: &str, algorithm| {
        let (key, _) = Key::generate(algorithm)?;
        anyhow::Ok(Row { domain: "example.org".into(), selector: selector.into(), key })
    };
    Ok(vec![row("r", Algorithm::Rsa)?, row("e", Algorithm::Ed25519)?])
}

fn records(rows: &[Row]) -> anyhow::Result<Vec<(String, String)>> {
    rows.iter().map(|row| Ok((record_name(&row.selector, &row.domain), record(&row.key)?))).collect()
}

/// The next number of a sequence that is the same every time.
fn step(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize
}

fn some(seed: &mut u64, parts: &[&str], most: usize) -> String {
    (0..step(seed) % (most + 1)).map(|_| parts[step(seed) % parts.len()]).collect()
}

/// A message as strange as mail can be: folded, doubled, empty and blank fields, bodies of blanks and of nothing.
fn odd_message(seed: &mut u64) -> String {
    const NAMES: [&str; 10] =
        ["From", "from", "TO", "Subject", "Date", "X-Any", "References", "List-Id", "List-Unsubscribe", "Content-Type"];
    const WORDS: [&str; 10] = ["a", " ", "\t", "\r\n ", "\r\n\t", ":", ";", "=", "\u{fc}", "<a@b.test>"];
    const TEXT: [&str; 9] = ["a", "b c", " ", "\t", "\r\n", "\r\n\r\n", ".", "\u{e9}", "From: x\r\n"];
    let mut message = "Received: from a\r\n\tby b\r\n".to_owned();
    for _ in 0..step(seed) % 9 {
        message += &format!("{}: {}\r\n", NAMES[step(seed) % NAMES.len()], some(seed, &WORDS, 8));
    }
    message + "\r\n" + &some(seed, &TEXT, 24) + "\r\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn dkimpy_verifies_odd_messages_and_sees_what_was_changed() -> anyhow::Result<()> {
    let rows = pair()?;
    let mut seed = 2026;
    let mut signed = Vec::new();
    for _ in 0..300 {
        let message = odd_message(&mut seed);
        let mut draft = Draft::default();
        draft.update(message.as_bytes())?;
        let signatures = draft.finish()?.sign(&rows, 1_764_000_000)?;
        signed.push([&signatures, message.as_bytes()].concat());
    }
    let changed = signed.iter().map(|message| [message, &b"P.S.\r\n"[..]].concat()).collect();
    let found = dkimpy(records(&rows)?, signed.clone(), 2).await?;
    for (message, found) in signed.iter().zip(found.as_array().context("no list")?) {
        assert_eq!(*found, json!([true, true]), "{}", String::from_utf8_lossy(message));
    }
    let found = dkimpy(records(&rows)?, changed, 2).await?;
    assert!(found.as_array().is_some_and(|all| all.iter().all(|one| !one.to_string().contains("true"))), "{found}");
    Ok(())
}

/// Operators have keys from elsewhere.
#[test]
fn keys_that_openssl_made_are_taken_and_short_ones_refused() -> anyhow::Result<()> {
    let made = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        anyhow::Ok(Key::from_pem(&output.stdout).map(|key| (key.algorithm(), key.is_slow())))
    };
    for (arguments, expected) in [
        ("genpkey -algorithm ed25519", Ok((Algorithm::Ed25519, false))),
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048", Ok((Algorithm::Rsa, false))),
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:4096", Ok((Algorithm::Rsa, true))),
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:1024", Err(KeyError::TooSmall)),
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -aes128 -pass pass:x", Err(KeyError::Encrypted)),
        ("genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256", Err(KeyError::Unsupported)),
        ("genpkey -algorithm x25519", Err(KeyError::Unsupported)),
        ("ecparam -name prime256v1 -genkey -noout", Err(KeyError::Unsupported)),
        ("ecparam -name prime256v1", Err(KeyError::Missing)),
        ("genrsa 2048", Ok((Algorithm::Rsa, false))),
    ] {
        assert_eq!(made(arguments)?, expected, "{arguments}");
    }
    // PKCS #1: OpenSSL 1 writes it by default and does not know the option, OpenSSL 3 when asked.
    let traditional = made("genrsa -traditional 2048").or_else(|_| made("genrsa 2048"))?;
    assert_eq!(traditional, Ok((Algorithm::Rsa, false)));
    Ok(())
}

/// A key in a file below the world's folder, and its table.
fn key_file(world: &World, name: &str, algorithm: Algorithm) -> anyhow::Result<(PathBuf, Key)> {
    let (key, pem) = Key::generate(algorithm)?;
    let path = world.folder().join(name);
    fs::write(&path, pem.as_bytes())?;
    Ok((path, key))
}

fn table(domain: &str, selector: &str, key: &std::path::Path) -> String {
    let key = key.display();
    format!("[[delivery.dkim]]\ndomain = \"{domain}\"\nselector = \"{selector}\"\nkey = \"{key}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_login_submits_arrives_signed_in_chunks_or_not() -> anyhow::Result<()> {
    let world = World::new().await?.user("john@example.org", "summersun").await?;
    let (rsa, one) = key_file(&world, "r.pem", Algorithm::Rsa)?;
    let (ed, two) = key_file(&world, "e.pem", Algorithm::Ed25519)?;
    // So long a key that it is used on a thread of its own.
    let long = world.folder().join("l.pem");
    let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&long).arg("4096").output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let three = Key::from_pem(&fs::read(&long)?)?;
    let tables = table("example.org", "r", &rsa) + &table("example.org", "e", &ed) + &table("example.org", "l", &long);
    let mut world = world.tables(&tables).start().await?;
    let mut mx = world.mx("takes.test", Scenario::default()).await?;
    let mut client = world.login("john@example.org", "summersun").await?;
    let head = "From: \"Doe, John\" <john@example.org>\r\nSubject: Gr\u{fc}\u{df}e\r\n aus der Ferne\r\n";
    let mut arrived = Vec::new();
    for body in ["Hello\r\n.dot  \r\n\r\n".to_owned(), String::new(), "A line  of text\r\n\t\r\n".repeat(200_000)] {
        let reply = client.send("john@example.org", &["lisa@takes.test"], &format!("{head}\r\n{body}")).await?;
        ensure!(reply.code == 250, "{}", reply.text());
        arrived.push(next(&mut mx).await?.body.to_vec());
    }
    world.until_empty().await?;
    let records = vec![
        ("r._domainkey.example.org".to_owned(), record(&one)?),
        ("e._domainkey.example.org".into(), record(&two)?),
        ("l._domainkey.example.org".into(), record(&three)?),
    ];
    let all = json!([true, true, true]);
    assert_eq!(dkimpy(records, arrived, 3).await?, json!([all, all, all]));
    let metrics = world.metrics(Service::Delivery).await?;
    assert_eq!(metrics.sum("staffetta_dkim_signed_total", &["result=\"signed\""]), 3.0);
    world.stop(Service::Delivery)?;
    let log = world.log(Service::Delivery);
    assert_eq!(log.matches("\"dkim\":\"example.org/r,example.org/e,example.org/l\"").count(), 3, "{log}");
    Ok(())
}

/// Else a list of a thousand domains would cost a thousand signatures.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_many_domains_is_signed_a_few_times_at_most() -> anyhow::Result<()> {
    const DOMAINS: usize = 60;
    let world = World::new().await?.set("frontend.reject_unknown_recipient_domain", "false");
    let (path, key) = key_file(&world, "key.pem", Algorithm::Ed25519)?;
    let port = world.mx_port();
    let route =
        format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://mx1.smart.test:{port}\"\nconcurrency = 1\n");
    let mut world = world.tables(&route).tables(&table("example.org", "s1", &path)).start().await?;
    let mut smart = world.mx("smart.test", Scenario::default()).await?;
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    let recipients: Vec<String> = (0..DOMAINS).map(|n| format!("lisa@d{n}.test")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    client.send("john@example.org", &recipients, "From: john@example.org\r\n\r\nx").await?;
    let mut reached = 0;
    while reached < DOMAINS {
        let received = next(&mut smart).await?;
        assert_eq!(selector(&received.body, &key), Ok(vec!["s1".to_owned()]));
        reached += received.recipients.len();
    }
    assert_eq!(reached, DOMAINS);
    world.until_empty().await?;
    let signed = world.metrics(Service::Delivery).await?.sum("staffetta_dkim_signed_total", &["result=\"signed\""]);
    assert!((1.0..=10.0).contains(&signed), "signed {signed} times for {DOMAINS} domains");
    Ok(())
}

/// The selector that signs a message, if its signature is good.
fn selector(message: &[u8], key: &Key) -> Result<Vec<String>, String> {
    let record = record(key).map_err(|error| error.to_string())?;
    Ok(verify(message, |_| Some(record.clone()))?.into_iter().map(|signature| signature.selector).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_used_after_a_hangup_and_a_bad_file_leaves_the_last_good_one() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (path, first) = key_file(&world, "key.pem", Algorithm::Ed25519)?;
    let mut world = world.tables(&table("example.org", "s1", &path)).start().await?;
    let mut mx = world.mx("takes.test", Scenario::default()).await?;
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    let text = "From: john@example.org\r\n\r\nx";
    client.send("john@example.org", &["lisa@takes.test"], text).await?;
    assert_eq!(selector(&next(&mut mx).await?.body, &first), Ok(vec!["s1".to_owned()]));

    let (_, second) = key_file(&world, "key.pem", Algorithm::Ed25519)?;
    world.hang_up(Service::Delivery)?;
    let told = |what: &'static str| {
        let world = &world;
        eventually(SOON, move || async move {
            ensure!(world.log(Service::Delivery).contains(what), "the log does not say {what:?}");
            Ok(())
        })
    };
    told("DKIM keys reloaded").await?;
    client.send("john@example.org", &["lisa@takes.test"], text).await?;
    assert_eq!(selector(&next(&mut mx).await?.body, &second), Ok(vec!["s1".to_owned()]));

    fs::write(&path, "no key")?;
    world.hang_up(Service::Delivery)?;
    told("keeping the DKIM keys in use").await?;
    client.send("john@example.org", &["lisa@takes.test"], text).await?;
    assert_eq!(selector(&next(&mut mx).await?.body, &second), Ok(vec!["s1".to_owned()]));
    Ok(())
}

/// The `staffetta` command with a configuration of its own.
struct Desk {
    dns: FakeDns,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new() -> anyhow::Result<Self> {
        Ok(Self { dns: FakeDns::start().await?, folder: tempfile::tempdir()? })
    }

    fn configure(&self, tables: &str) -> anyhow::Result<()> {
        let text = format!(
            "hostname = \"mail.example.org\"\nredis.url = \"unix:/nonexistent/redis\"\n[dns]\nservers = [\"{}\"]\n{tables}",
            self.dns.address()
        );
        Ok(fs::write(self.folder.path().join("staffetta.toml"), text)?)
    }

    /// Exit code, standard output, standard error of `staffetta dkim`.
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        self.staffetta(&[&["dkim"], arguments].concat()).await
    }

    async fn staffetta(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        let mut command = Command::new(program("staffetta")?);
        command.current_dir(self.folder.path()).args(arguments);
        command.env("STAFFETTA_CONFIG", self.folder.path().join("staffetta.toml"));
        // The DNS answers in this process.
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
        Ok((output.status.code(), text(output.stdout), text(output.stderr)))
    }
}

/// The text of a record in a line of a zone file.
fn record_in(line: &str) -> anyhow::Result<(String, String)> {
    let (name, strings) = line.trim().split_once(" IN TXT ").context("no TXT record")?;
    let strings: Vec<&str> = strings.trim_matches('"').split("\" \"").collect();
    ensure!(strings.iter().all(|string| string.len() <= 255), "too long a string: {line}");
    Ok((name.trim_end_matches('.').to_owned(), strings.concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_published_and_found() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let mut tables = String::new();
    for (selector, algorithm) in [("r2026", "rsa"), ("e2026", "ed25519")] {
        let file = format!("{selector}.pem");
        let arguments =
            ["keygen", "--domain", "Example.org", "--selector", selector, "--algorithm", algorithm, "--out", &file];
        let (code, out, err) = desk.run(&arguments).await?;
        assert_eq!(code, Some(0), "{err}");
        let (name, text) = record_in(&out)?;
        assert_eq!(name, format!("{selector}._domainkey.example.org"));
        let path = desk.folder.path().join(&file);
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        let pem = fs::read_to_string(&path)?;
        assert_eq!(record(&Key::from_pem(pem.as_bytes())?)?, text);
        let secret = pem.lines().nth(1).context("no key")?;
        assert!(!out.contains(secret) && !err.contains(secret));
        // What it says of the configuration can be put there as it is.
        tables += &err
            .lines()
            .filter_map(|line| line.strip_prefix("staffetta:     "))
            .map(|line| format!("{line}\n"))
            .collect::<String>();

        let (code, _, err) = desk.run(&arguments).await?;
        assert_eq!(code, Some(1));
        assert!(err.contains("cannot create") && err.contains("exists"), "{err}");
        assert_eq!(fs::read_to_string(&path)?, pem, "never overwritten");
    }
    desk.configure(&tables)?;
    let (code, out, err) = desk.run(&["dns"]).await?;
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{err}");
    let (_, json, _) = desk.run(&["dns", "--json"]).await?;
    let json: Value = serde_json::from_str(&json)?;
    assert_eq!(json[0]["strings"].as_array().map(Vec::len), Some(2));
    assert_eq!(json[1]["algorithm"], "ed25519");

    let (code, told, err) = desk.run(&["check"]).await?;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(told.matches("not published: there is no TXT record").count(), 2, "{told}");
    let (_, _, err) = desk.staffetta(&["check"]).await?;
    assert!(err.contains("warning: delivery.dkim: r2026._domainkey.example.org: not published"), "{err}");
    let each: Vec<_> = out.lines().map(record_in).collect::<anyhow::Result<_>>()?;
    desk.dns.txt(&each[0].0, &each[0].1);
    desk.dns.txt(&each[1].0, &each[1].1.replace("p=", "p=AAAA"));
    let (code, told, _) = desk.run(&["check"]).await?;
    assert_eq!(code, Some(1));
    assert_eq!(
        told,
        "r2026._domainkey.example.org: published\ne2026._domainkey.example.org: another key is published\n"
    );
    desk.configure(&tables.replace("\"e2026\"", "\"e2027\""))?;
    desk.dns.txt("e2027._domainkey.example.org", &each[1].1);
    let (code, told, err) = desk.run(&["check", "--json"]).await?;
    assert_eq!(code, Some(0), "{told} {err}");
    assert_eq!(serde_json::from_str::<Value>(&told)?[1]["published"], true);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_with_a_code() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    for arguments in [
        &["keygen", "--domain", "example..org", "--selector", "s"][..],
        &["keygen", "--domain", "example.org", "--selector", "a b"],
        &["keygen", "--domain", "example.org", "--selector", "s", "--algorithm", "dsa"],
        &["keygen", "--domain", "example.org"],
        &["publish"],
    ] {
        let (code, out, err) = desk.run(arguments).await?;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?} {err}");
    }
    let (code, _, err) =
        desk.run(&["keygen", "--domain", "example.org", "--selector", "s", "--out", "none/key.pem"]).await?;
    assert!(code == Some(1) && err.contains("cannot create none/key.pem"), "{err}");
    desk.configure("")?;
    for verb in ["dns", "check"] {
        let (code, _, err) = desk.run(&[verb]).await?;
        assert!(code == Some(1) && err.contains("no [[delivery.dkim]]"), "{verb}: {err}");
    }
    fs::write(desk.folder.path().join("bad.pem"), "no key")?;
    desk.configure(&table("example.org", "s", &desk.folder.path().join("bad.pem")))?;
    for verb in ["dns", "check"] {
        let (code, _, err) = desk.run(&[verb]).await?;
        assert_eq!(code, Some(1));
        assert!(
            err.contains("staffetta.toml:8: delivery.dkim[0].key: ") && err.contains("holds no private key"),
            "{err}"
        );
    }
    Ok(())
}
