//! The API and one worker on a database, each in a process of its own.
//!
//! Deliberately absent: whoever delivers notices, and the scheduler. Notices that are owed stay owed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;

use super::worker::Report;
use crate::{
    child::{self, Child},
    run::Run,
};

/// Longest wait for the worker to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both, at work.
#[derive(Debug)]
pub struct Deployment {
    /// The API, as it is shipped.
    pub api: Child,
    /// The worker, which remembers when each job was handed over.
    pub worker: Child,
    /// Where the API listens.
    pub addr: SocketAddr,
    words: PathBuf,
}

impl Deployment {
    /// Starts both on a database and waits for them to be ready. `provider` tells the worker how its provider behaves.
    pub async fn start(run: &Run, database: &str, slots: usize, provider: &[(&str, String)]) -> Result<Self> {
        let words = run.folder(database)?;
        let (api, addr) = child::api(&run.api, &run.server.url(database), run.connections).await?;
        let mut arguments = vec![
            ("--database", run.server.url(database)),
            ("--slots", slots.to_string()),
            ("--connections", run.connections.to_string()),
            ("--remember", String::new()),
            ("--words", words.display().to_string()),
        ];
        arguments.extend_from_slice(provider);
        let mut worker = child::own("worker", &run.arguments(&arguments))?;
        child::word::<i64>(&mut worker, &words.join("began"), PATIENCE).await?;
        Ok(Self { api, worker, addr, words })
    }

    /// Fails when one of them has ended.
    pub fn check(&mut self) -> Result<()> {
        self.api.check()?;
        self.worker.check()
    }

    /// Stops both and gives what the worker saw.
    pub async fn stop(self) -> Result<Report> {
        self.worker.stop().await?;
        self.api.stop().await?;
        Report::read(&self.words)
    }
}
