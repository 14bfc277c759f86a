//! What codes mean where words say nothing: enhanced codes first (RFC 3463 and the IANA registry), then reply codes, which mean
//! different things to different commands.

use staffetta_mail::Status;
use staffetta_smtp::client::Stage;

use super::class::Class as C;

/// By an enhanced code. Those that only say what the reply code says are `None`.
pub(super) const fn by_status(status: Status) -> Option<C> {
    Some(match (status.subject, status.detail) {
        (1, 1 | 3) => C::BadMailbox,
        (1, 6) => C::InactiveMailbox,
        (1, 2 | 10) => C::BadDomain,
        (1, 7 | 8) | (7, 27) => C::InvalidSender,
        (2, 1) if status.is_permanent() => C::InactiveMailbox,
        (2, 1 | 2) => C::QuotaIssues,
        (2, 3) | (3, 4) => C::TooLarge,
        (2, 4) | (3, 1 | 2 | 5) | (4, 5) => C::BadConfiguration,
        (3, 3) | (5, _) => C::ProtocolErrors,
        (4, 1) => C::NoAnswerFromHost,
        (4, 2) => C::BadConnection,
        (4, 3 | 4 | 6 | 7) => C::RoutingErrors,
        (6, _) | (7, 7) => C::ContentRelated,
        (7, 8 | 9 | 11 | 12) => C::LoginRelated,
        (7, 4 | 5 | 10 | 30) => C::TlsRelated,
        (7, 17) => C::BadMailbox,
        (7, 20..=24 | 26 | 29) => C::Unauthenticated,
        (7, 25) => C::NoReverseDns,
        (7, 28) => C::RateLimited,
        (7, 1 | 2 | 3 | 13..=16 | 18 | 19) => C::PolicyRelated,
        _ => return None,
    })
}

/// By the reply code and what it was the answer to.
pub(super) const fn by_code(code: u16, stage: Stage) -> C {
    match (code, stage) {
        (421 | 451 | 454, _) => C::BadConfiguration,
        (554, Stage::Greeting) => C::BadReputation,
        (400..=499, Stage::Greeting | Stage::Helo) => C::BadConfiguration,
        (530 | 535, _) => C::LoginRelated,
        (521 | 556, _) => C::BadDomain,
        (551, Stage::Rcpt) => C::BadMailbox,
        (552, Stage::Rcpt) => C::QuotaIssues,
        (552, _) => C::TooLarge,
        (452, Stage::Rcpt) => C::Other,
        (452, _) => C::BadConfiguration,
        (553, Stage::Mail) => C::InvalidSender,
        (500..=504 | 555, _) => C::ProtocolErrors,
        _ => C::Other,
    }
}
