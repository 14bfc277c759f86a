//! `[telemetry]`: traces.

use std::path::PathBuf;

use crate::kind::{CollectorUrl, FilePath, Maybe, Share, Unset};
use crate::settings::settings;

settings! {
    /// Traces: what happens to a message from MAIL, through the calls of the auth service and the queue, to the reply of the remote server, as
    /// spans of OpenTelemetry. [Operations](operations.md#traces) shows them. They have no password and no word of a message's content, and
    /// addresses as `log.addresses` says.
    pub struct Telemetry {
        /// The collector that spans are exported to, by OTLP over gRPC: `http://collector:4317`; `https://` checks its certificate. Empty:
        /// nothing is traced. One that is away, or slow, costs mail nothing: what it does not take is dropped, and counted in
        /// `staffetta_spans_dropped_total`.
        value otlp_endpoint: Option<String> as Maybe<CollectorUrl> = "",
        /// Who signs the certificate of an `https://` collector, PEM, instead of the web's roots.
        value otlp_ca: Option<PathBuf> as Unset<FilePath> = "",
        /// Which part of all messages is traced, from 0 to 1. A frontend decides when a message begins; what follows for it in other services
        /// is traced if it is. A message is five spans at least, so busy relays take a small part.
        value sample_ratio: f64 as Share = "1.0",
    }
}
