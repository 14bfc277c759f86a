//! The commands of SMTP (RFC 5321 section 4.1): one file a verb, with its grammar and its ladder of replies.
//!
//! A verb is its file and its row in the table of [`Verb`]; nothing else knows all verbs. Each verb's `check` gets the
//! [`Standing`] of the session and the arguments as typed, walks down the ladder of what may be wrong in the order of
//! the RFC, and returns either the first [`Reply`] that refuses or the command, ready to be carried out. Nothing here
//! changes the session: [`crate::server`] does.

pub mod auth;
pub mod bdat;
pub mod data;
pub mod ehlo;
pub mod etrn;
pub mod helo;
pub mod help;
pub mod mail;
pub mod noop;
mod path;
pub mod quit;
pub mod rcpt;
pub mod rset;
pub mod starttls;
pub mod vrfy;
pub mod xclient;

use std::fmt;

use staffetta_mail::{Address, Recipient};

use auth::Auth;
use bdat::Chunk;
use mail::Mail;
use xclient::ClientAttributes;

use crate::Reply;
use crate::standing::{Helo, Kind, Standing};

/// One verb: all that the server must know of it. To add one, write its file and add its row to [`Verb`].
#[derive(Debug)]
pub struct Row {
    /// The word on the wire and in logs.
    pub name: &'static str,
    /// Its grammar and its ladder, which also knows in which states it may come.
    pub parse: fn(&Standing<'_>, &str) -> Result<Command, Reply>,
    /// Where it may stand in a pipelined group.
    pub place: Place,
    /// Does it cost the server work without getting mail through (Postfix `smtpd_junk_command_limit`)?
    pub junk: bool,
    /// Does submission take it before TLS (RFC 3207 section 4), or is that the ladder's business?
    pub in_clear: bool,
    /// Can its line hold a secret, which is wiped then?
    pub secret: bool,
    /// Has it a middle, 3yz?
    pub goes_on: bool,
    /// What HELP says of it.
    pub usage: &'static str,
}

/// Where a command may stand in a pipelined group (RFC 2920 section 3.1, RFC 3207 section 4, RFC 4954 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Anywhere, if the client knows of pipelining.
    Within,
    /// At the end: what follows would depend on its reply.
    Last,
    /// What follows it harms nobody, though it should be the last: QUIT; or belongs to it: BDAT.
    Anywhere,
}

impl Row {
    /// What most verbs have in common.
    const PLAIN: Self = Self {
        name: "",
        parse: |_, _| Err(Reply::not_implemented()),
        place: Place::Within,
        junk: false,
        in_clear: false,
        secret: false,
        goes_on: false,
        usage: "",
    };
}

/// A command that the protocol has nothing against, ready to be carried out by [`crate::server`].
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Nothing but a reply.
    Say(Reply),
    /// The client introduces itself, which also resets (RFC 5321 section 4.1.4).
    Introduce(Helo),
    /// Reply, then go under TLS.
    StartTls(Reply),
    /// Begin an authentication.
    Auth(Auth),
    /// Begin a transaction.
    Mail(Mail),
    /// Add to it.
    Recipient(Recipient),
    /// The content follows.
    Data,
    /// A chunk of the content follows.
    Chunk(Chunk),
    /// Forget the transaction.
    Reset(Reply),
    /// Would this address be accepted?
    Verify {
        /// The address in question.
        address: Address,
        /// As the client wrote it.
        typed: String,
    },
    /// Send what waits for this domain.
    Etrn(String),
    /// Begin anew, with another client.
    Client(Box<ClientAttributes>),
    /// Reply, then close.
    Close(Reply),
}

macro_rules! verbs {
    ($($verb:ident = $row:path,)*) => {
        /// The verbs that this server knows, the most frequent ones first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "they are the words of the protocol")]
        pub enum Verb { $($verb,)* }

        static TABLE: &[Row] = &[$($row,)*];

        impl Verb {
            /// All of them, in the order of the table.
            pub const ALL: [Self; [$(Self::$verb),*].len()] = [$(Self::$verb),*];
        }
    };
}

verbs! {
    Rcpt = rcpt::ROW,
    Mail = mail::ROW,
    Data = data::ROW,
    Bdat = bdat::ROW,
    Ehlo = ehlo::ROW,
    Quit = quit::ROW,
    StartTls = starttls::ROW,
    Auth = auth::ROW,
    Rset = rset::ROW,
    Helo = helo::ROW,
    Noop = noop::ROW,
    Vrfy = vrfy::ROW,
    Etrn = etrn::ROW,
    Help = help::ROW,
    Xclient = xclient::ROW,
}

/// Words of other protocols (Postfix `smtpd_forbidden_commands`).
const FORBIDDEN: [&str; 3] = ["CONNECT", "GET", "POST"];

