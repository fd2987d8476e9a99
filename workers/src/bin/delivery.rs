//! The delivery of notices as a process of its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    workers::notify::main().await
}
