//! One question to a recipient's own server: the way there, the security and the greeting of a delivery, then MAIL, RCPT
//! and QUIT. What a message would carry never goes out.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::BytesMut;
use staffetta_config::Config;
use staffetta_mail::{Address, BodyType, Recipient, ReversePath};
use staffetta_policy::classify::{Action, Failure, classify};
use staffetta_policy::mx::Candidate;
use staffetta_policy::tls::{Need, Security};
use staffetta_smtp::client::{self, Client, Credentials, Event, Outcome, Stage, TransactionId, Transfer};
use staffetta_transport::connect::{self, Stream, TlsClient};
use staffetta_transport::dns::Resolver;
use staffetta_transport::fallback::BrokenTls;
use staffetta_transport::hop::{Login, NextHop};
use staffetta_transport::itinerary::{Announced, Planner};
use staffetta_transport::tls::exporter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Demands;

/// Longest wait for a connection and for a handshake: another address, or plaintext, must have its time, too.
const CONNECT: Duration = Duration::from_millis(1_500);
const HANDSHAKE: Duration = Duration::from_millis(1_500);
/// Longest wait for the last write.
const GOODBYE: Duration = Duration::from_millis(500);
/// Room for replies.
const INPUT: usize = 2_048;

/// Asks servers.
pub(super) struct Prober {
    planner: Planner,
    tls: TlsClient,
    fallback: BrokenTls,
}

impl Prober {
    pub(super) fn new(config: &Config, resolver: Resolver) -> anyhow::Result<Self> {
        let tls = TlsClient::new(config.delivery.ca.as_deref()).or_else(|error| {
            // The workers' file need not be here; who must prove himself by it cannot be asked then.
            tracing::warn!(%error, "delivery.ca is not used to ask servers about recipients");
            TlsClient::new(None)
        });
        let tls = tls.map_err(|error| anyhow!("failed to {error}"))?;
        Ok(Self { planner: Planner::new(config, resolver), tls, fallback: BrokenTls::default() })
    }

    /// Does the server at the next hop take mail for this recipient? Takes as long as it takes.
    ///
    /// # Errors
    /// It does not, or cannot be asked.
    pub(super) async fn ask(&self, hop: &NextHop, recipient: &Address, demands: Demands) -> Result<(), Failure> {
        let question = question(recipient, demands);
        let mut last = Failure::Local { reason: "no address to try".to_owned() };
        let plan = self.planner.plan(hop, need(&question)).await?;
        let mut round = self.planner.round(hop, need(&question), plan);
        while let Some((candidate, published)) = round.next().await {
            match self.ask_at(hop, &candidate, published, &question).await {
                Ok(()) => return Ok(()),
                Err(failure) => last = failure,
            }
            if is_answer(&last) || classify(&last, &hop.name()).action != Action::NextHost {
                break;
            }
        }
        Err(last)
    }

    /// One address; a second time without TLS, where a failed handshake allows that.
    async fn ask_at(
        &self,
        hop: &NextHop,
        peer: &Candidate,
        published: Announced,
        question: &Transfer,
    ) -> Result<(), Failure> {
        let host = peer.endpoint.ip().map(|ip| (peer.host.clone(), ip));
        let (need, published) = (need(question), published?);
        let asked = |failed_lately| hop.security(peer, &published, need, failed_lately);
        let security = asked(host.as_ref().is_some_and(|host| self.fallback.applies(host, Instant::now())))?;
        let result = self.converse(hop, peer, &security, question).await;
        match &result {
            Err(Failure::Session { failure, .. }) if security.falls_back_after(failure) => {
                if let Some(host) = host {
                    self.fallback.remember(host, Instant::now());
                }
                self.converse(hop, peer, &asked(true)?, question).await
            }
            _ => result.map_err(|failure| match failure {
                Failure::Session { peer, failure } => Failure::Session { peer, failure: need.unmet(failure) },
                other => other,
            }),
        }
    }

