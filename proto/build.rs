//! Compiles the contracts without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=staffetta");
    println!("cargo:rerun-if-changed=opentelemetry");
    let descriptors = protox::compile(["staffetta/auth/v1/auth.proto", "opentelemetry/trace.proto"], ["."])?;
    // Secrets are handed over, not copied: whoever made the octets can wipe them when the last reference goes.
    tonic_prost_build::configure().bytes(".staffetta.auth.v1.AuthenticateRequest").compile_fds(descriptors)?;
    Ok(())
}
