//! An object that comes in piece by piece, and is never in memory as a whole.
//!
//! Pieces are gathered until they make a part, and a part is stored before the next is gathered; whoever sends waits meanwhile.
//! What is shorter than a part is stored in one go. Until [`Incoming::finish`] there is nothing under the key: parts are no
//! object, and those of a process that died are cleared away by the S3 service, if it is told to (MinIO does so by itself
//! after a day).

use anyhow::Context;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};

use super::Storage;

/// Length of a part. S3 wants 5 MB at least of all but the last, and takes 10 000: many more than the longest upload has.
pub const PART_BYTES: usize = 8 * 1024 * 1024;

/// An object that is being stored.
#[derive(Debug)]
pub struct Incoming {
    storage: Storage,
    key: String,
    mime_type: &'static str,
    /// What the service calls the parts together, once there is one.
    upload_id: Option<String>,
    stored: Vec<CompletedPart>,
    /// The part that is being gathered.
    part: BytesMut,
}

impl Storage {
    /// Begins an object under `key`; nothing is sent before the first part is full.
    pub fn incoming(&self, key: String, mime_type: &'static str) -> Incoming {
        let part = BytesMut::with_capacity(PART_BYTES);
        Incoming { storage: self.clone(), key, mime_type, upload_id: None, stored: Vec::new(), part }
    }
}

impl Incoming {
    /// Takes the next piece, of any length.
    ///
    /// # Errors
    /// When the service fails; the object is to be abandoned then.
    pub async fn add(&mut self, mut piece: Bytes) -> anyhow::Result<()> {
        while !piece.is_empty() {
            let room = PART_BYTES - self.part.len();
            self.part.extend_from_slice(&piece.split_to(room.min(piece.len())));
            if self.part.len() == PART_BYTES {
                let part = std::mem::replace(&mut self.part, BytesMut::with_capacity(PART_BYTES));
                // Boxed, since what a request takes is large, and most pieces need none.
                Box::pin(self.store(part.freeze())).await?;
            }
        }
        Ok(())
    }

    /// Makes the object what was taken. Afterwards it is there, whole; after an error it may be.
    ///
    /// # Errors
    /// When the service fails; the object is to be abandoned then.
    pub async fn finish(&mut self) -> anyhow::Result<()> {
        let rest = std::mem::take(&mut self.part).freeze();
        if self.upload_id.is_none() {
            return self.storage.put_bytes(&self.key, rest, self.mime_type).await;
        }
        if !rest.is_empty() {
            Box::pin(self.store(rest)).await?;
        }
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.stored))).build();
        self.storage
            .client
            .complete_multipart_upload()
            .bucket(&self.storage.bucket)
            .key(&self.key)
            .set_upload_id(self.upload_id.clone())
            .multipart_upload(parts)
            .send()
            .await
            .with_context(|| format!("put {} together from its parts", self.key))?;
        self.upload_id = None;
        Ok(())
    }

    /// Throws away what was stored so far. Should that fail, parts are left that are no object.
    pub async fn abandon(self) {
        let Some(upload_id) = self.upload_id else { return };
        let abort = self.storage.client.abort_multipart_upload().bucket(&self.storage.bucket);
        if let Err(error) = abort.key(&self.key).upload_id(upload_id).send().await {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::warn!(key = self.key, error, "the parts of {} stay behind", self.key);
        }
    }

    async fn store(&mut self, part: Bytes) -> anyhow::Result<()> {
        let upload_id = match &self.upload_id {
            Some(upload_id) => upload_id.clone(),
            None => self.begin().await?,
        };
        let number = i32::try_from(self.stored.len() + 1).context("count the parts of an object")?;
        let sent = self
            .storage
            .client
            .upload_part()
            .bucket(&self.storage.bucket)
            .key(&self.key)
            .upload_id(upload_id)
            .part_number(number)
            .body(part.into())
            .send()
            .await
            .with_context(|| format!("store part {number} of {}", self.key))?;
        let stored = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
        self.stored.push(stored.build());
        Ok(())
    }

    async fn begin(&mut self) -> anyhow::Result<String> {
        let begun = self
            .storage
            .client
            .create_multipart_upload()
            .bucket(&self.storage.bucket)
            .key(&self.key)
            .content_type(self.mime_type)
            .send()
            .await
            .with_context(|| format!("begin {}", self.key))?;
        let upload_id = begun.upload_id.with_context(|| format!("{} was begun without an id", self.key))?;
        self.upload_id = Some(upload_id.clone());
        Ok(upload_id)
    }
}
