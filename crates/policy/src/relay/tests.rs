//! The table of verdicts, and what must hold whatever the look-ups say.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const JOHN: &str = "john@example.org";

/// A world in which every fact can be found out.
#[derive(Clone, Copy)]
struct World {
    owned: Finding,
    has_owner: Finding,
    ours: Finding,
    exists: Finding,
    at_route: AtRoute,
    dns: InDns,
}

const FINE: World = World {
    owned: Finding::Yes,
    has_owner: Finding::Yes,
    ours: Finding::No,
    exists: Finding::Yes,
    at_route: AtRoute::Takes,
    dns: InDns::Exists,
};
const OURS: World = World { ours: Finding::Yes, ..FINE };

fn rules() -> Rules {
    Rules {
        relay_domains: DomainSet::from_iter(["Backup.test", "*.below.test"]),
        relay_domains_from_auth: true,
        verify_recipients: true,
        reject_unknown_recipient_domain: true,
        routed_domains: DomainSet::from_iter(["routed.test"]),
        routed_for_senders: Vec::new(),
        sender_login: SenderLogin { authenticated: true, unauthenticated: false },
        postmaster: Postmaster {
            hostname: "mail.test".to_owned(),
            destination: Some("admin@elsewhere.test".parse().unwrap()),
        },
    }
}

