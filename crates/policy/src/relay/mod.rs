//! May this client send this message to this recipient? Decided at every RCPT, in Postfix's order: sender, relay,
//! recipient (`smtpd_delay_reject = yes`, `smtpd_relay_before_recipient_restrictions = yes`).
//!
//! Pure and lazy: [`evaluate`] either reaches a [`Step::Verdict`] or names the one fact that it needs next
//! ([`Step::Ask`]). The shell finds that out, writes it into [`Known`] and asks again, so that no call to the auth
//! service or the DNS is made where its answer cannot matter.
//!
//! ```text
//! sender     logged in and the sender is not <>     owned by the login?            553 5.7.1 · 451 4.3.0
//!            not logged in, the same, if asked for  has it no owner?               553 5.7.1 · 451 4.3.0
//! relay      not trusted, not logged in             a domain of ours?              554 5.7.1 · 451 4.3.0
//!            the same, in a relay domain            no way on in the local part?   554 5.7.1
//! recipient  postmaster of this host                has it a destination?          550 5.1.1
//!            everybody                              fully qualified?               504 5.5.2
//!            a domain that the auth service knows   does the recipient exist?      550 5.1.1 · 451 4.3.0
//!            (listed as well, of our own clients)   is it an alias?                451 4.3.0
//!            of a stranger, in a relay domain, or   does its own server take it?   550 5.1.1 · 450 4.1.1
//!            with SMTPUTF8 or REQUIRETLS
//!            neither ours nor routed explicitly     does the domain take mail?     550 5.1.2 · 556 5.1.10 · 450 4.4.3
//! ```

mod domains;
mod objection;
#[cfg(test)]
mod tests;

use staffetta_mail::{Address, Domain, ReversePath};

use crate::routing::{Pattern, Senders};

pub use domains::DomainSet;
pub use objection::Objection;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Port 25: other servers, trusted networks, users who log in.
    Relay,
    /// Ports 587 and 465: users who must log in (RFC 6409).
    Submission,
}

/// The operator's choices.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Mail for these is accepted from anyone; they are not looked up in the DNS.
    pub relay_domains: DomainSet,
    /// A stranger's recipients in `relay_domains` must exist: by the word of the auth service, if it knows the domain, else
    /// by that of the server to which their mail goes.
    pub verify_recipients: bool,
    /// The domains that the auth service knows are ours as well, and their recipients must exist.
    pub relay_domains_from_auth: bool,
    /// Refuse recipients whose domain does not exist in the DNS or says that it takes no mail.
    pub reject_unknown_recipient_domain: bool,
    /// Domains with a route of their own (not `*`): not looked up in the DNS.
    pub routed_domains: DomainSet,
    /// The same, only for mail of some senders.
    pub routed_for_senders: Vec<(Pattern, Senders)>,
    /// Who may name which sender address.
    pub sender_login: SenderLogin,
    /// Where this host's own postmaster is.
    pub postmaster: Postmaster,
}

/// What is asked of who names a sender address. Both together are Postfix's `reject_sender_login_mismatch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderLogin {
    /// A login must own it (`reject_authenticated_sender_login_mismatch`).
    pub authenticated: bool,
    /// Who did not log in must leave it alone if somebody owns it (`reject_unauthenticated_sender_login_mismatch`).
    pub unauthenticated: bool,
}

/// The mailbox that every host has (RFC 5321 section 4.5.1): `postmaster` alone and at the host's own name.
#[derive(Clone, Debug, Default)]
pub struct Postmaster {
    /// The host's name.
    pub hostname: String,
    /// Where the mail goes.
    pub destination: Option<Address>,
}

impl Postmaster {
    /// Is the address this host's postmaster?
    pub fn is(&self, address: &Address) -> bool {
        address.local().eq_ignore_ascii_case("postmaster")
            && address.domain_str().is_none_or(|domain| domain.eq_ignore_ascii_case(&self.hostname))
    }
}

/// One recipient of one transaction, as far as the session itself knows.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Where the client connected.
    pub listener: Listener,
    /// The client is in one of the trusted networks.
    pub trusted: bool,
    /// The authenticated login.
    pub login: Option<&'a str>,
    /// MAIL FROM.
    pub sender: &'a ReversePath,
    /// RCPT TO.
    pub recipient: &'a Address,
    /// The message needs a next hop that can do more than most: SMTPUTF8, REQUIRETLS.
    pub demanding: bool,
}

