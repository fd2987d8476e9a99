//! One JSON file with all tasks, replaced whole and atomically.
//!
//! A caller returns only when a state at least as new as its own change is on disk; callers that wait at the same
//! time share one write. There is no log and no history: simulated accounts are small.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::sync::Mutex;

use crate::task::Task;

/// The name of the file in the state folder.
const FILE_NAME: &str = "tasks.json";

/// The file and the newest version of the tasks it holds.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    written: Mutex<u64>,
}

impl Journal {
    /// A journal in this folder, which is made if need be.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make the state folder {}", folder.display()))?;
        Ok(Self { path: folder.join(FILE_NAME), written: Mutex::new(0) })
    }

    /// The tasks of the last run; none when there was no run.
    pub fn load(&self) -> anyhow::Result<Vec<Task>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("read {}", self.path.display())),
        };
        serde_json::from_slice(&text).with_context(|| format!("understand {}", self.path.display()))
    }

    /// Makes sure that version `wanted`, or a newer one, is on disk.
    pub async fn save(&self, wanted: u64, snapshot: impl Fn() -> (u64, Vec<Task>)) -> anyhow::Result<()> {
        let mut written = self.written.lock().await;
        if *written >= wanted {
            return Ok(());
        }
        let (version, tasks) = snapshot();
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || replace(&path, &tasks)).await.context("write the tasks")??;
        *written = version;
        Ok(())
    }
}

fn replace(path: &Path, tasks: &[Task]) -> anyhow::Result<()> {
    let draft = path.with_extension("json.new");
    let mut file = File::create(&draft).with_context(|| format!("create {}", draft.display()))?;
    file.write_all(&serde_json::to_vec(tasks).context("write tasks as JSON")?)?;
    file.sync_all()?;
    fs::rename(&draft, path).with_context(|| format!("put {} in place", path.display()))
}
