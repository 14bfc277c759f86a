//! The `staffetta` binary.

fn main() {}
