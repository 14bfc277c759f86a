//! Kinds of values: how each is written, checked and shown.
//!
//! A kind is a type without values that reads the type that the program uses. A default is written like the value of
//! an environment variable, so that there is one text form beside TOML's.

mod canonical;
mod choice;
mod dovecot;
mod file;
mod fingerprint;
mod login;
mod name;
mod network;
mod number;
mod redis_url;
mod route;
mod size;
mod time;
mod url;
mod web;

use std::marker::PhantomData;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

pub(crate) use canonical::NewSender;
pub(crate) use choice::{Choice, Choices, FlagOr};
pub use dovecot::DovecotAddress;
pub(crate) use dovecot::DovecotSocket;
pub(crate) use file::FilePath;
pub(crate) use fingerprint::CertificateFingerprint;
pub use fingerprint::Fingerprint;
pub(crate) use name::{Any, DomainName, HostName, LogLevel, MailAddress, Query, ReplyPattern, SourcePool, SyslogName};
pub use network::with_translated;
pub(crate) use network::{DnsServer, Ip, Network, NetworkClasses, Socket};
pub(crate) use number::{Flag, Number, Ratio, Share};
pub(crate) use redis_url::RedisUrl;
pub(crate) use route::{AddressPattern, Domains, NamePattern, SenderPattern, Targets};
pub(crate) use size::{DataRate, Size};
pub use time::parse as parse_duration;
pub(crate) use time::{Day, Limit, Time};
pub(crate) use url::{AuthUrl, CollectorUrl, SpoolUrl, SqlUrl};
pub(crate) use web::{KeyPlace, TokenAddress, WebAddress};
pub use web::{KeySource, WebUrl};

/// A value before it is understood.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// From the file.
    Toml(&'a DeValue<'a>),
    /// From the environment, or a default.
    Text(&'a str),
}

/// Why a value is refused. Reads "`value` `problem`; allowed: `allowed`".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) value: String,
    pub(crate) problem: String,
    pub(crate) allowed: String,
    /// Where in the file, if not where the whole value stands.
    pub(crate) span: Option<Range<usize>>,
}

impl Wrong {
    /// `"40 apples" is not a size`
    pub(crate) fn not<K: Kind>(text: &str) -> Self {
        Self::because::<K>(text, format!("is not {}", K::NOUN))
    }

    /// With a problem of its own.
    pub(crate) fn because<K: Kind>(text: &str, problem: impl Into<String>) -> Self {
        Self { value: K::SHAPE.literal(text), problem: problem.into(), allowed: K::allowed(), span: None }
    }
}

/// What TOML calls the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    String,
    Integer,
    Float,
    Boolean,
    StringOrInteger,
    StringOrBoolean,
}

