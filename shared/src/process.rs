//! The life of a process: its tasks are tracked, told to stop, and waited for.
//!
//! Nothing is spawned outside this tracker, so a stop by SIGINT or SIGTERM leaves no task behind.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

/// Exit code after a second signal, as shells have it for a program ended by SIGINT.
const SECOND_SIGNAL_EXIT: i32 = 130;

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

    /// Is cancelled when the process is told to stop, for what outlasts a borrow of it.
    pub fn stop_token(&self) -> CancellationToken {
        self.stopping.child_token()
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

    /// Waits for one free slot, then takes all that are, up to `most`. `None`: the process is stopping.
    pub async fn free_slots(&self, slots: &Arc<Semaphore>, most: usize) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            slot = slots.clone().acquire_owned() => slot.ok()?,
            () = self.stopping() => return None,
        };
        let mut taken = vec![first];
        while taken.len() < most
            && let Ok(slot) = slots.clone().try_acquire_owned()
        {
            taken.push(slot);
        }
        Some(taken)
    }

    /// Tells every task to stop and waits until all have ended.
    pub async fn finish(&self) {
        self.stop();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Stops the process at SIGINT or SIGTERM, and ends it there and then at a second one: a stop may take as long as a
    /// provider's call, and whoever asks twice does not want to wait. What was under way is taken up by others.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    #[expect(clippy::disallowed_methods, reason = "must go on while all tracked tasks are waited for")]
    pub fn stop_on_signal(&self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
        let process = self.clone();
        tokio::spawn(async move {
            for last in [false, true] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if last {
                    tracing::warn!("{name} again: ending at once");
                    std::process::exit(SECOND_SIGNAL_EXIT);
                }
                tracing::info!("{name}: stopping; a second one ends at once");
                process.stop();
            }
        });
        Ok(())
    }
}
