//! Our queue behind apalis: the [`Backend`] of a pool over the `queue` table.
//!
//! apalis runs the handlers; this decides what they get. Tasks of ours do all the input and output, so that the
//! `poll_…` methods never wait and never fail: the **claimer** leases jobs for free slots only, the **beater** keeps every
//! lease of the process alive (also while draining) and brings back cancels and losses, the **surveyor** finds where claims
//! begin, and the hints come from [`crate::wake`]. A database that is away is waited for: no error here ends a worker.
//! Deliberately absent: acknowledgements. A job's end is written by `job::close`, fenced by the lease.

mod beater;
mod claimer;
mod dues;
mod leases;
mod surveyor;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, RwLock},
    task::{Context, Poll},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    layers::Identity,
    task::{Task, builder::TaskBuilder},
    worker::context::WorkerContext,
};
use futures::FutureExt;
use sqlx::PgPool;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SharedClock,
    config,
    job::{Claimed, Floors, Medium, release},
    process::Process,
    wake::Wakes,
};

pub use leases::{Held, Leases};

/// A leased job on its way to a handler; the slot is free and the beats end when it is dropped.
#[derive(Debug)]
pub struct Work {
    /// What to do.
    pub claimed: Claimed,
    /// The lease being kept alive, with the signals that arrive on it.
    pub held: Held,
}

/// Which jobs a [`Queue`] brings.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// The pool.
    pub pool: Medium,
    /// Jobs run at once.
    pub slots: usize,
    /// Name of this worker, unique to this start of this process.
    pub worker: String,
    /// Leases and polls.
    pub timing: config::Queue,
}

/// What the tasks of a queue share.
#[derive(Debug, Clone)]
struct Shared {
    db: PgPool,
    clock: SharedClock,
    wakes: Wakes,
    process: Process,
    config: Arc<QueueConfig>,
    slots: Arc<Semaphore>,
    leases: Leases,
    floors: Arc<RwLock<Floors>>,
    /// Tripped when the last job has ended: the beater may rest.
    closed: CancellationToken,
}

/// The jobs of one pool, as a stream of work for an apalis worker.
pub struct Queue {
    shared: Shared,
    incoming: mpsc::Receiver<Work>,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Queue {
    /// Starts claiming and beating. Claims end when `process` is told to stop; beats end after the last job.
    pub fn start(
        db: PgPool,
        clock: SharedClock,
        wakes: Wakes,
        process: &Process,
        config: QueueConfig,
    ) -> Self {
        let shared = Shared {
            db,
            clock,
            wakes,
            process: process.clone(),
            slots: Arc::new(Semaphore::new(config.slots)),
            leases: Leases::default(),
            floors: Arc::default(),
            closed: CancellationToken::new(),
            config: Arc::new(config),
        };
        let (outgoing, incoming) = mpsc::channel(shared.config.slots);
        process.spawn(claimer::run(shared.clone(), outgoing));
        process.spawn(beater::run(shared.clone()));
        process.spawn(surveyor::run(shared.clone()));
        Self { shared, incoming, closing: None }
    }

    /// The pool's name and this process's, for apalis and the logs.
    pub fn name(&self) -> String {
        format!("{}-{}", self.shared.config.pool.word(), self.shared.config.worker)
    }
}

/// Gives back what was claimed and never begun, then lets the beater rest.
async fn close(shared: Shared, unbegun: Vec<Work>) {
    let leases: Vec<_> = unbegun.iter().map(|work| work.claimed.lease).collect();
    if !leases.is_empty()
        && let Err(error) = release(&shared.db, &leases, shared.clock.now()).await
    {
        tracing::warn!(%error, count = leases.len(), "leases not released; they lapse by themselves");
    }
    drop(unbegun);
    shared.closed.cancel();
}

impl Backend for Queue {
    type Task = Task<Work>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        // The claimer drops its end when the process stops, which ends the stream and lets apalis drain.
        self.incoming.poll_recv(cx).map(|work| work.map(|work| Ok(TaskBuilder::new(work).build())))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        let closing = self.closing.get_or_insert_with(|| {
            self.incoming.close();
            let mut unbegun = Vec::new();
            while let Ok(work) = self.incoming.try_recv() {
                unbegun.push(work);
            }
            close(self.shared.clone(), unbegun).boxed()
        });
        closing.as_mut().poll(cx).map(Ok)
    }
}

impl BackendConfig for Queue {
    type Args = Work;
    type Id = uuid::Uuid;
    // We decode: a job that cannot be read fails by itself instead of ending its worker.
    type Kind = Ephemeral;
    type Config = QueueConfig;
    type Layer = Identity;

    fn config(&self) -> &QueueConfig {
        &self.shared.config
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
