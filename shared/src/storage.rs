//! Station 6, store: files in any service that speaks S3.
//!
//! Keys are `outputs/{job_id}/{n}-{random}.{ext}`: never the same twice, so that a worker which was given up and comes back
//! overwrites nothing; what it leaves is looked for every night. Archives are `exports/{id}.zip`, and what accounts send in is
//! `uploads/{account_id}/{id}.{ext}`. The bucket is private; the only way out is a signed URL or this client.
//! Deliberately absent: what the files mean.

mod incoming;

use std::{path::Path, time::Duration};

use anyhow::Context;
use aws_credential_types::Credentials;
use aws_sdk_s3::{
    Client,
    config::{
        Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation, timeout::TimeoutConfig,
    },
    error::SdkError,
    presigning::PresigningConfig,
    primitives::ByteStream,
};
use bytes::Bytes;
use secrecy::ExposeSecret;

use crate::config;

pub use incoming::{Incoming, PART_BYTES};

/// Longest wait for the S3 service to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for one try of one operation; a 100 MB upload at 1 MB/s fits.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);
/// The slowest upload of a file that is waited for, should it be longer.
const UPLOAD_BYTES_PER_SEC_MIN: u64 = 1_000_000;

/// A bucket.
#[derive(Debug, Clone)]
pub struct Storage {
    client: Client,
    /// Signs for the address that callers reach; never sends anything itself.
    signer: Client,
    bucket: String,
    signed_url_life: Duration,
}

impl Storage {
    /// A client for the configured bucket; nothing is sent yet.
    pub fn new(config: &config::Storage) -> Self {
        let client = |endpoint: &str| {
            let credentials = Credentials::new(
                config.access_key_id.clone(),
                config.secret_access_key.expose_secret(),
                None,
                None,
                "kiln",
            );
            Client::from_conf(
                Builder::new()
                    .behavior_version_latest()
                    .region(Region::new(config.region.clone()))
                    .endpoint_url(endpoint)
                    .credentials_provider(credentials)
                    // Services other than Amazon's often know neither virtual hosts nor trailing checksums.
                    .force_path_style(true)
                    .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                    .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
                    .timeout_config(timeouts(ATTEMPT_TIMEOUT))
                    .build(),
            )
        };
        Self {
            client: client(&config.endpoint),
            signer: client(&config.public_endpoint),
            bucket: config.bucket.clone(),
            signed_url_life: config.signed_url_life,
        }
    }

    /// Stores a file of the disk under `key`, by streaming; overwrites.
    ///
    /// # Errors
    /// When the file cannot be read or the service fails.
    pub async fn put_file(&self, key: &str, path: &Path, mime_type: &str) -> anyhow::Result<()> {
        let size = tokio::fs::metadata(path).await.context("look at the file to store")?.len();
        let body = ByteStream::from_path(path).await.context("read the file to store")?;
        let timeout = ATTEMPT_TIMEOUT.max(Duration::from_secs(size / UPLOAD_BYTES_PER_SEC_MIN));
        self.put(key, body, mime_type, timeout).await
    }

    /// Stores bytes under `key`; overwrites.
    ///
    /// # Errors
    /// When the service fails.
    pub async fn put_bytes(&self, key: &str, bytes: Bytes, mime_type: &str) -> anyhow::Result<()> {
        self.put(key, bytes.into(), mime_type, ATTEMPT_TIMEOUT).await
    }

    async fn put(
        &self,
        key: &str,
        body: ByteStream,
        mime_type: &str,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        let put = self.client.put_object().bucket(&self.bucket).key(key).content_type(mime_type).body(body);
        let patient = aws_sdk_s3::config::Config::builder().timeout_config(timeouts(timeout));
        put.customize().config_override(patient).send().await.with_context(|| format!("store {key}"))?;
        Ok(())
    }

    /// The content under `key`, at most `limit` bytes long.
    ///
    /// # Errors
    /// When there is none, it is longer, or the service fails.
    pub async fn get_bytes(&self, key: &str, limit: u64) -> anyhow::Result<Bytes> {
        let object = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
            .with_context(|| format!("read {key}"))?;
        let size = u64::try_from(object.content_length().unwrap_or(0)).unwrap_or(0);
        anyhow::ensure!(size <= limit, "{key} has {size} bytes, more than the {limit} wanted");
        Ok(object.body.collect().await.with_context(|| format!("read {key}"))?.into_bytes())
    }

    /// The content under `key`, to be read piece by piece; `None` when there is nothing.
    ///
    /// # Errors
    /// When the service fails.
    pub async fn open(&self, key: &str) -> anyhow::Result<Option<Content>> {
        match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => Ok(Some(Content(object.body))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {key}")),
        }
    }

    /// Deletes what is under `key`; nothing there is no error.
    ///
    /// # Errors
    /// When the service fails.
    pub async fn delete(&self, key: &str) -> anyhow::Result<()> {
        let deleted = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("delete {key}")),
        }
    }

    /// A page of the keys that begin with `prefix`, in order, those behind `after`; empty at the end.
    ///
    /// # Errors
    /// When the service fails.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> anyhow::Result<Vec<String>> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_start_after(after.map(ToOwned::to_owned))
            .send()
            .await
            .with_context(|| format!("list {prefix}"))?;
        Ok(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key).collect())
    }

    /// A URL by which anyone can read `key` for a while. Made by computing alone.
    ///
    /// # Errors
    /// When the client is misconfigured.
    pub async fn signed_url(&self, key: &str) -> anyhow::Result<String> {
        let life = PresigningConfig::expires_in(self.signed_url_life).context("sign a URL")?;
        let request = self.signer.get_object().bucket(&self.bucket).key(key);
        Ok(request.presigned(life).await.with_context(|| format!("sign a URL for {key}"))?.uri().to_owned())
    }

    /// Whether the bucket answers, for health checks.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> anyhow::Result<()> {
        let asked = self.client.head_bucket().bucket(&self.bucket).send().await;
        asked.map(|_| ()).with_context(|| format!("reach bucket {}", self.bucket))
    }
}

/// The content of a stored file, as it comes.
#[derive(Debug)]
pub struct Content(ByteStream);

impl Content {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        self.0.try_next().await.context("read a stored file on")
    }
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(attempt).build()
}

fn is_missing<E>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 404)
}
