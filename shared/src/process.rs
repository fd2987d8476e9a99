//! The life of a process: its tasks are tracked, told to stop, and waited for.
//!
//! Nothing is spawned outside this tracker, so a stop by SIGINT or SIGTERM leaves no task behind.

use std::{future::Future, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

/// Handle to the tasks of this process; clones speak of the same process.
#[derive(Debug, Clone, Default)]
pub struct Process {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Process {
    /// A process with no tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends by itself; it should watch [`Process::stopping`].
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Completes when the process has been told to stop.
    pub fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.stopping.cancelled()
    }

    /// Whether the process has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Tells every task to stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Sleeps for `time`, or until the process is told to stop; `false` says it was.
    pub async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.stopping() => false,
        }
    }

    /// Tells every task to stop and waits until all have ended.
    pub async fn finish(&self) {
        self.stop();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Waits for SIGINT or SIGTERM.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub async fn signaled() -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        Ok(())
    }
}
