//! Who writes a record: what each line of both streams says of the process.

use std::sync::OnceLock;

static SYSLOG_NAME: OnceLock<String> = OnceLock::new();

/// What programs are called by in Postfix' format: `staffetta/smtp` begins with it. Before [`crate::init`]; the first one stays.
pub fn set_syslog_name(name: &str) {
    let _ = SYSLOG_NAME.set(name.to_owned());
}

/// The host, the service and the process.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The machine's name up to its first dot; in Kubernetes that is the pod's.
    pub(crate) host: String,
    /// What runs here: `frontend`, `auth` or `delivery`; `all` when they share a process.
    pub(crate) service: &'static str,
    /// The process.
    pub(crate) pid: u32,
    /// What the programs of Postfix' format begin with.
    pub(crate) syslog_name: String,
}

impl Origin {
    /// Of this process, which runs these services.
    pub(crate) fn here(services: &[&'static str]) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            host: host.split('.').next().unwrap_or_default().to_owned(),
            service: if let [one] = services { one } else { "all" },
            pid: std::process::id(),
            syslog_name: SYSLOG_NAME.get().map_or("staffetta", String::as_str).to_owned(),
        }
    }

    /// Postfix itself has a name for each service but the one on port 25, and what reads its lines relies on that.
    pub(crate) fn is_unnamed(&self, listener: &str) -> bool {
        self.syslog_name == "postfix" && listener == "smtp"
    }
}
