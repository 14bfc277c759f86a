//! The `staffetta-bench` binary.

fn main() {}
