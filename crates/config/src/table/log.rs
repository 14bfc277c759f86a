//! `[log]`: the mail log and diagnostics.

use crate::kind::{Choice, LogLevel};
use crate::settings::{choices, settings};

settings! {
    /// The mail log goes to standard output, one record for everything that happens to a message, and is always
    /// complete. Diagnostics go to standard error, filtered by `level`.
    pub struct Log {
        /// How records are written.
        value format: LogFormat as Choice<LogFormat> = "json",
        /// Which diagnostics are written: a level for Staffetta's own code, or a list with levels for single modules.
        /// From `debug` on, the mail log has records of connections too.
        value level: String as LogLevel = "info",
    }
}

choices! {
    /// How records are written.
    pub enum LogFormat {
        /// One JSON object a line, with flat keys.
        Json = "json",
        /// The line that Postfix would write, for tools that read those; the listener's name is in the place of
        /// `syslog_name`. For pflogsumm: `--syslog-name='staffetta(?:/[\w-]+(?=/))?'`.
        Postfix = "postfix",
    }
}
