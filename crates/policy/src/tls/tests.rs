//! Tables.

use super::*;

const LEVELS: [Level; 4] = [Level::None, Level::May, Level::Encrypt, Level::Verify];

const NOTHING: &Published = &Published { dane: Dane::Absent, sts: Sts::Off };

fn facts(host: &Arc<str>, level: Level) -> Facts<'_> {
    Facts { host, level, login: false, implicit: false, published: NOTHING, need: Need::Nothing, failed_lately: false }
}

fn published(dane: Dane, sts: Sts) -> Published {
    Published { dane, sts }
}

fn host() -> Arc<str> {
    "mx.example.net".into()
}

fn records() -> Dane {
    judge("mx.example.net", &[], vec![Tlsa { usage: 3, selector: 1, matching: 1, data: vec![1; 32] }])
}

/// For hosts that may be used.
fn allowed(facts: &Facts<'_>) -> Security {
    let refused =
        |_| Security { starttls: Tls::Off, trust: Trust::Any, fallback: true, label: Label::None, waived: false };
    decide(facts).unwrap_or_else(refused)
}

/// `label: starttls trust`, and ` fallback`.
fn shown(facts: &Facts<'_>) -> String {
    let Ok(Security { starttls, trust, fallback, label, .. }) = decide(facts) else { return "not at all".to_owned() };
    let trust = match trust {
        Trust::Any => "any".to_owned(),
        Trust::Judged { name } => format!("judged {name}"),
        Trust::WebPki { name } => format!("web {name}"),
        Trust::Dane(_) => "dane".to_owned(),
    };
    format!("{label}: {starttls:?} {trust}{}", if fallback { " fallback" } else { "" })
}

#[test]
fn a_server_with_implicit_tls_is_never_spoken_to_in_the_clear() {
    let host = host();
    for (level, failed_lately, expected) in [
        (Level::None, false, "encrypt: Implicit any"),
        (Level::May, false, "encrypt: Implicit any"),
        (Level::May, true, "encrypt: Implicit any"),
        (Level::Encrypt, true, "encrypt: Implicit any"),
        (Level::Verify, false, "verify: Implicit web mx.example.net"),
    ] {
        let facts = Facts { implicit: true, failed_lately, ..facts(&host, level) };
        assert_eq!(shown(&facts), expected, "{level:?}");
    }
    let dane = published(records(), Sts::Off);
    let facts = Facts { implicit: true, published: &dane, ..facts(&host, Level::None) };
    assert_eq!(shown(&facts), "dane: Implicit dane");
    assert!(allowed(&facts).satisfies(Need::AuthenticatedTls));
}

