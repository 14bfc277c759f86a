//! Trace and header work: the Received field (RFC 5321 section 4.4) and the scan of a header section.
