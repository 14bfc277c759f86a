//! The gRPC contract between frontends and the auth service, generated from `staffetta/auth/v1/auth.proto`.

/// `staffetta.auth.v1`
pub mod auth {
    /// Version 1 of the contract.
    #[expect(missing_docs, reason = "generated; the .proto file holds the documentation")]
    #[allow(clippy::all, unused_qualifications, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("staffetta.auth.v1");
    }
}
