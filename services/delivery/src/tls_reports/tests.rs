//! What is kept of sessions.

use staffetta_mail::tls_report::Outcome;
use staffetta_policy::sts;
use staffetta_policy::tls::Tlsa;

use super::*;

fn session(basis: Basis, flaw: Option<Flaw>) -> Session {
    let fault = |flaw| failure(Fault { flaw, reason: "why".to_owned() }, None, None);
    Session { domain: "a.test".into(), basis, failure: flaw.map(fault) }
}

fn kept(session: &Session, finding: &Finding) -> Vec<(Policy, Option<Flaw>)> {
    let outcome = |text: String| Outcome::from_text(&text).unwrap_or_else(|| unreachable!("{text}"));
    let all = outcomes(session, finding).map(outcome);
    all.map(|outcome| (outcome.policy, outcome.failure.map(|failure| failure.flaw))).collect()
}

#[test]
fn a_session_is_told_with_the_policy_that_it_was_under() {
    let policy = |kind, domain: &str, lines: &[&str], hosts: &[&str]| {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Policy { kind, lines: texts(lines), domain: domain.to_owned(), hosts: texts(hosts) }
    };
    let none = Finding::default();
    assert_eq!(kept(&session(Basis::Nothing, None), &none), [(policy(Kind::None, "a.test", &[], &[]), None)]);
    let lines = ["version: STSv1", "mode: testing", "mx: *.a.test", "max_age: 60"];
    let text = lines.join("\n");
    let found = sts::Policy::parse(&text).map(Arc::new).ok();
    let finding = Finding { policy: found, ..Finding::default() };
    let expired = session(Basis::Sts, Some(Flaw::CertificateExpired));
    let told = policy(Kind::Sts, "a.test", &lines, &["*.a.test"]);
    assert_eq!(kept(&expired, &finding), [(told, Some(Flaw::CertificateExpired))]);
    let records = vec![Tlsa { usage: 3, selector: 1, matching: 1, data: vec![0xab, 0x0c] }];
    let pins = Arc::new(Pins { base: "mx.b.test".into(), names: Vec::new(), records });
    let pinned = session(Basis::Tlsa("mx.a.test".into(), Some(pins)), None);
    assert_eq!(kept(&pinned, &none), [(policy(Kind::Tlsa, "mx.b.test", &["3 1 1 ab0c"], &[]), None)]);
    let useless = session(Basis::Tlsa("mx.a.test".into(), None), None);
    assert_eq!(kept(&useless, &none), [(policy(Kind::Tlsa, "mx.a.test", &[], &[]), None)]);
}

#[test]
fn a_policy_that_cannot_be_had_is_told_beside_the_session() {
    let flaw = Some(Flaw::StsWebpkiInvalid);
    let finding = Finding { flaw, problem: Some("a bad certificate".to_owned()), ..Finding::default() };
    let told: Vec<_> =
        kept(&session(Basis::Nothing, None), &finding).into_iter().map(|(it, flaw)| (it.kind, flaw)).collect();
    assert_eq!(told, [(Kind::None, None), (Kind::Sts, flaw)]);
}

#[test]
fn what_is_told_of_a_policy_has_an_end() {
    let lines = ["a".repeat(POLICY / 2), "b".repeat(POLICY), "c".to_owned()];
    assert_eq!(cut(lines.iter().map(String::as_str)), lines[..1]);
    let long = failure(Fault { flaw: Flaw::ValidationFailure, reason: "\u{e9}".repeat(REASON) }, None, None);
    assert_eq!(long.reason.map(|reason| reason.len()), Some(REASON));
}

#[test]
fn sessions_that_look_the_same_are_one_entry_and_there_is_a_bound() {
    let sessions = Sessions::default();
    let hop = |domain: &str| {
        let config = Config::default();
        staffetta_transport::hop::Router::new(&config).hop(domain, None)
    };
    let a = hop("a.test");
    for _ in 0..3 {
        sessions.add((&a, Need::Nothing), 0, Basis::Nothing, None);
    }
    sessions.add((&a, Need::Waived), 0, Basis::Nothing, None);
    let counted = sessions.take();
    assert_eq!(counted.into_values().collect::<Vec<_>>(), [3], "mail for which TLS is optional is not counted");
    for number in 0..MOST + 10 {
        sessions.add((&hop(&format!("{number}.test")), Need::Nothing), 0, Basis::Nothing, None);
    }
    assert_eq!(sessions.take().len(), MOST);
}
