//! The session that receives mail, without I/O.
//!
//! The shell owns the buffers and the socket; [`Session::next`] says what to do:
//!
//! ```text
//! loop { match session.next(&mut input, &mut output, now) {
//!     Action::Read       => write all of output at once, then read more into input, until session.deadline()
//!     Action::Ask(q)     => let a = …; session.answer(a, &mut output)       // earlier replies stay in output
//!     Action::Body(b)    => store content, dots already unstuffed
//!     Action::Abandon    => drop what was stored since Question::Data was answered
//!     Action::Refused(r) => log and count; the reply is already in output
//!     Action::StartTls   => write output, handshake, session.tls_started()
//!     Action::Close      => write output, close; an open body is dropped too
//! } }
//! ```
//!
//! Policy is not decided here: what depends on more than syntax, order and the limits of [`Settings`] is a
//! [`Question`]. What must hold whatever the shell does: nothing survives STARTTLS (RFC 3207 section 4.2), no AUTH in
//! clear, talk out of turn ends the session, only CRLF ends lines and messages, and a session that ends says so only
//! where the client can tell what became of its message.

mod action;
#[cfg(test)]
mod chunk_tests;
mod pace;
mod receiving;
mod session;
mod state;
mod tally;
#[cfg(test)]
mod tests;

pub use action::{Action, Activity, Answer, Grounds, Question, Refusal, SaslStep};
pub use session::{Link, Session};

pub use crate::command::auth::Secret;
pub use crate::command::mail::Mail;
pub use crate::command::xclient::{ClientAttributes, Told};
pub use crate::standing::{BareLf, Helo, Kind, MailParameters, Settings, Transaction};
