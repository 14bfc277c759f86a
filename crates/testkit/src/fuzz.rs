//! Mutations of a corpus, on stable Rust: what `make fuzz` runs for a minute each target, and the tests a few thousand times.

use std::path::Path;
use std::time::{Duration, Instant};

/// Mutations in an ordinary run of the tests.
const FEW: u64 = 4_000;

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

#[expect(clippy::expect_used, reason = "without a corpus there is nothing to do")]
fn corpus(folder: &str) -> Vec<Vec<u8>> {
    // Tests run in the folder of their package. What is known at compile time is where they were built first.
    let folder = Path::new("../../fuzz").join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("corpus").map(|entry| entry.expect("file").path()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).expect("file")).collect()
}

fn mutate(corpus: &[Vec<u8>], words: &[&[u8]], chance: &mut Chance) -> Vec<u8> {
    let mut input = corpus[chance.below(corpus.len())].clone();
    for _ in 0..=chance.below(6) {
        let (at, to) = (chance.below(input.len() + 1), chance.below(input.len() + 1));
        let (from, to) = (at.min(to), at.max(to));
        match chance.below(6) {
            0 => drop(input.drain(from..to.min(from + 8))),
            1 => input.splice(at..at, words[chance.below(words.len())].iter().copied()).for_each(drop),
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

/// Runs the target on what is in this folder of `fuzz/`, and on mutations of it, into which `words` are put: for
/// `FUZZ_SECONDS`, or a few times with a fixed seed.
///
/// # Panics
/// When the target does; the seed and the input are told.
#[expect(clippy::print_stderr, reason = "how much was tried")]
pub fn fuzz(folder: &str, words: &[&[u8]], target: impl Fn(&[u8])) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = variable("FUZZ_SEED").unwrap_or(0x5741_4646).max(1);
    let end = variable("FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (corpus, mut chance, mut runs) = (corpus(folder), Chance(seed), 0_u64);
    corpus.iter().for_each(|input| target(input));
    while end.map_or(runs < FEW, |end| Instant::now() < end) {
        let input = mutate(&corpus, words, &mut chance);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input)));
        assert!(outcome.is_ok(), "seed {seed}, run {runs}: {:?}", String::from_utf8_lossy(&input));
        runs += 1;
    }
    eprintln!("{folder}: {runs} mutations, seed {seed}");
}
