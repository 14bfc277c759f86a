//! DEPTH: how many messages of a login are in the queue, of those that count for it.

use crate::Error;
use crate::revocation::login_key;
use crate::shared::{Requests, Shared};
use crate::value::count;

impl Shared {
    /// Over all partitions that can be asked.
    pub(crate) async fn depth(&self, login: &str) -> Result<u64, Error> {
        let login = login_key(login);
        let mut requests = Requests::new(self);
        for keys in self.within_reach() {
            requests.to(keys.number).cmd("HGET").arg(&keys.logins).arg(&login);
        }
        Ok(self.ask_all(&requests).await?.iter().map(count).sum())
    }
}
