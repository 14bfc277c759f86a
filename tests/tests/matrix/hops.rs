//! The servers, each as a next hop, and what is known of it.

use staffetta_testkit::ports::Port;
use staffetta_tests::{DovecotLmtp, Exim, Haraka, OpenSmtpd, Peer, Postfix, World};

/// Of all of them, in their certificates and in the DNS.
pub(crate) const NAME: &str = "mx.example.com";

/// All servers know them, and none knows nobody@example.com.
pub(crate) fn people() -> impl Iterator<Item = String> {
    (1..=50).map(|number| format!("u{number}@example.com"))
}

/// One more.
pub(crate) const LAST: &str = "last@example.com";

/// Whose mail [`OpenSmtpd`] keeps in its queue.
pub(crate) const LATER: &str = "later@example.com";

/// A server that takes mail for example.com.
pub(crate) struct Hop {
    pub(crate) server: Box<dyn Peer>,
    /// The route to it.
    pub(crate) via: String,
    /// `delivery.route.tls`: what it is able to.
    pub(crate) tls: &'static str,
    /// What it says of nobody@example.com.
    pub(crate) refusal: &'static str,
    pub(crate) dsn: Dsn,
    _port: Port,
}

/// What becomes of the parameters of DSN.
#[derive(Clone, Copy)]
pub(crate) enum Dsn {
    /// It takes them, and writes them down like this.
    Taken(&'static [&'static str]),
    /// It does not offer DSN: a report with this action comes from us.
    Reported(&'static str),
}

pub(crate) type Start = fn(&World) -> anyhow::Result<Hop>;

/// What servers by SMTP have in common: they must prove their name.
fn by_smtp(port: Port, server: impl Peer + 'static, refusal: &'static str, dsn: Dsn) -> Hop {
    let via = format!("smtp://{NAME}:{}", port.number());
    Hop { server: Box::new(server), via, tls: "verify", refusal, dsn, _port: port }
}

fn postfix_with(world: &World, rules: &str) -> anyhow::Result<Hop> {
    let port = Port::reserve()?;
    let usual = "myhostname = mx.example.com\nmydestination = example.com\nlocal_recipient_maps =\n\
                 mynetworks = 127.0.0.254/32\nmessage_size_limit = 50000000\nqueue_minfree = 0\n\
                 smtpd_recipient_restrictions = check_recipient_access inline:{{ nobody@example.com = REJECT unknown \
                 here }}, permit_auth_destination, reject\n";
    let postfix = Postfix::start(&[(&port, String::new())], &world.certificate(NAME)?, &format!("{usual}{rules}"))?;
    let taken = &["envelope_id=QQ+314159", "ret_flags=2", "notify_flags=6", "dsn_orig_rcpt=rfc822;lisa+x@example.com"];
    Ok(by_smtp(
        port,
        postfix,
        "554 5.7.1 <nobody@example.com>: Recipient address rejected: unknown here",
        Dsn::Taken(taken),
    ))
}

pub(crate) fn postfix(world: &World) -> anyhow::Result<Hop> {
    postfix_with(world, "")
}

pub(crate) fn postfix_of_seven_bits(world: &World) -> anyhow::Result<Hop> {
    postfix_with(world, "smtpd_discard_ehlo_keywords = 8bitmime, smtputf8\n")
}

fn exim_with(world: &World, rules: &str) -> anyhow::Result<Hop> {
    let port = Port::reserve()?;
    let exim = Exim::start(&port, &world.certificate(NAME)?, rules)?;
    // It keeps both as they came, in xtext.
    let taken = &["-dsn_envid QQ+2B314159", "-dsn_ret 2", "rfc822;lisa+2Bx@example.com 27,12"];
    Ok(by_smtp(port, exim, "550 unknown here", Dsn::Taken(taken)))
}

pub(crate) fn exim(world: &World) -> anyhow::Result<Hop> {
    exim_with(world, "")
}

pub(crate) fn exim_of_seven_bits(world: &World) -> anyhow::Result<Hop> {
    exim_with(world, "accept_8bitmime = false\nsmtputf8_advertise_hosts =\n")
}

pub(crate) fn opensmtpd(world: &World) -> anyhow::Result<Hop> {
    let port = Port::reserve()?;
    let opensmtpd = OpenSmtpd::start(&port, &world.certificate(NAME)?)?;
    let taken = &["dsn-envid: QQ+2B314159", "dsn-ret: HDRS", "dsn-notify: 3", "dsn-orcpt: lisa+2Bx@example.com"];
    let hop = by_smtp(port, opensmtpd, "550 Invalid recipient: <nobody@example.com>", Dsn::Taken(taken));
    // None of its handshakes succeeds; mail is to come all the same.
    Ok(Hop { tls: "may", ..hop })
}

pub(crate) fn haraka(world: &World) -> anyhow::Result<Hop> {
    let port = Port::reserve()?;
    let haraka = Haraka::start(&port, &world.certificate(NAME)?)?;
    Ok(by_smtp(port, haraka, "550 unknown here", Dsn::Reported("relayed")))
}

fn dovecot(world: &World, tls: &'static str, via: impl Fn(&Port, &DovecotLmtp) -> String) -> anyhow::Result<Hop> {
    let port = Port::reserve()?;
    let users: Vec<String> = people().chain([LAST, LATER].map(str::to_owned)).collect();
    let dovecot = DovecotLmtp::start(&port, &world.certificate(NAME)?, &users)?;
    Ok(Hop {
        via: via(&port, &dovecot),
        tls,
        server: Box::new(dovecot),
        refusal: "550 5.1.1 <nobody@example.com> User doesn't exist: nobody@example.com",
        dsn: Dsn::Reported("delivered"),
        _port: port,
    })
}

pub(crate) fn dovecot_by_tcp(world: &World) -> anyhow::Result<Hop> {
    dovecot(world, "verify", |port, _| format!("lmtp://{NAME}:{}", port.number()))
}

pub(crate) fn dovecot_by_socket(world: &World) -> anyhow::Result<Hop> {
    dovecot(world, "none", |_, dovecot| format!("lmtp://unix:{}", dovecot.socket().display()))
}
