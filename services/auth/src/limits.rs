//! What one account may send, as its row in the database says it: columns of `auth.sql.password_query` beside the password.
//!
//! Nobody is kept out for a value that cannot be read: the frontend's own limits hold then, and the log names the login
//! and the column, but not the value, which may be of another column.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use staffetta_config::{ByteSize, Rate};
use staffetta_proto::auth::v1::authenticate_response::{Allowance as Said, Limits as Told};

use crate::text::Printable;

/// The columns, in the order in which [`Limits::read`] takes their values.
pub(crate) const COLUMNS: [&str; 3] = ["message_limit", "recipient_limit", "size_limit"];

/// What is said of one account; absent: what holds for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many messages it may send.
    pub messages: Option<Allowance>,
    /// How many recipients it may name.
    pub recipients: Option<Allowance>,
    /// Octets of its largest message.
    pub size: Option<u64>,
}

/// How much in which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As much as it likes.
    Unlimited,
    /// So many, in the time that the frontend's own limit has.
    Number(u32),
    /// So many in a time of its own.
    Rate(Rate),
}

/// Who has come in.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// As the back end spells it.
    pub(crate) login: Arc<str>,
    pub(crate) limits: Limits,
    /// How long the same credentials are right without anybody being asked.
    pub(crate) good_for: Duration,
}

impl Limits {
    /// Reads the values of [`COLUMNS`]; NULL, or a query without them, says nothing.
    pub(crate) fn read(login: &str, values: [Option<String>; 3]) -> Self {
        let [messages, recipients, size] = values.map(|value| value.filter(|text| !text.trim().is_empty()));
        let [message_limit, recipient_limit, size_limit] = COLUMNS;
        Self {
            messages: value(login, message_limit, messages, allowance),
            recipients: value(login, recipient_limit, recipients, allowance),
            size: value(login, size_limit, size, octets),
        }
    }

    /// Is anything said?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// In the words of the contract; `None` if there is nothing to tell.
    pub(crate) fn told(self) -> Option<Told> {
        let Self { messages, recipients, size } = self;
        let told = Told { messages: messages.map(Said::from), recipients: recipients.map(Said::from), size };
        (!self.is_empty()).then_some(told)
    }
}

fn value<T>(login: &str, column: &str, text: Option<String>, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let text = text?;
    let value = read(text.trim());
    if value.is_none() {
        tracing::warn!(
            login = %Printable(login),
            column,
            "a limit of an account cannot be read; that of the configuration holds"
        );
    }
    value
}

/// `100/1h`, `100`, `unlimited`. What 0 means, half the world knows otherwise.
fn allowance(text: &str) -> Option<Allowance> {
    if text.eq_ignore_ascii_case("unlimited") {
        return Some(Allowance::Unlimited);
    }
    match text.parse() {
        Ok(number) => Some(number).filter(|number| *number > 0).map(Allowance::Number),
        Err(_) => Rate::parse(text).map(Allowance::Rate),
    }
}

/// `10MiB`, `10485760`.
fn octets(text: &str) -> Option<u64> {
    ByteSize::parse(text).map(|size| size.0).filter(|octets| *octets > 0)
}

impl From<Allowance> for Said {
    fn from(allowance: Allowance) -> Self {
        match allowance {
            Allowance::Unlimited => Self { count: 0, period: 0 },
            Allowance::Number(count) => Self { count, period: 0 },
            // A time of less than a millisecond cannot be written, and so is not 0.
            Allowance::Rate(Rate { count, per }) => Self { count, period: milliseconds(per) },
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Number(count) => write!(f, "{count}"),
            Self::Rate(rate) => write!(f, "{rate}"),
        }
    }
}

/// As the contract has times.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Admitted {
    /// Just now, with what is said of the account.
    pub(crate) fn new(login: impl Into<Arc<str>>, limits: Limits) -> Self {
        Self { login: login.into(), limits, good_for: Duration::ZERO }
    }

    /// Of whom nothing is said.
    pub(crate) fn plain(login: impl Into<Arc<str>>) -> Self {
        Self::new(login, Limits::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rate(count: u32, seconds: u64) -> Option<Allowance> {
        Some(Allowance::Rate(Rate { count, per: Duration::from_secs(seconds) }))
    }

    #[test]
    fn a_limit_is_a_number_a_rate_or_none() {
        for (text, expected) in [
            ("100/1h", rate(100, 3600)),
            (" 5 / 10m ", rate(5, 600)),
            ("250", Some(Allowance::Number(250))),
            ("Unlimited", Some(Allowance::Unlimited)),
            ("", None),
            ("  ", None),
            ("0", None),
            ("0/1h", None),
            ("-1", None),
            ("4294967296", None),
            ("100.0", None),
            ("a lot", None),
            ("100/hour", None),
        ] {
            let values = || [Some(text.to_owned()), None, None];
            assert_eq!(Limits::read("john", values()).messages, expected, "{text:?}");
            let [messages, recipients, size] = values();
            assert_eq!(Limits::read("john", [recipients, messages, size]).recipients, expected, "{text:?}");
        }
    }

    #[test]
    fn a_size_is_octets_with_or_without_a_unit() {
        for (text, expected) in [
            ("10MiB", Some(10 << 20)),
            ("2000", Some(2000)),
            ("0", None),
            ("-5", None),
            ("10MB", None),
            ("large", None),
        ] {
            let size = Limits::read("john", [None, None, Some(text.to_owned())]).size;
            assert_eq!(size, expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_said_goes_over_the_wire_and_nothing_else() {
        assert_eq!(Limits::default().told(), None);
        let limits = Limits::read("john", ["unlimited", "7/1d", "1KiB"].map(|text| Some(text.to_owned())));
        let told = limits.told().unwrap_or_default();
        assert_eq!(told.messages, Some(Said { count: 0, period: 0 }));
        assert_eq!(told.recipients, Some(Said { count: 7, period: 86_400_000 }));
        assert_eq!(told.size, Some(1024));
        assert_eq!(Said::from(Allowance::Number(9)), Said { count: 9, period: 0 });
    }
}
