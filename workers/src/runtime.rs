//! The glue to apalis: one worker a pool over our queue, and what surrounds a run.
//!
//! A run ends early when its owner cancels, its lease is lost, its deadline comes, or a stopping process has waited long
//! enough; a handler that panics costs its job a try and nothing else. Nothing here ends a worker but its process.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::Context;
use apalis::prelude::*;
use futures::FutureExt;
use sqlx::PgPool;
use tracing::Instrument;

use crate::{
    Ctx, Paying, Probe, Web, checkup,
    config::{Moderation, Vendors, allow_private_addresses, doorbell, slots},
    health::Health,
    keychain::Keychain,
    moderation::OpenAi,
    net::vendor_client,
    outcome,
    run::{self, Ended},
};
use shared::{
    catalog::Catalog,
    clock::{SharedClock, SystemClock},
    config, db,
    id::LeaseToken,
    job::{self, Doorbell, Medium},
    process::Process,
    queue::{Queue, QueueConfig, Work},
    seal::Sealer,
    storage::Storage,
    telemetry,
    text::Teller,
    wake::Wakes,
};

/// What the parts of a worker process are made from.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Postgres.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Hints.
    pub wakes: Wakes,
    /// What is on offer.
    pub catalog: Arc<Catalog>,
    /// Where results go.
    pub storage: Storage,
    /// The vendors.
    pub vendors: Vendors,
    /// Who judges what is asked for.
    pub moderation: Moderation,
    /// Seals what mails say.
    pub sealer: Sealer,
    /// Address of whoever is told by mail what only an operator can mend.
    pub operator_email: Option<String>,
    /// Where providers may ring, if they are told.
    pub doorbell: Option<Doorbell>,
    /// Whether strangers' addresses may be private.
    pub allow_private: bool,
    /// Leases and tries.
    pub timing: config::Queue,
}

impl Parts {
    /// Puts the context of a worker of `process` together.
    ///
    /// # Errors
    /// When TLS cannot be set up, or the keys at the providers cannot be read, or moderation not set up as it is said.
    pub async fn into_ctx(self, process: &Process) -> anyhow::Result<Ctx> {
        let Self { db, clock, wakes, sealer, .. } = &self;
        let keychain = Keychain::start(db, clock, wakes, sealer, self.vendors.keys(), process).await?;
        let providers = self.vendors.adapters(&vendor_client()?);
        let ctx = Ctx {
            moderators: self.moderation.build(OpenAi::with_key(&providers, &keychain).as_ref())?,
            keychain,
            health: Health::start(&self.db, &self.clock, process),
            writes: job::Writes::new(&self.db, process),
            teller: Teller::start(&self.db, &self.wakes, process),
            providers,
            web: Web::new(self.allow_private)?.trusting(self.vendors.base_urls()),
            db: self.db,
            clock: self.clock,
            wakes: self.wakes,
            catalog: self.catalog,
            storage: self.storage,
            sealer: self.sealer,
            operator_email: self.operator_email,
            doorbell: self.doorbell,
            timing: self.timing,
            drained: tokio_util::sync::CancellationToken::new(),
            paying: Paying::default(),
            probe: Probe::default(),
        };
        checkup::start(&ctx, process);
        Ok(ctx)
    }
}

/// A worker of one pool as a process of its own, until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start; the message says what to set.
pub async fn main(pool: Medium) -> anyhow::Result<()> {
    let logging = config::Telemetry::from_env()?;
    telemetry::start_logging(&logging)?;
    let process = Process::new();
    process.stop_on_signal()?;
    telemetry::serve_metrics(&logging, &process)?;
    let db = db::connect(&config::Database::from_env()?, pool.word()).await?;
    let ctx = Parts {
        wakes: Wakes::start(&db, &process),
        db,
        clock: Arc::new(SystemClock),
        catalog: Arc::new(Catalog::load()?),
        storage: Storage::new(&config::Storage::from_env()?),
        vendors: Vendors::from_env(),
        moderation: Moderation::from_env()?,
        sealer: Sealer::new(&config::Sealing::from_env()?),
        operator_email: config::operator_email()?,
        doorbell: doorbell()?,
        allow_private: allow_private_addresses()?,
        timing: config::Queue::from_env()?,
    }
    .into_ctx(&process)
    .await?;
    serve(ctx, pool, slots(pool)?, &process).await?;
    process.finish().await;
    Ok(())
}

