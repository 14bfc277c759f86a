//! One connection: moves octets between the socket and the session, and does what the session asks for.
//!
//! Memory: a command buffer while a client is idle, a content buffer while a message comes in, whatever its size. All
//! replies of a pipelined group leave in one write, unless something must be waited for: then those that are ready leave
//! first.

mod ask;
mod client;
mod record;
mod refused;
mod sasl;
mod standing;
mod traced;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::FutureExt;
use staffetta_config::ListenerTls;
use staffetta_mail::trace::Protocol;
use staffetta_smtp::server::{Action, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::allowance::Limits;
use crate::arrival::has_spoken;
use crate::auth::Exchange;
use crate::door::{Door, Peer};
use crate::evidence::Evidence;
use crate::intake::{Aliases, Bill, Login, Memory, Opened, Principal, Tls};
use crate::limits::Slot;
use crate::stream::Stream;
use refused::Refused;
use standing::Standing;
use traced::Traced;

/// Room for input while commands are expected, and while content is.
const COMMAND_ROOM: usize = 2 * 1024;
const CONTENT_ROOM: usize = 16 * 1024;
/// A client that makes more errors than this waits after each (Postfix `smtpd_soft_error_limit`).
const SOFT_ERRORS: u32 = 10;
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait for the other side's end of a connection that we closed, so that our last reply is not lost to a
/// reset.
const LINGER: Duration = Duration::from_secs(2);

/// What is known of a connection beside the session.
struct Dialog<'a> {
    door: &'a Door,
    peer: Peer,
    /// Its place, which another client may take over.
    slot: &'a mut Slot,
    /// Our end of the connection.
    local: Option<SocketAddr>,
    session: Session<Refused>,
    tls: Option<Box<Tls>>,
    /// What the handshake has shown beside.
    evidence: Option<Box<Evidence>>,
    /// By XCLIENT: the other end of the connection is not the client's.
    brought: bool,
    memory: Memory,
    /// An authentication that waits for the client.
    exchange: Option<Box<Exchange>>,
    /// The mechanism of an authentication that has no result yet.
    attempt: Option<String>,
    /// The mechanism of the login.
    mechanism: Option<Box<str>>,
    /// What its account may send, if that is its own.
    limits: Option<Box<Limits>>,
    /// The message that comes in.
    opened: Option<Opened>,
    /// What its envelope takes.
    bill: Bill,
    /// Which of its recipients are aliases.
    aliases: Aliases,
    /// When MAIL was said.
    began: Instant,
    messages: u64,
    /// Whether it may go on.
    standing: Standing,
    /// The trace that it is in.
    traced: Traced,
}

/// Talks to the client until one of both ends it.
pub(crate) async fn run(door: &Door, tcp: TcpStream, peer: Peer, slot: &mut Slot) {
    let mut dialog = Dialog::new(door, peer, tcp.local_addr().ok(), slot);
    match converse(&mut dialog, tcp).await {
        Ok(()) => dialog.log_end(),
        Err(error) => dialog.log_lost(&error),
    }
}

