//! Why this connection's own answer was no: the intake's causes, and those of AUTH and ETRN. Reply, log and metrics
//! follow from here.

use staffetta_policy::relay::Request;
use staffetta_smtp::Reply;
use staffetta_smtp::server::Answer;

use crate::intake::{AuthorFault, Cause, Denied, Misattributed, NotQueued};

/// What the session carries from the answer to the refusal that it reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The message, or a recipient, was not taken.
    Intake(Cause),
    /// The client is not who it says.
    Login {
        why: LoginFailure,
        /// The login that was tried, if the exchange came that far.
        login: Option<String>,
    },
    /// This client may not use ETRN.
    EtrnForbidden,
    /// There is no place for the client that was named.
    NoPlace,
    /// The queue could not be asked to send.
    EtrnFailed,
    /// The login has sent as much as it may.
    TooMuchMail,
    /// The login has as much in the queue as it may.
    TooMuchWaits,
    /// The login has named as many recipients as it may.
    TooManyRecipients,
    /// An alias leads to more than the message may have beside the others.
    TooManyMembers,
    /// The session may not go on.
    Dismissed(Dismissal),
}

/// Why a session that was good may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dismissal {
    /// What its login was given for has changed.
    LoginRevoked,
    /// Its login is blocked.
    LoginBlocked,
    /// Its client is blocked.
    ClientBlocked,
}

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginFailure {
    /// Wrong name or secret.
    Credentials,
    /// What the client said does not follow the mechanism.
    Malformed,
    /// The back end cannot do this mechanism.
    Mechanism,
    /// Nobody could be asked.
    Unavailable,
    /// The auth service could not say.
    Undecided,
    /// Too many of this client's logins failed lately.
    Limited,
    /// Too many logins as this user failed lately.
    LoginLimited,
    /// An operator has blocked the login.
    Blocked,
}

impl Refused {
    /// The label `reason` of metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Intake(cause) => cause.label(),
            Self::Login { why, .. } => why.label(),
            Self::EtrnForbidden => "etrn_refused",
            Self::NoPlace => "connections",
            Self::EtrnFailed => "queue_unavailable",
            Self::TooMuchMail => "messages_per_login",
            Self::TooMuchWaits => "queued_per_login",
            Self::TooManyRecipients => "recipients_per_login",
            Self::TooManyMembers => "too_many_recipients",
            Self::Dismissed(dismissal) => dismissal.label(),
        }
    }
}

impl Dismissal {
    const fn label(self) -> &'static str {
        match self {
            Self::LoginRevoked => "login_revoked",
            Self::LoginBlocked => "login_blocked",
            Self::ClientBlocked => "client_blocked",
        }
    }

    /// What the client is told.
    pub(super) fn reply(self, hostname: &str) -> Reply {
        match self {
            Self::LoginRevoked => Reply::login_revoked(hostname),
            Self::LoginBlocked => Reply::login_blocked(hostname),
            Self::ClientBlocked => Reply::client_blocked(hostname),
        }
    }
}

impl LoginFailure {
    const fn label(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Malformed => "malformed",
            Self::Mechanism => "mechanism",
            Self::Unavailable | Self::Undecided => "auth_unavailable",
            Self::Limited => "auth_failures",
            Self::LoginLimited => "auth_failures_per_login",
            Self::Blocked => "login_blocked",
        }
    }

    /// The label `result` of the metric of login attempts.
    pub(super) const fn result(self) -> &'static str {
        match self {
            Self::Credentials => "failed",
            Self::Malformed | Self::Mechanism => "malformed",
            Self::Unavailable | Self::Undecided => "unavailable",
            Self::Limited | Self::LoginLimited => "limited",
            Self::Blocked => "blocked",
        }
    }

    fn reply(self, hostname: &str) -> Reply {
        match self {
            // A thief need not learn why.
            Self::Credentials | Self::Blocked => Reply::authentication_failed(),
            Self::Malformed => Reply::malformed_credentials(),
            Self::Mechanism => Reply::unknown_mechanism(),
            Self::Unavailable => Reply::authentication_unavailable(),
            Self::Undecided => Reply::authentication_undecided(),
            Self::Limited => Reply::too_many_auth_failures(hostname),
            Self::LoginLimited => Reply::too_many_failures_of_login(),
        }
    }
}

/// The answer to a question about the recipient of `request`.
pub(super) fn recipient_refused(denied: &Denied, request: &Request<'_>) -> Answer<Refused> {
    let reply = denied.objection.reply(request, denied.said.as_deref().unwrap_or_default());
    Answer::Refuse(reply, Refused::Intake(Cause::Policy(denied.objection)))
}

/// The answer to a message whose From field is not this login's to write.
pub(super) fn author_refused(misattributed: &Misattributed, login: &str) -> Answer<Refused> {
    let Misattributed { fault, author } = misattributed;
    let reply = match fault {
        AuthorFault::NotOwned => Reply::author_not_owned(author, login),
        AuthorFault::Unreadable => Reply::author_unreadable(),
        AuthorFault::Unknown => Reply::lookup_failed(author),
    };
    Answer::Refuse(reply, Refused::Intake(Cause::Author(*fault)))
}

/// The answer to a question about the message.
pub(super) fn message_refused(not_queued: NotQueued) -> Answer<Refused> {
    let reply = match not_queued {
        NotQueued::Full => Reply::insufficient_storage(),
        NotQueued::Unavailable => Reply::queue_write_error(),
    };
    Answer::Refuse(reply, Refused::Intake(Cause::Queue(not_queued)))
}

/// The answer to AUTH.
pub(super) fn login_refused(why: LoginFailure, login: Option<String>, hostname: &str) -> Answer<Refused> {
    Answer::Refuse(why.reply(hostname), Refused::Login { why, login })
}
