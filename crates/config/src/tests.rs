//! The environment, secrets in files, services, and what is seen of a configuration.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;
use staffetta_dkim::{Algorithm, Key};

use super::*;

fn read(text: &str, variables: &[(&str, &str)], service: Service) -> Result<Config, Vec<String>> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (config, reader) = Config::read_text(text, variables, service);
    if reader.problems.is_empty() { Ok(config) } else { Err(Errors::new("f.toml", reader.problems).lines().to_vec()) }
}

#[test]
fn nothing_is_a_configuration() {
    let config = Config::parse("", "empty").unwrap();
    assert_eq!(config.frontend.listener.len(), 3);
    assert_eq!(config.frontend.listener[2].tls, ListenerTls::Implicit);
    assert_eq!(config.frontend.size_limit, ByteSize(40 << 20));
    assert_eq!(config.redis.url.expose_secret(), "redis://127.0.0.1:6379");
    assert_eq!(config.delivery.timeouts.r#final, Duration::from_secs(600));
    assert_eq!(config.effective(), Config::default().effective());
    assert!(!config.hostname.is_empty());
}

#[test]
fn what_differs_from_the_defaults_is_shown_and_can_be_read_again() {
    let text = "hostname = \"mail.test\"\n[redis]\npartitions = 4\nurl = \"redis://u:hush@r:6379\"\n[delivery]\n\
                retry_min = \"5m\"\n[delivery.timeouts]\nfinal = \"20m\"\n\
                [[frontend.listener]]\nname = \"smtp\"\nbind = \"127.0.0.1:2525\"\nkind = \"relay\"\n\
                [[delivery.route]]\ndomain = \"x.test\"\nvia = \"smtp://mx.test:26\"\n";
    let config = Config::parse(text, "f.toml").unwrap();
    let changed = config.changed();
    assert!(changed.starts_with("hostname = \"mail.test\"\n"), "{changed}");
    for part in
        ["\n[redis]\nurl = \"redis://***@r:6379\"\n", "partitions = 4\n", "\n[delivery.timeouts]\nfinal = \"20m\"\n"]
    {
        assert!(changed.contains(part), "{part}: {changed}");
    }
    assert_eq!(changed.matches("[[frontend.listener]]").count(), 1, "it is there as a whole: {changed}");
    let route = changed.split_once("[[delivery.route]]\n").unwrap().1;
    assert!(route.lines().count() == 2, "what is so by default goes without saying: {changed}");
    assert!(!changed.contains("hush") && !changed.contains("retry_min"), "5m is the default: {changed}");
    let again = Config::parse(&changed.replace("***", "u:hush"), "again.toml").unwrap();
    assert_eq!((again.effective(), again.changed()), (config.effective(), changed));
    assert_eq!(Config::parse("", "empty").unwrap().changed(), "");
}

#[test]
fn every_kind_of_key_can_come_from_the_environment() {
    let variables = [
        ("STAFFETTA__HOSTNAME", "mail.example.org"),
        ("STAFFETTA__REDIS__URL", "rediss://u:p@redis:6380"),
        ("STAFFETTA__REDIS__PARTITIONS", "4"),
        ("STAFFETTA__FRONTEND__SIZE_LIMIT", "1MiB"),
        ("STAFFETTA__FRONTEND__ENABLE_VRFY", "false"),
        ("STAFFETTA__FRONTEND__TRUSTED_NETWORKS", "10.0.0.0/8,192.0.2.1"),
        ("STAFFETTA__FRONTEND__RELAY_DOMAINS", "[\"example.org\"]"),
        ("STAFFETTA__FRONTEND__AUTH_FAILURES_PER_CLIENT", ""),
        ("STAFFETTA__FRONTEND__LISTENER", "[{name=\"smtp\", bind=\"127.0.0.1:2525\", kind=\"relay\", tls=\"off\"}]"),
        ("STAFFETTA__DELIVERY__TIMEOUTS__FINAL", "20m"),
    ];
    // The file says otherwise, and loses.
    let text = "hostname = \"file.example.org\"\n[redis]\npartitions = 99\n[frontend]\nlistener = []\n";
    let config = read(text, &variables, Service::All).unwrap();
    assert_eq!(config.hostname, "mail.example.org");
    assert_eq!(config.redis.url.expose_secret(), "rediss://u:p@redis:6380");
    assert_eq!(config.redis.partitions, 4);
    assert_eq!(config.frontend.size_limit, ByteSize(1 << 20));
    assert!(!config.frontend.enable_vrfy);
    assert_eq!(config.frontend.trusted_networks.len(), 2);
    assert_eq!(config.frontend.relay_domains, ["example.org"]);
    assert_eq!(config.frontend.auth_failures_per_client, None);
    assert_eq!(config.frontend.listener.len(), 1);
    assert_eq!(config.frontend.listener[0].tls, ListenerTls::Off);
    assert_eq!(config.delivery.timeouts.r#final, Duration::from_secs(1200));
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let variables = [
        ("STAFFETTA__REDIS__PARTITONS", "4"),
        ("STAFFETTA__SOMETHING__ELSE__ENTIRELY", "4"),
        ("STAFFETTA__REDIS__PARTITIONS", "many"),
        ("STAFFETTA__REDIS__URL", "a secret that is no URL"),
        ("STAFFETTA__FRONTEND__LISTENER", "[{name=\"smtp\", bind=\"25\", kind=\"relay\", tsl=\"off\"}]"),
        ("STAFFETTA__DELIVERY__ROUTE", "mx"),
        ("STAFFETTA__DELIVERY__RETRY_MIN", "2h"),
    ];
    let expected = [
        "STAFFETTA__DELIVERY__RETRY_MIN: delivery.retry_min: is longer than delivery.retry_max; \
         allowed: up to delivery.retry_max",
        "STAFFETTA__DELIVERY__ROUTE: delivery.route: this is not TOML: string values must be quoted, expected literal \
         string; allowed: an array of inline tables, as in TOML",
        "STAFFETTA__FRONTEND__LISTENER: frontend.listener[0].bind: \"25\" is not an address with a port; \
         allowed: an IP address and a port, such as \"0.0.0.0:25\" or \"[::]:25\"",
        "STAFFETTA__FRONTEND__LISTENER: frontend.listener[0].tsl: unknown key, did you mean tls?",
        "STAFFETTA__REDIS__PARTITIONS: redis.partitions: \"many\" is not a whole number; \
         allowed: a whole number from 1 to 1024",
        "STAFFETTA__REDIS__PARTITONS: no such key, did you mean STAFFETTA__REDIS__PARTITIONS?",
        "STAFFETTA__REDIS__URL: redis.url: the value is not the URL of a Redis server; \
         allowed: \"redis://host:port\", \"rediss://host:port\", \"redis-sentinel://host:port,host:port/name\", \"rediss-sentinel://host:port,host:port/name\", \"redis-cluster://host:port,host:port\", \"rediss-cluster://host:port,host:port\", \"unix:/path\"",
        "STAFFETTA__SOMETHING__ELSE__ENTIRELY: no such key",
    ];
    assert_eq!(read("", &variables, Service::All).unwrap_err(), expected);
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let text = format!(
        "[redis]\nurl_file = \"{}\"\n[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://relay.example.org\"\n\
         username = \"me\"\npassword_file = \"{}\"\n",
        file("url", "redis://u:hush@redis:6379\r\n"),
        file("password", "summersun\n\n"),
    );
    let config = Config::parse(&text, "f.toml").unwrap();
    assert_eq!(config.redis.url.expose_secret(), "redis://u:hush@redis:6379");
    // One line end belongs to the file, a second one to the password.
    assert_eq!(config.delivery.route[0].password.as_ref().unwrap().expose_secret(), "summersun\n");
    for shown in [format!("{config:?}"), config.effective()] {
        assert!(!shown.contains("hush") && !shown.contains("summersun"), "{shown}");
    }
    // The environment goes before the file, in either form, but not twice.
    let direct = [("STAFFETTA__REDIS__URL", "redis://other")];
    assert_eq!(read(&text, &direct, Service::All).unwrap().redis.url.expose_secret(), "redis://other");
    let path = file("other", "redis://third");
    let by_file = [("STAFFETTA__REDIS__URL_FILE", path.as_str())];
    assert_eq!(
        read("[redis]\nurl = \"redis://x\"", &by_file, Service::All).unwrap().redis.url.expose_secret(),
        "redis://third"
    );
    let both = [direct[0], by_file[0]];
    assert_eq!(
        read("", &both, Service::All).unwrap_err(),
        ["STAFFETTA__REDIS__URL: redis.url: is set together with url_file; allowed: one of the two"]
    );
}

#[test]
fn a_service_does_not_need_the_files_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("staffetta.toml");
    let text = "[tls]\ncertificate = \"/none/c.pem\"\nkey = \"/none/k.pem\"\n[auth.sql]\nurl_file = \"/none/url\"\n\
                [delivery]\nca = \"/none/ca.pem\"\n";
    std::fs::write(&path, text).unwrap();
    let keys = |service| -> Vec<String> {
        let lines = Config::load_for(&path, service).map(|_| ()).unwrap_err().lines().to_vec();
        lines.iter().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(keys(Service::Frontend), ["tls.certificate", "tls.key"]);
    assert_eq!(keys(Service::Auth), ["auth.sql.url_file"]);
    assert_eq!(keys(Service::Delivery), ["delivery.ca"]);
    assert_eq!(keys(Service::All).len(), 4);
}

#[test]
fn certificates_are_needed_unless_nothing_is_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("staffetta.toml");
    std::fs::write(&path, "").unwrap();
    let name = path.display();
    let needed = "is not set, and these listeners need it: smtp, submission, submissions; \
                  allowed: a PEM file, or tls = \"off\" on every listener";
    let lines = Config::load(&path).map(|_| ()).unwrap_err().lines().to_vec();
    assert_eq!(lines, [format!("{name}: tls.certificate: {needed}"), format!("{name}: tls.key: {needed}")]);
    let off = "[[frontend.listener]]\nname = \"smtp\"\nbind = \"127.0.0.1:0\"\nkind = \"relay\"\ntls = \"off\"\n";
    std::fs::write(&path, off).unwrap();
    assert!(Config::load(&path).is_ok());
    std::fs::write(folder.path().join("c.pem"), "nothing").unwrap();
    let text = format!("{off}[tls]\ncertificate = \"{0}/c.pem\"\nkey = \"{0}\"\n", folder.path().display());
    std::fs::write(&path, &text).unwrap();
    let lines = Config::load(&path).map(|_| ()).unwrap_err().lines().to_vec();
    assert!(
        lines[0].contains(":7: tls.certificate: ") && lines[0].contains("c.pem\" is not a PEM file; "),
        "{lines:?}"
    );
    assert!(lines[1].contains(":8: tls.key: ") && lines[1].contains("cannot be read: "), "{lines:?}");
    std::fs::write(&path, "hostname = \"mail.test\"\n[tls\n\ncertificate = \"c.pem\"\n").unwrap();
    let broken = Config::load(&path).map(|_| ()).unwrap_err().lines().to_vec();
    assert_eq!(broken, [format!("{name}:2: this is not TOML: unclosed table, expected `]`")], "tls.key is not missing");
    for mark in ["-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"]
    {
        std::fs::write(&path, &text).unwrap();
        std::fs::write(folder.path().join("c.pem"), mark).unwrap();
        let lines = Config::load(&path).map(|_| ()).unwrap_err().lines().to_vec();
        assert!(lines[0].contains("c.pem\" is an encrypted key") && lines[0].contains("openssl pkey"), "{lines:?}");
    }
    let lines = Config::load(Path::new("/none.toml")).map(|_| ()).unwrap_err().to_string();
    assert_eq!(lines, "/none.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn what_a_delivery_is_most_likely_not_meant_to_do_is_told() {
    let text = r#"
hostname = "mail.test"
[delivery]
suppress_after = "2/30d"
destination_rate = "60/1m"
[[delivery.rule]]
reply = '^4'
action = "bounce"
[[delivery.rule]]
reply = '.*'
[[delivery.rule]]
reply = '^$'
action = "bounce"
[[delivery.rule]]
reply = 'too many'
action = "fewer"
connections = 20
[[delivery.rule]]
reply = 'too fast'
action = "slow"
rate = "1/1s"
suspend = "1h"
[[delivery.rule]]
reply = 'never'
action = "bounce"
times = "1/1m"
for = "1h"
[[delivery.rule]]
reply = 'too many'
mx = ["mx.test"]
times = "5/1h"
[[delivery.rule]]
reply = '\\[HCM1\\]'
[[delivery.rule]]
reply = '^Too many'
[[delivery.source]]
pool = "a"
address = "192.0.2.1"
[[delivery.source]]
pool = "b"
address = "192.0.2.1"
[[delivery.route]]
domain = "*"
via = "smtp://relay.test"
"#;
    let warnings = Config::parse(text, "f.toml").unwrap().warnings();
    let expected = [
        "delivery.rule[0].reply matches every reply, so while it holds nothing",
        "delivery.rule[3].connections has no effect: no destination has more",
        "delivery.rule[4].rate has no effect: no destination has more",
        "delivery.rule[4].suspend has no effect with action = \"slow\": `for` says how long",
        "delivery.rule[5].for has no effect with action = \"bounce\": after one reply each is final at once",
        "delivery.rule[6] has no effect: delivery.rule[3] is for the same replies",
        "delivery.rule[7].reply searches for a backslash",
        "delivery.rule[8].reply matches no refusal",
        "delivery.source[1].address: 192.0.2.1 is in the pool a too",
        "delivery.suppress_after has no effect",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    assert!(warnings.iter().zip(expected).all(|(warning, start)| warning.starts_with(start)), "{warnings:?}");
    let fine = text
        .replace("smtp://relay.test", "mx")
        .replace("\"b\"\naddress = \"192.0.2.1\"", "\"b\"\naddress = \"192.0.2.2\"")
        .replace("times = \"1/1m\"\nfor", "for")
        .replace("'^4'\naction = \"bounce\"", "'^4'")
        .replace("connections = 20", "connections = 19")
        .replace("suspend = \"1h\"", "for = \"1h\"")
        .replace("1/1s", "59/1m")
        .replace("'too many'\nmx", "'too many of them'\nmx")
        .replace("'^Too", "'Too")
        .replace(r"\\", r"\");
    assert_eq!(Config::parse(&fine, "f.toml").unwrap().warnings(), Vec::<String>::new());
}

#[test]
fn what_reports_cannot_do_is_told() {
    let base =
        "hostname = \"mail.test\"\n[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://relay.test\"\n[delivery]\n";
    let verp = "[[verp]]\nsender = \"*@*\"\nkey = \"0123456789abcdef\"\nsuppress = true\n";
    let (after, complain) = ("suppress_after = \"2/30d\"\n", "suppress_complaints = true\nsuppress_for = \"1d\"\n");
    let deaf = "[frontend]\ncomplaints = [\"fbl@example.org\"]\n";
    let fbl = &format!("{deaf}relay_domains_from_auth = true\n");
    let news = &verp.replace("*@*", "*@news.example.org");
    for (keys, begin) in [
        ([after, "", ""], &["delivery.suppress_after has no effect on mail for \"*\""][..]),
        ([after, "", verp], &[]),
        (["", complain, verp], &["delivery.suppress_complaints has no effect without frontend.complaints"]),
        ([complain, fbl, ""], &["delivery.suppress_complaints has no effect without suppress = true in a [[verp]]"]),
        ([complain, fbl, &verp.replace("true", "false")], &["delivery.suppress_complaints has no effect"]),
        ([complain, fbl, news], &[]),
        (
            ["", deaf, ""],
            &["frontend.complaints: complaints for example.org are not taken: it is not in frontend.relay_domains"],
        ),
        (["", "", news], &["verp[0].sender: bounces for news.example.org are not taken"]),
    ] {
        let warnings = Config::parse(&(base.to_owned() + &keys.concat()), "f.toml").unwrap().warnings();
        assert_eq!(warnings.len(), begin.len(), "{keys:?}: {warnings:?}");
        assert!(warnings.iter().zip(begin).all(|(warning, begin)| warning.starts_with(begin)), "{warnings:?}");
    }
}

#[test]
fn what_is_probably_not_meant_is_told() {
    let text = "hostname = \"mail.test\"\n[redis]\ndurability = \"none\"\n[auth]\nlisten = \"0.0.0.0:4250\"\n\
                [frontend]\nrelay_domains = [\"example.org\", \"a.example.com\"]\n\
                [[delivery.route]]\ndomain = \"*.example.com\"\nvia = \"mx\"\n\
                [[delivery.route]]\ndomain = \"a.example.com\"\nvia = \"mx\"\n";
    let warnings = Config::parse(text, "f.toml").unwrap().warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings[2].contains("example.org has no"), "{warnings:?}");
    assert!(warnings[3].starts_with("delivery.route[1]: "), "{warnings:?}");
    let unseen = "hostname = \"mail.test\"\n[frontend]\nverify_recipients = false\n";
    assert_eq!(Config::parse(unseen, "f.toml").unwrap().warnings(), Vec::<String>::new(), "there are no relay domains");
    let unseen =
        format!("{unseen}relay_domains = [\"a.test\"]\n[[delivery.route]]\ndomain = \"a.test\"\nvia = \"mx\"\n");
    let warnings = Config::parse(&unseen, "f.toml").unwrap().warnings();
    assert!(warnings.len() == 1 && warnings[0].starts_with("frontend.verify_recipients is false: "), "{warnings:?}");
}

#[test]
fn what_has_no_effect_or_lets_everybody_in_is_told_to_whom_it_concerns() {
    let networks =
        r#"["0.0.0.0/0", "10.0.0.0/8", "8.0.0.0/7", "::/0", "2000::/15", "2001:db8::/32", "fc00::/7", "fe80::/10"]"#;
    let text = format!(
        "hostname = \"mail.test\"\n[redis]\ndurability = \"none\"\n[spool]\nredis_limit = \"1MiB\"\n\
         incoming_limit = \"1GiB\"\noffload_after = \"1h\"\n[telemetry]\nsample_ratio = 0.5\n[delivery]\nsuppress_for = \"1d\"\n[auth.dovecot]\nsocket = \"/run/dovecot/auth\"\n[frontend]\ntrusted_networks = {networks}\n"
    );
    let config = Config::parse(&text, "f.toml").unwrap();
    let begin = |service| -> Vec<String> {
        let first = |line: String| line.split(' ').take(4).collect::<Vec<_>>().join(" ");
        config.warnings_for(service).into_iter().map(first).collect()
    };
    let (redis, spool) = ("redis.durability is \"none\": accepted", "spool.redis_limit has no effect");
    let wide =
        ["0.0.0.0/0", "8.0.0.0/7", "::/0", "2000::/15"].map(|it| format!("frontend.trusted_networks: all of {it}"));
    let ratio = "telemetry.sample_ratio has no effect";
    assert_eq!(begin(Service::Auth), [redis, ratio, "[auth.dovecot] has no effect:"]);
    let (incoming, dead) = ("spool.incoming_limit has no effect", "delivery.suppress_for has no effect");
    let offload = "spool.offload_after has no effect";
    assert_eq!(begin(Service::Delivery), [redis, spool, incoming, offload, ratio, dead]);
    let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
    assert_eq!(begin(Service::Frontend), [&[redis, spool, incoming, offload, ratio][..], &wide].concat());
    assert_eq!(config.warnings_for(Service::All), config.warnings());
}

#[test]
fn passwords_in_clear_to_another_machine_are_warned_of() {
    let warnings = |socket: &str| {
        let text = format!(
            "hostname = \"mail.example.org\"\n[auth]\nbackend = \"dovecot\"\n[auth.dovecot]\nsocket = {socket:?}\n"
        );
        Config::parse(&text, "f.toml").unwrap().warnings()
    };
    for here in ["/run/dovecot/auth", "tcp:127.0.0.1:12345", "tcp:[::1]:12345", "tcp:localhost:12345"] {
        assert_eq!(warnings(here), Vec::<String>::new(), "{here}");
    }
    for away in ["tcp:192.0.2.1:12345", "tcp:dovecot.example.org:12345"] {
        let warnings = warnings(away);
        assert!(matches!(&warnings[..], [one] if one.contains("auth.dovecot.socket")), "{away}: {warnings:?}");
    }
}

#[test]
fn what_is_misspelt_is_neither_tried_nor_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("staffetta.toml");
    let examined = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Config::examine(&path, Service::Auth).unwrap()
    };
    let table = examined("hostname = \"mail.test\"\n[reddis]\nurl = \"redis://redis\"\n");
    assert!(!table.is_sound("redis") && table.is_sound("auth") && table.is_sound("hostname"));
    let key = examined("hostnam = \"mail.test\"\nredis.durability = \"none\"\n[auth]\nlistn = \"0.0.0.0:1\"\n");
    assert!(
        !key.is_sound("hostname") && !key.is_sound("auth.listen") && !key.is_sound("auth") && key.is_sound("redis")
    );
    let bad = examined("hostname = \"mail test\"\nredis.durability = \"none\"\n");
    let warnings = bad.warnings();
    assert!(warnings.len() == 1 && warnings[0].starts_with("redis.durability "), "{warnings:?}");
}

#[test]
fn a_key_or_a_secret_that_everybody_can_read_is_told_to_whom_it_concerns() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let pem = "-----BEGIN PRIVATE KEY-----\n";
    let (open, closed) = (file("open.pem", pem, 0o644), file("closed.pem", pem, 0o640));
    let (url, secret) = (file("url", "redis://:p@redis", 0o604), file("secret", "summersun", 0o600));
    let path = file(
        "staffetta.toml",
        &format!(
            "hostname = \"mail.test\"\n[redis]\nurl_file = {url:?}\n\
             [tls]\ncertificate = {open:?}\nkey = {closed:?}\n\
             [[tls.sni]]\nname = \"a.test\"\ncertificate = {open:?}\nkey = {open:?}\n\
             [auth.oauth]\nclient_id = \"x\"\nclient_secret_file = {secret:?}\n"
        ),
        0o600,
    );
    let keys = |service| -> Vec<String> {
        let exposed = Config::examine(path.as_ref(), service).unwrap().exposed();
        assert!(exposed.iter().all(|line| line.contains("every user")), "{exposed:?}");
        exposed.iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(Service::All), ["tls.sni[0].key", "redis.url_file"]);
    assert_eq!(keys(Service::Auth), ["redis.url_file"]);
}

