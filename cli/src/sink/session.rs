//! One connection to a sink: the shell around the server core.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use staffetta_mail::{Envelope, QueueId, Status};
use staffetta_smtp::Reply;
use staffetta_smtp::server::{self, Answer, Link, Question, Session};
use staffetta_transport::connect::TlsSession;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::scenario::Deviation;
use super::{Action, Received, Shared, Stage, StartTls};

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// Serves one connection to its end.
pub(super) async fn serve(mut tcp: TcpStream, shared: Arc<Shared>) {
    match shared.deviation(Stage::Connect, &[]) {
        None => {}
        Some(Deviation::Act(Action::Drop)) => return,
        Some(Deviation::Act(Action::Stall)) => return stall(tcp).await,
        Some(Deviation::Reply(reply)) => {
            let _ = tcp.write_all(format!("{reply}\r\n").as_bytes()).await;
            return;
        }
    }
    let session = Session::new(Arc::clone(&shared.core), Link::default(), Instant::now());
    let connection = Connection { session, shared, tls: None, body: BytesMut::new() };
    // A connection that breaks is the client's business.
    let _ = connection.run(tcp).await;
}

/// Keeps a connection without a word until the client gives up.
async fn stall(mut stream: impl AsyncRead + Unpin) {
    let mut scratch = [0u8; 4096];
    while matches!(stream.read(&mut scratch).await, Ok(n) if n > 0) {}
}

struct Connection {
    session: Session,
    shared: Arc<Shared>,
    /// Version and cipher suite, once encrypted.
    tls: Option<String>,
    body: BytesMut,
}

/// Why a phase of the connection ended.
enum End {
    Closed,
    StartTls,
    Stall,
}

impl Connection {
    async fn run(mut self, mut tcp: TcpStream) -> io::Result<()> {
        match self.drive(&mut tcp).await? {
            End::Closed => return Ok(()),
            End::Stall => {
                stall(tcp).await;
                return Ok(());
            }
            End::StartTls if self.shared.starttls == StartTls::Broken => return Ok(()),
            End::StartTls => {}
        }
        let handshake = TlsAcceptor::from(Arc::clone(&self.shared.tls)).accept(tcp);
        let mut stream = tokio::time::timeout(HANDSHAKE, handshake).await??;
        self.tls = Some(describe(&stream));
        self.session.tls_started();
        if matches!(self.drive(&mut stream).await?, End::Stall) {
            stall(stream).await;
        }
        Ok(())
    }

    async fn drive<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<End> {
        let (mut input, mut output) = (BytesMut::with_capacity(16 << 10), BytesMut::new());
        loop {
            match self.session.next(&mut input, &mut output, Instant::now()) {
                server::Action::Read => {
                    flush(stream, &mut output).await?;
                    input.reserve(16 << 10);
                    let deadline = self.session.deadline().into();
                    match tokio::time::timeout_at(deadline, stream.read_buf(&mut input)).await {
                        Ok(Ok(0)) => return Ok(End::Closed),
                        Ok(read) => drop(read?),
                        Err(_) => self.session.on_timeout(&mut output),
                    }
                }
                server::Action::Ask(question) => match self.answer(question).await {
                    Ok(answer) => self.session.answer(answer, &mut output),
                    Err(Action::Drop) => return Ok(End::Closed),
                    Err(Action::Stall) => {
                        flush(stream, &mut output).await?;
                        return Ok(End::Stall);
                    }
                },
                server::Action::Body(content) => self.body.extend_from_slice(&content),
                server::Action::Abandon => self.body.clear(),
                server::Action::Refused(_) => {}
                server::Action::StartTls => {
                    flush(stream, &mut output).await?;
                    return Ok(End::StartTls);
                }
                server::Action::Close => {
                    flush(stream, &mut output).await?;
                    stream.shutdown().await?;
                    return Ok(End::Closed);
                }
            }
        }
    }

