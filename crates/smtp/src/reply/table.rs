//! The one table of replies: fixed texts first, then those without an enhanced status code, then those that quote
//! something. The texts are Postfix's where Postfix has one; the codes are the RFC's where Postfix departs from it.

use staffetta_mail::{QueueId, Status};

use super::Reply;

/// Writes one constructor a row: `name = code class.subject.detail "text"`.
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident = $code:literal ($class:literal . $subject:literal . $detail:literal) $text:literal;)*) => {
        impl Reply {
            $($(#[$doc])* pub const fn $name() -> Self {
                Self::fixed($code, Status::new($class, $subject, $detail), $text)
            })*

            /// Every reply of the table, for tests and documentation.
            #[cfg(test)]
            fn table() -> Vec<(&'static str, Self)> {
                vec![$((stringify!($name), Self::$name())),*]
            }
        }
    };
}

replies! {
    // -- what succeeds ---------------------------------------------------------------------------------------------
    /// NOOP, RSET.
    ok = 250 (2 . 0 . 0) "Ok";
    /// MAIL.
    mail_ok = 250 (2 . 1 . 0) "Ok";
    /// RCPT.
    rcpt_ok = 250 (2 . 1 . 5) "Ok";
    /// QUIT.
    bye = 221 (2 . 0 . 0) "Bye";
    /// STARTTLS (RFC 3207 section 4).
    ready_to_start_tls = 220 (2 . 0 . 0) "Ready to start TLS";
    /// AUTH (RFC 4954 section 6).
    authentication_successful = 235 (2 . 7 . 0) "Authentication successful";

    // -- syntax ----------------------------------------------------------------------------------------------------
    /// A verb that nobody knows.
    not_recognized = 500 (5 . 5 . 2) "Error: command not recognized";
    /// A line that is no command at all.
    bad_syntax = 500 (5 . 5 . 2) "Error: bad syntax";
    /// A line that is not UTF-8.
    bad_utf8 = 500 (5 . 5 . 2) "Error: bad UTF-8 syntax";
    /// CONNECT, GET, POST, header lines: a program that believes to speak to something else. Closes the session.
    goodbye = 221 (2 . 7 . 0) "Error: I can break rules, too. Goodbye.";
    /// A verb that this listener does not offer.
    not_implemented = 502 (5 . 5 . 1) "Error: command not implemented";
    /// `BDAT`, `BDAT x`: where the chunk ends nobody knows. Closes the session.
    bdat_syntax = 521 (5 . 5 . 4) "Syntax: BDAT count [LAST]";
    /// `DATA x`
    data_syntax = 501 (5 . 5 . 4) "Syntax: DATA";
    /// `RSET x`
    rset_syntax = 501 (5 . 5 . 4) "Syntax: RSET";
    /// `STARTTLS x`
    starttls_syntax = 501 (5 . 5 . 4) "Syntax: STARTTLS";
    /// `AUTH`, `AUTH PLAIN x y`
    auth_syntax = 501 (5 . 5 . 4) "Syntax: AUTH mechanism";
    /// Not `MAIL FROM:…`
    mail_syntax = 501 (5 . 5 . 4) "Syntax: MAIL FROM:<address>";
    /// Not `RCPT TO:…`
    rcpt_syntax = 501 (5 . 5 . 4) "Syntax: RCPT TO:<address>";
    /// `XCLIENT` alone.
    xclient_syntax = 501 (5 . 5 . 4) "Syntax: XCLIENT attribute=value...";
    /// `XCLIENT x`
    attribute_expected = 501 (5 . 5 . 4) "Error: attribute=value expected";
    /// XCLIENT within a transaction.
    in_transaction = 503 (5 . 5 . 1) "Error: MAIL transaction in progress";
    /// XCLIENT by somebody who may not.
    insufficient_authorization = 550 (5 . 7 . 0) "Error: insufficient authorization";
    /// `VRFY` alone.
    vrfy_syntax = 501 (5 . 5 . 4) "Syntax: VRFY address [SMTPUTF8]";
    /// MAIL with something that is no address.
    bad_sender = 501 (5 . 1 . 7) "Bad sender address syntax";
    /// RCPT with something that is no address.
    bad_recipient = 501 (5 . 1 . 3) "Bad recipient address syntax";
    /// `SIZE=` with something that is no number.
    bad_size = 501 (5 . 5 . 4) "Bad message size syntax";
    /// `RET=`
    bad_ret = 501 (5 . 5 . 4) "Bad RET parameter syntax";
    /// `ENVID=`
    bad_envid = 501 (5 . 5 . 4) "Bad ENVID parameter syntax";
    /// `NOTIFY=`
    bad_notify = 501 (5 . 5 . 4) "Error: Bad NOTIFY parameter syntax";
    /// `ORCPT=`
    bad_orcpt = 501 (5 . 5 . 4) "Error: Bad ORCPT parameter syntax";
    /// `AUTH=` on MAIL with something that is no xtext.
    bad_auth_parameter = 501 (5 . 5 . 4) "Error: Bad AUTH= parameter syntax";
    /// `AUTH=` twice on one MAIL.
    multiple_auth_parameters = 503 (5 . 5 . 4) "Error: multiple AUTH= options";

    // -- order -----------------------------------------------------------------------------------------------------
    /// Something that needs an introduction.
    helo_first = 503 (5 . 5 . 1) "Error: send HELO/EHLO first";
    /// MAIL within a transaction.
    nested_mail = 503 (5 . 5 . 1) "Error: nested MAIL command";
    /// RCPT outside of one.
    need_mail = 503 (5 . 5 . 1) "Error: need MAIL command";
    /// DATA outside of one.
    need_rcpt = 503 (5 . 5 . 1) "Error: need RCPT command";
    /// DATA when every recipient was refused.
    no_valid_recipients = 554 (5 . 5 . 1) "Error: no valid recipients";
    /// AUTH within a transaction.
    transaction_in_progress = 503 (5 . 5 . 1) "Error: MAIL transaction in progress";
    /// The peer talked out of turn (RFC 2920 section 3.1). Closes the session.
    out_of_turn = 554 (5 . 5 . 0) "Error: SMTP protocol synchronization";

    // -- TLS and authentication ------------------------------------------------------------------------------------
    /// Submission before TLS (RFC 3207 section 4).
    must_start_tls = 530 (5 . 7 . 0) "Must issue a STARTTLS command first";
    /// STARTTLS twice.
    tls_already_active = 554 (5 . 5 . 1) "Error: TLS already active";
    /// STARTTLS when the certificate cannot be used right now.
    tls_not_available = 454 (4 . 7 . 0) "TLS not available due to local problem";
    /// Submission before AUTH (RFC 4954 section 6).
    authentication_required = 530 (5 . 7 . 0) "Authentication required";
    /// AUTH where it is not offered.
    authentication_not_enabled = 503 (5 . 5 . 1) "Error: authentication not enabled";
    /// AUTH after AUTH (RFC 4954 section 4).
    already_authenticated = 503 (5 . 5 . 1) "Error: already authenticated";
    /// AUTH on an unencrypted connection (RFC 4954 section 6).
    encryption_required = 538 (5 . 7 . 11) "Encryption required for requested authentication mechanism";
    /// A mechanism that is not offered (RFC 4954 section 4).
    unknown_mechanism = 504 (5 . 5 . 4) "Error: authentication failed: Invalid authentication mechanism";
    /// `AUTH PLAIN !!!` (RFC 4954 section 4).
    malformed_initial_response = 501 (5 . 5 . 2) "Error: authentication failed: Invalid base64 data in initial response";
    /// `!!!` in answer to a challenge (RFC 4954 section 4).
    malformed_response = 501 (5 . 5 . 2) "Error: authentication failed: Invalid base64 data in continued response";
    /// A message that does not follow its mechanism (RFC 4954 section 4).
    malformed_credentials = 501 (5 . 5 . 2) "Error: authentication failed: malformed message";
    /// `*` in answer to a challenge (RFC 4954 section 4).
    authentication_aborted = 501 (5 . 7 . 0) "Authentication aborted";
    /// An answer to a challenge that is longer than 12,288 octets (RFC 4954 section 4).
    response_too_long = 500 (5 . 5 . 6) "SASL response limit exceeded";
    /// Wrong credentials (RFC 4954 section 6); the same for an unknown user.
    authentication_failed = 535 (5 . 7 . 8) "Error: authentication failed: (reason unavailable)";
    /// The authentication service is away: clients keep the password and try again.
    authentication_unavailable = 454 (4 . 7 . 0) "Temporary authentication failure: Can't connect to authentication server";
    /// It is there and cannot say, as its log tells: a client that is told of a connection would look for the fault where
    /// there is none.
    authentication_undecided = 454 (4 . 7 . 0) "Temporary authentication failure: (reason unavailable)";

    // -- size and number -------------------------------------------------------------------------------------------
    /// `SIZE=` larger than any file.
    size_beyond_file_system = 552 (5 . 3 . 4) "Message size exceeds file system imposed limit";
    /// `SIZE=` larger than the limit (RFC 1870 section 6.1).
    size_exceeds_limit = 552 (5 . 3 . 4) "Message size exceeds fixed limit";
    /// A message that turned out larger than the limit (RFC 1870 section 6.3).
    message_too_big = 552 (5 . 3 . 4) "Error: message file too big";
    /// A chunk with which the message would be larger than the limit (RFC 1870 section 6.3).
    chunk_too_big = 552 (5 . 3 . 4) "Chunk exceeds message size limit";
    /// A message of very many very small chunks.
    too_many_chunks = 552 (5 . 3 . 4) "Error: too many chunks";
    /// More recipients than the limit (RFC 5321 section 4.5.3.1.10).
    too_many_recipients = 452 (4 . 5 . 3) "Error: too many recipients";
    /// More Received fields than the limit (RFC 5321 section 6.3).
    too_many_hops = 554 (5 . 4 . 0) "Error: too many hops";

    /// Whom the From field names cannot be understood, and must be known.
    author_unreadable = 550 (5 . 7 . 1) "From header rejected: it cannot be understood";

    // -- the queue -------------------------------------------------------------------------------------------------
    /// The queue cannot take the message now.
    queue_write_error = 451 (4 . 3 . 0) "Error: queue file write error";
    /// The queue is full.
    insufficient_storage = 452 (4 . 3 . 1) "Insufficient system storage";
    /// Something failed that the peer cannot help.
    internal_error = 451 (4 . 3 . 0) "Error: internal protocol error";

    // -- VRFY ------------------------------------------------------------------------------------------------------
    /// VRFY switched off.
    vrfy_disabled = 502 (5 . 5 . 1) "VRFY command is disabled";
}

