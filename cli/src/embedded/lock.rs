//! One run at a time in one data folder.
//!
//! A lock of the operating system on a file in the folder: it goes away with the process, however that ends, so
//! there is nothing stale to clean up. The file stays; removing it would let two runs lock two different files of
//! the same name. Deliberately absent: waiting. The second run is a mistake and is told so at once.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Name of the locked file in the folder; it holds the number of the process that has the lock.
pub(super) const FILE_NAME: &str = "lock";

/// The right to use a folder, given back when dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: Flock<File>,
}

impl FolderLock {
    /// Takes the lock of `folder`.
    ///
    /// # Errors
    /// When another process has it; the message says which.
    pub(super) fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                // The number only helps the reader; a file that cannot be read still means the folder is taken.
                let _ = file.read_to_string(&mut holder);
                bail!(
                    "the data folder {} is used by another run (process {}): stop that one first, or choose another folder",
                    folder.display(),
                    if holder.is_empty() { "unknown" } else { &holder }
                )
            }
            Err((_, errno)) => Err(errno).with_context(|| format!("lock {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_serves_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        let refusal = FolderLock::take(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(first);
        FolderLock::take(folder.path()).unwrap();
    }
}
