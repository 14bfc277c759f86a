//! Findings to the relay policy: finds out the facts that it asks for, from the auth service, the DNS and the recipient's
//! own server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use staffetta_mail::Address;
use staffetta_policy::relay::{Fact, Finding, InDns, Known, Objection, Request, Step, Verdict, evaluate};
use staffetta_policy::routing::Submitter;
use staffetta_queue::Revocations;
use staffetta_transport::dns::{MailDomain, Resolver};

use super::Terms;
use super::principal::Principal;
use crate::asked::{Asked, DEADLINE, Missing};
use crate::auth::{Auth, Located};
use crate::verify::Answer;

/// How long a session does not ask an auth service that did not answer it.
const HOPELESS: Duration = Duration::from_secs(5);
/// How many different senders, and domains, a session remembers.
const MEMORY: usize = 16;

/// Whom the policy's facts come from.
pub(crate) struct Directory {
    auth: Auth,
    resolver: Resolver,
    /// Questions to the auth service that take long, by what is asked.
    accounts: Asked<bool>,
    /// The same about recipients.
    recipients: Asked<Located>,
    /// Recipients' domains for which the DNS takes long.
    domains: Asked<InDns>,
    /// Which domains are blocked.
    revocations: Revocations,
}

/// Why a recipient is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) objection: Objection,
    /// What his own server says, if that is the reason.
    pub(crate) said: Option<Arc<str>>,
}

/// What a session found out and need not ask again. Several recipients may be judged with it at a time.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// By sender: does the session's login own it?
    senders: Recent,
    /// By sender: does anybody own it?
    owners: Recent,
    /// By domain in lower case: is it ours?
    domains: Recent,
    /// Until when the auth service need not be asked, because it let the session wait.
    hopeless: Option<Instant>,
}

/// The last few answers.
#[derive(Debug, Default)]
struct Recent(VecDeque<(String, Finding)>);

impl Directory {
    pub(crate) fn new(auth: Auth, resolver: Resolver, revocations: Revocations) -> Self {
        Self {
            auth,
            resolver,
            accounts: Asked::new(DEADLINE),
            recipients: Asked::new(DEADLINE),
            domains: Asked::new(DEADLINE),
            revocations,
        }
    }
}

/// Decides on one recipient whom `who` names: where mail for an alias goes, and `None` for any other. Look-ups are boxed, so
/// that sessions that wait for input do not carry room for them.
pub(super) async fn judge(
    directory: &Directory,
    terms: &Terms,
    memory: &Memory,
    request: &Request<'_>,
    who: &Principal<'_>,
) -> Result<Option<Arc<[Address]>>, Denied> {
    let becomes = |sender: &Address| terms.canonical.of(sender).filter(|_| who.is_own());
    if let Some(objection) = blocked(&directory.revocations, request, becomes) {
        return Err(Denied { objection, said: None });
    }
    let (mut known, mut said, mut alias) = (Known::default(), None, None);
    loop {
        match evaluate(&terms.rules, request, &known) {
            // Strangers learn nothing of whom they cannot reach anyhow.
            Step::Verdict(Verdict::Accept) if directory.revocations.is_suppressed(request.recipient) => {
                return Err(Denied { objection: Objection::Suppressed, said: None });
            }
            Step::Verdict(Verdict::Accept) => {
                return match &terms.rules.postmaster.destination {
                    Some(own)
                        if terms.rules.relay_domains_from_auth && terms.rules.postmaster.is(request.recipient) =>
                    {
                        Box::pin(postmasters(directory, memory, &Request { recipient: own, ..*request })).await
                    }
                    _ => Ok(alias),
                };
            }
            Step::Verdict(Verdict::Refuse(objection)) => return Err(Denied { objection, said }),
            Step::Ask(Fact::SenderOwned) => {
                known.sender_owned = Some(Box::pin(owns_sender(directory, memory, request)).await);
            }
            Step::Ask(Fact::SenderHasOwner) => {
                known.sender_has_owner = Some(Box::pin(has_owner(directory, memory, request)).await);
            }
            Step::Ask(Fact::DomainOurs) => {
                known.domain_ours = Some(Box::pin(knows_domain(directory, memory, request)).await);
            }
            Step::Ask(Fact::RecipientExists) => {
                let located = Box::pin(locate(directory, memory, request)).await;
                known.recipient_exists = Some(located.as_ref().map_or(Finding::Unknown, Located::exists));
                alias = located.map(|located| followed(&directory.revocations, &located)).transpose()?.flatten();
                known.is_alias = alias.is_some();
            }
            Step::Ask(Fact::RecipientAtRoute) => {
                let answer = match &terms.verifier {
                    Some(verifier) => {
                        let by = Submitter { sender: request.sender, login: request.login };
                        Box::pin(verifier.ask(who.client.ip(), by, request.recipient, who.demands())).await
                    }
                    None => Answer::Takes,
                };
                let (at_route, words) = answer.into_fact();
                (known.recipient_at_route, said) = (Some(at_route), words);
            }
            Step::Ask(Fact::DomainInDns) => {
                known.domain_in_dns = Some(Box::pin(in_dns(directory, request)).await);
            }
        }
    }
}

