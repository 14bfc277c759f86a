//! May this client send this message to this recipient? Decided at every RCPT, in Postfix's order: sender, relay,
//! recipient (`smtpd_delay_reject = yes`, `smtpd_relay_before_recipient_restrictions = yes`).
//!
//! Pure and lazy: [`evaluate`] either reaches a [`Step::Verdict`] or names the one fact that it needs next
//! ([`Step::Ask`]). The shell finds that out, writes it into [`Known`] and asks again, so that no call to the auth
//! service or the DNS is made where its answer cannot matter.
//!
//! ```text
//! sender     logged in and the sender is not <>     owned by the login?            553 5.7.1 · 451 4.3.0
//! relay      not trusted, not logged in             a domain of ours?              554 5.7.1 · 451 4.3.0
//! recipient  everybody                              fully qualified?               504 5.5.2
//!            a domain that the auth service knows   does the recipient exist?      550 5.1.1 · 451 4.3.0
//!            neither ours nor routed explicitly     does the domain take mail?     550 5.1.2 · 556 5.1.10 · 450 4.4.3
//! ```

use std::collections::HashSet;

use staffetta_mail::{Address, Domain, ReversePath};
use staffetta_smtp::reply::Reply;

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
    /// Mail for these is accepted from anyone; they are neither looked up in the DNS nor in the auth service.
    pub relay_domains: DomainSet,
    /// The domains that the auth service knows are ours as well, and their recipients must exist.
    pub relay_domains_from_auth: bool,
    /// Refuse recipients whose domain does not exist in the DNS or says that it takes no mail.
    pub reject_unknown_recipient_domain: bool,
    /// Domains with a route of their own (not `*`): not looked up in the DNS.
    pub routed_domains: DomainSet,
    /// A login may only use sender addresses that it owns.
    pub sender_must_match_login: bool,
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
}

/// What the shell has found out so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Answers [`Fact::SenderOwned`].
    pub sender_owned: Option<Answer>,
    /// Answers [`Fact::DomainOurs`].
    pub domain_ours: Option<Answer>,
    /// Answers [`Fact::RecipientExists`].
    pub recipient_exists: Option<Answer>,
    /// Answers [`Fact::DomainInDns`].
    pub domain_in_dns: Option<InDns>,
}

/// A yes-or-no fact that only a look-up can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Yes,
    /// It is not so.
    No,
    /// Nobody could say now; never treated as a no.
    Unknown,
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
    /// Does the auth service know the recipient's domain?
    DomainOurs,
    /// Does the auth service know the recipient?
    RecipientExists,
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
    Refuse(Refusal),
}

/// Why a recipient is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Submission without a login. The session already says so at MAIL; this is the second lock on the door.
    NotLoggedIn,
    /// The login uses somebody else's sender address.
    SenderNotOwned,
    /// The auth service could not say who owns the sender.
    SenderUnknown,
    /// A stranger wants to reach a domain that is not ours.
    RelayDenied,
    /// The auth service could not say whether domain or recipient are ours.
    RecipientUnknown,
    /// The recipient's domain has no dot.
    NotFullyQualified,
    /// There is no such recipient in a domain of ours.
    NoSuchRecipient,
    /// The recipient's domain does not exist.
    DomainNotFound,
    /// The recipient's domain takes no mail.
    NullMx,
    /// The DNS could not say whether the domain exists.
    DnsUnavailable,
}

impl Refusal {
    /// What the client is told about the recipient of `request`.
    pub fn reply(self, request: &Request<'_>) -> Reply {
        let (sender, recipient) = (request.sender.as_str(), request.recipient.as_str());
        match self {
            Self::NotLoggedIn => Reply::authentication_required(),
            Self::SenderNotOwned => Reply::sender_not_owned(sender, request.login.unwrap_or_default()),
            Self::SenderUnknown => Reply::lookup_failed(sender),
            Self::RelayDenied => Reply::relay_denied(recipient),
            Self::RecipientUnknown => Reply::lookup_failed(recipient),
            Self::NotFullyQualified => Reply::recipient_not_qualified(recipient),
            Self::NoSuchRecipient => Reply::user_unknown(recipient),
            Self::DomainNotFound => Reply::domain_not_found(recipient),
            Self::NullMx => Reply::null_mx(recipient, request.recipient.domain_str().unwrap_or_default()),
            Self::DnsUnavailable => Reply::domain_lookup_failed(recipient),
        }
    }

