//! One connection to one server: the stream, the session, their buffers and one deadline.
//!
//! [`Connection::open`] dials a candidate and drives the session until transactions may begin: greeting, EHLO,
//! STARTTLS, AUTH. Afterwards the carrier pulls events with [`Connection::next`], writes with [`Connection::flush`] and
//! waits with [`Connection::read`], which is cancel safe.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use staffetta_config::Timeouts;
use staffetta_mail::tls_report::Flaw;
use staffetta_policy::classify;
use staffetta_policy::tls::{Need, Security};
use staffetta_queue::Revocations;
use staffetta_smtp::client::{Client, Credentials, Event, Failure, Keyword, Stage, Tls};
use staffetta_telemetry::maillog::{self, Encrypted, Relay};
use staffetta_transport::connect::{self, ConnectError, Fault, Stream, TlsClient, TlsSession};
use staffetta_transport::fallback::{BrokenTls, Fallback};
use staffetta_transport::hop::{Login, NextHop};
use staffetta_transport::itinerary::{Announced, Candidate};
use staffetta_transport::tls::exporter;
use staffetta_transport::token::{TokenError, Tokens};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Sleep;

use crate::metrics::{Metrics, TlsResult, record};
use crate::origin::{Origin, Portion};
use crate::tls_reports::Sessions;

/// Room for replies.
const INPUT: usize = 4096;

/// What opening a connection needs besides the candidate.
pub(crate) struct Opener<'a> {
    pub(crate) hop: &'a NextHop,
    /// What the other side says of the host, if that is known.
    pub(crate) published: &'a Announced,
    pub(crate) tls: &'a TlsClient,
    pub(crate) tokens: &'a Tokens,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) origin: &'a Origin,
    pub(crate) metrics: &'a Metrics,
    /// With whom TLS failed lately.
    pub(crate) fallback: &'a BrokenTls,
    /// Who did not know BDAT lately.
    pub(crate) unchunked: &'a Fallback,
    /// Who would not have SCRAM lately.
    pub(crate) unscrammed: &'a Fallback,
    /// What the cluster knows of hosts.
    pub(crate) revocations: &'a Revocations,
    /// The most that a message at hand demands.
    pub(crate) need: Need,
    /// For reports on TLS, if there are any.
    pub(crate) sessions: Option<&'a Sessions>,
}

/// An open connection.
pub(crate) struct Connection {
    stream: Stream,
    pub(crate) session: Client,
    input: BytesMut,
    pub(crate) output: BytesMut,
    pub(crate) peer: Candidate,
    /// Our end.
    pub(crate) source: Option<IpAddr>,
    /// How many messages it may carry because of that; `None`: any number.
    pub(crate) portion: Option<Portion>,
    /// What was asked of the server; a message that needs more does not go this way.
    pub(crate) security: Security,
    /// `TLSv1.3 TLS_AES_256_GCM_SHA384`
    pub(crate) tls: Option<String>,
    /// Time from the look-up to the end of the set-up.
    pub(crate) setup: Duration,
    /// When the look-up began and ended.
    pub(crate) looked_up: Option<(Instant, Instant)>,
    deadline: Deadline,
    /// The reply that the deadline is for: its stage, and how many came before it.
    awaited: Option<(Stage, u64)>,
    /// Since when.
    since: Instant,
}

/// How waiting for the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// There is more input.
    Data,
    /// The server closed, or the connection broke.
    End,
    /// Nothing in time.
    Silence,
}

