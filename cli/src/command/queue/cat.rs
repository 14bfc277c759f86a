//! `staffetta queue cat`: a message as it is stored, which is as the next host gets it.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use staffetta_queue::{Body, Queue};

use crate::arguments::Cat;
use crate::terminal::say;

const END: &[u8] = b"\r\n\r\n";

pub(super) async fn print(queue: &Queue, cat: &Cat) -> anyhow::Result<ExitCode> {
    let (prefix, body) = queue.stored(cat.id).await?.with_context(|| format!("{}: no such message", cat.id))?;
    let mut cut = Cut::new(!cat.body, !cat.header);
    let mut content = Vec::new();
    let mut write = |octets: &[u8]| -> io::Result<()> {
        let wanted = cut.take(octets);
        if cat.json {
            content.extend_from_slice(&wanted);
            return Ok(());
        }
        io::stdout().lock().write_all(&wanted)
    };
    let written = async {
        write(&prefix)?;
        match body {
            Body::Inline(body) => write(&body)?,
            Body::Chunks(chunks) => {
                for index in 0..chunks.count {
                    write(&queue.chunk(cat.id, &chunks, index).await?)?;
                }
            }
        }
        anyhow::Ok(())
    };
    match written.await {
        // A reader that has seen enough is no error.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {}
        written => written?,
    }
    if cat.json {
        say(&json!({ "queue_id": cat.id.to_string(), "content": String::from_utf8_lossy(&content) }).to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Cuts a message that comes in pieces behind its header section.
struct Cut {
    header: bool,
    body: bool,
    /// How many octets of the empty line have been seen; all of them: the body has begun.
    seen: usize,
}

impl Cut {
    fn new(header: bool, body: bool) -> Self {
        // A message may begin with the empty line.
        Self { header, body, seen: 2 }
    }

    /// What is wanted of this piece.
    fn take(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut end = 0;
        while self.seen < END.len() && end < octets.len() {
            self.seen = match octets[end] {
                octet if octet == END[self.seen] => self.seen + 1,
                b'\r' => 1,
                _ => 0,
            };
            end += 1;
        }
        let (header, body) = octets.split_at(end);
        [if self.header { header } else { &[] }, if self.body { body } else { &[] }].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_behind_its_header_wherever_its_pieces_end() {
        let message = b"Subject: a\r\nTo: b\r\n\r\nbody\r\n\r\nmore";
        for at in 0..=message.len() {
            for (header, body, wanted) in
                [(true, true, &message[..]), (true, false, &message[..21]), (false, true, &message[21..])]
            {
                let mut cut = Cut::new(header, body);
                let taken = [cut.take(&message[..at]), cut.take(&message[at..])].concat();
                assert_eq!(taken, wanted, "{at}");
            }
        }
        assert_eq!(Cut::new(false, true).take(b"\r\nonly a body"), b"only a body");
        assert_eq!(Cut::new(true, false).take(b"X: y\r\n"), b"X: y\r\n");
    }
}
