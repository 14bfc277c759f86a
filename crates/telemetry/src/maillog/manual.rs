//! The page about the log: every event with its fields, and an example in both formats, all of it from the code.

use std::time::{Duration, UNIX_EPOCH};

use jiff::tz::TimeZone;

use super::delivery::{BOUNCED, DEFERRED, DELIVERED, EXPIRED, Outcome};
use super::line::Event;
use super::stamp::Stamp;
use super::{render, samples};
use crate::LogFormat;
use crate::diagnostics;
use crate::origin::Origin;

const INTRODUCTION: &str = "\
# The log

This page is made by `make docs` from `crates/telemetry/src/maillog`; change it there.

There are two streams. The **mail log** on standard output has a record for everything that happens to a message or a client, and is always
complete: none is sampled or dropped, and whoever writes one waits while nobody reads. **Diagnostics** on standard error are for
those who look for a fault; `log.level` says which. No record has a password, a token or a word of a message's content.

With `log.format = \"json\"`, the default, both are one JSON object a line, flat, in one schema: a name means the same in every record
of both. A field that has nothing to say is left out. What a peer said is cut at 1024 octets, with `...` behind it, and is escaped so that a record is one line
whatever it carries. New fields and new events may come; what is here keeps its name and its meaning.
What keeps a service from starting is plain text on standard error in either format: its format may be what is wrong.

With `log.format = \"postfix\"` the mail log has the lines that Postfix would write, and diagnostics are plain text. The program's name begins with
`log.syslog_name`, and has the listener in it where a listener is concerned: `staffetta/submission/smtpd`. With `log.syslog_name = \"postfix\"` the lines are those of
a Postfix on the same ports, the listener `smtp` being plain `postfix/smtpd` as there, so that tools find them without being told: the filters
`postfix` and `postfix-sasl` of fail2ban, pflogsumm, exporters.

With `log.addresses = \"hashed\"` neither stream names a person: twelve digits stand for what is before the `@`, and for a login without one, wherever it is
written, also where a server repeats it in its reply. The same address has the same digits in all services with the same `log.address_key`. Domains, the
addresses of clients and Message-IDs stay.
";

const HEAD: &[(&str, &str)] = &[
    ("time", "When it was written, in UTC with milliseconds (RFC 3339)."),
    ("level", "`error`, `warn`, `info`, `debug` or `trace`; in the mail log `info` unless an event says otherwise."),
    ("event", "Which event it is; `diagnostic` is no event of the mail log."),
    ("pod", "The name of the machine up to its first dot, which in Kubernetes is the pod's."),
    ("service", "What wrote it: `frontend`, `auth`, `delivery`; `all` where they share a process (`staffetta up`)."),
];

