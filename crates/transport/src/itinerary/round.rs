//! The hosts of a plan, one after the other, and with each what is published about it. That is asked when its turn comes, unless
//! one keeps the others waiting: name servers that say nothing cost an attempt the time of one of them, and not of each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use staffetta_mail::tls_report::Flaw;
use staffetta_policy::classify::Failure;
use staffetta_policy::mx::Candidate;
use staffetta_policy::tls::Published;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::ahead::{AT_ONCE, SLOW};
use crate::dns::Resolver;

/// How long the questions about one host may take, those about its aliases included.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is published about a host; else why it must not be used now: somebody may be hiding it (RFC 7672 section 2.1.2).
pub type Announced = Result<Published, Failure>;

/// See the [module](self). The default has no hosts.
#[derive(Debug, Default)]
pub struct Round {
    turns: VecDeque<Turn>,
}

#[derive(Debug)]
struct Turn {
    candidate: Candidate,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    NotYet(Box<Question>),
    Running(AbortOnDropHandle<Announced>),
    Known(Announced),
}

/// Whose TLSA records are looked for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) resolver: Resolver,
    pub(super) address: std::net::SocketAddr,
    pub(super) host: Arc<str>,
    /// By which the host may be known besides its own name.
    pub(super) names: Option<Arc<str>>,
    /// What is known without asking.
    pub(super) published: Published,
}

impl Question {
    async fn ask(self) -> Announced {
        let Self { resolver, address, host, names, published } = self;
        let names: Vec<&str> = names.as_deref().into_iter().collect();
        let reason = match timeout(PATIENCE, resolver.dane(&host, address.ip(), address.port(), &names)).await {
            Ok(Ok(dane)) => return Ok(Published { dane, ..published }),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let reason = format!("TLSA lookup error for {host}:{}: {reason}", address.port());
        Err(Failure::Unproven { flaw: Flaw::DnssecInvalid, reason })
    }
}

impl Round {
    /// Adds a host, of which this is known, or to be asked.
    pub(super) fn push(&mut self, candidate: Candidate, published: Result<Published, Box<Question>>) {
        let asked = match published {
            Ok(published) => Asked::Known(Ok(published)),
            Err(question) => Asked::NotYet(question),
        };
        self.turns.push_back(Turn { candidate, asked });
    }

    /// The next host and what is published about it. Cancel safe.
    pub async fn next(&mut self) -> Option<(Candidate, Announced)> {
        self.ask(1);
        if timeout(SLOW, self.first()).await.is_err() {
            self.ask(AT_ONCE);
        }
        let announced = self.first().await?;
        Some((self.turns.pop_front()?.candidate, announced))
    }

    /// The ways on which the hosts are that were not tried, one for each.
    pub fn ways(&self) -> impl Iterator<Item = usize> {
        self.turns.iter().map(|turn| turn.candidate.way)
    }

    /// Is there none left?
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Those that are left on this way are not tried.
    pub fn leave(&mut self, way: usize) {
        self.turns.retain(|turn| turn.candidate.way != way);
    }

    /// None is tried any more.
    pub fn clear(&mut self) {
        self.turns.clear();
    }

    async fn first(&mut self) -> Option<Announced> {
        let Turn { asked, .. } = self.turns.front_mut()?;
        if let Asked::Running(task) = asked {
            let answer = task.await;
            let interrupted = |_| Err(Failure::Local { reason: "a look-up was interrupted".to_owned() });
            *asked = Asked::Known(answer.unwrap_or_else(interrupted));
        }
        match asked {
            Asked::Known(announced) => Some(announced.clone()),
            Asked::NotYet(_) | Asked::Running(_) => None,
        }
    }

    /// About the first so many.
    fn ask(&mut self, many: usize) {
        for Turn { asked, .. } in self.turns.iter_mut().take(many) {
            if let Asked::NotYet(question) = asked {
                *asked = Asked::Running(AbortOnDropHandle::new(tokio::spawn(question.clone().ask())));
            }
        }
    }
}
