//! The API as a process of its own.

use std::sync::Arc;

use anyhow::Context;
use api::{Parts, People, Uploads, Waits, config::Http, http};
use shared::{
    account::Keyring,
    catalog::Catalog,
    clock::{SharedClock, SystemClock},
    config, db,
    job::{Doorbell, Estimator, Renderer, Submitter},
    price::Prices,
    process::Process,
    provider::Standings,
    seal::Sealer,
    storage::Storage,
    telemetry,
    text::Audience,
    wake::Wakes,
    webhook::Signer,
};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: shared::Allocator = shared::Allocator;

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
    let clock: SharedClock = Arc::new(SystemClock);
    let wakes = Wakes::start(&db, &process);
    let standings = Standings::start(&db, &process);
    let estimator = Estimator::start(&db, &standings, &catalog, &clock, &process);
    let ctx = Arc::new(Parts {
        prices: Prices::start(&db, &catalog, &wakes, &process).await?,
        standings,
        audience: Audience::start(&db, &wakes, &process, http::DRAIN),
        wakes,
        keyring: Keyring::new(&db, &process),
        submitter: Submitter::new(&db, &process),
        db,
        clock,
        catalog,
        renderer: Renderer::new(storage.clone(), identity.public_url.clone()).estimating(estimator.clone()),
        estimator,
        storage,
        sealer: Sealer::new(&config::Sealing::from_env()?),
        webhook_public_key: Signer::new(&identity.secret).public_key(),
        people: People::new(&identity.secret, api::config::People::from_env()?),
        doorbell: Doorbell::new(&identity.secret, identity.public_url.clone()),
        public_url: identity.public_url,
        secret: identity.secret,
        process: process.clone(),
        metrics: Some(metrics),
        limits: settings.limits,
        uploads: Uploads::new(settings.uploads),
        waits: Waits::default(),
        cors: settings.cors,
        dialogs: api::config::Dialogs::from_env()?,
        trusted_proxies: settings.trusted_proxies,
        allow_private_addresses: settings.allow_private_addresses,
    });
    let listener =
        TcpListener::bind(settings.addr).await.with_context(|| format!("listen on {}", settings.addr))?;
    tracing::info!(addr = %settings.addr, "api is listening");
    let stop = process.clone();
    http::serve(listener, ctx, async move { stop.stopping().await }).await;
    process.finish().await;
    Ok(())
}
