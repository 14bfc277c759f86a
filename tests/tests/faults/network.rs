//! The network between the services and Redis breaks.

use staffetta_testkit::proxy::{Network, Proxy};
use staffetta_testkit::redis_server::RedisServer;
use staffetta_tests::World;
use tokio::time::sleep;

use crate::{LONGER_THAN_A_LEASE, Siege, rounds};

async fn becomes(network: Network) -> anyhow::Result<()> {
    let world = World::new().await?;
    let redis = RedisServer::start(&world.folder().join("far"), &[])?;
    let proxy = Proxy::start(redis.port().address()).await?;
    let mut siege = Siege::lay(world.set("redis.url", format!("\"redis://{}\"", proxy.address()))).await?;
    for _ in 0..rounds()? {
        siege.endanger().await?;
        proxy.becomes(network);
        sleep(LONGER_THAN_A_LEASE).await;
        proxy.becomes(Network::Whole);
        siege.goes_on().await?;
    }
    siege.lift().await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_redis_are_cut() -> anyhow::Result<()> {
    becomes(Network::Cut).await
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_to_and_from_redis_get_lost() -> anyhow::Result<()> {
    becomes(Network::Silent).await
}

/// What was asked is done, and nobody hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_redis_get_lost() -> anyhow::Result<()> {
    becomes(Network::Deaf).await
}
