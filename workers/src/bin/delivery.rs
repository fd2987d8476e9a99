//! The delivery of notices and mails as a process of its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    workers::notify::main().await
}
