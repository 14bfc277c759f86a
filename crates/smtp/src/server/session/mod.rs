//! The session: what the shell drives. `input` moves it on by what the client says, `answer` by what the shell
//! answers, `refusal` writes and counts what is refused. What a command means is in [`crate::command`].

mod ahead;
mod answer;
mod chunk;
mod input;
mod refusal;

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::action::{Action, Activity, Answer, Grounds, Refusal};
use super::pace::Pace;
use super::state::State;
use super::tally::Tally;
use crate::Reply;
use crate::framing::line::Framer;
use crate::standing::{BareLf, Helo, Settings, Standing, Transaction};

/// The connection as it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// True under implicit TLS.
    pub encrypted: bool,
    /// Bare LF of this client is normalised, even where [`Settings::bare_lf`] refuses it.
    pub normalize_bare_lf: bool,
    /// The client may say for whom it comes, with XCLIENT.
    pub xclient: bool,
}

/// One connection, from the greeting to the close. `C` is what the shell says of its own refusals.
#[derive(Debug)]
pub struct Session<C = ()> {
    settings: Arc<Settings>,
    encrypted: bool,
    certified: bool,
    normalize_bare_lf: bool,
    xclient: bool,
    helo: Option<Helo>,
    login: Option<String>,
    state: State,
    lines: Framer,
    /// What the client is doing, for a session that ends in the middle of it.
    activity: Activity,
    errors: u32,
    junk: u32,
    /// Octets of refused chunks since the last message that was taken.
    discarded: u64,
    draining: bool,
    /// The shell wants the session to end, with this reply and for this cause.
    dismissal: Option<Box<(Reply, C)>>,
    /// Refusals that the shell has not seen yet.
    refusals: Vec<Refusal<C>>,
    tally: Tally,
    pace: Pace,
    /// Something happened since the deadline was set.
    stale: bool,
}

impl<C> Session<C> {
    /// A session whose greeting goes out with the first call of [`Self::next`].
    pub fn new(settings: Arc<Settings>, link: Link, now: Instant) -> Self {
        let pace = Pace::new(&settings, now);
        Self {
            settings,
            encrypted: link.encrypted,
            certified: false,
            normalize_bare_lf: link.normalize_bare_lf,
            xclient: link.xclient,
            helo: None,
            login: None,
            state: State::Greeting,
            lines: Framer::default(),
            activity: Activity::Connect,
            errors: 0,
            junk: 0,
            discarded: 0,
            draining: false,
            dismissal: None,
            refusals: Vec::new(),
            tally: Tally::new(),
            pace,
            stale: false,
        }
    }

    /// Consumes input, appends replies to the output, and says what to do next.
    pub fn next(&mut self, input: &mut BytesMut, output: &mut BytesMut, now: Instant) -> Action<C> {
        loop {
            if !self.refusals.is_empty() {
                return Action::Refused(self.refusals.remove(0));
            }
            self.drain(output);
            self.leave(output);
            let event = match &self.state {
                State::Greeting => self.greet(!input.is_empty(), output),
                State::Ready | State::Mail(_) | State::Chunks(_) | State::Sasl => self.on_input(input, output),
                State::Data(_) => self.on_content(input, output),
                State::Skipping { .. } => self.on_skipping(input, output),
                State::Asking(_) => self.on_missing_answer(output),
                State::Handshake => Some(Action::StartTls),
                State::Closed => (self.refusals.is_empty()).then_some(Action::Close),
            };
            match event {
                None => {}
                Some(Action::Read) => return self.read(now),
                Some(event) => return event,
            }
        }
    }

    /// Answers the question of the last [`Action::Ask`]; the reply goes to the output.
    pub fn answer(&mut self, answer: Answer<C>, output: &mut BytesMut) {
        self.stale = true;
        match mem::replace(&mut self.state, State::Closed) {
            State::Asking(pending) => self.resolve(pending, answer, output),
            state => self.state = state,
        }
    }

    /// The handshake that [`Action::StartTls`] asked for is done. Nothing that was said in clear survives it
    /// (RFC 3207 section 4.2).
    pub fn tls_started(&mut self) {
        self.encrypted = true;
        self.helo = None;
        self.login = None;
        self.lines = Framer::default();
        self.state = State::Ready;
        self.stale = true;
    }

