//! Station 6, from what a vendor made to what is kept: download, verify, compare with what was ordered, preview, store.
//!
//! Files pass through the disk, so a large one costs no memory. Nothing is believed: an empty, cut-off or wrong file is no
//! result, and neither is a good one that is not what was ordered (`acceptance.rs`); its job is not charged.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;
use tempfile::{NamedTempFile, TempPath};

use crate::{
    Ctx,
    acceptance::Ordered,
    media::{self, Kind, MediaError, Picture, Preview, Verified},
    net::FetchError,
    providers::{Artifact, Artifacts},
};
use shared::{
    id::JobId,
    job::{Claimed, Output, StoredFile},
};

/// Longest file taken from a vendor.
const RESULT_LIMIT_BYTES: u64 = 1024 * 1024 * 1024;

/// Longest time a download may take: a gigabyte at 2 MB/s, with some room.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Why a result could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It could not be fetched this time; it may still be there.
    #[error("download: {0}")]
    Download(String),
    /// Its address is none that may be read, and will not become one.
    #[error("its address {0}")]
    Forbidden(String),
    /// It is not what was ordered, and will not become so.
    #[error("unusable: {0}")]
    Unusable(String),
    /// Our own storage or disk failed; the result is fine.
    #[error("store: {0:#}")]
    Storage(anyhow::Error),
}

/// Verifies and stores everything a vendor made for a job. `source` is the picture that it was made from, where that matters and
/// is known.
///
/// # Errors
/// See [`ResultError`]. What was stored before the error stays under a key of its own until strays are looked for.
pub async fn keep(
    ctx: &Ctx,
    claimed: &Claimed,
    artifacts: &Artifacts,
    source: Option<Picture>,
) -> Result<Output, ResultError> {
    let expected = expected_kind(&claimed.task, &claimed.input);
    match expected {
        None if artifacts.text.as_deref().is_none_or(str::is_empty) && artifacts.extra.is_none() => {
            return Err(ResultError::Unusable("the answer is empty".into()));
        }
        Some(_) if artifacts.files.is_empty() => {
            return Err(ResultError::Unusable("no file was made".into()));
        }
        _ => {}
    }
    let ordered = Ordered::new(claimed, ctx.catalog.known(&claimed.model), source);
    let count = ordered.count(artifacts.files.len()).map_err(other_than_ordered)?;
    let mut files = Vec::with_capacity(count);
    for (position, artifact) in artifacts.files.iter().take(count).enumerate() {
        let Some(kind) = expected else { break };
        files.push(keep_file(ctx, claimed.job(), position, artifact, kind, ordered).await?);
    }
    let text = artifacts.text.as_deref().map(without_zeros);
    let usage = artifacts.usage.clone().map(json_without_zeros);
    let extra = artifacts.extra.clone().map(json_without_zeros);
    Ok(Output { text, usage, extra, files, cost_usd: artifacts.cost_usd })
}

fn other_than_ordered(why: String) -> ResultError {
    ResultError::Unusable(format!("not what was ordered: {why}"))
}

/// The character U+0000 is the one that Postgres cannot keep; a vendor's answer must not fail because of it.
fn without_zeros(text: &str) -> String {
    text.replace('\0', "")
}

fn json_without_zeros(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_zeros(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(json_without_zeros).collect()),
        Value::Object(fields) => {
            let cleaned =
                fields.into_iter().map(|(name, value)| (without_zeros(&name), json_without_zeros(value)));
            Value::Object(cleaned.collect())
        }
        other => other,
    }
}

/// What a task's files must be; none where the result is text.
fn expected_kind(task: &str, input: &Value) -> Option<Kind> {
    match task {
        "image.vectorize" => Some(Kind::Vector),
        "audio.speech" if input.get("format").is_some_and(|format| format == "pcm") => Some(Kind::Pcm),
        "audio.transcribe" | "image.describe" => None,
        _ => match task.split('.').next() {
            Some("image") => Some(Kind::Image),
            Some("video") => Some(Kind::Video),
            Some("audio") => Some(Kind::Audio),
            _ => None,
        },
    }
}

