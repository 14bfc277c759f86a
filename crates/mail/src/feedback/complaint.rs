//! `message/feedback-report`: one group of fields (RFC 5965 section 3), and the header of what it is about.

use std::net::IpAddr;

use super::text_of;
use crate::Address;

/// What somebody says of a message that he got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What kind of complaint it is.
    pub kind: ComplaintKind,
    /// The program that wrote the report.
    pub user_agent: Option<String>,
    /// Where the message came from.
    pub source: Option<IpAddr>,
    /// The envelope sender of the message: by the report, or by the Return-Path of the message in it.
    pub senders: Vec<Address>,
    /// Who got it; often withheld.
    pub recipient: Option<Address>,
    /// Its Message-ID, without brackets.
    pub message_id: Option<String>,
}

/// The feedback types of RFC 5965 section 7.3 and of the IANA registry, as far as they are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComplaintKind {
    /// It is not wanted.
    Abuse,
    /// It deceives.
    Fraud,
    /// It carries something dangerous.
    Virus,
    /// The recipient wants no more of it.
    OptOut,
    /// It was taken for spam, and is none (RFC 6430).
    NotSpam,
    /// It failed a check of SPF, DKIM or DMARC (RFC 6591).
    AuthFailure,
    /// Anything else.
    Other,
}

impl ComplaintKind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Abuse, Self::Fraud, Self::Virus, Self::OptOut, Self::NotSpam, Self::AuthFailure, Self::Other];

    /// Its name, in reports, in the log and as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abuse => "abuse",
            Self::Fraud => "fraud",
            Self::Virus => "virus",
            Self::OptOut => "opt-out",
            Self::NotSpam => "not-spam",
            Self::AuthFailure => "auth-failure",
            Self::Other => "other",
        }
    }

    /// Does a recipient say that he wants no such mail?
    pub const fn is_unwanted(self) -> bool {
        matches!(self, Self::Abuse | Self::OptOut)
    }

    fn of(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|kind| name.eq_ignore_ascii_case(kind.as_str()));
        known.unwrap_or(Self::Other)
    }
}

/// What the fields of a report say, and the header of the message that it is about. `None`: no type is named.
pub(super) fn complaint(fields: &[u8], original: &[u8]) -> Option<Complaint> {
    let kind = ComplaintKind::of(text_of(fields, b"Feedback-Type")?.split(' ').next()?);
    let address = |section: &[u8], name| text_of(section, name)?.trim_matches(['<', '>']).parse().ok();
    let senders = [address(fields, b"Original-Mail-From"), address(original, b"Return-Path")];
    Some(Complaint {
        kind,
        user_agent: text_of(fields, b"User-Agent"),
        source: text_of(fields, b"Source-IP").and_then(|ip| ip.trim_matches(['[', ']']).parse().ok()),
        senders: senders.into_iter().flatten().collect(),
        recipient: address(fields, b"Original-Rcpt-To"),
        message_id: text_of(original, b"Message-ID").map(|id| id.trim_matches(['<', '>']).to_owned()),
    })
}
