//! Numbered fields: how version 2 frames what it says.
//!
//! A field is a key, a length and so many octets; key and length are numbers of 7 bits an octet, lowest first (LEB128). The
//! lowest bit of a key says that a reader who does not know the field must not use what it stands in.

use super::ReadError;

const CUT: ReadError = ReadError::Damaged("it is cut short");

/// The key of a field that a reader may overlook.
pub(super) const fn optional(number: u64) -> u64 {
    number << 1
}

/// The key of a field that a reader must know.
pub(super) const fn needed(number: u64) -> u64 {
    number << 1 | 1
}

/// Refuses a field that must be known, when it is not.
pub(super) fn overlook(key: u64) -> Result<(), ReadError> {
    if key & 1 == 1 { Err(ReadError::Field(key >> 1)) } else { Ok(()) }
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a field.
pub(super) fn put(out: &mut Vec<u8>, key: u64, octets: &[u8]) {
    put_number(out, key);
    put_number(out, octets.len() as u64);
    out.extend_from_slice(octets);
}

/// Appends a field with numbers.
pub(super) fn put_numbers(out: &mut Vec<u8>, key: u64, numbers: impl IntoIterator<Item = u64>) {
    put_nested(out, key, |out| numbers.into_iter().for_each(|number| put_number(out, number)));
}

/// Appends a field that `write` fills.
pub(super) fn put_nested(out: &mut Vec<u8>, key: u64, write: impl FnOnce(&mut Vec<u8>)) {
    put_number(out, key);
    let start = out.len();
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
        return;
    }
    let mut long = Vec::with_capacity(10);
    put_number(&mut long, length as u64);
    out.splice(start..=start, long);
}

/// Takes a number off the front.
pub(super) fn take_number(rest: &mut &[u8]) -> Result<u64, ReadError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&octet, behind) = rest.split_first().ok_or(CUT)?;
        *rest = behind;
        number |= u64::from(octet & 0x7f) << shift;
        if octet < 0x80 {
            return Ok(number);
        }
    }
    Err(ReadError::Damaged("a number is too long"))
}

/// Takes so many octets off the front.
pub(super) fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], ReadError> {
    let length = usize::try_from(length).map_err(|_| CUT)?;
    let (octets, behind) = rest.split_at_checked(length).ok_or(CUT)?;
    *rest = behind;
    Ok(octets)
}

/// Takes a field off the front, with its octets as they stand.
pub(super) fn take_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, ReadError> {
    let whole = *rest;
    let key = take_number(rest)?;
    let length = take_number(rest)?;
    let octets = take(rest, length)?;
    Ok(Field { key, octets, raw: &whole[..whole.len() - rest.len()] })
}

/// One field.
pub(super) struct Field<'a> {
    pub(super) key: u64,
    pub(super) octets: &'a [u8],
    /// Key and length as well.
    pub(super) raw: &'a [u8],
}

impl<'a> Field<'a> {
    pub(super) fn text(&self) -> Result<&'a str, ReadError> {
        std::str::from_utf8(self.octets).map_err(|_| ReadError::Damaged("a text is not UTF-8"))
    }

    pub(super) fn numbers(&self) -> Result<Vec<u64>, ReadError> {
        let (mut rest, mut numbers) = (self.octets, Vec::new());
        while !rest.is_empty() {
            numbers.push(take_number(&mut rest)?);
        }
        Ok(numbers)
    }

    /// The first number; what follows belongs to a newer program.
    pub(super) fn number(&self) -> Result<u64, ReadError> {
        take_number(&mut { self.octets })
    }
}

/// A number of a narrower type.
pub(super) fn narrow<T: TryFrom<u64>>(number: u64) -> Result<T, ReadError> {
    T::try_from(number).map_err(|_| ReadError::Damaged("a number is too large"))
}
