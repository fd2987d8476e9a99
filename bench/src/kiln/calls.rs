//! When each job was handed to the provider, noted in a file.
//!
//! In a file and not in the worker: what a measure remembers would be counted as the worker's memory. Deliberately absent:
//! an error when a note cannot be written. Its job is missing then, and whoever looks for it says so.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

/// Bytes of a note: the job's id and a moment.
const NOTE: usize = 16 + 8;

/// A file of calls, as it is being written.
#[derive(Debug)]
pub struct Calls(Mutex<BufWriter<File>>);

impl Calls {
    /// Begins a file.
    pub fn begin(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
        Ok(Self(Mutex::new(BufWriter::new(file))))
    }

    /// Notes that a job was handed over, at a moment in microseconds of the machine's clock.
    pub fn note(&self, job: Uuid, at_micros: i64) {
        let mut note = [0; NOTE];
        note[..16].copy_from_slice(job.as_bytes());
        note[16..].copy_from_slice(&at_micros.to_le_bytes());
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&note));
    }

    /// Brings what was noted into the file.
    pub fn flush(&self) -> Result<()> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()?)
    }
}

/// Reads a file of calls: by job, when it was handed over, in microseconds; the last time where there were several. Nothing
/// where there is no file.
pub fn read(path: &Path) -> Result<HashMap<Uuid, i64>> {
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let (notes, rest) = bytes.as_chunks::<NOTE>();
    ensure!(rest.is_empty(), "{} ends within a note", path.display());
    let read = |note: &[u8; NOTE]| {
        let (job, at) = note.split_at(16);
        Ok((Uuid::from_slice(job)?, i64::from_le_bytes(at.try_into()?)))
    };
    notes.iter().map(read).collect()
}
