//! Finds named parameters in SQL text: just enough of a lexer to know what is a string, a quoted identifier or a
//! comment.
//!
//! A colon introduces a parameter when a letter or `_` follows and neither a colon (`::text` is PostgreSQL's cast) nor
//! a word or `]` character stands directly before it (`a[lo:hi]`). `:=` and `[1:2]` stay as they are. Literals differ
//! by database: backslashes escape in MySQL and in PostgreSQL's `E'…'`; PostgreSQL nests comments and has
//! `$tag$…$tag$`; MySQL has `#` comments and wants a space behind `--`; MySQL and SQLite quote identifiers with
//! backticks, SQLite also with brackets.

use super::query::Dialect;

/// A part of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Goes to the database as it is.
    Text(&'a str),
    /// The name behind a colon.
    Name(&'a str),
    /// A positional placeholder of the database itself, which cannot be mixed with names.
    Placeholder(&'a str),
}

/// Something was opened and not closed: what it was opened with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a {0} is not closed")]
pub(super) struct Unclosed(String);

/// Cuts a query into pieces; their concatenation, with the colon before names, is the query.
pub(super) fn pieces(dialect: Dialect, sql: &str) -> Result<Vec<Piece<'_>>, Unclosed> {
    let mut lexer = Lexer { dialect, sql, position: 0, pieces: Vec::new(), text_from: 0 };
    while lexer.position < sql.len() {
        lexer.step()?;
    }
    lexer.end_text(sql.len());
    Ok(lexer.pieces)
}

struct Lexer<'a> {
    dialect: Dialect,
    sql: &'a str,
    position: usize,
    text_from: usize,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Lexer<'a> {
    /// Looks at one byte and moves behind what it begins. All bytes compared are ASCII, so slices fall on character
    /// borders.
    fn step(&mut self) -> Result<(), Unclosed> {
        let mysql = self.dialect == Dialect::Mysql;
        match self.byte(0) {
            b'\'' => {
                let backslash = mysql || self.escape_string();
                self.quoted(b'\'', backslash)
            }
            b'"' => self.quoted(b'"', mysql),
            b'`' if self.dialect != Dialect::Postgres => self.quoted(b'`', false),
            b'[' if self.dialect == Dialect::Sqlite => self.quoted(b']', false),
            b'-' if self.byte(1) == b'-' && (!mysql || self.byte(2) <= b' ') => self.line_comment(),
            b'#' if mysql => self.line_comment(),
            b'/' if self.byte(1) == b'*' => self.block_comment(),
            b'$' if self.dialect != Dialect::Mysql && !word(self.before()) => self.dollar(),
            b'?' if self.dialect != Dialect::Postgres => self.placeholder(),
            b':' => {
                self.colon();
                Ok(())
            }
            _ => self.advance(1),
        }
    }

    /// The byte `ahead` of the position; 0 behind the end.
    fn byte(&self, ahead: usize) -> u8 {
        self.sql.as_bytes().get(self.position + ahead).copied().unwrap_or(0)
    }

    /// The byte before the position; 0 at the start.
    fn before(&self) -> u8 {
        self.position.checked_sub(1).and_then(|at| self.sql.as_bytes().get(at)).copied().unwrap_or(0)
    }

    /// PostgreSQL's `E'…'`, where a backslash escapes.
    fn escape_string(&self) -> bool {
        let before = self.sql.get(..self.position).unwrap_or_default().as_bytes();
        self.dialect == Dialect::Postgres
            && matches!(before, [.., b'e' | b'E'])
            && !matches!(before, [.., b, _] if word(*b))
    }

    fn advance(&mut self, bytes: usize) -> Result<(), Unclosed> {
        self.position += bytes;
        Ok(())
    }

    /// A quoted part; the quote doubled stands for itself.
    fn quoted(&mut self, quote: u8, backslash: bool) -> Result<(), Unclosed> {
        let open = char::from(self.byte(0));
        self.position += 1;
        while self.position < self.sql.len() {
            let byte = self.byte(0);
            if byte == b'\\' && backslash || byte == quote && self.byte(1) == quote {
                self.position += 2;
            } else {
                self.position += 1;
                if byte == quote {
                    return Ok(());
                }
            }
        }
        Err(Unclosed(open.to_string()))
    }

    fn line_comment(&mut self) -> Result<(), Unclosed> {
        let rest = self.sql.get(self.position..).unwrap_or_default();
        self.position += rest.find('\n').map_or(rest.len(), |end| end + 1);
        Ok(())
    }

    fn block_comment(&mut self) -> Result<(), Unclosed> {
        let mut depth = 0_u32;
        while self.position < self.sql.len() {
            match (self.byte(0), self.byte(1)) {
                (b'/', b'*') if depth == 0 || self.dialect == Dialect::Postgres => {
                    depth += 1;
                    self.position += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.position += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.position += 1,
            }
        }
        Err(Unclosed("/*".to_owned()))
    }

    /// `$tag$…$tag$` of PostgreSQL, or a numbered placeholder (`$1`, SQLite: `$name`).
    fn dollar(&mut self) -> Result<(), Unclosed> {
        let rest = self.sql.get(self.position..).unwrap_or_default();
        let tag = rest.get(1..).unwrap_or_default().bytes().take_while(|byte| word(*byte)).count();
        if self.byte(1).is_ascii_digit() || self.dialect == Dialect::Sqlite && tag > 0 {
            self.mark(tag + 1);
            return Ok(());
        }
        if self.dialect == Dialect::Sqlite || self.byte(1 + tag) != b'$' {
            return self.advance(1);
        }
        let delimiter = rest.get(..tag + 2).unwrap_or_default();
        let body = rest.get(delimiter.len()..).unwrap_or_default();
        let end = body.find(delimiter).ok_or_else(|| Unclosed(delimiter.to_owned()))?;
        self.advance(end + 2 * delimiter.len())
    }

    fn placeholder(&mut self) -> Result<(), Unclosed> {
        let rest = self.sql.get(self.position + 1..).unwrap_or_default();
        self.mark(1 + rest.bytes().take_while(u8::is_ascii_digit).count());
        Ok(())
    }

    /// Reports a placeholder of the database.
    fn mark(&mut self, length: usize) {
        self.end_text(self.position);
        let end = self.position + length;
        self.pieces.push(Piece::Placeholder(self.sql.get(self.position..end).unwrap_or_default()));
        self.position = end;
        self.text_from = end;
    }

    /// A colon: a cast, part of something else, or a name.
    fn colon(&mut self) {
        if self.byte(1) == b':' {
            self.position += 2;
            return;
        }
        let rest = self.sql.get(self.position + 1..).unwrap_or_default();
        let length = rest.bytes().take_while(|byte| word(*byte)).count();
        let named = rest.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        if !named || word(self.before()) || self.before() == b']' {
            self.position += 1;
            return;
        }
        self.end_text(self.position);
        self.pieces.push(Piece::Name(rest.get(..length).unwrap_or_default()));
        self.position += 1 + length;
        self.text_from = self.position;
    }

    fn end_text(&mut self, end: usize) {
        if end > self.text_from {
            self.pieces.push(Piece::Text(self.sql.get(self.text_from..end).unwrap_or_default()));
        }
    }
}

/// Part of an identifier. Bytes above ASCII count, as all three databases allow letters there.
fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ALL: [Dialect; 3] = [Dialect::Sqlite, Dialect::Postgres, Dialect::Mysql];

    fn names(dialect: Dialect, sql: &str) -> Vec<&str> {
        let pieces = pieces(dialect, sql).unwrap();
        pieces.into_iter().filter_map(|piece| if let Piece::Name(name) = piece { Some(name) } else { None }).collect()
    }

    #[test]
    fn names_are_found_where_every_database_reads_them() {
        let rows: [(&str, &[&str]); 10] = [
            ("SELECT 1 WHERE a = :login", &["login"]),
            ("SELECT 1 WHERE a=:login AND b=lower(:sender)", &["login", "sender"]),
            ("SELECT ':login', :sender", &["sender"]),
            ("SELECT 'it''s :login', :sender", &["sender"]),
            ("SELECT \":login\", :sender", &["sender"]),
            ("SELECT /* :login */ :sender", &["sender"]),
            ("SELECT :sender -- :login\n, :domain", &["sender", "domain"]),
            ("SELECT a::login, :sender::text", &["sender"]),
            ("SELECT @x := 1, :sender", &["sender"]),
            ("SELECT 'ü:login', :sender -- ü:", &["sender"]),
        ];
        for dialect in ALL {
            for (sql, expected) in rows {
                assert_eq!(names(dialect, sql), expected, "{dialect:?} {sql}");
            }
        }
    }

    #[test]
    fn literals_of_one_database_only() {
        use Dialect::{Mysql, Postgres, Sqlite};
        let rows: [(Dialect, &str, &[&str]); 16] = [
            (Mysql, r"SELECT 'a\' :login', :sender", &["sender"]),
            (Mysql, r#"SELECT "a\" :login", :sender"#, &["sender"]),
            (Postgres, r"SELECT 'a\', :sender", &["sender"]),
            (Postgres, r"SELECT E'a\' :login', :sender", &["sender"]),
            (Postgres, r"SELECT type'a\', :sender", &["sender"]),
            (Mysql, "SELECT `:login`, :sender", &["sender"]),
            (Sqlite, "SELECT `:login`, [:domain], :sender", &["sender"]),
            (Postgres, "SELECT a[1:2], a[lo:hi], :sender", &["sender"]),
            (Postgres, "SELECT $$ :login $$, $t$ $$ :login $t$, :sender", &["sender"]),
            (Postgres, "SELECT /* /* */ :login */ :sender", &["sender"]),
            (Mysql, "SELECT /* /* */ :sender", &["sender"]),
            (Mysql, "SELECT :sender # :login\n, :domain", &["sender", "domain"]),
            (Mysql, "SELECT 5--:sender", &["sender"]),
            (Postgres, "SELECT 5--:sender", &[]),
            (Postgres, "SELECT data ? 'a:b', :sender", &["sender"]),
            (Postgres, "SELECT a$b, :sender", &["sender"]),
        ];
        for (dialect, sql, expected) in rows {
            assert_eq!(names(dialect, sql), expected, "{dialect:?} {sql}");
        }
    }

    #[test]
    fn placeholders_of_the_database_are_reported() {
        let rows = [
            (Dialect::Sqlite, "a = ?", "?"),
            (Dialect::Sqlite, "a = ?12", "?12"),
            (Dialect::Sqlite, "a = $login", "$login"),
            (Dialect::Mysql, "a = ?", "?"),
            (Dialect::Postgres, "a = $1", "$1"),
        ];
        for (dialect, sql, found) in rows {
            assert_eq!(pieces(dialect, sql).unwrap(), [Piece::Text("a = "), Piece::Placeholder(found)]);
        }
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        let rows = [
            (Dialect::Sqlite, "'a"),
            (Dialect::Sqlite, "\"a"),
            (Dialect::Sqlite, "[a"),
            (Dialect::Mysql, "`a"),
            (Dialect::Mysql, r"'a\'"),
            (Dialect::Postgres, "/* /* */"),
            (Dialect::Postgres, "$x$ $y$"),
        ];
        for (dialect, sql) in rows {
            assert!(pieces(dialect, sql).is_err(), "{dialect:?} {sql}");
        }
    }
}
