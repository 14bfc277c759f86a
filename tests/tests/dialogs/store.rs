//! What lies in the queue, as the author of a message wrote it.

use std::collections::HashMap;

use anyhow::{Context, bail};
use staffetta_mail::QueueId;
use staffetta_queue::{Body, Destination, Job, Queue};
use staffetta_tests::World;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

pub(crate) struct Store {
    queue: Queue,
    /// What was claimed and not yet looked at.
    claimed: Mutex<HashMap<QueueId, Job>>,
    runtime: Handle,
}

impl Store {
    pub(crate) async fn new(world: &World) -> anyhow::Result<Self> {
        Ok(Self { queue: world.queue().await?, claimed: Mutex::default(), runtime: Handle::current() })
    }

    /// The envelope and the lines of a message, without our own fields.
    pub(crate) fn lines(&self, id: QueueId) -> anyhow::Result<Vec<String>> {
        let job = self.runtime.block_on(self.message(id))?;
        let Body::Inline(body) = &job.body else { bail!("dialogs look at short messages") };
        let envelope = &job.message.envelope;
        let to: Vec<_> = envelope.recipients.iter().map(|recipient| format!("<{}>", recipient.address)).collect();
        let mut lines = vec![format!("from=<{}> to={}", envelope.sender, to.join(","))];
        let text = String::from_utf8_lossy(body);
        lines.extend(without_our_fields(&text, id)?.into_iter().map(str::to_owned));
        Ok(lines)
    }

    /// The message, claimed as a worker would.
    async fn message(&self, id: QueueId) -> anyhow::Result<Job> {
        let mut claimed = self.claimed.lock().await;
        let entry = self.queue.entry(id).await?.with_context(|| format!("{id} is not queued"))?;
        let destinations =
            entry.message.envelope.recipients.iter().map(|recipient| Destination::of(&recipient.address));
        for destination in destinations {
            let jobs = self.queue.claim(id.partition(), &destination, 100).await?;
            claimed.extend(jobs.into_iter().map(|job| (job.message.id, job)));
        }
        claimed.remove(&id).with_context(|| format!("{id} cannot be claimed"))
    }
}

/// The lines of a message as its author wrote them. A trace field must be there; Date, Message-ID and From may
/// be added.
fn without_our_fields(text: &str, id: QueueId) -> anyhow::Result<Vec<&str>> {
    let mut lines = text.split_terminator("\r\n").peekable();
    if !lines.next().is_some_and(|line| line.starts_with("Received: from ")) {
        bail!("no trace field: {text:?}");
    }
    while lines.next_if(|line| line.starts_with([' ', '\t'])).is_some() {}
    let message_id = format!("Message-ID: <{id}@mail.example.org>");
    Ok(lines.filter(|line| *line != message_id && !line.starts_with("Date: ") && !line.starts_with("From: ")).collect())
}
