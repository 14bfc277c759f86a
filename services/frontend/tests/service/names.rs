//! What clients are called. We are the load balancer here, so that they have addresses that are none of this machine.

use std::time::{Duration, Instant};

use crate::client::{Client, MESSAGE};
use crate::world::World;

const BEHIND: &str = "proxy_from = [\"127.0.0.1/32\"]\ntrusted_networks = [\"192.0.2.0/24\", \"2001:db8::/32\"]";

/// Something for a busy machine, on top of the second that a name may take.
const A_SECOND: Duration = Duration::from_secs(3);

/// A client at the address; says how long its greeting took.
async fn at(address: &str, world: &World) -> (Client, Duration) {
    let family = if address.contains(':') { "TCP6 2001:db8::25" } else { "TCP4 198.51.100.1" };
    let (family, server) = family.split_once(' ').unwrap();
    let began = Instant::now();
    let mut client = Client::early(world.relay, format!("PROXY {family} {address} {server} 40001 25\r\n").as_bytes());
    assert!(client.reply().await.starts_with("220 mail.test "));
    (client, began.elapsed())
}

/// The trace field of a message from there.
async fn trace(address: &str, world: &World) -> String {
    let (mut client, _) = at(address, world).await;
    client.expect(&[("EHLO me", "250-")]).await;
    client.expect(MESSAGE).await;
    let (message, body) = world.only_message().await;
    world.queue().await.delete(message.id).await.unwrap();
    String::from_utf8(body).unwrap().lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_has_the_name_that_the_dns_confirms_in_log_and_trace() {
    let world = World::start_process(BEHIND, "format = \"postfix\"").await;
    let addresses = ["192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10", "2001:db8::7"];
    let [named, forger, nameless, both, six] = addresses.map(|text| text.parse::<std::net::IpAddr>().unwrap());
    world.dns.pointer(named, "Client.test").host("client.test", named);
    world.dns.pointer(forger, "client.test");
    world.dns.pointer(both, "client.test").pointer(both, "second.test").host("second.test", both);
    world.dns.pointer(six, "six.test").host("six.test", six);
    for (address, name) in [
        (named, "client.test [192.0.2.7]"),
        (forger, "unknown [192.0.2.8]"),
        (nameless, "unknown [192.0.2.9]"),
        (both, "second.test [192.0.2.10]"),
        (six, "six.test [IPv6:2001:db8::7]"),
    ] {
        let trace = trace(&address.to_string(), &world).await;
        assert_eq!(trace, format!("Received: from me ({name})"));
    }
    world.log_with("client=client.test[192.0.2.7]").await;
    world.log_with("client=unknown[192.0.2.8]").await;
}

#[tokio::test]
async fn a_silent_dns_holds_the_first_greeting_for_a_second_and_the_next_not_at_all() {
    let world = World::start(BEHIND).await;
    world.dns.silent("7.2.0.192.in-addr.arpa").silent("mute.test");
    world.dns.pointer([192, 0, 2, 8], "mute.test");
    for address in ["192.0.2.7", "192.0.2.8"] {
        let (_first, took) = at(address, &world).await;
        assert!(took < A_SECOND, "{address}: {took:?}");
        let (_second, took) = at(address, &world).await;
        assert!(took < Duration::from_millis(700), "{address}: {took:?}");
    }
}

#[tokio::test]
async fn names_are_not_looked_up_where_that_is_off() {
    let world = World::start(&format!("{BEHIND}\nreverse_dns = false")).await;
    world.dns.pointer([192, 0, 2, 7], "client.test").host("client.test", [192, 0, 2, 7]);
    let before = world.dns.queries();
    let (_client, _) = at("192.0.2.7", &world).await;
    assert_eq!(world.dns.queries(), before);
}
