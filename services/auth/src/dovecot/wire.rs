//! The lines of Dovecot's auth protocol (version 1), without a socket.
//!
//! A line ends with LF, its fields are separated by TAB, and what a field may not hold is escaped with `\x01`. Commands
//! and parameters that we do not know are passed over, as the protocol wants it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use staffetta_proto::auth::v1::Client;
use zeroize::Zeroizing;

/// What we say first, without waiting: from 2.4 on Dovecot waits for it. We ask for nothing that is newer than 1.2.
pub(super) fn greeting(pid: u32) -> Vec<u8> {
    format!("VERSION\t1\t2\nCPID\t{}\n", pid.max(1)).into_bytes()
}

/// Everything of an AUTH line that stands behind its id. `resp=` is the last: what follows it would be lost, or worse.
///
/// The client's address is Dovecot's to judge by (`allow_nets`, its policy server, its log). The penalty that it gives
/// an address after failures is left out: the frontends count failures themselves, and a penalty of 15 s would turn
/// right passwords into a `454`.
pub(super) fn request(mechanism: &str, client: &Client, response: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    let room = 512 + response.map_or(0, |octets| octets.len() / 3 * 4);
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    for text in [mechanism, "service=smtp", "nologin", "no-penalty"] {
        line.push(b'\t');
        line.extend_from_slice(text.as_bytes());
    }
    if client.tls {
        line.extend_from_slice(b"\tsecured");
    }
    // Dovecot knows one name of a certificate.
    if let Some(name) = client.certified.first() {
        line.extend_from_slice(b"\tvalid-client-cert");
        parameter(&mut line, "cert_username", name);
    }
    parameter(&mut line, "lip", &client.local_ip);
    parameter(&mut line, "rip", &client.ip);
    parameter(&mut line, "lport", &port(client.local_port));
    parameter(&mut line, "rport", &port(client.port));
    parameter(&mut line, "session", &client.session);
    if let Some(octets) = response {
        line.extend_from_slice(b"\tresp=");
        encode(&mut line, octets);
    }
    line
}

/// The line with which a client's answer goes on; of no octets when the client sent none.
pub(super) fn answer(id: u32, octets: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut line = Zeroizing::new(Vec::with_capacity(32 + octets.len() / 3 * 4));
    line.extend_from_slice(format!("CONT\t{id}\t").as_bytes());
    encode(&mut line, octets);
    line.push(b'\n');
    line
}

/// A whole AUTH line.
pub(super) fn begin(id: u32, request: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut line = Zeroizing::new(Vec::with_capacity(32 + request.len()));
    line.extend_from_slice(format!("AUTH\t{id}").as_bytes());
    line.extend_from_slice(request);
    line.push(b'\n');
    line
}

/// Gives a request up.
pub(super) fn cancel(id: u32) -> Zeroizing<Vec<u8>> {
    format!("CANCEL\t{id}\n").into_bytes().into()
}

fn port(number: u32) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn parameter(line: &mut Vec<u8>, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    line.extend_from_slice(format!("\t{name}=").as_bytes());
    for byte in value.bytes() {
        match byte {
            0 => line.extend_from_slice(b"\x010"),
            1 => line.extend_from_slice(b"\x011"),
            b'\t' => line.extend_from_slice(b"\x01t"),
            b'\r' => line.extend_from_slice(b"\x01r"),
            b'\n' => line.extend_from_slice(b"\x01n"),
            _ => line.push(byte),
        }
    }
}

/// Straight into the line, which is wiped: no copy of a password stays behind.
fn encode(line: &mut Zeroizing<Vec<u8>>, octets: &[u8]) {
    let start = line.len();
    line.resize(start + octets.len().div_ceil(3) * 4, 0);
    // The room is what base64 with padding takes, so this cannot fail.
    let written = STANDARD.encode_slice(octets, &mut line[start..]).unwrap_or(0);
    line.truncate(start + written);
}