/// Works on one pool until `process` is told to stop and the jobs under way have ended or were given back.
///
/// # Errors
/// When apalis ends the worker, which only a defect can cause.
pub async fn serve(ctx: Ctx, pool: Medium, slots: usize, process: &Process) -> anyhow::Result<()> {
    let worker = format!("{}-{}", std::process::id(), LeaseToken::new().0.simple());
    let settings = QueueConfig { pool, slots, worker, timing: ctx.timing.clone() };
    let queue = Queue::start(ctx.db.clone(), ctx.clock.clone(), ctx.wakes.clone(), process, settings);
    let (drain, drained, watched) = (ctx.timing.drain, ctx.drained.clone(), process.clone());
    let over = tokio_util::sync::CancellationToken::new();
    let ended = over.clone();
    process.spawn(async move {
        watched.stopping().await;
        tokio::select! {
            () = tokio::time::sleep(drain) => drained.cancel(),
            () = ended.cancelled() => {}
        }
    });
    let (providers, moderators) = (ctx.providers.names(), ctx.moderators.names());
    tracing::info!(pool = pool.word(), slots, ?providers, ?moderators, "{} worker is ready", pool.word());
    let worker = WorkerBuilder::new(queue.name().as_str())
        .backend(queue)
        .data(Arc::new(ctx))
        .data(process.clone())
        .build(handle);
    // apalis waits to be told to stop even when its backend has no more to give.
    let stop = process.clone();
    let result = worker
        .run_until(async move {
            stop.stopping().await;
            Ok::<(), WorkerError>(())
        })
        .await;
    over.cancel();
    result.context("run the worker")
}

/// What apalis calls for each job. It answers nothing: the job's end is in the database. apalis polls all handlers of a
/// worker on one task, so each run gets a task of its own, or one core would be all they have.
async fn handle(work: Work, ctx: Data<Arc<Ctx>>, process: Data<Process>) -> Result<(), Infallible> {
    let job = work.claimed.job();
    let trace = work.claimed.trace().map(|trace| trace.id());
    let span = tracing::info_span!("job", job.id = %job, task = work.claimed.task, trace.id = trace);
    let ctx = Ctx { paying: Paying::default(), ..Ctx::clone(&ctx) };
    let run = async move {
        let ended = guard(&ctx, &work).await;
        if let Ended::Paused { until } = ended {
            work.held.comes_back_at(until);
        }
        ended
    };
    let run = process.spawn(run.instrument(span)).await;
    match run {
        Ok(ended) => tracing::debug!(job.id = %job, ?ended, "run of {job} over"),
        Err(error) => tracing::error!(job.id = %job, %error, "run of {job} broke; its lease lapses"),
    }
    Ok(())
}

/// Runs a job within its limits.
async fn guard(ctx: &Ctx, work: &Work) -> Ended {
    let Work { claimed, held } = work;
    let left = (claimed.deadline - ctx.clock.now()).to_std().unwrap_or(Duration::ZERO);
    if left.is_zero() {
        return run::expire(ctx, claimed).await;
    }
    let run = AssertUnwindSafe(run::run_job(ctx, claimed)).catch_unwind();
    tokio::select! {
        ended = run => match ended {
            Ok(ended) => ended,
            Err(_) => {
                tracing::error!(job.id = %claimed.job(), "handler of {} panicked", claimed.job());
                let tries = u16::try_from(claimed.tries).unwrap_or(0);
                let outcome = outcome::defect("internal_error", "something went wrong on our side", tries, ctx.clock.now());
                run::settle(ctx, claimed, outcome).await
            }
        },
        () = held.canceled.cancelled() => run::cancel(ctx, claimed).await,
        () = held.lost.cancelled() => {
            tracing::warn!(job.id = %claimed.job(), "lease of {} lost", claimed.job());
            Ended::Stale
        }
        () = tokio::time::sleep(left) => run::expire(ctx, claimed).await,
        () = given_up(ctx) => {
            match job::release(&ctx.db, &[claimed.lease], ctx.clock.now()).await {
                Ok(_) => tracing::info!(job.id = %claimed.job(), "job {} given back", claimed.job()),
                Err(error) => tracing::warn!(job.id = %claimed.job(), %error, "job not given back; its lease lapses"),
            }
            Ended::Paused { until: ctx.clock.now() }
        }
    }
}

/// Completes when a stopping process has waited long enough for a run that may be given back. One that has begun a paid
/// submit may not: its answer is worth the wait, which the call's own time limit ends.
async fn given_up(ctx: &Ctx) {
    ctx.drained.cancelled().await;
    if ctx.paying.is_set() {
        std::future::pending::<()>().await;
    }
}
