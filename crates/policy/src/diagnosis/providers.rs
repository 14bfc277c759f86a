//! What codes and words mean at one provider, where that differs from what they mean elsewhere, or says more.

use super::Words;
use super::class::Class as C;

const GOOGLE: &[&str] = &["google.com", "googlemail.com"];
const MICROSOFT: &[&str] = &["outlook.com", "mx.microsoft", "hotmail.com"];
const YAHOO: &[&str] = &["yahoodns.net"];
const APPLE: &[&str] = &["icloud.com"];
const COMCAST: &[&str] = &["comcast.net"];

/// Its name, below which names its mail hosts are, and its words.
pub(super) const PROVIDERS: &[(&str, &[&str], &[Words])] = &[
    (
        "google",
        GOOGLE,
        &[
            // From the list of SMTP errors of Google Workspace, and the requirements for senders.
            (C::Unauthenticated, r"[45]\.7\.(24|26|27|30|32)\b"),
            (C::TlsRelated, r"[45]\.7\.29\b"),
            (C::NoReverseDns, r"[45]\.7\.(23|25)\b"),
            (C::RateLimited, r"[45]\.7\.28\b"),
            (C::BadReputation, r"very low reputation of the sending"),
            (C::SpamRelated, r"likely unsolicited mail|likely suspicious"),
            (C::ContentRelated, r"not rfc 5322 compliant|content presents a potential security issue"),
            (C::InactiveMailbox, r"5\.2\.1 .*(disabled|inactive)"),
            (C::QuotaIssues, r"4\.2\.1 .*receiving mail|5\.2\.1 .*receiving mail"),
        ],
    ),
    (
        "microsoft",
        MICROSOFT,
        &[
            (C::Unauthenticated, r"5\.7\.(509|515)\b"),
            (C::NoReverseDns, r"5\.7\.506\b"),
            (C::BadReputation, r"5\.7\.(511|513|606|649|7\d\d)\b|\b[so]c-00\d\b|\bs(3140|3150|77719)\b"),
            (C::RateLimited, r"5\.7\.508\b|4\.7\.[56]\d\d\b|\brp-00\d\b"),
            // Hotmail says no more of a mailbox that is not there.
            (C::BadMailbox, r"^550 5\.5\.0 requested action not taken: mailbox unavailable"),
            (C::BadMailbox, r"5\.4\.1 recipient address rejected: access denied"),
            (C::InactiveMailbox, r"5\.2\.1 .*mailbox .*disabled"),
        ],
    ),
    (
        "yahoo",
        YAHOO,
        &[
            (C::BadReputation, r"\[(tss?0\d|bl\d\d|con\d\d)\]"),
            (C::RateLimited, r"\[(gl|rl)\d\d\]|max message per connection"),
            (C::InactiveMailbox, r"mailbox is disabled"),
            (C::BadMailbox, r"doesn'?t have an? \S+ account|mailbox not found"),
            (C::Unauthenticated, r"5\.7\.9\b"),
            (C::SpamRelated, r"message not allowed - \["),
        ],
    ),
    (
        "apple",
        APPLE,
        &[
            (C::SpamRelated, r"\[cs01\]"),
            (C::RateLimited, r"\[(cs|hm)\d+\]"),
            (C::BadReputation, r"message rejected due to local policy"),
        ],
    ),
    ("comcast", COMCAST, &[(C::RateLimited, r"\brl0000\d\d\b"), (C::BadReputation, r"\bbl0000\d\d\b|\bpt0\d\d\b")]),
];