    async fn answer(&mut self, question: Question) -> Result<Answer, Action> {
        let (stage, addresses) = self.occasion(&question);
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        match stage.and_then(|stage| self.shared.deviation(stage, &addresses)) {
            Some(Deviation::Act(action)) => return Err(action),
            Some(Deviation::Reply(text)) => {
                self.body.clear();
                return Ok(Answer::Refuse(reply(&text), ()));
            }
            None => {}
        }
        Ok(match question {
            Question::Store(envelope) => self.store(&envelope).await,
            Question::Sasl(_) => Answer::Refuse(Reply::authentication_failed(), ()),
            _ => Answer::Proceed,
        })
    }

    /// The stage of a scenario that a question belongs to, and the addresses its rules may match.
    fn occasion(&self, question: &Question) -> (Option<Stage>, Vec<String>) {
        let recipients = |envelope: &Envelope| envelope.recipients.iter().map(|r| r.address.to_string()).collect();
        match question {
            Question::Mail(mail) => (Some(Stage::Mail), vec![mail.sender.to_string()]),
            Question::Recipient(recipient) => (Some(Stage::Recipient), vec![recipient.address.to_string()]),
            Question::Data => {
                let so_far = self.session.transaction().map(|t| recipients(&t.envelope));
                (Some(Stage::Data), so_far.unwrap_or_default())
            }
            Question::Store(envelope) => (Some(Stage::End), recipients(envelope)),
            _ => (None, Vec::new()),
        }
    }

    async fn store(&mut self, envelope: &Envelope) -> Answer {
        let id = self.shared.next_id();
        let body = self.body.split().freeze();
        let file = match self.write_file(id, &body).await {
            Ok(file) => file,
            Err(error) => {
                tracing::error!(%error, "failed to write a message");
                return Answer::Refuse(Reply::queue_write_error(), ());
            }
        };
        let received = Received {
            sender: envelope.sender.to_string(),
            recipients: envelope.recipients.iter().map(|r| r.address.to_string()).collect(),
            encrypted: self.session.is_encrypted(),
            tls: self.tls.clone(),
            body,
            file,
        };
        self.shared.accepted.fetch_add(1, Ordering::Relaxed);
        self.shared.show(received);
        Answer::Stored(id)
    }

    async fn write_file(&self, id: QueueId, body: &Bytes) -> io::Result<Option<std::path::PathBuf>> {
        let Some(directory) = &self.shared.directory else { return Ok(None) };
        let path = directory.join(format!("{id}.eml"));
        tokio::fs::write(&path, body).await?;
        Ok(Some(path))
    }
}

impl Shared {
    fn deviation(&self, stage: Stage, addresses: &[&str]) -> Option<Deviation> {
        let deviation = self.scenario.lock().unwrap_or_else(PoisonError::into_inner).take(stage, addresses);
        if deviation.is_some() {
            self.deviations.fetch_add(1, Ordering::Relaxed);
        }
        deviation
    }

    /// Hands a message to the reader of the sink, if there still is one. A reader that is too slow is told what it missed.
    fn show(&self, received: Received) {
        if let Err(TrySendError::Full(_)) = self.messages.try_send(received) {
            let missed = self.missed.fetch_add(1, Ordering::Relaxed) + 1;
            if missed.is_power_of_two() {
                tracing::warn!(missed, "messages come faster than they are read: taken, but not shown");
            }
        }
    }

    fn next_id(&self) -> QueueId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        QueueId::new(0, now, self.unique.fetch_add(1, Ordering::Relaxed) as u32)
    }
}

async fn flush<S: AsyncWrite + Unpin>(stream: &mut S, output: &mut BytesMut) -> io::Result<()> {
    if !output.is_empty() {
        stream.write_all(output).await?;
        stream.flush().await?;
        output.clear();
    }
    Ok(())
}

/// A reply written by the author of a scenario, who may have left out the enhanced code.
fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    let code = code.trim_end().parse().unwrap_or(451);
    let (status, text) = match rest.split_once(' ') {
        Some((status, text)) if status.parse::<Status>().is_ok() => (status.parse().ok(), text),
        _ => (None, rest),
    };
    match status {
        Some(status) => Reply::new(code, status, text.to_owned()),
        None => Reply::plain(code, text.to_owned()),
    }
}

fn describe(stream: &TlsStream<TcpStream>) -> String {
    let TlsSession { version, cipher } = TlsSession::of(stream.get_ref().1);
    format!("{version}({cipher})")
}