/// Replies that carry no enhanced status code.
impl Reply {
    /// The greeting (RFC 5321 section 4.3.1).
    pub fn greeting(hostname: &str, banner: &str) -> Self {
        Self::plain(220, format!("{hostname} {banner}"))
    }

    /// HELO.
    pub fn helo(hostname: &str) -> Self {
        Self::plain(250, hostname.to_owned())
    }

    /// HELO without a name.
    pub fn helo_syntax() -> Self {
        Self::plain(501, "Syntax: HELO hostname")
    }

    /// EHLO without a name.
    pub fn ehlo_syntax() -> Self {
        Self::plain(501, "Syntax: EHLO hostname")
    }

    /// DATA (RFC 5321 section 4.1.1.4).
    pub fn start_mail_input() -> Self {
        Self::plain(354, "End data with <CR><LF>.<CR><LF>")
    }

    /// A challenge of AUTH, already in base64 (RFC 4954 section 4).
    pub fn challenge(base64: String) -> Self {
        Self::plain(334, base64)
    }

    /// ETRN (RFC 1985 section 5.3, as are the next ones).
    pub fn etrn_started() -> Self {
        Self::plain(250, "Queuing started")
    }

    /// ETRN failed.
    pub fn etrn_failed() -> Self {
        Self::plain(458, "Unable to queue messages")
    }

