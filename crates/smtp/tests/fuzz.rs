//! Mutated conversations and addresses: what must hold whatever a client sends. `fuzz/README.md` says how to run it for longer.
#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use staffetta_mail::{Address, QueueId};
use staffetta_smtp::server::{Action, Answer, Link, Question, SaslStep, Session, Settings};

/// Words that a mutation puts in.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"\r\n.\r\n",
    b"\n.\n",
    b"BDAT 5\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 3 LAST\r\n",
    b" LAST",
    b"MAIL FROM:<a@b.c>\r\n",
    b"RCPT TO:<d@e.f>\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"EHLO x\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"AUTH PLAIN ",
    b"SMTPUTF8",
    b"\xc3\xa9",
    b"\xff",
    b"<",
    b">",
    b"\"",
    b"@",
    b"=",
    b"+3D",
    b"\0",
    b"18446744073709551615",
];
/// Mutations in an ordinary run of the tests.
const FEW: u64 = 4_000;
const SIZE_LIMIT: u64 = 64;

/// xorshift64*: the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() >> 16) as usize % n }
    }
}

fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("corpus").map(|entry| entry.expect("file").path()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).expect("file")).collect()
}

fn mutate(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = corpus[chance.below(corpus.len())].clone();
    for _ in 0..=chance.below(6) {
        let (at, to) = (chance.below(input.len() + 1), chance.below(input.len() + 1));
        let (from, to) = (at.min(to), at.max(to));
        match chance.below(6) {
            0 => drop(input.drain(from..to.min(from + 8))),
            1 => input.splice(at..at, WORDS[chance.below(WORDS.len())].iter().copied()).for_each(drop),
            2 => {
                let copy = input[from..to].to_vec();
                input.splice(at..at, copy).for_each(drop);
            }
            3 => {
                let other = &corpus[chance.below(corpus.len())];
                let cut = chance.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[cut..]);
            }
            4 if at < input.len() => input[at] = chance.next() as u8,
            _ if at < input.len() => input[at] ^= 1 << chance.below(8),
            _ => {}
        }
    }
    input.truncate(4096);
    input
}

/// Runs the target for `FUZZ_SECONDS`, or a few times with a fixed seed.
fn fuzz(folder: &str, target: impl Fn(&[u8])) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = variable("FUZZ_SEED").unwrap_or(0x5741_4646).max(1);
    let end = variable("FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (corpus, mut chance, mut runs) = (corpus(folder), Chance(seed), 0_u64);
    corpus.iter().for_each(|input| target(input));
    while end.map_or(runs < FEW, |end| Instant::now() < end) {
        let input = mutate(&corpus, &mut chance);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input)));
        assert!(outcome.is_ok(), "seed {seed}, run {runs}: {:?}", String::from_utf8_lossy(&input));
        runs += 1;
    }
    eprintln!("{folder}: {runs} mutations, seed {seed}");
}

/// What came of a conversation.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    replies: String,
    stored: Vec<(usize, Vec<u8>)>,
}

/// Plays the input in pieces of so many octets, with a shell that says yes to everything.
fn play(input: &[u8], step: usize) -> Seen {
    let settings = Settings { size_limit: SIZE_LIMIT, mechanisms: vec!["PLAIN".into()], ..Settings::default() };
    let now = Instant::now();
    let mut session: Session = Session::new(Arc::new(settings), Link::default(), now);
    let (mut buffer, mut output, mut body) = (BytesMut::new(), BytesMut::new(), None::<Vec<u8>>);
    let mut seen = Seen::default();
    let mut pieces = input.chunks(step);
    loop {
        match session.next(&mut buffer, &mut output, now) {
            Action::Read => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => break,
            },
            Action::Ask(Question::Data) => {
                body = Some(Vec::new());
                session.answer(Answer::Proceed, &mut output);
            }
            Action::Ask(Question::Store(envelope)) => {
                seen.stored.push((envelope.recipients.len(), body.take().expect("a body was opened")));
                session.answer(Answer::Stored(QueueId::new(0, 0, 1)), &mut output);
            }
            Action::Ask(Question::Sasl(SaslStep::Start { initial: None, .. })) => {
                session.answer(Answer::Challenge(Vec::new()), &mut output);
            }
            Action::Ask(Question::Sasl(_)) => session.answer(Answer::Success { login: "x".into() }, &mut output),
            Action::Ask(_) => session.answer(Answer::Proceed, &mut output),
            Action::Body(octets) => body.as_mut().expect("a body is open").extend_from_slice(&octets),
            Action::Abandon => body = None,
            Action::Refused(_) => {}
            Action::StartTls => session.tls_started(),
            Action::Close => break,
        }
    }
    seen.replies = String::from_utf8(output.to_vec()).expect("replies are ASCII");
    seen
}

fn no_bare(text: &[u8]) -> bool {
    let lone = |at: usize| match text[at] {
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || text[at - 1] != b'\r',
        _ => false,
    };
    !(0..text.len()).any(lone)
}

/// RFC 5321 sections 2.3.8, 4.5.3.1.5 and 4.1.1.4: replies are lines, and what is stored is lines, whatever came; it has a
/// recipient and fits; and packets do not matter, unless somebody talked out of turn.
#[test]
fn a_conversation_never_breaks_the_session() {
    fuzz("session", |input| {
        let whole = play(input, input.len().max(1));
        assert!(whole.replies.is_ascii() && no_bare(whole.replies.as_bytes()), "{:?}", whole.replies);
        assert!(whole.replies.split("\r\n").all(|line| line.len() <= 510));
        for (recipients, body) in &whole.stored {
            assert!(*recipients > 0 && no_bare(body) && body.len() as u64 <= SIZE_LIMIT + 2, "{body:?}");
            assert!(body.is_empty() || body.ends_with(b"\r\n"), "{body:?}");
        }
        if !whole.replies.contains("554 5.5.0 ") {
            assert_eq!(play(input, 1), whole);
        }
    });
}

#[test]
fn an_address_is_kept_or_refused() {
    fuzz("address", |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(address) = Address::parse(text) else { return };
        assert_eq!(address.as_str(), text);
        assert!(!text.chars().any(char::is_control), "{text:?}");
        let key = address.domain_key().unwrap_or_default();
        assert!(key.is_ascii() && !key.chars().any(|c| c.is_ascii_uppercase()), "{key:?}");
    });
}