/// Plays the shell, for a message with SMTPUTF8 if the recipient is called so; returns the reply (empty: accepted) and what had to be asked.
fn play(rules: &Rules, client: Client, sender: &str, recipient: &str, world: World) -> (String, Vec<Fact>) {
    let sender = match sender {
        "" => ReversePath::Null,
        text => ReversePath::Address(text.parse().unwrap()),
    };
    let recipient: Address = recipient.parse().unwrap();
    let (listener, trusted, login) = client;
    let demanding = recipient.local().contains("utf8");
    let request = Request { listener, trusted, login, sender: &sender, recipient: &recipient, demanding };
    let (mut known, mut asked) = (Known::default(), Vec::new());
    loop {
        let fact = match evaluate(rules, &request, &known) {
            Step::Verdict(Verdict::Accept) => return (String::new(), asked),
            Step::Verdict(Verdict::Refuse(objection)) => {
                return (objection.reply(&request, "host mx said: 550 no").to_string(), asked);
            }
            Step::Ask(fact) => fact,
        };
        assert!(!asked.contains(&fact), "asked twice");
        asked.push(fact);
        match fact {
            Fact::SenderOwned => known.sender_owned = Some(world.owned),
            Fact::SenderHasOwner => known.sender_has_owner = Some(world.has_owner),
            Fact::DomainOurs => known.domain_ours = Some(world.ours),
            Fact::RecipientExists => {
                (known.recipient_exists, known.is_alias) = (Some(world.exists), recipient.local().ends_with("alias"));
            }
            Fact::RecipientAtRoute => known.recipient_at_route = Some(world.at_route),
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
const TRUSTED_USER: Client = (Listener::Relay, true, Some(JOHN));
const USER_25: Client = (Listener::Relay, false, Some(JOHN));
const USER_587: Client = (Listener::Submission, false, Some(JOHN));

#[test]
fn postfix_order_and_replies() {
    use Fact::{DomainInDns, DomainOurs, RecipientAtRoute, RecipientExists, SenderOwned};
    let forged = World { owned: Finding::No, ..FINE };
    let rows: &[Row] = &[
        // strangers
        (STRANGER, JOHN, "lisa@example.com", FINE, "554 5.7.1 <lisa@example.com>: Relay access denied", &[DomainOurs]),
        (STRANGER, "", "lisa@example.com", FINE, "554 5.7.1 <lisa@example.com>: Relay access denied", &[DomainOurs]),
        (STRANGER, JOHN, "x@nodot", FINE, "554 5.7.1 <x@nodot>: Relay access denied", &[DomainOurs]),
        (STRANGER, JOHN, "x@[192.0.2.1]", FINE, "554 5.7.1 <x@[192.0.2.1]>: Relay access denied", &[]),
        (STRANGER, JOHN, "x@backup.TEST", FINE, "", &[DomainOurs, RecipientAtRoute]),
        (STRANGER, JOHN, "x@a.b.below.test", FINE, "", &[DomainOurs, RecipientAtRoute]),
        (
            STRANGER,
            JOHN,
            "x@backup.test",
            World { at_route: AtRoute::Refuses, ..FINE },
            "550 5.1.1 <x@backup.test>: Recipient address rejected: undeliverable address: host mx said: 550 no",
            &[DomainOurs, RecipientAtRoute],
        ),
        (
            STRANGER,
            "",
            "x@backup.test",
            World { at_route: AtRoute::Busy, ..FINE },
            "450 4.1.1 <x@backup.test>: Recipient address rejected: unverified address: Address verification in progress",
            &[DomainOurs, RecipientAtRoute],
        ),
        // it may be an alias, which its server does not know
        (
            STRANGER,
            JOHN,
            "x@backup.test",
            World { ours: Finding::Unknown, ..FINE },
            "451 4.3.0 <x@backup.test>: Temporary lookup failure",
            &[DomainOurs],
        ),
        (
            TRUSTED,
            JOHN,
            "x@backup.test",
            World { exists: Finding::Unknown, ..OURS },
            "451 4.3.0 <x@backup.test>: Temporary lookup failure",
            &[DomainOurs, RecipientExists],
        ),
        (TRUSTED, JOHN, "x@backup.test", World { exists: Finding::No, ..OURS }, "", &[DomainOurs, RecipientExists]),
        (USER_587, JOHN, "x@backup.test", OURS, "", &[SenderOwned, DomainOurs, RecipientExists]),
        (STRANGER, JOHN, "utf8.alias@mine.test", OURS, "", &[DomainOurs, RecipientExists]),
        // what the message demands, the accounts do not know
        (
            STRANGER,
            JOHN,
            "utf8@mine.test",
            World { at_route: AtRoute::Refuses, ..OURS },
            "550 5.1.1 <utf8@mine.test>: Recipient address rejected: undeliverable address: host mx said: 550 no",
            &[DomainOurs, RecipientExists, RecipientAtRoute],
        ),
        (STRANGER, JOHN, "utf8@backup.test", OURS, "", &[DomainOurs, RecipientExists, RecipientAtRoute]),
        (USER_587, JOHN, "utf8@mine.test", OURS, "", &[SenderOwned, DomainOurs, RecipientExists]),
        (
            STRANGER,
            JOHN,
            "utf8@mine.test",
            World { at_route: AtRoute::NoWay, ..OURS },
            "",
            &[DomainOurs, RecipientExists, RecipientAtRoute],
        ),
        (
            STRANGER,
            JOHN,
            "x@backup.test",
            World { at_route: AtRoute::NoWay, ..FINE },
            "550 5.1.1 <x@backup.test>: Recipient address rejected: undeliverable address: host mx said: 550 no",
            &[DomainOurs, RecipientAtRoute],
        ),
        // a way on, of which the next server may think more
        (
            STRANGER,
            JOHN,
            "x%else.test@backup.test",
            FINE,
            "554 5.7.1 <x%else.test@backup.test>: Relay access denied",
            &[],
        ),
        (
            STRANGER,
            JOHN,
            "else.test!x@backup.test",
            FINE,
            "554 5.7.1 <else.test!x@backup.test>: Relay access denied",
            &[],
        ),
        (
            STRANGER,
            JOHN,
            "\"x@else.test\"@backup.test",
            FINE,
            "554 5.7.1 <\"x@else.test\"@backup.test>: Relay access denied",
            &[],
        ),
        (STRANGER, JOHN, "x%else.test@mine.test", OURS, "", &[DomainOurs, RecipientExists]),
        (TRUSTED, JOHN, "x%else.test@backup.test", FINE, "", &[DomainOurs]),
        // the accounts know a listed domain
        (
            STRANGER,
            JOHN,
            "x@backup.test",
            World { at_route: AtRoute::Refuses, ..OURS },
            "",
            &[DomainOurs, RecipientExists],
        ),
        (
            STRANGER,
            JOHN,
            "x@backup.test",
            World { exists: Finding::No, ..OURS },
            "550 5.1.1 <x@backup.test>: Recipient address rejected: User unknown in local recipient table",
            &[DomainOurs, RecipientExists],
        ),
        (TRUSTED, JOHN, "x@backup.test", World { at_route: AtRoute::Refuses, ..FINE }, "", &[DomainOurs]),
        (USER_25, JOHN, "x@backup.test", World { at_route: AtRoute::Refuses, ..FINE }, "", &[SenderOwned, DomainOurs]),
        (STRANGER, JOHN, "x@mine.test", OURS, "", &[DomainOurs, RecipientExists]),
        (
            STRANGER,
            JOHN,
            "x@mine.test",
            World { exists: Finding::No, ..OURS },
            "550 5.1.1 <x@mine.test>: Recipient address rejected: User unknown in local recipient table",
            &[DomainOurs, RecipientExists],
        ),
        (
            STRANGER,
            JOHN,
            "x@mine.test",
            World { ours: Finding::Unknown, ..FINE },
            "451 4.3.0 <x@mine.test>: Temporary lookup failure",
            &[DomainOurs],
        ),
        (
            STRANGER,
            JOHN,
            "x@mine.test",
            World { exists: Finding::Unknown, ..OURS },
            "451 4.3.0 <x@mine.test>: Temporary lookup failure",
            &[DomainOurs, RecipientExists],
        ),
        (STRANGER, JOHN, "Postmaster", FINE, "", &[]),
        (STRANGER, JOHN, "postMaster@Mail.Test", FINE, "", &[]),
        (STRANGER, JOHN, "x@mail.test", FINE, "554 5.7.1 <x@mail.test>: Relay access denied", &[DomainOurs]),
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
        // a user is asked about his sender wherever he is: a hijacked account must not forge from inside either
        (
            TRUSTED_USER,
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
            World { owned: Finding::Unknown, ..FINE },
            "451 4.3.0 <john@example.org>: Temporary lookup failure",
            &[SenderOwned],
        ),
        (
            USER_587,
            JOHN,
            "nobody@mine.test",
            World { exists: Finding::No, ..OURS },
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
fn the_code_of_an_objection_is_that_of_its_reply() {
    let (sender, recipient) = (ReversePath::Null, Address::parse("lisa@example.com").unwrap());
    let request = Request {
        listener: Listener::Relay,
        trusted: false,
        login: None,
        sender: &sender,
        recipient: &recipient,
        demanding: false,
    };
    for objection in Objection::ALL {
        assert_eq!(objection.reply(&request, "").code(), objection.code(), "{objection:?}");
    }
}

#[test]
fn what_is_switched_off_is_not_asked() {
    let off = Rules::default();
    assert_eq!(play(&off, USER_587, "other@x.test", "lisa@example.com", FINE), (String::new(), Vec::new()));
    let (reply, asked) = play(&off, STRANGER, JOHN, "lisa@example.com", OURS);
    assert_eq!((reply.as_str(), asked.len()), ("554 5.7.1 <lisa@example.com>: Relay access denied", 0));
}

/// Postfix's postconf(5), `reject_…_sender_login_mismatch`.
#[test]
fn who_may_name_which_sender_is_said_by_two_rules() {
    use Fact::{SenderHasOwner, SenderOwned};
    const NOT_OWNED: &str = "553 5.7.1 <lisa@mine.test>: Sender address rejected: not owned by user john@example.org";
    const NOT_LOGGED_IN: &str = "553 5.7.1 <lisa@mine.test>: Sender address rejected: not logged in";
    const AWAY: &str = "451 4.3.0 <lisa@mine.test>: Temporary lookup failure";
    let facts = |owned, has_owner| World { owned, has_owner, ..OURS };
    let (own, others) = (facts(Finding::Yes, Finding::Yes), facts(Finding::No, Finding::Yes));
    let (nobodys, unknown) = (facts(Finding::No, Finding::No), facts(Finding::Unknown, Finding::Unknown));
    for (client, world, rule, reply, fact) in [
        // a login, by the first rule
        (USER_25, own, (true, false), "", Some(SenderOwned)),
        (USER_25, others, (true, false), NOT_OWNED, Some(SenderOwned)),
        (USER_25, nobodys, (true, false), NOT_OWNED, Some(SenderOwned)),
        (USER_587, nobodys, (true, true), NOT_OWNED, Some(SenderOwned)),
        (USER_587, unknown, (true, true), AWAY, Some(SenderOwned)),
        (USER_25, others, (false, true), "", None),
        (USER_587, nobodys, (false, false), "", None),
        // nobody has logged in, by the second
        (STRANGER, own, (false, true), NOT_LOGGED_IN, Some(SenderHasOwner)),
        (STRANGER, others, (true, true), NOT_LOGGED_IN, Some(SenderHasOwner)),
        (TRUSTED, others, (false, true), NOT_LOGGED_IN, Some(SenderHasOwner)),
        (STRANGER, nobodys, (true, true), "", Some(SenderHasOwner)),
        (TRUSTED, nobodys, (true, true), "", Some(SenderHasOwner)),
        (STRANGER, unknown, (false, true), AWAY, Some(SenderHasOwner)),
        (STRANGER, others, (true, false), "", None),
        (STRANGER, others, (false, false), "", None),
    ] {
        let (authenticated, unauthenticated) = rule;
        let rules = Rules { sender_login: SenderLogin { authenticated, unauthenticated }, ..rules() };
        let (answered, asked) = play(&rules, client, "lisa@mine.test", "x@mine.test", world);
        let asked = asked.into_iter().find(|fact| matches!(fact, SenderOwned | SenderHasOwner));
        assert_eq!((answered.as_str(), asked), (reply, fact), "{client:?} {rule:?}");
        let (answered, asked) = play(&rules, client, "", "x@mine.test", world);
        assert_eq!(answered, "", "nobody owns the null sender");
        assert!(!asked.contains(&SenderOwned) && !asked.contains(&SenderHasOwner));
    }
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
        let answer = |n| [Finding::Yes, Finding::No, Finding::Unknown][usize::from(n)];
        let dns = [InDns::Exists, InDns::NotFound, InDns::NullMx, InDns::Unknown][usize::from(dns)];
        let at_route = AtRoute::Takes;
        let world = World { owned: answer(owned), has_owner: answer(owned), ours: answer(ours), exists: answer(exists), at_route, dns };
        let listener = if submission { Listener::Submission } else { Listener::Relay };
        let rules = Rules { relay_domains_from_auth: from_auth, ..rules() };
        let (reply, _) = play(&rules, (listener, false, None), JOHN, "lisa@example.com", world);
        let ours = !submission && from_auth && world.ours == Finding::Yes && world.exists == Finding::Yes;
        proptest::prop_assert_eq!(reply.is_empty(), ours);
    }
}

#[test]
fn a_domain_with_a_route_for_some_senders_need_not_be_in_the_dns_for_them() {
    let senders = Senders::Address(JOHN.parse().unwrap());
    let rules = Rules { routed_for_senders: vec![(Pattern::Exact("inside.test".to_owned()), senders)], ..rules() };
    let nowhere = World { dns: InDns::NotFound, ..FINE };
    let reply = |sender, recipient| play(&rules, TRUSTED, sender, recipient, nowhere).0;
    assert_eq!(reply(JOHN, "lisa@inside.test"), "");
    assert!(reply(JOHN, "lisa@outside.test").starts_with("550 5.1.2"));
    assert!(reply("", "lisa@inside.test").starts_with("550 5.1.2"));
}

#[test]
fn a_postmaster_without_a_destination_is_nobody() {
    let nowhere = Postmaster { hostname: "mail.test".to_owned(), destination: None };
    let without = Rules { postmaster: nowhere, ..rules() };
    let nobody = "550 5.1.1 <postmaster>: Recipient address rejected: User unknown in local recipient table";
    for client in [STRANGER, TRUSTED, USER_587] {
        let (reply, _) = play(&without, client, JOHN, "postmaster", FINE);
        assert_eq!(reply, nobody);
    }
    let (reply, _) = play(&without, STRANGER, JOHN, "postmaster@mail.test", FINE);
    assert!(reply.starts_with("554 5.7.1"), "{reply}");
    let routed = Rules { routed_domains: DomainSet::from_iter(["mail.test"]), ..without };
    assert_eq!(play(&routed, STRANGER, JOHN, "postmaster", FINE), (String::new(), vec![Fact::RecipientAtRoute]));
    let away = World { at_route: AtRoute::Refuses, ..FINE };
    assert!(play(&routed, STRANGER, JOHN, "postmaster", away).0.starts_with("550 5.1.1 <postmaster>: "));
    assert_eq!(play(&routed, TRUSTED, JOHN, "postmaster", away), (String::new(), Vec::new()));
}

#[test]
fn recipients_of_relay_domains_are_taken_unseen_only_if_a_rule_says_so() {
    let unseen = Rules { verify_recipients: false, ..rules() };
    let world = World { at_route: AtRoute::Refuses, ..FINE };
    assert_eq!(play(&unseen, STRANGER, JOHN, "x@backup.test", world), (String::new(), vec![Fact::DomainOurs]));
    let alone = Rules { relay_domains_from_auth: false, ..rules() };
    let (reply, asked) = play(&alone, STRANGER, JOHN, "x@backup.test", world);
    assert_eq!((reply.get(..9), asked), (Some("550 5.1.1"), vec![Fact::RecipientAtRoute]));
    let (_, asked) = play(&alone, STRANGER, JOHN, "x@elsewhere.test", world);
    assert_eq!(asked, [], "nobody is asked about what is refused anyway");
}