    /// ETRN for a domain whose mail does not wait here, or by somebody who may not ask.
    pub fn etrn_unavailable(domain: &str) -> Self {
        Self::plain(459, format!("<{domain}>: service unavailable"))
    }

    /// ETRN without a domain.
    pub fn etrn_syntax() -> Self {
        Self::plain(500, "Syntax: ETRN domain")
    }

    /// ETRN with something that is no domain.
    pub fn etrn_bad_domain() -> Self {
        Self::plain(501, "Error: invalid parameter syntax")
    }

    /// ETRN before HELO.
    pub fn etrn_helo_first() -> Self {
        Self::plain(503, "Error: send HELO/EHLO first")
    }

    /// ETRN within a transaction.
    pub fn etrn_in_transaction() -> Self {
        Self::plain(503, "Error: MAIL transaction in progress")
    }
}

/// Replies that quote something.
impl Reply {
    /// The message is ours.
    pub fn queued(id: QueueId) -> Self {
        Self::new(250, Status::new(2, 0, 0), format!("Ok: queued as {id}"))
    }

    /// A chunk is taken (RFC 3030 section 2).
    pub fn chunk_taken(octets: u64) -> Self {
        Self::new(250, Status::new(2, 0, 0), format!("Ok: {octets} bytes"))
    }

