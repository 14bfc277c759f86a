//! The client's side of AUTH (RFC 4954). With a password: PLAIN (RFC 4616), else LOGIN. With a token: OAUTHBEARER (RFC 7628),
//! else XOAUTH2, as Google and Microsoft describe it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use staffetta_mail::RemoteReply;

use super::{Credentials, Secret};

/// Longest command line (RFC 5321 section 4.5.3.1.4); a longer initial response waits for its challenge.
const MAX_COMMAND: usize = 512;

/// An exchange under way: the responses that are still to be given, each to one `334`.
#[derive(Debug)]
pub(super) struct Exchange {
    responses: std::vec::IntoIter<String>,
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
}

impl Exchange {
    /// Writes AUTH with the best mechanism in common; `None` if there is none.
    pub(super) fn start(mechanisms: &[String], credentials: &Credentials, output: &mut BytesMut) -> Option<Self> {
        let offered = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
        let Credentials { username, secret } = credentials;
        let responses = match secret {
            Secret::Password(password) if offered("PLAIN") => {
                at_once("PLAIN", &format!("\0{username}\0{password}"), &[], output)
            }
            Secret::Password(password) if offered("LOGIN") => {
                output.extend_from_slice(b"AUTH LOGIN\r\n");
                vec![BASE64_STANDARD.encode(username), BASE64_STANDARD.encode(password)]
            }
            // What follows a response is for a server that says why it refuses before it does: RFC 7628 section 3.2.3 wants
            // a lone ^A then, and XOAUTH2 nothing.
            Secret::Token(token) if offered("OAUTHBEARER") => {
                let response = format!("n,a={},\x01auth=Bearer {token}\x01\x01", saslname(username));
                at_once("OAUTHBEARER", &response, &["\x01"], output)
            }
            Secret::Token(token) if offered("XOAUTH2") => {
                let response = format!("user={username}\x01auth=Bearer {token}\x01\x01");
                at_once("XOAUTH2", &response, &[""], output)
            }
            Secret::Password(_) | Secret::Token(_) => return None,
        };
        Some(Self { responses: responses.into_iter() })
    }

    /// Takes the server's answer. An exchange that the client cannot go on with is cancelled with `*`.
    pub(super) fn on_reply(&mut self, reply: &RemoteReply, output: &mut BytesMut) -> Step {
        match reply.code {
            235 => Step::Done,
            334 => match self.responses.next() {
                Some(response) => {
                    output.extend_from_slice(response.as_bytes());
                    output.extend_from_slice(b"\r\n");
                    Step::Continue
                }
                None => {
                    output.extend_from_slice(b"*\r\n");
                    Step::Refused
                }
            },
            _ => Step::Refused,
        }
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
fn saslname(name: &str) -> String {
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
        let mut exchange = Exchange::start(&mechanisms, &credentials, &mut output)?;
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
