//! PARK: a destination rests although nothing of it was attempted.

use std::time::Duration;

use crate::script::Script;
use crate::shared::Shared;
use crate::{Destination, Error};

impl Shared {
    pub(crate) async fn park(&self, partition: u16, destination: &Destination, rest: Duration) -> Result<(), Error> {
        let keys = self.partition(partition);
        let mut call = Script::Park.call(&[&keys.due, &keys.back_off], 64);
        call.arg(destination.as_str()).arg(rest.as_millis() as u64);
        self.claims.ask(call).await?;
        Ok(())
    }
}
