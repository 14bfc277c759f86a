//! The operator's own queries: named parameters in, the placeholders of one database out.
//!
//! `SELECT … WHERE email = :login` becomes `… = $1` for PostgreSQL, `… = ?1` for SQLite and `… = ?` for MySQL. A value
//! never becomes part of the text: it is always bound. A name counts only where the database would read it as one, see
//! [`super::lexer`].

use std::fmt;
use std::sync::Arc;

use super::lexer::{Piece, pieces};
use crate::limits;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
    Mysql,
}

/// The configured queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Password,
    Sender,
    Domain,
    Recipient,
    Alias,
}

impl Kind {
    /// All of them, in the order of the configuration.
    pub(crate) const ALL: [Self; 5] = [Self::Password, Self::Sender, Self::Domain, Self::Recipient, Self::Alias];

    /// The key in the configuration file.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Password => "auth.sql.password_query",
            Self::Sender => "auth.sql.sender_query",
            Self::Domain => "auth.sql.domain_query",
            Self::Recipient => "auth.sql.recipient_query",
            Self::Alias => "auth.sql.alias_query",
        }
    }

    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Sender => "sender",
            Self::Domain => "domain",
            Self::Recipient => "recipient",
            Self::Alias => "alias",
        }
    }

    /// What may stand behind a colon in it. The first one, or its domain, must: a query without it answers for
    /// everybody alike.
    fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Password => &[Parameter::Login, Parameter::Domain, Parameter::Local],
            Self::Sender => &[Parameter::Sender, Parameter::Domain, Parameter::Local, Parameter::Login],
            Self::Domain => &[Parameter::Domain],
            Self::Recipient | Self::Alias => &[Parameter::Recipient, Parameter::Domain, Parameter::Local],
        }
    }

    /// The parameters of which at least one must be used.
    fn required(self) -> &'static [Parameter] {
        match self {
            Self::Password => &[Parameter::Login],
            Self::Sender => &[Parameter::Sender, Parameter::Domain],
            Self::Domain => &[Parameter::Domain],
            Self::Recipient | Self::Alias => &[Parameter::Recipient, Parameter::Domain],
        }
    }

    /// The columns that its rows must have, by name.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Password => &["login", "password"],
            Self::Sender => &["login"],
            Self::Domain | Self::Recipient => &[],
            Self::Alias => &["destination"],
        }
    }
}

impl Kind {
    /// The columns that may be there beside, by name; of what type does not matter.
    pub(crate) fn optional(self) -> &'static [&'static str] {
        match self {
            Self::Password => &limits::COLUMNS,
            Self::Sender | Self::Domain | Self::Recipient | Self::Alias => &[],
        }
    }
}

/// A named parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    Login,
    Sender,
    Domain,
    Local,
    Recipient,
}

impl Parameter {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Sender => "sender",
            Self::Domain => "domain",
            Self::Local => "local",
            Self::Recipient => "recipient",
        }
    }
}

/// What the parameters stand for in one execution. `:domain` is the part behind the last `@` of the address asked for,
/// `:local` the part before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Values<'a> {
    pub(crate) login: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) local: &'a str,
    pub(crate) recipient: &'a str,
}

impl Values<'_> {
    /// The text bound for a parameter.
    pub(crate) fn of(&self, parameter: Parameter) -> &str {
        match parameter {
            Parameter::Login => self.login,
            Parameter::Sender => self.sender,
            Parameter::Domain => self.domain,
            Parameter::Local => self.local,
            Parameter::Recipient => self.recipient,
        }
    }
}

/// A query that cannot work; the message completes "the configuration is wrong: …".
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key}: {problem}")]
pub struct QueryError {
    pub(super) key: &'static str,
    pub(super) problem: String,
}

/// A rewritten query, ready to be executed many times.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) kind: Kind,
    pub(crate) sql: Arc<str>,
    /// In the order in which the placeholders want them.
    pub(crate) binds: Vec<Parameter>,
}