    /// The message is ours, and came in chunks.
    pub fn chunks_queued(octets: u64, id: QueueId) -> Self {
        Self::new(250, Status::new(2, 0, 0), format!("Ok: {octets} bytes queued as {id}"))
    }

    /// A chunk behind one that was refused.
    pub fn chunk_discarded(octets: u64) -> Self {
        Self::new(551, Status::new(5, 0, 0), format!("Discarded {octets} bytes after earlier error"))
    }

    /// A command that must not come between chunks (RFC 3030 section 2).
    pub fn after_bdat(verb: &str) -> Self {
        Self::new(503, Status::new(5, 5, 1), format!("Error: {verb} after BDAT"))
    }

    /// An attribute of XCLIENT that nobody knows.
    pub fn bad_attribute_name(name: &str) -> Self {
        Self::new(501, Status::new(5, 5, 4), format!("Error: bad XCLIENT attribute name: {name}"))
    }

    /// A value of XCLIENT that is no xtext, or no text.
    pub fn bad_attribute_value(value: &str) -> Self {
        Self::new(501, Status::new(5, 5, 4), format!("Error: bad attribute value syntax: {value}"))
    }

    /// A value of XCLIENT that its attribute cannot have.
    pub fn bad_attribute(name: &str, value: &str) -> Self {
        Self::new(501, Status::new(5, 5, 4), format!("Error: bad {name} syntax: {value}"))
    }

    /// A parameter of MAIL or RCPT that was there before.
    pub fn repeated_parameter(name: &str) -> Self {
        Self::new(501, Status::new(5, 5, 4), format!("Error: multiple {name} options"))
    }

    /// UTF-8 in a sender without SMTPUTF8 (RFC 6531 section 3.5).
    pub fn non_ascii_sender(sender: &str) -> Self {
        let text = format!("<{sender}>: Sender address rejected: SMTPUTF8 is required");
        Self::new(553, Status::new(5, 6, 7), text)
    }

    /// UTF-8 in a recipient without SMTPUTF8 (RFC 6531 section 3.5).
    pub fn non_ascii_recipient(recipient: &str) -> Self {
        let text = format!("<{recipient}>: Recipient address rejected: SMTPUTF8 is required");
        Self::new(553, Status::new(5, 6, 7), text)
    }

    /// VRFY: the address, as typed, would be accepted (RFC 5321 section 3.5.3).
    pub fn would_accept(typed: &str) -> Self {
        Self::new(252, Status::new(2, 0, 0), typed.to_owned())
    }

    /// A parameter of MAIL or RCPT that nobody knows (RFC 5321 section 4.1.1.11).
    pub fn unsupported_option(option: &str) -> Self {
        Self::new(555, Status::new(5, 5, 4), format!("Unsupported option: {option}"))
    }

    /// AUTH refused with the back end's own reason.
    pub fn authentication_failed_because(reason: &str) -> Self {
        Self::new(535, Status::new(5, 7, 8), format!("Error: authentication failed: {reason}"))
    }

    /// A sender that has an owner, named by who did not log in.
    pub fn sender_not_logged_in(sender: &str) -> Self {
        Self::new(553, Status::new(5, 7, 1), format!("<{sender}>: Sender address rejected: not logged in"))
    }

    /// More messages than this client or login may send.
    pub fn too_much_mail(client: &str) -> Self {
        Self::new(450, Status::new(4, 7, 1), format!("Error: too much mail from {client}"))
    }

    /// The login has as many messages in the queue as it may.
    pub fn too_much_waits(login: &str) -> Self {
        Self::new(452, Status::new(4, 3, 1), format!("Error: too much mail of {login} is waiting"))
    }

    /// The login has named as many recipients as it may for now.
    pub fn too_many_recipients_of(login: &str) -> Self {
        Self::new(450, Status::new(4, 7, 1), format!("Error: too many recipients from {login}"))
    }

