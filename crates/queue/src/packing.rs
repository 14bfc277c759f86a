//! Pieces of bodies as frames of zstd (RFC 8878).
//!
//! Each piece is a frame of its own, so it is asked for again, and moved, without the others. The first piece of a body decides for all of
//! it: where it does not shrink by a tenth the others are not tried, and where it does each is a frame, in the worst case one with the
//! octets as they are.
//!
//! What is read was written by us, and is judged as if it was not: a frame says how much it holds, that is compared with what a piece may
//! be before anything is allocated, and must turn out to be true.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::get_frame_content_size;

/// The next one takes twice the time for a twentieth less.
const LEVEL: i32 = 1;

/// What a thread keeps, or each piece would allocate it anew.
struct Packer {
    compressor: Compressor<'static>,
    frame: Vec<u8>,
}

thread_local! {
    static PACKER: RefCell<Option<Packer>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Decompressor<'static>> = RefCell::default();
}

/// Makes a frame of a piece where that is smaller by a tenth at least; else it stays as it is, and the answer is false.
pub(crate) fn pack_if_it_pays(piece: &mut Vec<u8>) -> bool {
    let room = piece.len() / 10 * 9;
    pack_into(piece, room).is_ok()
}

/// Makes a frame of a piece, whatever its size becomes.
///
/// # Errors
/// There is no memory for it.
pub(crate) fn pack(piece: &mut Vec<u8>) -> io::Result<()> {
    let room = zstd::compress_bound(piece.len());
    pack_into(piece, room)
}

/// In its place: the room that was allocated for a piece serves the next one. A frame of more octets than `room` is an error.
fn pack_into(piece: &mut Vec<u8>, room: usize) -> io::Result<()> {
    PACKER.with_borrow_mut(|packer| {
        let packer = match packer {
            Some(packer) => packer,
            None => packer.insert(Packer { compressor: Compressor::new(LEVEL)?, frame: Vec::new() }),
        };
        if packer.frame.len() < room {
            packer.frame.resize(room, 0);
        }
        let length = packer.compressor.compress_to_buffer(piece, &mut packer.frame[..room])?;
        piece.clear();
        piece.extend_from_slice(&packer.frame[..length]);
        Ok(())
    })
}

/// The piece in a frame.
///
/// # Errors
/// It is not a whole frame, or one with more octets than `limit`.
pub(crate) fn unpack(frame: &[u8], limit: usize) -> Result<Bytes, &'static str> {
    let Ok(Some(said)) = get_frame_content_size(frame) else { return Err("it is no frame that says its size") };
    let size = usize::try_from(said).ok().filter(|size| *size <= limit).ok_or("it says that it holds too much")?;
    let mut piece = Vec::with_capacity(size);
    UNPACKER
        .with_borrow_mut(|unpacker| unpacker.decompress_to_buffer(frame, &mut piece))
        .map_err(|_| "its frame is damaged")?;
    if piece.len() == size { Ok(piece.into()) } else { Err("it does not hold what it says") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 256 * 1024;

    fn packed(octets: &[u8]) -> Vec<u8> {
        let mut piece = octets.to_vec();
        pack(&mut piece).unwrap_or_default();
        piece
    }

    /// Octets without any order.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(size)
        .collect()
    }

    #[test]
    fn a_piece_of_any_size_comes_back_as_it_was() {
        for size in [0, 1, 17, 4_096, LIMIT - 1, LIMIT] {
            for octets in [vec![b'x'; size], noise(size)] {
                assert_eq!(unpack(&packed(&octets), LIMIT).as_deref(), Ok(&*octets), "{size}");
            }
        }
    }

    #[test]
    fn what_shrinks_by_less_than_a_tenth_stays_as_it_is() {
        // So many octets of a hundred have an order.
        for (ordered, pays) in [(0, false), (5, false), (20, true), (100, true)] {
            let size = 100_000;
            let whole = [vec![b'x'; size / 100 * ordered], noise(size / 100 * (100 - ordered))].concat();
            let mut piece = whole.clone();
            let capacity = piece.capacity();
            assert_eq!(pack_if_it_pays(&mut piece), pays, "{ordered}");
            assert!(piece.capacity() == capacity && (piece.len() <= size * 9 / 10) == pays, "{}", piece.len());
            assert_eq!(piece == whole, !pays, "{ordered}");
        }
        assert!(!pack_if_it_pays(&mut Vec::new()) && !pack_if_it_pays(&mut vec![b'x'; 12]), "too small to shrink");
    }

    #[test]
    fn a_frame_that_lies_is_an_error_and_allocates_nothing() {
        let honest = packed(&vec![b'x'; LIMIT]);
        assert_eq!(unpack(&honest, LIMIT - 1), Err("it says that it holds too much"));
        // Magic, a descriptor with 8 octets for the size, and a size beyond all memory.
        let boast = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &[0xff; 7], &[0x7f], &[1, 0, 0]].concat();
        assert_eq!(unpack(&boast, LIMIT), Err("it says that it holds too much"));
        for lie in [b"".as_slice(), b"x", b"no frame at all", &boast[..5], &honest[..honest.len() - 1]] {
            assert!(unpack(lie, LIMIT).is_err(), "{lie:?}");
        }
        // Two frames, where the first says what both may hold.
        let twice = [packed(b"a piece"), packed(b"and another")].concat();
        assert!(unpack(&twice, LIMIT).is_err());
        assert!(unpack(&[&honest, b"more".as_slice()].concat(), LIMIT).is_err());
    }

    proptest! {
        #[test]
        fn no_octets_are_more_than_the_limit_or_a_panic(
            octets in prop::collection::vec(any::<u8>(), 0..3_000),
            order in 0..4_usize,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            limit in 0..4_000_usize,
        ) {
            let octets = if order == 0 { octets } else { octets.repeat(order) };
            let mut frame = packed(&octets);
            for (at, octet) in &flips {
                let at = at.index(frame.len());
                frame[at] = *octet;
            }
            for frame in [&*frame, &*octets] {
                if let Ok(piece) = unpack(frame, limit) {
                    prop_assert!(piece.len() <= limit);
                }
            }
            if flips.is_empty() {
                let piece = unpack(&frame, octets.len());
                prop_assert_eq!(piece.as_deref(), Ok(&*octets));
            }
        }
    }
}
