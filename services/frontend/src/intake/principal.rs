//! Who brings a message.

use std::net::SocketAddr;

use metrics::Counter;
use staffetta_mail::trace::Protocol;
use staffetta_mail::{Address, ReversePath};
use staffetta_policy::client::network;
use staffetta_policy::relay::{Listener, Request};
use staffetta_queue::{Origin, Payer};
use staffetta_telemetry::maillog::{Client, Sasl};

use crate::verify::Demands;

/// Where messages come in: one listener of the configuration.
pub(crate) struct Source {
    /// Its name, in logs, metrics and queued messages.
    pub(crate) name: String,
    /// Its place there, for what is counted for each.
    pub(crate) index: usize,
    /// Which rules it has.
    pub(crate) kind: Listener,
    /// Counts the messages that came in through it.
    pub(crate) accepted: Counter,
}

/// What is known of the client when it brings a message; put together anew for each step, at no cost.
#[derive(Clone, Copy)]
pub(crate) struct Principal<'a> {
    pub(crate) source: &'a Source,
    pub(crate) client: SocketAddr,
    /// Its verified name.
    pub(crate) name: Option<&'a str>,
    /// It is in one of the trusted networks.
    pub(crate) trusted: bool,
    /// What it calls itself; nobody verified it.
    pub(crate) helo: Option<&'a str>,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<&'a Tls>,
    pub(crate) login: Option<Login<'a>>,
    /// The message that it brings demands TLS all the way (REQUIRETLS).
    pub(crate) require_tls: bool,
}

/// Who logged in, and by which SASL mechanism.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) name: &'a str,
    pub(crate) mechanism: &'a str,
}

/// Protocol and cipher of a connection, for logs and the trace field.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// `TLSv1.3`
    pub(crate) version: &'static str,
    /// `TLS_AES_256_GCM_SHA384`
    pub(crate) cipher: &'static str,
    /// Both with a blank between them.
    pub(crate) text: String,
}

impl<'a> Principal<'a> {
    /// One of ours: what its messages lack is added (RFC 6409 section 8).
    pub(crate) fn is_own(&self) -> bool {
        self.login.is_some() || self.trusted
    }

    /// On whose account its messages take memory and room in the queue until they are accepted.
    pub(crate) fn payer(&self) -> Payer {
        let client = (!self.trusted).then(|| network(self.client.ip()));
        Payer { listener: self.source.index, client }
    }

    /// The question to the relay policy.
    pub(crate) fn request(&self, sender: &'a ReversePath, recipient: &'a Address) -> Request<'a> {
        Request {
            listener: self.source.kind,
            trusted: self.trusted,
            login: self.login.map(|login| login.name),
            sender,
            recipient,
            demanding: self.protocol.utf8 || self.require_tls,
        }
    }

    /// What its message demands of every server.
    pub(super) fn demands(&self) -> Demands {
        Demands { smtputf8: self.protocol.utf8, require_tls: self.require_tls }
    }

    /// What the queue keeps of it.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            listener: self.source.name.clone(),
            client: Some(self.client.ip()),
            helo: self.helo.unwrap_or_default().to_owned(),
            login: self.login.map(|login| login.name.to_owned()),
            span: None,
        }
    }

    /// The client as the mail log names it.
    pub(crate) fn for_log(&self) -> Client<'a> {
        Client { address: self.client, name: self.name.map(Into::into) }
    }

    /// The login as the mail log names it.
    pub(crate) fn sasl(&self) -> Option<Sasl<'a>> {
        self.login.map(|login| Sasl { method: login.mechanism, username: login.name.into() })
    }
}
