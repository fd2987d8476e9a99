//! A server that an earlier run left behind.
//!
//! After a crash the old server may still run on the cluster. It is stopped, not adopted: it is not our child, so
//! its end would go unnoticed, it runs with the settings of another run, and its clients died with that run. A fast
//! shutdown costs well under a second. Only processes that are seen to live in the cluster's folder are signalled,
//! never a number read from a file alone: after a restart of the machine it may be anyone's.
//! Deliberately absent: locking. The caller holds the folder's lock, so no new server can appear meanwhile.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// File in which a running server keeps its process number.
const PID_FILE: &str = "postmaster.pid";
/// How long a fast shutdown may take: it writes a checkpoint.
const FAST_MAX: Duration = Duration::from_secs(20);
/// How long an immediate shutdown may take: the server itself kills its backends after 5 s.
const IMMEDIATE_MAX: Duration = Duration::from_secs(8);
/// Pause between two looks at the processes.
const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// Stops whatever still runs on the cluster and removes a stale process file, which would forbid a start.
///
/// # Errors
/// When something survives an immediate shutdown.
pub(super) async fn evict(cluster: &Path) -> anyhow::Result<()> {
    let found = residents(cluster).await;
    if !found.is_empty() {
        let head = recorded(cluster).filter(|head| found.contains(head));
        tracing::warn!(postgres.pid = ?head, "stopping the database server an earlier run left behind");
        // Without a head there are only its orphaned children, which notice by themselves and leave.
        if let Some(head) = head {
            let _ = kill(head, Signal::SIGINT);
        }
        if !gone(cluster, FAST_MAX).await {
            for pid in residents(cluster).await {
                let _ = kill(pid, Signal::SIGQUIT);
            }
            if !gone(cluster, IMMEDIATE_MAX).await {
                bail!("a database server still runs in {} and does not stop", cluster.display());
            }
        }
    }
    match std::fs::remove_file(cluster.join(PID_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove the stale {PID_FILE} in {}", cluster.display()))
        }
        _ => Ok(()),
    }
}

/// The process number the cluster's server wrote down, if any.
fn recorded(cluster: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(cluster.join(PID_FILE)).ok()?;
    text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
}

/// Waits for the cluster to be empty; false when it takes longer than `most`.
async fn gone(cluster: &Path, most: Duration) -> bool {
    let wait = async {
        while !residents(cluster).await.is_empty() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::time::timeout(most, wait).await.is_ok()
}

/// The server processes that live in the cluster's folder.
async fn residents(cluster: &Path) -> Vec<Pid> {
    match std::fs::read_dir("/proc") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let is_server = std::fs::read_to_string(entry.path().join("comm")).ok()?.trim() == "postgres";
                // Every server process works in the folder of its cluster.
                let lives_here = std::fs::read_link(entry.path().join("cwd")).ok()? == cluster;
                (is_server && lives_here).then(|| Pid::from_raw(pid))
            })
            .collect(),
        Err(_) => listed(cluster).await,
    }
}

/// The same for systems without `/proc`, where only the head can be told, by the folder in its command line.
async fn listed(cluster: &Path) -> Vec<Pid> {
    let Ok(output) = tokio::process::Command::new("ps").args(["-A", "-o", "pid=,command="]).output().await
    else {
        return Vec::new();
    };
    let flag = format!("-D {} ", cluster.display());
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let (pid, command) = line.trim().split_once(' ')?;
            let is_server = command.split(' ').next()?.ends_with("/postgres");
            (is_server && command.contains(&flag)).then(|| pid.parse().ok().map(Pid::from_raw))?
        })
        .collect()
}