/// An operator's block comes before everything else, for those who are trusted or logged in, too.
fn blocked(
    revocations: &Revocations,
    request: &Request<'_>,
    becomes: impl FnOnce(&Address) -> Option<Address>,
) -> Option<Objection> {
    if !revocations.has_blocked_domains() {
        return None;
    }
    let is_blocked =
        |address: &Address| address.domain_key().is_some_and(|domain| revocations.is_domain_blocked(&domain));
    let is_blocked_sender =
        |sender: &Address| is_blocked(sender) || becomes(sender).is_some_and(|other| is_blocked(&other));
    if request.sender.address().is_some_and(is_blocked_sender) {
        return Some(Objection::SenderBlocked);
    }
    is_blocked(request.recipient).then_some(Objection::RecipientBlocked)
}

async fn owns_sender(directory: &Directory, memory: &Memory, request: &Request<'_>) -> Finding {
    owns(directory, memory, request.login.unwrap_or_default(), request.sender.as_str()).await
}

/// May the login use this address?
pub(super) async fn owns(directory: &Directory, memory: &Memory, login: &str, sender: &str) -> Finding {
    if let Some(answer) = memory.lock().senders.find(sender) {
        return answer;
    }
    let key = format!("{login}\0{sender}");
    let answer = ask(directory, memory, &key, |auth| {
        let (login, sender) = (login.to_owned(), sender.to_owned());
        async move { auth.owns_sender(&login, &sender).await }
    });
    let answer = answer.await;
    memory.lock().senders.keep(sender, answer)
}

/// Does anybody own the sender address?
async fn has_owner(directory: &Directory, memory: &Memory, request: &Request<'_>) -> Finding {
    let sender = request.sender.as_str();
    if let Some(answer) = memory.lock().owners.find(sender) {
        return answer;
    }
    let asked = sender.to_owned();
    let key = format!("\0{sender}");
    let answer = ask(directory, memory, &key, |auth| async move { auth.has_owner(&asked).await }).await;
    memory.lock().owners.keep(sender, answer)
}

async fn knows_domain(directory: &Directory, memory: &Memory, request: &Request<'_>) -> Finding {
    let domain = request.recipient.domain_key().unwrap_or_default();
    if let Some(answer) = memory.lock().domains.find(&domain) {
        return answer;
    }
    let asked = domain.clone();
    let answer = ask(directory, memory, &domain, |auth| async move { auth.knows_domain(&asked).await }).await;
    memory.lock().domains.keep(&domain, answer)
}

async fn locate(directory: &Directory, memory: &Memory, request: &Request<'_>) -> Option<Located> {
    let recipient = request.recipient.as_str();
    let asked = recipient.to_owned();
    let ask = || {
        let auth = directory.auth.clone();
        async move { auth.locate(&asked).await }
    };
    memory.patiently(directory.recipients.answer(recipient, ask)).await
}

