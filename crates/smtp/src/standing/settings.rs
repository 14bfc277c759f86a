//! How a listener is set up.

use std::time::Duration;

/// What the core of a session must know; one value serves all sessions of a listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name: greeting, EHLO, some replies.
    pub hostname: String,
    /// What follows the name in the greeting; must contain `ESMTP`. Default: `ESMTP Staffetta`.
    pub banner: String,
    /// Which gates stand in front of the commands.
    pub kind: Kind,
    /// Is STARTTLS available? Not offered once encrypted.
    pub starttls: bool,
    /// SASL mechanisms, in capitals, offered only once encrypted; none: AUTH is not enabled.
    pub mechanisms: Vec<String>,
    /// Largest message in octets, without stuffed dots; 0: unlimited.
    pub size_limit: u64,
    /// Most recipients of a message.
    pub recipient_limit: usize,
    /// Recipients beyond the limit that are refused without counting as errors (Postfix
    /// `smtpd_recipient_overshoot_limit`).
    pub overshoot_limit: usize,
    /// What becomes of LF without CR in content.
    pub bare_lf: BareLf,
    /// A message with so many Received fields loops; 0: not checked.
    pub hop_limit: u32,
    /// Is VRFY enabled?
    pub vrfy: bool,
    /// Is ETRN enabled? Who may use it is a question to the shell.
    pub etrn: bool,
    /// Must HELO or EHLO come before MAIL, AUTH and ETRN (RFC 5321 section 4.1.1.1)?
    pub helo_required: bool,
    /// After so many errors the next command is answered by 421.
    pub error_limit: u32,
    /// After so many HELO, EHLO, RSET, NOOP, VRFY, ETRN and HELP without a message each one more is an error.
    pub junk_limit: u32,
    /// Longest command line in octets, without its CRLF.
    pub line_limit: usize,
    /// How long to wait for more of a command, or of a message (RFC 5321 section 4.5.3.2.7: five minutes).
    pub timeout: Duration,
    /// Content that comes slower, in octets a second and on the average, is given up; 0: only silence is.
    pub min_data_rate: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            banner: "ESMTP Staffetta".to_owned(),
            kind: Kind::Relay,
            starttls: true,
            mechanisms: Vec::new(),
            size_limit: 40 << 20,
            recipient_limit: 1000,
            overshoot_limit: 1000,
            bare_lf: BareLf::default(),
            hop_limit: 50,
            vrfy: true,
            etrn: true,
            helo_required: true,
            error_limit: 20,
            junk_limit: 100,
            line_limit: 2048,
            timeout: Duration::from_secs(300),
            min_data_rate: 0,
        }
    }
}

/// What becomes of a LF without CR in content. In a command it always ends the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareLf {
    /// It becomes CRLF.
    #[default]
    Normalize,
    /// The message is refused.
    Reject,
}

/// Which gates stand in front of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Port 25: TLS and AUTH are welcome, not needed.
    Relay,
    /// Ports 587 and 465 (RFC 6409, RFC 8314): TLS, then AUTH, then mail.
    Submission,
}
