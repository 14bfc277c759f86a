use std::str::FromStr;

use staffetta_mail::Status;

use staffetta_mail::tls_report::Flaw;

use super::*;
use crate::classify::Peer;
use crate::shaping::without_addresses;

const CORPUS: &str = include_str!("corpus.txt");

/// `550 5.1.1 text`, as a session has read it.
fn reply(line: &str) -> RemoteReply {
    let (code, rest) = line.split_once(' ').unwrap();
    let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
    match Status::from_str(first) {
        Ok(status) => RemoteReply { code: code.parse().unwrap(), status: Some(status), text: text.to_owned() },
        Err(_) => RemoteReply { code: code.parse().unwrap(), status: None, text: rest.to_owned() },
    }
}

fn class_of(host: &str, stage: Stage, line: &str) -> Class {
    let reply = reply(line);
    diagnose(host, stage, &reply, &reply.to_string())
}

/// Class, mail host, command, reply.
fn corpus() -> impl Iterator<Item = (&'static str, &'static str, Stage, &'static str)> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let [class, host, stage, reply] = line.splitn(4, '|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line:?} has not four parts")
        };
        let stage = match stage {
            "greeting" => Stage::Greeting,
            "helo" => Stage::Helo,
            "starttls" => Stage::StartTls,
            "auth" => Stage::Auth,
            "mail" => Stage::Mail,
            "rcpt" => Stage::Rcpt,
            "data" => Stage::Data,
            "final" => Stage::Final,
            other => panic!("{other:?} is no command"),
        };
        (class, host, stage, reply)
    })
}

#[test]
fn every_row_can_be_read() {
    assert_eq!(ROWS.len(), all().count());
    for (_, (_, words)) in all() {
        let letters = words.replace("\\S", "");
        assert!(!letters.contains(|c: char| c.is_ascii_uppercase()), "never found: {words}");
    }
}

