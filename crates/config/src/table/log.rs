//! `[log]`: the mail log and diagnostics.

use secrecy::SecretString;

use crate::kind::{Any, Choice, LogLevel, SyslogName};
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
        /// What both streams say of addresses, and of logins. Domains, client addresses, queue ids and Message-IDs stay in any case,
        /// and mail itself is not changed.
        value addresses: Addresses as Choice<Addresses> = "full",
        /// The key of `"hashed"`: any long text, of 16 characters at least, the same for all services, or a message cannot be followed
        /// from one to the other. Whoever has it can find out whether a hash is that of an address. With another key
        /// the same address has another hash.
        hidden address_key or address_key_file: Option<SecretString> as Any = "",
    }
}

choices! {
    /// What is written of an address.
    pub enum Addresses {
        /// All of it.
        Full = "full",
        /// Twelve digits instead of what stands before the `@`, the same for the same address: `3f9a0c12ab34@example.org`. Needs
        /// `address_key`. `staffetta trace` finds a recipient by his address all the same.
        Hashed = "hashed",
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