/// What the shell has found out so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Answers [`Fact::SenderOwned`].
    pub sender_owned: Option<Finding>,
    /// Answers [`Fact::SenderHasOwner`].
    pub sender_has_owner: Option<Finding>,
    /// Answers [`Fact::DomainOurs`].
    pub domain_ours: Option<Finding>,
    /// Answers [`Fact::RecipientExists`].
    pub recipient_exists: Option<Finding>,
    /// With [`Self::recipient_exists`]: it is an alias, of which the server of its domain knows nothing.
    pub is_alias: bool,
    /// Answers [`Fact::RecipientAtRoute`].
    pub recipient_at_route: Option<AtRoute>,
    /// Answers [`Fact::DomainInDns`].
    pub domain_in_dns: Option<InDns>,
}

/// A yes-or-no fact that only a look-up can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is so.
    Yes,
    /// It is not so.
    No,
    /// Nobody could say now; never treated as a no.
    Unknown,
}

/// What the server to which a recipient's mail goes says of him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtRoute {
    /// It takes mail for him, or it cannot be asked, which never stops mail.
    Takes,
    /// It refuses him for good. A message would come back to whoever is named as its sender.
    Refuses,
    /// There is no such server, for anybody in the domain.
    NoWay,
    /// It was not asked: it is asked too much now.
    Busy,
}

/// What the DNS says about a domain (RFC 5321 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDns {
    /// It has an MX, A or AAAA record.
    Exists,
    /// It has none of them, or does not exist.
    NotFound,
    /// It says that it takes no mail (RFC 7505).
    NullMx,
    /// The DNS could not say now.
    Unknown,
}

/// What to find out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Does the login own the sender address?
    SenderOwned,
    /// Does anybody own the sender address?
    SenderHasOwner,
    /// Does the auth service know the recipient's domain?
    DomainOurs,
    /// Does the auth service know the recipient, and is it an alias?
    RecipientExists,
    /// Would the server to which the recipient's mail goes take it?
    RecipientAtRoute,
    /// Does the recipient's domain take mail?
    DomainInDns,
}

/// One step of the evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The verdict depends on this fact.
    Ask(Fact),
    /// Nothing more is needed.
    Verdict(Verdict),
}

/// The decision on one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Accept,
    /// Refuse it for good or for now; the reason knows its reply.
    Refuse(Objection),
}

/// Evaluates one recipient with what is known so far.
pub fn evaluate(rules: &Rules, request: &Request<'_>, known: &Known) -> Step {
    let walk = || {
        sender(rules, request, known)?;
        relay(rules, request, known)?;
        recipient(rules, request, known)
    };
    match walk() {
        Ok(()) => Step::Verdict(Verdict::Accept),
        Err(Halt::Need(fact)) => Step::Ask(fact),
        Err(Halt::No(objection)) => Step::Verdict(Verdict::Refuse(objection)),
    }
}

/// Where the walk through the lists ends before its end.
enum Halt {
    Need(Fact),
    No(Objection),
}

fn sender(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    if request.login.is_none() {
        return match request.listener {
            Listener::Submission => Err(Halt::No(Objection::NotLoggedIn)),
            Listener::Relay => nobodys(rules, request, known),
        };
    }
    if !rules.sender_login.authenticated || request.sender.is_null() {
        return Ok(());
    }
    match known.sender_owned.ok_or(Halt::Need(Fact::SenderOwned))? {
        Finding::Yes => Ok(()),
        Finding::No => Err(Halt::No(Objection::SenderNotOwned)),
        Finding::Unknown => Err(Halt::No(Objection::SenderUnknown)),
    }
}

/// Whoever did not log in is not the owner.
fn nobodys(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    if !rules.sender_login.unauthenticated || request.sender.is_null() {
        return Ok(());
    }
    match known.sender_has_owner.ok_or(Halt::Need(Fact::SenderHasOwner))? {
        Finding::No => Ok(()),
        Finding::Yes => Err(Halt::No(Objection::SenderNotLoggedIn)),
        Finding::Unknown => Err(Halt::No(Objection::SenderUnknown)),
    }
}

fn relay(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    if request.trusted || request.login.is_some() || is_our_postmaster(rules, request.recipient) {
        return Ok(());
    }
    match ours(rules, request.recipient, known)? {
        Ours::Static if is_routed(request.recipient) => Err(Halt::No(Objection::RelayDenied)),
        Ours::Static | Ours::ByAuth => Ok(()),
        Ours::No => Err(Halt::No(Objection::RelayDenied)),
    }
}

/// Does the local part say where the mail goes on (`a%b.test@`, `b.test!a@`, `"a@b.test"@`)? The next server may trust us and
/// relay it: no stranger reaches anybody that way (Postfix: `allow_untrusted_routing = no`).
fn is_routed(recipient: &Address) -> bool {
    recipient.local().contains(['%', '!', '@'])
}

