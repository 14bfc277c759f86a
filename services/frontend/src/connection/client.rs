//! XCLIENT: another client takes the place of the one that brought it. From then on it is that client who is trusted or not,
//! counted, logged and named in trace fields; nothing of the one before is left but the encryption between us and it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use staffetta_smtp::server::{Answer, ClientAttributes, Told};
use staffetta_telemetry::maillog;

use super::Dialog;
use super::refused::Refused;
use crate::door::Peer;
use crate::intake::Memory;

/// How the log names the mechanism of a login that was made elsewhere.
const MECHANISM: &str = "XCLIENT";

impl Dialog<'_> {
    pub(super) async fn client(&mut self, told: ClientAttributes) -> Answer<Refused> {
        let peer = self.peer_told(&told).await;
        let mut place = self.slot.pass_on(peer.guest());
        if place.is_ok() {
            place = self.slot.confirm().await;
        }
        if let Err(full) = place {
            return Answer::Refuse(self.door.over_limit(full, peer.address.ip()), Refused::NoPlace);
        }
        self.peer = peer;
        self.stand_anew();
        self.brought = true;
        self.unlimit();
        self.memory = Memory::default();
        self.exchange = None;
        self.evidence = None;
        self.attempt = None;
        self.mechanism = matches!(told.login, Told::This(_)).then(|| MECHANISM.into());
        let client = maillog::Client { address: self.peer.address, name: self.peer.name.as_deref().map(Into::into) };
        maillog::connected(&maillog::Connected { listener: self.door.name(), client });
        Answer::Client(self.door.link(&self.peer))
    }

    /// What is not told stays as it was known, but a name does not go over to another address.
    async fn peer_told(&self, told: &ClientAttributes) -> Peer {
        let port = match told.port {
            Told::Nothing => self.peer.address.port(),
            Told::Unknown => 0,
            Told::This(port) => port,
        };
        let mut peer = match told.address {
            Told::Nothing => {
                let mut peer = self.peer.clone();
                peer.address.set_port(port);
                peer
            }
            Told::Unknown => Peer::nameless(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
            Told::This(ip) => self.door.peer(SocketAddr::new(ip.to_canonical(), port)),
        };
        match &told.name {
            Told::This(name) => peer.name = Some(Arc::from(name.as_str())),
            Told::Unknown => peer.name = None,
            Told::Nothing => {
                if let (Told::This(_), Some(names)) = (told.address, &self.door.shared.names) {
                    peer.name = names.of(peer.address.ip()).await;
                }
            }
        }
        peer
    }
}
