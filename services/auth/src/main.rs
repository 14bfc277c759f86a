//! The `staffetta-auth` binary.

fn main() {}