fn recipient(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    // RFC 5321 section 4.5.1: the bare postmaster is always taken, by a host that has one. A message that nobody gets
    // would come back to a sender who may not have written it.
    if is_our_postmaster(rules, request.recipient) {
        let postmaster = &rules.postmaster;
        return match &postmaster.destination {
            Some(_) => Ok(()),
            None if rules.routed_domains.contains(&postmaster.hostname) => at_route(rules, request, known),
            None => Err(Halt::No(Objection::NoSuchRecipient)),
        };
    }
    if !request.recipient.is_fully_qualified() {
        return Err(Halt::No(Objection::NotFullyQualified));
    }
    match ours(rules, request.recipient, known)? {
        Ours::Static => listed(rules, request, known),
        Ours::ByAuth => by_accounts(rules, request, known),
        Ours::No => in_dns(rules, request, known),
    }
}

/// In a domain that the accounts know. What its server can do they do not know, and nothing is easier to make bounce.
fn by_accounts(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    exists(known)?;
    // That there is no way has nothing to do with what the message demands.
    if !request.demanding || known.is_alias || known.recipient_at_route == Some(AtRoute::NoWay) {
        return Ok(());
    }
    at_route(rules, request, known)
}

/// In a domain of the configuration. Its own server knows its recipients best; the accounts know them faster, and the aliases
/// only they know.
fn listed(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    if rules.relay_domains_from_auth {
        match known.domain_ours.ok_or(Halt::Need(Fact::DomainOurs))? {
            Finding::Yes if is_verified(rules, request) => return by_accounts(rules, request, known),
            Finding::Yes => return looked_up(known),
            Finding::No => {}
            Finding::Unknown => return Err(Halt::No(Objection::RecipientUnknown)),
        }
    }
    at_route(rules, request, known)
}

/// It need not exist, but an alias must be known as one.
fn looked_up(known: &Known) -> Result<(), Halt> {
    match known.recipient_exists.ok_or(Halt::Need(Fact::RecipientExists))? {
        Finding::Yes | Finding::No => Ok(()),
        Finding::Unknown => Err(Halt::No(Objection::RecipientUnknown)),
    }
}

fn at_route(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    if !is_verified(rules, request) {
        return Ok(());
    }
    match known.recipient_at_route.ok_or(Halt::Need(Fact::RecipientAtRoute))? {
        AtRoute::Takes => Ok(()),
        AtRoute::Refuses | AtRoute::NoWay => Err(Halt::No(Objection::Undeliverable)),
        AtRoute::Busy => Err(Halt::No(Objection::Unverified)),
    }
}

/// Only strangers name senders that may never have heard of the message.
const fn is_verified(rules: &Rules, request: &Request<'_>) -> bool {
    rules.verify_recipients && !request.trusted && request.login.is_none()
}

enum Ours {
    /// Listed in the configuration.
    Static,
    /// Known to the auth service.
    ByAuth,
    No,
}

fn ours(rules: &Rules, recipient: &Address, known: &Known) -> Result<Ours, Halt> {
    let Some(Domain::Name(name)) = recipient.domain() else { return Ok(Ours::No) };
    if rules.relay_domains.contains(name) {
        return Ok(Ours::Static);
    }
    if !rules.relay_domains_from_auth {
        return Ok(Ours::No);
    }
    match known.domain_ours.ok_or(Halt::Need(Fact::DomainOurs))? {
        Finding::Yes => Ok(Ours::ByAuth),
        Finding::No => Ok(Ours::No),
        Finding::Unknown => Err(Halt::No(Objection::RecipientUnknown)),
    }
}

fn exists(known: &Known) -> Result<(), Halt> {
    match known.recipient_exists.ok_or(Halt::Need(Fact::RecipientExists))? {
        Finding::Yes => Ok(()),
        Finding::No => Err(Halt::No(Objection::NoSuchRecipient)),
        Finding::Unknown => Err(Halt::No(Objection::RecipientUnknown)),
    }
}

fn in_dns(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    let Some(Domain::Name(name)) = request.recipient.domain() else { return Ok(()) };
    let mut for_senders = rules.routed_for_senders.iter();
    let is_routed = rules.routed_domains.contains(name)
        || for_senders.any(|(domain, senders)| domain.matches(name) && senders.match_sender(request.sender));
    if !rules.reject_unknown_recipient_domain || is_routed {
        return Ok(());
    }
    match known.domain_in_dns.ok_or(Halt::Need(Fact::DomainInDns))? {
        InDns::Exists => Ok(()),
        InDns::NotFound => Err(Halt::No(Objection::DomainNotFound)),
        InDns::NullMx => Err(Halt::No(Objection::NullMx)),
        InDns::Unknown => Err(Halt::No(Objection::DnsUnavailable)),
    }
}

/// The bare `postmaster`, the only address without a domain that the grammar lets through; with the host's own name it is
/// an address like others unless it has a destination.
fn is_our_postmaster(rules: &Rules, address: &Address) -> bool {
    address.domain_str().is_none() || (rules.postmaster.destination.is_some() && rules.postmaster.is(address))
}
