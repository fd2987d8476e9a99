//! An archive of everything about an account: rows and files, read a little at a time and packed into a file on the disk.
//!
//! Nothing is held in memory that grows with the account, and no transaction is open meanwhile. What does not fit is named in
//! the archive's own README. Deliberately absent: what belongs into it (`shared::privacy`) and where it goes.

mod packer;

use std::fmt::Write;

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::Ctx;
use packer::{Packer, Packing};
use shared::{
    id::{FileId, JobId},
    privacy::{Begun, Form, Kept, KeptUpload, PARTS, Part, Section, kept_files, kept_uploads},
};

/// Jobs whose files are looked up in one statement.
const JOBS_AT_ONCE: i64 = 100;
/// Uploads looked up in one statement.
const UPLOADS_AT_ONCE: i64 = 100;

/// How much goes into one archive. Together they stay below the 5 GB that S3 takes in one piece.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of files: the results of jobs, the newest before the others, and then what was sent in.
    pub files_bytes: u64,
    /// Bytes of inputs as they were sent, before they are packed; from there on, files inside inputs are named instead.
    pub inputs_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files_bytes: 2_000_000_000, inputs_bytes: 2_000_000_000 }
    }
}

/// Makes an archive; the file is gone when the value is.
///
/// # Errors
/// When the database, the storage or the disk fails.
pub async fn build(ctx: &Ctx, export: &Begun, limits: Limits) -> anyhow::Result<NamedTempFile> {
    let packer = Packer::start(ctx.clock.now());
    let (explained, left_out) = (String::new(), String::new());
    let mut archive = Archive { ctx, export, limits, packer, files_bytes: 0, explained, left_out };
    for part in PARTS {
        archive.add(part).await?;
    }
    archive.add_results().await?;
    archive.add_uploads().await?;
    archive.explain().await?;
    archive.packer.finish().await
}

struct Archive<'a> {
    ctx: &'a Ctx,
    export: &'a Begun,
    limits: Limits,
    packer: Packer,
    /// Bytes of files that are in it.
    files_bytes: u64,
    /// A line for each file, for the README.
    explained: String,
    /// What did not fit or was not there, for the README.
    left_out: String,
}