    /// A label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotLoggedIn => "not_logged_in",
            Self::SenderNotOwned => "sender_not_owned",
            Self::SenderUnknown | Self::RecipientUnknown => "lookup_failed",
            Self::RelayDenied => "relay_denied",
            Self::NotFullyQualified => "not_fully_qualified",
            Self::NoSuchRecipient => "no_such_recipient",
            Self::DomainNotFound => "domain_not_found",
            Self::NullMx => "null_mx",
            Self::DnsUnavailable => "dns_unavailable",
        }
    }

    /// All of them, so that metrics can show zeros.
    pub const ALL: [Self; 10] = [
        Self::NotLoggedIn,
        Self::SenderNotOwned,
        Self::SenderUnknown,
        Self::RelayDenied,
        Self::RecipientUnknown,
        Self::NotFullyQualified,
        Self::NoSuchRecipient,
        Self::DomainNotFound,
        Self::NullMx,
        Self::DnsUnavailable,
    ];
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
        Err(Halt::No(refusal)) => Step::Verdict(Verdict::Refuse(refusal)),
    }
}

/// Where the walk through the lists ends before its end.
enum Halt {
    Need(Fact),
    No(Refusal),
}

fn sender(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    if request.login.is_none() {
        return match request.listener {
            Listener::Submission => Err(Halt::No(Refusal::NotLoggedIn)),
            Listener::Relay => Ok(()),
        };
    }
    if !rules.sender_must_match_login || request.sender.is_null() {
        return Ok(());
    }
    match known.sender_owned.ok_or(Halt::Need(Fact::SenderOwned))? {
        Answer::Yes => Ok(()),
        Answer::No => Err(Halt::No(Refusal::SenderNotOwned)),
        Answer::Unknown => Err(Halt::No(Refusal::SenderUnknown)),
    }
}

fn relay(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    if request.trusted || request.login.is_some() || is_bare_postmaster(request.recipient) {
        return Ok(());
    }
    match ours(rules, request.recipient, known)? {
        Ours::Static | Ours::ByAuth => Ok(()),
        Ours::No => Err(Halt::No(Refusal::RelayDenied)),
    }
}

fn recipient(rules: &Rules, request: &Request<'_>, known: &Known) -> Result<(), Halt> {
    // RFC 5321 section 4.5.1: the bare postmaster is always taken.
    if is_bare_postmaster(request.recipient) {
        return Ok(());
    }
    if !request.recipient.is_fully_qualified() {
        return Err(Halt::No(Refusal::NotFullyQualified));
    }
    match ours(rules, request.recipient, known)? {
        Ours::Static => Ok(()),
        Ours::ByAuth => exists(known),
        Ours::No => in_dns(rules, request.recipient, known),
    }
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
        Answer::Yes => Ok(Ours::ByAuth),
        Answer::No => Ok(Ours::No),
        Answer::Unknown => Err(Halt::No(Refusal::RecipientUnknown)),
    }
}

fn exists(known: &Known) -> Result<(), Halt> {
    match known.recipient_exists.ok_or(Halt::Need(Fact::RecipientExists))? {
        Answer::Yes => Ok(()),
        Answer::No => Err(Halt::No(Refusal::NoSuchRecipient)),
        Answer::Unknown => Err(Halt::No(Refusal::RecipientUnknown)),
    }
}

