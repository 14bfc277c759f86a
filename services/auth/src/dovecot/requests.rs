//! Who waits for which answer: the multiplexing of one connection, without its socket.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wire::{Failure, Line};

/// What Dovecot answers to one message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Challenge(Vec<u8>),
    /// The account, as Dovecot spells it; `None` if that is no text.
    Success(Option<String>),
    Failure(Failure),
}

/// Why there is no answer. Nobody knows then whether the credentials are right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// No connection could be made.
    #[error("{0}")]
    Away(String),
    /// The connection ended while an answer was waited for.
    #[error("the connection to Dovecot was lost")]
    Lost,
    /// Nothing came in time.
    #[error("no answer from Dovecot within {} s", super::DEADLINE.as_secs())]
    Late,
    /// More is asked than Dovecot answers.
    #[error("too many logins wait for Dovecot")]
    Busy,
    /// Dovecot, as it is now, does not have the mechanism.
    #[error("Dovecot does not offer the mechanism")]
    NoMechanism,
    /// Dovecot would hang up on such a line.
    #[error("the message is longer than Dovecot takes")]
    TooLong,
}

pub(super) type Reply = Result<Answer, Trouble>;

/// Gives out the ids of requests: never 0, which Dovecot refuses, and none again before all others were used.
#[derive(Debug)]
pub(super) struct Ids(AtomicU32);

impl Ids {
    pub(super) fn from(first: u32) -> Self {
        Self(AtomicU32::new(first))
    }

    pub(super) fn next(&self) -> u32 {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => self.0.fetch_add(1, Ordering::Relaxed),
            id => id,
        }
    }
}

/// The requests that the connection has open.
#[derive(Debug, Default)]
pub(super) struct Requests(HashMap<u32, Open>);

#[derive(Debug)]
struct Open {
    asked: Instant,
    /// Absent while it is the client's turn.
    waiting: Option<oneshot::Sender<Reply>>,
}

impl Requests {
    /// Notes a new request. An id that is in use is not given away twice: the new one is told to come again.
    pub(super) fn begin(&mut self, id: u32, waiting: oneshot::Sender<Reply>, now: Instant) -> bool {
        if self.0.contains_key(&id) {
            tell(waiting, Err(Trouble::Busy));
            return false;
        }
        self.0.insert(id, Open { asked: now, waiting: Some(waiting) });
        true
    }

    /// Notes that a challenge was answered. False if this connection does not know the request.
    pub(super) fn go_on(&mut self, id: u32, waiting: oneshot::Sender<Reply>, now: Instant) -> bool {
        let Some(open) = self.0.get_mut(&id) else {
            tell(waiting, Err(Trouble::Lost));
            return false;
        };
        *open = Open { asked: now, waiting: Some(waiting) };
        true
    }

    /// Forgets a request. If it waited for an answer, since when.
    pub(super) fn cancel(&mut self, id: u32) -> Cancelled {
        match self.0.remove(&id) {
            None => Cancelled::Unknown,
            Some(Open { waiting: None, .. }) => Cancelled::Idle,
            Some(Open { asked, .. }) => Cancelled::Waiting(asked),
        }
    }

    /// Gives an answer to who waits for it; what nobody waits for any more is dropped.
    pub(super) fn on_line(&mut self, line: Line) {
        match line {
            Line::Challenge { id, octets } => {
                let waiting = self.0.get_mut(&id).and_then(|open| open.waiting.take());
                tell(waiting, Ok(Answer::Challenge(octets)));
            }
            Line::Success { id, user } => self.end(id, Ok(Answer::Success(user))),
            Line::Failure { id, failure } => self.end(id, Ok(Answer::Failure(failure))),
            Line::Cancelled { id } => self.end(id, Err(Trouble::Lost)),
            _ => {}
        }
    }

    /// The connection is gone, and with it all that was asked.
    pub(super) fn lose(&mut self) {
        for (_, open) in self.0.drain() {
            tell(open.waiting, Err(Trouble::Lost));
        }
    }

