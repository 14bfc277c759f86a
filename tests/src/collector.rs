//! A collector of traces: OTLP over gRPC as OpenTelemetry's own crate has it, so that what we send is read by somebody else.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1 as wire;
use staffetta_testkit::certs::Leaf;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Ends when it is dropped.
pub struct Collector {
    url: String,
    taken: Arc<Mutex<Vec<Span>>>,
    task: AbortHandle,
}

/// A span as a test looks at it; ids in hexadecimal digits.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// What is done.
    pub name: String,
    /// The trace.
    pub trace: String,
    /// Its own.
    pub id: String,
    /// Empty: it has none.
    pub parent: String,
    /// The traces that it is linked to.
    pub links: Vec<String>,
    /// What it is to others.
    pub kind: wire::span::SpanKind,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it began and ended, since 1970.
    pub nanos: (u64, u64),
    attributes: Vec<KeyValue>,
}

impl Collector {
    /// Takes spans on a port of its own.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serve(Server::builder(), "http").await
    }

    /// The same under TLS, with this certificate.
    ///
    /// # Errors
    /// It cannot be used.
    pub async fn encrypted(leaf: &Leaf) -> anyhow::Result<Self> {
        let identity = Identity::from_pem(fs::read(&leaf.certificate)?, fs::read(&leaf.key)?);
        let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?;
        Self::serve(server, "https").await
    }

    async fn serve(mut server: Server, scheme: &'static str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a collector")?;
        let address = listener.local_addr()?;
        let taken = Arc::default();
        let server = server.add_service(TraceServiceServer::new(Desk(Arc::clone(&taken))));
        let task = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener))).abort_handle();
        Ok(Self { url: format!("{scheme}://localhost:{}", address.port()), taken, task })
    }

    /// As the configuration names it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What has come so far, by its beginning.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        spans.sort_by_key(|span| span.nanos);
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Span {
    /// The text or number of an attribute; `None`: it is not there.
    pub fn attribute(&self, key: &str) -> Option<String> {
        value_of(&self.attributes, key)
    }
}

fn value_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

struct Desk(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Desk {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for group in request.into_inner().resource_spans {
            let resource = group.resource.unwrap_or_default().attributes;
            let service = value_of(&resource, "service.name").unwrap_or_default();
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            taken.extend(spans.map(|span| read(service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(service: String, span: wire::Span) -> Span {
    Span {
        service,
        kind: span.kind(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        failure: span.status.filter(|status| status.code() == wire::status::StatusCode::Error).map(|s| s.message),
        nanos: (span.start_time_unix_nano, span.end_time_unix_nano),
        attributes: span.attributes,
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
