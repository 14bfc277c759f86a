//! Content on its way to the wire: behind a `354` with its dots doubled (RFC 5321 section 4.5.2), or in chunks (RFC 3030).

use bytes::{BufMut, BytesMut};

use super::stuffer::{Before, Stuffer};

/// The content of one message; [`super::Client::framer`] makes it. What arrives does not depend on how the content is cut.
#[derive(Debug)]
pub struct Framer(Frame);

#[derive(Debug)]
enum Frame {
    Dotted(Stuffer),
    Chunked(Chunker),
}

impl Framer {
    pub(super) fn new(chunking: bool) -> Self {
        Self(if chunking { Frame::Chunked(Chunker::default()) } else { Frame::Dotted(Stuffer::new()) })
    }

    /// The next octets. Some of them may be kept back until their number is known.
    pub fn append(&mut self, octets: &[u8], output: &mut BytesMut) {
        match &mut self.0 {
            Frame::Dotted(stuffer) => stuffer.append(octets, output),
            Frame::Chunked(chunker) => chunker.append(octets),
        }
    }

    /// All octets so far are in `output` now. True: as a chunk, so say [`super::Client::on_chunk_sent`].
    #[must_use]
    pub fn release(&mut self, output: &mut BytesMut) -> bool {
        match &mut self.0 {
            Frame::Chunked(chunker) if !chunker.held.is_empty() => {
                chunker.write("\r\n", output);
                true
            }
            Frame::Chunked(_) | Frame::Dotted(_) => false,
        }
    }

    /// The end: without it the content does not count. A last line gets its end if it lacks one.
    pub fn finish(self, output: &mut BytesMut) {
        match self.0 {
            Frame::Dotted(stuffer) => output.extend_from_slice(stuffer.finish()),
            Frame::Chunked(mut chunker) => {
                if chunker.before != Before::LineStart {
                    chunker.held.put_slice(b"\r\n");
                }
                chunker.write(" LAST\r\n", output);
            }
        }
    }
}

/// Octets that wait for the command in front of them.
#[derive(Debug, Default)]
struct Chunker {
    held: BytesMut,
    before: Before,
}

impl Chunker {
    fn append(&mut self, octets: &[u8]) {
        self.before = self.before.then(octets);
        self.held.extend_from_slice(octets);
    }

    /// RFC 3030 section 2: `BDAT n`, and behind it n octets.
    fn write(&mut self, end: &str, output: &mut BytesMut) {
        let command = format!("BDAT {}{end}", self.held.len());
        output.reserve(command.len() + self.held.len());
        output.put_slice(command.as_bytes());
        output.put_slice(&self.held);
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes out for these pieces, a chunk each.
    fn wire(pieces: &[&str]) -> (String, usize) {
        let (mut framer, mut output, mut chunks) = (Framer::new(true), BytesMut::new(), 0);
        for piece in pieces {
            framer.append(piece.as_bytes(), &mut output);
            chunks += usize::from(framer.release(&mut output));
        }
        framer.finish(&mut output);
        (String::from_utf8_lossy(&output).into_owned(), chunks)
    }

    #[test]
    fn rfc3030_2_octets_follow_their_number_as_they_are() {
        for (pieces, sent, chunks) in [
            (&[][..], "BDAT 0 LAST\r\n", 0),
            (&[""], "BDAT 0 LAST\r\n", 0),
            (&[".\r\n"], "BDAT 3\r\n.\r\nBDAT 0 LAST\r\n", 1),
            (&["a\r", "", "\n..\r\n"], "BDAT 2\r\na\rBDAT 5\r\n\n..\r\nBDAT 0 LAST\r\n", 2),
            (&["a"], "BDAT 1\r\naBDAT 2 LAST\r\n\r\n", 1),
        ] {
            assert_eq!(wire(pieces), (sent.to_owned(), chunks), "{pieces:?}");
        }
    }

    #[test]
    fn what_is_never_released_is_one_chunk() {
        let (mut framer, mut output) = (Framer::new(true), BytesMut::from(&b"RSET\r\n"[..]));
        framer.append(b"a\r\n", &mut output);
        framer.append(b".b", &mut output);
        framer.finish(&mut output);
        assert_eq!(output, &b"RSET\r\nBDAT 7 LAST\r\na\r\n.b\r\n"[..]);
    }

    #[test]
    fn without_chunking_dots_are_doubled_and_nothing_waits() {
        let (mut framer, mut output) = (Framer::new(false), BytesMut::new());
        framer.append(b".a\r\n.", &mut output);
        assert!(!framer.release(&mut output));
        assert_eq!(output, &b"..a\r\n.."[..]);
        framer.finish(&mut output);
        assert_eq!(output, &b"..a\r\n..\r\n.\r\n"[..]);
    }
}