async fn keep_file(
    ctx: &Ctx,
    job: JobId,
    position: usize,
    artifact: &Artifact,
    kind: Kind,
    ordered: Ordered<'_>,
) -> Result<StoredFile, ResultError> {
    let path = match artifact {
        Artifact::Inline(bytes) => write_down(bytes.clone()).await?,
        Artifact::Remote { url, headers } => download(ctx, url, headers).await?,
    };
    let verified = examine(path.to_path_buf(), move |path| media::verify(path, kind)).await?;
    ordered.check(&verified).map_err(other_than_ordered)?;
    // A name of its own: a worker that was given up, and comes back, must not overwrite what its successor has stored.
    let name = format!("outputs/{job}/{position}-{:08x}", rand::random::<u32>());
    let storage_key = format!("{name}.{}", verified.extension);
    ctx.storage.put_file(&storage_key, &path, verified.mime_type).await.map_err(ResultError::Storage)?;
    let preview_key = match kind {
        Kind::Image => {
            let preview = examine(path.to_path_buf(), media::preview).await?;
            Some(keep_preview(ctx, &name, preview).await?)
        }
        Kind::Video => match poster(job, &path).await {
            Some(poster) => Some(keep_preview(ctx, &name, poster).await?),
            None => None,
        },
        _ => None,
    };
    Ok(describe(verified, storage_key, preview_key))
}

/// The first picture of a film as a preview, where ffmpeg is installed and finds one.
async fn poster(job: JobId, path: &Path) -> Option<Preview> {
    let program = Path::new(media::POSTER_PROGRAM);
    let drawn = match media::poster(program, path).await {
        Ok(picture) => {
            examine(picture.to_path_buf(), media::preview).await.map_err(|error| error.to_string())
        }
        Err(why) => Err(why),
    };
    drawn.inspect_err(|why| tracing::debug!(job.id = %job, why, "a film without a poster")).ok()
}

async fn keep_preview(ctx: &Ctx, name: &str, preview: Preview) -> Result<String, ResultError> {
    let key = format!("{name}.preview.jpg");
    let stored = ctx.storage.put_bytes(&key, Bytes::from(preview.jpeg), "image/jpeg").await;
    stored.map_err(ResultError::Storage)?;
    Ok(key)
}

fn describe(verified: Verified, storage_key: String, preview_key: Option<String>) -> StoredFile {
    let pixels = |side: Option<u32>| side.and_then(|side| i32::try_from(side).ok());
    StoredFile {
        storage_key,
        preview_key,
        mime_type: verified.mime_type.to_owned(),
        size_bytes: i64::try_from(verified.size_bytes).unwrap_or(i64::MAX),
        width: pixels(verified.width),
        height: pixels(verified.height),
        duration_seconds: verified.duration_seconds,
    }
}

/// Looks at a file on a thread that may block.
async fn examine<T: Send + 'static>(
    path: PathBuf,
    look: impl FnOnce(&Path) -> Result<T, MediaError> + Send + 'static,
) -> Result<T, ResultError> {
    match tokio::task::spawn_blocking(move || look(&path)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(MediaError::Io(error))) => Err(ResultError::Storage(error.into())),
        Ok(Err(verdict)) => Err(ResultError::Unusable(verdict.to_string())),
        // A decoder that panics on a file has said what it thinks of it.
        Err(panic) => Err(ResultError::Unusable(format!("the decoder gave up: {panic}"))),
    }
}

/// Puts bytes on the disk, on a thread that may block. The file goes with the path.
async fn write_down(bytes: Bytes) -> Result<TempPath, ResultError> {
    let written = tokio::task::spawn_blocking(move || -> io::Result<TempPath> {
        let mut file = NamedTempFile::new()?;
        file.write_all(&bytes)?;
        Ok(file.into_temp_path())
    });
    written.await.map_err(io::Error::other).and_then(|written| written).map_err(|error| disk(&error))
}

/// Streams a vendor's file to the disk.
async fn download(ctx: &Ctx, url: &str, headers: &[(String, String)]) -> Result<TempPath, ResultError> {
    let failed = |error: reqwest::Error| ResultError::Download(error.without_url().to_string());
    let response = ctx.web.fetch(url, headers, DOWNLOAD_TIMEOUT).await.map_err(|error| match error {
        FetchError::Refused(why) => ResultError::Forbidden(why),
        FetchError::Failed(why) => ResultError::Download(why),
    })?;
    let response = response.error_for_status().map_err(failed)?;
    let (file, path) = NamedTempFile::new().map_err(|error| disk(&error))?.into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let mut body = response.bytes_stream();
    let mut size_bytes: u64 = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(failed)?;
        size_bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if size_bytes > RESULT_LIMIT_BYTES {
            return Err(ResultError::Unusable(format!("the file is longer than {RESULT_LIMIT_BYTES} bytes")));
        }
        tokio::io::AsyncWriteExt::write_all(&mut file, &chunk).await.map_err(|error| disk(&error))?;
    }
    tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(|error| disk(&error))?;
    Ok(path)
}

fn disk(error: &io::Error) -> ResultError {
    ResultError::Storage(anyhow::anyhow!("write a temporary file: {error}"))
}
