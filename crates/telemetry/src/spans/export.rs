//! The way of spans to the collector: a bounded queue, and one task that sends what has come together.
//!
//! Whoever ends a span never waits: what has no room in the queue is dropped. So is what the collector refuses, and what it has not
//! taken after a few tries; meanwhile the queue fills. All of it is counted, with its reason. At the end of the process [`finish`] gives
//! what is left a moment.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Counter, counter, describe_counter};
use staffetta_proto::otlp::ExportTraceServiceRequest;
use staffetta_proto::otlp::trace_service_client::TraceServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use super::wire::Resource;
use super::{Record, SAMPLER, Sampler};
use crate::Build;

/// Spans that may wait, about a kilobyte each.
const WAITING: usize = 8192;
/// Spans of one call.
const BATCH: usize = 512;
/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_millis(200);
/// How long a connection, and a call, may take.
const CONNECT: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(10);
/// How often a connection without an answer is asked whether it is there.
const ALIVE: Duration = Duration::from_secs(20);
/// Between tries to get rid of a batch.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// What the end of the process waits for.
const LAST: Duration = Duration::from_secs(3);

const EXPORTED: &str = "staffetta_spans_exported_total";
const DROPPED: &str = "staffetta_spans_dropped_total";

static EXPORT: OnceLock<Export> = OnceLock::new();

/// Where spans go, and how many.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `http://host:4317`, or `https://`.
    pub endpoint: String,
    /// Who signs the collector's certificate, PEM, instead of the web's roots.
    pub ca: Option<Vec<u8>>,
    /// Of all messages, from 0 to 1.
    pub share: f64,
}

/// Why there are no traces.
type Error = tonic::transport::Error;

struct Export {
    queue: mpsc::Sender<Record>,
    full: Counter,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Exports what is sampled from now on. Inside a runtime; nothing happens the second time.
///
/// # Errors
/// The endpoint or the authority make no sense. One that is away is none.
pub fn start(settings: &Settings, build: Build) -> Result<(), Error> {
    let client = TraceServiceClient::new(endpoint(settings)?.connect_lazy());
    let (queue, spans) = mpsc::channel(WAITING);
    let stop = CancellationToken::new();
    let [exported, full, refused, away] = declare();
    let exporter = Exporter { client, resource: Resource::here(build), exported, refused, away, is_away: false };
    EXPORT.get_or_init(|| {
        let task = tokio::spawn(exporter.run(spans, stop.clone()));
        Export { queue, full, stop, task: Mutex::new(Some(task)) }
    });
    SAMPLER.get_or_init(|| Sampler::new(settings.share));
    Ok(())
}

/// Sends what is left, for a moment at most. Spans that end later are lost.
pub async fn finish() {
    let Some(export) = EXPORT.get() else { return };
    export.stop.cancel();
    let task = export.task.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(task) = task
        && tokio::time::timeout(LAST, task).await.is_err()
    {
        tracing::warn!("the last spans could not be exported in time");
    }
}

/// Does a collector take spans there? An empty call is one.
///
/// # Errors
/// What it said instead, or why it was not reached.
pub async fn reach(settings: &Settings) -> Result<(), String> {
    let channel = endpoint(settings).map_err(|error| chain(&error))?.connect().await.map_err(|error| chain(&error))?;
    let mut client = TraceServiceClient::new(channel);
    let call = tokio::time::timeout(CALL, client.export(ExportTraceServiceRequest::default())).await;
    call.map_err(|_| "no answer in time".to_owned())?.map(drop).map_err(|status| status.message().to_owned())
}

/// Hands a span over, if there is room.
pub(super) fn offer(record: Record) {
    if let Some(export) = EXPORT.get()
        && export.queue.try_send(record).is_err()
    {
        export.full.increment(1);
    }
}

/// The families of traces.
pub(crate) fn declare_metrics() {
    let _ = declare();
}

fn declare() -> [Counter; 4] {
    describe_counter!(EXPORTED, "Spans that the collector of traces has taken.");
    describe_counter!(
        DROPPED,
        "Spans that were given up: the queue to the collector was full, it refused them, or it did not answer."
    );
    let dropped = |reason: &'static str| counter!(DROPPED, "reason" => reason);
    [counter!(EXPORTED), dropped("full"), dropped("refused"), dropped("unreachable")]
}

fn endpoint(settings: &Settings) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(settings.endpoint.clone())?.connect_timeout(CONNECT).timeout(CALL);
    let endpoint = endpoint.http2_keep_alive_interval(ALIVE).keep_alive_timeout(CONNECT);
    if !settings.endpoint.starts_with("https:") {
        return Ok(endpoint);
    }
    let tls = ClientTlsConfig::new();
    endpoint.tls_config(match &settings.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
        None => tls.trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    })
}

/// All that an error has to say.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

struct Exporter {
    client: TraceServiceClient<Channel>,
    resource: Resource,
    exported: Counter,
    refused: Counter,
    away: Counter,
    /// It was told that nobody answers.
    is_away: bool,
}

impl Exporter {
    /// Until `stop` and the end of the queue.
    async fn run(mut self, mut spans: mpsc::Receiver<Record>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                taken = spans.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                () = stop.cancelled(), if !spans.is_closed() => {
                    spans.close();
                    continue;
                }
            }
            if batch.len() < BATCH && !stop.is_cancelled() {
                let _ = tokio::time::timeout(LINGER, stop.cancelled()).await;
            }
            while batch.len() < BATCH
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            self.send(std::mem::take(&mut batch)).await;
        }
    }

    async fn send(&mut self, batch: Vec<Record>) {
        let count = batch.len() as u64;
        let request = self.resource.request(batch);
        let mut pauses = PAUSES.iter();
        loop {
            // The channel's own limit ends with the head of the answer.
            let exported = tokio::time::timeout(CALL, self.client.export(request.clone())).await;
            match exported.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Ok(answer) => {
                    let partly = answer.into_inner().partial_success.unwrap_or_default();
                    let refused = u64::try_from(partly.rejected_spans).unwrap_or_default().min(count);
                    self.refused.increment(refused);
                    self.exported.increment(count - refused);
                    if std::mem::take(&mut self.is_away) {
                        tracing::info!("the collector of traces answers again");
                    }
                    return;
                }
                Err(status) => {
                    self.tell(&status);
                    match pauses.next().filter(|_| is_worth_a_try(status.code())) {
                        Some(pause) => tokio::time::sleep(*pause).await,
                        None if is_worth_a_try(status.code()) => return self.away.increment(count),
                        None => return self.refused.increment(count),
                    }
                }
            }
        }
    }

    /// Once, until it answers again.
    fn tell(&mut self, status: &Status) {
        if !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!(
                error = status.message(),
                "the collector of traces does not take spans; they are dropped meanwhile"
            );
        }
    }
}

/// The codes that OTLP calls retryable.
const fn is_worth_a_try(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
    )
}