#[test]
fn a_dkim_key_that_cannot_be_used_is_an_error_and_one_that_everybody_can_read_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let [rsa, ed25519] = [Algorithm::Rsa, Algorithm::Ed25519].map(|kind| Key::generate(kind).unwrap().1);
    write("rsa.pem", &rsa, 0o640);
    write("ed25519.pem", &ed25519, 0o600);
    write("open.pem", &ed25519, 0o644);
    write("none.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o600);
    let path = folder.path().join("staffetta.toml");
    let load = |rows: &[(&str, &str)]| {
        let mut text = "hostname = \"mail.test\"\n".to_owned();
        for (number, (domain, key)) in rows.iter().enumerate() {
            let key = folder.path().join(key).display().to_string();
            text += &format!("[[delivery.dkim]]\ndomain = {domain:?}\nselector = \"s{number}\"\nkey = {key:?}\n");
        }
        std::fs::write(&path, text).unwrap();
        Config::load_for(&path, Service::Delivery)
    };
    let good = load(&[("a.test", "rsa.pem"), ("a.test", "ed25519.pem"), ("b.test", "rsa.pem")]).unwrap();
    assert_eq!(good.warnings(), Vec::<String>::new());
    let warnings = load(&[("a.test", "rsa.pem"), ("b.test", "open.pem")]).unwrap().warnings();
    assert!(warnings.len() == 2, "{warnings:?}");
    assert!(warnings[0].starts_with("delivery.dkim[1].key: ") && warnings[0].contains("every user"), "{warnings:?}");
    assert!(warnings[1].starts_with("delivery.dkim: b.test has no RSA key"), "{warnings:?}");

    let errors = load(&[("a.test", "missing.pem"), ("a.test", "none.pem")]).map(|_| ()).unwrap_err();
    let lines = errors.lines().to_vec();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("staffetta.toml:5: delivery.dkim[0].key: ")
            && lines[0].contains("missing.pem\" cannot be read: ")
    );
    assert!(lines[1].contains("staffetta.toml:9: delivery.dkim[1].key: "), "{lines:?}");
    assert!(lines[1].contains("none.pem\" holds no private key in PEM form; allowed: a PEM file"), "{lines:?}");
    assert!(Config::load_for(&path, Service::Auth).is_ok(), "the keys are not in its pods");
}