    fn end(&mut self, id: u32, reply: Reply) {
        let waiting = self.0.remove(&id).and_then(|open| open.waiting);
        tell(waiting, reply);
    }
}

/// What [`Requests::cancel`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    Unknown,
    Idle,
    Waiting(Instant),
}

/// Whoever has stopped waiting does not want to know.
pub(super) fn tell(waiting: impl Into<Option<oneshot::Sender<Reply>>>, reply: Reply) {
    let _ = waiting.into().map(|waiting| waiting.send(reply));
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ask(requests: &mut Requests, id: u32) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        requests.begin(id, sender, Instant::now());
        receiver
    }

    fn ok(id: u32, user: &str) -> Line {
        Line::Success { id, user: Some(user.to_owned()) }
    }

    #[test]
    fn ids_are_never_0_and_go_round() {
        let ids = Ids::from(u32::MAX - 1);
        assert_eq!([ids.next(), ids.next(), ids.next(), ids.next()], [u32::MAX - 1, u32::MAX, 1, 2]);
    }

    #[test]
    fn answers_reach_who_asked_whatever_their_order() {
        let mut requests = Requests::default();
        let (mut john, mut lisa) = (ask(&mut requests, 1), ask(&mut requests, 2));
        requests.on_line(ok(2, "lisa"));
        requests.on_line(ok(7, "nobody asked"));
        assert!(john.try_recv().is_err());
        requests.on_line(ok(1, "john"));
        assert_eq!(lisa.try_recv().unwrap(), Ok(Answer::Success(Some("lisa".to_owned()))));
        assert_eq!(john.try_recv().unwrap(), Ok(Answer::Success(Some("john".to_owned()))));
    }

    #[test]
    fn an_id_in_use_is_not_used_twice() {
        let mut requests = Requests::default();
        let (mut first, mut second) = (ask(&mut requests, 1), ask(&mut requests, 1));
        assert_eq!(second.try_recv().unwrap(), Err(Trouble::Busy));
        requests.on_line(ok(1, "john"));
        assert!(first.try_recv().unwrap().is_ok());
    }

    #[test]
    fn an_answer_to_what_was_given_up_is_nobodys() {
        let mut requests = Requests::default();
        drop(ask(&mut requests, 1));
        assert!(matches!(requests.cancel(1), Cancelled::Waiting(_)));
        assert_eq!(requests.cancel(1), Cancelled::Unknown);
        let mut next = ask(&mut requests, 2);
        requests.on_line(ok(1, "john"));
        assert!(next.try_recv().is_err());
    }

    #[test]
    fn after_a_challenge_it_is_the_clients_turn() {
        let mut requests = Requests::default();
        let mut first = ask(&mut requests, 1);
        requests.on_line(Line::Challenge { id: 1, octets: b"x".to_vec() });
        assert_eq!(first.try_recv().unwrap(), Ok(Answer::Challenge(b"x".to_vec())));
        // One more that nobody asked for changes nothing.
        requests.on_line(Line::Challenge { id: 1, octets: b"y".to_vec() });
        let (sender, mut second) = oneshot::channel();
        assert!(requests.go_on(1, sender, Instant::now()));
        requests.on_line(ok(1, "john"));
        assert!(second.try_recv().unwrap().is_ok());
        let (sender, mut third) = oneshot::channel();
        assert!(!requests.go_on(1, sender, Instant::now()), "it is over");
        assert_eq!(third.try_recv().unwrap(), Err(Trouble::Lost));
    }

    #[test]
    fn with_the_connection_everything_is_lost() {
        let mut requests = Requests::default();
        let mut asked = ask(&mut requests, 1);
        requests.lose();
        assert_eq!(asked.try_recv().unwrap(), Err(Trouble::Lost));
        assert_eq!(requests.cancel(1), Cancelled::Unknown);
    }
}
