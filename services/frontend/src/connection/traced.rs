//! Which trace a connection is in: one a message, from MAIL to the reply to its content. A login before the first belongs to
//! it, for it may be what took so long.

use staffetta_smtp::server::{Question, SaslStep};
use staffetta_telemetry::spans::{Kind, Span};

use super::Dialog;
use crate::TRACER;
use crate::intake::Stored;

/// The message at hand.
#[derive(Default)]
pub(super) struct Traced {
    pub(super) span: Span,
    /// MAIL was said in it.
    has_mail: bool,
}

impl Dialog<'_> {
    /// Whatever this question begins or goes on with.
    pub(super) fn trace(&mut self, question: &Question) {
        match question {
            Question::Mail(_) if self.traced.has_mail || self.traced.span.context().is_none() => self.begin_trace(true),
            Question::Mail(_) => self.traced.has_mail = true,
            Question::Sasl(SaslStep::Start { .. }) => self.begin_trace(false),
            _ => {}
        }
    }

    fn begin_trace(&mut self, has_mail: bool) {
        let mut span = TRACER.root("smtp.receive", Kind::Server);
        span.note("client.address", || self.peer.address.ip().to_string());
        span.note("client.port", || self.peer.address.port());
        span.note("staffetta.listener", || self.door.name());
        self.traced = Traced { span, has_mail };
    }

    /// The message is in the queue, and the next one has nothing to do with it.
    pub(super) fn end_trace(&mut self, stored: &Stored) {
        let mut span = std::mem::take(&mut self.traced).span;
        span.note("messaging.message.id", || stored.id.to_string());
        span.note("messaging.message.body.size", || stored.size);
        // Whom or what it was refused before is among its attributes.
        span.succeed();
    }
}
