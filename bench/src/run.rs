//! The conductor: which measures there are, in which order they run, and what they share.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use chrono::{SecondsFormat, Utc};
use clap::Args;
use serde_json::json;

use crate::{kiln, limit, os, peers, pg::Server, report::Results};

/// The measures by their names, in the order in which they run. Those that others depend on for comparison come first.
const MEASURES: [&str; 13] = [
    "submit", "drain", "start", "stream", "apalis", "river", "graphile", "limit", "claim", "parked", "fair",
    "snapshot", "soak",
];

/// What the conductor is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Superuser's address of the server.
    #[arg(long)]
    pub server: String,
    /// The API's binary.
    #[arg(long)]
    pub api: PathBuf,
    /// The text worker's binary.
    #[arg(long)]
    pub text_worker: PathBuf,
    /// The simulator's binary.
    #[arg(long)]
    pub simulator: PathBuf,
    /// pgbench.
    #[arg(long)]
    pub pgbench: PathBuf,
    /// A folder for what is only needed meanwhile.
    #[arg(long)]
    pub work: PathBuf,
    /// Where the results go.
    #[arg(long)]
    pub results: PathBuf,
    /// Only these measures.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// How often each is repeated.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Small counts: to see that all of it works.
    #[arg(long)]
    pub quick: bool,
    /// How long a reader holds its snapshot, in minutes.
    #[arg(long)]
    pub hold_minutes: Option<f64>,
    /// How long jobs come and go at a steady rate, in minutes, after the warming up.
    #[arg(long)]
    pub soak_minutes: Option<f64>,
    /// Jobs that a worker runs at once while it works off a backlog.
    #[arg(long, default_value_t = 1000)]
    pub slots: usize,
    /// Connections to Postgres of the API and of a worker.
    #[arg(long, default_value_t = 16)]
    pub connections: u32,
    /// What was typed.
    #[arg(long, default_value = "scripts/bench")]
    pub command: String,
    /// The version that is measured.
    #[arg(long, default_value = "unknown")]
    pub commit: String,
}

/// What measures work with.
#[derive(Debug)]
pub struct Run {
    /// The server.
    pub server: Server,
    /// Where results go.
    pub results: Results,
    /// The API's binary.
    pub api: PathBuf,
    /// The text worker's binary.
    pub text_worker: PathBuf,
    /// The simulator's binary.
    pub simulator: PathBuf,
    /// pgbench.
    pub pgbench: PathBuf,
    /// Slots of a worker.
    pub slots: usize,
    /// Connections of a process.
    pub connections: u32,
    /// How long a reader holds its snapshot, in minutes.
    pub hold_minutes: f64,
    /// How long jobs come and go at a steady rate, in minutes, after the warming up.
    pub soak_minutes: f64,
    quick: bool,
    work: PathBuf,
    ground: Option<kiln::Ground>,
}

impl Run {
    /// The first in earnest, the second for a quick look.
    pub fn either<T>(&self, earnest: T, quick: T) -> T {
        if self.quick { quick } else { earnest }
    }

    /// Kiln's accounts and models.
    pub fn ground(&self) -> Result<&kiln::Ground> {
        self.ground.as_ref().context("Kiln's database was not prepared")
    }

    /// An empty folder.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Flags and their values as a command line; a flag without a value stands alone.
    pub fn arguments(&self, flags: &[(&str, String)]) -> Vec<String> {
        let words = flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
        words.filter(|word| !word.is_empty()).collect()
    }
}

/// Runs the measures.
pub async fn main(options: Options) -> Result<()> {
    let wanted = wanted(&options.only)?;
    let server = Server::connect(&options.server).await?;
    let about = json!({
        "date": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        "commit": options.commit,
        "command": options.command,
        "quick": options.quick,
        "machine": os::machine(),
        "flushes_per_second": flushes(&options.work)?,
        "postgres": server.settings().await?,
        "slots": options.slots,
        "connections": options.connections,
    });
    println!("{about:#}");
    let mut run = Run {
        results: Results::begin(&options.results, &about)?,
        server,
        api: options.api,
        text_worker: options.text_worker,
        simulator: options.simulator,
        pgbench: options.pgbench,
        slots: options.slots,
        connections: options.connections,
        hold_minutes: options.hold_minutes.unwrap_or(if options.quick { 0.25 } else { 10.0 }),
        soak_minutes: options.soak_minutes.unwrap_or(if options.quick { 0.25 } else { 10.0 }),
        quick: options.quick,
        work: options.work,
        ground: None,
    };
    if wanted.iter().any(|name| !["apalis", "river", "graphile", "limit"].contains(name)) {
        run.ground = Some(kiln::prepare(&run.server).await?);
    }
    // Whole rounds one after the other, so that what changes on the machine meanwhile meets all of them.
    let rounds = if options.quick { 1 } else { options.rounds.max(1) };
    for round in 1..=rounds {
        for name in &wanted {
            run.results.set_flushes(flushes(&run.work)?);
            eprintln!("== round {round} of {rounds}: {name}");
            measure(&run, name, round).await.with_context(|| format!("measure {name}"))?;
        }
    }
    Ok(())
}

async fn measure(run: &Run, name: &str, round: usize) -> Result<()> {
    match name {
        "submit" => kiln::submit::round(run, round).await,
        "drain" => kiln::drain::round(run, round).await,
        "start" => kiln::start::round(run, round).await,
        "stream" => kiln::streams::round(run, round).await,
        "claim" => kiln::claim::round(run, round).await,
        "parked" => kiln::parked::round(run, round).await,
        "fair" => kiln::fair::round(run, round).await,
        // These take minutes, and say the same each time.
        "snapshot" | "soak" if round > 1 => Ok(()),
        "snapshot" => kiln::snapshot::round(run, round).await,
        "soak" => kiln::soak::round(run, round).await,
        "limit" => limit::round(run, round).await,
        peer => peers::round(run, peer, round).await,
    }
}

fn wanted(only: &[String]) -> Result<Vec<&'static str>> {
    if let Some(unknown) = only.iter().find(|name| !MEASURES.contains(&name.as_str())) {
        bail!("there is no measure {unknown}; there are {}", MEASURES.join(", "));
    }
    let wanted = MEASURES.into_iter().filter(|name| only.is_empty() || only.iter().any(|only| only == name));
    Ok(wanted.collect())
}

fn flushes(folder: &Path) -> Result<f64> {
    let rate = os::flush_rate(folder).with_context(|| format!("write to {}", folder.display()))?;
    ensure!(rate > 0.0, "the disk does not flush");
    Ok(rate.round())
}
