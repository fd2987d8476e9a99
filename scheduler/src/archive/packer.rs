//! Packing on a thread of its own: what comes over a short queue is written into a ZIP file on the disk.
//!
//! Packing takes a core and the disk, which would keep other tasks waiting; the queue is short, so that whoever reads faster
//! than the disk writes waits as well. Left alone before its end, the thread gives up and the file is gone.

use std::io::{BufWriter, Write};

use anyhow::{Context, bail};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tempfile::NamedTempFile;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Pieces under way to the thread; a piece is a row or what the storage sends at once.
const QUEUE: usize = 8;

/// How a file is put into the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Made smaller: text.
    Deflate,
    /// As it is: what is packed in itself.
    Store,
}

enum Order {
    Begin(String, Packing),
    Write(Bytes),
    Finish,
}

/// An archive that is being packed.
#[derive(Debug)]
pub struct Packer {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<anyhow::Result<NamedTempFile>>,
}

impl Packer {
    /// Begins an archive whose files all say that they are of `now`.
    pub fn start(now: DateTime<Utc>) -> Self {
        let (orders, taken) = mpsc::channel(QUEUE);
        Self { orders, thread: spawn_blocking(move || pack(taken, now)) }
    }

    /// Begins the next file.
    ///
    /// # Errors
    /// When the thread has failed; with why.
    pub async fn begin(&mut self, path: &str, packing: Packing) -> anyhow::Result<()> {
        self.order(Order::Begin(path.to_owned(), packing)).await
    }

    /// Goes on with the file.
    ///
    /// # Errors
    /// When the thread has failed; with why.
    pub async fn write(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        self.order(Order::Write(bytes)).await
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn finish(mut self) -> anyhow::Result<NamedTempFile> {
        self.order(Order::Finish).await?;
        self.thread.await.context("pack an archive")?
    }

    async fn order(&mut self, order: Order) -> anyhow::Result<()> {
        if self.orders.send(order).await.is_ok() {
            return Ok(());
        }
        // The thread ends early only by an error, and nobody asks again after one.
        match (&mut self.thread).await.context("pack an archive")? {
            Ok(_) => bail!("the archive is packed already"),
            Err(error) => Err(error),
        }
    }
}

fn pack(mut orders: mpsc::Receiver<Order>, now: DateTime<Utc>) -> anyhow::Result<NamedTempFile> {
    let file =
        tempfile::Builder::new().prefix("kiln-archive-").tempfile().context("make a file to pack into")?;
    let mut zip = ZipWriter::new(BufWriter::new(file));
    // How long a file will be is not known at its beginning, so each may be longer than 4 GB.
    let options = SimpleFileOptions::default()
        .last_modified_time(now.naive_utc().try_into().unwrap_or_default())
        .unix_permissions(0o644)
        .large_file(true);
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Begin(path, packing) => {
                let method = match packing {
                    Packing::Deflate => CompressionMethod::Deflated,
                    Packing::Store => CompressionMethod::Stored,
                };
                zip.start_file(path, options.compression_method(method))
                    .context("begin a file of an archive")?;
            }
            Order::Write(bytes) => zip.write_all(&bytes).context("write a file of an archive")?,
            Order::Finish => {
                let written = zip.finish().context("end an archive")?;
                return written.into_inner().context("end an archive");
            }
        }
    }
    bail!("given up")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn what_was_written_can_be_read_again() {
        let mut packer = Packer::start(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        for (path, packing) in [("a.txt", Packing::Deflate), ("b/c.bin", Packing::Store)] {
            packer.begin(path, packing).await.unwrap();
            for _ in 0..1000 {
                packer.write(Bytes::from_static(b"0123456789")).await.unwrap();
            }
        }
        let file = packer.finish().await.unwrap();
        let mut zip = zip::ZipArchive::new(file.reopen().unwrap()).unwrap();
        for (path, packed) in [("a.txt", 0..1000), ("b/c.bin", 10_000..10_001)] {
            let mut entry = zip.by_name(path).unwrap();
            assert!(packed.contains(&entry.compressed_size()), "{path}: {}", entry.compressed_size());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!(text, "0123456789".repeat(1000));
        }
    }

    #[tokio::test]
    async fn a_failure_of_the_thread_is_told_to_whoever_writes_on() {
        let mut packer = Packer::start(DateTime::UNIX_EPOCH);
        packer.begin("a", Packing::Deflate).await.unwrap();
        packer.begin("a", Packing::Deflate).await.unwrap();
        let mut told = Ok(());
        while told.is_ok() {
            told = packer.write(Bytes::from_static(b"x")).await;
        }
        let told = format!("{:#}", told.unwrap_err());
        assert!(told.contains("begin a file of an archive"), "{told}");
    }
}
