//! The client's side of AUTH (RFC 4954). With a password: SCRAM-SHA-256 (`scram.rs`), else PLAIN (RFC 4616), else LOGIN. With a
//! token: OAUTHBEARER (RFC 7628), else XOAUTH2, as Google and Microsoft describe it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use staffetta_mail::RemoteReply;

use super::scram::{Answer, Binding, Scram};
use super::{Credentials, Secret};

/// Longest command line (RFC 5321 section 4.5.3.1.4); a longer initial response waits for its challenge.
const MAX_COMMAND: usize = 512;

/// What an exchange begins with.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    /// What the server offers.
    pub(super) mechanisms: &'a [String],
    pub(super) credentials: &'a Credentials,
    /// See [`super::ServerProfile::nonce`].
    pub(super) nonce: &'a str,
    /// What both ends of the TLS connection know it by, if there is such a thing (RFC 9266).
    pub(super) exporter: Option<&'a [u8]>,
}

/// An exchange under way.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The responses that are still to be given, each to one `334`.
    Fixed(std::vec::IntoIter<String>),
    Scram(Box<Scram>),
}

/// What a reply meant for the exchange.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A response was written.
    Continue,
    /// `235`.
    Done,
    /// The server refused, or asks for more than the mechanism has.
    Refused,
    /// The server refused SCRAM. Many that offer it have for some accounts only what PLAIN can be checked by.
    OtherMechanism,
    /// The server lets us in and has not proved that it knows the password.
    Unproven,
}

impl Exchange {
    /// Writes AUTH with the best mechanism in common; `None` if there is none.
    pub(super) fn start(start: Start<'_>, output: &mut BytesMut) -> Option<Self> {
        match &start.credentials.secret {
            Secret::Password(password) => start.scram(password, output).or_else(|| Self::without_scram(start, output)),
            Secret::Token(_) => Self::without_scram(start, output),
        }
    }

    /// The same, with what shows the server the secret.
    pub(super) fn without_scram(start: Start<'_>, output: &mut BytesMut) -> Option<Self> {
        let Credentials { username, secret } = start.credentials;
        let responses = match secret {
            Secret::Password(password) if start.is_offered("PLAIN") => {
                at_once("PLAIN", &format!("\0{username}\0{password}"), &[], output)
            }
            Secret::Password(password) if start.is_offered("LOGIN") => {
                output.extend_from_slice(b"AUTH LOGIN\r\n");
                vec![BASE64_STANDARD.encode(username), BASE64_STANDARD.encode(password)]
            }
            // What follows a response is for a server that says why it refuses before it does: RFC 7628 section 3.2.3 wants
            // a lone ^A then, and XOAUTH2 nothing.
            Secret::Token(token) if start.is_offered("OAUTHBEARER") => {
                let response = format!("n,a={},\x01auth=Bearer {token}\x01\x01", saslname(username));
                at_once("OAUTHBEARER", &response, &["\x01"], output)
            }
            Secret::Token(token) if start.is_offered("XOAUTH2") => {
                let response = format!("user={username}\x01auth=Bearer {token}\x01\x01");
                at_once("XOAUTH2", &response, &[""], output)
            }
            Secret::Password(_) | Secret::Token(_) => return None,
        };
        Some(Self::Fixed(responses.into_iter()))
    }

    /// Takes the server's answer. An exchange that the client cannot go on with is cancelled with `*`.
    pub(super) fn on_reply(&mut self, reply: &RemoteReply, output: &mut BytesMut) -> Step {
        let (answer, step) = match (reply.code, self) {
            (235, Self::Scram(scram)) if !scram.is_proven() => return Step::Unproven,
            (235, _) => return Step::Done,
            (334, Self::Fixed(responses)) => match responses.next() {
                Some(response) => (response, Step::Continue),
                None => ("*".to_owned(), Step::Refused),
            },
            (334, Self::Scram(scram)) => match scram.respond(&decoded(&reply.text)) {
                Answer::Response(response) => (BASE64_STANDARD.encode(response), Step::Continue),
                // The server says no to that, and is asked in another way.
                Answer::Unfit => ("*".to_owned(), Step::Continue),
                Answer::Impostor => ("*".to_owned(), Step::Unproven),
                // It would go on like this for ever.
                Answer::Ended => return Step::Refused,
            },
            (500..600, Self::Scram(scram)) if !scram.is_proven() => return Step::OtherMechanism,
            _ => return Step::Refused,
        };
        output.extend_from_slice(answer.as_bytes());
        output.extend_from_slice(b"\r\n");
        step
    }
}

