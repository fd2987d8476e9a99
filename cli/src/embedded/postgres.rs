//! A private PostgreSQL server made of the system's own binaries.
//!
//! Owns one cluster in one folder, from its creation to an orderly stop. The server listens on loopback, where any
//! user of the machine could knock, so it asks for a random password kept in the folder. Port, password and data
//! survive restarts. A crash of ours leaves nothing that hinders the next start (see `resident` and `server`).
//! Deliberately absent: migrations, upgrades between major versions, and tuning beyond what development needs.

use std::{net::TcpListener, path::Path, time::Duration};

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection, migrate::MigrateDatabase};

use super::{
    binaries::{Binaries, cluster_major},
    home::Home,
    lock::FolderLock,
    resident,
    server::{Server, Shutdown, log_tail},
};

/// Superuser and database that [`Postgres::url`] names.
const NAME: &str = "kiln";
/// File with the superuser's password.
const PASSWORD_FILE: &str = "password";
/// File with the port, so that addresses stay the same from run to run.
const PORT_FILE: &str = "port";
/// How long a start may take: recovery after a crash replays up to `max_wal_size` (1 GB).
const READY_MAX: Duration = Duration::from_secs(60);
/// Pause between two attempts to connect.
const READY_PAUSE: Duration = Duration::from_millis(20);
/// Ports tried before giving up: each can be taken between our look and the server's.
const PORT_TRIES: usize = 3;

/// How a private server differs from the default.
#[derive(Debug, Clone, Copy)]
pub struct PostgresOptions {
    /// Whether commits reach the disk before they are confirmed. Tests may do without: a crash of the machine, not
    /// of the server, then costs the whole cluster.
    pub fsync: bool,
    /// Most connections at a time.
    pub max_connections: u16,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { fsync: true, max_connections: 200 }
    }
}

/// A running private server. Dropped without [`stop`](Self::stop), it shuts down by itself a moment later.
pub struct Postgres {
    home: Home,
    binaries: Binaries,
    options: PostgresOptions,
    password: String,
    port: u16,
    url: String,
    server: Server,
    _lock: FolderLock,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("folder", &self.home.folder)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Starts the server of `dir`, a folder of its own, made on first use, and waits until it answers.
    ///
    /// # Errors
    /// When no server is installed, another run uses the folder, or the server does not come up; the last lines of
    /// its log are then in the message.
    pub async fn start(dir: &Path, options: PostgresOptions) -> anyhow::Result<Self> {
        let mut home = Home::settle(dir)?;
        let lock = FolderLock::take(&home.folder)?;
        resident::evict(&home.cluster()).await?;
        home.claim()?;
        let binaries = Binaries::find(cluster_major(&home.cluster())?).await?;
        let password = cluster_password(&home, &binaries).await?;
        let (port, server) = launch(&home, &binaries, options, &password).await?;
        home.write(PORT_FILE, &port.to_string())?;
        let url = address(&password, port, NAME);
        if !sqlx::Postgres::database_exists(&url).await? {
            sqlx::Postgres::create_database(&url).await.context("make the database")?;
        }
        tracing::info!(database.folder = %home.folder.display(), database.port = port, "database server is up");
        Ok(Self { home, binaries, options, password, port, url, server, _lock: lock })
    }

    /// Address of the database, password included.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the server process still runs.
    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// Stops the server: open transactions are ended, everything is written out.
    ///
    /// # Errors
    /// When the server does not end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.server.stop(Shutdown::Fast).await
    }

    /// Stops the server, at once as in a power cut if `immediate`, and starts it again on the same port.
    ///
    /// # Errors
    /// When the server does not end or does not come up again.
    pub async fn restart(&mut self, immediate: bool) -> anyhow::Result<()> {
        self.server.stop(if immediate { Shutdown::Immediate } else { Shutdown::Fast }).await?;
        self.server = Server::launch(&self.home, &self.binaries, &settings(self.options, self.port))?;
        match ready(&mut self.server, &self.password, self.port).await? {
            true => Ok(()),
            false => bail!("the database server did not start again:\n{}", log_tail(&self.home)),
        }
    }
}