impl Opener<'_> {
    /// Connects, speaks until the session is ready, and says why if that fails. A host that refuses a token is shown another
    /// one, if there is one.
    pub(crate) async fn open(&self, peer: &Candidate, started: Instant) -> Result<Connection, classify::Failure> {
        let account = match &self.hop.login {
            Some(Login::Token(account)) => account,
            Some(Login::Password(credentials)) => return self.open_as(Some(credentials), peer, started).await,
            None => return self.open_as(None, peer, started).await,
        };
        let shown = self.tokens.credentials(account).await.map_err(|error| no_token(&error))?;
        let result = self.open_as(Some(&shown), peer, started).await;
        if !result.as_ref().is_err_and(refuses_login) {
            return result;
        }
        match self.tokens.instead_of(account, shown).await {
            Ok(another) => self.open_as(Some(&another), peer, started).await,
            Err(error) => {
                tracing::info!(relay = %peer.peer(), %error, "a token is refused, and there is no other");
                result
            }
        }
    }

    /// The same, with this to log in with. Where TLS is an offer and its handshake fails, the host is tried a second time
    /// without it.
    async fn open_as(
        &self,
        login: Option<&Arc<Credentials>>,
        peer: &Candidate,
        started: Instant,
    ) -> Result<Connection, classify::Failure> {
        let published = self.published.as_ref().map_err(Clone::clone)?;
        let asked = |failed_lately| self.hop.security(peer, published, self.need, failed_lately);
        let host = peer.endpoint.ip().map(|ip| (peer.host.clone(), ip));
        let security = asked(host.as_ref().is_some_and(|host| self.fallback.applies(host, Instant::now())))?;
        let result = self.open_with(login, peer, &security, started).await;
        if result.is_ok() && security.is_fallback() {
            let reason = "TLS failed with this host lately".to_owned();
            self.note(peer, &security, Some(Fault { flaw: Flaw::ValidationFailure, reason }));
        }
        let Err(classify::Failure::Session { failure, .. }) = &result else { return result };
        if !security.falls_back_after(failure) {
            return result;
        }
        tracing::info!(relay = %peer.peer(), error = %failure, "retrying without TLS");
        if let Some(host) = host {
            self.fallback.remember(host, Instant::now());
        }
        self.open_with(login, peer, &asked(true)?, started).await
    }

    async fn open_with(
        &self,
        login: Option<&Arc<Credentials>>,
        peer: &Candidate,
        security: &Security,
        started: Instant,
    ) -> Result<Connection, classify::Failure> {
        let result = self.set_up(login, peer, security, started).await;
        self.count(peer, security, &result);
        result
    }

    async fn set_up(
        &self,
        login: Option<&Arc<Credentials>>,
        peer: &Candidate,
        security: &Security,
        started: Instant,
    ) -> Result<Connection, classify::Failure> {
        let stream = connect::open(&peer.endpoint, self.origin.address, self.timeouts.connect).await.map_err(
            |error| match error {
                ConnectError::Source { .. } => classify::Failure::NoSource { reason: error.to_string() },
                error => classify::Failure::Connect { peer: peer.peer(), reason: error.to_string() },
            },
        )?;
        let mut settings = self.hop.settings(peer, security, login.cloned());
        if let Some(name) = &self.origin.name {
            settings.helo_name = name.to_string();
        }
        // What a program behind a socket cannot do is remembered nowhere.
        let ip = peer.endpoint.ip();
        if ip.is_none_or(|ip| self.unchunked.applies(&ip, Instant::now())) {
            settings.ignored.push(Keyword::Chunking);
        }
        if ip.is_some_and(|ip| self.revocations.is_unpipelined(ip)) {
            settings.ignored.push(Keyword::Pipelining);
        }
        if ip.is_some_and(|ip| self.unscrammed.applies(&ip, Instant::now())) {
            settings.nonce.clear();
        }
        let session = Client::new(Arc::new(settings));
        let mut connection = Connection::new(stream, session, peer.clone(), security.clone());
        loop {
            match connection.next() {
                Event::Ready => break,
                Event::Read(stage) => connection.exchange(stage, self.limit(stage)).await,
                Event::StartTls => connection = self.start_tls(connection).await?,
                Event::Closed(failure) => {
                    connection.close().await;
                    let failure = failure.unwrap_or(Failure::Lost { stage: Stage::Greeting });
                    return Err(classify::Failure::Session { peer: peer.peer(), failure });
                }
                Event::SendBody(_) | Event::Done(..) | Event::Idle => {}
            }
        }
        if let Some(ip) = ip.filter(|_| connection.session.has_refused_scram()) {
            tracing::info!(relay = %peer.peer(), "SCRAM is offered there, and not for this account: for a while the login goes without");
            self.unscrammed.remember(ip, Instant::now());
        }
        connection.setup = started.elapsed();
        connection.source = self.origin.address;
        record(&self.metrics.connect_time, connection.setup);
        Ok(connection)
    }

    async fn start_tls(&self, mut connection: Connection) -> Result<Connection, classify::Failure> {
        if connection.flush(self.timeouts.tls).await != Heard::Data {
            connection.session.on_lost();
            return Ok(connection);
        }
        let Stream::Plain(tcp) = connection.stream else {
            return Err(no_handshake(&connection.peer, &"it is no TCP connection"));
        };
        let began = Instant::now();
        match self.tls.handshake(&connection.security.trust, &connection.peer.host, tcp, self.timeouts.tls).await {
            Ok((stream, TlsSession { version, cipher }, fault)) => {
                self.note(&connection.peer, &connection.security, fault);
                record(&self.metrics.tls_time, began.elapsed());
                self.metrics.handshake(Some(version));
                let tls = format!("{version} {cipher}");
                maillog::encrypted(&Encrypted {
                    relay: Relay { host: connection.peer.host.as_ref().into(), endpoint: &connection.peer.endpoint },
                    protocol: self.hop.protocol_name(),
                    tls: &tls,
                    trust: connection.security.trust.as_str(),
                });
                if let Some(exporter) = exporter(stream.get_ref().1) {
                    connection.session.bind_to(exporter);
                }
                connection.stream = Stream::Tls(Box::new(stream));
                connection.tls = Some(tls);
                connection.session.on_tls_started();
                Ok(connection)
            }
            Err(error) => {
                self.metrics.handshake(None);
                self.note(&connection.peer, &connection.security, Some(error.fault()));
                Err(no_handshake(&connection.peer, &error))
            }
        }
    }

    fn limit(&self, stage: Stage) -> Duration {
        time_limit(self.timeouts, stage)
    }

    /// What came of it, for the metrics; and for reports on TLS, where there was no handshake.
    fn count(&self, peer: &Candidate, security: &Security, result: &Result<Connection, classify::Failure>) {
        let without = |flaw, reason: String| self.note(peer, security, Some(Fault { flaw, reason }));
        match result {
            Ok(connection) if connection.tls.is_none() && security.starttls == Tls::IfOffered => {
                without(Flaw::StartTlsNotSupported, "STARTTLS is not offered".to_owned());
            }
            Err(classify::Failure::Session { failure: failure @ Failure::TlsNotOffered, .. }) => {
                without(Flaw::StartTlsNotSupported, failure.to_string());
            }
            Err(classify::Failure::Session { failure, .. })
                if failure.stage() == Stage::StartTls && !matches!(failure, Failure::TlsHandshake(_)) =>
            {
                without(Flaw::ValidationFailure, failure.to_string());
            }
            Ok(_) | Err(_) => {}
        }
        let outcome = match result {
            Ok(connection) if connection.tls.is_some() => TlsResult::Encrypted,
            Ok(_) if security.is_fallback() => TlsResult::Fallback,
            Ok(_) => TlsResult::Plaintext,
            Err(classify::Failure::Session { failure, .. }) if failure.stage() == Stage::StartTls => TlsResult::Failed,
            Err(classify::Failure::Session { failure: Failure::TlsNotOffered, .. }) => TlsResult::Failed,
            Err(_) => return,
        };
        self.metrics.tls(security.label, outcome);
    }

    fn note(&self, peer: &Candidate, security: &Security, fault: Option<Fault>) {
        if let Some(sessions) = self.sessions {
            sessions.note((self.hop, self.need), peer, security, (self.origin.address, fault));
        }
    }
}

