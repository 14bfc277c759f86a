//! DKIM signatures, made right before the content goes out: what is signed is what is sent, octet by octet.
//!
//! A body in chunks is read once more for it, since its hash stands in front of it. A message whose keys are not there costs
//! nothing but a look at its From field.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use metrics::Counter;
use staffetta_dkim::author::{self, Author};
use staffetta_dkim::{Digest, Draft, Keyring, Row, Signers, Standing, TooLarge, Unsigned};
use staffetta_mail::Address;
use staffetta_policy::client;
use staffetta_queue::{Body, Error, Origin, Queue};

use crate::form::{self, Form, Writer};
use crate::keys::Keys;
use crate::leased::Leased;
use crate::metrics::{Metrics, Signed};
use crate::seals::Seals;
use crate::terms::Current;

/// Octets that are hashed before others get their turn.
const SLICE: usize = 64 * 1024;

/// Who signs, and for whom.
pub(crate) struct Signing {
    keys: Arc<Keys>,
    terms: Current,
    /// By [`Signed`].
    results: Vec<Counter>,
    seals: Seals,
}

/// The signatures of a message.
#[derive(Debug)]
pub(crate) struct Seal {
    /// Header fields, whole lines.
    pub(crate) fields: Bytes,
    /// `example.org/s2026`, for the log.
    pub(crate) by: String,
}

/// What comes before the content.
#[derive(Default)]
pub(crate) struct Opening {
    pub(crate) seal: Option<Arc<Seal>>,
    /// The first chunk of the body, if it has been read on the way.
    pub(crate) first: Option<Bytes>,
}

/// Why a message cannot go out now. It is never sent without the signature that it should have.
#[derive(Debug)]
pub(crate) enum Hindrance {
    Unreadable(Error),
    Unsigned(Unsigned),
}

impl Signing {
    pub(crate) fn new(keys: Arc<Keys>, terms: Current, metrics: &Metrics) -> Self {
        Self { keys, terms, results: metrics.signed.clone(), seals: Seals::default() }
    }

    /// The signatures of a message in this form, if anybody signs it. Jobs of one message share those of the common form.
    pub(crate) async fn open(&self, queue: &Queue, job: &Leased, form: &Form) -> Result<Opening, Hindrance> {
        if self.keys.are_none() {
            return Ok(Opening::default());
        }
        let mut first = None;
        let making = self.seal(queue, job, form, &mut first);
        let seal =
            if form::is_common(form) { job.seal().get_or_try_init(|| making).await?.clone() } else { making.await? };
        Ok(Opening { seal, first })
    }

    async fn seal(
        &self,
        queue: &Queue,
        job: &Leased,
        form: &Form,
        first: &mut Option<Bytes>,
    ) -> Result<Option<Arc<Seal>>, Hindrance> {
        let standing = self.standing(&job.message.origin);
        if standing == Standing::Stranger {
            return Ok(None);
        }
        let (id, ring) = (job.message.id, self.keys.ring());
        let is_shared = job.is_one_of_many() && form::is_common(form);
        if is_shared && let Some(seal) = self.seals.recall(id, &ring) {
            return Ok(Some(seal));
        }
        if let Body::Chunks(chunks) = &job.body {
            *first = Some(queue.chunk(id, chunks, 0).await.map_err(Hindrance::Unreadable)?);
        }
        let Some(rows) = rows(&ring, job, first.as_ref(), standing) else { return Ok(None) };
        let sealed = self.sign(queue, job, form, first.as_ref(), rows).await;
        let result = match &sealed {
            Ok(Some(_)) => Signed::Done,
            Ok(None) => Signed::Skipped,
            Err(_) => Signed::Failed,
        };
        self.results[result as usize].increment(1);
        if is_shared && let Ok(Some(seal)) = &sealed {
            self.seals.remember(id, ring, seal.clone());
        }
        sealed
    }

