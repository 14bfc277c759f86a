//! Until when a client is waited for: it may not be silent for longer than the timeout, and not make a command last, nor
//! send a message too slowly, by one octet at a time.

use std::time::{Duration, Instant};

use crate::standing::Settings;

/// A command line may take as long as this, also where the timeout is shorter.
const COMMAND: Duration = Duration::from_secs(60);

/// The clocks of a session.
#[derive(Debug)]
pub(super) struct Pace {
    deadline: Instant,
    /// When the command at hand, or the content, was first waited for.
    began: Instant,
    /// Octets of content since then; `None` outside of it.
    content: Option<u64>,
}

impl Pace {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        Self { deadline: now + settings.timeout, began: now, content: None }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// So many octets of content came.
    pub(super) fn received(&mut self, octets: usize) {
        if let Some(content) = &mut self.content {
            *content += octets as u64;
        }
    }

    /// More of a command is waited for; `anew`: of the next one.
    pub(super) fn await_command(&mut self, settings: &Settings, anew: bool, now: Instant) {
        let after_content = self.content.take().is_some();
        if anew || after_content {
            self.began = now;
        }
        self.deadline = now + settings.timeout;
        self.limit(self.began + settings.timeout.max(COMMAND));
    }

    /// More of the content is waited for. The whole of it may take the timeout, and as long as its octets need at the
    /// slowest rate that is taken.
    pub(super) fn await_content(&mut self, settings: &Settings, now: Instant) {
        if self.content.is_none() {
            self.content = Some(0);
            self.began = now;
        }
        self.deadline = now + settings.timeout;
        if let Some(millis) = (self.content.unwrap_or(0) * 1000).checked_div(settings.min_data_rate) {
            self.limit(self.began + settings.timeout + Duration::from_millis(millis));
        }
    }

    fn limit(&mut self, end: Instant) {
        self.deadline = self.deadline.min(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings(timeout: u64, min_data_rate: u64) -> Settings {
        Settings { timeout: Duration::from_secs(timeout), min_data_rate, ..Settings::default() }
    }

    #[test]
    fn a_command_may_drip_but_not_for_ever() {
        let (settings, start) = (settings(3, 0), Instant::now());
        let mut pace = Pace::new(&settings, start);
        let mut now = start;
        while now < pace.deadline() && now < start + 600 * SECOND {
            pace.await_command(&settings, false, now);
            now += 2 * SECOND;
        }
        assert_eq!(pace.deadline(), start + COMMAND);
        pace.await_command(&settings, true, now);
        assert_eq!(pace.deadline(), now + 3 * SECOND, "the next command has its own time");
    }

    #[test]
    fn content_must_keep_up_with_the_slowest_rate() {
        let (settings, start) = (settings(10, 500), Instant::now());
        for (octets_a_second, survives) in [(10, false), (490, false), (510, true), (100_000, true)] {
            let mut pace = Pace::new(&settings, start);
            let mut now = start;
            let end = start + 3_600 * SECOND;
            pace.await_content(&settings, now);
            while now < end && now < pace.deadline() {
                now += SECOND;
                pace.received(octets_a_second);
                pace.await_content(&settings, now);
            }
            assert_eq!(now >= end, survives, "{octets_a_second}");
        }
    }

    #[test]
    fn each_message_has_its_own_average_and_without_a_rate_only_silence_counts() {
        let (slow, start) = (settings(10, 500), Instant::now());
        let mut pace = Pace::new(&slow, start);
        pace.await_content(&slow, start);
        pace.received(1_000_000);
        let later = start + 5 * SECOND;
        pace.await_command(&slow, true, later);
        pace.await_content(&slow, later);
        assert_eq!(pace.deadline(), later + 10 * SECOND);
        pace.await_content(&slow, later + 9 * SECOND);
        assert_eq!(pace.deadline(), later + 10 * SECOND, "nothing came");

        let patient = settings(10, 0);
        pace.await_content(&patient, later + 9 * SECOND);
        assert_eq!(pace.deadline(), later + 19 * SECOND);
    }
}
