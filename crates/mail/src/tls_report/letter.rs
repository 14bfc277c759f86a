//! The message that brings a report (section 5.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Report;
use crate::Address;
use crate::trace::date;

/// What the message needs besides the report.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// Who sends it; the message is signed for its domain.
    pub from: &'a Address,
    /// Who gets it.
    pub to: &'a Address,
    /// Now.
    pub now: jiff::Timestamp,
    /// The report, compressed.
    pub attachment: &'a [u8],
}

/// Octets of a line of base64 (RFC 2045 section 6.8), before they are encoded.
const LINE: usize = 57;

/// A whole message, in ASCII. Whoever gets it is told of trouble with TLS, so TLS must not keep it away (RFC 8689 section 5).
pub fn letter(report: &Report<'_>, Letter { from, to, now, attachment }: Letter<'_>) -> Vec<u8> {
    let Report { domain, submitter, id, period, .. } = report;
    let (start, end) = period;
    let (now, file) = (date(now), report.file_name());
    // No line of base64, nor of the words, begins like this.
    let boundary = format!("=_{}/tlsrpt", start.as_second());
    let mut out = format!(
        "From: {from}\r\n\
         To: {to}\r\n\
         Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n Report-ID: <{id}>\r\n\
         Date: {now}\r\n\
         Message-ID: <{id}>\r\n\
         Auto-Submitted: auto-generated\r\n\
         TLS-Report-Domain: {domain}\r\n\
         TLS-Report-Submitter: {submitter}\r\n\
         TLS-Required: No\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\
         \tboundary=\"{boundary}\"\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         This is a report on the TLS of mail that {submitter} has sent\r\n\
         to {domain}, from {start} to {end} (RFC 8460).\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: application/tlsrpt+gzip\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment;\r\n\
         \tfilename=\"{file}\"\r\n\
         \r\n"
    );
    for line in attachment.chunks(LINE) {
        STANDARD.encode_string(line, &mut out);
        out.push_str("\r\n");
    }
    out.push_str(&format!("\r\n--{boundary}--\r\n"));
    out.into_bytes()
}
