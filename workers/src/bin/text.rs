//! The workers of the text pool as a process of their own.

use shared::job::Medium;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    workers::runtime::main(Medium::Text).await
}
