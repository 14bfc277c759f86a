//! `[log]`: the mail log and diagnostics.

use crate::kind::{Choice, LogLevel, SyslogName};
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
        /// What programs are called by with `format = "postfix"`: `staffetta/qmgr`. With `"postfix"`, tools for Postfix find the
        /// lines without being told: fail2ban's filters, pflogsumm. A listener called `smtp` is plain `postfix/smtpd` then,
        /// as the service on port 25 is there.
        value syslog_name: String as SyslogName = "staffetta",
    }
}

choices! {
    /// How records are written.
    pub enum LogFormat {
        /// One JSON object a line, with flat keys.
        Json = "json",
        /// The line that Postfix would write, for tools that read those; behind `syslog_name` comes the listener's name.
        Postfix = "postfix",
    }
}
