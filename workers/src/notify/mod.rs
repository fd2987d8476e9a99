//! Station 8, notify: telling callers that their jobs have ended.
//!
//! Due notices are leased in batches, as many as there are free slots, and sent each by itself; what came of a try is
//! written under its lease. A notice goes out at least once, always under the same id. Deliberately absent: deciding
//! who is told; the commit that ended the job has done that.

mod schedule;
mod signature;
mod webhook;

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::{
    Web,
    config::{Mail, allow_private_addresses, delivery_slots},
    mail, outbox,
};
use shared::{
    clock::{SharedClock, SystemClock},
    config, db,
    job::Renderer,
    notice::{self, Due},
    process::Process,
    seal::Sealer,
    storage::Storage,
    telemetry,
    wake::{Wake, Wakes, rest},
};

pub use schedule::TRIES;
pub use signature::sign;

/// How long a deliverer may take for one notice: the request's own limit, and time to write down the answer.
const LEASE: Duration = Duration::from_secs(60);
/// How often due notices are looked for when no hint comes.
const POLL: Duration = Duration::from_secs(1);

/// What a delivery needs.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Postgres.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Shows the job as the API does.
    pub renderer: Renderer,
    /// The way out to strangers' servers.
    pub web: Web,
    /// The deployment's secret, which accounts' signing keys are derived from.
    pub secret: SecretString,
}

/// The delivery of notices and mails as a process of its own, until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start; the message says what to set.
pub async fn main() -> anyhow::Result<()> {
    let logging = config::Telemetry::from_env()?;
    telemetry::start_logging(&logging)?;
    let process = Process::new();
    process.stop_on_signal()?;
    telemetry::serve_metrics(&logging, &process)?;
    let identity = config::Identity::from_env()?;
    let db = db::connect(&config::Database::from_env()?, "delivery").await?;
    let wakes = Wakes::start(&db, &process);
    let sealer = Sealer::new(&config::Sealing::from_env()?);
    mail::start(&Mail::from_env(), db.clone(), Arc::new(SystemClock), sealer, &process)?;
    let ctx = Ctx {
        db,
        clock: Arc::new(SystemClock),
        renderer: Renderer::new(Storage::new(&config::Storage::from_env()?), identity.public_url),
        web: Web::new(allow_private_addresses()?)?,
        secret: identity.secret,
    };
    serve(ctx, &wakes, delivery_slots()?, &process).await;
    process.finish().await;
    Ok(())
}

/// Delivers until `process` is told to stop; deliveries under way are finished.
pub async fn serve(ctx: Ctx, wakes: &Wakes, slots: usize, process: &Process) {
    let free = Arc::new(Semaphore::new(slots));
    let mut hints = wakes.listen();
    tracing::info!(slots, "delivery is ready");
    let claim = |limit| notice::claim(&ctx.db, limit, LEASE, ctx.clock.now());
    let one = |due| {
        let ctx = ctx.clone();
        async move { deliver(&ctx, &due).await }
    };
    while let Some(is_drained) = outbox::round("notices", &free, slots, process, claim, one).await {
        if is_drained && !rest(&mut hints, POLL, process, |wake| wake == Wake::Notice).await {
            return;
        }
    }
}

/// Sends one notice and writes down what came of it.
pub async fn deliver(ctx: &Ctx, due: &Due) {
    let sent = webhook::send(ctx, due).await;
    metrics::counter!("kiln_notice_tries_total", "channel" => "webhook", "result" => match &sent {
        notice::Sent::Delivered => "delivered",
        notice::Sent::Later(..) => "later",
        notice::Sent::Dead(_) => "dead",
    })
    .increment(1);
    tracing::info!(notice.id = %due.id, job.id = %due.job, tries = due.tries + 1, ?sent, "notice {} of {}", due.id, due.job);
    match notice::record(&ctx.db, due, &sent, ctx.clock.now()).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!(notice.id = %due.id, "lease of {} lost", due.id),
        Err(error) => {
            tracing::warn!(notice.id = %due.id, %error, "try of {} not written down; it is sent again", due.id)
        }
    }
}
