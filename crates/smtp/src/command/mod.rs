//! The commands of SMTP (RFC 5321 section 4.1): one file a verb, with its grammar and its ladder of replies.
//!
//! Each verb's `check` gets the [`Standing`] of the session and the arguments as typed, walks down the ladder of what
//! may be wrong in the order of the RFC, and returns either the first [`Reply`] that refuses or the command, ready to
//! be carried out. Nothing here changes the session: [`crate::server`] does.

pub mod auth;
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

use std::fmt;

use crate::Reply;
use crate::server::{Helo, Kind, Settings, Transaction};

/// What a ladder may look at.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// How this listener is set up.
    pub settings: &'a Settings,
    /// Is the connection under TLS?
    pub encrypted: bool,
    /// What HELO or EHLO said.
    pub helo: Option<&'a Helo>,
    /// Who logged in.
    pub login: Option<&'a str>,
    /// The transaction between MAIL and the end of data.
    pub transaction: Option<&'a Transaction>,
}

/// The verbs that this server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the words of the protocol")]
pub enum Verb {
    Helo,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Quit,
    StartTls,
    Auth,
    Vrfy,
    Etrn,
    Help,
}

/// The names of the verbs as they appear on the wire.
const NAMES: [(&str, Verb); 13] = [
    ("RCPT", Verb::Rcpt),
    ("MAIL", Verb::Mail),
    ("DATA", Verb::Data),
    ("EHLO", Verb::Ehlo),
    ("QUIT", Verb::Quit),
    ("STARTTLS", Verb::StartTls),
    ("AUTH", Verb::Auth),
    ("RSET", Verb::Rset),
    ("HELO", Verb::Helo),
    ("NOOP", Verb::Noop),
    ("VRFY", Verb::Vrfy),
    ("ETRN", Verb::Etrn),
    ("HELP", Verb::Help),
];

/// Words of other protocols (Postfix `smtpd_forbidden_commands`).
const FORBIDDEN: [&str; 3] = ["CONNECT", "GET", "POST"];

impl Verb {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; NAMES.len()] = [
        Self::Helo,
        Self::Ehlo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Rset,
        Self::Noop,
        Self::Quit,
        Self::StartTls,
        Self::Auth,
        Self::Vrfy,
        Self::Etrn,
        Self::Help,
    ];

    /// Takes a line apart into the verb and its arguments, which lose the blanks around them.
    ///
    /// Refuses what is no command: 500 for an unknown word, 221 and an end of the session for the talk of other
    /// protocols (HTTP requests, header fields, lines that start with no letter).
    pub fn split(line: &str) -> Result<(Self, &str), Reply> {
        let line = line.trim_ascii();
        let (word, arguments) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        match NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
            Some(&(_, verb)) => Ok((verb, arguments.trim_ascii_start())),
            None if word.is_empty() => Err(Reply::bad_syntax()),
            None if is_other_protocol(word) => Err(Reply::goodbye()),
            None => Err(Reply::not_recognized()),
        }
    }

    /// The word as it appears on the wire and in logs.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|&&(_, verb)| verb == self).map_or("", |&(name, _)| name)
    }

    /// Must this command be the last of a pipelined group (RFC 2920 section 3.1, RFC 3207 section 4, RFC 4954
    /// section 4)? QUIT must be too, but what follows it harms nobody.
    pub const fn ends_group(self) -> bool {
        matches!(
            self,
            Self::Helo | Self::Ehlo | Self::Data | Self::StartTls | Self::Auth | Self::Noop | Self::Vrfy | Self::Help
        )
    }

    /// Does it cost the server work without getting mail through (Postfix `smtpd_junk_command_limit`)?
    pub const fn is_junk(self) -> bool {
        matches!(self, Self::Helo | Self::Ehlo | Self::Rset | Self::Noop | Self::Vrfy | Self::Etrn | Self::Help)
    }

    /// The gate in front of all ladders: submission takes nothing but these before TLS (RFC 3207 section 4).
    pub fn check_encryption(self, standing: &Standing<'_>) -> Result<(), Reply> {
        let harmless = matches!(self, Self::Helo | Self::Ehlo | Self::StartTls | Self::Noop | Self::Quit | Self::Help);
        if standing.settings.kind == Kind::Submission && !standing.encrypted && !harmless {
            return Err(Reply::must_start_tls());
        }
        Ok(())
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Standing<'_> {
    /// RFC 5321 section 4.1.4: a transaction needs an introduction.
    pub(crate) fn check_introduced(&self) -> Result<(), Reply> {
        if self.helo.is_none() && self.settings.helo_required { Err(Reply::helo_first()) } else { Ok(()) }
    }

    /// RFC 4954 section 6: submission needs a login.
    pub(crate) fn check_login(&self) -> Result<(), Reply> {
        if self.login.is_none() && self.settings.kind == Kind::Submission {
            return Err(Reply::authentication_required());
        }
        Ok(())
    }
}

/// HTTP, a header field (`Subject:`), or something that does not start with a letter.
fn is_other_protocol(word: &str) -> bool {
    let header = word.split_once(':').is_some_and(|(name, _)| !name.is_empty());
    header
        || !word.starts_with(|c: char| c.is_ascii_alphabetic())
        || FORBIDDEN.iter().any(|name| name.eq_ignore_ascii_case(word))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A standing in one line, for the tests of the verbs.
    pub(crate) fn standing(settings: &Settings) -> Standing<'_> {
        Standing { settings, encrypted: false, helo: None, login: None, transaction: None }
    }

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
            ("Subject: hello", Reply::goodbye()),
            ("Received:from", Reply::goodbye()),
            ("<html>", Reply::goodbye()),
            ("\u{16}\u{3}\u{1}", Reply::goodbye()), // a TLS hello
            ("1 2", Reply::goodbye()),
        ] {
            assert_eq!(Verb::split(line), Err(reply), "{line:?}");
        }
    }

    #[test]
    fn rfc3207_4_submission_before_tls_takes_only_the_harmless_verbs() {
        let settings = Settings { kind: Kind::Submission, ..Settings::default() };
        let clear = standing(&settings);
        let encrypted = Standing { encrypted: true, ..clear };
        for (_, verb) in NAMES {
            let harmless = ["HELO", "EHLO", "STARTTLS", "NOOP", "QUIT", "HELP"].contains(&verb.name());
            let expected = if harmless { Ok(()) } else { Err(Reply::must_start_tls()) };
            assert_eq!(verb.check_encryption(&clear), expected, "{verb}");
            assert_eq!(verb.check_encryption(&encrypted), Ok(()), "{verb}");
        }
    }
}
