//! XCLIENT (Postfix' XCLIENT_README): an intermediary, such as a proxy or a filter, says whose connection it brings. The
//! session begins anew with that client.
//!
//! `XCLIENT attribute=value …`, values in xtext. Who may say it is [`Standing::xclient`]: whoever may can be anybody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Command, Place, Row, is_host_name};
use crate::Reply;
use crate::standing::Standing;
use crate::xtext;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "XCLIENT",
    parse: |standing, arguments| check(standing, arguments).map(|attributes| Command::Client(Box::new(attributes))),
    place: Place::Last,
    in_clear: true,
    usage: "XCLIENT attribute=value ...",
    ..Row::PLAIN
};

/// The attributes, as EHLO lists them.
pub const ATTRIBUTES: &str = "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT";

/// What is not known for good, and what is not known now.
const UNKNOWN: [&str; 2] = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"];
/// Longest name or login.
const LONGEST: usize = 255;

/// What was said of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told<T> {
    /// Nothing.
    #[default]
    Nothing,
    /// That it is not known.
    Unknown,
    /// This.
    This(T),
}

/// What an intermediary says of its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAttributes {
    /// Its verified name.
    pub name: Told<String>,
    /// Its address.
    pub address: Told<IpAddr>,
    /// Its port.
    pub port: Told<u16>,
    /// True after EHLO.
    pub extended: Told<bool>,
    /// How it introduced itself.
    pub helo: Told<String>,
    /// As whom it has logged in, there.
    pub login: Told<String>,
}

/// The ladder of XCLIENT, in the order of Postfix.
pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<ClientAttributes, Reply> {
    if standing.transaction.is_some() {
        return Err(Reply::in_transaction());
    }
    if arguments.is_empty() {
        return Err(Reply::xclient_syntax());
    }
    if !standing.xclient {
        return Err(Reply::insufficient_authorization());
    }
    let mut attributes = ClientAttributes::default();
    for typed in arguments.split_ascii_whitespace() {
        let (name, value) = typed.split_once('=').ok_or_else(Reply::attribute_expected)?;
        read(&name.to_ascii_uppercase(), value, &mut attributes)?;
    }
    Ok(attributes)
}

fn read(name: &str, value: &str, into: &mut ClientAttributes) -> Result<(), Reply> {
    let text = &text(value).ok_or_else(|| Reply::bad_attribute_value(value))?;
    let bad = || Reply::bad_attribute(name, value);
    match name {
        "NAME" => into.name = told(text, host).ok_or_else(bad)?,
        "ADDR" => into.address = told(text, address).ok_or_else(bad)?,
        "PORT" => into.port = told(text, port).ok_or_else(bad)?,
        "PROTO" => into.extended = told(text, protocol).ok_or_else(bad)?,
        "HELO" => into.helo = told(text, word).ok_or_else(bad)?,
        "LOGIN" => into.login = told(text, word).ok_or_else(bad)?,
        // What the client connected to, and a name that nobody verified, decide nothing here.
        "REVERSE_NAME" => drop(told(text, host).ok_or_else(bad)?),
        "DESTADDR" => drop(told(text, address).ok_or_else(bad)?),
        "DESTPORT" => drop(told(text, port).ok_or_else(bad)?),
        _ => return Err(Reply::bad_attribute_name(name)),
    }
    Ok(())
}

/// The value without its encoding: printable text, which goes into logs and trace fields.
fn text(value: &str) -> Option<String> {
    let text = String::from_utf8(xtext::decode(value)?).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

fn told<T>(text: &str, read: fn(&str) -> Option<T>) -> Option<Told<T>> {
    if UNKNOWN.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return Some(Told::Unknown);
    }
    read(text).map(Told::This)
}

fn host(text: &str) -> Option<String> {
    (is_host_name(text) && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')).then(|| text.to_owned())
}

/// RFC 5321 section 4.1.3: an IPv6 address says so.
fn address(text: &str) -> Option<IpAddr> {
    match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => text[5..].parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn protocol(text: &str) -> Option<bool> {
    match text.to_ascii_uppercase().as_str() {
        "SMTP" => Some(false),
        "ESMTP" => Some(true),
        _ => None,
    }
}

fn word(text: &str) -> Option<String> {
    (1..=LONGEST).contains(&text.len()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use staffetta_mail::ReversePath;

    use super::*;
    use crate::standing::tests::standing;
    use crate::standing::{MailParameters, Settings, Transaction};

    fn said(arguments: &str) -> Result<ClientAttributes, Reply> {
        let settings = Settings::default();
        check(&Standing { xclient: true, ..standing(&settings) }, arguments)
    }

    #[test]
    fn the_ladder() {
        let settings = Settings::default();
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let stranger = standing(&settings);
        let proxy = Standing { xclient: true, ..stranger };
        let in_mail = Standing { transaction: Some(&transaction), ..proxy };
        for (standing, arguments, reply) in [
            (stranger, "NAME=a.test", Reply::insufficient_authorization()),
            (stranger, "", Reply::xclient_syntax()),
            (proxy, "", Reply::xclient_syntax()),
            (in_mail, "NAME=a.test", Reply::in_transaction()),
            (proxy, "NAME", Reply::attribute_expected()),
            (proxy, "NAME=a.test FOO=bar", Reply::bad_attribute_name("FOO")),
        ] {
            assert_eq!(check(&standing, arguments), Err(reply), "{arguments}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for typed in [
            "NAME=",
            "NAME=a..b",
            "NAME=192.0.2.1",
            "NAME=a+0Ab",
            "ADDR=",
            "ADDR=192.0.2.256",
            "ADDR=2001:db8::1",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=[192.0.2.1]",
            "PORT=",
            "PORT=-1",
            "PORT=+31",
            "PORT=65536",
            "PROTO=LMTP",
            "HELO=",
            "HELO=a+0D+0Ab",
            "LOGIN=",
            "LOGIN=a+00b",
            "LOGIN=+FF",
            "LOGIN=+4",
            "DESTADDR=x",
            "DESTPORT=x",
            "REVERSE_NAME=",
        ] {
            let refused = said(typed).map_err(|reply| reply.code());
            // A plus is the beginning of an octet, so this is the digit 1.
            let expected = if typed == "PORT=+31" {
                Ok(ClientAttributes { port: Told::This(1), ..Default::default() })
            } else {
                Err(501)
            };
            assert_eq!(refused, expected, "{typed}");
        }
    }

    #[test]
    fn what_is_said_is_known_and_the_rest_is_not() {
        assert_eq!(
            said(
                "NAME=spike.porcupine.org ADDR=168.100.189.2 PORT=1234 PROTO=ESMTP HELO=a+2Bb LOGIN=john@example.org DESTPORT=25"
            ),
            Ok(ClientAttributes {
                name: Told::This("spike.porcupine.org".into()),
                address: Told::This(IpAddr::from([168, 100, 189, 2])),
                port: Told::This(1234),
                extended: Told::This(true),
                helo: Told::This("a+b".into()),
                login: Told::This("john@example.org".into()),
            })
        );
        assert_eq!(
            said("name=[UNAVAILABLE] helo=[tempunavail] ADDR=ipv6:2001:db8::7"),
            Ok(ClientAttributes {
                name: Told::Unknown,
                helo: Told::Unknown,
                address: "2001:db8::7".parse().map_or(Told::Nothing, Told::This),
                ..ClientAttributes::default()
            })
        );
        assert_eq!(said("LOGIN=[UNAVAILABLE]").map(|told| told.login), Ok(Told::Unknown));
    }
}
