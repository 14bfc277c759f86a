//! DKIM signatures (RFC 6376, 8301, 8463), without I/O: whose key signs a message, and what the signature says.
//!
//! A [`Keyring`] holds the keys of the configuration. [`Keyring::choose`] says who signs, by the [`author`] that the message
//! names and by who brought it. A [`Draft`] is fed the message in pieces of any size, as it will arrive; what it comes to is
//! a [`Digest`], and [`Keyring::sign`] makes of it the header fields that go in front. The message itself is not touched.
//!
//! Both canonical forms are `relaxed`. There is never an `l=`: what is not signed could be appended to. The fields that
//! readers act on are signed once more often than they are there, so that none can be added (RFC 6376 section 8.15).
//!
//! [`Key`] is a private key from a PEM file, [`record`] publishes it, [`compare`] says what the DNS has of it.

pub mod author;
mod body;
mod draft;
mod header;
mod key;
mod record;
mod ring;
mod signature;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod testing;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use draft::{Digest, Draft, TooLarge};
pub use key::{Algorithm, Key, KeyError, MIN_BITS};
pub use record::{Answer, compare, record, record_name, strings};
pub use ring::{Keyring, Row, Signers, Standing};
pub use signature::Unsigned;
