//! The API as a process of its own.

use std::sync::Arc;

use anyhow::Context;
use api::{Parts, People, config::Http, http};
use shared::{
    account::Keyring,
    catalog::Catalog,
    clock::SystemClock,
    config, db,
    job::{Doorbell, Renderer, Submitter},
    price::Prices,
    process::Process,
    provider::Standings,
    seal::Sealer,
    storage::Storage,
    telemetry,
    wake::Wakes,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::start_logging(&config::Telemetry::from_env()?)?;
    let settings = Http::from_env()?;
    let identity = config::Identity::from_env()?;
    let storage = Storage::new(&config::Storage::from_env()?);
    let db = db::connect(&config::Database::from_env()?, "api").await?;
    let process = Process::new();
    process.stop_on_signal()?;
    let metrics = telemetry::start_metrics(&process)?;
    let catalog = Arc::new(Catalog::load()?);
    let wakes = Wakes::start(&db, &process);
    let ctx = Arc::new(Parts {
        prices: Prices::start(&db, &catalog, &wakes, &process).await?,
        standings: Standings::start(&db, &process),
        wakes,
        keyring: Keyring::new(&db, &process),
        submitter: Submitter::new(&db, &process),
        db,
        clock: Arc::new(SystemClock),
        catalog,
        renderer: Renderer::new(storage.clone(), identity.public_url.clone()),
        storage,
        sealer: Sealer::new(&config::Sealing::from_env()?),
        people: People::new(&identity.secret, api::config::People::from_env()?),
        doorbell: Doorbell::new(&identity.secret, identity.public_url.clone()),
        public_url: identity.public_url,
        process: process.clone(),
        metrics: Some(metrics),
        limits: settings.limits,
        dialogs: api::config::Dialogs::from_env()?,
        trusted_proxies: settings.trusted_proxies,
        allow_private_addresses: settings.allow_private_addresses,
    });
    let listener =
        TcpListener::bind(settings.addr).await.with_context(|| format!("listen on {}", settings.addr))?;
    tracing::info!(addr = %settings.addr, "api is listening");
    let stop = process.clone();
    http::serve(listener, ctx, async move { stop.stopping().await }).await?;
    process.finish().await;
    Ok(())
}
