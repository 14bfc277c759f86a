//! One message to the relay, over a connection of its own, each step within its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use staffetta_smtp::client::{
    Client, Event, Failure, Keyword, Outcome, Protocol, ServerProfile, Stage, Tls, TransactionId, Transfer,
};
use staffetta_transport::connect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Refusal, Sysexit};

/// Longest wait for a connection, for one answer, and for the one that says that the message is stored.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
const FINAL: Duration = Duration::from_secs(300);
/// Octets that are written at a time.
const PIECE: usize = 64 * 1024;

/// Sends it. What the relay says of each recipient who gets it.
///
/// # Errors
/// Some or all do not; the others get it.
pub(super) async fn submit(
    server: SocketAddr,
    hostname: &str,
    transfer: Transfer,
    content: &[u8],
) -> Result<Vec<String>, Refusal> {
    let away = |error| Refusal(Sysexit::TempFail, format!("cannot connect to {server}: {error}"));
    let stream = connect::dial(server, None, CONNECT).await.map_err(away)?;
    let recipients: Vec<String> = transfer.recipients.iter().map(|to| to.address.as_str().to_owned()).collect();
    let mut session = Client::new(Arc::new(profile(hostname)));
    session.submit(TransactionId(0), transfer);
    let outcomes = Wire { stream, session, input: BytesMut::new(), output: BytesMut::new() }.converse(content).await;
    let outcomes = outcomes.map_err(|failure| refusal(&format!("{server}"), &failure))?;
    conclude(&recipients, &outcomes)
}

/// It trusts us by our address; nothing leaves the machine that should be encrypted.
fn profile(hostname: &str) -> ServerProfile {
    ServerProfile {
        helo_name: hostname.to_owned(),
        ignored: vec![Keyword::Chunking],
        protocol: Protocol::Smtp,
        tls: Tls::Off,
        credentials: None,
        verified: false,
        nonce: String::new(),
        // The relay has our name: it is the one of this host.
        own_name: None,
    }
}

struct Wire {
    stream: TcpStream,
    session: Client,
    input: BytesMut,
    output: BytesMut,
}

impl Wire {
    /// What became of each recipient.
    async fn converse(mut self, content: &[u8]) -> Result<Vec<Outcome>, Failure> {
        loop {
            match self.session.next(&mut self.input, &mut self.output) {
                Event::Ready => {}
                Event::Read(stage) => self.exchange(stage).await,
                Event::SendBody(_) => self.send(content).await,
                Event::Done(_, report) => {
                    self.leave().await;
                    return Ok(report.outcomes);
                }
                Event::Closed(failure) => return Err(failure.unwrap_or(Failure::Lost { stage: Stage::Quit })),
                Event::StartTls | Event::Idle => return Err(Failure::Lost { stage: Stage::Idle }),
            }
        }
    }

    /// Writes, then waits for an answer.
    async fn exchange(&mut self, stage: Stage) {
        let limit = if stage == Stage::Final { FINAL } else { ANSWER };
        let read = async {
            self.stream.write_all_buf(&mut self.output).await?;
            self.input.reserve(1024);
            self.stream.read_buf(&mut self.input).await
        };
        match tokio::time::timeout(limit, read).await {
            Ok(Ok(1..)) => {}
            Ok(_) => self.session.on_lost(),
            Err(_) => self.session.on_timeout(),
        }
    }

    /// The content; its end goes out with the wait for the answer.
    async fn send(&mut self, content: &[u8]) {
        let mut framer = self.session.framer();
        for piece in content.chunks(PIECE) {
            framer.append(piece, &mut self.output);
            let written = tokio::time::timeout(ANSWER, self.stream.write_all_buf(&mut self.output)).await;
            if !matches!(written, Ok(Ok(()))) {
                return self.session.on_lost();
            }
        }
        framer.finish(&mut self.output);
        self.session.on_body_sent();
    }

    /// Says QUIT, for the relay's log, and waits for no answer.
    async fn leave(&mut self) {
        self.session.quit();
        let _ = self.session.next(&mut self.input, &mut self.output);
        let _ = tokio::time::timeout(CONNECT, self.stream.write_all_buf(&mut self.output)).await;
    }
}

