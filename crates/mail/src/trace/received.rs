//! The Received field, as Postfix writes it.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::{Address, QueueId};

/// The date-time of RFC 5322 section 3.3, in UTC: `Tue, 24 Nov 2026 04:29:44 +0000`.
pub fn date(when: Timestamp) -> String {
    let (weekdays, months) = ("SunMonTueWedThuFriSat", "JanFebMarAprMayJunJulAugSepOctNovDec");
    let name = |names: &'static str, at: i8| names.get(3 * at as usize..).and_then(|rest| rest.get(..3)).unwrap_or("");
    let civil = TimeZone::UTC.to_datetime(when);
    let mut text = String::with_capacity(31);
    text.push_str(name(weekdays, civil.weekday().to_sunday_zero_offset()));
    text.push_str(", ");
    push_two(&mut text, civil.day());
    text.push(' ');
    text.push_str(name(months, civil.month() - 1));
    text.push(' ');
    for pair in [civil.year() / 100, civil.year() % 100] {
        push_two(&mut text, pair as i8);
    }
    for (mark, number) in [(' ', civil.hour()), (':', civil.minute()), (':', civil.second())] {
        text.push(mark);
        push_two(&mut text, number);
    }
    text.push_str(" +0000");
    text
}

/// Two digits. Every message needs some of them: a general formatter takes a tenth of the time of its intake.
fn push_two(text: &mut String, number: i8) {
    text.extend([number / 10, number % 10].map(|digit| char::from(b'0' + digit.unsigned_abs())));
}

/// The parts of a Received field, as Postfix writes it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// What HELO or EHLO said; `None` if nothing was said.
    pub helo: Option<&'a str>,
    /// The client's verified host name.
    pub client_name: Option<&'a str>,
    /// The client's address.
    pub client_ip: IpAddr,
    /// Our name.
    pub by: &'a str,
    /// How the message came.
    pub protocol: Protocol,
    /// `TLSv1.3` and `TLS_AES_256_GCM_SHA384`, for example.
    pub tls: Option<(&'a str, &'a str)>,
    /// The name of the message.
    pub id: QueueId,
    /// The recipient, if there is exactly one: with more, each could learn of the others.
    pub recipient: Option<&'a Address>,
    /// When it arrived.
    pub when: Timestamp,
}

/// The keyword after `with` (RFC 3848, RFC 6531 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// EHLO was said.
    pub extended: bool,
    /// Under TLS.
    pub encrypted: bool,
    /// After AUTH.
    pub authenticated: bool,
    /// The message may hold UTF-8 in addresses and header fields.
    pub utf8: bool,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.extended {
            return f.write_str("SMTP");
        }
        f.write_str(if self.utf8 { "UTF8SMTP" } else { "ESMTP" })?;
        f.write_str(if self.encrypted { "S" } else { "" })?;
        f.write_str(if self.authenticated { "A" } else { "" })
    }
}

/// The whole field with its CRLF, folded.
impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.client_name.unwrap_or("unknown");
        let ipv6 = if self.client_ip.is_ipv6() { "IPv6:" } else { "" };
        write!(
            f,
            "Received: from {} ({} [{ipv6}{}])",
            Harmless(self.helo.unwrap_or(name)),
            Harmless(name),
            self.client_ip
        )?;
        if let Some((version, cipher)) = self.tls {
            write!(f, "\r\n\t(using {version} with cipher {cipher})")?;
        }
        write!(f, "\r\n\tby {} (Staffetta) with {} id {}", self.by, self.protocol, self.id)?;
        if let Some(recipient) = self.recipient {
            write!(f, "\r\n\tfor <{recipient}>")?;
        }
        write!(f, ";\r\n\t{} (UTC)\r\n", date(self.when))
    }
}

/// Peer text in a field: printable ASCII without what could upset the syntax around it, and not endless.
struct Harmless<'a>(&'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let harmless = |c| matches!(c, '!'..='~') && !matches!(c, '(' | ')' | ';' | '\\' | '"' | '<' | '>');
        if self.0.len() <= 255 && self.0.bytes().all(|b| harmless(char::from(b))) {
            return f.write_str(self.0);
        }
        for c in self.0.chars().take(255) {
            fmt::Write::write_char(f, if harmless(c) { c } else { '?' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn received<'a>() -> Received<'a> {
        Received {
            helo: Some("client.example"),
            client_name: None,
            client_ip: IpAddr::from([192, 0, 2, 7]),
            by: "mail.example.org",
            protocol: Protocol { extended: true, encrypted: false, authenticated: false, utf8: false },
            tls: None,
            id: QueueId::new(0, 0, 7),
            recipient: None,
            when: Timestamp::from_second(1_795_494_584).unwrap(),
        }
    }

    #[test]
    fn rfc5321_4_4_the_field_as_postfix_writes_it() {
        assert_eq!(
            received().to_string(),
            "Received: from client.example (unknown [192.0.2.7])\r\n\
             \tby mail.example.org (Staffetta) with ESMTP id 0000000000000007;\r\n\
             \tTue, 24 Nov 2026 04:29:44 +0000 (UTC)\r\n"
        );
        let recipient = Address::parse("lisa@example.com").unwrap();
        let full = Received {
            client_name: Some("pool.example.net"),
            client_ip: "2001:db8::7".parse().unwrap(),
            protocol: Protocol { extended: true, encrypted: true, authenticated: true, utf8: false },
            tls: Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
            recipient: Some(&recipient),
            ..received()
        };
        assert_eq!(
            full.to_string(),
            "Received: from client.example (pool.example.net [IPv6:2001:db8::7])\r\n\
             \t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n\
             \tby mail.example.org (Staffetta) with ESMTPSA id 0000000000000007\r\n\
             \tfor <lisa@example.com>;\r\n\
             \tTue, 24 Nov 2026 04:29:44 +0000 (UTC)\r\n"
        );
    }

    #[test]
    fn rfc5322_3_3_every_date_is_what_a_general_formatter_writes() {
        for second in (0..4_000_000_000).step_by(7_654_321).chain([951_782_399, 951_782_400, 1_798_761_599]) {
            let when = Timestamp::from_second(second).unwrap();
            assert_eq!(date(when), when.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string());
        }
    }

    #[test]
    fn a_hostile_name_cannot_leave_its_place() {
        let long = "x".repeat(3000);
        for helo in ["a (b) ; c", "a\u{1}\u{e9}\\\"<>", &long] {
            let text = Received { helo: Some(helo), ..received() }.to_string();
            let first = text.lines().next().unwrap();
            assert!(first.ends_with(" (unknown [192.0.2.7])") && first.len() < 320, "{first}");
            assert!(text.is_ascii() && first.matches(['(', ')', ';', '<', '"']).count() == 2, "{first}");
        }
    }

    #[test]
    fn rfc3848_and_rfc6531_4_3_the_keyword_after_with() {
        for (extended, encrypted, authenticated, utf8, text) in [
            (false, false, false, false, "SMTP"),
            (false, true, true, true, "SMTP"),
            (true, false, false, false, "ESMTP"),
            (true, true, false, false, "ESMTPS"),
            (true, true, true, false, "ESMTPSA"),
            (true, false, false, true, "UTF8SMTP"),
            (true, true, true, true, "UTF8SMTPSA"),
        ] {
            assert_eq!(Protocol { extended, encrypted, authenticated, utf8 }.to_string(), text);
        }
    }
}
