//! Messages to many destinations, held once for all of their jobs.
//!
//! Claims read records anew, or keep them for a moment only. For a message to a thousand domains that would be many copies of
//! an envelope with a thousand recipients; here the first one read serves all jobs that are at hand at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use staffetta_mail::QueueId;
use staffetta_queue::{Body, Message};
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use crate::form::Forms;
use crate::signing::Seal;

/// Entries after which those of messages that are gone are looked for, at first.
const SWEEP: usize = 256;

/// What all jobs of a message share.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) message: Arc<Message>,
    pub(crate) body: Body,
    /// The signatures, once they are made.
    pub(crate) seal: OnceCell<Option<Arc<Seal>>>,
    /// The forms that were found.
    pub(crate) forms: Forms,
    /// The memory that it takes, whoever read it.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// Letters at hand.
#[derive(Default)]
pub(crate) struct Letters(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    letters: HashMap<QueueId, Weak<Letter>>,
    sweep_at: usize,
}

impl Letters {
    /// The one that is at hand already, or the one that `new` makes of what was read.
    pub(crate) fn share(&self, id: QueueId, new: impl FnOnce() -> Letter) -> Arc<Letter> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(letter) = shelf.letters.get(&id).and_then(Weak::upgrade) {
            return letter;
        }
        let letter = Arc::new(new());
        shelf.letters.insert(id, Arc::downgrade(&letter));
        if shelf.letters.len() >= shelf.sweep_at.max(SWEEP) {
            shelf.letters.retain(|_, letter| letter.strong_count() > 0);
            shelf.sweep_at = 2 * shelf.letters.len();
        }
        letter
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_mail::{Envelope, ReversePath};
    use staffetta_queue::Origin;

    use super::*;

    fn letter(id: QueueId) -> Letter {
        let origin = Origin { listener: "smtp".into(), client: None, helo: String::new(), login: None, span: None };
        let envelope = Envelope::new(ReversePath::Null, Vec::new());
        let message = Arc::new(Message { id, arrived: 0, expires: 0, size: 1, long_lines: false, envelope, origin });
        Letter { message, body: Body::Inline("x".into()), seal: OnceCell::new(), forms: Forms::default(), _room: None }
    }

    #[test]
    fn jobs_of_a_message_at_hand_share_one_letter_and_later_ones_read_it_anew() {
        let (letters, id) = (Letters::default(), QueueId::new(0, 1, 1));
        let first = letters.share(id, || letter(id));
        let second = letters.share(id, || panic!("read twice"));
        assert!(Arc::ptr_eq(&first, &second));
        let other = QueueId::new(0, 1, 2);
        assert!(!Arc::ptr_eq(&first, &letters.share(other, || letter(other))));
        drop((first, second));
        assert_eq!(Arc::strong_count(&letters.share(id, || letter(id))), 1);
    }

    #[test]
    fn messages_that_are_gone_are_forgotten() {
        let letters = Letters::default();
        for n in 0..10 * SWEEP as u64 {
            let id = QueueId::new(0, 1, u32::try_from(n).unwrap());
            letters.share(id, || letter(id));
        }
        assert!(letters.0.lock().unwrap().letters.len() <= SWEEP);
    }
}
