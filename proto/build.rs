//! Compiles the .proto files with protox, so that no protoc has to be installed.

use prost::Message as _;

const FILES: [&str; 7] = [
    "sunseo/v1/common.proto",
    "sunseo/v1/broker.proto",
    "sunseo/v1/groups.proto",
    "sunseo/v1/transactions.proto",
    "sunseo/v1/admin.proto",
    "sunseo/v1/outbox.proto",
    "sunseo/v1/engine.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::MessageCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