    /// A stranger wants to relay.
    pub fn relay_denied(recipient: &str) -> Self {
        Self::new(554, Status::new(5, 7, 1), format!("<{recipient}>: Relay access denied"))
    }

    /// The login does not own the sender address.
    pub fn sender_not_owned(sender: &str, login: &str) -> Self {
        let text = format!("<{sender}>: Sender address rejected: not owned by user {login}");
        Self::new(553, Status::new(5, 7, 1), text)
    }

    /// The login does not own an address in the From field.
    pub fn author_not_owned(author: &str, login: &str) -> Self {
        let text = format!("<{author}>: From header rejected: not owned by user {login}");
        Self::new(553, Status::new(5, 7, 1), text)
    }

    /// A sender without a full domain.
    pub fn sender_not_qualified(sender: &str) -> Self {
        let text = format!("<{sender}>: Sender address rejected: need fully-qualified address");
        Self::new(504, Status::new(5, 5, 2), text)
    }

    /// A recipient without a full domain.
    pub fn recipient_not_qualified(recipient: &str) -> Self {
        let text = format!("<{recipient}>: Recipient address rejected: need fully-qualified address");
        Self::new(504, Status::new(5, 5, 2), text)
    }

    /// The recipient's domain does not exist.
    pub fn domain_not_found(recipient: &str) -> Self {
        Self::new(550, Status::new(5, 1, 2), format!("<{recipient}>: Recipient address rejected: Domain not found"))
    }

    /// Nobody can tell now whether the recipient's domain exists.
    pub fn domain_lookup_failed(recipient: &str) -> Self {
        let text = format!("<{recipient}>: Recipient address rejected: Domain lookup failed");
        Self::new(450, Status::new(4, 4, 3), text)
    }

    /// The recipient's domain wants no mail (RFC 7505 section 4.2).
    pub fn null_mx(recipient: &str, domain: &str) -> Self {
        let text = format!("<{recipient}>: Recipient address rejected: Domain {domain} does not accept mail (nullMX)");
        Self::new(556, Status::new(5, 1, 10), text)
    }

    /// The recipient does not exist in a domain of ours.
    pub fn user_unknown(recipient: &str) -> Self {
        let text = format!("<{recipient}>: Recipient address rejected: User unknown in local recipient table");
        Self::new(550, Status::new(5, 1, 1), text)
    }

    /// The server to which the recipient's mail goes refuses it, in its words.
    pub fn undeliverable(recipient: &str, said: &str) -> Self {
        let text = format!("<{recipient}>: Recipient address rejected: undeliverable address: {said}");
        Self::new(550, Status::new(5, 1, 1), text)
    }

    /// That server cannot be asked as often as it would have to be.
    pub fn unverified(recipient: &str) -> Self {
        let text =
            format!("<{recipient}>: Recipient address rejected: unverified address: Address verification in progress");
        Self::new(450, Status::new(4, 1, 1), text)
    }

    /// The recipient is an alias that leads nowhere, or to too many. An operator can mend it.
    pub fn alias_unusable(recipient: &str) -> Self {
        let text = format!("<{recipient}>: Recipient address rejected: Alias expansion error");
        Self::new(451, Status::new(4, 6, 0), text)
    }

    /// Nobody can tell now whether the address is acceptable.
    pub fn lookup_failed(address: &str) -> Self {
        Self::new(451, Status::new(4, 3, 0), format!("<{address}>: Temporary lookup failure"))
    }

    /// A CR or LF that is not part of CRLF, in a message or in a command (CVE-2023-51764).
    pub fn bare_line_end(hostname: &str, which: crate::framing::Bare) -> Self {
        Self::new(550, Status::new(5, 5, 2), format!("{hostname} Error: bare <{which}> received"))
    }

    /// HELP with the verbs that it names.
    pub fn help(verbs: &str) -> Self {
        Self::new(214, Status::new(2, 0, 0), format!("Commands: {verbs}"))
    }

    /// HELP with the syntax of a command.
    pub fn help_with(usage: &str) -> Self {
        Self::new(214, Status::new(2, 0, 0), format!("Syntax: {usage}"))
    }

    /// A command line beyond the limit.
    pub fn command_too_long(hostname: &str) -> Self {
        Self::new(500, Status::new(5, 5, 2), format!("{hostname} Error: command too long"))
    }

    /// The error limit is reached.
    pub fn too_many_errors(hostname: &str) -> Self {
        Self::new(421, Status::new(4, 7, 0), format!("{hostname} Error: too many errors"))
    }