/// The auth service may have a file of its own, in which there is nothing of the frontend.
#[test]
fn the_auth_service_does_not_ask_how_it_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["ca.pem", "pod.pem", "pod.key"] {
        std::fs::write(folder.path().join(file), "-----BEGIN X-----\n-----END X-----\n").unwrap();
    }
    let path = folder.path().join("staffetta.toml");
    let at = |file: &str| folder.path().join(file).display().to_string();
    let text = format!(
        "hostname = \"mail.test\"\n[rpc]\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n",
        at("ca.pem"),
        at("pod.pem"),
        at("pod.key")
    );
    std::fs::write(&path, text).unwrap();
    Config::load_for(&path, Service::Auth).unwrap();
    let error = Config::load_for(&path, Service::Frontend).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("frontend.auth: is http:// although [rpc] is set"), "{error}");
}

#[test]
fn a_hostname_is_fully_qualified_or_the_machines_own_with_a_warning() {
    for name in ["mailhost", "localhost", "192.0.2.1", "a..b"] {
        let error = Config::parse(&format!("hostname = \"{name}\""), "t.toml").map(drop).unwrap_err().to_string();
        assert!(error.contains("hostname") && error.contains("a fully qualified domain name"), "{error}");
    }
    let mut config = Config::parse("hostname = \"mail.example.org\"", "t.toml").unwrap();
    let warned = |config: &Config| config.warnings().iter().any(|warning| warning.contains("not fully qualified"));
    assert!(!warned(&config));
    config.hostname = "mailhost".to_owned();
    assert!(warned(&config));
}

