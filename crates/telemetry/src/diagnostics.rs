//! Diagnostics as records of JSON, in the shape that the mail log has: the same first fields, the same escapes.
//!
//! `event` is always `diagnostic`. What is told is in `message`, which part of the code tells it in `target`; what it is
//! about has fields of its own, with the names of the mail log where there is one. Lines are whole, of any length.

use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::time::SystemTime;

use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::maillog::{Json, Stamp, Text};
use crate::origin::Origin;

/// The value of `event`.
pub(crate) const NAME: &str = "diagnostic";

thread_local! {
    static LINE: RefCell<(Vec<u8>, Stamp)> = RefCell::new((Vec::new(), Stamp::new(TimeZone::UTC)));
}

/// Writes each event as one line.
pub(crate) struct Records(pub(crate) Origin);

impl<S, N> FormatEvent<S, N> for Records
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        LINE.with_borrow_mut(|(line, stamp)| {
            line.clear();
            let mut json = Json::begin(line, stamp, SystemTime::now());
            json.head(level(event.metadata().level()), NAME, &self.0);
            // Libraries that know only the crate `log` come here as `log`, with their own target in a field.
            if event.metadata().target() != "log" {
                json.str("target", event.metadata().target());
            }
            event.record(&mut Fields(&mut json));
            json.end();
            writer.write_str(std::str::from_utf8(line).map_err(|_| fmt::Error)?)
        })
    }
}

fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The fields of an event.
struct Fields<'a, 'j>(&'a mut Json<'j>);

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "log.target" => self.0.long("target", value),
            name if name.starts_with("log.") => {}
            "login" => self.0.long("login", Text::from(value).login()),
            name => self.0.long(name, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.bare(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.0.bare(field.name(), value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.bare(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.0.bare(field.name(), value);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `tell` tells, line by line.
    fn told(tell: impl FnOnce()) -> Vec<Value> {
        let page = Page::default();
        let writer = page.clone();
        let origin = Origin { host: "relay-0".into(), service: "auth", pid: 1, syslog_name: "x".into() };
        let subscriber =
            tracing_subscriber::fmt().event_format(Records(origin)).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, tell);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_diagnostic_has_the_shape_of_a_record() {
        let long = "x".repeat(3_000);
        let lines = told(|| {
            tracing::warn!(target: "staffetta_queue", qid = "A", count = 3, is_full = true, "a\nb {}", long);
            tracing::error!(target: "staffetta_queue", error = %"what \"it\" said\u{1b}", ratio = f64::NAN, "c");
        });
        let [first, second] = lines.as_slice() else { panic!("{lines:?}") };
        let mut first = first.clone();
        let time = first.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
        let expected = json!({
            "level": "warn", "event": "diagnostic", "pod": "relay-0", "service": "auth", "target": "staffetta_queue",
            "message": format!("a\nb {long}"), "qid": "A", "count": 3, "is_full": true,
        });
        assert_eq!(first, expected);
        assert_eq!((&second["level"], &second["error"]), (&json!("error"), &json!("what \"it\" said\u{1b}")));
        assert!(second.get("ratio").is_none(), "what is no number is no JSON");
    }

    #[test]
    fn a_library_that_knows_only_log_has_its_own_target() {
        let lines = told(|| {
            tracing::info!(target: "log", message = "m", log.target = "sqlx", log.module_path = "a", log.line = 7_u64);
        });
        assert_eq!((&lines[0]["target"], &lines[0]["message"]), (&json!("sqlx"), &json!("m")));
        assert!(lines[0].as_object().unwrap().keys().all(|key| !key.starts_with("log.")), "{lines:?}");
    }
}
