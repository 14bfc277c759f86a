//! The content of a message: it streams through, limits are watched, and a message that will be refused is read to its
//! end without being kept.

use bytes::{Buf, Bytes, BytesMut};
use staffetta_mail::trace::HeaderScan;

use crate::Reply;
use crate::framing::Piece;
use crate::framing::content::Content;
use crate::standing::{Settings, Transaction};

/// A message on its way in.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) transaction: Transaction,
    decoder: Content,
    header: HeaderScan,
    size: u64,
    /// Why the message will be refused at its end.
    refusal: Option<Reply>,
}

/// What came of the input.
#[derive(Debug)]
pub(super) enum Advance {
    /// Content.
    Body(Bytes),
    /// From here on the content is thrown away.
    Abandon,
    /// The end is read: the message is good, or refused.
    End(Option<Reply>),
    /// More input is needed.
    Read,
}

impl Receiving {
    /// `decoder` finds the end of the content.
    pub(super) fn new(transaction: Transaction, decoder: Content) -> Self {
        Self { transaction, decoder, header: HeaderScan::new(), size: 0, refusal: None }
    }

    /// Consumes input up to the next thing worth telling.
    pub(super) fn step(&mut self, input: &mut BytesMut, settings: &Settings) -> Advance {
        loop {
            match self.decoder.next(input) {
                Piece::Content(n) if self.refusal.is_some() => input.advance(n),
                Piece::Content(n) => return self.content(n, input, settings),
                Piece::Skip(n) => input.advance(n),
                Piece::End(n) => {
                    input.advance(n);
                    return Advance::End(self.refusal.take());
                }
                Piece::More => return Advance::Read,
            }
        }
    }

    fn content(&mut self, n: usize, input: &mut BytesMut, settings: &Settings) -> Advance {
        self.size += n as u64;
        // Only counted here; the shell, which may add fields, splits the content itself.
        drop(self.header.feed(&input[..n]));
        self.refusal = self.check(settings);
        if self.refusal.is_some() {
            input.advance(n);
            return Advance::Abandon;
        }
        Advance::Body(input.split_to(n).freeze())
    }

    /// RFC 1870 section 6.3 (size), RFC 5321 sections 2.3.8 (line ends) and 6.3 (loops).
    fn check(&self, settings: &Settings) -> Option<Reply> {
        if settings.size_limit != 0 && self.size > settings.size_limit {
            return Some(Reply::message_too_big());
        }
        if let Some(bare) = self.decoder.bare() {
            return Some(Reply::bare_line_end(&settings.hostname, bare));
        }
        if settings.hop_limit != 0 && self.header.received() >= settings.hop_limit {
            return Some(Reply::too_many_hops());
        }
        None
    }
}