#[test]
fn what_servers_say_is_of_the_class_that_the_corpus_says() {
    let wrong: Vec<String> = corpus()
        .filter_map(|(class, host, stage, reply)| {
            let found = class_of(host, stage, reply).as_str();
            (found != class).then(|| format!("{found} instead of {class}: {host} {stage:?} {reply}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(corpus().count() >= 100);
}

#[test]
fn every_class_that_a_server_can_name_is_in_the_corpus() {
    // What no server says.
    let ours = [Class::BadConnection, Class::NoAnswerFromHost, Class::Suppressed, Class::Local];
    for class in Class::ALL {
        let there = corpus().any(|(name, ..)| name == class.as_str());
        assert_eq!(there, !ours.contains(&class), "{class:?}");
    }
}

#[test]
fn an_address_is_condemned_by_a_code_or_by_a_provider_and_never_by_the_words_of_somebody() {
    let condemns = |host: &str, line: &str| {
        let reply = reply(line);
        condemns_address(host, &reply, diagnose(host, Stage::Rcpt, &reply, line))
    };
    for (host, line) in [
        ("mx.example.com", "550 5.1.1 User unknown"),
        ("mx.example.com", "550 5.1.1 no"),
        ("mx.example.com", "554 5.2.1 This account is disabled"),
        ("mta5.am0.yahoodns.net", "554 delivery error: dd Requested mail action aborted, mailbox not found"),
        ("a.mail.protection.outlook.com", "550 5.5.0 Requested action not taken: mailbox unavailable"),
    ] {
        assert!(condemns(host, line), "{host}: {line}");
    }
    for line in [
        // The words of the sender's own server, told by one that asked it.
        "550 Verification failed for somebody Response: 550 No such user Sender verify failed",
        "550 5.1.7 \u{2026} address rejected: undeliverable address: said: 550 User unknown",
        "554 5.7.1 no such user: Sender address rejected: Access denied",
        "550 No such user",
        "550 5.1.1 rejected as spam",
    ] {
        assert!(!condemns("mx.example.com", line), "{line}");
    }
}

#[test]
fn only_what_says_that_nobody_is_there_condemns_an_address() {
    let suppressing = Class::ALL.into_iter().filter(|class| class.suppresses());
    assert_eq!(suppressing.collect::<Vec<_>>(), [Class::BadMailbox, Class::InactiveMailbox]);
    let (host, said) = ("mx.l.google.com", reply("550 5.1.1 no such user"));
    for class in Class::ALL {
        assert_eq!(condemns_address(host, &said, class), class.suppresses(), "{class:?}");
    }
    for (name, host, stage, line) in corpus() {
        let (class, reply) = (class_of(host, stage, line), reply(line));
        assert!(!condemns_address(host, &reply, class) || class.suppresses(), "{name}: {line}");
    }
}

#[test]
fn a_provider_means_its_codes_only_at_its_own_hosts() {
    let line = "550 5.7.27 refused";
    assert_eq!(class_of("gmail-smtp-in.l.GOOGLE.com.", Stage::Final, line), Class::Unauthenticated);
    for other in ["mx.example.com", "google.com", "notgoogle.com", "google.com.example.net", ""] {
        assert_eq!(class_of(other, Stage::Final, line), Class::InvalidSender, "{other}");
    }
}

#[test]
fn mail_hosts_are_a_providers_if_all_of_them_are() {
    for (hosts, provider) in [
        (&["gmail-smtp-in.l.google.com", "alt1.aspmx.l.google.com"][..], Some("google")),
        (&["example-com.mail.protection.outlook.com"], Some("microsoft")),
        (&["mta5.am0.yahoodns.net", "mx.example.com"], None),
        (&["google.com"], None),
        (&[], None),
    ] {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        assert_eq!(provider_of(&hosts), provider, "{hosts:?}");
        assert!(provider.is_none_or(|name| providers().any(|known| known == name)));
    }
}

#[test]
fn what_strangers_have_chosen_decides_nothing() {
    let addresses = ["\"no such user\"@evil.test", "mailbox-disabled@example.com"];
    for said in [
        "550 5.7.1 <\"no such user\"@evil.test>: refused",
        "550 5.7.1 no such user@evil.test refused",
        "550 5.7.1 mail of no such user is refused",
        "550 5.7.1 mailbox-disabled@example.com is refused",
    ] {
        let reply = reply(said);
        let plain = without_addresses(&reply.to_string(), addresses);
        let class = diagnose("mx.example.com", Stage::Rcpt, &reply, &plain);
        assert!(!condemns_address("mx.example.com", &reply, class), "{said} -> {plain}");
    }
}

#[test]
fn whatever_is_said_has_a_class() {
    let long = format!("550 5.1.1 {}\u{e4} user unknown", "x".repeat(LOOKED_AT));
    for said in ["550 ", "599 9", "421 \u{fffd}\u{fffd}", &long] {
        let reply = RemoteReply { code: 550, status: None, text: said.to_owned() };
        let _ = diagnose("", Stage::Rcpt, &reply, said);
    }
    assert_eq!(class_of("mx.example.com", Stage::Rcpt, &long), Class::BadMailbox, "by its code");
    assert_eq!(class_of("mx.example.com", Stage::Rcpt, "550 5.9.9"), Class::Other);
    for code in 200..600 {
        let reply = RemoteReply { code, status: None, text: String::new() };
        assert!(!condemns_address("x", &reply, diagnose("x", Stage::Rcpt, &reply, "")), "{code}");
    }
}

#[test]
fn what_nobody_has_said_has_a_class_of_its_own() {
    let peer = || Peer {
        host: "mx.example.com".to_owned(),
        endpoint: crate::classify::Endpoint::Tcp(([192, 0, 2, 1], 25).into()),
    };
    let text = String::new;
    let session = |failure| Failure::Session { peer: peer(), failure };
    for (failure, class) in [
        (Failure::NullMx, Class::BadDomain),
        (Failure::NotFound { detail: text() }, Class::BadDomain),
        (Failure::Route { detail: text() }, Class::Local),
        (Failure::Dns { detail: text() }, Class::RoutingErrors),
        (Failure::Unproven { flaw: Flaw::ValidationFailure, reason: text() }, Class::TlsRelated),
        (Failure::Suppressed, Class::Suppressed),
        (Failure::Connect { peer: peer(), reason: text() }, Class::NoAnswerFromHost),
        (session(SessionFailure::TimedOut { stage: Stage::Greeting }), Class::NoAnswerFromHost),
        (session(SessionFailure::TimedOut { stage: Stage::Final }), Class::BadConnection),
        (session(SessionFailure::Lost { stage: Stage::Data }), Class::BadConnection),
        (session(SessionFailure::TlsHandshake(text())), Class::TlsRelated),
        (session(SessionFailure::TooLarge { size: 2, limit: 1 }), Class::TooLarge),
        (session(SessionFailure::NoMechanism), Class::LoginRelated),
        (Failure::Local { reason: text() }, Class::Local),
    ] {
        assert_eq!(Trouble::of(&failure), Trouble::Met(class), "{failure:?}");
    }
    let said = session(SessionFailure::Reply { stage: Stage::Rcpt, reply: reply("550 5.1.1 no") });
    assert_eq!(Trouble::of(&said), Trouble::Answered(Stage::Rcpt));
}

#[test]
fn the_table_of_the_runbook_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, table) = page
        .split_once("| class | category of PowerMTA | scope | remedy | what helps |\n|---|---|---|---|---|\n")
        .unwrap();
    let (table, below) = table.split_once("\n\n").unwrap();
    let mut told = Vec::new();
    for row in table.lines() {
        let [classes, category, scope, remedy, _] =
            row.trim_matches('|').splitn(5, '|').map(str::trim).collect::<Vec<_>>()[..]
        else {
            panic!("{row}")
        };
        for name in classes.split(", ").map(|name| name.trim_matches('`').to_owned()) {
            let category = if category == "the same" { name.clone() } else { category.trim_matches('`').to_owned() };
            told.push([name, category, scope.to_owned(), remedy.to_owned()]);
        }
    }
    let row = |class: Class| [class.as_str(), class.category(), class.scope().as_str(), class.remedy().as_str()];
    let mut all = Class::ALL.map(|class| row(class).map(str::to_owned)).to_vec();
    all.sort();
    told.sort();
    assert_eq!(told, all);
    let suppressing: Vec<_> = Class::ALL.into_iter().filter(|class| class.suppresses()).collect();
    let named = suppressing.iter().map(|class| format!("`{}`", class.as_str())).collect::<Vec<_>>().join(", ");
    assert!(below.contains(&format!("Only {named} count for")), "{named}");
}