    /// None: the header section is too large to be signed, and the message goes out as it is.
    async fn sign(
        &self,
        queue: &Queue,
        job: &Leased,
        form: &Form,
        first: Option<&Bytes>,
        rows: Signers,
    ) -> Result<Option<Arc<Seal>>, Hindrance> {
        let mut reading = Reading { draft: Draft::default(), writer: Writer::new(form) };
        let id = job.message.id;
        let digest = match digest(&mut reading, queue, job, first).await? {
            Ok(()) => reading.finish(),
            Err(error) => Err(error),
        };
        let digest = match digest {
            Ok(digest) => digest,
            Err(error) => {
                tracing::warn!(qid = %id, %error, "the message is sent without a signature");
                return Ok(None);
            }
        };
        let by = rows.iter().map(|Row { domain, selector, .. }| format!("{domain}/{selector}"));
        let by = by.collect::<Vec<_>>().join(",");
        let now = now();
        let fields = if rows.iter().any(|row| row.key.is_slow()) {
            let signed = tokio::task::spawn_blocking(move || digest.sign(&rows, now)).await;
            signed.unwrap_or(Err(Unsigned))
        } else {
            digest.sign(&rows, now)
        };
        let fields = fields.map_err(Hindrance::Unsigned)?.into();
        Ok(Some(Arc::new(Seal { fields, by })))
    }

    fn standing<'a>(&self, origin: &'a Origin) -> Standing<'a> {
        if client::stranger(origin.client, None, &self.terms.load().trusted_networks).is_none() {
            return Standing::Trusted;
        }
        let domain = |login: &'a str| login.rsplit_once('@').map(|(_, domain)| domain);
        origin.login.as_deref().map_or(Standing::Stranger, |login| Standing::Login(domain(login)))
    }
}

/// The keys that sign a message; `first` is its first chunk, if it has some.
fn rows(ring: &Keyring, job: &Leased, first: Option<&Bytes>, standing: Standing<'_>) -> Option<Signers> {
    let author = match (&job.body, first) {
        (Body::Inline(body), _) => author::find(body, true),
        (Body::Chunks(chunks), Some(first)) => match author::find(first, chunks.count == 1) {
            found @ Author::Domain(_) => found,
            // What stands in front was written after the rest, and holds what was missing in it.
            _ => author::find(&job.prefix, true),
        },
        _ => Author::Unknown,
    };
    let sender = job.message.envelope.sender.address().and_then(Address::domain_str);
    ring.choose(author.domain(), sender, standing).cloned()
}

/// A message that is read to be signed, in the form in which it will be sent.
struct Reading {
    draft: Draft,
    writer: Writer,
}

impl Reading {
    fn update(&mut self, slice: &[u8]) -> Result<(), TooLarge> {
        let draft = &mut self.draft;
        self.writer.update(slice, |octets| draft.update(octets))
    }

    fn finish(mut self) -> Result<Digest, TooLarge> {
        self.draft.update(&self.writer.finish())?;
        self.draft.finish()
    }
}

/// Shows the draft the whole message.
async fn digest(
    reading: &mut Reading,
    queue: &Queue,
    job: &Leased,
    first: Option<&Bytes>,
) -> Result<Result<(), TooLarge>, Hindrance> {
    let chunks = match &job.body {
        Body::Inline(body) => return Ok(show(reading, body).await),
        Body::Chunks(chunks) => chunks,
    };
    for part in std::iter::once(&job.prefix).chain(first) {
        if let Err(error) = show(reading, part).await {
            return Ok(Err(error));
        }
    }
    for index in 1..chunks.count {
        let chunk = queue.chunk(job.message.id, chunks, index).await.map_err(Hindrance::Unreadable)?;
        if let Err(error) = show(reading, &chunk).await {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// In slices, so that nobody waits long for a large one.
async fn show(reading: &mut Reading, part: &[u8]) -> Result<(), TooLarge> {
    for slice in part.chunks(SLICE) {
        reading.update(slice)?;
        if part.len() > SLICE {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// For the `t=` of a signature: seconds since the Unix epoch, by the clock of this machine. Decides nothing.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Hindrance {
    /// What is stored, and shown to operators.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "the content could not be read from the queue",
            Self::Unsigned(_) => "the message could not be signed (DKIM)",
        }
    }
}

impl std::fmt::Display for Hindrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::Unsigned(error) => error.fmt(f),
        }
    }
}
