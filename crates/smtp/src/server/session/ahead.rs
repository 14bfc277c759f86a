//! What the client asked already and the session did not come to: a shell that must wait for one answer can look the next
//! ones up meanwhile. Nothing is decided here, and nothing changes.

use memchr::memmem;
use staffetta_mail::Recipient;

use super::Session;
use crate::command::{Command, Verb};

impl<C> Session<C> {
    /// The recipients that wait in `input`, in their order, while a question about another is out: those of the lines
    /// right behind it, up to the first that names none.
    pub fn recipients_ahead<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = Recipient> + 'a {
        let mut rest = input;
        std::iter::from_fn(move || {
            let end = memmem::find(rest, b"\r\n")?;
            let (line, behind) = (&rest[..end], &rest[end + 2..]);
            rest = behind;
            match Verb::split(std::str::from_utf8(line).ok()?).ok()? {
                (verb @ Verb::Rcpt, arguments) => match (verb.row().parse)(&self.standing(), arguments).ok()? {
                    Command::Recipient(recipient) => Some(recipient),
                    _ => None,
                },
                _ => None,
            }
        })
        .fuse()
    }
}