#[test]
fn the_strongest_word_counts() {
    let host = host();
    let none = "none: Off any";
    let may = "opportunistic: IfOffered any fallback";
    let encrypt = "encrypt: Required any";
    let testing = Sts::Testing { listed: false };
    let judged_may = "opportunistic: IfOffered judged mx.example.net fallback";
    let judged_encrypt = "encrypt: Required judged mx.example.net";
    let verify = "verify: Required web mx.example.net";
    let dane = "dane: Required dane";
    let sts = "mta-sts: Required web mx.example.net";
    let not = "not at all";
    // What else is known, and what becomes of none, may, encrypt and verify.
    for (login, dane_found, sts_found, need, expected) in [
        (false, Dane::Absent, Sts::Off, Need::Nothing, [none, may, encrypt, verify]),
        (true, Dane::Absent, Sts::Off, Need::Nothing, [encrypt, encrypt, encrypt, verify]),
        (false, Dane::Absent, Sts::Off, Need::AuthenticatedTls, [verify; 4]),
        (false, Dane::Absent, Sts::Enforce, Need::Nothing, [none, sts, sts, sts]),
        (false, Dane::Absent, Sts::Enforce, Need::Waived, [none, may, encrypt, verify]),
        (false, Dane::Absent, testing, Need::Nothing, [none, judged_may, judged_encrypt, verify]),
        (false, records(), testing, Need::Nothing, [none, dane, dane, dane]),
        (true, Dane::Absent, Sts::Enforce, Need::Nothing, [sts; 4]),
        (false, records(), Sts::Off, Need::Nothing, [none, dane, dane, dane]),
        (false, records(), Sts::Off, Need::Waived, [none, may, encrypt, verify]),
        (false, records(), Sts::Enforce, Need::AuthenticatedTls, [dane; 4]),
        (false, Dane::Unusable, Sts::Off, Need::Nothing, [none, "dane: Required any", "dane: Required any", verify]),
        (false, Dane::Unusable, Sts::Enforce, Need::Nothing, [none, sts, sts, sts]),
        (false, Dane::Unusable, Sts::Off, Need::AuthenticatedTls, [verify; 4]),
        // A host that the policy does not name: only DANE can vouch for it, and "none" asks nobody.
        (false, Dane::Absent, Sts::Unlisted, Need::Nothing, [none, not, not, not]),
        (true, Dane::Absent, Sts::Unlisted, Need::Waived, [encrypt, encrypt, encrypt, verify]),
        (true, Dane::Absent, Sts::Unlisted, Need::Nothing, [not; 4]),
        (false, Dane::Absent, Sts::Unlisted, Need::AuthenticatedTls, [not; 4]),
        (false, Dane::Unusable, Sts::Unlisted, Need::Nothing, [none, not, not, not]),
        (false, records(), Sts::Unlisted, Need::Nothing, [none, dane, dane, dane]),
    ] {
        for (level, expected) in LEVELS.into_iter().zip(expected) {
            let published = Published { dane: dane_found.clone(), sts: sts_found };
            let facts = Facts { login, published: &published, need, ..facts(&host, level) };
            let asks = expected != none && need > Need::Waived;
            assert_eq!(asks_what_is_published(level, login, need), asks, "{facts:?}");
            assert_eq!(shown(&facts), expected, "{facts:?}");
        }
    }
}

#[test]
fn a_remembered_failure_counts_at_may_and_nowhere_else() {
    let host = host();
    let failed = |level| Facts { failed_lately: true, ..facts(&host, level) };
    assert_eq!(shown(&failed(Level::May)), "opportunistic: Off any");
    assert!(allowed(&failed(Level::May)).is_fallback());
    for level in [Level::None, Level::Encrypt, Level::Verify] {
        assert_eq!(shown(&failed(level)), shown(&facts(&host, level)));
        assert!(!allowed(&failed(level)).is_fallback());
    }
    let (dane, sts) = (published(records(), Sts::Off), published(Dane::Absent, Sts::Enforce));
    let raised: [Facts<'_>; 4] = [
        Facts { login: true, ..failed(Level::May) },
        Facts { published: &dane, ..failed(Level::May) },
        Facts { published: &sts, ..failed(Level::May) },
        Facts { need: Need::AuthenticatedTls, ..failed(Level::May) },
    ];
    for facts in raised {
        let security = allowed(&facts);
        assert_eq!((security.starttls, security.is_fallback()), (Tls::Required, false), "{facts:?}");
    }
}

#[test]
fn only_a_failed_handshake_at_may_is_retried_in_plaintext() {
    let host = host();
    let handshake = Failure::TlsHandshake("no shared cipher".to_owned());
    let may = facts(&host, Level::May);
    let (unusable, enforced) = (published(Dane::Unusable, Sts::Off), published(Dane::Absent, Sts::Enforce));
    let pinned = published(records(), Sts::Off);
    for (facts, failure, retry) in [
        (may.clone(), &handshake, true),
        (may.clone(), &Failure::Lost { stage: Stage::StartTls }, true),
        (may.clone(), &Failure::TimedOut { stage: Stage::StartTls }, true),
        (may.clone(), &Failure::TlsInjection, false),
        (may.clone(), &Failure::Lost { stage: Stage::Helo }, false),
        (may.clone(), &Failure::Lost { stage: Stage::Mail }, false),
        (Facts { failed_lately: true, ..may.clone() }, &handshake, false),
        (Facts { login: true, ..may.clone() }, &handshake, false),
        (Facts { need: Need::AuthenticatedTls, ..may.clone() }, &handshake, false),
        (Facts { published: &unusable, ..may.clone() }, &handshake, false),
        (Facts { published: &enforced, ..may.clone() }, &handshake, false),
        (Facts { published: &pinned, ..may }, &handshake, false),
        (facts(&host, Level::None), &handshake, false),
        (facts(&host, Level::Encrypt), &handshake, false),
        (facts(&host, Level::Verify), &handshake, false),
    ] {
        assert_eq!(allowed(&facts).falls_back_after(failure), retry, "{facts:?} {failure:?}");
    }
}