/// The superuser's password; makes the cluster if there is none.
async fn cluster_password(home: &Home, binaries: &Binaries) -> anyhow::Result<String> {
    let kept = home.read(PASSWORD_FILE)?;
    if cluster_major(&home.cluster())?.is_some() {
        return kept.with_context(|| {
            format!(
                "the database in {0} has lost its password file {0}/{PASSWORD_FILE}",
                home.folder.display()
            )
        });
    }
    let password: String = rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let file = home.write(PASSWORD_FILE, &password)?;
    // Made under another name and renamed when whole, so that a start cut short leaves no half cluster.
    let unfinished = home.folder.join("data.unfinished");
    let mut trouble = String::new();
    // Not every system has the first locale; both compare by bytes, so the order of rows is the same everywhere.
    for locale in ["C.UTF-8", "C"] {
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished)
                .with_context(|| format!("empty {}", unfinished.display()))?;
        }
        let mut command = home.command(&binaries.initdb());
        command.arg("-D").arg(&unfinished).arg("--pwfile").arg(&file);
        command.args(["-U", NAME, "--auth=scram-sha-256", "--encoding=UTF8", "--locale", locale]);
        let output = tokio::process::Command::from(command).output().await.context("run initdb")?;
        if output.status.success() {
            std::fs::rename(&unfinished, home.cluster()).context("put the new cluster in its place")?;
            return Ok(password);
        }
        trouble = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    bail!("initdb could not make a database in {}:\n{trouble}", home.folder.display())
}

/// Starts the server on the port of the last run, or another if that is taken, and waits until it answers.
async fn launch(
    home: &Home,
    binaries: &Binaries,
    options: PostgresOptions,
    password: &str,
) -> anyhow::Result<(u16, Server)> {
    let mut wanted = home.read(PORT_FILE)?.and_then(|port| port.parse().ok()).unwrap_or(0);
    for _ in 0..PORT_TRIES {
        let Ok(port) = free_port(wanted).or_else(|_| free_port(0)) else { break };
        let mut server = Server::launch(home, binaries, &settings(options, port))?;
        if ready(&mut server, password, port).await? {
            return Ok((port, server));
        }
        if free_port(port).is_ok() {
            break; // It was not the port.
        }
        wanted = 0;
    }
    bail!("the database server did not start:\n{}", log_tail(home))
}

fn settings(options: PostgresOptions, port: u16) -> Vec<String> {
    let durable = if options.fsync { "on" } else { "off" };
    vec![
        "listen_addresses=127.0.0.1".into(),
        format!("port={port}"),
        // A socket's path has at most 107 bytes, which a data folder may exceed; TCP is all we need.
        "unix_socket_directories=".into(),
        format!("max_connections={}", options.max_connections),
        "shared_buffers=128MB".into(),
        // Commits are still handed to the system before they are confirmed, so a killed server loses none.
        format!("fsync={durable}"),
        format!("full_page_writes={durable}"),
        "timezone=UTC".into(),
        "log_timezone=UTC".into(),
    ]
}

/// `wanted` if nobody listens there, any free port for 0.
fn free_port(wanted: u16) -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", wanted))?.local_addr()?.port())
}

/// The address of a database. Without TLS: the other end is this machine.
fn address(password: &str, port: u16, database: &str) -> String {
    format!("postgres://{NAME}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
}

/// Waits for the server to answer; false if it ended instead.
async fn ready(server: &mut Server, password: &str, port: u16) -> anyhow::Result<bool> {
    let url = address(password, port, "postgres");
    let mut last_error = None;
    let wait = async {
        loop {
            match PgConnection::connect(&url).await {
                // The answer may come from a stranger on the port while ours has just failed to take it.
                Ok(connection) if server.is_running() => return connection.close().await.map(|()| true),
                Ok(_) => return Ok(false),
                Err(_) if !server.is_running() => return Ok(false),
                Err(error) => last_error = Some(error),
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
    };
    match tokio::time::timeout(READY_MAX, wait).await {
        Ok(answer) => answer.context("connect to the database server"),
        Err(_) => match last_error {
            Some(error) => Err(error).context("the database server runs but does not answer"),
            None => bail!("the database server does not answer"),
        },
    }
}

#[cfg(test)]
mod tests;
