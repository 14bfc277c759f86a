//! Walks by pages over what may be long: no answer of Redis is, so that nobody waits for it. Whatever is there from the
//! beginning to the end is found, what comes or goes meanwhile perhaps, and some of it twice.

use redis::{Cmd, Value};

use crate::Error;
use crate::node::Node;
use crate::value;

/// Names looked at in one go.
pub(crate) const PAGE: usize = 500;

impl Node {
    /// Some members of a sorted set from this cursor on (`0` begins), and the next cursor, if there is one.
    pub(crate) async fn members(&self, set: &str, cursor: &str) -> Result<(Option<String>, Vec<String>), Error> {
        let (next, pairs) = self.pairs("ZSCAN", set, cursor).await?;
        Ok((next, pairs.into_iter().map(|(member, _)| member).collect()))
    }

    /// The same of a hash: fields with their values.
    pub(crate) async fn fields(
        &self,
        hash: &str,
        cursor: &str,
    ) -> Result<(Option<String>, Vec<(String, String)>), Error> {
        self.pairs("HSCAN", hash, cursor).await
    }

    async fn pairs(
        &self,
        scan: &str,
        key: &str,
        cursor: &str,
    ) -> Result<(Option<String>, Vec<(String, String)>), Error> {
        let mut command = Cmd::new();
        command.arg(scan).arg(key).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, words) = page(&self.admin.ask(command).await?);
        let mut words = words.into_iter();
        let pairs = std::iter::from_fn(|| Some((words.next()?, words.next()?)));
        Ok((next, pairs.collect()))
    }

    /// The same of the keys of the queue.
    pub(crate) async fn keys(&self, cursor: &str) -> Result<(Option<String>, Vec<String>), Error> {
        let mut command = Cmd::new();
        command.arg("SCAN").arg(cursor).arg("MATCH").arg("{kq:*").arg("COUNT").arg(PAGE);
        Ok(page(&self.admin.ask(command).await?))
    }
}

fn page(answer: &Value) -> (Option<String>, Vec<String>) {
    let answer = value::array(answer);
    let cursor = answer.first().and_then(value::str).filter(|cursor| *cursor != "0").map(str::to_owned);
    let found = answer.get(1).map(value::array).unwrap_or_default();
    (cursor, found.iter().filter_map(value::str).map(str::to_owned).collect())
}