impl Verb {
    /// What the table says of it.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Takes a line apart into the verb and its arguments, which lose the blanks around them.
    ///
    /// Refuses what is no command: 500 for an unknown word, 221 and an end of the session for the talk of other
    /// protocols (HTTP requests, header fields, lines that start with no letter), 554 and an end for a PROXY header.
    pub fn split(line: &str) -> Result<(Self, &str), Reply> {
        let line = line.trim_ascii();
        let (word, arguments) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        match TABLE.iter().position(|row| row.name.eq_ignore_ascii_case(word)) {
            Some(at) => Ok((Self::ALL[at], arguments.trim_ascii_start())),
            None if word.is_empty() => Err(Reply::bad_syntax()),
            // The header of a proxy, which arrived after the greeting, from a network that is none.
            None if word.eq_ignore_ascii_case("PROXY") => Err(Reply::out_of_turn()),
            None if is_other_protocol(word) => Err(Reply::goodbye()),
            None => Err(Reply::not_recognized()),
        }
    }

    /// The word as it appears on the wire and in logs.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The gate in front of all ladders: submission takes next to nothing before TLS (RFC 3207 section 4).
    pub fn check_encryption(self, standing: &Standing<'_>) -> Result<(), Reply> {
        if standing.settings.kind == Kind::Submission && !standing.encrypted && !self.row().in_clear {
            return Err(Reply::must_start_tls());
        }
        Ok(())
    }

    /// May input stand behind the command? `extended`: the client knows of pipelining.
    pub fn may_be_followed(self, extended: bool) -> bool {
        match self.row().place {
            Place::Within => extended,
            Place::Last => false,
            Place::Anywhere => true,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// HTTP, a header field (`Subject:`), or something that does not start with a letter.
fn is_other_protocol(word: &str) -> bool {
    let header = word.split_once(':').is_some_and(|(name, _)| !name.is_empty());
    header
        || !word.starts_with(|c: char| c.is_ascii_alphabetic())
        || FORBIDDEN.iter().any(|name| name.eq_ignore_ascii_case(word))
}

/// Letters, digits, hyphens and underscores between dots.
fn is_host_name(text: &str) -> bool {
    text.len() <= 255
        && text.split('.').all(|label| {
            let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            inner && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn rfc5321_2_4_verbs_in_any_case_and_arguments_as_typed() {
        for (line, verb, arguments) in [
            ("RCPT TO:<A@b>", Verb::Rcpt, "TO:<A@b>"),
            ("rCpT to:<A@b>  ", Verb::Rcpt, "to:<A@b>"),
            ("DATA", Verb::Data, ""),
            ("noop \t a  b ", Verb::Noop, "a  b"),
            ("  quit", Verb::Quit, ""),
            ("StartTls", Verb::StartTls, ""),
        ] {
            assert_eq!(Verb::split(line), Ok((verb, arguments)), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_apart_as_in_postfix() {
        for (line, reply) in [
            ("", Reply::bad_syntax()),
            ("   ", Reply::bad_syntax()),
            ("FOO", Reply::not_recognized()),
            ("MAILFROM <a@b>", Reply::not_recognized()),
            ("GET / HTTP/1.1", Reply::goodbye()),
            ("post /", Reply::goodbye()),
            ("CONNECT a:25", Reply::goodbye()),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2", Reply::out_of_turn()),
            ("Subject: hello", Reply::goodbye()),
            ("Received:from", Reply::goodbye()),
            ("<html>", Reply::goodbye()),
            ("\u{16}\u{3}\u{1}", Reply::goodbye()), // a TLS hello
            ("1 2", Reply::goodbye()),
        ] {
            assert_eq!(Verb::split(line), Err(reply), "{line:?}");
        }
    }

    /// RFC 2920 section 3.1, RFC 5321 section 4.5.3 and Postfix: three short lists that the rows must agree with.
    #[test]
    fn what_the_rows_say() {
        let those = |is: fn(Verb) -> bool| Verb::ALL.into_iter().filter(|&v| is(v)).map(Verb::name).collect::<Vec<_>>();
        assert_eq!(those(|v| v.may_be_followed(true)), ["RCPT", "MAIL", "BDAT", "QUIT", "RSET", "ETRN"]);
        assert_eq!(those(|v| v.may_be_followed(false)), ["BDAT", "QUIT"]);
        assert_eq!(those(|v| v.row().junk), ["EHLO", "RSET", "HELO", "NOOP", "VRFY", "ETRN", "HELP"]);
        assert_eq!(those(|v| v.row().secret), ["AUTH"]);
        assert_eq!(those(|v| v.row().goes_on), ["DATA", "AUTH"]);
    }

    #[test]
    fn rfc3207_4_submission_before_tls_takes_only_the_harmless_verbs() {
        let settings = Settings { kind: Kind::Submission, ..Settings::default() };
        let clear = standing(&settings);
        let encrypted = Standing { encrypted: true, ..clear };
        for verb in Verb::ALL {
            // BDAT has a gate of its own, behind its chunk.
            let harmless =
                ["HELO", "EHLO", "STARTTLS", "NOOP", "QUIT", "HELP", "BDAT", "XCLIENT"].contains(&verb.name());
            let expected = if harmless { Ok(()) } else { Err(Reply::must_start_tls()) };
            assert_eq!(verb.check_encryption(&clear), expected, "{verb}");
            assert_eq!(verb.check_encryption(&encrypted), Ok(()), "{verb}");
        }
    }
}