impl Archive<'_> {
    async fn add(&mut self, part: &Part) -> anyhow::Result<()> {
        self.packer.begin(part.path, Packing::Deflate).await?;
        let count = match &part.form {
            Form::Object(section) => self.rows(*section, "").await?,
            Form::Lines(section) => self.rows(*section, "\n").await?,
            Form::Lists(lists) => self.lists(lists).await?,
        };
        self.text("\n").await?;
        self.line(part.path, part.about, count);
        Ok(())
    }

    async fn lists(&mut self, lists: &[(&str, Section)]) -> anyhow::Result<u64> {
        let mut count = 0;
        for (at, (name, section)) in lists.iter().enumerate() {
            let open = if at == 0 { "{" } else { ",\n " };
            self.packer.write(format!("{open}\"{name}\": [\n").into()).await?;
            count += self.rows(*section, ",\n").await?;
            self.text("]").await?;
        }
        self.text("}").await?;
        Ok(count)
    }

    /// Writes every row of a section with `between` between them; gives how many there were.
    async fn rows(&mut self, mut section: Section, between: &'static str) -> anyhow::Result<u64> {
        let (mut count, mut bytes, mut after) = (0, 0, None::<String>);
        loop {
            let page = section.page(&self.ctx.db, self.export.account, after.as_deref()).await?;
            for row in page.rows {
                if count > 0 {
                    self.text(between).await?;
                }
                count += 1;
                bytes += u64::try_from(row.len()).unwrap_or(u64::MAX);
                self.packer.write(row.into()).await?;
            }
            after = page.next;
            let Some(last) = &after else { return Ok(count) };
            if section == Section::Jobs && bytes > self.limits.inputs_bytes {
                section = Section::JobsInShort;
                let _ =
                    writeln!(self.left_out, "  files inside the inputs of jobs after {last}, in jobs.jsonl");
            }
        }
    }

    /// The results of jobs that are still in storage.
    async fn add_results(&mut self) -> anyhow::Result<()> {
        let (mut count, mut before) = (0, None::<JobId>);
        loop {
            let files = kept_files(&self.ctx.db, self.export.account, before, JOBS_AT_ONCE).await?;
            let Some(last) = files.last() else { break };
            before = Some(last.job);
            for file in &files {
                count += self.add_file(&path(file), &file.storage_key, file.size_bytes).await?;
            }
        }
        self.line("files/", "results of jobs that are still kept, by job and place in its output", count);
        Ok(())
    }

    /// What was sent in and is still in storage.
    async fn add_uploads(&mut self) -> anyhow::Result<()> {
        let (mut count, mut after) = (0, None::<FileId>);
        loop {
            let uploads = kept_uploads(&self.ctx.db, self.export.account, after, UPLOADS_AT_ONCE).await?;
            let Some(last) = uploads.last() else { break };
            after = Some(last.id);
            for upload in &uploads {
                let path = upload_path(upload);
                count += self.add_file(&path, &upload.storage_key, upload.size_bytes).await?;
            }
        }
        self.line("uploads/", "files that were sent in and are still kept, by their ids", count);
        Ok(())
    }

    /// Adds a file as it is, for pictures and films do not pack any smaller; gives how many were added. One that does not fit or
    /// is not there any more is named instead.
    async fn add_file(&mut self, path: &str, storage_key: &str, size_bytes: i64) -> anyhow::Result<u64> {
        let size = u64::try_from(size_bytes).unwrap_or(u64::MAX);
        if size > self.limits.files_bytes.saturating_sub(self.files_bytes) {
            let _ = writeln!(self.left_out, "  {path} ({size} bytes): too much for one archive");
            return Ok(0);
        }
        let Some(mut content) = self.ctx.storage.open(storage_key).await? else {
            let _ = writeln!(self.left_out, "  {path}: no longer in storage");
            return Ok(0);
        };
        self.packer.begin(path, Packing::Store).await?;
        while let Some(piece) = content.next().await? {
            self.packer.write(piece).await?;
        }
        self.files_bytes += size;
        Ok(1)
    }

    async fn explain(&mut self) -> anyhow::Result<()> {
        let Begun { id, account, .. } = self.export;
        let now = self.ctx.clock.now().format("%-d %B %Y at %H:%M UTC");
        let mut text = format!(
            "Everything about the account {account}, as it was on {now}. Archive {id}.\n\nAmounts are tokens, times are UTC, \
             and ids are those of the API.\n\n{}",
            self.explained
        );
        if !self.left_out.is_empty() {
            let _ = write!(text, "\nNot in this archive:\n{}", self.left_out);
        }
        self.packer.begin("README.txt", Packing::Deflate).await?;
        self.packer.write(text.into()).await
    }

    fn line(&mut self, path: &str, about: &str, count: u64) {
        let _ = writeln!(self.explained, "  {path:<20} {about} ({count})");
    }

    async fn text(&mut self, text: &'static str) -> anyhow::Result<()> {
        self.packer.write(Bytes::from_static(text.as_bytes())).await
    }
}

/// The name of an upload in the archive: its id, as in storage.
fn upload_path(upload: &KeptUpload) -> String {
    format!("uploads/{}", upload.storage_key.rsplit('/').next().unwrap_or_default())
}

/// The name of a job's file in the archive.
fn path(file: &Kept) -> String {
    let name = file.storage_key.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.') {
        Some((_, extension)) => format!("files/{}/{}.{extension}", file.job, file.position),
        None => format!("files/{}/{}", file.job, file.position),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::id::FileId;

    #[test]
    fn a_file_is_named_by_its_own_job_and_place() {
        let job = JobId::new();
        let name = |key: &str| {
            let key = key.to_owned();
            path(&Kept {
                id: FileId::new(),
                job,
                position: 2,
                storage_key: key,
                preview_key: None,
                size_bytes: 1,
            })
        };
        assert_eq!(name("outputs/job_of_another/0.png"), format!("files/{job}/2.png"));
        assert_eq!(name("outputs/v1.2/0"), format!("files/{job}/2"));
    }
}