#[test]
fn submission_without_tls_is_refused_because_it_takes_no_mail() {
    let listener = |kind: &str| {
        format!(
            "hostname = \"mail.test\"\n[[frontend.listener]]\nname = \"x\"\nbind = \"127.0.0.1:0\"\nkind = \"{kind}\"\ntls = \"off\""
        )
    };
    assert!(Config::parse(&listener("relay"), "t.toml").is_ok());
    let error = Config::parse(&listener("submission"), "t.toml").map(drop).unwrap_err().to_string();
    assert!(error.contains("frontend.listener[0].tls") && error.contains("nobody can log in"), "{error}");
}

#[test]
fn a_service_takes_over_what_it_may_change_and_names_what_waits() {
    let old = "[redis]\nurl = \"redis://:old@a\"\n[frontend]\nsize_limit = \"1MiB\"\n[delivery]\nretry_min = \"1m\"\n";
    let new = "[redis]\nurl = \"redis://:new@a\"\npartitions = 3\n[auth]\ncache_ttl = \"1s\"\n[frontend]\n\
        trusted_networks = [\"10.0.0.0/8\"]\nsize_limit = \"2MiB\"\nreverse_dns = false\n[delivery]\nport = 2525\n\
        [delivery.timeouts]\nfinal = \"1m\"\n[log]\nlevel = \"debug\"\nformat = \"postfix\"\n";
    let (old, new) = (Config::parse(old, "old").unwrap(), Config::parse(new, "new").unwrap());
    let mut config = old;
    let change = config.adopt(&new, Service::Frontend);
    let adopted = [
        "frontend.trusted_networks",
        "frontend.size_limit",
        "delivery.retry_min",
        "delivery.timeouts.final",
        "log.level",
    ];
    assert_eq!(change.adopted, adopted);
    assert_eq!(change.waiting, ["redis.url", "redis.partitions", "frontend.reverse_dns", "log.format"]);
    assert_eq!((config.frontend.size_limit, config.log.level.as_str()), (ByteSize(2 << 20), "debug"));
    assert_eq!(config.frontend.trusted_networks, new.frontend.trusted_networks);
    assert_eq!(config.delivery.retry_min, Duration::from_secs(300), "a key that is gone has its default again");
    assert_eq!((config.redis.url.expose_secret(), config.redis.partitions), ("redis://:old@a", 16));
    assert_eq!((config.delivery.port, config.log.format), (25, LogFormat::Json));
    // What waits is named again; what was taken is not.
    let again = config.adopt(&new, Service::Delivery);
    assert_eq!(again.adopted, Vec::<String>::new());
    assert_eq!(again.waiting, ["redis.url", "redis.partitions", "delivery.port", "log.format"]);
    assert_eq!(
        config.clone().adopt(&new, Service::Auth).waiting,
        ["redis.url", "redis.partitions", "auth.cache_ttl", "log.format"]
    );
}

