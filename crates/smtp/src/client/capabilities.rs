//! What the server said it can, in its answer to EHLO or LHLO (RFC 5321 section 4.1.1.1).

/// The extensions of one server. The default is a server that only knows HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What the server calls itself.
    pub name: String,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): `Some(0)` is "no fixed limit".
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// AUTH (RFC 4954): the mechanisms in upper case.
    pub mechanisms: Vec<String>,
    /// LIMITS (RFC 9422): `NAME=value` as the server wrote it, name in upper case.
    pub limits: Vec<(String, String)>,
    /// What it offers besides, and is not used with it.
    pub ignored: Vec<Keyword>,
}

/// What a server may offer and need not be taken at its word for. STARTTLS, AUTH and REQUIRETLS are asked of it in other ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyword {
    /// Commands are sent one by one.
    Pipelining,
    /// Messages of any size are tried.
    Size,
    /// What has octets above 127 is converted.
    EightBitMime,
    /// It is not asked for reports.
    Dsn,
    /// Mail that needs it is refused.
    SmtpUtf8,
    /// Content goes by DATA.
    Chunking,
}

impl Keyword {
    /// As servers write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pipelining => "PIPELINING",
            Self::Size => "SIZE",
            Self::EightBitMime => "8BITMIME",
            Self::Dsn => "DSN",
            Self::SmtpUtf8 => "SMTPUTF8",
            Self::Chunking => "CHUNKING",
        }
    }
}

impl Capabilities {
    /// As if these had not been offered.
    pub(super) fn ignore(&mut self, keywords: &[Keyword]) {
        for &keyword in keywords {
            let was_offered = match keyword {
                Keyword::Pipelining => std::mem::take(&mut self.pipelining),
                Keyword::Size => self.size.take().is_some(),
                Keyword::EightBitMime => std::mem::take(&mut self.eight_bit_mime),
                Keyword::Dsn => std::mem::take(&mut self.dsn),
                Keyword::SmtpUtf8 => std::mem::take(&mut self.smtputf8),
                Keyword::Chunking => std::mem::take(&mut self.chunking),
            };
            if was_offered {
                self.ignored.push(keyword);
            }
        }
    }

    /// Reads the texts of the reply's lines, the greeting line first. Unknown keywords and bad parameters are ignored.
    pub(super) fn parse(lines: &[String]) -> Self {
        let mut found = Self::default();
        let mut lines = lines.iter();
        if let Some(first) = lines.next() {
            first.split_ascii_whitespace().next().unwrap_or_default().clone_into(&mut found.name);
        }
        for line in lines {
            found.add(line);
        }
        found
    }

    /// The largest message that the server takes, if it names a limit.
    pub fn size_limit(&self) -> Option<u64> {
        self.size.filter(|&limit| limit > 0)
    }

    /// Most recipients of one message (`RCPTMAX`, RFC 9422), if the server names a limit.
    pub fn recipient_limit(&self) -> Option<u32> {
        self.limit("RCPTMAX")
    }

    /// Most messages of one session (`MAILMAX`, RFC 9422), if the server names a limit.
    pub fn message_limit(&self) -> Option<u32> {
        self.limit("MAILMAX")
    }

    fn limit(&self, name: &str) -> Option<u32> {
        let (_, value) = self.limits.iter().find(|(n, _)| n == name)?;
        value.parse().ok().filter(|&limit| limit > 0)
    }

    fn add(&mut self, line: &str) {
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => self.size = Some(words.next().and_then(|limit| limit.parse().ok()).unwrap_or(0)),
            "8BITMIME" => self.eight_bit_mime = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "CHUNKING" => self.chunking = true,
            "REQUIRETLS" => self.requiretls = true,
            "LIMITS" => self.limits.extend(words.filter_map(limit)),
            "AUTH" => words.for_each(|mechanism| self.add_mechanism(mechanism)),
            // How servers before RFC 2554 wrote it: "AUTH=LOGIN PLAIN".
            old => {
                if let Some(first) = old.strip_prefix("AUTH=") {
                    std::iter::once(first).chain(words).for_each(|mechanism| self.add_mechanism(mechanism));
                }
            }
        }
    }

    fn add_mechanism(&mut self, mechanism: &str) {
        let mechanism = mechanism.to_ascii_uppercase();
        if !mechanism.is_empty() && !self.mechanisms.contains(&mechanism) {
            self.mechanisms.push(mechanism);
        }
    }
}

fn limit(word: &str) -> Option<(String, String)> {
    word.split_once('=').map(|(name, value)| (name.to_ascii_uppercase(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Capabilities {
        Capabilities::parse(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_ignored_was_never_offered() {
        let all = "mx\nPIPELINING\nSIZE 1\n8BITMIME\nDSN\nSMTPUTF8\nCHUNKING";
        let each = [
            (Keyword::Pipelining, "PIPELINING\n"),
            (Keyword::Size, "SIZE 1\n"),
            (Keyword::EightBitMime, "8BITMIME\n"),
            (Keyword::Dsn, "DSN\n"),
            (Keyword::SmtpUtf8, "SMTPUTF8\n"),
        ];
        for (keyword, line) in each {
            let mut found = parse(all);
            found.ignore(&[keyword]);
            assert_eq!(std::mem::take(&mut found.ignored), [keyword]);
            assert_eq!(found, parse(&all.replace(line, "")), "{line}");
        }
        let mut found = parse("mx\nPIPELINING\nCHUNKING");
        found.ignore(&each.map(|(keyword, _)| keyword));
        assert_eq!(std::mem::take(&mut found.ignored), [Keyword::Pipelining], "what it offers");
        assert_eq!(found, parse("mx\nCHUNKING"));
        found.ignore(&[Keyword::Chunking]);
        assert_eq!(std::mem::take(&mut found.ignored), [Keyword::Chunking]);
        assert_eq!(found, parse("mx"));
    }

    #[test]
    fn postfix_announces_what_it_can() {
        let found = parse(
            "mx.example.net\nPIPELINING\nSIZE 10240000\nVRFY\nETRN\nSTARTTLS\nAUTH PLAIN LOGIN\nAUTH=PLAIN LOGIN\n\
             ENHANCEDSTATUSCODES\n8BITMIME\nDSN\nSMTPUTF8\nCHUNKING\nLIMITS RCPTMAX=50 MAILMAX=0 nonsense",
        );
        assert_eq!(found.name, "mx.example.net");
        assert!(found.pipelining && found.starttls && found.enhanced_status_codes && found.eight_bit_mime);
        assert!(found.dsn && found.smtputf8 && found.chunking && !found.requiretls);
        assert_eq!(found.size_limit(), Some(10_240_000));
        assert_eq!(found.mechanisms, ["PLAIN", "LOGIN"]);
        assert_eq!((found.recipient_limit(), found.message_limit()), (Some(50), None));
    }

    #[test]
    fn sloppy_servers_are_understood() {
        for (text, size) in [
            ("x\nsize", Some(0)),
            ("x\nSIZE 0", Some(0)),
            ("x\nSIZE abc", Some(0)),
            ("x\nSize  5", Some(5)),
            ("x\nSIZES 5", None),
            ("SIZE 5", None),
            ("", None),
        ] {
            assert_eq!(parse(text).size, size, "{text:?}");
        }
        assert_eq!(parse("x\nauth=login plain").mechanisms, ["LOGIN", "PLAIN"]);
    }
}