/// What a challenge says; what cannot be read fits no exchange.
fn decoded(challenge: &str) -> String {
    let octets = BASE64_STANDARD.decode(challenge).unwrap_or_default();
    String::from_utf8(octets).unwrap_or_default()
}

impl Start<'_> {
    fn is_offered(&self, name: &str) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism == name)
    }

    /// The password stays here. Tied to the connection where both ends can.
    fn scram(&self, password: &str, output: &mut BytesMut) -> Option<Exchange> {
        if self.nonce.is_empty() {
            return None;
        }
        let plus = self.is_offered("SCRAM-SHA-256-PLUS");
        let (mechanism, binding) = match self.exporter {
            Some(exporter) if plus => ("SCRAM-SHA-256-PLUS", Binding::Exporter(exporter.to_vec())),
            _ if !self.is_offered("SCRAM-SHA-256") => return None,
            Some(_) => ("SCRAM-SHA-256", Binding::NotOffered),
            None => ("SCRAM-SHA-256", Binding::Unable),
        };
        let scram = Scram::new(&self.credentials.username, password, self.nonce, binding);
        let command = format!("AUTH {mechanism} {}\r\n", BASE64_STANDARD.encode(scram.first()));
        // A name that is so long goes another way.
        (command.len() <= MAX_COMMAND).then(|| {
            output.extend_from_slice(command.as_bytes());
            Exchange::Scram(Box::new(scram))
        })
    }
}

/// Writes AUTH with its initial response, if that is not too long; gives the responses that are left.
fn at_once(mechanism: &str, response: &str, others: &[&str], output: &mut BytesMut) -> Vec<String> {
    let response = BASE64_STANDARD.encode(response);
    let others = others.iter().map(|other| BASE64_STANDARD.encode(other));
    let command = format!("AUTH {mechanism} {response}\r\n");
    if command.len() <= MAX_COMMAND {
        output.extend_from_slice(command.as_bytes());
        return others.collect();
    }
    output.extend_from_slice(format!("AUTH {mechanism}\r\n").as_bytes());
    std::iter::once(response).chain(others).collect()
}

