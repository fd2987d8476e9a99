//! The scheduler as a process of its own.

use std::sync::Arc;

use scheduler::{Ctx, tick};
use shared::{
    catalog::Catalog, clock::SystemClock, config, db, process::Process, seal::Sealer, storage::Storage,
    telemetry, wake::Wakes,
};

#[global_allocator]
static ALLOCATOR: shared::Allocator = shared::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let logging = config::Telemetry::from_env()?;
    telemetry::start_logging(&logging)?;
    let process = Process::new();
    process.stop_on_signal()?;
    telemetry::serve_metrics(&logging, &process)?;
    let db = db::connect(&config::Database::from_env()?, "scheduler").await?;
    let ctx = Ctx {
        wakes: Wakes::start(&db, &process),
        db,
        clock: Arc::new(SystemClock),
        storage: Storage::new(&config::Storage::from_env()?),
        sealer: Sealer::new(&config::Sealing::from_env()?),
        public_url: config::public_url()?,
        operator_email: config::operator_email()?,
        low_balance_tokens: Catalog::load()?.low_balance_tokens(),
        timing: config::Queue::from_env()?,
    };
    tick::start(&ctx, &process);
    process.stopping().await;
    process.finish().await;
    Ok(())
}
