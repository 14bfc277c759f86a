//! The form in which a message goes out: as it lies in the queue, or converted for a server that takes no octets above 127, or
//! because its lines are too long ([`staffetta_mail::convert`]). Nothing is converted that need not be, and what is
//! converted is never held as a whole: the content is read once more for each pass.

use std::sync::Arc;

use bytes::Bytes;
use staffetta_mail::BodyType;
use staffetta_mail::convert::{Converter, Needs, Plan, Survey, Unconvertible};
use staffetta_queue::{Body, Error, Message, Queue};
use staffetta_smtp::client::{Capabilities, Framer};
use tokio::sync::OnceCell;

use crate::leased::Leased;

/// Octets that are looked at before others get their turn.
const SLICE: usize = 64 * 1024;

/// Why a message has no form for a server.
#[derive(Debug)]
pub(crate) enum Formless {
    Unreadable(Error),
    Unconvertible(Unconvertible),
}

/// How a message is to be written; `None`: as it is.
pub(crate) type Form = Option<Arc<Plan>>;

/// What was found of a message: its form for a server that takes octets above 127, and for one that does not. It is looked for
/// once, however many servers are asked.
#[derive(Debug, Default)]
pub(crate) struct Forms([OnceCell<Result<Form, Unconvertible>>; 2]);

impl Forms {
    fn of(&self, needs: Needs) -> &OnceCell<Result<Form, Unconvertible>> {
        &self.0[usize::from(needs.seven_bit)]
    }
}

/// What this server does not take of this message.
pub(crate) fn needs(message: &Message, server: &Capabilities) -> Needs {
    let envelope = &message.envelope;
    // Whoever offers SMTPUTF8 takes such octets, even if it forgets to say so (RFC 6531 section 3.1).
    let takes_eight_bit = server.eight_bit_mime || envelope.smtputf8 && server.smtputf8;
    Needs { seven_bit: envelope.body == BodyType::EightBitMime && !takes_eight_bit, short_lines: message.long_lines }
}

/// The form of a message for a server that needs this. What has none goes out as it is where that is better than nothing:
/// a long line is no reason to give a message up, and that of a report nobody would be told.
pub(crate) async fn find(queue: &Queue, job: &Leased, needs: Needs) -> Result<Form, Formless> {
    if !needs.any() {
        return Ok(None);
    }
    let found = job.forms().of(needs).get_or_try_init(|| survey(queue, job, needs)).await;
    found.map_err(Formless::Unreadable)?.clone().map_err(Formless::Unconvertible)
}

/// Why a server that needs this cannot have the message, as far as that is known before anything is said of it. A body in chunks
/// is not read for it: the server may not want the message anyway.
pub(crate) async fn objection(queue: &Queue, job: &Leased, needs: Needs) -> Option<Unconvertible> {
    let is_known = matches!(job.body, Body::Inline(_)) || job.forms().of(needs).initialized();
    if !needs.seven_bit || !is_known {
        return None;
    }
    match find(queue, job, needs).await {
        Err(Formless::Unconvertible(why)) => Some(why),
        Ok(_) | Err(Formless::Unreadable(_)) => None,
    }
}

async fn survey(queue: &Queue, job: &Leased, needs: Needs) -> Result<Result<Form, Unconvertible>, Error> {
    let mut survey = Survey::new(needs);
    let mut look = async |part: &[u8]| {
        for slice in part.chunks(SLICE) {
            survey.update(slice);
            tokio::task::yield_now().await;
        }
    };
    match &job.body {
        Body::Inline(body) => look(body).await,
        Body::Chunks(chunks) => {
            look(&job.prefix).await;
            for index in 0..chunks.count {
                let chunk = queue.chunk(job.message.id, chunks, index).await?;
                look(&chunk).await;
            }
        }
    }
    match survey.finish() {
        Ok(plan) => Ok(Ok(Some(plan))),
        Err(problem) if needs.seven_bit && !job.message.envelope.sender.is_null() => Ok(Err(problem)),
        Err(_) if needs.seven_bit && needs.short_lines => {
            Box::pin(self::survey(queue, job, Needs { seven_bit: false, ..needs })).await
        }
        Err(problem) => {
            tracing::info!(qid = %job.message.id, %problem, "a message is sent without being converted");
            Ok(Ok(None))
        }
    }
}

/// Is the form the same wherever the message goes?
pub(crate) fn is_common(form: &Form) -> bool {
    form.as_ref().is_none_or(|plan| !plan.needs().seven_bit)
}

/// Takes the octets of a message and gives those that go out.
pub(crate) struct Writer(Option<Converter>);

impl Writer {
    /// In this form.
    pub(crate) fn new(form: &Form) -> Self {
        Self(form.clone().map(Converter::new))
    }

    /// The next octets, as far as they are known, to `take`.
    pub(crate) fn update<T>(&mut self, piece: &[u8], take: impl FnOnce(&[u8]) -> T) -> T {
        match &mut self.0 {
            None => take(piece),
            Some(converter) => take(&converter.update(piece)),
        }
    }

    /// What is left at the end.
    pub(crate) fn finish(self) -> Bytes {
        self.0.map_or_else(Bytes::new, |converter| converter.finish().into())
    }
}

/// The way of a message to the wire: its form, then the dots or chunks.
pub(crate) struct Outlet {
    pub(crate) writer: Writer,
    pub(crate) framer: Framer,
}

impl Outlet {
    pub(crate) fn append(&mut self, piece: &[u8], output: &mut bytes::BytesMut) {
        let framer = &mut self.framer;
        self.writer.update(piece, |octets| framer.append(octets, output));
    }

    /// The end of the content, and the dot.
    pub(crate) fn finish(mut self, output: &mut bytes::BytesMut) {
        self.framer.append(&self.writer.finish(), output);
        self.framer.finish(output);
    }
}