    /// The client has too many connections open.
    pub fn too_many_connections(hostname: &str, client: &str) -> Self {
        Self::new(421, Status::new(4, 7, 0), format!("{hostname} Error: too many connections from {client}"))
    }

    /// The server has no room for another connection.
    pub fn server_busy(hostname: &str) -> Self {
        Self::new(421, Status::new(4, 3, 2), format!("{hostname} Error: server busy, try again later"))
    }

    /// Too many logins of this client have failed.
    pub fn too_many_auth_failures(hostname: &str) -> Self {
        Self::new(421, Status::new(4, 7, 0), format!("{hostname} Error: too many authentication failures"))
    }

    /// Too many failed logins as one user, by whomever: this client need not be to blame. The same whether there is such a
    /// user or not.
    pub fn too_many_failures_of_login() -> Self {
        let text = "Error: too many authentication failures for this user, try again later";
        Self::new(454, Status::new(4, 7, 0), text)
    }

    /// Whatever the login was given for is no longer so: its password was changed, or the account is gone.
    pub fn login_revoked(hostname: &str) -> Self {
        Self::new(421, Status::new(4, 7, 0), format!("{hostname} Error: the login has changed, authenticate again"))
    }

    /// An operator has blocked the login of the session.
    pub fn login_blocked(hostname: &str) -> Self {
        Self::new(421, Status::new(4, 7, 0), format!("{hostname} Error: this login is blocked"))
    }

    /// An operator has blocked the client in the middle of its session.
    pub fn client_blocked(hostname: &str) -> Self {
        Self::new(421, Status::new(4, 7, 0), format!("{hostname} Error: this client is blocked"))
    }

    /// An operator has blocked the client, which has just connected.
    pub fn client_rejected(client: &str) -> Self {
        Self::new(554, Status::new(5, 7, 1), format!("<{client}>: Client host rejected: Access denied"))
    }

    /// An operator has blocked the sender's domain.
    pub fn sender_blocked(sender: &str) -> Self {
        Self::new(554, Status::new(5, 7, 1), format!("<{sender}>: Sender address rejected: Access denied"))
    }

    /// An operator has blocked the recipient's domain.
    pub fn recipient_blocked(recipient: &str) -> Self {
        Self::new(554, Status::new(5, 7, 1), format!("<{recipient}>: Recipient address rejected: Access denied"))
    }

    /// An operator wants no mail to be sent to the recipient.
    pub fn suppressed(recipient: &str) -> Self {
        let text = format!("<{recipient}>: Recipient address rejected: mail to this address is suppressed");
        Self::new(550, Status::new(5, 7, 1), text)
    }

    /// The peer was silent for too long.
    pub fn timeout(hostname: &str) -> Self {
        Self::new(421, Status::new(4, 4, 2), format!("{hostname} Error: timeout exceeded"))
    }

    /// This server goes down; another one takes the connection.
    pub fn shutting_down(hostname: &str) -> Self {
        Self::new(421, Status::new(4, 3, 2), format!("{hostname} Service shutting down, closing connection"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc2034_the_class_of_the_status_is_the_first_digit_of_the_code() {
        for (name, reply) in Reply::table() {
            let class = reply.status().map(|status| u16::from(status.class));
            assert_eq!(class, Some(reply.code() / 100), "{name}");
            assert!(!reply.text().contains('\n'), "{name}");
        }
    }

    #[test]
    fn texts_are_those_of_postfix() {
        for (reply, text) in [
            (Reply::greeting("mail.example.org", "ESMTP Staffetta"), "220 mail.example.org ESMTP Staffetta"),
            (Reply::relay_denied("lisa@example.com"), "554 5.7.1 <lisa@example.com>: Relay access denied"),
            (
                Reply::sender_not_owned("forged@email.address", "john@example.org"),
                "553 5.7.1 <forged@email.address>: Sender address rejected: not owned by user john@example.org",
            ),
            (Reply::queued(QueueId::new(0, 0, 0)), "250 2.0.0 Ok: queued as 0000000000000000"),
            (Reply::timeout("mx"), "421 4.4.2 mx Error: timeout exceeded"),
            (Reply::start_mail_input(), "354 End data with <CR><LF>.<CR><LF>"),
        ] {
            assert_eq!(reply.to_string(), text);
        }
    }
}
