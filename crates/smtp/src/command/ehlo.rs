//! EHLO (RFC 5321 section 4.1.1.1): introduces the client and lists the extensions.

use bytes::BytesMut;

use super::{Command, Place, Row};
use crate::Reply;
use crate::extension::{EXTENSIONS, Offer};
use crate::standing::{Helo, Standing};

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "EHLO",
    parse: |_, arguments| check(arguments).map(Command::Introduce),
    place: Place::Last,
    junk: true,
    in_clear: true,
    usage: "EHLO hostname",
    ..Row::PLAIN
};

/// The ladder of EHLO: the name, as typed. Further words are part of it, as in Postfix.
pub fn check(arguments: &str) -> Result<Helo, Reply> {
    if arguments.is_empty() {
        return Err(Reply::ehlo_syntax());
    }
    Ok(Helo { name: arguments.to_owned(), extended: true })
}

/// Appends the reply: our name, then a line for each extension on offer.
pub fn write_reply(standing: &Standing<'_>, output: &mut BytesMut) {
    let mut text = standing.settings.hostname.clone();
    for extension in EXTENSIONS {
        let parameters = match (extension.offer)(standing) {
            Offer::No => continue,
            Offer::Plain => None,
            Offer::With(parameters) => Some(parameters),
        };
        text.push('\n');
        text.push_str(extension.keyword);
        if let Some(parameters) = parameters {
            text.push(' ');
            text.push_str(&parameters);
        }
    }
    Reply::plain(250, text).write(output);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    fn offered(standing: &Standing<'_>) -> String {
        let mut output = BytesMut::new();
        write_reply(standing, &mut output);
        String::from_utf8_lossy(&output).into_owned()
    }

    #[test]
    fn a_name_is_needed_and_kept_as_typed() {
        assert_eq!(check(""), Err(Reply::ehlo_syntax()));
        assert_eq!(check("[192.0.2.1]").map(|helo| helo.name), Ok("[192.0.2.1]".to_owned()));
        assert_eq!(check("my pc").map(|helo| helo.name), Ok("my pc".to_owned()));
    }

    #[test]
    fn the_chapter_in_clear_and_under_tls() {
        let settings = Settings {
            hostname: "mail.example.org".into(),
            size_limit: 10_240_000,
            mechanisms: vec!["PLAIN".into(), "LOGIN".into()],
            ..Settings::default()
        };
        let clear = standing(&settings);
        assert_eq!(
            offered(&clear),
            "250-mail.example.org\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n250-STARTTLS\r\n\
             250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250 LIMITS RCPTMAX=1000\r\n"
        );
        assert_eq!(
            offered(&Standing { encrypted: true, ..clear }),
            "250-mail.example.org\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n\
             250-AUTH PLAIN LOGIN\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n\
             250-REQUIRETLS\r\n250 LIMITS RCPTMAX=1000\r\n"
        );
    }

    #[test]
    fn what_is_switched_off_is_not_offered() {
        let settings = Settings {
            starttls: false,
            size_limit: 0,
            vrfy: false,
            etrn: false,
            mechanisms: Vec::new(),
            ..Settings::default()
        };
        let text = offered(&Standing { encrypted: true, ..standing(&settings) });
        assert!(text.contains("250-SIZE\r\n"), "{text}");
        for keyword in ["VRFY", "ETRN", "STARTTLS", "AUTH"] {
            assert!(!text.contains(keyword), "{text}");
        }
    }
}