/// The session loop.
async fn converse(dialog: &mut Dialog<'_>, tcp: TcpStream) -> io::Result<()> {
    let (mut input, mut output) = (BytesMut::new(), BytesMut::with_capacity(256));
    let mut stream = Box::pin(dialog.open(tcp, &mut input)).await?;
    let mut stopped = pin!(dialog.door.stop.cancelled());
    let mut patience = pin!(tokio::time::sleep_until(dialog.session.deadline().into()));
    let mut stopping = false;
    loop {
        match dialog.session.next(&mut input, &mut output, Instant::now()) {
            Action::Read => {
                dialog.count_commands();
                dialog.settle_bill();
                flush(&mut stream, &mut output, dialog.patience()).await?;
                make_room(&mut input, dialog.opened.is_some());
                patience.as_mut().reset(dialog.session.deadline().into());
                tokio::select! {
                    biased;
                    read = stream.read_buf(&mut input) => {
                        more(read?)?;
                        dialog.reconsider();
                    }
                    () = &mut patience => dialog.session.on_timeout(&mut output),
                    () = &mut stopped, if !stopping => {
                        stopping = true;
                        dialog.session.on_shutdown(&mut output);
                    }
                }
            }
            Action::Ask(question) => {
                let patience = dialog.patience();
                let answer = {
                    let answer = pin!(dialog.answer(question, &input));
                    ask::wait_for(answer, &mut stream, &mut output, patience).await?
                };
                dialog.session.answer(answer, &mut output);
            }
            Action::Body(content) => dialog.receive(&content).await,
            Action::Abandon => dialog.opened = None,
            Action::Refused(refusal) => {
                dialog.refused(&refusal);
                if dialog.session.errors() > SOFT_ERRORS {
                    flush(&mut stream, &mut output, dialog.patience()).await?;
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
            Action::StartTls => {
                flush(&mut stream, &mut output, dialog.patience()).await?;
                stream = Box::pin(dialog.start_tls(stream)).await?;
            }
            Action::Close => {
                dialog.count_commands();
                flush(&mut stream, &mut output, dialog.patience()).await?;
                Box::pin(close(stream)).await;
                return Ok(());
            }
        }
    }
}

impl<'a> Dialog<'a> {
    fn new(door: &'a Door, peer: Peer, local: Option<SocketAddr>, slot: &'a mut Slot) -> Self {
        let now = Instant::now();
        Self {
            door,
            session: Session::new(door.settings(), door.link(&peer), now),
            peer,
            slot,
            local,
            tls: None,
            evidence: None,
            brought: false,
            memory: Memory::default(),
            exchange: None,
            attempt: None,
            mechanism: None,
            limits: None,
            opened: None,
            bill: Bill::default(),
            aliases: Aliases::default(),
            began: now,
            messages: 0,
            standing: Standing::default(),
            traced: Traced::default(),
        }
    }

    fn patience(&self) -> Duration {
        self.session.settings().timeout
    }

    /// What a client says before the greeting goes into the input: the session does not take it.
    async fn open(&mut self, tcp: TcpStream, input: &mut BytesMut) -> io::Result<Stream> {
        if self.door.tls == ListenerTls::Implicit {
            let mut stream = self.encrypt(tcp).await?;
            self.weigh(&stream);
            if let Some(read) = stream.read_buf(input).now_or_never() {
                more(read?)?;
            }
            return Ok(stream);
        }
        let early = has_spoken(&tcp);
        let mut stream = Stream::Plain(tcp);
        if early {
            more(stream.read_buf(input).await?)?;
        }
        Ok(stream)
    }

    async fn start_tls(&mut self, stream: Stream) -> io::Result<Stream> {
        let Stream::Plain(tcp) = stream else { return Err(io::ErrorKind::InvalidInput.into()) };
        let stream = self.encrypt(tcp).await?;
        self.session.tls_started();
        self.weigh(&stream);
        Ok(stream)
    }

    /// Boxed: the handshake is large, rare and short beside the session that carries it.
    async fn encrypt(&mut self, tcp: TcpStream) -> io::Result<Stream> {
        let config = self.door.server_config.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        match Box::pin(Stream::encrypt(tcp, config, self.patience())).await {
            Ok(stream) => {
                self.tls = stream.tls().map(Box::new);
                Ok(stream)
            }
            Err((error, reason)) => {
                if let Some(reason) = reason {
                    self.failed_handshake(reason, &error);
                }
                Err(error)
            }
        }
    }

    /// What has the client shown in the handshake?
    fn weigh(&mut self, stream: &Stream) {
        let Some(connection) = stream.connection() else { return };
        let (shared, settings) = (&self.door.shared, self.session.settings());
        let evidence = shared.examiner.examine(connection, shared.certificates.as_deref(), &settings.mechanisms);
        self.log_tls(connection.peer_certificates().is_some(), &evidence);
        self.peer.trusted |= evidence.trusted;
        if !evidence.names.is_empty() {
            self.session.certify();
        }
        self.evidence = (evidence != Evidence::default()).then(|| Box::new(evidence));
    }

    /// Nothing is owed for an envelope that is gone, however it went.
    fn settle_bill(&mut self) {
        if !self.bill.is_empty() && self.session.transaction().is_none() {
            self.bill = Bill::default();
            self.aliases = Aliases::default();
        }
    }

    async fn receive(&mut self, content: &[u8]) {
        if let Some(opened) = &mut self.opened {
            opened.write(content).await;
        }
    }

    /// The client as the intake sees it.
    fn principal(&self) -> Principal<'_> {
        let mechanism = self.mechanism.as_deref().unwrap_or_default();
        Principal {
            source: &self.door.source,
            client: self.peer.address,
            name: self.peer.name.as_deref(),
            trusted: self.peer.trusted,
            helo: self.session.helo().map(|helo| helo.name.as_str()),
            protocol: Protocol {
                extended: self.session.helo().is_some_and(|helo| helo.extended),
                encrypted: self.session.is_encrypted(),
                authenticated: self.session.login().is_some(),
                utf8: self.session.transaction().is_some_and(|transaction| transaction.envelope.smtputf8),
            },
            tls: self.tls.as_deref(),
            login: self.session.login().map(|name| Login { name, mechanism }),
            require_tls: self.session.transaction().is_some_and(|transaction| transaction.envelope.require_tls),
        }
    }
}

/// Nothing read: the other side has ended the connection in the middle of the session.
fn more(read: usize) -> io::Result<()> {
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// One write for all that is to be said.
async fn flush(stream: &mut Stream, output: &mut BytesMut, patience: Duration) -> io::Result<()> {
    if output.is_empty() {
        return Ok(());
    }
    let write = async {
        stream.write_all(output).await?;
        stream.flush().await
    };
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    tokio::time::timeout(patience, write).await.unwrap_or_else(late)?;
    output.clear();
    Ok(())
}

/// Room for the next read. An idle client gives the content's buffer back.
fn make_room(input: &mut BytesMut, content: bool) {
    if content {
        input.reserve(CONTENT_ROOM);
    } else if input.is_empty() && input.capacity() > CONTENT_ROOM / 2 {
        *input = BytesMut::with_capacity(COMMAND_ROOM);
    } else {
        input.reserve(COMMAND_ROOM);
    }
}

/// Ends our side, then waits a moment for the other.
async fn close(mut stream: Stream) {
    let end = async {
        stream.shutdown().await?;
        let mut rest = [0; 512];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, end).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<'a, F: Future>(_: impl FnOnce(&'a Door, TcpStream, Peer, &'a mut Slot) -> F) -> usize {
        size_of::<F>()
    }

    /// What every idle client costs beside its buffers and its TLS state; what waits for others is boxed.
    #[test]
    fn an_idle_connection_is_small() {
        let size = size(run);
        assert!(size <= 6752, "{size}");
    }
}
