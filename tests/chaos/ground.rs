//! What Kiln stands on: a Postgres, an S3 service and the simulated vendors, each a process that can be taken away.
//!
//! Postgres keeps its defaults of durability, so an immediate restart is the recovery after a crash. The S3 service is this
//! program once more, so that it can be killed. The simulator is frozen at most: its book of what it would bill, which
//! everything is checked against, does not survive it.

#![expect(clippy::disallowed_methods, reason = "statements that the product never makes")]

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use cli::embedded::{Postgres, PostgresOptions, S3Server};
use nix::sys::signal::Signal;
use shared::{
    catalog::Catalog,
    clock::{Clock, SystemClock},
    config, db, price,
};
use sqlx::PgPool;

use crate::{
    child::Child,
    place::{OURSELVES, Place, S3_NAME, S3_PASSWORD},
};

/// Connections of all processes together, those included that are just being replaced.
const CONNECTIONS: u16 = 250;
/// How long a server of ours may take to answer at its start.
const READY_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Restarts of Postgres before the run is given up.
const RESTARTS: usize = 3;
/// How long one of the simulated videos takes, in seconds.
const VIDEO_SECONDS: &str = "1.5";

/// The three servers, and our own way to the database.
pub struct Ground {
    /// To look behind the front door.
    pub db: PgPool,
    /// Address of the database.
    pub database_url: String,
    place: Arc<Place>,
    postgres: tokio::sync::Mutex<Postgres>,
    s3: Mutex<Option<Child>>,
    simulator: Child,
    http: reqwest::Client,
}

impl Ground {
    /// Starts the servers, makes the schema and publishes the catalogue.
    ///
    /// # Errors
    /// When one does not come up.
    pub async fn start(place: &Arc<Place>, http: &reqwest::Client) -> anyhow::Result<Self> {
        let options = PostgresOptions { max_connections: CONNECTIONS, ..PostgresOptions::default() };
        let postgres = Postgres::start(&place.folder.join("postgres"), options).await?;
        let config = config::Database { url: postgres.url().into(), max_connections: 4 };
        let db = db::connect(&config, "chaos").await?;
        db::migrate(&db).await?;
        price::publish(&db, &Catalog::load()?, SystemClock.now()).await.context("publish the catalogue")?;
        let arguments = ["--port", &place.simulator_port.to_string(), "--seconds", VIDEO_SECONDS];
        let simulator = Child::start(
            place,
            "simulator",
            &place.program("simulator"),
            &arguments.map(str::to_owned),
            &[("RUST_LOG".into(), "warn".into())],
        )?;
        let ground = Self {
            db,
            database_url: postgres.url().to_owned(),
            place: place.clone(),
            postgres: tokio::sync::Mutex::new(postgres),
            s3: Mutex::default(),
            simulator,
            http: http.clone(),
        };
        ground.start_s3().await?;
        await_answer(http, &format!("{}/health", place.simulator_url())).await?;
        Ok(ground)
    }

    /// Restarts Postgres, at once as in a power cut if `immediate`.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart_postgres(&self, immediate: bool) -> anyhow::Result<()> {
        let mut postgres = self.postgres.lock().await;
        let mut restarted = postgres.restart(immediate).await;
        for _ in 1..RESTARTS {
            if restarted.is_ok() {
                break;
            }
            restarted = postgres.restart(immediate).await;
        }
        restarted
    }

    /// Ends up to `most` connections of Kiln; how many there were.
    ///
    /// # Errors
    /// When the database is away itself.
    pub async fn disconnect(&self, most: i64) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from (
                 select pid from pg_stat_activity
                 where application_name like 'kiln %' and application_name <> 'kiln chaos'
                 order by random() limit $1
             ) backends",
        )
        .bind(most)
        .fetch_one(&self.db)
        .await
    }

    /// Kills the S3 service; whether there was one.
    pub fn kill_s3(&self) -> bool {
        // Dropped, and thereby killed.
        self.s3.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Starts the S3 service if it does not run, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_s3(&self) -> anyhow::Result<()> {
        {
            let mut s3 = self.s3.lock().unwrap_or_else(PoisonError::into_inner);
            if s3.as_mut().is_none_or(|child| child.ended().is_some()) {
                let folder = self.place.s3_folder().display().to_string();
                let arguments = ["s3".to_owned(), folder, self.place.s3_port.to_string()];
                *s3 = Some(Child::start(&self.place, "s3", &self.place.program(OURSELVES), &arguments, &[])?);
            }
        }
        await_answer(&self.http, &self.place.s3_url()).await
    }

    /// Freezes the vendors.
    pub fn freeze_vendors(&self) {
        self.simulator.signal(Signal::SIGSTOP);
    }

    /// Wakes the vendors.
    pub fn thaw_vendors(&self) {
        self.simulator.signal(Signal::SIGCONT);
    }

    /// Stops Postgres well.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.db.close().await;
        self.postgres.into_inner().stop().await
    }
}

/// Waits until a server gives any answer at all.
///
/// # Errors
/// When none comes in time.
pub async fn await_answer(http: &reqwest::Client, url: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    while let Err(error) = http.get(url).send().await {
        if began.elapsed() > READY_MAX {
            bail!("nobody answers at {url}: {error}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The S3 service as a process: serves until it is killed.
///
/// # Errors
/// When it cannot start.
pub async fn serve_s3(folder: &Path, port: u16) -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN).init();
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let _server = S3Server::start(folder, port, S3_NAME, S3_PASSWORD, S3_NAME).await?;
    std::future::pending().await
}
