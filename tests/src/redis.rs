//! A hand in the store: reads and changes what lies in Redis, as an accident or an eviction does.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

/// An answer of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Octets; nothing there is `Nil`.
    Octets(Vec<u8>),
    /// A number.
    Integer(i64),
    /// Several.
    List(Vec<Value>),
    /// Nothing.
    Nil,
}

/// One connection.
pub struct Redis {
    stream: BufReader<UnixStream>,
}

impl Redis {
    /// Connects to a server's unix socket.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// One command.
    ///
    /// # Errors
    /// What Redis says against it.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> anyhow::Result<Value> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        self.value()
    }

    /// The names of all keys that match, sorted.
    ///
    /// # Errors
    /// As [`Redis::ask`].
    pub fn keys(&mut self, pattern: &str) -> anyhow::Result<Vec<String>> {
        let Value::List(keys) = self.ask(&["KEYS", pattern])? else { bail!("KEYS answers with a list") };
        let name = |key: Value| match key {
            Value::Octets(octets) => Ok(String::from_utf8(octets)?),
            other => bail!("{other:?} is no key"),
        };
        let mut names = keys.into_iter().map(name).collect::<anyhow::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// Takes a string away, and says what it was.
    ///
    /// # Errors
    /// If it is not there.
    pub fn take(&mut self, key: &str) -> anyhow::Result<Vec<u8>> {
        match self.ask(&["GETDEL", key])? {
            Value::Octets(octets) => Ok(octets),
            other => bail!("{key}: {other:?}"),
        }
    }

    fn value(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").context("the answer is cut off")?;
        let (kind, rest) = line.split_at_checked(1).context("an empty answer")?;
        Ok(match kind {
            "+" => Value::Octets(rest.into()),
            ":" => Value::Integer(rest.parse()?),
            "$" => match rest.parse::<i64>()? {
                -1 => Value::Nil,
                length => {
                    let mut octets = vec![0; usize::try_from(length)? + 2];
                    self.stream.read_exact(&mut octets)?;
                    octets.truncate(octets.len() - 2);
                    Value::Octets(octets)
                }
            },
            "*" => match rest.parse::<i64>()? {
                -1 => Value::Nil,
                length => Value::List((0..length).map(|_| self.value()).collect::<anyhow::Result<_>>()?),
            },
            _ => bail!("{line}"),
        })
    }
}
