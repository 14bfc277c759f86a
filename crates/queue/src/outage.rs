//! What was said of a Redis that cannot be used, so that it is said once a process and outage: a dozen connections find out
//! the same within milliseconds, and where all services are one process, all of theirs.

use std::sync::{Mutex, PoisonError};

/// Reasons that are remembered; more at a time are no one outage.
const MOST: usize = 16;

static TOLD: Told = Told(Mutex::new(Vec::new()));

/// Has nobody said this yet in this outage? Whoever asks says it.
pub(crate) fn is_news(reason: &str) -> bool {
    TOLD.is_news(reason)
}

/// A connection came about: whatever comes next is another outage.
pub(crate) fn over() {
    TOLD.over();
}

struct Told(Mutex<Vec<String>>);

impl Told {
    fn is_news(&self, reason: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.iter().any(|other| other == reason) {
            return false;
        }
        if told.len() == MOST {
            told.remove(0);
        }
        told.push(reason.to_owned());
        true
    }

    fn over(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_news_once_in_an_outage() {
        let told = Told(Mutex::new(Vec::new()));
        assert!(told.is_news("a") && !told.is_news("a") && told.is_news("b") && !told.is_news("a"));
        told.over();
        assert!(told.is_news("a"), "the next outage");
        (0..2 * MOST).for_each(|number| assert!(told.is_news(&number.to_string())));
        assert!(told.0.lock().is_ok_and(|told| told.len() == MOST), "bounded");
    }
}