fn in_dns(rules: &Rules, recipient: &Address, known: &Known) -> Result<(), Halt> {
    let Some(Domain::Name(name)) = recipient.domain() else { return Ok(()) };
    if !rules.reject_unknown_recipient_domain || rules.routed_domains.contains(name) {
        return Ok(());
    }
    match known.domain_in_dns.ok_or(Halt::Need(Fact::DomainInDns))? {
        InDns::Exists => Ok(()),
        InDns::NotFound => Err(Halt::No(Refusal::DomainNotFound)),
        InDns::NullMx => Err(Halt::No(Refusal::NullMx)),
        InDns::Unknown => Err(Halt::No(Refusal::DnsUnavailable)),
    }
}

/// `postmaster` without a domain, the only address without one that the grammar lets through.
fn is_bare_postmaster(address: &Address) -> bool {
    address.domain_str().is_none()
}

/// A set of domains: exact names, and `*.name` for everything below a name. Case does not matter.
#[derive(Clone, Debug, Default)]
pub struct DomainSet {
    exact: HashSet<String>,
    /// Stored without the `*.`.
    below: HashSet<String>,
}

impl DomainSet {
    /// True if the set holds `name` itself or a `*.` entry above it.
    pub fn contains(&self, name: &str) -> bool {
        if self.exact.is_empty() && self.below.is_empty() {
            return false;
        }
        let name = name.to_ascii_lowercase();
        self.exact.contains(&name) || parents(&name).any(|parent| self.below.contains(parent))
    }
}

impl<S: AsRef<str>> FromIterator<S> for DomainSet {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut set = Self::default();
        for name in names {
            let name = name.as_ref().to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(parent) => set.below.insert(parent.to_owned()),
                None => set.exact.insert(name),
            };
        }
        set
    }
}