    async fn converse(
        &self,
        hop: &NextHop,
        peer: &Candidate,
        security: &Security,
        question: &Transfer,
    ) -> Result<(), Failure> {
        // From whatever address: those of `delivery.source_addresses` are the workers'.
        let stream = connect::open(&peer.endpoint, None, CONNECT)
            .await
            .map_err(|error| Failure::Connect { peer: peer.peer(), reason: error.to_string() })?;
        let mut session = Client::new(Arc::new(hop.settings(peer, security, password(hop))));
        session.ask(TransactionId(0), question.clone());
        let mut wire = Wire::new(stream, session);
        let outcome = loop {
            match wire.next() {
                Event::Ready => {}
                Event::Read(_) => wire.exchange().await,
                Event::StartTls => wire = self.start_tls(wire, peer, security).await?,
                Event::Done(_, mut report) => break report.outcomes.pop(),
                Event::Closed(failure) => break failure.map(Outcome::Failed),
                Event::SendBody(_) | Event::Idle => break None,
            }
        };
        wire.leave().await;
        match outcome {
            Some(Outcome::Delivered(_)) => Ok(()),
            Some(Outcome::Failed(failure)) => Err(Failure::Session { peer: peer.peer(), failure }),
            None => Err(Failure::Local { reason: "a question without an answer".to_owned() }),
        }
    }

    async fn start_tls(&self, mut wire: Wire, peer: &Candidate, security: &Security) -> Result<Wire, Failure> {
        if wire.flush().await.is_err() {
            wire.session.on_lost();
            return Ok(wire);
        }
        let Stream::Plain(tcp) = wire.stream else { return Err(no_handshake(peer, &"it is no TCP connection")) };
        match self.tls.handshake(&security.trust, &peer.host, tcp, HANDSHAKE).await {
            Ok((stream, ..)) => {
                if let Some(exporter) = exporter(stream.get_ref().1) {
                    wire.session.bind_to(exporter);
                }
                wire.stream = Stream::Tls(Box::new(stream));
                wire.session.on_tls_started();
                Ok(wire)
            }
            Err(error) => Err(no_handshake(peer, &error)),
        }
    }
}

fn no_handshake(peer: &Candidate, why: &impl ToString) -> Failure {
    Failure::Session { peer: peer.peer(), failure: client::Failure::TlsHandshake(why.to_string()) }
}

/// Another host would not say anything else, or should not be asked.
fn is_answer(failure: &Failure) -> bool {
    matches!(failure, Failure::Session { failure, .. } if matches!(failure.stage(), Stage::Mail | Stage::Rcpt))
}

/// Whoever wants a token is not asked; see [`super::Verifier::ask`].
fn password(hop: &NextHop) -> Option<Arc<Credentials>> {
    match &hop.login {
        Some(Login::Password(credentials)) => Some(credentials.clone()),
        Some(Login::Token(_)) | None => None,
    }
}

fn need(question: &Transfer) -> Need {
    if question.require_tls { Need::AuthenticatedTls } else { Need::Nothing }
}

/// From nobody, so that nobody is asked about the sender in turn, and of no size.
fn question(recipient: &Address, demands: Demands) -> Transfer {
    Transfer {
        sender: ReversePath::Null,
        recipients: vec![Recipient::new(recipient.clone())],
        size: 0,
        body: BodyType::SevenBit,
        ret: None,
        envid: None,
        smtputf8: demands.smtputf8 || !recipient.as_str().is_ascii(),
        require_tls: demands.require_tls,
    }
}

/// The connection, its session and their buffers.
struct Wire {
    stream: Stream,
    session: Client,
    input: BytesMut,
    output: BytesMut,
}

impl Wire {
    fn new(stream: Stream, session: Client) -> Self {
        Self { stream, session, input: BytesMut::with_capacity(INPUT), output: BytesMut::new() }
    }

    fn next(&mut self) -> Event {
        self.session.next(&mut self.input, &mut self.output)
    }

    /// Writes, then waits for an answer.
    async fn exchange(&mut self) {
        let read = async {
            self.flush().await?;
            self.input.reserve(INPUT);
            self.stream.read_buf(&mut self.input).await
        };
        if !matches!(read.await, Ok(1..)) {
            self.session.on_lost();
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.flush().await
    }

    /// Says QUIT, for the other side's log, and waits for no answer.
    async fn leave(mut self) {
        self.session.quit();
        self.next();
        let end = async {
            self.flush().await?;
            self.stream.shutdown().await
        };
        let _ = tokio::time::timeout(GOODBYE, end).await;
    }
}