impl Query {
    /// Rewrites the operator's text.
    pub(crate) fn parse(kind: Kind, dialect: Dialect, text: &str) -> Result<Self, QueryError> {
        let fail = |problem| QueryError { key: kind.key(), problem };
        if text.trim().is_empty() {
            return Err(fail("is empty".to_owned()));
        }
        let mut query = Rewrite { dialect, sql: String::with_capacity(text.len()), binds: Vec::new() };
        for piece in pieces(dialect, text).map_err(|problem| fail(problem.to_string()))? {
            match piece {
                Piece::Text(text) => query.sql.push_str(text),
                Piece::Name(name) => query.bind(parameter(kind, name).map_err(fail)?),
                Piece::Placeholder(found) => {
                    return Err(fail(format!("`{found}` is not a parameter; use {}", listed(kind.parameters()))));
                }
            }
        }
        if !query.binds.iter().any(|bind| kind.required().contains(bind)) {
            return Err(fail(format!("uses none of {}", listed(kind.required()))));
        }
        Ok(Self { kind, sql: query.sql.into(), binds: query.binds })
    }
}

struct Rewrite {
    dialect: Dialect,
    sql: String,
    binds: Vec<Parameter>,
}

impl Rewrite {
    /// Appends the placeholder of a parameter. Numbered ones are reused; MySQL only knows `?`, so there it is bound
    /// again.
    fn bind(&mut self, parameter: Parameter) {
        use fmt::Write as _;
        let known = self.binds.iter().position(|bind| *bind == parameter);
        let mark = match self.dialect {
            Dialect::Mysql => {
                self.binds.push(parameter);
                self.sql.push('?');
                return;
            }
            Dialect::Sqlite => '?',
            Dialect::Postgres => '$',
        };
        let number = known.unwrap_or_else(|| {
            self.binds.push(parameter);
            self.binds.len() - 1
        });
        // Writing to a String does not fail.
        let _ = write!(self.sql, "{mark}{}", number + 1);
    }
}

fn parameter(kind: Kind, name: &str) -> Result<Parameter, String> {
    let allowed = kind.parameters();
    allowed
        .iter()
        .copied()
        .find(|parameter| parameter.name() == name)
        .ok_or_else(|| format!("unknown parameter `:{name}`; allowed are {}", listed(allowed)))
}

fn listed(parameters: &[Parameter]) -> String {
    parameters.iter().map(|parameter| format!(":{}", parameter.name())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn rewritten(dialect: Dialect, text: &str) -> (String, Vec<Parameter>) {
        let query = Query::parse(Kind::Sender, dialect, text).unwrap();
        (query.sql.to_string(), query.binds)
    }

    #[test]
    fn each_database_gets_its_own_placeholders() {
        use Parameter::{Domain, Sender};
        let text = "SELECT login FROM t WHERE a = :sender OR b = :domain OR c = :sender";
        let rows = [
            (Dialect::Postgres, "SELECT login FROM t WHERE a = $1 OR b = $2 OR c = $1", vec![Sender, Domain]),
            (Dialect::Sqlite, "SELECT login FROM t WHERE a = ?1 OR b = ?2 OR c = ?1", vec![Sender, Domain]),
            (Dialect::Mysql, "SELECT login FROM t WHERE a = ? OR b = ? OR c = ?", vec![Sender, Domain, Sender]),
        ];
        for (dialect, sql, binds) in rows {
            assert_eq!(rewritten(dialect, text), (sql.to_owned(), binds), "{dialect:?}");
        }
    }

    #[test]
    fn errors_name_the_key_and_what_is_allowed() {
        let rows = [
            (
                Kind::Password,
                "SELECT 1 WHERE x = :user",
                "auth.sql.password_query: unknown parameter `:user`; allowed are :login, :domain, :local",
            ),
            (Kind::Password, "SELECT 1", "auth.sql.password_query: uses none of :login"),
            (Kind::Sender, "SELECT 1 WHERE x = :login", "auth.sql.sender_query: uses none of :sender, :domain"),
            (Kind::Domain, "  ", "auth.sql.domain_query: is empty"),
            (Kind::Domain, "SELECT ':domain'", "auth.sql.domain_query: uses none of :domain"),
            (
                Kind::Recipient,
                "SELECT ?1, :recipient",
                "auth.sql.recipient_query: `?1` is not a parameter; use :recipient, :domain, :local",
            ),
            (Kind::Domain, "SELECT 'x = :domain", "auth.sql.domain_query: a ' is not closed"),
        ];
        for (kind, text, error) in rows {
            assert_eq!(Query::parse(kind, Dialect::Sqlite, text).unwrap_err().to_string(), error);
        }
    }
}
