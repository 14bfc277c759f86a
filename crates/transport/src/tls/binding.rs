//! What ties a login to the very connection that it is made on (channel binding, RFC 5056).

use rustls::{ConnectionCommon, ProtocolVersion};

/// RFC 9266 section 4.2: the label of the exporter; it has no context.
const LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const LENGTH: usize = 32;

/// What both ends of a connection know it by, after the handshake. Only since TLS 1.3 can no two have the same.
pub fn exporter<D>(connection: &ConnectionCommon<D>) -> Option<Vec<u8>> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    connection.export_keying_material(vec![0; LENGTH], LABEL, None).ok()
}