    /// The client has shown a certificate, in the handshake, that says who it is: it may refer to it (AUTH EXTERNAL).
    pub fn certify(&mut self) {
        self.certified = true;
    }

    /// The deadline passed: says 421 and closes with the next call of [`Self::next`].
    pub fn on_timeout(&mut self, output: &mut BytesMut) {
        self.interrupt(Reply::timeout(&self.settings.hostname), Grounds::Timeout, output);
    }

    /// The server goes down: says 421 as soon as the client can tell what became of its message, at once if it can
    /// now, and closes.
    pub fn on_shutdown(&mut self, output: &mut BytesMut) {
        self.draining = true;
        self.drain(output);
    }

    /// The client may not go on: gets this reply, a 421, in place of the answer to its next command, and the connection
    /// closes. Content that comes in is read to its end first; the shell, which is asked to store it, must refuse.
    pub fn dismiss(&mut self, reply: Reply, cause: C) {
        self.dismissal = Some(Box::new((reply, cause)));
    }

    /// With what the client was dismissed, as long as it has not heard it.
    pub fn dismissal(&self) -> Option<&(Reply, C)> {
        self.dismissal.as_deref()
    }

    /// Until when the shell waits for input.
    pub fn deadline(&self) -> Instant {
        self.pace.deadline()
    }

    /// What holds from here on, instead of what held for all: one login may have less room than others.
    pub fn adopt(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// How this listener is set up.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The transaction at hand, from MAIL to the final dot.
    pub fn transaction(&self) -> Option<&Transaction> {
        self.state.transaction()
    }

    /// How the client introduced itself, since TLS.
    pub fn helo(&self) -> Option<&Helo> {
        self.helo.as_ref()
    }

    /// Who logged in.
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Is the connection under TLS?
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// `ESMTP` after EHLO, else `SMTP`; what Postfix logs as `proto=`.
    pub fn protocol(&self) -> &'static str {
        if self.is_extended() { "ESMTP" } else { "SMTP" }
    }

    /// What the client was doing last.
    pub fn activity(&self) -> Activity {
        self.activity
    }

    /// Errors since the start or the last message; a shell may slow down a client that makes many.
    pub fn errors(&self) -> u32 {
        self.errors
    }

    /// Tells how commands and messages were answered since the last call: what, the first digit of the reply, how
    /// often. The greeting and what the server says unasked do not count.
    pub fn drain_tally(&mut self, each: impl FnMut(Activity, u8, u16)) {
        self.tally.drain(each);
    }
}

/// Small things.
impl<C> Session<C> {
    fn standing(&self) -> Standing<'_> {
        Standing {
            settings: &self.settings,
            encrypted: self.encrypted,
            certified: self.certified,
            xclient: self.xclient,
            helo: self.helo.as_ref(),
            login: self.login.as_deref(),
            transaction: self.transaction(),
            chunking: matches!(self.state, State::Chunks(_)),
        }
    }

    fn bare_lf(&self) -> BareLf {
        if self.normalize_bare_lf { BareLf::Normalize } else { self.settings.bare_lf }
    }

    /// Answers what the client is doing.
    fn say(&mut self, reply: &Reply, output: &mut BytesMut) {
        reply.write(output);
        self.tally.count(self.activity, reply.code());
    }

    fn is_extended(&self) -> bool {
        self.helo.as_ref().is_some_and(|helo| helo.extended)
    }

    /// Takes the transaction out of the state, which is replaced right after.
    fn take_transaction(&mut self) -> Option<Transaction> {
        match mem::replace(&mut self.state, State::Ready) {
            State::Mail(transaction) => Some(transaction),
            state => {
                self.state = state;
                None
            }
        }
    }

    fn read(&mut self, now: Instant) -> Action<C> {
        let anew = mem::take(&mut self.stale);
        if matches!(self.state, State::Data(_) | State::Skipping { .. }) {
            self.pace.await_content(&self.settings, now);
        } else {
            self.pace.await_command(&self.settings, anew, now);
        }
        Action::Read
    }
}
