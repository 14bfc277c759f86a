//! What goes over one connection: sends what is ordered and gives answers to those who wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::connection::{Connection, LinkError, broken};
use super::handshake::Greeting;
use super::requests::{Cancelled, Reply, Requests, Trouble, tell};
use super::wire::{self, Line};

/// A request that was given up after this long, on a connection that said nothing all the while, ends the connection:
/// its other end may be gone without a word.
const SILENCE: Duration = Duration::from_secs(4);

/// What is to be done. There is one for each message of a login, and the logins are bounded.
pub(super) enum Order {
    Begin { id: u32, mechanism: String, request: Arc<Zeroizing<Vec<u8>>>, waiting: oneshot::Sender<Reply> },
    GoOn { id: u32, line: Zeroizing<Vec<u8>>, waiting: oneshot::Sender<Reply> },
    Cancel { id: u32 },
}

/// Serves until the connection ends, or until nobody can give orders any more. Why it ended.
pub(super) async fn serve(connection: Connection, mut orders: mpsc::UnboundedReceiver<Order>) -> LinkError {
    let Connection { mut lines, mut writer, greeting } = connection;
    let mut desk = Desk::new(greeting);
    loop {
        let outcome = tokio::select! {
            line = lines.next() => line.and_then(|line| desk.on_line(line)),
            written = writer.write(desk.unsent()), if desk.has_unsent() => match written {
                Ok(0) => Err(LinkError::Ended),
                Ok(octets) => {
                    desk.on_sent(octets);
                    Ok(())
                }
                Err(error) => Err(broken(&error)),
            },
            order = orders.recv() => match order {
                Some(order) => desk.on_order(order),
                None => Err(LinkError::Ended),
            },
        };
        if let Err(error) = outcome {
            return error;
        }
    }
}

/// What one connection has open and has still to say. All that is asked is lost with it.
struct Desk {
    greeting: Greeting,
    requests: Requests,
    unsent: VecDeque<Zeroizing<Vec<u8>>>,
    /// Octets of the first line that are sent.
    sent: usize,
    heard: Instant,
}

impl Desk {
    fn new(greeting: Greeting) -> Self {
        Self { greeting, requests: Requests::default(), unsent: VecDeque::new(), sent: 0, heard: Instant::now() }
    }

    fn on_order(&mut self, order: Order) -> Result<(), LinkError> {
        match order {
            // Whoever gave the order has gone: it was in the queue for too long.
            Order::Begin { waiting, .. } | Order::GoOn { waiting, .. } if waiting.is_closed() => {}
            Order::Begin { mechanism, waiting, .. } if !self.greeting.mechanisms.contains(&mechanism) => {
                tell(waiting, Err(Trouble::NoMechanism));
            }
            Order::Begin { id, request, waiting, .. } => {
                let line = wire::begin(id, &request);
                self.send(line, waiting, |requests, waiting| requests.begin(id, waiting, Instant::now()));
            }
            Order::GoOn { id, line, waiting } => {
                self.send(line, waiting, |requests, waiting| requests.go_on(id, waiting, Instant::now()));
            }
            Order::Cancel { id } => return self.cancel(id),
        }
        Ok(())
    }

    fn send(
        &mut self,
        line: Zeroizing<Vec<u8>>,
        waiting: oneshot::Sender<Reply>,
        note: impl FnOnce(&mut Requests, oneshot::Sender<Reply>) -> bool,
    ) {
        if line.len() > self.greeting.line_limit {
            tell(waiting, Err(Trouble::TooLong));
        } else if note(&mut self.requests, waiting) {
            self.unsent.push_back(line);
        }
    }

    fn cancel(&mut self, id: u32) -> Result<(), LinkError> {
        let found = self.requests.cancel(id);
        if found != Cancelled::Unknown {
            self.unsent.push_back(wire::cancel(id));
        }
        match found {
            Cancelled::Waiting(since) if since.elapsed() >= SILENCE && self.heard < since => Err(LinkError::Silent),
            _ => Ok(()),
        }
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), LinkError> {
        self.heard = Instant::now();
        self.requests.on_line(Line::parse(line)?);
        Ok(())
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn unsent(&self) -> &[u8] {
        self.unsent.front().map_or(&[], |line| &line[self.sent..])
    }

    fn on_sent(&mut self, octets: usize) {
        self.sent += octets;
        if self.unsent.front().is_some_and(|line| self.sent >= line.len()) {
            self.unsent.pop_front();
            self.sent = 0;
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.requests.lose();
    }
}
