//! The auth service: who is this, which senders do they own, which domains and recipients are ours.
