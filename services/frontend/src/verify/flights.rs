//! Questions under way: who asks about a recipient while another one does waits for that answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Answer;

/// By recipient. As many as there are clients who wait, and those who left lately.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Box<str>, Waiting>>);

/// Waits for the answer to a question that was put.
#[derive(Clone)]
pub(super) struct Waiting(watch::Receiver<Option<Answer>>);

/// A question under way; it is over when this is dropped, whatever ended it.
pub(super) struct Flight {
    flights: Arc<Flights>,
    who: Box<str>,
    answer: watch::Sender<Option<Answer>>,
}

impl Flights {
    /// The question about `who`, if there is one.
    pub(super) fn join(&self, who: &str) -> Option<Waiting> {
        self.all().get(who).cloned()
    }

    /// The one question about `who`: whoever gets the [`Flight`] puts it.
    pub(super) fn begin(self: &Arc<Self>, who: &str) -> (Option<Flight>, Waiting) {
        let mut all = self.all();
        if let Some(waiting) = all.get(who) {
            return (None, waiting.clone());
        }
        let (answer, receiver) = watch::channel(None);
        let waiting = Waiting(receiver);
        all.insert(who.into(), waiting.clone());
        (Some(Flight { flights: Arc::clone(self), who: who.into(), answer }), waiting)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Box<str>, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The answer. A question that came to nothing stops no mail.
    pub(super) async fn answer(mut self) -> Answer {
        let answer = self.0.wait_for(Option::is_some).await;
        answer.ok().and_then(|answer| answer.clone()).unwrap_or(Answer::Takes)
    }
}

impl Flight {
    /// Tells all who wait.
    pub(super) fn land(self, answer: Answer) {
        self.answer.send_replace(Some(answer));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.all().remove(&self.who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_asks_and_all_hear_the_answer() {
        let flights = Arc::new(Flights::default());
        assert!(flights.join("x").is_none());
        let (flight, first) = flights.begin("x");
        let (none, second) = flights.begin("x");
        assert!(none.is_none() && flights.join("y").is_none());
        let (Some(third), Some(flight)) = (flights.join("x"), flight) else { panic!("it is under way") };
        flight.land(Answer::Refuses("no".into()));
        for waiting in [first, second, third] {
            assert_eq!(waiting.answer().await, Answer::Refuses("no".into()));
        }
        assert!(flights.join("x").is_none(), "the next one asks again");
    }

    #[tokio::test]
    async fn a_question_that_breaks_off_stops_no_mail_and_no_other_question() {
        let flights = Arc::new(Flights::default());
        let (flight, waiting) = flights.begin("x");
        drop(flight);
        assert_eq!(waiting.answer().await, Answer::Takes);
        assert!(flights.begin("x").0.is_some());
    }
}
