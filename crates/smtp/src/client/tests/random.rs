//! Servers that answer anything at any time: whatever they say, the books stay balanced.

use proptest::prelude::*;

use super::*;

/// Lines that lead far into a session, and lines that do not.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just("250 2.0.0 ok\r\n".to_owned()),
        3 => Just("354 go\r\n".to_owned()),
        2 => Just("550 5.1.1 no\r\n".to_owned()),
        1 => Just("451 later\r\n".to_owned()),
        1 => Just("503 nested\r\n".to_owned()),
        1 => Just("421 down\r\n".to_owned()),
        1 => Just("250-more\r\n".to_owned()),
        1 => "[0-9]{3}[ -]\\PC{0,4}\r\n",
    ]
}

/// What has been seen of a session.
#[derive(Default)]
struct Books {
    bodies: Vec<u64>,
    reports: Vec<u64>,
    delivered: Vec<u64>,
}

impl Books {
    fn check(&mut self, event: &Event, recipients: &[usize]) {
        match event {
            Event::SendBody(TransactionId(id)) => {
                assert!(!self.bodies.contains(id) && !self.reports.contains(id), "content twice or after its report");
                self.bodies.push(*id);
            }
            Event::Done(TransactionId(id), report) => {
                assert!(!self.reports.contains(id), "two reports");
                self.reports.push(*id);
                assert_eq!(report.outcomes.len(), recipients[*id as usize], "one outcome per recipient");
                if report.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered(_))) {
                    assert!(self.bodies.contains(id), "delivered without content");
                    self.delivered.push(*id);
                }
            }
            _ => {}
        }
    }
}

fn run(mut d: Dialogue, recipients: &[usize], script: &[String], chunks: usize) -> Books {
    let names: Vec<_> = (0..3).map(|i| format!("u{i}@b.c")).collect();
    for (id, &count) in (0..).zip(recipients) {
        let names: Vec<_> = names.iter().take(count).map(String::as_str).collect();
        d.session.submit(TransactionId(id), message(&names));
    }
    d.session.quit();
    let (mut books, mut script) = (Books::default(), script.iter());
    for _ in 0..1000 {
        let event = d.next();
        books.check(&event, recipients);
        match event {
            Event::Closed(_) => return books,
            Event::SendBody(_) => {
                let mut framer = d.session.framer();
                for _ in 0..chunks {
                    framer.append(b"x\r\n", &mut d.output);
                    if framer.release(&mut d.output) {
                        d.session.on_chunk_sent();
                    }
                    if !d.session.heed_chunks(&mut d.input, &mut d.output) {
                        break;
                    }
                }
                framer.finish(&mut d.output);
                d.session.on_body_sent();
            }
            Event::Read(_) => match script.next() {
                Some(line) => d.input.extend_from_slice(line.as_bytes()),
                None => d.session.on_lost(),
            },
            _ => {}
        }
    }
    panic!("the session does not end");
}

proptest! {
    #[test]
    fn every_session_ends_and_reports_each_transaction_at_most_once(
        script in prop::collection::vec(line(), 0..40),
        recipients in prop::collection::vec(1usize..=3, 0..4),
        pipelining: bool,
        lmtp: bool,
        chunks in prop::option::of(0usize..3),
    ) {
        let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        let offers = [(pipelining, "PIPELINING"), (chunks.is_some(), "CHUNKING")];
        let extensions: Vec<_> = offers.iter().filter(|(offered, _)| *offered).map(|(_, keyword)| *keyword).collect();
        let d = Dialogue::ready(ServerProfile { protocol, ..settings() }, &extensions);
        run(d, &recipients, &script, chunks.unwrap_or_default());
    }

    #[test]
    fn nothing_a_server_sends_makes_the_session_panic(
        octets in prop::collection::vec(any::<u8>(), 0..200), script in prop::collection::vec(line(), 0..8),
    ) {
        let mut d = Dialogue::new(settings());
        d.input.extend_from_slice(&octets);
        run(d, &[2, 1], &script, 0);
    }
}
