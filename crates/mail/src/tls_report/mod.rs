//! Reports on the TLS of mail, for the domains that it goes to (TLSRPT, RFC 8460).
//!
//! ```text
//! sessions ─▶ Outcome × how many ─▶ Report ─▶ JSON ─▶ letter: a message, or what a web server is sent
//! TXT at _smtp._tls.<domain> ─▶ destinations: who wants to hear of it
//! ```
//!
//! An [`Outcome`] is what one session looked like from here: the policy that it was under, and what was wrong if something
//! was. A [`Report`] is all outcomes of one domain in one period, with their numbers.

mod letter;
mod wish;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use letter::{Letter, letter};
pub use wish::{Destination, destinations};

/// What was wrong with a session (section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// The host did not offer STARTTLS.
    #[serde(rename = "starttls-not-supported")]
    StartTlsNotSupported,
    /// Its certificate is for others.
    CertificateHostMismatch,
    /// Its certificate is not valid any more, or not yet.
    CertificateExpired,
    /// Nobody who is trusted vouches for its certificate, or it has another fault.
    CertificateNotTrusted,
    /// None of its TLSA records can be used.
    TlsaInvalid,
    /// DNSSEC says that somebody has changed its records, or nobody answers.
    DnssecInvalid,
    /// The policy could not be fetched.
    StsPolicyFetchError,
    /// What was fetched is no policy.
    StsPolicyInvalid,
    /// The web server of the policy has no good certificate.
    StsWebpkiInvalid,
    /// Something else.
    ValidationFailure,
}

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// TLSA records (DANE).
    #[serde(rename = "tlsa")]
    Tlsa,
    /// A web server (MTA-STS).
    #[serde(rename = "sts")]
    Sts,
    /// There is none.
    #[serde(rename = "no-policy-found")]
    None,
}

/// What sessions were under (section 4.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Where it comes from.
    #[serde(rename = "policy-type")]
    pub kind: Kind,
    /// Its lines, or the records.
    #[serde(rename = "policy-string", default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Whose it is: a domain, or with TLSA records a host.
    #[serde(rename = "policy-domain")]
    pub domain: String,
    /// The hosts that it names.
    #[serde(rename = "mx-host", default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// What went wrong, with whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// What it was.
    #[serde(rename = "result-type")]
    pub flaw: Flaw,
    /// From where.
    #[serde(rename = "sending-mta-ip", default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The host.
    #[serde(rename = "receiving-mx-hostname", default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its address.
    #[serde(rename = "receiving-ip", default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// In the words of this system.
    #[serde(rename = "failure-reason-code", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One session, or more that look the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// What it was under.
    pub policy: Policy,
    /// What was wrong; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What a domain is told.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The domain.
    pub domain: &'a str,
    /// Who tells it, in words.
    pub organization: &'a str,
    /// Whom to ask.
    pub contact: &'a str,
    /// The domain of who tells it.
    pub submitter: &'a str,
    /// Unique for the submitter.
    pub id: &'a str,
    /// The period: its first second and its last.
    pub period: (Timestamp, Timestamp),
    /// How many sessions looked like what.
    pub outcomes: Vec<(Outcome, u64)>,
}

impl Outcome {
    /// Kept as a text until it is reported.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None`: no outcome is written like this.
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// As it is written (section 4.4).
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    organization_name: &'a str,
    date_range: DateRange,
    contact_info: &'a str,
    report_id: &'a str,
    policies: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DateRange {
    start_datetime: String,
    end_datetime: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Entry<'a> {
    policy: &'a Policy,
    summary: Summary,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failure_details: Vec<Detail<'a>>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    failure: &'a Failure,
    #[serde(rename = "failed-session-count")]
    count: u64,
}

impl Report<'_> {
    /// The report as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut policies = BTreeMap::<&Policy, Entry<'_>>::new();
        for (Outcome { policy, failure }, count) in &self.outcomes {
            let new = || Entry { policy, summary: Summary::default(), failure_details: Vec::new() };
            let entry = policies.entry(policy).or_insert_with(new);
            match failure {
                None => add(&mut entry.summary.total_successful_session_count, *count),
                Some(failure) => {
                    add(&mut entry.summary.total_failure_session_count, *count);
                    entry.failure_details.push(Detail { failure, count: *count });
                }
            }
        }
        let (start, end) = self.period;
        let document = Document {
            organization_name: self.organization,
            date_range: DateRange { start_datetime: start.to_string(), end_datetime: end.to_string() },
            contact_info: self.contact,
            report_id: self.id,
            policies: policies.into_values().collect(),
        };
        serde_json::to_vec_pretty(&document).unwrap_or_default()
    }

    /// What the file is called (section 5.1).
    pub fn file_name(&self) -> String {
        let (start, end) = self.period;
        format!("{}!{}!{}!{}.json.gz", self.submitter, self.domain, start.as_second(), end.as_second())
    }
}

/// What is read is believed, but never beyond the number.
const fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

#[cfg(test)]
mod tests;
