//! A worker of one pool in a process of its own: Kiln's runtime as it is, with the provider of the benchmark.
//!
//! Says by files what the measure waits for: that it begins, that so many jobs were handed over, and, at its end, what it
//! saw.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use chrono::Utc;
use clap::Args;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::{
    catalog::Catalog, clock::SystemClock, config, db, job::Medium, process::Process, seal::Sealer,
    storage::Storage, wake::Wakes,
};
use uuid::Uuid;
use workers::{
    config::{Moderation, Vendors},
    providers::Providers,
    runtime,
};

use super::{
    calls::{self, Calls},
    provider::Bench,
};
use crate::{child, os};

/// The file of calls in its folder.
const CALLS: &str = "calls";

/// What the worker is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Address of the database.
    #[arg(long)]
    pub database: String,
    /// Its pool.
    #[arg(long, default_value = "text")]
    pub pool: String,
    /// Jobs at once.
    #[arg(long)]
    pub slots: usize,
    /// Connections to Postgres.
    #[arg(long)]
    pub connections: u32,
    /// Name of the vendor that it stands in for.
    #[arg(long, default_value = "openai")]
    pub provider: String,
    /// How long a submit takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub takes_ms: u64,
    /// After how long to look at a task again, in seconds.
    #[arg(long, default_value_t = 30)]
    pub look_again_secs: u64,
    /// How many tasks are under way, their first looks spread over that time from `first-look` on.
    #[arg(long, default_value_t = 0)]
    pub tasks: usize,
    /// When the first of them is due, in microseconds of the machine's clock.
    #[arg(long, default_value_t = 0)]
    pub first_look: i64,
    /// Whether the provider only begins what it is handed.
    #[arg(long)]
    pub parks: bool,
    /// Whether nobody bills what the provider does, so that no intent is written.
    #[arg(long)]
    pub unbilled: bool,
    /// Whether to remember when each job was handed over.
    #[arg(long)]
    pub remember: bool,
    /// Says `handed` once so many jobs were handed to the provider.
    #[arg(long, default_value_t = 0)]
    pub expect: u64,
    /// Folder for what it says.
    #[arg(long)]
    pub words: PathBuf,
}

/// What a worker saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Jobs handed to the provider.
    pub submits: u64,
    /// When each of them was handed over, in microseconds of the machine's clock, where that was remembered.
    #[serde(skip)]
    pub calls: HashMap<Uuid, i64>,
    /// Looks at tasks, and how late they were: median, 99th percentile and most, in milliseconds.
    pub looks: u64,
    /// Median.
    pub late_p50_ms: f64,
    /// 99th percentile.
    pub late_p99_ms: f64,
    /// Latest.
    pub late_max_ms: f64,
    /// Highest resident memory, in MB.
    pub peak_rss_mb: f64,
}

impl Report {
    /// Reads what a worker has left in its folder.
    pub fn read(words: &Path) -> Result<Self> {
        let report: Self = serde_json::from_slice(&std::fs::read(words.join("report"))?)?;
        Ok(Self { calls: calls::read(&words.join(CALLS))?, ..report })
    }
}

/// Runs it until SIGTERM.
pub async fn main(options: Options) -> Result<()> {
    let pool = Medium::from_word(&options.pool).context("no such pool")?;
    let process = Process::new();
    process.stop_on_signal()?;
    let database =
        config::Database { url: options.database.clone().into(), max_connections: options.connections };
    let db = db::connect(&database, pool.word()).await?;
    let provider = Arc::new(provider(&options)?);
    let parts = runtime::Parts {
        wakes: Wakes::start(&db, &process),
        db,
        clock: Arc::new(SystemClock),
        catalog: Arc::new(Catalog::load()?),
        storage: Storage::new(&nowhere()),
        // Keys for every vendor, which is what a route needs; nobody is called with them.
        vendors: Vendors::from_variables(Some("http://127.0.0.1:9")),
        moderation: Moderation::default(),
        sealer: Sealer::new(&config::Sealing::from_secret(&SecretString::from("only for the benchmark"))),
        operator_email: None,
        doorbell: None,
        allow_private: true,
        timing: config::Queue { drain: Duration::from_secs(5), ..config::Queue::default() },
    };
    let ctx = workers::Ctx { providers: Providers::new(vec![provider.clone()]), ..parts.into_ctx(&process).await? };
    child::say(&options.words.join("began"), &Utc::now().timestamp_micros())?;
    if options.expect > 0 {
        let (provider, words, expect) = (provider.clone(), options.words.clone(), options.expect);
        tokio::spawn(async move {
            while provider.submits.load(Ordering::Relaxed) < expect {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            child::say(&words.join("handed"), &Utc::now().timestamp_micros())
        });
    }
    runtime::serve(ctx, pool, options.slots, &process).await?;
    process.finish().await;
    if let Some(calls) = &provider.calls {
        calls.flush()?;
    }
    let late = provider.late();
    let report = Report {
        submits: provider.submits.load(Ordering::Relaxed),
        looks: late.count(),
        late_p50_ms: late.ms(0.5),
        late_p99_ms: late.ms(0.99),
        late_max_ms: late.max_ms(),
        peak_rss_mb: os::peak_rss_mb(std::process::id()),
        ..Report::default()
    };
    child::say(&options.words.join("report"), &report)
}

fn provider(options: &Options) -> Result<Bench> {
    let look_again = Duration::from_secs(options.look_again_secs);
    let apart = i64::try_from(look_again.as_micros()).unwrap_or(0) as f64 / options.tasks.max(1) as f64;
    let name = if options.provider == "kling" { "kling" } else { "openai" };
    Ok(Bench {
        takes: Duration::from_millis(options.takes_ms),
        look_again,
        calls: options.remember.then(|| Calls::begin(&options.words.join(CALLS))).transpose()?,
        unbilled: options.unbilled,
        parks: options.parks,
        due: (0..options.tasks)
            .map(|number| AtomicI64::new(options.first_look + (apart * number as f64) as i64))
            .collect(),
        ..Bench::new(name)
    })
}

/// A storage that is never asked: nothing here makes files.
fn nowhere() -> config::Storage {
    config::Storage {
        endpoint: "http://127.0.0.1:9".into(),
        public_endpoint: "http://127.0.0.1:9".into(),
        region: "us-east-1".into(),
        bucket: "kiln".into(),
        access_key_id: "kiln".into(),
        secret_access_key: "secret".into(),
        signed_url_life: Duration::from_secs(3600),
    }
}