/// Every field of the mail log: one meaning each, wherever it is.
const FIELDS: &[(&str, &str)] = &[
    (
        "action",
        "What was done: `deleted`, `bounced` or found `lost`; `held`, `released` or `flushed`; `blocked` or `unblocked`; \
         `suppressed` or `unsuppressed`, `suspended`, `curbed` or `resumed`.",
    ),
    ("attempt", "How many attempts there were for this recipient, this one included."),
    ("by", "Who did it: user and machine."),
    (
        "category",
        "The category of PowerMTA that the class belongs to, for tools that read its bounces; of what was given up for its \
         age `message-expired`.",
    ),
    (
        "class",
        "What a failure is of, from the server's words and codes: `bad-mailbox`, `inactive-mailbox`, `quota-issues`, \
         `bad-domain`, `greylisted`, `rate-limited`, `bad-reputation`, `no-reverse-dns`, `unauthenticated`, \
         `spam-related`, `virus-related`, `content-related`, `too-large`, `policy-related`, `invalid-sender`, \
         `relaying-issues`, `routing-errors`, `protocol-errors`, `bad-configuration`, `tls-related`, `login-related`, \
         `bad-connection`, `no-answer-from-host`, `suppressed`, `local` (our own trouble) or `other`.",
    ),
    ("client_ip", "Address of the client; behind a proxy the one that the proxy tells."),
    ("client_name", "Its name, if the name leads back to the address."),
    ("client_port", "Its port."),
    ("code", "The reply code, if there was a reply."),
    ("conn_use", "Which message on its connection this was, from 1."),
    ("count", "How much of the signal the login has done in the hour."),
    ("delay", "Seconds from the reception until now; the sum of the four below."),
    ("delay_connection", "Seconds for the DNS, connecting, greeting and TLS; 0 on a connection that was there."),
    ("delay_queue", "Seconds in the queue."),
    ("delay_reception", "Seconds before the queue; not measured, 0."),
    ("delay_transfer", "Seconds for the transaction."),
    ("deliveries", "How many the selection found."),
    ("dkim", "Domain and selector of each signature that it was delivered with: `example.org/s2026`."),
    ("dsn", "The enhanced status code (RFC 3463)."),
    (
        "feedback",
        "The kind of complaint: `abuse`, `fraud`, `virus`, `opt-out`, `not-spam`, `auth-failure` or `other` (RFC 5965).",
    ),
    ("from", "The envelope sender; empty is the null path."),
    ("helo", "The name given with EHLO or HELO."),
    ("hour", "When the hour began that is counted."),
    (
        "kind",
        "Of a report: `failure`, `delay` or `success`. Of a block: `login`, `client`, `domain`; `recipient` of a \
         suppression, `destination` or `source` of a suspension; `slow` or `fewer` of what a destination gets less of, `bounce` of \
         one of which replies are final by a rule.",
    ),
    ("listener", "Name of the listener, `frontend.listener.name`."),
    ("login", "The login, in the spelling of blocks."),
    (
        "mail_from",
        "What the server is told instead of `from`, if that is an address of this recipient's alone (`[[verp]]`).",
    ),
    ("message_id", "The Message-ID without brackets."),
    ("messages", "Messages that were accepted on the connection."),
    ("name", "Who was blocked, or gets no mail."),
    ("next", "Seconds until the next attempt."),
    ("nrcpt", "How many recipients the message has, those in the place of an alias counted."),
    ("orig_to", "What the client named, if that was an alias that led to `to`."),
    (
        "proof",
        "Of a report that came in: `verp`, it names the address that is this recipient's alone (`[[verp]]`); `none`, anybody \
         may have written it, and nothing comes of it.",
    ),
    ("proto", "`SMTP`, `ESMTP`; of accepted mail with `S` for TLS and `A` for a login behind it (RFC 3848)."),
    ("protocol", "`smtp` or `lmtp`."),
    ("qid", "The queue id: in the reply to the sender, in the Received field, in each record about the message."),
    ("queue", "`hold` if the message waits for an operator."),
    (
        "reason",
        "Of a connection that broke off: `lost connection` or `timeout`. Of a login: `failed`, `blocked`, `limited`, \
         `unavailable`, `malformed` or `aborted`. Of a block: the operator's words.",
    ),
    ("relay", "Host name of the server. Behind a unix socket it is ours, and `relay_socket` has the path."),
    ("relay_ip", "Its address."),
    ("relay_port", "Its port."),
    (
        "remedy",
        "What to do next about a failure of its class: `wait` (it passes; what has come back may be sent again later), \
         `slow-down` (send less there), `remove-recipient` (take the address off the list), `fix-sender` (the sender's \
         address, or SPF, DKIM and DMARC of its domain), `fix-content` (the message), `check-login` (who sends from this \
         login or client?), `fix-relay` (our addresses, routes, passwords), `ask-host` (whoever runs their server or DNS) or \
         `read-reply`.",
    ),
    ("report_qid", "The queue id of the report."),
    ("response", "The whole reply, or why there was none."),
    ("sasl_method", "The mechanism of the login."),
    ("sasl_username", "The login."),
    (
        "scope",
        "Whom the class is about: `recipient`, `domain`, `sender`, `message`, `login` (whatever it sends, or the \
         client without one), `source` (our address), `host` (their server), `local` or `unknown`.",
    ),
    ("selection", "What the operator chose: queue ids, or the options of the command."),
    (
        "signal",
        "What is counted: `messages`, `recipients`, `domains`, `bounces`, `unknown_recipients`, `new_networks`.",
    ),
    ("size", "Octets of the message as queued, or of the report."),
    (
        "source_ip",
        "The address of ours that the mail left from, if `delivery.source` or `delivery.source_addresses` has one. Of a \
         complaint: what it says of that.",
    ),
    ("stage", "The command: `CONNECT`, `MAIL`, `RCPT`, `DATA`, `END-OF-MESSAGE`, …"),
    ("status", "`sent`, `deferred`, `bounced` or `expired`."),
    ("step", "What is done about it: `notify`, `slow`, `hold` or `block`."),
    ("threshold", "The threshold of the signal."),
    ("tls", "Protocol and cipher; absent in clear."),
    (
        "tls_policy",
        "By whose word the connection is as it is: `none`, `opportunistic`, `encrypt`, `verify`, `dane` or `mta-sts`.",
    ),
    (
        "tls_trust",
        "What is known of the peer's certificate. Of a server: `Verified` or `Untrusted`; of a client: `Anonymous` (it \
         showed none), `Trusted` or `Untrusted`.",
    ),
    (
        "tls_waived",
        "`dane mta-sts`: which policies of the destination were not asked for, because the message does not want that \
         (`TLS-Required: No`).",
    ),
    ("to", "The recipient."),
    (
        "trace_id",
        "The trace that this is part of, where messages are traced (`telemetry.otlp_endpoint`) and this one is.",
    ),
    ("user_agent", "Of a complaint: the program that wrote it."),
];

