//! Quoted-printable (RFC 2045 section 6.7), octets in, text out.

/// The longest line, the `=` of a soft line break included.
const MAX_LINE: usize = 76;

/// The encoder of one part.
#[derive(Debug, Default)]
pub(super) struct Quoted {
    /// Octets of the line that is written.
    column: usize,
    /// A blank or a CR: what follows says what becomes of it.
    held: Option<u8>,
    /// The line began with a soft line break.
    soft: bool,
}

impl Quoted {
    /// The next octets.
    pub(super) fn update(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for &octet in octets {
            match (self.held.take(), octet) {
                (Some(b'\r'), b'\n') => self.end_line(out),
                (held, b'\r' | b' ' | b'\t') => {
                    // Blanks before a line end are encoded, others are not.
                    match held {
                        Some(blank) if octet == b'\r' && blank != b'\r' => self.encode(blank, out),
                        Some(held) => self.release(held, out),
                        None => {}
                    }
                    self.held = Some(octet);
                }
                (held, octet) => {
                    held.into_iter().for_each(|held| self.release(held, out));
                    self.put(octet, out);
                }
            }
        }
    }

    /// The part has ended.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held.take() {
            self.encode(held, out);
        }
        *self = Self::default();
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        (self.column, self.soft) = (0, false);
    }

    /// It stands within a line.
    fn release(&mut self, held: u8, out: &mut Vec<u8>) {
        if held == b'\r' { self.encode(held, out) } else { self.write(&[held], out) }
    }

    fn put(&mut self, octet: u8, out: &mut Vec<u8>) {
        match octet {
            // A soft line break makes no boundary of the middle of a line.
            b'-' if self.column == 0 && self.soft || self.column == MAX_LINE - 1 => self.encode(octet, out),
            b'!'..=b'<' | b'>'..=b'~' => self.write(&[octet], out),
            _ => self.encode(octet, out),
        }
    }

    fn encode(&mut self, octet: u8, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let digit = |value: u8| DIGITS[usize::from(value & 15)];
        self.write(&[b'=', digit(octet >> 4), digit(octet)], out);
    }

    fn write(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.column + text.len() > MAX_LINE - 1 {
            out.extend_from_slice(b"=\r\n");
            (self.column, self.soft) = (0, true);
        }
        out.extend_from_slice(text);
        self.column += text.len();
    }
}
