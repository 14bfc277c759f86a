//! May a session go on that was good when it began? Operators block logins and clients, and credentials change, while it is
//! open. Whether anything was heard of at all costs one look at a number; only then the session's own case is judged.

use std::time::Duration;

use staffetta_smtp::server::Answer;

use super::Dialog;
use super::refused::{Dismissal, LoginFailure, Refused};

/// How long a command waits for news that may be missing. Usually a new connection to Redis is there much sooner.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was heard of, as versions of [`staffetta_queue::Revocations`].
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Up to here there is nothing against the session.
    judged: u64,
    /// When its authentication began: what is revoked later concerns it.
    pub(super) since: u64,
}

impl Dialog<'_> {
    /// Judges the session, if something has happened. Once it may not go on, its next command is its last, and so is every
    /// question.
    pub(super) fn reconsider(&mut self) -> Option<Answer<Refused>> {
        let shared = &self.door.shared;
        let version = shared.revocations.version();
        if version != self.standing.judged && self.session.dismissal().is_none() {
            self.standing.judged = version;
            if let Some(dismissal) = self.judge() {
                self.session.dismiss(dismissal.reply(&shared.hostname), Refused::Dismissed(dismissal));
            }
        }
        let (reply, why) = self.session.dismissal()?;
        Some(Answer::Refuse(reply.clone(), why.clone()))
    }

    fn judge(&self) -> Option<Dismissal> {
        let revocations = &self.door.shared.revocations;
        if !self.peer.nameless && revocations.is_client_blocked(self.peer.address.ip()) {
            return Some(Dismissal::ClientBlocked);
        }
        let login = self.session.login()?;
        if revocations.is_login_blocked(login) {
            return Some(Dismissal::LoginBlocked);
        }
        revocations.is_revoked(login, self.standing.since).then_some(Dismissal::LoginRevoked)
    }

    /// Has nothing been missed? A message must not go through because nobody could tell this pod of a block.
    pub(super) async fn knows_all(&self) -> bool {
        let revocations = &self.door.shared.revocations;
        revocations.is_current() || Box::pin(revocations.is_current_within(PATIENCE)).await
    }

    /// An authentication begins. What is found out before this pod has read the journal would have to be found out again.
    pub(super) async fn begin_login(&mut self) {
        self.knows_all().await;
        self.standing.since = self.door.shared.revocations.version();
    }

    /// Where this pod has read to: the auth service must not know less.
    pub(super) fn place(&self) -> String {
        self.door.shared.revocations.place().map(|place| place.to_string()).unwrap_or_default()
    }

    /// The credentials are right; may this login be used all the same?
    pub(super) fn bar(&self, login: &str) -> Option<LoginFailure> {
        let revocations = &self.door.shared.revocations;
        if revocations.is_login_blocked(login) {
            return Some(LoginFailure::Blocked);
        }
        // They may be those of before: the client has to show them again.
        revocations.is_revoked(login, self.standing.since).then_some(LoginFailure::Unavailable)
    }

    /// Somebody who may say so has said that this is another client now, with or without a login.
    pub(super) fn stand_anew(&mut self) {
        self.standing = Standing { since: self.door.shared.revocations.version(), judged: 0 };
    }
}
