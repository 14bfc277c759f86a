//! The `staffetta-frontend` binary.

fn main() {}