impl Shape {
    /// The text of a scalar of this shape; `None` for any other value.
    fn text(self, value: &DeValue<'_>) -> Option<String> {
        match (self, value) {
            (Self::String | Self::StringOrInteger | Self::StringOrBoolean, DeValue::String(text)) => {
                Some(text.to_string())
            }
            (Self::Integer | Self::StringOrInteger | Self::Float, DeValue::Integer(number)) => {
                let digits = number.as_str().replace('_', "");
                i64::from_str_radix(&digits, number.radix()).ok().map(|n| n.to_string()).or(Some(digits))
            }
            (Self::Float, DeValue::Float(number)) => Some(number.as_str().replace('_', "")),
            (Self::Boolean | Self::StringOrBoolean, DeValue::Boolean(flag)) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// How a text of this shape stands in TOML; quoted if it cannot be one.
    pub(crate) fn literal(self, text: &str) -> String {
        let is_bare = match self {
            Self::String => false,
            Self::Integer | Self::StringOrInteger => text.parse::<i128>().is_ok(),
            Self::Float => text.parse::<f64>().is_ok(),
            Self::Boolean | Self::StringOrBoolean => text.parse::<bool>().is_ok(),
        };
        if is_bare { text.to_owned() } else { quoted(text) }
    }
}

/// One kind of value.
pub(crate) trait Kind {
    /// What the program gets.
    type Value;
    /// Completes "… is not …".
    const NOUN: &'static str;
    /// What TOML calls it.
    const SHAPE: Shape = Shape::String;

    /// Completes "allowed: …".
    fn allowed() -> String;

    /// The words of a choice, each with its documentation.
    fn words() -> Vec<(&'static str, &'static [&'static str])> {
        Vec::new()
    }

    /// Reads the text form.
    fn parse(text: &str) -> Result<Self::Value, Wrong>;

    /// The value as TOML.
    fn show(value: &Self::Value) -> String;

    /// A default's text as TOML, for the reference.
    fn literal(text: &str) -> String {
        Self::SHAPE.literal(text)
    }

    /// Reads either form.
    fn read(raw: Raw<'_>) -> Result<Self::Value, Vec<Wrong>>
    where
        Self: Sized,
    {
        let parsed = match raw {
            Raw::Text(text) => Self::parse(text),
            Raw::Toml(value) => match Self::SHAPE.text(value) {
                Some(text) => Self::parse(&text),
                None => Err(wrong_type::<Self>(value)),
            },
        };
        parsed.map_err(|wrong| vec![wrong])
    }
}

/// A kind that may be left empty: `""`.
pub(crate) struct Maybe<K>(PhantomData<K>);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;
    const NOUN: &'static str = K::NOUN;
    const SHAPE: Shape = K::SHAPE;

    fn allowed() -> String {
        format!("{}, or \"\" for none", K::allowed())
    }

    fn parse(text: &str) -> Result<Self::Value, Wrong> {
        match text {
            "" => Ok(None),
            text => K::parse(text).map(Some).map_err(|wrong| Wrong { allowed: Self::allowed(), ..wrong }),
        }
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "\"\"".to_owned(), K::show)
    }

    fn literal(text: &str) -> String {
        if text.is_empty() { "\"\"".to_owned() } else { K::literal(text) }
    }
}

/// A kind that need not be there.
pub(crate) struct Unset<K>(PhantomData<K>);

impl<K: Kind> Kind for Unset<K> {
    type Value = Option<K::Value>;
    const NOUN: &'static str = K::NOUN;
    const SHAPE: Shape = K::SHAPE;

    fn allowed() -> String {
        K::allowed()
    }

    fn words() -> Vec<(&'static str, &'static [&'static str])> {
        K::words()
    }

    fn parse(text: &str) -> Result<Self::Value, Wrong> {
        if text.is_empty() { Ok(None) } else { K::parse(text).map(Some) }
    }

    /// Nothing at all when it is not there.
    fn show(value: &Self::Value) -> String {
        value.as_ref().map_or_else(String::new, K::show)
    }

    fn literal(text: &str) -> String {
        if text.is_empty() { String::new() } else { K::literal(text) }
    }
}

/// Any number of values: an array, in the environment separated by commas.
pub(crate) struct List<K>(PhantomData<K>);

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;
    const NOUN: &'static str = "a list";

    fn allowed() -> String {
        format!("a list, each {}", K::allowed())
    }

    fn parse(text: &str) -> Result<Self::Value, Wrong> {
        elements(text).map(K::parse).collect()
    }

    fn show(value: &Self::Value) -> String {
        let shown: Vec<String> = value.iter().map(K::show).collect();
        format!("[{}]", shown.join(", "))
    }

    fn literal(text: &str) -> String {
        let shown: Vec<String> = elements(text).map(K::literal).collect();
        format!("[{}]", shown.join(", "))
    }

    fn read(raw: Raw<'_>) -> Result<Self::Value, Vec<Wrong>> {
        match raw {
            Raw::Toml(DeValue::Array(array)) => read_all::<K>(array),
            Raw::Toml(value) => Err(vec![wrong_type::<Self>(value)]),
            Raw::Text(text) if text.trim_start().starts_with('[') => match DeValue::parse(text.trim()) {
                Ok(value) => Self::read(Raw::Toml(value.get_ref())).map_err(without_spans),
                Err(_) => Err(vec![Wrong::not::<Self>(text)]),
            },
            Raw::Text(text) => {
                let (good, bad): (Vec<_>, Vec<_>) = elements(text).map(K::parse).partition(Result::is_ok);
                if bad.is_empty() { Ok(good.into_iter().flatten().collect()) } else { Err(errors(bad)) }
            }
        }
    }
}

fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|element| !element.is_empty())
}

fn read_all<K: Kind>(array: &[Spanned<DeValue<'_>>]) -> Result<Vec<K::Value>, Vec<Wrong>> {
    let mut values = Vec::new();
    let mut wrongs = Vec::new();
    for element in array {
        match K::read(Raw::Toml(element.get_ref())) {
            Ok(value) => values.push(value),
            Err(wrong) => wrongs.extend(wrong.into_iter().map(|w| Wrong { span: Some(element.span()), ..w })),
        }
    }
    if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
}

/// Positions in a variable's text mean nothing in the file.
fn without_spans(wrongs: Vec<Wrong>) -> Vec<Wrong> {
    wrongs.into_iter().map(|wrong| Wrong { span: None, ..wrong }).collect()
}

fn errors<T>(results: Vec<Result<T, Wrong>>) -> Vec<Wrong> {
    results.into_iter().filter_map(Result::err).collect()
}

fn wrong_type<K: Kind>(value: &DeValue<'_>) -> Wrong {
    let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    let shown = match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => "this".to_owned(),
    };
    let problem = format!("is {article} {}, not {}", value.type_str(), K::NOUN);
    Wrong { value: shown, problem, allowed: K::allowed(), span: None }
}

/// A basic string of TOML; long ones are not shown to their end.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_as_arrays_or_with_commas() {
        let read = |text| List::<Number<u16, 1, 99>>::read(Raw::Text(text));
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("1, 2,3"), Ok(vec![1, 2, 3]));
        assert_eq!(read(" [1, 0x10] "), Ok(vec![1, 16]));
        let problems = |text| read(text).map_err(|w| w.into_iter().map(|w| w.value + " " + &w.problem).collect());
        let expected: Vec<String> = vec!["\"x\" is not a whole number".into(), "100 is out of range".into()];
        assert_eq!(problems("x,1,100"), Err(expected));
        let expected: Vec<String> = vec!["\"1\" is a string, not a whole number".into()];
        assert_eq!(problems("[\"1\"]"), Err(expected));
    }

    #[test]
    fn strings_are_quoted_as_toml_reads_them() {
        for text in ["", "a\"b\\c", "tab\tnew\nline\u{1}", "caf\u{e9}"] {
            let parsed = DeValue::parse(&quoted(text)).map(|v| v.get_ref().as_str().map(str::to_owned));
            assert_eq!(parsed.ok().flatten().as_deref(), Some(text));
        }
    }
}