/// A line of Dovecot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Version {
        major: u32,
        minor: u32,
    },
    Mechanism {
        name: String,
        flags: Vec<String>,
    },
    /// The process id of the server. Both kinds of socket have one; only that of an auth client has mechanisms.
    Server,
    Done,
    Challenge {
        id: u32,
        octets: Vec<u8>,
    },
    /// Something is looked up out of band; the answer comes later.
    Wait,
    Success {
        id: u32,
        user: Option<String>,
    },
    Failure {
        id: u32,
        failure: Failure,
    },
    Cancelled {
        id: u32,
    },
    /// Nothing for us.
    Other,
}

/// What FAIL says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) user: Option<String>,
    /// For people; may be shown by Dovecot's own services, never by us.
    pub(super) reason: Option<String>,
    pub(super) code: Option<String>,
    /// Before there were codes: "temp", "authz", "user_disabled", "pass_expired".
    pub(super) temporary: bool,
}

/// Not what the protocol allows: nothing on this connection can be believed any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent {0}")]
pub(super) struct Malformed(pub(super) &'static str);

impl Line {
    /// Takes a line apart; `text` is without its end.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let mut fields = text.split(|byte| *byte == b'\t');
        let command = fields.next().unwrap_or_default();
        match command {
            b"VERSION" => {
                Ok(Self::Version { major: number(fields.next())?, minor: number(fields.next()).unwrap_or(0) })
            }
            b"MECH" => {
                let name = unescaped(fields.next().unwrap_or_default()).ok_or(Malformed("a name that is no text"))?;
                Ok(Self::Mechanism { name, flags: fields.filter_map(unescaped).collect() })
            }
            b"SPID" => Ok(Self::Server),
            b"DONE" => Ok(Self::Done),
            b"CONT" => Self::challenge(number(fields.next())?, fields.next().unwrap_or_default()),
            b"OK" => Ok(Self::Success { id: number(fields.next())?, user: value(fields, "user") }),
            b"FAIL" => Ok(Self::Failure { id: number(fields.next())?, failure: Failure::read(fields) }),
            b"CANCELLED" => Ok(Self::Cancelled { id: number(fields.next())? }),
            _ => Ok(Self::Other),
        }
    }

    fn challenge(id: u32, text: &[u8]) -> Result<Self, Malformed> {
        if text == b"#" {
            return Ok(Self::Wait);
        }
        let octets = STANDARD.decode(text).map_err(|_| Malformed("a challenge that is not base64"))?;
        Ok(Self::Challenge { id, octets })
    }
}

impl Failure {
    fn read<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut failure = Self::default();
        for field in fields {
            match parted(field) {
                (b"user", value) => failure.user = unescaped(value),
                (b"reason", value) => failure.reason = unescaped(value),
                (b"code", value) => failure.code = unescaped(value),
                (b"temp", _) => failure.temporary = true,
                _ => {}
            }
        }
        failure
    }
}

fn number(field: Option<&[u8]>) -> Result<u32, Malformed> {
    let text = field.and_then(|field| std::str::from_utf8(field).ok());
    text.and_then(|text| text.parse().ok()).ok_or(Malformed("a line without its number"))
}

fn value<'a>(mut fields: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<String> {
    fields
        .find_map(|field| Some(parted(field)).filter(|(key, _)| *key == name.as_bytes()))
        .and_then(|(_, v)| unescaped(v))
}

fn parted(field: &[u8]) -> (&[u8], &[u8]) {
    match field.iter().position(|byte| *byte == b'=') {
        Some(at) => (&field[..at], &field[at + 1..]),
        None => (field, &[]),
    }
}

/// `None` if it is not UTF-8.
fn unescaped(field: &[u8]) -> Option<String> {
    let mut octets = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        octets.push(match (*byte, *byte == 1) {
            (_, true) => match bytes.next()? {
                b'0' => 0,
                b'1' => 1,
                b't' => b'\t',
                b'r' => b'\r',
                b'n' => b'\n',
                other => *other,
            },
            (other, false) => other,
        });
    }
    String::from_utf8(octets).ok()
}
