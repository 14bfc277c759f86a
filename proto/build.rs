//! Compiles the contract without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=staffetta");
    let descriptors = protox::compile(["staffetta/auth/v1/auth.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