#[test]
fn rfc8689_a_message_that_demands_tls_goes_only_to_who_has_proved_its_name() {
    let host = host();
    for level in LEVELS {
        let security = allowed(&facts(&host, level));
        assert!(security.satisfies(Need::Nothing));
        assert_eq!(security.satisfies(Need::AuthenticatedTls), level == Level::Verify, "{level:?}");
        // What is decided for such a message is good enough for it.
        let demanded = allowed(&Facts { need: Need::AuthenticatedTls, ..facts(&host, level) });
        assert!(demanded.satisfies(Need::AuthenticatedTls));
    }
    for (dane, proves) in [(records(), true), (Dane::Unusable, false)] {
        let published = published(dane, Sts::Off);
        let security = allowed(&Facts { published: &published, ..facts(&host, Level::May) });
        assert_eq!(security.satisfies(Need::AuthenticatedTls), proves, "{published:?}");
    }
}

#[test]
fn rfc8689_what_a_demand_cannot_get_is_final_for_it_and_says_nothing_about_other_mail() {
    let broken = Failure::TlsHandshake("bad certificate".to_owned());
    let lost = Failure::Lost { stage: Stage::StartTls };
    let demand = Need::AuthenticatedTls;
    assert_eq!(demand.unmet(Failure::TlsNotOffered), Failure::NoRequireTls);
    assert_eq!(demand.unmet(broken.clone()), Failure::NoRequireTls);
    assert_eq!(demand.unmet(lost.clone()), lost, "may work next time");
    assert!(demand.is_why(&lost) && demand.is_why(&Failure::NoRequireTls));
    assert!(!demand.is_why(&Failure::Lost { stage: Stage::Greeting }), "the host is in trouble with everybody");
    assert_eq!(Need::Nothing.unmet(broken.clone()), broken);
    assert!(Need::Nothing.is_why(&lost), "mail that needs less may go without");
    assert!(!Need::Waived.is_why(&lost));
}

#[test]
fn rfc8689_mail_that_needs_less_goes_where_other_mail_goes_and_not_the_other_way_round() {
    let (host, enforced) = (host(), published(Dane::Absent, Sts::Enforce));
    let usual = allowed(&Facts { published: &enforced, ..facts(&host, Level::May) });
    let waived = allowed(&Facts { need: Need::Waived, ..facts(&host, Level::May) });
    assert!(usual.satisfies(Need::Waived) && waived.satisfies(Need::Waived));
    assert!(!waived.satisfies(Need::Nothing), "nobody has asked what is published");
    let strict = allowed(&Facts { need: Need::Waived, ..facts(&host, Level::Verify) });
    assert!(!strict.satisfies(Need::AuthenticatedTls), "nor whether the host is one of those that are named");
    let operator = allowed(&Facts { need: Need::Waived, ..facts(&host, Level::None) });
    assert!(operator.satisfies(Need::Nothing), "nobody would have");
}

#[test]
fn a_certificate_is_verified_when_something_was_asked_of_it() {
    let host = host();
    for (dane, level, word) in [
        (Dane::Absent, Level::May, "Untrusted"),
        (Dane::Absent, Level::Encrypt, "Untrusted"),
        (Dane::Unusable, Level::May, "Untrusted"),
        (Dane::Absent, Level::Verify, "Verified"),
        (records(), Level::May, "Verified"),
    ] {
        let published = published(dane, Sts::Off);
        assert_eq!(allowed(&Facts { published: &published, ..facts(&host, level) }).trust.as_str(), word, "{level:?}");
    }
}
