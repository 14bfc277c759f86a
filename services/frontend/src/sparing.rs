//! Log lines that strangers cause at will: a few in a second. The metrics have all of what was left out, and the next line
//! says how many there were.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// Lines of one second.
const LINES: u32 = 20;

/// The lines of one kind.
#[derive(Debug, Default)]
pub(crate) struct Sparing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the second ends.
    ends: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Sparing {
    /// Is there room for a line? How many were left out since the last one.
    pub(crate) fn line(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ends.is_none_or(|ends| now >= ends) {
            (state.ends, state.lines) = (Some(now + SECOND), 0);
        }
        if state.lines == LINES {
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_by_the_next_line() {
        let (sparing, start) = (Sparing::default(), Instant::now());
        let told: Vec<u64> = (0..100).filter_map(|_| sparing.line(start)).collect();
        assert_eq!(told, [0; LINES as usize]);
        assert_eq!(sparing.line(start + SECOND / 2), None);
        assert_eq!(sparing.line(start + SECOND), Some(81));
        assert_eq!(sparing.line(start + SECOND), Some(0));
    }
}