#[test]
fn an_array_is_taken_over_as_a_whole() {
    let route = |rest: &str| {
        Config::parse(&format!("[[delivery.route]]\ndomain = \"a.test\"\nvia = \"mx\"\n{rest}"), "t").unwrap()
    };
    let login = |password| format!("tls = \"encrypt\"\nusername = \"u\"\npassword = \"{password}\"\n");
    let second = "[[delivery.route]]\ndomain = \"b.test\"\nvia = \"smtp://b:25\"\n";
    let rows = [
        (route(&login("one")), route(&login("two")), vec!["delivery.route.password"]),
        (route(""), route("concurrency = 3\n"), vec!["delivery.route.concurrency"]),
        (route(""), route(second), vec!["delivery.route"]),
        (route(second), route(""), vec!["delivery.route"]),
        (route(second), route(second), vec![]),
    ];
    for (old, new, expected) in rows {
        let mut config = old;
        assert_eq!(config.adopt(&new, Service::All).adopted, expected);
        assert_eq!(config.adopt(&new, Service::All), Change::default(), "{expected:?} is there now");
        assert_eq!(config.effective(), new.effective());
    }
    let listener = |limit: u32| {
        let listener =
            "[[frontend.listener]]\nname = \"smtp\"\nbind = \"127.0.0.1:0\"\nkind = \"relay\"\ntls = \"off\"\n";
        Config::parse(&format!("{listener}connection_limit = {limit}\n"), "t").unwrap()
    };
    let mut config = listener(5);
    assert_eq!(config.adopt(&listener(6), Service::Frontend).waiting, ["frontend.listener.connection_limit"]);
    assert_eq!(config.frontend.listener[0].connection_limit, Some(5));
}

#[test]
fn a_warning_has_a_place_as_an_error_has_and_none_comes_of_a_default_in_the_place_of_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.toml");
    let examine = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Config::examine(&path, Service::All).unwrap()
    };
    let examined = examine("[[delivery.rule]]\nreply = 'a'\n[[delivery.rule]]\nreply = '^Too many'\n");
    for (warning, line) in [
        ("delivery.rule[1].reply matches no refusal", ":4"),
        ("delivery.rule[1] has no effect", ":3"),
        ("redis.url: there is no queue", ""),
    ] {
        assert_eq!(examined.place_of(warning), format!("{}{line}", path.display()), "{warning}");
    }
    let broken = examine("[[delivery.rule]]\nreply = '('\n[[delivery.rule]]\nreply = ')'\n");
    assert!(broken.warnings().iter().all(|line| !line.contains("delivery.rule")), "{:?}", broken.warnings());
    let nowhere = "[[delivery.source]]\npool = \"a\"\naddress = \"0.0.0.0\"\n";
    let problem = Config::parse(nowhere, "f.toml").unwrap_err().to_string();
    assert!(problem.starts_with("f.toml:3: delivery.source[0].address: 0.0.0.0 is not the address"), "{problem}");
}
