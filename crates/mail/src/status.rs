//! What a server answers: enhanced status codes (RFC 3463) and replies (RFC 5321 section 4.2).

use std::fmt::{self, Write as _};
use std::str::FromStr;

/// An enhanced status code: class 2, 4 or 5, subject and detail 0 to 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What the status is about (RFC 3463 section 3).
    pub subject: u16,
    /// The condition.
    pub detail: u16,
}

/// The text is no enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code")]
pub struct StatusError;

impl Status {
    /// `class.subject.detail`.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// True for class 5.
    pub const fn is_permanent(self) -> bool {
        self.class == 5
    }

    /// The same condition with the class that a reply code's first digit demands (RFC 2034 section 4).
    pub const fn with_class_of(self, code: u16) -> Self {
        Self { class: (code / 100) as u8, ..self }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without a format string: codes stand in every line of the mail log.
        fmt::Display::fmt(&self.class, f)?;
        f.write_char('.')?;
        fmt::Display::fmt(&self.subject, f)?;
        f.write_char('.')?;
        fmt::Display::fmt(&self.detail, f)
    }
}

impl FromStr for Status {
    type Err = StatusError;
    fn from_str(text: &str) -> Result<Self, StatusError> {
        let (class, rest) = match *text.as_bytes() {
            [class @ (b'2' | b'4' | b'5'), b'.', ref rest @ ..] => (class - b'0', rest),
            _ => return Err(StatusError),
        };
        let dot = rest.iter().position(|&b| b == b'.').ok_or(StatusError)?;
        Ok(Self::new(class, component(&rest[..dot])?, component(&rest[dot + 1..])?))
    }
}

/// One to three digits.
fn component(text: &[u8]) -> Result<u16, StatusError> {
    if !matches!(text.len(), 1..=3) || !text.iter().all(u8::is_ascii_digit) {
        return Err(StatusError);
    }
    Ok(text.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

/// A reply that a remote server gave, as it goes into logs and reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteReply {
    /// 200 to 599.
    pub code: u16,
    /// The last enhanced status code of the reply's class in its lines, if there was one.
    pub status: Option<Status>,
    /// The text of all lines without codes, joined by a space; control characters replaced; at most 1 KiB.
    pub text: String,
}

impl RemoteReply {
    /// The server's enhanced code; else the generic one of the reply's class.
    pub fn effective_status(&self) -> Status {
        self.status.unwrap_or(Status::new((self.code / 100) as u8, 0, 0))
    }
}

impl fmt::Display for RemoteReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} {} {}", self.code, status, self.text),
            None => write!(f, "{} {}", self.code, self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3463_codes_parse_and_print() {
        for text in ["2.0.0", "4.4.2", "5.7.1", "5.1.10", "5.7.25"] {
            assert_eq!(text.parse::<Status>().map(|s| s.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "5", "5.7", "5.7.1.2", "3.0.0", "55.1.1", "5..1", "5.1.1000", "5.-1.1", "a.b.c", "5.+1.1"] {
            assert_eq!(text.parse::<Status>(), Err(StatusError), "{text:?}");
        }
    }

    #[test]
    fn rfc2034_the_class_follows_the_reply_code() {
        assert_eq!(Status::new(5, 7, 1).with_class_of(450), Status::new(4, 7, 1));
    }
}
