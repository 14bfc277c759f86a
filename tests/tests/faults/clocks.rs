//! Clocks that nobody agrees on, while processes die.

use staffetta_tests::{Service, World};

use crate::{Siege, rounds};

const SIX_DAYS: i64 = 6 * 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn clocks_are_wrong_while_workers_die() -> anyhow::Result<()> {
    let world = World::new().await?.skewed(Service::Delivery, SIX_DAYS)?.skewed(Service::Frontend, -SIX_DAYS)?;
    let mut siege = Siege::lay(world).await?;
    for _ in 0..rounds()? {
        siege.replace(Service::Delivery).await?;
    }
    siege.lift().await
}