fn no_token(error: &TokenError) -> classify::Failure {
    classify::Failure::NoToken { reason: error.to_string() }
}

/// For good, as far as this login is concerned.
fn refuses_login(failure: &classify::Failure) -> bool {
    matches!(
        failure,
        classify::Failure::Session { failure: Failure::Reply { stage: Stage::Auth, reply }, .. } if reply.code / 100 == 5
    )
}

fn no_handshake(peer: &Candidate, why: &impl ToString) -> classify::Failure {
    classify::Failure::Session { peer: peer.peer(), failure: Failure::TlsHandshake(why.to_string()) }
}

/// RFC 5321 section 4.5.3.2, as configured.
pub(crate) fn time_limit(timeouts: &Timeouts, stage: Stage) -> Duration {
    match stage {
        Stage::Greeting => timeouts.greeting,
        Stage::Helo | Stage::Auth => timeouts.helo,
        Stage::StartTls => timeouts.tls,
        Stage::Mail | Stage::Reset | Stage::Idle => timeouts.mail,
        Stage::Rcpt => timeouts.rcpt,
        Stage::Data => timeouts.data,
        Stage::Transfer => timeouts.transfer,
        Stage::Final => timeouts.r#final,
        Stage::Quit => GOODBYE,
    }
}

/// A connection that is closed anyway is not waited for.
const GOODBYE: Duration = Duration::from_secs(2);

