//! Findings to the relay policy: finds out the facts that it asks for, from the auth service and the DNS.

use std::collections::VecDeque;

use staffetta_policy::relay::{Fact, Finding, InDns, Known, Objection, Request, Rules, Step, Verdict, evaluate};
use staffetta_transport::dns::{MailDomain, Resolver};

use crate::auth::Auth;

/// How many different senders, and domains, a session remembers.
const MEMORY: usize = 16;

/// Whom the policy's facts come from.
pub(crate) struct Directory {
    pub(crate) auth: Auth,
    pub(crate) resolver: Resolver,
}

/// What a session found out and need not ask again. Only a yes or a no is remembered.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// By sender: does the session's login own it?
    senders: Recent,
    /// By domain in lower case: is it ours?
    domains: Recent,
}

/// The last few answers.
#[derive(Debug, Default)]
struct Recent(VecDeque<(String, Finding)>);

/// Decides on one recipient. Look-ups are boxed, so that sessions that wait for input do not carry room for them.
pub(super) async fn judge(
    directory: &Directory,
    rules: &Rules,
    memory: &mut Memory,
    request: &Request<'_>,
) -> Result<(), Objection> {
    let mut known = Known::default();
    loop {
        match evaluate(rules, request, &known) {
            Step::Verdict(Verdict::Accept) => return Ok(()),
            Step::Verdict(Verdict::Refuse(objection)) => return Err(objection),
            Step::Ask(Fact::SenderOwned) => {
                known.sender_owned = Some(Box::pin(owns_sender(&directory.auth, memory, request)).await);
            }
            Step::Ask(Fact::DomainOurs) => {
                known.domain_ours = Some(Box::pin(knows_domain(&directory.auth, memory, request)).await);
            }
            Step::Ask(Fact::RecipientExists) => {
                known.recipient_exists =
                    Some(Box::pin(directory.auth.knows_recipient(request.recipient.as_str())).await);
            }
            Step::Ask(Fact::DomainInDns) => {
                known.domain_in_dns = Some(Box::pin(in_dns(&directory.resolver, request)).await);
            }
        }
    }
}

async fn owns_sender(auth: &Auth, memory: &mut Memory, request: &Request<'_>) -> Finding {
    let sender = request.sender.as_str();
    match memory.senders.find(sender) {
        Some(answer) => answer,
        None => memory.senders.keep(sender, auth.owns_sender(request.login.unwrap_or_default(), sender).await),
    }
}

async fn knows_domain(auth: &Auth, memory: &mut Memory, request: &Request<'_>) -> Finding {
    let domain = request.recipient.domain_key().unwrap_or_default();
    match memory.domains.find(&domain) {
        Some(answer) => answer,
        None => memory.domains.keep(&domain, auth.knows_domain(&domain).await),
    }
}

async fn in_dns(resolver: &Resolver, request: &Request<'_>) -> InDns {
    let answer = resolver.mail_domain(&request.recipient.domain_key().unwrap_or_default()).await;
    match answer.map(|answer| answer.data) {
        Ok(MailDomain::Hosts(_)) => InDns::Exists,
        Ok(MailDomain::NullMx) => InDns::NullMx,
        Ok(MailDomain::NotFound) => InDns::NotFound,
        Err(error) => {
            tracing::debug!(%error, "cannot tell whether a recipient's domain exists");
            InDns::Unknown
        }
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
