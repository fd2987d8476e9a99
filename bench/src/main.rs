//! The benchmark of Kiln, and of queues that do part of what it does, on one machine and one server.
//!
//! `scripts/bench` builds and runs it; docs/BENCHMARKS.md says what is measured and how to read it. One program in three
//! roles: `run` conducts, `worker` and `peer` are what is measured and run in processes of their own. Deliberately
//! absent: anything that only works here. Kiln is used through its API and its public functions.

mod child;
mod goals;
mod http_load;
mod kiln;
mod limit;
mod os;
mod peers;
mod pg;
mod report;
mod run;
mod sse_load;
mod stats;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: shared::Allocator = shared::Allocator;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Runs measures and writes their results down.
    Run(run::Options),
    /// Works on one pool of Kiln.
    Worker(kiln::worker::Options),
    /// Inserts or works off jobs of another queue.
    Peer(peers::Options),
    /// Puts results into a document.
    Report {
        /// The results.
        results: PathBuf,
        /// The document, with the marks between which the tables go.
        document: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().role {
        Role::Run(options) => run::main(options).await,
        Role::Worker(options) => kiln::worker::main(options).await,
        Role::Peer(options) => peers::main(options).await,
        Role::Report { results, document } => report::write_into(&document, &report::read(&results)?),
    }
}
