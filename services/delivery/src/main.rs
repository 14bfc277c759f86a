//! The `staffetta-delivery` binary.

fn main() {}