/// Fields of diagnostics that are not in the mail log and are in many.
const DIAGNOSTIC: &[(&str, &str)] = &[
    ("target", "Which part of the program tells it, as `log.level` names it."),
    ("message", "What is told."),
    ("error", "What went wrong, with its causes."),
];

/// An event as the page shows it.
struct Entry {
    name: &'static str,
    level: &'static str,
    about: &'static str,
    fields: &'static [&'static str],
    json: String,
    classic: String,
}

/// The page that docs/log.md holds.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    page += &format!("\n## Every record\n\n{}", table(HEAD));
    page += "\n## Events of the mail log\n";
    for entry in entries() {
        page += &section(&entry);
    }
    page += &format!("\n## Fields of the mail log\n\n{}", table(FIELDS));
    page += &format!(
        "\n## `{}`\n\nOn standard error. What it is about has fields of its own, called as above where there is such a \
         field.\n\n{}",
        diagnostics::NAME,
        table(DIAGNOSTIC)
    );
    page
}

fn section(entry: &Entry) -> String {
    let fields: Vec<String> = entry.fields.iter().map(|field| format!("`{field}`")).collect();
    let level = if entry.level == "info" { String::new() } else { format!(" Its `level` is `{}`.", entry.level) };
    let classic = match entry.classic.as_str() {
        "" => "In Postfix' format: nothing.\n".to_owned(),
        lines => format!("```\n{lines}```\n"),
    };
    format!(
        "\n### `{}`\n\n{}{level}\n\nFields: {}.\n\n```json\n{}```\n\n{classic}",
        entry.name,
        entry.about,
        fields.join(", "),
        entry.json
    )
}

fn table(rows: &[(&str, &str)]) -> String {
    let rows: String = rows.iter().map(|(name, meaning)| format!("| `{name}` | {meaning} |\n")).collect();
    format!("| field | meaning |\n|---|---|\n{rows}")
}