/// RFC 5801 section 4: what ends a name in a GS2 header is written otherwise in it.
pub(super) fn saslname(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn run(mechanisms: &[&str], password: &str, codes: &[u16]) -> Option<(String, Vec<Step>)> {
        run_with(mechanisms, "john@example.org", Secret::Password(password.to_owned()), codes)
    }

    fn run_with(mechanisms: &[&str], username: &str, secret: Secret, codes: &[u16]) -> Option<(String, Vec<Step>)> {
        let mechanisms: Vec<_> = mechanisms.iter().map(|&m| m.to_owned()).collect();
        let credentials = Credentials { username: username.to_owned(), secret };
        let mut output = BytesMut::new();
        let start = Start { mechanisms: &mechanisms, credentials: &credentials, nonce: "abc", exporter: None };
        let mut exchange = Exchange::start(start, &mut output)?;
        let reply = |&code: &u16| RemoteReply { code, status: None, text: String::new() };
        let steps = codes.iter().map(|code| exchange.on_reply(&reply(code), &mut output)).collect();
        Some((String::from_utf8(output.to_vec()).unwrap(), steps))
    }

    #[test]
    fn rfc4616_plain_goes_with_its_initial_response() {
        let (wire, steps) = run(&["LOGIN", "PLAIN"], "summersun", &[235]).unwrap();
        assert_eq!(wire, "AUTH PLAIN AGpvaG5AZXhhbXBsZS5vcmcAc3VtbWVyc3Vu\r\n");
        assert_eq!(steps, [Step::Done]);
    }

    #[test]
    fn a_long_response_waits_for_its_challenge() {
        let (wire, steps) = run(&["PLAIN"], &"x".repeat(500), &[334, 235]).unwrap();
        assert!(wire.starts_with("AUTH PLAIN\r\nAGpv"));
        assert_eq!(steps, [Step::Continue, Step::Done]);
    }

    #[test]
    fn login_answers_two_challenges_and_cancels_a_third() {
        let (wire, steps) = run(&["CRAM-MD5", "LOGIN"], "summersun", &[334, 334, 334]).unwrap();
        assert_eq!(wire, "AUTH LOGIN\r\nam9obkBleGFtcGxlLm9yZw==\r\nc3VtbWVyc3Vu\r\n*\r\n");
        assert_eq!(steps, [Step::Continue, Step::Continue, Step::Refused]);
    }

    /// The lines, each response decoded.
    fn shown_with(token: &str, mechanisms: &[&str], username: &str, codes: &[u16]) -> (Vec<String>, Vec<Step>) {
        let (wire, steps) = run_with(mechanisms, username, Secret::Token(token.to_owned()), codes).unwrap();
        let decoded = |word: &str| String::from_utf8(BASE64_STANDARD.decode(word).unwrap()).unwrap();
        let shown = |line: &str| match line.rsplit_once(' ') {
            Some((command, response)) if command.starts_with("AUTH ") => format!("{command} {}", decoded(response)),
            None if line != "*" => decoded(line),
            _ => line.to_owned(),
        };
        (wire.strip_suffix("\r\n").unwrap().split("\r\n").map(shown).collect(), steps)
    }

    const FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    /// The mechanism that is chosen with an exporter or without, and the steps of RFC 7677 section 3 with these replies.
    fn scram(mechanisms: &[&str], exporter: Option<&[u8]>, replies: &[(u16, &str)]) -> (String, Vec<Step>, String) {
        let mechanisms: Vec<_> = mechanisms.iter().map(|&m| m.to_owned()).collect();
        let credentials = Credentials { username: "user".to_owned(), secret: Secret::Password("pencil".to_owned()) };
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let (start, mut output) =
            (Start { mechanisms: &mechanisms, credentials: &credentials, nonce, exporter }, BytesMut::new());
        let mut exchange = Exchange::start(start, &mut output).unwrap();
        let command = String::from_utf8(output.split().to_vec()).unwrap();
        let reply =
            |&(code, text): &(u16, &str)| RemoteReply { code, status: None, text: BASE64_STANDARD.encode(text) };
        let steps = replies.iter().map(|said| exchange.on_reply(&reply(said), &mut output)).collect();
        let chosen = command.split(' ').nth(1).unwrap().to_owned();
        (chosen, steps, String::from_utf8(output.to_vec()).unwrap())
    }

    #[test]
    fn a_password_stays_here_where_the_server_can_do_without_it() {
        let all = ["LOGIN", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"];
        for (offered, exporter, expected) in [
            (&all[..], Some(&b"x"[..]), "SCRAM-SHA-256-PLUS"),
            (&all[..], None, "SCRAM-SHA-256"),
            (&all[..3], Some(b"x"), "SCRAM-SHA-256"),
            (&all[..2], Some(b"x"), "PLAIN"),
        ] {
            assert_eq!(scram(offered, exporter, &[]).0, expected, "{offered:?}");
        }
        let (_, steps, said) = scram(&all[..3], None, &[(334, FIRST), (334, LAST), (235, "")]);
        assert_eq!(steps, [Step::Continue, Step::Continue, Step::Done]);
        let (proof, empty) = said.split_once("\r\n").unwrap();
        assert!(BASE64_STANDARD.decode(proof).unwrap().starts_with(b"c=biws,r=") && empty == "\r\n", "{said}");
    }

    #[test]
    fn a_server_that_does_not_prove_itself_is_not_believed_and_gets_nothing_else() {
        let unproven = |replies: &[(u16, &str)]| scram(&["SCRAM-SHA-256", "PLAIN"], None, replies).1;
        assert_eq!(unproven(&[(235, "")]), [Step::Unproven]);
        assert_eq!(unproven(&[(334, FIRST), (235, "")]), [Step::Continue, Step::Unproven]);
        assert_eq!(unproven(&[(334, FIRST), (334, "v=AAAA")]), [Step::Continue, Step::Unproven]);
    }

    #[test]
    fn a_server_that_cannot_do_it_for_this_account_is_asked_in_another_way() {
        let tries = |replies: &[(u16, &str)]| scram(&["SCRAM-SHA-256"], None, replies);
        assert_eq!(tries(&[(535, "")]).1, [Step::OtherMechanism]);
        assert_eq!(tries(&[(334, FIRST), (535, "")]).1, [Step::Continue, Step::OtherMechanism]);
        let (_, steps, said) = tries(&[(334, "r=other,s=AAAA,i=4096"), (501, "")]);
        assert_eq!((steps, &*said), (vec![Step::Continue, Step::OtherMechanism], "*\r\n"));
        assert_eq!(tries(&[(334, "AAAA"), (334, "AAAA")]).1, [Step::Continue, Step::Refused], "for ever");
        assert_eq!(tries(&[(454, "")]).1, [Step::Refused], "later");
        assert_eq!(tries(&[(334, FIRST), (334, LAST), (535, "")]).1[2], Step::Refused, "it knows the password");
    }

    #[test]
    fn a_token_goes_by_the_mechanism_of_the_standard_else_by_that_of_the_providers() {
        let all = ["LOGIN", "PLAIN", "XOAUTH2", "OAUTHBEARER"];
        let (lines, steps) = shown_with("ya29.token", &all, "john@example.org", &[235]);
        assert_eq!(lines, ["AUTH OAUTHBEARER n,a=john@example.org,\u{1}auth=Bearer ya29.token\u{1}\u{1}"]);
        assert_eq!(steps, [Step::Done]);
        let (lines, steps) = shown_with("ya29.token", &all[..3], "john@example.org", &[235]);
        assert_eq!(lines, ["AUTH XOAUTH2 user=john@example.org\u{1}auth=Bearer ya29.token\u{1}\u{1}"]);
        assert_eq!(steps, [Step::Done]);
        let (lines, _) = shown_with("t", &all, "a,b=c@example.org", &[235]);
        assert_eq!(lines, ["AUTH OAUTHBEARER n,a=a=2Cb=3Dc@example.org,\u{1}auth=Bearer t\u{1}\u{1}"]);
    }

    #[test]
    fn a_server_that_says_why_it_refuses_a_token_is_let_finish() {
        for (mechanism, farewell) in [("OAUTHBEARER", "\u{1}"), ("XOAUTH2", "")] {
            let (lines, steps) = shown_with("t", &[mechanism], "john", &[334, 535]);
            assert_eq!((lines[1].as_str(), steps), (farewell, vec![Step::Continue, Step::Refused]), "{mechanism}");
            // A long one waits for its challenge, and a challenge too many ends it.
            let (lines, steps) = shown_with(&"t".repeat(2_000), &[mechanism], "john", &[334, 334, 334]);
            assert_eq!((lines[0].as_str(), lines[1].len() > 2_000), (&*format!("AUTH {mechanism}"), true));
            assert_eq!((lines[2].as_str(), lines[3].as_str()), (farewell, "*"));
            assert_eq!(steps, [Step::Continue, Step::Continue, Step::Refused]);
        }
    }

    #[test]
    fn a_secret_goes_by_no_mechanism_of_the_other_kind() {
        assert_eq!(run(&["XOAUTH2", "OAUTHBEARER"], "summersun", &[]), None);
        assert_eq!(run_with(&["PLAIN", "LOGIN"], "john", Secret::Token("t".to_owned()), &[]), None);
    }

    #[test]
    fn without_a_mechanism_in_common_nothing_is_sent() {
        assert_eq!(run(&["CRAM-MD5"], "summersun", &[]), None);
    }
}
