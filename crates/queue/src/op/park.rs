//! PARK: a destination rests although nothing of it was attempted.

use std::time::Duration;

use crate::script;
use crate::shared::Shared;
use crate::{Destination, Error};

impl Shared {
    pub(crate) async fn park(&self, partition: u16, destination: &Destination, rest: Duration) -> Result<(), Error> {
        let keys = self.partition(partition);
        let call = script::Park {
            due: &keys.due,
            back_off: &keys.back_off,
            destination: destination.as_str().into(),
            rest: rest.into(),
        };
        self.node(partition).claims.ask(call.call()).await?;
        Ok(())
    }
}