/// In the order in which they happen.
fn entries() -> Vec<Entry> {
    use samples as s;
    let (frontend, delivery) = ("frontend", "delivery");
    vec![
        entry(frontend, &s::connected()),
        entry(frontend, &s::secured()),
        entry(frontend, &s::login()),
        entry(frontend, &s::login_failed()),
        entry(frontend, &s::rejected()),
        entry(frontend, &s::lost()),
        entry(frontend, &s::disconnected()),
        entry(frontend, &s::accepted()),
        entry(delivery, &s::encrypted()),
        entry(delivery, &Outcome::<DELIVERED>(&s::delivered())),
        entry(delivery, &Outcome::<DEFERRED>(&s::deferred())),
        entry(delivery, &Outcome::<BOUNCED>(&s::bounced())),
        entry(delivery, &Outcome::<EXPIRED>(&s::unreachable())),
        entry(delivery, &s::given_up()),
        entry(delivery, &s::reported()),
        entry(delivery, &s::removed()),
        entry(frontend, &s::remote_bounce()),
        entry(frontend, &s::complaint()),
        entry(delivery, &s::administered()),
        entry(delivery, &s::moved()),
        entry(delivery, &s::barred()),
        entry(frontend, &s::crossing()),
    ]
}

fn entry<E: Event>(service: &'static str, event: &E) -> Entry {
    Entry {
        name: E::NAME,
        level: E::LEVEL,
        about: E::ABOUT,
        fields: E::FIELDS,
        json: written(service, event, LogFormat::Json),
        classic: written(service, event, LogFormat::Postfix),
    }
}

fn written(service: &'static str, event: &impl Event, format: LogFormat) -> String {
    let (mut lines, mut stamp) = (Vec::new(), Stamp::new(TimeZone::UTC));
    let origin = Origin { host: "relay-0".into(), service, pid: 4242, syslog_name: "staffetta".to_owned() };
    let now = UNIX_EPOCH + Duration::from_millis(samples::NOW);
    render(event, format, &mut lines, &mut stamp, &origin, now);
    String::from_utf8_lossy(&lines).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value};
    use staffetta_policy::diagnosis::Class;

    use super::*;

    fn keys(entry: &Entry) -> BTreeSet<String> {
        let object: Map<String, Value> = serde_json::from_str(&entry.json).unwrap();
        let keys: BTreeSet<String> = object.keys().cloned().collect();
        assert!(HEAD.iter().all(|(name, _)| keys.contains(*name)), "{}", entry.json);
        keys.into_iter().filter(|key| HEAD.iter().all(|(name, _)| name != key)).collect()
    }

    #[test]
    fn each_event_has_the_fields_that_the_page_says_and_no_others() {
        let mut all = entries();
        all.push(entry("frontend", &samples::held()));
        for one in &all {
            let told: BTreeSet<String> = one.fields.iter().map(|&field| field.to_owned()).collect();
            assert!(keys(one).is_subset(&told), "{} has other fields: {:?}", one.name, keys(one));
            // Some of several examples with the same fields has each.
            let seen: BTreeSet<String> = all.iter().filter(|e| e.fields == one.fields).flat_map(keys).collect();
            assert_eq!(seen, told, "{}", one.name);
        }
    }

    #[test]
    fn each_field_has_its_meaning() {
        let used: BTreeSet<&str> = entries().iter().flat_map(|entry| entry.fields.iter().copied()).collect();
        let told: BTreeSet<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(used, told);
        assert!(FIELDS.is_sorted());
    }

    #[test]
    fn the_page_names_every_class() {
        let meaning = |field: &str| FIELDS.iter().find(|(name, _)| *name == field).unwrap().1;
        for class in Class::ALL {
            assert!(meaning("class").contains(&format!("`{}`", class.as_str())), "{class:?}");
            assert!(meaning("scope").contains(&format!("`{}`", class.scope().as_str())), "{class:?}");
            assert!(meaning("remedy").contains(&format!("`{}`", class.remedy().as_str())), "{class:?}");
        }
    }

    #[test]
    fn the_page_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/log.md");
        assert!(std::fs::read_to_string(path).unwrap() == reference(), "docs/log.md is out of date: make docs");
    }
}
