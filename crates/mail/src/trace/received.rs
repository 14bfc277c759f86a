//! The Received field, as Postfix writes it.

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::{Address, QueueId};

/// The date-time of RFC 5322 section 3.3, in UTC: `Tue, 24 Nov 2026 04:29:44 +0000`.
pub fn date(when: Timestamp) -> String {
    // The form of HTTP differs in the zone alone.
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&when).unwrap_or_default();
    text.replace("GMT", "+0000")
}

/// The parts of a Received field, as Postfix writes it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Whom it came from.
    pub client: Client<'a>,
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

/// What a Received field says of a client.
#[derive(Clone, Copy, Debug)]
pub enum Client<'a> {
    /// All that is known.
    Full {
        /// What HELO or EHLO said; `None` if nothing was said.
        helo: Option<&'a str>,
        /// Its verified host name.
        name: Option<&'a str>,
        /// Its address.
        ip: IpAddr,
    },
    /// The network that it is in, by the first address of that.
    Network(IpAddr),
    /// Nothing: the field begins with us. RFC 5321 section 4.4 wants the client in it, and readers do without.
    Hidden,
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

impl Protocol {
    /// The keyword.
    pub const fn keyword(self) -> &'static str {
        match (self.extended, self.utf8, self.encrypted, self.authenticated) {
            (false, ..) => "SMTP",
            (true, false, false, false) => "ESMTP",
            (true, false, false, true) => "ESMTPA",
            (true, false, true, false) => "ESMTPS",
            (true, false, true, true) => "ESMTPSA",
            (true, true, false, false) => "UTF8SMTP",
            (true, true, false, true) => "UTF8SMTPA",
            (true, true, true, false) => "UTF8SMTPS",
            (true, true, true, true) => "UTF8SMTPSA",
        }
    }
}

impl Received<'_> {
    /// The whole field with its CRLF, folded.
    pub fn field(&self) -> String {
        let mut field = String::with_capacity(320);
        field.push_str("Received: ");
        self.client.push_to(&mut field);
        if let Some((version, cipher)) = self.tls.filter(|_| !matches!(self.client, Client::Hidden)) {
            field.extend(["(using ", version, " with cipher ", cipher, ")\r\n\t"]);
        }
        field.extend(["by ", self.by, " (Staffetta) with ", self.protocol.keyword(), " id "]);
        self.id.push_to(&mut field);
        if let Some(recipient) = self.recipient {
            field.extend(["\r\n\tfor <", recipient.as_str(), ">"]);
        }
        field.extend([";\r\n\t", &date(self.when), " (UTC)\r\n"]);
        field
    }
}

impl Client<'_> {
    /// With the fold behind it, if there is anything.
    fn push_to(self, field: &mut String) {
        let (helo, name, ip) = match self {
            Self::Full { helo, name, ip } => (helo, name, ip),
            Self::Network(ip) => (None, None, ip),
            Self::Hidden => return,
        };
        let name = name.unwrap_or("unknown");
        field.push_str("from ");
        push_harmless(field, helo.unwrap_or(name));
        field.push_str(" (");
        push_harmless(field, name);
        field.push_str(if ip.is_ipv6() { " [IPv6:" } else { " [" });
        // Writing to a string cannot fail.
        let _ = write!(field, "{ip}");
        field.push_str("])\r\n\t");
    }
}

/// Peer text in a field: printable ASCII without what could upset the syntax around it, and not endless.
fn push_harmless(field: &mut String, text: &str) {
    let harmless = |c| matches!(c, '!'..='~') && !matches!(c, '(' | ')' | ';' | '\\' | '"' | '<' | '>');
    field.extend(text.chars().take(255).map(|c| if harmless(c) { c } else { '?' }));
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn client(helo: &str) -> Client<'_> {
        Client::Full { helo: Some(helo), name: None, ip: IpAddr::from([192, 0, 2, 7]) }
    }

    fn received<'a>() -> Received<'a> {
        Received {
            client: client("client.example"),
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
            received().field(),
            "Received: from client.example (unknown [192.0.2.7])\r\n\
             \tby mail.example.org (Staffetta) with ESMTP id 0000000000000007;\r\n\
             \tTue, 24 Nov 2026 04:29:44 +0000 (UTC)\r\n"
        );
        let recipient = Address::parse("lisa@example.com").unwrap();
        let full = Received {
            client: Client::Full {
                helo: Some("client.example"),
                name: Some("pool.example.net"),
                ip: "2001:db8::7".parse().unwrap(),
            },
            protocol: Protocol { extended: true, encrypted: true, authenticated: true, utf8: false },
            tls: Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
            recipient: Some(&recipient),
            ..received()
        };
        assert_eq!(
            full.field(),
            "Received: from client.example (pool.example.net [IPv6:2001:db8::7])\r\n\
             \t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n\
             \tby mail.example.org (Staffetta) with ESMTPSA id 0000000000000007\r\n\
             \tfor <lisa@example.com>;\r\n\
             \tTue, 24 Nov 2026 04:29:44 +0000 (UTC)\r\n"
        );
    }

    #[test]
    fn a_client_need_not_be_shown() {
        let tls = Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384"));
        let network = Client::Network(IpAddr::from([192, 0, 2, 0]));
        let field = Received { client: network, tls, ..received() }.field();
        assert!(field.starts_with("Received: from unknown (unknown [192.0.2.0])\r\n\t(using TLSv1.3 "), "{field}");
        assert_eq!(
            Received { client: Client::Hidden, tls, ..received() }.field(),
            "Received: by mail.example.org (Staffetta) with ESMTP id 0000000000000007;\r\n\
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
            let text = Received { client: client(helo), ..received() }.field();
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
            assert_eq!(Protocol { extended, encrypted, authenticated, utf8 }.keyword(), text);
        }
    }
}
