//! The client's side of AUTH (RFC 4954): PLAIN (RFC 4616), else LOGIN.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use staffetta_mail::RemoteReply;

use super::Credentials;

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
        let Credentials { username, password } = credentials;
        let responses = if offered("PLAIN") {
            let response = BASE64_STANDARD.encode(format!("\0{username}\0{password}"));
            let command = format!("AUTH PLAIN {response}\r\n");
            let fits = command.len() <= MAX_COMMAND;
            output.extend_from_slice(if fits { command.as_bytes() } else { b"AUTH PLAIN\r\n" });
            if fits { Vec::new() } else { vec![response] }
        } else if offered("LOGIN") {
            output.extend_from_slice(b"AUTH LOGIN\r\n");
            vec![BASE64_STANDARD.encode(username), BASE64_STANDARD.encode(password)]
        } else {
            return None;
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn run(mechanisms: &[&str], password: &str, codes: &[u16]) -> Option<(String, Vec<Step>)> {
        let mechanisms: Vec<_> = mechanisms.iter().map(|&m| m.to_owned()).collect();
        let credentials = Credentials { username: "john@example.org".to_owned(), password: password.to_owned() };
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

    #[test]
    fn without_a_mechanism_in_common_nothing_is_sent() {
        assert_eq!(run(&["CRAM-MD5"], "summersun", &[]), None);
    }
}