/// `b.c`, `c` for `a.b.c`.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot + 1..])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const JOHN: &str = "john@example.org";

    /// A world in which every fact can be found out.
    #[derive(Clone, Copy)]
    struct World {
        owned: Answer,
        ours: Answer,
        exists: Answer,
        dns: InDns,
    }

    const FINE: World = World { owned: Answer::Yes, ours: Answer::No, exists: Answer::Yes, dns: InDns::Exists };
    const OURS: World = World { ours: Answer::Yes, ..FINE };

    fn rules() -> Rules {
        Rules {
            relay_domains: DomainSet::from_iter(["Backup.test", "*.below.test"]),
            relay_domains_from_auth: true,
            reject_unknown_recipient_domain: true,
            routed_domains: DomainSet::from_iter(["routed.test"]),
            sender_must_match_login: true,
        }
    }

    /// Plays the shell; returns the reply (empty: accepted) and what had to be asked.
    fn play(rules: &Rules, client: Client, sender: &str, recipient: &str, world: World) -> (String, Vec<Fact>) {
        let sender = match sender {
            "" => ReversePath::Null,
            text => ReversePath::Address(text.parse().unwrap()),
        };
        let recipient = recipient.parse().unwrap();
        let (listener, trusted, login) = client;
        let request = Request { listener, trusted, login, sender: &sender, recipient: &recipient };
        let (mut known, mut asked) = (Known::default(), Vec::new());
        loop {
            let fact = match evaluate(rules, &request, &known) {
                Step::Verdict(Verdict::Accept) => return (String::new(), asked),
                Step::Verdict(Verdict::Refuse(refusal)) => return (refusal.reply(&request).to_string(), asked),
                Step::Ask(fact) => fact,
            };
            assert!(!asked.contains(&fact), "asked twice");
            asked.push(fact);
            match fact {
                Fact::SenderOwned => known.sender_owned = Some(world.owned),
                Fact::DomainOurs => known.domain_ours = Some(world.ours),
                Fact::RecipientExists => known.recipient_exists = Some(world.exists),
                Fact::DomainInDns => known.domain_in_dns = Some(world.dns),
            }
        }
    }

    /// Listener, trusted, login.
    type Client = (Listener, bool, Option<&'static str>);
    /// Client, sender, recipient, world, the reply and what had to be asked for it.
    type Row = (Client, &'static str, &'static str, World, &'static str, &'static [Fact]);
    const STRANGER: Client = (Listener::Relay, false, None);
    const TRUSTED: Client = (Listener::Relay, true, None);
    const USER_25: Client = (Listener::Relay, false, Some(JOHN));
    const USER_587: Client = (Listener::Submission, false, Some(JOHN));

    #[test]
    fn postfix_order_and_replies() {
        use Fact::{DomainInDns, DomainOurs, RecipientExists, SenderOwned};
        let forged = World { owned: Answer::No, ..FINE };
        let rows: &[Row] = &[
            // strangers
            (
                STRANGER,
                JOHN,
                "lisa@example.com",
                FINE,
                "554 5.7.1 <lisa@example.com>: Relay access denied",
                &[DomainOurs],
            ),
            (
                STRANGER,
                "",
                "lisa@example.com",
                FINE,
                "554 5.7.1 <lisa@example.com>: Relay access denied",
                &[DomainOurs],
            ),
            (STRANGER, JOHN, "x@nodot", FINE, "554 5.7.1 <x@nodot>: Relay access denied", &[DomainOurs]),
            (STRANGER, JOHN, "x@[192.0.2.1]", FINE, "554 5.7.1 <x@[192.0.2.1]>: Relay access denied", &[]),
            (STRANGER, JOHN, "x@backup.TEST", FINE, "", &[]),
            (STRANGER, JOHN, "x@a.b.below.test", FINE, "", &[]),
            (STRANGER, JOHN, "x@mine.test", OURS, "", &[DomainOurs, RecipientExists]),
            (
                STRANGER,
                JOHN,
                "x@mine.test",
                World { exists: Answer::No, ..OURS },
                "550 5.1.1 <x@mine.test>: Recipient address rejected: User unknown in local recipient table",
                &[DomainOurs, RecipientExists],
            ),
            (
                STRANGER,
                JOHN,
                "x@mine.test",
                World { ours: Answer::Unknown, ..FINE },
                "451 4.3.0 <x@mine.test>: Temporary lookup failure",
                &[DomainOurs],
            ),
            (
                STRANGER,
                JOHN,
                "x@mine.test",
                World { exists: Answer::Unknown, ..OURS },
                "451 4.3.0 <x@mine.test>: Temporary lookup failure",
                &[DomainOurs, RecipientExists],
            ),
            (STRANGER, JOHN, "Postmaster", FINE, "", &[]),
            // an explicit route does not make a domain ours
            (STRANGER, JOHN, "x@routed.test", FINE, "554 5.7.1 <x@routed.test>: Relay access denied", &[DomainOurs]),
            // trusted networks
            (TRUSTED, JOHN, "lisa@example.com", FINE, "", &[DomainOurs, DomainInDns]),
            (TRUSTED, JOHN, "lisa@routed.test", FINE, "", &[DomainOurs]),
            (TRUSTED, JOHN, "x@[192.0.2.1]", FINE, "", &[]),
            (
                TRUSTED,
                JOHN,
                "x@nodot",
                FINE,
                "504 5.5.2 <x@nodot>: Recipient address rejected: need fully-qualified address",
                &[],
            ),
            // users
            (USER_587, JOHN, "lisa@example.com", FINE, "", &[SenderOwned, DomainOurs, DomainInDns]),
            (USER_587, "", "lisa@example.com", forged, "", &[DomainOurs, DomainInDns]),
            (
                USER_587,
                "forged@email.address",
                "lisa@example.com",
                forged,
                "553 5.7.1 <forged@email.address>: Sender address rejected: not owned by user john@example.org",
                &[SenderOwned],
            ),
            (
                USER_25,
                "bob@mine.test",
                "x@nodot",
                forged,
                "553 5.7.1 <bob@mine.test>: Sender address rejected: not owned by user john@example.org",
                &[SenderOwned],
            ),
            (
                USER_587,
                JOHN,
                "lisa@example.com",
                World { owned: Answer::Unknown, ..FINE },
                "451 4.3.0 <john@example.org>: Temporary lookup failure",
                &[SenderOwned],
            ),
            (
                USER_587,
                JOHN,
                "nobody@mine.test",
                World { exists: Answer::No, ..OURS },
                "550 5.1.1 <nobody@mine.test>: Recipient address rejected: User unknown in local recipient table",
                &[SenderOwned, DomainOurs, RecipientExists],
            ),
            (
                USER_587,
                JOHN,
                "x@nx.test",
                World { dns: InDns::NotFound, ..FINE },
                "550 5.1.2 <x@nx.test>: Recipient address rejected: Domain not found",
                &[SenderOwned, DomainOurs, DomainInDns],
            ),
            (
                USER_587,
                JOHN,
                "x@Null.test",
                World { dns: InDns::NullMx, ..FINE },
                "556 5.1.10 <x@Null.test>: Recipient address rejected: Domain Null.test does not accept mail (nullMX)",
                &[SenderOwned, DomainOurs, DomainInDns],
            ),
            (
                USER_587,
                JOHN,
                "x@servfail.test",
                World { dns: InDns::Unknown, ..FINE },
                "450 4.4.3 <x@servfail.test>: Recipient address rejected: Domain lookup failed",
                &[SenderOwned, DomainOurs, DomainInDns],
            ),
            ((Listener::Submission, true, None), JOHN, "x@backup.test", FINE, "530 5.7.0 Authentication required", &[]),
        ];
        for (client, sender, recipient, world, reply, facts) in rows {
            let (answered, asked) = play(&rules(), *client, sender, recipient, *world);
            assert_eq!((answered.as_str(), asked.as_slice()), (*reply, *facts), "{client:?} {sender} {recipient}");
        }
    }

    #[test]
    fn what_is_switched_off_is_not_asked() {
        let off = Rules::default();
        assert_eq!(play(&off, USER_587, "other@x.test", "lisa@example.com", FINE), (String::new(), Vec::new()));
        let (reply, asked) = play(&off, STRANGER, JOHN, "lisa@example.com", OURS);
        assert_eq!((reply.as_str(), asked.len()), ("554 5.7.1 <lisa@example.com>: Relay access denied", 0));
    }

    #[test]
    fn a_wildcard_is_below_its_name_only() {
        let set = DomainSet::from_iter(["*.Example.org"]);
        assert!(set.contains("a.example.ORG") && set.contains("a.b.example.org"));
        assert!(!set.contains("example.org") && !set.contains("anexample.org") && !DomainSet::default().contains("x"));
    }

    proptest::proptest! {
        /// Promise 7: nothing is relayed for a stranger, whatever the look-ups say.
        #[test]
        fn a_stranger_reaches_only_domains_that_are_ours(
            owned in 0..3u8, ours in 0..3u8, exists in 0..3u8, dns in 0..4u8, from_auth: bool, submission: bool,
        ) {
            let answer = |n| [Answer::Yes, Answer::No, Answer::Unknown][usize::from(n)];
            let dns = [InDns::Exists, InDns::NotFound, InDns::NullMx, InDns::Unknown][usize::from(dns)];
            let world = World { owned: answer(owned), ours: answer(ours), exists: answer(exists), dns };
            let listener = if submission { Listener::Submission } else { Listener::Relay };
            let rules = Rules { relay_domains_from_auth: from_auth, ..rules() };
            let (reply, _) = play(&rules, (listener, false, None), JOHN, "lisa@example.com", world);
            let ours = !submission && from_auth && world.ours == Answer::Yes && world.exists == Answer::Yes;
            proptest::prop_assert_eq!(reply.is_empty(), ours);
        }
    }
}