/// Lines for whoever wants to see them; the worst that happened decides about the exit code.
fn conclude(recipients: &[String], outcomes: &[Outcome]) -> Result<Vec<String>, Refusal> {
    let mut accepted = Vec::new();
    let mut worst: Option<Refusal> = None;
    for (recipient, outcome) in recipients.iter().zip(outcomes) {
        match outcome {
            Outcome::Delivered(reply) => accepted.push(format!("{recipient}: {reply}")),
            Outcome::Failed(failure) => {
                let Refusal(code, text) = refusal(recipient, failure);
                let (code, before) = match worst {
                    // What is refused for good is not to be tried again, whatever became of the others.
                    Some(Refusal(known, before)) if known != Sysexit::TempFail => (known, before + "\n"),
                    Some(Refusal(_, before)) => (code, before + "\n"),
                    None => (code, String::new()),
                };
                worst = Some(Refusal(code, before + &text));
            }
        }
    }
    worst.map_or(Ok(accepted), Err)
}

fn refusal(of: &str, failure: &Failure) -> Refusal {
    let code = match failure {
        Failure::Reply { stage, reply } if reply.code >= 500 => match stage {
            Stage::Rcpt => Sysexit::NoUser,
            // What the content is or has in it.
            Stage::Final
                if reply
                    .status
                    .is_some_and(|status| matches!(status.to_string().as_bytes(), [_, b'.', b'5' | b'6', ..])) =>
            {
                Sysexit::DataErr
            }
            _ => Sysexit::Unavailable,
        },
        Failure::TooLarge { .. } | Failure::NoSmtpUtf8 { .. } => Sysexit::Unavailable,
        _ => Sysexit::TempFail,
    };
    Refusal(code, format!("{of}: {failure}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_mail::RemoteReply;

    use super::*;

    fn reply(stage: Stage, code: u16, status: &str) -> Failure {
        let reply = RemoteReply { code, status: Some(status.parse().unwrap()), text: "no".to_owned() };
        Failure::Reply { stage, reply }
    }

    #[test]
    fn callers_are_told_what_to_do_by_the_codes_of_sysexits() {
        for (failure, code) in [
            (reply(Stage::Rcpt, 550, "5.1.1"), Sysexit::NoUser),
            (reply(Stage::Rcpt, 450, "4.1.1"), Sysexit::TempFail),
            (reply(Stage::Mail, 552, "5.3.4"), Sysexit::Unavailable),
            (reply(Stage::Final, 550, "5.5.2"), Sysexit::DataErr),
            (reply(Stage::Final, 554, "5.7.1"), Sysexit::Unavailable),
            (reply(Stage::Final, 451, "4.3.0"), Sysexit::TempFail),
            (reply(Stage::Greeting, 421, "4.3.2"), Sysexit::TempFail),
            (Failure::TimedOut { stage: Stage::Final }, Sysexit::TempFail),
            (Failure::TooLarge { size: 2, limit: 1 }, Sysexit::Unavailable),
        ] {
            assert_eq!(refusal("x", &failure).0, code, "{failure}");
        }
    }

    #[test]
    fn what_is_refused_for_good_counts_more_than_what_may_be_tried_again() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let good = Outcome::Delivered(RemoteReply { code: 250, status: None, text: "ok".to_owned() });
        let (later, never) = (reply(Stage::Rcpt, 450, "4.1.1"), reply(Stage::Rcpt, 550, "5.1.1"));
        let [later, never] = [later, never].map(Outcome::Failed);
        assert_eq!(conclude(&names, &[good.clone(), good.clone(), good.clone()]).unwrap().len(), 3);
        for outcomes in [[good.clone(), later.clone(), never.clone()], [never, good.clone(), later.clone()]] {
            let Refusal(code, text) = conclude(&names, &outcomes).unwrap_err();
            assert_eq!((code, text.lines().count()), (Sysexit::NoUser, 2), "{text}");
        }
        assert_eq!(conclude(&names, &[later, good.clone(), good]).unwrap_err().0, Sysexit::TempFail);
    }
}
