//! The server process: started, watched over, stopped.
//!
//! It runs in its own process group, so a Ctrl-C in the terminal reaches us but not it, and we can drain first. It
//! does not outlive us either: a guard, a shell waiting at the other end of a pipe, stops it when the pipe closes,
//! which happens however we end. Deliberately absent: starting it again by itself; a database that falls over in
//! development is news, not noise.

use std::{
    fs::{File, OpenOptions},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use super::{binaries::Binaries, home::Home};

/// How long a fast shutdown may take: it writes a checkpoint.
const FAST_MAX: Duration = Duration::from_secs(20);
/// How long an immediate shutdown may take: the server itself kills its backends after 5 s.
const IMMEDIATE_MAX: Duration = Duration::from_secs(8);
/// Name of the log in the server's folder.
const LOG: &str = "postgres.log";
/// A log larger than this is set aside at a start, so that the two together stay small.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// Lines of the log shown when a start fails.
const LOG_LINES_SHOWN: usize = 8;

/// Waits for the pipe to close, then stops the server if the cluster still says it is that one.
const GUARD: &str = r#"read -r _; read -r pid <"$2/postmaster.pid" && [ "$pid" = "$1" ] && kill -INT "$1""#;

/// How a server is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// Ends transactions, writes everything out.
    Fast,
    /// Ends at once; the next start recovers from the log, as after a power cut.
    Immediate,
}

/// A running server and its guard.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    guard: Child,
}

impl Server {
    /// Starts the server on a port with `name=value` settings. It accepts connections some time later.
    ///
    /// # Errors
    /// When a process cannot be started or the log not be opened.
    pub(super) fn launch(home: &Home, binaries: &Binaries, settings: &[String]) -> anyhow::Result<Self> {
        let log = open_log(home)?;
        let cluster = home.cluster();
        let mut command = home.command(&binaries.postgres());
        command.arg("-D").arg(&cluster);
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = Command::from(command).spawn().context("start the database server")?;
        let guard = spawn_guard(&child, &cluster).inspect_err(|_| signal(&child, Signal::SIGINT))?;
        Ok(Self { child, guard })
    }

    /// Whether the server process still runs.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops the server and waits for its end.
    ///
    /// # Errors
    /// When it survives even an immediate shutdown.
    pub(super) async fn stop(&mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        // The guard goes first: later its number for the server might be somebody else's.
        let _ = self.guard.kill().await;
        if shutdown == Shutdown::Fast {
            signal(&self.child, Signal::SIGINT);
            if tokio::time::timeout(FAST_MAX, self.child.wait()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!("the database server did not stop in {FAST_MAX:?}, stopping it at once");
        }
        signal(&self.child, Signal::SIGQUIT);
        match tokio::time::timeout(IMMEDIATE_MAX, self.child.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => bail!("the database server does not stop (process {:?})", self.child.id()),
        }
    }

    /// Ends the guard and forgets the server, as if this process had been killed together with its guard.
    #[cfg(test)]
    pub(super) async fn abandon(mut self) -> Pid {
        self.guard.kill().await.expect("the guard runs");
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("the server runs");
        Pid::from_raw(pid)
    }
}

/// The last lines of the server's log, to explain a failed start.
pub(super) fn log_tail(home: &Home) -> String {
    let text = std::fs::read_to_string(home.folder.join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

fn open_log(home: &Home) -> anyhow::Result<File> {
    let path = home.folder.join(LOG);
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        let _ = std::fs::rename(&path, path.with_extension("log.old"));
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    home.hand_over(&path)?;
    Ok(log)
}

fn spawn_guard(server: &Child, cluster: &Path) -> anyhow::Result<Child> {
    let pid = server.id().context("the database server ended at once")?;
    Command::new("sh")
        .args(["-c", GUARD, "guard", &pid.to_string()])
        .arg(cluster)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start the guard of the database server")
}

fn signal(server: &Child, signal: Signal) {
    if let Some(pid) = server.id().and_then(|pid| i32::try_from(pid).ok()) {
        // A server that is gone already is what we want.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
