//! The time in front of a record, and the cheap way to write it.
//!
//! A date is taken apart once a second and kept; within the second only the milliseconds change.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::number::push_padded;
use crate::LogFormat;

/// The last second that was written, with its text.
pub(crate) struct Stamp {
    zone: TimeZone,
    format: LogFormat,
    second: Option<u64>,
    text: String,
}

impl Stamp {
    /// `zone` matters for the Postfix format, which knows local time only.
    pub(crate) fn new(zone: TimeZone) -> Self {
        Self { zone, format: LogFormat::Json, second: None, text: String::new() }
    }

    /// `2026-11-24T04:17:27.125Z` (RFC 3339).
    pub(super) fn push_rfc3339(&mut self, out: &mut Vec<u8>, now: SystemTime) {
        let since = self.refresh(LogFormat::Json, now);
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'.');
        push_padded(out, u64::from(since.subsec_millis()), 3);
        out.push(b'Z');
    }

    /// `Nov 24 04:17:27`, in local time; the day is padded with a space (RFC 3164 section 4.1.2).
    pub(super) fn push_classic(&mut self, out: &mut Vec<u8>, now: SystemTime) {
        self.refresh(LogFormat::Postfix, now);
        out.extend_from_slice(self.text.as_bytes());
    }

    fn refresh(&mut self, format: LogFormat, now: SystemTime) -> Duration {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) || self.format != format {
            self.second = Some(since.as_secs());
            self.format = format;
            self.text = self.render(since.as_secs());
        }
        since
    }

    fn render(&self, second: u64) -> String {
        let time = i64::try_from(second).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default();
        match self.format {
            LogFormat::Json => time.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            LogFormat::Postfix => time.to_zoned_datetime(self.zone.clone()).strftime("%b %e %H:%M:%S").to_string(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn both_forms_follow_the_second() {
        let mut stamp = Stamp::new(TimeZone::UTC);
        let mut at = |millis: u64, format: LogFormat| {
            let (mut out, now) = (Vec::new(), UNIX_EPOCH + Duration::from_millis(millis));
            match format {
                LogFormat::Json => stamp.push_rfc3339(&mut out, now),
                LogFormat::Postfix => stamp.push_classic(&mut out, now),
            }
            String::from_utf8(out).unwrap()
        };
        assert_eq!(at(1_795_493_847_005, LogFormat::Json), "2026-11-24T04:17:27.005Z");
        assert_eq!(at(1_795_493_847_999, LogFormat::Json), "2026-11-24T04:17:27.999Z");
        assert_eq!(at(1_795_493_848_000, LogFormat::Json), "2026-11-24T04:17:28.000Z");
        assert_eq!(at(1_795_493_848_000, LogFormat::Postfix), "Nov 24 04:17:28");
        assert_eq!(at(1_793_765_848_000, LogFormat::Postfix), "Nov  4 04:17:28");
        assert_eq!(at(0, LogFormat::Json), "1970-01-01T00:00:00.000Z");
    }
}
