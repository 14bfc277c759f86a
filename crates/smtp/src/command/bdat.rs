//! BDAT (RFC 3030 section 2): a chunk of the message, of so many octets, follows.
//!
//! Whatever is wrong, the chunk is on its way: it is read, and only then refused. Only where its length cannot be told the
//! session ends, for what follows could be taken for commands.

use super::{Command, Place, Row};
use crate::Reply;
use crate::standing::{Kind, Standing};

/// Its row in the table of verbs. Its own ladder knows of TLS: the chunk must be read in any case.
pub(super) const ROW: Row = Row {
    name: "BDAT",
    parse: |standing, arguments| Chunk::check(standing, arguments).map(Command::Chunk),
    place: Place::Anywhere,
    in_clear: true,
    usage: "BDAT count [LAST]",
    ..Row::PLAIN
};

/// A chunk that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How long it is.
    pub octets: u64,
    /// Is it the end of the message?
    pub last: bool,
    /// Why it will be refused once it is read.
    pub refusal: Option<Reply>,
}

impl Chunk {
    /// The ladder of BDAT.
    pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<Self, Reply> {
        let (octets, last) = parse(arguments).ok_or_else(Reply::bdat_syntax)?;
        Ok(Self { octets, last, refusal: ladder(standing).err() })
    }
}

/// RFC 3030 section 2: `chunk-size [SP "LAST"]`, the size in decimal digits.
fn parse(arguments: &str) -> Option<(u64, bool)> {
    let mut words = arguments.split_ascii_whitespace();
    let digits = words.next().filter(|word| word.bytes().all(|b| b.is_ascii_digit()))?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    let octets = digits.parse().ok()?;
    words.next().is_none().then_some((octets, last))
}

/// What must have come before: RFC 5321 section 3.3, as for DATA.
fn ladder(standing: &Standing<'_>) -> Result<(), Reply> {
    if standing.settings.kind == Kind::Submission && !standing.encrypted {
        return Err(Reply::must_start_tls());
    }
    let transaction = standing.transaction.ok_or_else(Reply::need_rcpt)?;
    if transaction.envelope.recipients.is_empty() {
        return Err(Reply::no_valid_recipients());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use staffetta_mail::{Address, Recipient, ReversePath};

    use super::*;
    use crate::standing::MailParameters;
    use crate::standing::tests::standing;
    use crate::standing::{Settings, Transaction};

    #[test]
    fn rfc3030_2_the_grammar() {
        for (arguments, chunk) in [
            ("0", Some((0, false))),
            ("86 last", Some((86, true))),
            ("0 LAST", Some((0, true))),
            ("18446744073709551615 LAST", Some((u64::MAX, true))),
            ("18446744073709551616", None),
            ("", None),
            ("LAST", None),
            ("-1", None),
            ("+1", None),
            ("0x10", None),
            ("1.5", None),
            ("10 FIRST", None),
            ("10 LAST x", None),
        ] {
            assert_eq!(parse(arguments), chunk, "{arguments:?}");
        }
    }

    #[test]
    fn the_ladder_refuses_behind_the_chunk() {
        let (relay, submission) = (Settings::default(), Settings { kind: Kind::Submission, ..Settings::default() });
        let mut transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let refused = |standing: &Standing<'_>| Chunk::check(standing, "5 LAST").map(|chunk| chunk.refusal);
        assert_eq!(refused(&standing(&submission)), Ok(Some(Reply::must_start_tls())));
        assert_eq!(refused(&standing(&relay)), Ok(Some(Reply::need_rcpt())));
        let mail = Standing { transaction: Some(&transaction), ..standing(&relay) };
        assert_eq!(refused(&mail), Ok(Some(Reply::no_valid_recipients())));
        assert_eq!(Chunk::check(&mail, "x"), Err(Reply::bdat_syntax()));
        transaction.envelope.recipients.extend(Address::parse("a@b.c").map(Recipient::new));
        let rcpt = Standing { transaction: Some(&transaction), ..standing(&relay) };
        assert_eq!(refused(&rcpt), Ok(None));
    }
}