/// Where mail for the postmaster goes, whose own address may be an alias.
async fn postmasters(
    directory: &Directory,
    memory: &Memory,
    request: &Request<'_>,
) -> Result<Option<Arc<[Address]>>, Denied> {
    let located = match knows_domain(directory, memory, request).await {
        Finding::Yes => locate(directory, memory, request).await,
        Finding::No => return Ok(None),
        Finding::Unknown => None,
    };
    let unknown = Denied { objection: Objection::RecipientUnknown, said: None };
    followed(&directory.revocations, &located.ok_or(unknown)?)
}

/// Where an alias leads. Nobody reaches a domain that is blocked by another name.
fn followed(revocations: &Revocations, located: &Located) -> Result<Option<Arc<[Address]>>, Denied> {
    let denied = |objection| Err(Denied { objection, said: None });
    let alias = located.alias();
    if *located == Located::Unusable {
        return denied(Objection::AliasUnusable);
    }
    let is_blocked =
        |address: &Address| address.domain_key().is_some_and(|domain| revocations.is_domain_blocked(&domain));
    if revocations.has_blocked_domains() && alias.iter().flat_map(|alias| alias.iter()).any(is_blocked) {
        return denied(Objection::RecipientBlocked);
    }
    Ok(alias)
}

/// Puts a question to the auth service. `key` says which; a domain and a login with a sender look different.
async fn ask<F>(directory: &Directory, memory: &Memory, key: &str, question: impl FnOnce(Auth) -> F) -> Finding
where
    F: Future<Output = Finding> + Send + 'static,
{
    let ask = || {
        let finding = question(directory.auth.clone());
        async move {
            match finding.await {
                Finding::Yes => Some(true),
                Finding::No => Some(false),
                Finding::Unknown => None,
            }
        }
    };
    match memory.patiently(directory.accounts.answer(key, ask)).await {
        Some(true) => Finding::Yes,
        Some(false) => Finding::No,
        None => Finding::Unknown,
    }
}

async fn in_dns(directory: &Directory, request: &Request<'_>) -> InDns {
    let domain = request.recipient.domain_key().unwrap_or_default();
    let answer = directory.domains.answer(&domain, || {
        let (resolver, domain) = (directory.resolver.clone(), domain.clone());
        async move {
            match resolver.mail_domain(&domain).await.map(|answer| answer.data) {
                Ok(MailDomain::Hosts(_)) => Some(InDns::Exists),
                Ok(MailDomain::NullMx) => Some(InDns::NullMx),
                Ok(MailDomain::NotFound) => Some(InDns::NotFound),
                Err(error) => {
                    tracing::debug!(%error, "cannot tell whether a recipient's domain exists");
                    None
                }
            }
        }
    });
    answer.await.unwrap_or(InDns::Unknown)
}

impl Memory {
    /// Waits for an answer of the auth service, unless it let the session wait for another a moment ago.
    async fn patiently<A>(&self, answer: impl Future<Output = Result<A, Missing>>) -> Option<A> {
        if self.lock().is_hopeless() {
            return None;
        }
        let answer = answer.await;
        if matches!(answer, Err(Missing::Late)) {
            self.lock().hopeless = Some(Instant::now() + HOPELESS);
        }
        answer.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn is_hopeless(&self) -> bool {
        self.hopeless.is_some_and(|until| Instant::now() < until)
    }
}

impl Recent {
    fn find(&self, key: &str) -> Option<Finding> {
        self.0.iter().find(|(known, _)| known == key).map(|&(_, answer)| answer)
    }

    fn keep(&mut self, key: &str, answer: Finding) -> Finding {
        if answer != Finding::Unknown {
            self.0.truncate(MEMORY - 1);
            self.0.push_front((key.to_owned(), answer));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_definite_answers_are_remembered() {
        let mut recent = Recent::default();
        assert_eq!(recent.keep("a", Finding::Unknown), Finding::Unknown);
        assert_eq!(recent.find("a"), None);
        for i in 0..=MEMORY {
            recent.keep(&i.to_string(), if i % 2 == 0 { Finding::Yes } else { Finding::No });
        }
        assert_eq!(recent.find("0"), None);
        assert_eq!((recent.find("1"), recent.find("2")), (Some(Finding::No), Some(Finding::Yes)));
        assert_eq!(recent.0.len(), MEMORY);
    }
}
