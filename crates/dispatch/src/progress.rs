//! How far a round through the hosts of a next hop has come: whether what one host does not take may be offered to another, and
//! what it means if not.
//!
//! Two hosts of a way that put mail off are believed for all of them (Postfix' `smtp_mx_session_limit`): the others of a
//! domain that greylists, or whose disk is full, would say the same, and each would cost a session an attempt. Whoever cannot be
//! reached, says nothing, or cannot do what the message needs has not had a say.

use std::sync::Arc;

use staffetta_policy::classify::{Action, Failure, classify};
use staffetta_smtp::client;

/// Hosts of one way that are heard in a round.
const SESSIONS: u32 = 2;

/// See the [module](self). The default is at its beginning.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The host at hand, and the way on which it is.
    host: Arc<str>,
    way: usize,
    /// Hosts of this way that answered to mail.
    heard: u32,
    /// Hosts that may take the mail another time.
    away: Vec<Arc<str>>,
}

/// What the host at hand has said in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// It has answered to a message.
    pub heard: bool,
    /// It may take another time what it has put off.
    pub postponed: bool,
}

/// The hosts besides the one at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// There is one that was not tried.
    pub any: bool,
    /// There is one for what the host at hand has put off by its word.
    pub after_a_word: bool,
    /// One that was tried may take the mail another time: that the last one cannot do what is needed is no reason to give up. An
    /// address of the last one is no other host.
    pub undecided: bool,
}

impl Progress {
    /// The next host, and the way on which it is.
    pub fn visit(&mut self, host: &Arc<str>, way: usize) {
        self.host = host.clone();
        if self.way != way {
            (self.way, self.heard) = (way, 0);
        }
    }

    /// The host at hand could not be used because of this.
    pub fn note(&mut self, failure: &Failure) {
        if classify(failure, "").finally() == Action::Defer {
            self.away.push(self.host.clone());
        }
    }

    /// Where the hosts that were not tried are on these ways.
    pub fn others(&self, mut left: impl Iterator<Item = usize>) -> Others {
        let next = left.next();
        let elsewhere = || next.into_iter().chain(left).any(|way| way != self.way);
        let after_a_word = if self.heard + 1 < SESSIONS { next.is_some() } else { elsewhere() };
        let undecided = self.away.iter().any(|host| *host != self.host);
        Others { any: next.is_some(), after_a_word, undecided }
    }

    /// What the host at hand has not taken goes on. The way whose other hosts are left out then.
    pub fn go_on(&mut self, said: Said, mut left: impl Iterator<Item = usize>) -> Option<usize> {
        self.heard += u32::from(said.heard);
        if said.postponed {
            self.away.push(self.host.clone());
        }
        (self.heard >= SESSIONS && left.any(|way| way != self.way)).then_some(self.way)
    }
}

impl Others {
    /// May one of them take what failed like this?
    pub fn may_take(self, failure: &client::Failure) -> bool {
        if failure.is_answered() { self.after_a_word } else { self.any }
    }
}

#[cfg(test)]
mod tests {
    use staffetta_policy::classify::{Endpoint, Peer};
    use staffetta_smtp::client::Stage;

    use super::*;

    const HEARD: Said = Said { heard: true, postponed: true };

    fn after(progress: &Progress, left: &[usize]) -> (bool, bool) {
        let others = progress.others(left.iter().copied());
        (others.any, others.after_a_word)
    }

    #[test]
    fn two_hosts_of_a_way_have_a_say_and_then_the_next_way() {
        let mut progress = Progress::default();
        progress.visit(&"mx.test".into(), 0);
        assert_eq!(after(&progress, &[]), (false, false));
        assert_eq!(after(&progress, &[0, 0]), (true, true));
        assert_eq!(progress.go_on(HEARD, [0, 0].into_iter()), None);
        progress.visit(&"mx.test".into(), 0);
        assert_eq!(after(&progress, &[0]), (true, false), "the second is the last that is heard");
        assert_eq!(after(&progress, &[0, 1]), (true, true), "of this way");
        assert_eq!(progress.go_on(HEARD, [0, 1].into_iter()), Some(0));
        progress.visit(&"last.test".into(), 1);
        assert_eq!(after(&progress, &[1]), (true, true), "a relay of last resort is asked like a first one");
    }

    #[test]
    fn who_was_not_heard_does_not_count() {
        let mut progress = Progress::default();
        for _ in 0..5 {
            progress.visit(&"mx.test".into(), 0);
            assert_eq!(progress.go_on(Said::default(), [0].into_iter()), None);
        }
        assert_eq!(after(&progress, &[0]), (true, true));
    }

    /// What was set aside because its host cannot do what it needs is sure of another one, whatever the host said to others.
    #[test]
    fn who_is_promised_another_host_has_one() {
        for heard in 0..4 {
            for left in [&[0_usize][..], &[0, 0], &[1], &[0, 1], &[0, 1, 1]] {
                let mut progress = Progress { heard, ..Progress::default() };
                let leave = progress.go_on(HEARD, left.iter().copied());
                assert!(left.iter().any(|way| Some(*way) != leave), "{heard} {left:?}");
            }
        }
    }

    #[test]
    fn a_say_is_an_answer_to_a_command_of_the_message() {
        let others = Others { any: true, after_a_word: false, undecided: false };
        let reply = staffetta_mail::RemoteReply { code: 451, status: None, text: String::new() };
        for (failure, goes_on) in [
            (client::Failure::Reply { stage: Stage::Mail, reply: reply.clone() }, false),
            (client::Failure::Reply { stage: Stage::Rcpt, reply }, false),
            (client::Failure::Lost { stage: Stage::Mail }, true),
            (client::Failure::TimedOut { stage: Stage::Mail }, true),
            (client::Failure::Lost { stage: Stage::Rcpt }, false),
            (client::Failure::TimedOut { stage: Stage::Transfer }, false),
            (client::Failure::NoSmtpUtf8 { ignored: false }, true),
            (client::Failure::NoEightBitMime(String::new()), true),
            (client::Failure::NoBdat, true),
        ] {
            assert_eq!(others.may_take(&failure), goes_on, "{failure:?}");
        }
    }

    #[test]
    fn a_host_that_may_take_the_mail_another_time_leaves_it_undecided() {
        let peer = Peer { host: "mx.test".to_owned(), endpoint: Endpoint::Tcp(([192, 0, 2, 1], 25).into()) };
        let lacks = client::Failure::NoSmtpUtf8 { ignored: false };
        let lacks = Failure::Session { peer: peer.clone(), failure: lacks };
        let refused = Failure::Connect { peer, reason: "Connection refused".to_owned() };
        let after = |steps: &[(&str, Option<&Failure>, Said)]| {
            let mut progress = Progress::default();
            for (host, failure, said) in steps {
                progress.visit(&(*host).into(), 0);
                failure.iter().for_each(|failure| progress.note(failure));
                progress.go_on(*said, std::iter::empty());
            }
            progress.others(std::iter::empty()).undecided
        };
        let none = Said::default();
        let (put_off, unable) = (Said { heard: true, postponed: true }, Said { heard: true, postponed: false });
        assert!(!after(&[("a.test", Some(&lacks), none), ("b.test", Some(&lacks), none)]));
        assert!(!after(&[("a.test", None, unable), ("b.test", None, none)]));
        assert!(after(&[("a.test", Some(&refused), none), ("b.test", Some(&lacks), none)]));
        assert!(after(&[("a.test", None, put_off), ("b.test", None, none)]));
        assert!(!after(&[("b.test", Some(&refused), none), ("b.test", None, none)]), "another address of the same");
    }
}
