//! A server that stands in for AI vendors, speaking their own wire protocols.
//!
//! It owns the pretence end to end: what each vendor accepts, how it says no, how its tasks ripen, and files
//! that really decode. It keeps one promise to its callers: every piece of work a vendor would bill is counted
//! exactly once, whatever then happens to the answer.
//!
//! Deliberately absent: any type of the platform under test (an adapter proved against shared types proves
//! nothing), and TLS.

mod answer;
mod callback;
mod clock;
mod content;
mod control;
mod fault;
mod fields;
mod files;
mod form;
mod index;
mod interference;
mod journal;
mod ledger;
mod picture;
mod progress;
mod seed;
mod stream;
mod task;
mod traces;
mod vendors;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{fault::FaultBook, ledger::Ledger, task::TaskStore, traces::Traces};

/// The most a request may weigh: the largest vendor limit (25 MB of audio) and room for the form around it.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How one simulator is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where tasks are kept so that a restart still knows them; `None` forgets them with the process.
    pub state_dir: Option<PathBuf>,
    /// When an asynchronous task becomes finished.
    pub pace: Pace,
}

/// When an asynchronous task becomes finished; changeable while running by `POST /control/pace`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Finished at the n-th answered poll; 0 and 1 both mean the first.
    AfterPolls(u32),
    /// Finished this many seconds after the submit.
    AfterSeconds(f64),
}

/// Everything the endpoints share.
struct Simulator {
    faults: Mutex<FaultBook>,
    ledger: Mutex<Ledger>,
    traces: Mutex<Traces>,
    tasks: TaskStore,
    pace: Mutex<Pace>,
    first_pace: Pace,
}

type Sim = Arc<Simulator>;

/// Serves the simulated vendors on `listener` until `shutdown` resolves.
///
/// # Errors
/// When the saved tasks cannot be read or the state folder cannot be made.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let tasks = TaskStore::open(options.state_dir.as_deref()).context("open the saved tasks")?;
    let simulator = Arc::new(Simulator {
        faults: Mutex::default(),
        ledger: Mutex::default(),
        traces: Mutex::default(),
        tasks,
        pace: Mutex::new(options.pace),
        first_pace: options.pace,
    });
    wire::accept(listener, routes(simulator), shutdown).await;
    Ok(())
}

/// Every endpoint; those of the vendors are on their own pages.
fn routes(simulator: Sim) -> Router {
    Router::new()
        .route("/", get(index::page))
        .route("/health", get(|| async { "ok" }))
        .merge(vendors::routes())
        .route("/files/{provider}/{name}", get(files::download))
        .route(
            "/control/faults",
            get(control::list_faults).post(control::order_fault).delete(control::clear_faults),
        )
        .route("/control/submits", get(control::submits))
        .route("/control/requests", get(control::requests))
        .route("/control/tasks", get(control::tasks))
        .route("/control/traces", get(traces::list))
        .route("/control/pace", post(control::set_pace))
        .route("/control/reset", post(control::reset))
        .layer(middleware::from_fn_with_state(simulator.clone(), traces::note))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(simulator)
}
