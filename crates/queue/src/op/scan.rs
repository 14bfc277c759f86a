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
        let mut command = Cmd::new();
        command.arg("ZSCAN").arg(set).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, mut members) = page(&self.admin.ask(command).await?);
        // Each stands before its score.
        let mut number = 0;
        members.retain(|_| {
            number += 1;
            number % 2 == 1
        });
        Ok((next, members))
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
