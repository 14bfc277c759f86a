//! The gRPC contracts: between frontends and the auth service, generated from `staffetta/auth/v1/auth.proto`, and with a
//! collector of traces, from `opentelemetry/trace.proto`.

/// `staffetta.auth.v1`
pub mod auth {
    /// Version 1 of the contract.
    #[expect(missing_docs, reason = "generated; the .proto file holds the documentation")]
    #[allow(clippy::all, unused_qualifications, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("staffetta.auth.v1");
    }
}

/// What of `opentelemetry.proto.collector.trace.v1` is used.
#[expect(missing_docs, reason = "generated; the .proto file and the specification hold the documentation")]
#[allow(clippy::all, unused_qualifications, unreachable_pub)]
pub mod otlp {
    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
}
