//! The workers of the text pool as a process of their own.

use shared::job::Medium;

#[global_allocator]
static ALLOCATOR: shared::Allocator = shared::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    workers::runtime::main(Medium::Text).await
}
