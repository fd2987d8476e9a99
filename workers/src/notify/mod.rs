//! Station 8, notify: telling callers that their jobs have ended.
//!
//! Due notices are leased in batches, as many as there are free slots, and sent each by itself; what came of a try is
//! written under its lease. A notice goes out at least once, always under the same id. An endpoint that is gone, or at which
//! nothing arrives for days, is given up. Deliberately absent: deciding who is told; the commit that ended the job has done that.

mod schedule;
mod signature;
mod webhook;

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};

use crate::{
    Web,
    config::{Mail, allow_private_addresses, delivery_slots},
    mail, outbox,
};
use shared::{
    clock::{SharedClock, SystemClock},
    config, db,
    job::Renderer,
    notice::{self, Due, Recorded, Sent},
    process::Process,
    seal::Sealer,
    storage::Storage,
    telemetry,
    wake::{Wake, Wakes, rest},
    webhook::{Signer, Trouble, give_up},
};

pub use schedule::TRIES;
pub use signature::Signed;

/// Longest wait for a receiver's answer.
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a deliverer may take for one notice: [`TIMEOUT`], and time to write down the answer.
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
    /// The deployment's key pair, which everything is signed by as well.
    pub signer: Signer,
    /// Opens the secrets of endpoints, and seals what mails say.
    pub sealer: Sealer,
    /// Longest wait for a receiver's answer: [`TIMEOUT`], but in tests.
    pub timeout: Duration,
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
    mail::start(&Mail::from_env(), db.clone(), Arc::new(SystemClock), sealer.clone(), &process)?;
    let ctx = Ctx {
        db,
        clock: Arc::new(SystemClock),
        renderer: Renderer::new(Storage::new(&config::Storage::from_env()?), identity.public_url),
        web: Web::new(allow_private_addresses()?)?,
        signer: Signer::new(&identity.secret),
        secret: identity.secret,
        sealer,
        timeout: TIMEOUT,
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
    let ended = Arc::new(Notify::new());
    let one = |due| {
        let (ctx, ended) = (ctx.clone(), ended.clone());
        async move {
            deliver(&ctx, &due).await;
            ended.notify_one();
        }
    };
    while let Some(is_drained) = outbox::round("notices", &free, slots, process, claim, one).await {
        let goes_on = !is_drained
            || tokio::select! {
                // A receiver with more to hear than it may at once has room again.
                () = ended.notified() => true,
                goes_on = rest(&mut hints, POLL, process, |wake| wake == Wake::Notice) => goes_on,
            };
        if !goes_on {
            return;
        }
    }
}

/// Sends one notice and writes down what came of it.
pub async fn deliver(ctx: &Ctx, due: &Due) {
    let (sent, tried) = webhook::send(ctx, due).await;
    let channel = if due.endpoint.is_some() { "endpoint" } else { "webhook" };
    metrics::counter!("kiln_notice_tries_total", "channel" => channel, "result" => match &sent {
        Sent::Delivered => "delivered",
        Sent::Later(..) => "later",
        Sent::Dead(_) => "dead",
        Sent::Gone(_) => "gone",
    })
    .increment(1);
    tracing::info!(notice.id = %due.id, job.id = %due.job, tries = due.tries + 1, ?sent, "notice {} of {}", due.id, due.job);
    match notice::record(&ctx.db, due, &sent, tried.as_ref(), ctx.clock.now()).await {
        Ok(Recorded::Lost) => tracing::warn!(notice.id = %due.id, "lease of {} lost", due.id),
        // Where nobody was asked, nothing was learnt of the endpoint.
        Ok(recorded) if tried.is_some() => look_after_endpoint(ctx, due, &sent, recorded).await,
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(notice.id = %due.id, %error, "try of {} not written down; it is sent again", due.id)
        }
    }
}

/// Gives up the endpoint of a notice that says it is gone, or that fails and has failed for too long.
async fn look_after_endpoint(ctx: &Ctx, due: &Due, sent: &Sent, recorded: Recorded) {
    let Some(endpoint) = due.endpoint else { return };
    let trouble = match sent {
        Sent::Gone(_) => Trouble::Gone,
        Sent::Later(..) | Sent::Dead(_) if recorded == Recorded::Failing => Trouble::Failing,
        _ => return,
    };
    match give_up(&ctx.db, &ctx.sealer, endpoint, &due.target, trouble, ctx.clock.now()).await {
        Ok(true) => {
            tracing::warn!(endpoint.id = %endpoint, account.id = %due.account, ?trouble, "endpoint {endpoint} given up")
        }
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(endpoint.id = %endpoint, %error, "endpoint {endpoint} not given up; the next try finds out again")
        }
    }
}