impl Connection {
    fn new(stream: Stream, session: Client, peer: Candidate, security: Security) -> Self {
        Self {
            stream,
            session,
            input: BytesMut::with_capacity(INPUT),
            output: BytesMut::with_capacity(INPUT),
            peer,
            source: None,
            portion: None,
            security,
            tls: None,
            setup: Duration::ZERO,
            looked_up: None,
            deadline: Deadline::default(),
            awaited: None,
            since: Instant::now(),
        }
    }

    /// The session's next step on what was read so far.
    pub(crate) fn next(&mut self) -> Event {
        self.session.next(&mut self.input, &mut self.output)
    }

    /// What the server has said to chunks so far. False: it takes no more of the message.
    pub(crate) fn heed_chunks(&mut self) -> bool {
        self.session.heed_chunks(&mut self.input, &mut self.output)
    }

    /// Writes all output in as few writes as the system allows. [`Heard::Data`] means "written".
    pub(crate) async fn flush(&mut self, limit: Duration) -> Heard {
        if self.output.is_empty() {
            return Heard::Data;
        }
        let write = async {
            self.stream.write_all_buf(&mut self.output).await?;
            self.stream.flush().await
        };
        let heard = match tokio::time::timeout(limit, write).await {
            Ok(Ok(())) => return Heard::Data,
            Ok(Err(_)) => Heard::End,
            Err(_) => Heard::Silence,
        };
        self.session.on_unwritten(self.output.len());
        heard
    }

    /// From now on [`Connection::read`] waits at most this long in all.
    pub(crate) fn allow(&mut self, limit: Duration) {
        self.awaited = None;
        self.deadline.set(limit);
    }

    /// The same for the reply of `stage`. Asked again for the same reply it changes nothing: what has come of it gives
    /// the server no more time for the rest, or one octet now and then would hold the connection for ever.
    pub(crate) fn allow_reply(&mut self, stage: Stage, limit: Duration) {
        let reply = Some((stage, self.session.answers()));
        if self.awaited != reply {
            self.awaited = reply;
            self.since = Instant::now();
            self.deadline.set(limit);
        }
    }

    /// How long the server has owed the reply that it owes.
    pub(crate) fn owed_for(&self) -> Duration {
        let owes = self.awaited.is_some_and(|(_, before)| before == self.session.answers());
        if owes { self.since.elapsed() } else { Duration::ZERO }
    }

    /// Waits for more input. Cancel safe: call it again until the time of [`Connection::allow`] is over.
    pub(crate) async fn read(&mut self) -> Heard {
        self.input.reserve(INPUT);
        tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.input) => heard(&read),
            () = self.deadline.passed() => Heard::Silence,
        }
    }

    /// Writes, then waits for an answer, and tells the session what came of it.
    async fn exchange(&mut self, stage: Stage, limit: Duration) {
        let mut heard = self.flush(limit).await;
        if heard == Heard::Data {
            self.allow_reply(stage, limit);
            heard = self.read().await;
        }
        self.tell(heard).await;
    }

    /// Tells the session how waiting or writing ended. A broken write may still have an answer to read.
    pub(crate) async fn tell(&mut self, heard: Heard) {
        match heard {
            Heard::Data => {}
            Heard::Silence => self.session.on_timeout(),
            Heard::End => {
                while let Ok(Ok(1..)) =
                    tokio::time::timeout(Duration::ZERO, self.stream.read_buf(&mut self.input)).await
                {}
                self.session.on_lost();
            }
        }
    }

    /// Writes what is left, briefly, and closes.
    pub(crate) async fn close(mut self) {
        self.flush(GOODBYE).await;
        let _ = tokio::time::timeout(GOODBYE, self.stream.shutdown()).await;
    }
}

fn heard(read: &io::Result<usize>) -> Heard {
    match read {
        Ok(0) | Err(_) => Heard::End,
        Ok(_) => Heard::Data,
    }
}

/// A deadline that is cheap to move: the timer is armed again only when it fires too early.
#[derive(Default)]
struct Deadline {
    at: Option<tokio::time::Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn set(&mut self, limit: Duration) {
        let at = tokio::time::Instant::now() + limit;
        self.at = Some(at);
        match &mut self.sleep {
            Some(sleep) if sleep.deadline() <= at && !sleep.is_elapsed() => {}
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    async fn passed(&mut self) {
        let (Some(at), Some(sleep)) = (self.at, &mut self.sleep) else { return std::future::pending().await };
        loop {
            sleep.as_mut().await;
            if tokio::time::Instant::now() >= at {
                return;
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
