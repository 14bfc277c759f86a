//! A Postfix that is set up as our frontend is: the behaviour that ours is measured by.

use std::path::Path;

use staffetta_testkit::certs::Leaf;
use staffetta_testkit::dovecot::Dovecot;
use staffetta_testkit::ports::Port;
use staffetta_tests::{Peer, Postfix};

use crate::wire::{self, Place};
use crate::{RECIPIENT_LIMIT, SIZE_LIMIT};

/// What stands in main.cf beside the usual.
const RULES: &str = "\
myhostname = mail.example.org
smtpd_banner = $myhostname ESMTP $mail_name
mydestination = example.org, mail.example.org
relay_domains =
local_recipient_maps = inline:{john@example.org=x, lisa@example.org=x, postmaster@mail.example.org=x}
mynetworks = 127.9.0.0/16
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions = reject_non_fqdn_recipient
smtpd_sender_login_maps = inline:{john@example.org=john@example.org, lisa@example.org=lisa@example.org}
smtpd_helo_required = yes
smtpd_forbid_bare_newline = normalize
smtpd_forbid_bare_newline_exclusions =
smtpd_forbid_unauth_pipelining = yes
smtpd_error_sleep_time = 0
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
fast_flush_domains = example.org
smtputf8_enable = yes
";

/// A failed login does not make the next one wait.
const NO_PENALTY: &str = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}";

/// Postfix, and where its listeners are.
pub(crate) struct Reference {
    postfix: Postfix,
    _dovecot: Dovecot,
    _ports: [Port; 4],
}

impl Reference {
    pub(crate) fn log(&self) -> String {
        self.postfix.log()
    }
}

/// `senders`: its restriction of sender addresses.
pub(crate) fn start(leaf: &Leaf, authority: &Path, senders: &str) -> anyhow::Result<(Reference, Place)> {
    let users = ["john@example.org:{PLAIN}summersun", "lisa@example.org:{PLAIN}winterrain"];
    let dovecot = Dovecot::start("plain login", &users, NO_PENALTY)?;
    let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?, Port::reserve()?];
    let [relay, relays, submission, submissions] = &ports;
    let submit = "-o smtpd_client_restrictions=permit_sasl_authenticated,reject";
    let listeners = [
        (relay, String::new()),
        (relays, "-o smtpd_tls_wrappermode=yes".into()),
        (submission, format!("-o smtpd_tls_security_level=encrypt {submit}")),
        (submissions, format!("-o smtpd_tls_wrappermode=yes {submit}")),
    ];
    let rules = format!(
        "{RULES}smtpd_sender_restrictions = {senders}\nsmtpd_sasl_path = {}\nmessage_size_limit = {SIZE_LIMIT}\nsmtpd_recipient_limit = {RECIPIENT_LIMIT}\n",
        dovecot.socket().display()
    );
    let postfix = Postfix::start(&listeners, leaf, &rules)?;
    let place = Place {
        relay: relay.address(),
        relays: relays.address(),
        submission: submission.address(),
        submissions: submissions.address(),
        tls: wire::trusting(authority)?,
        store: None,
    };
    Ok((Reference { postfix, _dovecot: dovecot, _ports: ports }, place))
}
