//! Calls of the auth service as spans, in the trace of the work that needs the answer.

use staffetta_proto::auth::v1::auth_service_server::SERVICE_NAME;
use staffetta_telemetry::spans::{self, Kind};
use tonic::{Request, Status};

use crate::TRACER;

/// Makes the call. Whoever sends a request in it lets it [`carry`] the trace.
pub(super) async fn traced<T>(
    method: &'static str,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let mut span = TRACER.part_of(spans::current(), method, Kind::Client);
    span.note("rpc.system", || "grpc");
    span.note("rpc.service", || SERVICE_NAME);
    span.note("rpc.method", || method);
    let result = spans::within(span.context(), Box::pin(call)).await;
    let status = result.as_ref().err();
    span.note("rpc.grpc.status_code", || status.map_or(0, |status| status.code() as i32));
    if let Some(status) = status {
        span.fail(status.message());
    }
    result
}

/// The service goes on in the trace of this task.
pub(super) fn carry<T>(mut request: Request<T>) -> Request<T> {
    if let Some(value) = spans::current().and_then(|context| context.traceparent().parse().ok()) {
        request.metadata_mut().insert("traceparent", value);
    }
    request
}
