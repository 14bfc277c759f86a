//! The content of a message: it streams through, limits are watched, and a message that will be refused is read to its
//! end without being kept.
//!
//! One value lives from DATA to the final dot, or from the first BDAT to the last (RFC 3030). A chunk that is refused spoils
//! the message: what follows is read and thrown away, or the rest of it would pass for a message of its own.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};
use staffetta_mail::trace::HeaderScan;

use crate::Reply;
use crate::command::bdat::Chunk;
use crate::framing::content::Content;
use crate::framing::{Bare, BareLines, Piece, normal};
use crate::standing::{BareLf, Settings, Transaction};

/// Chunks of a message that are free, and octets that earn it another: more are work without mail.
const FREE_CHUNKS: u64 = 10_000;
const OCTETS_PER_CHUNK: u64 = 64;

/// A message on its way in.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) transaction: Transaction,
    decoder: Content,
    /// The chunk at hand; `None` for DATA.
    chunk: Option<Chunk>,
    chunks: u64,
    /// Is bare LF of this client normalised?
    bare_lf: BareLf,
    header: HeaderScan,
    size: u64,
    /// Has the shell a place open that it must be told to drop?
    open: bool,
    after_cr: bool,
    ends_in_crlf: bool,
    /// Why the message, or the chunk, will be refused at its end.
    refusal: Option<Ending>,
    /// A chunk was refused.
    spoiled: bool,
}

/// A refusal that waits for the end of what it refuses.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) reply: Reply,
    /// Log and count have it already.
    pub(super) noted: bool,
}

/// What came of the input.
#[derive(Debug)]
pub(super) enum Advance {
    /// Content.
    Body(Bytes),
    /// From here on the content is thrown away.
    Abandon,
    /// The end of the message, or of a chunk, is read: it is good, or refused.
    End(Option<Ending>),
    /// More input is needed.
    Read,
}

impl Receiving {
    /// What follows the `354`.
    pub(super) fn data(transaction: Transaction, bare_lf: BareLf) -> Box<Self> {
        Box::new(Self {
            transaction,
            decoder: Content::data(),
            chunk: None,
            chunks: 0,
            bare_lf,
            header: HeaderScan::new(),
            size: 0,
            open: true,
            after_cr: false,
            ends_in_crlf: true,
            refusal: None,
            spoiled: false,
        })
    }

    /// The first chunk. With a refusal there is no place for it, and it will be thrown away.
    pub(super) fn chunks(
        transaction: Transaction,
        bare_lf: BareLf,
        chunk: Chunk,
        refusal: Option<Ending>,
        settings: &Settings,
    ) -> Box<Self> {
        let mut receiving = Self::data(transaction, bare_lf);
        receiving.decoder = Content::chunks();
        receiving.open = refusal.is_none() && chunk.refusal.is_none();
        receiving.refusal = refusal;
        receiving.begin_chunk(chunk, settings);
        receiving
    }

    /// The next chunk. Nothing of it is kept when one before it was refused, or when it cannot fit.
    pub(super) fn begin_chunk(&mut self, mut chunk: Chunk, settings: &Settings) {
        self.chunks += 1;
        self.decoder.begin_chunk(chunk.octets);
        let refused = if self.spoiled { Some(Reply::chunk_discarded(chunk.octets)) } else { chunk.refusal.take() };
        let too_long = settings.size_limit != 0 && self.size.saturating_add(chunk.octets) > settings.size_limit;
        let refused = refused
            .or_else(|| too_long.then(Reply::chunk_too_big))
            .or_else(|| (self.chunks > FREE_CHUNKS + self.size / OCTETS_PER_CHUNK).then(Reply::too_many_chunks));
        if self.refusal.is_none() {
            self.refusal = refused.map(|reply| Ending { reply, noted: false });
        }
        self.chunk = Some(chunk);
    }

    /// The chunk at hand; `None` for DATA.
    pub(super) fn chunk(&self) -> Option<&Chunk> {
        self.chunk.as_ref()
    }

    /// Why what comes now is thrown away.
    pub(super) fn refusal(&self) -> Option<&Reply> {
        self.refusal.as_ref().map(|ending| &ending.reply)
    }

    /// Octets of the content so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// A chunk was refused, so the message is lost.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Has the shell a place open for it?
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    fn is_last(&self) -> bool {
        self.chunk.as_ref().is_none_or(|chunk| chunk.last)
    }

    /// Consumes input up to the next thing worth telling.
    pub(super) fn step(&mut self, input: &mut BytesMut, settings: &Settings) -> Advance {
        loop {
            if self.refusal.is_some() && mem::take(&mut self.open) {
                return Advance::Abandon;
            }
            match self.decoder.next(input) {
                Piece::Content(n) if self.refusal.is_some() => input.advance(n),
                Piece::Content(n) => {
                    if let Some(body) = self.content(n, input, settings) {
                        return Advance::Body(body);
                    }
                }
                Piece::Skip(n) => input.advance(n),
                Piece::End(n) => {
                    input.advance(n);
                    match self.end(settings) {
                        Some(advance) => return advance,
                        None => continue,
                    }
                }
                Piece::More => return Advance::Read,
            }
        }
    }

    /// `None`: the content is refused.
    fn content(&mut self, n: usize, input: &mut BytesMut, settings: &Settings) -> Option<Bytes> {
        let after_cr = mem::replace(&mut self.after_cr, input[n - 1] == b'\r');
        self.ends_in_crlf = input[..n].ends_with(b"\n"); // that no LF is bare is seen to below
        let body = match self.decoder.bare().lf && self.bare_lf == BareLf::Normalize {
            false => input.split_to(n).freeze(),
            true => normal::with_crlf(after_cr, &input.split_to(n)),
        };
        self.size += body.len() as u64;
        // Only counted here; the shell, which may add fields, splits the content itself.
        drop(self.header.feed(&body));
        self.refusal = self.check(settings);
        self.refusal.is_none().then_some(body)
    }

    /// The end of the message or of a chunk. `None`: look again, it is refused after all.
    fn end(&mut self, settings: &Settings) -> Option<Advance> {
        if self.refusal.is_some() || !self.is_last() {
            return Some(Advance::End(self.refusal.take()));
        }
        self.decoder.finish();
        self.refusal = self.check(settings);
        if self.refusal.is_some() {
            return None;
        }
        if mem::replace(&mut self.ends_in_crlf, true) {
            return Some(Advance::End(None));
        }
        // A chunk may end anywhere (RFC 3030 section 2), a message consists of lines.
        self.size += 2;
        Some(Advance::Body(Bytes::from_static(b"\r\n")))
    }

    /// RFC 1870 section 6.3 (size), RFC 5321 sections 2.3.8 (line ends) and 6.3 (loops).
    fn check(&self, settings: &Settings) -> Option<Ending> {
        let refused = |reply| Some(Ending { reply, noted: false });
        if settings.size_limit != 0 && self.size > settings.size_limit {
            return refused(Reply::message_too_big());
        }
        if let Some(bare) = self.forbidden(self.decoder.bare()) {
            return refused(Reply::bare_line_end(&settings.hostname, bare));
        }
        if settings.hop_limit != 0 && self.header.received() >= settings.hop_limit {
            return refused(Reply::too_many_hops());
        }
        None
    }

    /// What may not be, and cannot be mended: nobody knows what a bare CR was meant to be.
    fn forbidden(&self, bare: BareLines) -> Option<Bare> {
        match bare {
            BareLines { cr: true, .. } => Some(Bare::Cr),
            BareLines { lf: true, .. } if self.bare_lf == BareLf::Reject => Some(Bare::Lf),
            _ => None,
        }
    }
}
