//! Each key of the configuration reaches the place that has to obey it: a value that is not the default has an effect
//! that can be seen from outside.

mod delivery;
mod frontend;
mod keys;
mod store;

use staffetta_tests::{Client, World};

const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";

/// A session of a trusted client.
async fn client(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    Ok(client)
}
