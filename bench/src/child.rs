//! Processes beside this one: API, worker and simulator as they are shipped, and a worker or a peer in a process of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child as Process, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::de::DeserializeOwned;

use crate::os;

/// Longest wait for a process to be ready or gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Secret of the deployment that is measured.
const SECRET: &str = "a secret that is only for the benchmark";
/// An address where nobody is: text jobs keep no files.
const NOWHERE: &str = "http://127.0.0.1:9";

/// A process of ours, killed when dropped.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Process,
}

impl Child {
    fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let process = command.stdin(Stdio::null()).spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), process })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Processor seconds so far.
    pub fn cpu_seconds(&self) -> f64 {
        os::cpu_of(self.pid())
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<()> {
        let ended = self.process.try_wait()?;
        ensure!(ended.is_none(), "{} ended with {ended:?}", self.name);
        Ok(())
    }

    /// Waits until somebody listens at its address.
    async fn listens(&mut self, addr: SocketAddr) -> Result<()> {
        let began = Instant::now();
        while tokio::net::TcpStream::connect(addr).await.is_err() {
            self.check()?;
            ensure!(began.elapsed() < PATIENCE, "{} does not listen", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks it to stop and waits until it is gone.
    pub async fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGTERM)?;
        let began = Instant::now();
        while self.process.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "{} does not stop", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Waits for it to end by itself, which must be well.
    pub async fn wait(mut self, most: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                ensure!(status.success(), "{} ended with {status}", self.name);
                return Ok(());
            }
            ensure!(began.elapsed() < most, "{} takes longer than {most:?}", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The API on a database, as its binary is shipped, listening.
pub async fn api(binary: &Path, database_url: &str, connections: u32) -> Result<(Child, SocketAddr)> {
    let addr = free_addr()?;
    let mut command = shipped(binary, database_url, connections);
    command.envs([
        ("KILN_HTTP_ADDR", addr.to_string()),
        ("KILN_PUBLIC_URL", format!("http://{addr}")),
        ("KILN_IP_REQUESTS_PER_HOUR", "0".to_owned()),
    ]);
    let mut child = Child::spawn("the API", &mut command)?;
    child.listens(addr).await?;
    Ok((child, addr))
}

/// A worker of the text pool on a database, as its binary is shipped; the simulator stands in for every vendor. It does not say
/// when it is ready: the end of the first job does.
pub fn text_worker(
    binary: &Path,
    database_url: &str,
    connections: u32,
    slots: usize,
    simulator: SocketAddr,
) -> Result<Child> {
    let mut command = shipped(binary, database_url, connections);
    command.envs([
        ("KILN_TEXT_SLOTS", slots.to_string()),
        ("KILN_SIMULATOR_URL", format!("http://{simulator}")),
    ]);
    Child::spawn("the text worker", &mut command)
}

/// The vendors' simulator, listening.
pub async fn simulator(binary: &Path) -> Result<(Child, SocketAddr)> {
    let addr = free_addr()?;
    let mut command = Command::new(binary);
    command.env_clear().stdout(Stdio::null()).arg("--port").arg(addr.port().to_string());
    let mut child = Child::spawn("the simulator", &mut command)?;
    child.listens(addr).await?;
    Ok((child, addr))
}

/// A process of Kiln with what all of them are told, and nothing that happens to be set here.
fn shipped(binary: &Path, database_url: &str, connections: u32) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().stdout(Stdio::null()).envs([
        ("KILN_DATABASE_URL", database_url),
        ("KILN_DATABASE_CONNECTIONS", &connections.to_string()),
        ("KILN_SECRET", SECRET),
        ("KILN_ALLOW_PRIVATE_ADDRESSES", "true"),
        ("KILN_LOG", "warn"),
        ("S3_ENDPOINT", NOWHERE),
        ("S3_ACCESS_KEY_ID", "kiln"),
        ("S3_SECRET_ACCESS_KEY", "secret"),
    ]);
    command
}

/// This program again, in another role.
pub fn own(role: &str, arguments: &[String]) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).args(arguments);
    Child::spawn(role, &mut command)
}

/// Waits for what a process writes into a file once it has something to say.
pub async fn word<T: DeserializeOwned>(child: &mut Child, path: &Path, most: Duration) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(path) {
            return serde_json::from_str(&text).with_context(|| format!("read {}", path.display()));
        }
        child.check()?;
        ensure!(began.elapsed() < most, "no word from {} in {most:?}", child.name);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes a word for whoever waits for it, whole or not at all.
pub fn say(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(value)?)?;
    Ok(std::fs::rename(new, path)?)
}

fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
