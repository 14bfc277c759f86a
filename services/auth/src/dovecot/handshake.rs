//! What Dovecot says before it can be asked: its version and its mechanisms. Without a socket.

use super::wire::Line;

/// Lines of a greeting at most.
const MAX_LINES: usize = 256;

/// Lines that Dovecot takes, from version 1.2 on and before; a longer one ends the connection, for everybody on it.
const LONG: usize = 16_384;
const SHORT: usize = 8_192;

/// Why a connection is of no use. Completes "Dovecot's auth socket …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It speaks another protocol.
    #[error("speaks version {0} of its protocol, not 1")]
    Version(u32),
    /// `auth-master`, `auth-userdb`: made for look-ups by Dovecot's own services.
    #[error("is one for look-ups (auth-master, auth-userdb), not one for clients (auth-client, as Postfix uses it)")]
    NotForClients,
    /// There is nothing that a client over TLS could use.
    #[error("offers no mechanism that can be used here")]
    NoMechanism,
    /// Not Dovecot.
    #[error("sends more than a greeting")]
    TooLong,
}

/// What a connection can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// In Dovecot's order.
    pub(super) mechanisms: Vec<String>,
    /// Octets of a line that it takes, with its end.
    pub(super) line_limit: usize,
}

/// Collects the lines of a greeting; they come in any order, DONE last.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    lines: usize,
    minor: u32,
    major: Option<u32>,
    named: bool,
    offered: bool,
    mechanisms: Vec<String>,
}

impl Handshake {
    /// Takes a line; the greeting when it is complete.
    pub(super) fn on_line(&mut self, line: Line) -> Result<Option<Greeting>, HandshakeError> {
        self.lines += 1;
        if self.lines > MAX_LINES {
            return Err(HandshakeError::TooLong);
        }
        match line {
            Line::Version { major: 1, minor } => (self.major, self.minor) = (Some(1), minor),
            Line::Version { major, .. } => return Err(HandshakeError::Version(major)),
            Line::Mechanism { name, flags } => {
                self.offered = true;
                if is_usable(&name, &flags) && !self.mechanisms.contains(&name) {
                    self.mechanisms.push(name);
                }
            }
            Line::Server => self.named = true,
            Line::Done => return self.done().map(Some),
            _ => {}
        }
        Ok(None)
    }

    /// What was wrong, when nothing came any more: sockets for look-ups never say DONE.
    pub(super) fn on_end(&self) -> Option<HandshakeError> {
        (self.named && !self.offered).then_some(HandshakeError::NotForClients)
    }

    fn done(&mut self) -> Result<Greeting, HandshakeError> {
        match (self.mechanisms.is_empty(), self.offered, self.major) {
            (_, _, None) => Err(HandshakeError::Version(0)),
            (true, false, _) => Err(HandshakeError::NotForClients),
            (true, true, _) => Err(HandshakeError::NoMechanism),
            (false, ..) => Ok(Greeting {
                mechanisms: std::mem::take(&mut self.mechanisms),
                line_limit: if self.minor >= 2 { LONG } else { SHORT },
            }),
        }
    }
}

/// Can a client of ours use it? Passwords in clear are fine: no AUTH is offered outside TLS. Not so: anybody without a
/// name; what is Dovecot's own affair; and what needs facts of the TLS session that do not travel so far (its certificate
/// for EXTERNAL, its channel binding).
fn is_usable(name: &str, flags: &[String]) -> bool {
    let is_barred = |flag: &String| matches!(flag.as_str(), "anonymous" | "private" | "channel-binding");
    is_mechanism(name)
        && !matches!(name, "ANONYMOUS" | "EXTERNAL")
        && !name.ends_with("-PLUS")
        && !flags.iter().any(is_barred)
}

/// RFC 4422 section 3.1.
fn is_mechanism(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=20).contains(&name.len()) && name.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shake(text: &str) -> Result<Option<Greeting>, HandshakeError> {
        let mut handshake = Handshake::default();
        let mut last = Ok(None);
        for line in text.lines() {
            let line = line.replace(' ', "\t");
            last = handshake.on_line(Line::parse(line.as_bytes()).unwrap_or(Line::Other));
            if !matches!(last, Ok(None)) {
                break;
            }
        }
        last
    }

    fn mechanisms(text: &str) -> Vec<String> {
        shake(&format!("VERSION 1 2\n{text}\nSPID 1\nDONE")).ok().flatten().map(|g| g.mechanisms).unwrap_or_default()
    }

    #[test]
    fn every_version_of_the_first_major_is_understood_in_any_order() {
        for (text, limit) in [
            ("VERSION 1 1\nMECH PLAIN plaintext\nSPID 7\nCUID 1\nCOOKIE 00\nDONE", SHORT),
            ("VERSION 1 2\nMECH PLAIN plaintext\nSPID 7\nCUID 1\nCOOKIE 00\nDONE", LONG),
            ("SPID 7\nMECH PLAIN plaintext\nNEWS x\nVERSION 1 4\nDONE", LONG),
        ] {
            let greeting = Greeting { mechanisms: vec!["PLAIN".to_owned()], line_limit: limit };
            assert_eq!(shake(text), Ok(Some(greeting)), "{text}");
        }
        assert_eq!(shake("VERSION 2 0"), Err(HandshakeError::Version(2)));
        assert_eq!(shake("MECH PLAIN\nDONE"), Err(HandshakeError::Version(0)));
    }

    #[test]
    fn only_mechanisms_that_a_client_here_can_use_are_taken() {
        let offered = "MECH PLAIN plaintext\nMECH ANONYMOUS anonymous\nMECH SCRAM-SHA-256 mutual-auth\n\
            MECH SCRAM-SHA-256-PLUS mutual-auth channel-binding\nMECH EXTERNAL\nMECH SECRET private\n\
            MECH CRAM-MD5 dictionary active\nMECH OAUTHBEARER\nMECH bad\nMECH ODD;250\nMECH PLAIN plaintext";
        assert_eq!(mechanisms(offered), ["PLAIN", "SCRAM-SHA-256", "CRAM-MD5", "OAUTHBEARER"]);
        assert_eq!(shake("VERSION 1 2\nMECH ANONYMOUS anonymous\nSPID 1\nDONE"), Err(HandshakeError::NoMechanism));
    }

    #[test]
    fn a_socket_for_look_ups_is_told_apart() {
        assert_eq!(shake("VERSION 1 2\nSPID 1\nDONE"), Err(HandshakeError::NotForClients));
        let mut handshake = Handshake::default();
        assert_eq!(handshake.on_end(), None, "it only hangs");
        assert_eq!(handshake.on_line(Line::Server), Ok(None));
        assert_eq!(handshake.on_end(), Some(HandshakeError::NotForClients));
    }

    #[test]
    fn a_greeting_without_end_is_given_up() {
        let endless = "MECH PLAIN plaintext\n".repeat(MAX_LINES + 1);
        assert_eq!(shake(&endless), Err(HandshakeError::TooLong));
    }
}
