//! Callbacks: a client that asked for it is rung once, when its task has become final.
//!
//! Best effort, as at the vendors: one request, its answer is not looked at, and no harm is done when nobody is there. A task
//! that ripens by polls rings when the poll has come that ends it; one that ripens by time rings by itself.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    Pace, Sim, clock,
    ledger::Op,
    task::{Ending, Task},
};

/// How often a task that shall ring is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long it is looked at.
const LOOKS_MAX: u32 = 72_000;
/// How long the client may take to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What is posted.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The vendor's headers.
    pub headers: Vec<(&'static str, String)>,
    /// The vendor's payload.
    pub body: Value,
}

/// Rings at `url` when the task is final; `ring` says how the vendor puts it.
pub(crate) fn when_final(
    sim: &Sim,
    task: &Task,
    url: String,
    ring: impl Fn(&Task) -> Ring + Send + Sync + 'static,
) {
    let (sim, task) = (Arc::clone(sim), task.clone());
    #[expect(
        clippy::disallowed_methods,
        reason = "it may be cut short with the process; nothing depends on it"
    )]
    tokio::spawn(async move {
        let Some(task) = ripe(&sim, task).await else { return };
        if let Err(error) = post(&url, ring(&task)).await {
            tracing::info!(error = %error.without_url(), "nobody heard a callback");
        }
    });
}

/// The task once it is final; `None` when it is gone or never becomes so.
async fn ripe(sim: &Sim, task: Task) -> Option<Task> {
    for _ in 0..LOOKS_MAX {
        let now = sim.tasks.find(task.provider, &task.id)?;
        if now.ending.is_some() {
            return Some(now);
        }
        if let Pace::AfterSeconds(seconds) = sim.pace() {
            let gone =
                Duration::from_millis(u64::try_from(clock::now_ms() - now.created_ms).unwrap_or_default());
            if gone.as_secs_f64() >= seconds {
                sim.look(&now.visit(Op::Poll), &now.id).await;
            }
        }
        sleep(LOOK).await;
    }
    None
}

async fn post(url: &str, ring: Ring) -> Result<(), reqwest::Error> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let mut request = client.post(url).json(&ring.body);
    for (name, value) in ring.headers {
        request = request.header(name, value);
    }
    request.send().await.map(drop)
}

/// Whether a final task succeeded.
pub(crate) fn succeeded(task: &Task) -> bool {
    task.ending == Some(Ending::Succeeded)
}
