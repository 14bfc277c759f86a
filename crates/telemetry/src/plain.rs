//! Diagnostics as text: what is to be hidden in a line is hidden before it is written. In JSON each field sees to that.

use std::io::{self, Write};

use crate::maillog::hidden;

/// Writes whole lines, as the formatter hands them over.
pub(crate) struct Plain<W>(pub(crate) W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&hidden::in_text(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An address as the log has it.
pub fn as_logged(address: &str) -> String {
    String::from_utf8_lossy(&hidden::in_text(address.as_bytes())).into_owned()
}
