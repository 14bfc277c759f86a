//! Recipients that get no mail any more because their own servers have refused them for good: `delivery.suppress_after`.
//!
//! It is told beside the attempt, after its result is in the log, and nothing waits for it: what is lost of it, while Redis
//! is away or more come than can be told, is found out by the next attempt. What may be said so, and by whom, is narrow, for
//! whoever is suppressed hears nothing of it (docs/decisions/025).

use staffetta_dispatch::Failed;
use staffetta_mail::Address;
use staffetta_policy::client;
use staffetta_policy::diagnosis::{Class, condemns_address};
use staffetta_queue::{Grievance, Message, Suppressor, Target, login_key};
use staffetta_transport::hop::{NextHop, Router};

use crate::terms::Terms;

/// Does this count against the recipient's address, whoever is the sender?
fn counts(hop: &NextHop, failed: &Failed, class: Class) -> bool {
    let (host, reply) = (failed.host.as_deref().unwrap_or_default(), failed.reply.as_ref());
    let is_condemned = reply.is_some_and(|reply| condemns_address(host, reply, class));
    failed.refuses_recipient() && is_condemned && !Router::is_for_many(hop)
}

/// Whose mail it was; `None`: a stranger's, or nobody's, whose bounces count against no one.
fn who(message: &Message, terms: &Terms) -> Option<String> {
    let origin = &message.origin;
    message.envelope.sender.address()?;
    if terms.stranger(origin).is_some() {
        return None;
    }
    match (&origin.login, origin.client) {
        (Some(login), _) => Some(login_key(login)),
        (None, client) => Some(client::network(client?).to_string()),
    }
}

/// A recipient of the message has failed for good.
pub(crate) fn bounced(
    suppressor: &Suppressor,
    terms: &Terms,
    hop: &NextHop,
    message: &Message,
    (recipient, failed, class): (&Address, &Failed, Class),
) {
    let Some(rule) = terms.hard_bounces.filter(|_| counts(hop, failed, class)) else { return };
    let (Some(who), Ok(target)) = (who(message, terms), Target::recipient(recipient.as_str())) else { return };
    suppressor.tell(rule, Grievance::refused(target, who, &failed.text));
}
