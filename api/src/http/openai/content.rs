//! Stored files inside answers, passed on piece by piece: no answer holds a whole file in memory.

use std::{collections::VecDeque, io};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::header;
use serde_json::Value;

use crate::{ApiError, Ctx};
use shared::{
    format::Format,
    job::{self, Job, StoredFile},
    storage::{Content, Storage},
};

/// The files that a job made, until their time is over.
///
/// # Errors
/// When the database fails.
pub async fn of(ctx: &Ctx, job: &Job) -> Result<Vec<StoredFile>, ApiError> {
    let files = job::files_of(&ctx.db, &[job.id]).await?;
    let now = ctx.clock.now();
    Ok(files.into_iter().filter(|(_, _, expires_at, _)| *expires_at > now).map(|(.., file)| file).collect())
}

/// The first of them.
///
/// # Errors
/// When the database fails.
pub async fn first_of(ctx: &Ctx, job: &Job) -> Result<Option<StoredFile>, ApiError> {
    Ok(of(ctx, job).await?.into_iter().next())
}

/// A file as the whole answer.
///
/// # Errors
/// 404 when it is there no longer.
pub async fn file(storage: &Storage, file: &StoredFile) -> Result<Response, ApiError> {
    let body = body(storage, &file.storage_key).await?;
    let headers = [
        (header::CONTENT_TYPE, file.mime_type.clone()),
        (header::CONTENT_LENGTH, file.size_bytes.to_string()),
    ];
    Ok((headers, body).into_response())
}

/// The preview under `key` as the whole answer; all previews are of one type.
///
/// # Errors
/// 404 when it is there no longer.
pub async fn preview(storage: &Storage, key: &str) -> Result<Response, ApiError> {
    let body = body(storage, key).await?;
    Ok(([(header::CONTENT_TYPE, Format::Jpeg.mime_type())], body).into_response())
}

async fn body(storage: &Storage, key: &str) -> Result<Body, ApiError> {
    let content = storage.open(key).await?.ok_or_else(gone)?;
    let pieces = stream::try_unfold(content, |mut content| async move {
        Ok::<_, anyhow::Error>(content.next().await?.map(|piece| (piece, content)))
    });
    Ok(Body::from_stream(pieces))
}

/// The answer to a request for what was deleted, because its time was up or its owner said so.
pub fn gone() -> ApiError {
    ApiError::not_found("file_not_found", None, "the file is there no longer: files are kept for three days")
}

/// A part of a JSON text.
#[derive(Debug)]
pub enum Part {
    /// As it is.
    Text(String),
    /// The file under this key, in base64 and between quotes.
    File(String),
}

/// A JSON text, with or without files in it.
#[derive(Debug)]
pub struct Text(Vec<Part>);

impl From<Vec<Part>> for Text {
    fn from(parts: Vec<Part>) -> Self {
        Self(parts)
    }
}

impl From<Value> for Text {
    fn from(value: Value) -> Self {
        Self(vec![Part::Text(value.to_string())])
    }
}

impl Text {
    /// The text as a body: at once, where no file is in it.
    pub fn into_body(mut self, storage: Storage) -> Body {
        if let [Part::Text(text)] = self.0.as_mut_slice() {
            return Body::from(std::mem::take(text));
        }
        Body::from_stream(self.pieces(storage))
    }

    /// The text piece by piece. A file that is not there any more breaks it off.
    pub fn pieces(self, storage: Storage) -> BoxStream<'static, io::Result<Bytes>> {
        let writer = Writer { storage, parts: self.0.into(), open: None };
        let pieces = stream::try_unfold(writer, |mut writer| async move {
            let piece = writer.next().await.map_err(|error| {
                tracing::error!(error = format!("{error:#}"), "an answer is broken off");
                io::Error::other("a file could not be read to its end")
            })?;
            Ok::<_, io::Error>(piece.map(|piece| (piece, writer)))
        });
        pieces.boxed()
    }
}

/// Writes parts one after the other.
struct Writer {
    storage: Storage,
    parts: VecDeque<Part>,
    open: Option<(Content, Encoder)>,
}

impl Writer {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        if let Some((content, encoder)) = &mut self.open {
            return Ok(Some(match content.next().await? {
                Some(bytes) => encoder.push(&bytes).into(),
                None => {
                    let end = encoder.finish() + "\"";
                    self.open = None;
                    end.into()
                }
            }));
        }
        match self.parts.pop_front() {
            None => Ok(None),
            Some(Part::Text(text)) => Ok(Some(text.into())),
            Some(Part::File(key)) => {
                let Some(content) = self.storage.open(&key).await? else {
                    anyhow::bail!("{key} went while it was being sent")
                };
                self.open = Some((content, Encoder::default()));
                Ok(Some(Bytes::from_static(b"\"")))
            }
        }
    }
}

/// Base64 of bytes that come in pieces of any length.
#[derive(Debug, Default)]
struct Encoder {
    /// What does not make three bytes yet.
    rest: BytesMut,
}

impl Encoder {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / 3 * 3;
        BASE64_STANDARD.encode(self.rest.split_to(whole))
    }

    fn finish(&mut self) -> String {
        BASE64_STANDARD.encode(self.rest.split())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;

    #[test]
    fn pieces_are_encoded_as_the_whole_would_be() {
        let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
        proptest!(config, |(pieces in vec(vec(any::<u8>(), 0..20), 0..10))| {
            let mut encoder = Encoder::default();
            let mut text: String = pieces.iter().map(|piece| encoder.push(piece)).collect();
            text += &encoder.finish();
            prop_assert_eq!(text, BASE64_STANDARD.encode(pieces.concat()));
        });
    }
}
