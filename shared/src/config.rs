//! What the environment may say, one struct per concern, read once at start.
//!
//! Only this module and its like in `workers` and `api` read environment variables. Each `from_env` says in its
//! error what to set. After wiring nobody holds a config, only what was built from it. Every variable is described
//! in `.env.example`, and a test compares the two.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{SecretBox, SecretString};

use crate::seal::{KEY_LEN, SealingKey, derived_key};

/// The value of an environment variable; unset and empty are both `None`.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// The value of a variable that has no sensible default.
///
/// # Errors
/// When it is unset; the message says what it is for.
pub fn required(name: &str, purpose: &str) -> anyhow::Result<String> {
    variable(name).with_context(|| format!("{name} is not set: it {purpose} (see .env.example)"))
}

/// A variable read as a number, a switch or the like, or `default` when unset.
///
/// # Errors
/// When it is set to something that is not of that type.
pub fn parsed<T: FromStr<Err: Display>>(name: &str, default: T) -> anyhow::Result<T> {
    match variable(name) {
        None => Ok(default),
        Some(text) => text
            .trim()
            .parse()
            .map_err(|error| anyhow::anyhow!("{name} is {text:?}, which cannot be read: {error}")),
    }
}

/// Where the truth is kept.
#[derive(Debug, Clone)]
pub struct Database {
    /// `KILN_DATABASE_URL`: `postgres://user:password@host:port/name`. Required.
    pub url: SecretString,
    /// `KILN_DATABASE_CONNECTIONS`: most connections this process opens, of which it listens on one, the API on two. Default 16.
    pub max_connections: u32,
}

impl Database {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When the URL is missing or a number cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            url: required(
                "KILN_DATABASE_URL",
                "tells where Postgres is, as postgres://user:password@host/name",
            )?
            .into(),
            max_connections: parsed("KILN_DATABASE_CONNECTIONS", 16)?,
        })
    }
}

/// Where files are kept: any service that speaks S3.
#[derive(Debug, Clone)]
pub struct Storage {
    /// `S3_ENDPOINT`: base URL of the service as this process reaches it. Required.
    pub endpoint: String,
    /// `S3_PUBLIC_ENDPOINT`: base URL as callers reach it, used in signed URLs. Default: `S3_ENDPOINT`.
    pub public_endpoint: String,
    /// `S3_REGION`. Default `us-east-1`.
    pub region: String,
    /// `S3_BUCKET`. Default `kiln`.
    pub bucket: String,
    /// `S3_ACCESS_KEY_ID`. Required.
    pub access_key_id: String,
    /// `S3_SECRET_ACCESS_KEY`. Required.
    pub secret_access_key: SecretString,
    /// `KILN_SIGNED_URL_MINUTES`: how long a signed URL works. Default 60.
    pub signed_url_life: Duration,
}

impl Storage {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When a required one is missing or a number cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        let endpoint = required("S3_ENDPOINT", "tells where the S3 service is, as http://host:port")?;
        let minutes: u64 = parsed("KILN_SIGNED_URL_MINUTES", 60)?;
        if minutes == 0 || minutes > 7 * 24 * 60 {
            bail!("KILN_SIGNED_URL_MINUTES is {minutes}: S3 signs for 1 minute to 7 days");
        }
        Ok(Self {
            public_endpoint: variable("S3_PUBLIC_ENDPOINT").unwrap_or_else(|| endpoint.clone()),
            endpoint,
            region: variable("S3_REGION").unwrap_or_else(|| "us-east-1".into()),
            bucket: variable("S3_BUCKET").unwrap_or_else(|| "kiln".into()),
            access_key_id: required("S3_ACCESS_KEY_ID", "is the S3 user name")?,
            secret_access_key: required("S3_SECRET_ACCESS_KEY", "is the S3 password")?.into(),
            signed_url_life: Duration::from_secs(minutes * 60),
        })
    }
}

/// What a deployment as a whole is called and signs with.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `KILN_SECRET`: at least 32 characters; webhook signing secrets are derived from it. Required.
    pub secret: SecretString,
    /// `KILN_PUBLIC_URL`: base URL of the API as callers reach it, used in `urls` of jobs and in mails. Required.
    pub public_url: String,
}

/// Shortest `KILN_SECRET`: 32 characters of base 64 are 192 bits, beyond guessing.
const SECRET_LEN_MIN: usize = 32;

impl Identity {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When one is missing, or the secret is too short to be one.
    pub fn from_env() -> anyhow::Result<Self> {
        let secret = required("KILN_SECRET", "signs webhooks; make one with `openssl rand -base64 32`")?;
        if secret.len() < SECRET_LEN_MIN {
            bail!(
                "KILN_SECRET has {} characters, fewer than {SECRET_LEN_MIN}: make one with `openssl rand -base64 32`",
                secret.len()
            );
        }
        Ok(Self { secret: secret.into(), public_url: public_url()? })
    }
}

/// `KILN_PUBLIC_URL`, without a slash at its end.
///
/// # Errors
/// When it is not set.
pub fn public_url() -> anyhow::Result<String> {
    let url = required("KILN_PUBLIC_URL", "is the address callers use, as https://api.example.com")?;
    Ok(url.trim_end_matches('/').to_owned())
}

/// What secrets at rest are sealed with.
#[derive(Debug)]
pub struct Sealing {
    /// `KILN_ENCRYPTION_KEY`: 32 bytes in base 64. Default: derived from `KILN_SECRET`.
    pub key: SealingKey,
    /// What opens older values as well: `KILN_ENCRYPTION_KEY_PREVIOUS` (default none), and where a key is set, the one that
    /// is derived from `KILN_SECRET`.
    pub older: Vec<SealingKey>,
}

impl Sealing {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When a key is not one, or there is neither a key nor a secret to derive it from.
    pub fn from_env() -> anyhow::Result<Self> {
        let derived = variable("KILN_SECRET").map(|secret| derived_key(&secret.into()));
        let mut older: Vec<_> = sealing_key("KILN_ENCRYPTION_KEY_PREVIOUS")?.into_iter().collect();
        let Some(key) = sealing_key("KILN_ENCRYPTION_KEY")? else {
            let key = derived.context("neither KILN_ENCRYPTION_KEY nor KILN_SECRET is set: one of them seals what mails say (see .env.example)")?;
            return Ok(Self { key, older });
        };
        older.extend(derived);
        Ok(Self { key, older })
    }

    /// The key that is derived from the deployment's secret, and no other.
    pub fn from_secret(secret: &SecretString) -> Self {
        Self { key: derived_key(secret), older: Vec::new() }
    }
}

fn sealing_key(name: &str) -> anyhow::Result<Option<SealingKey>> {
    let Some(text) = variable(name) else { return Ok(None) };
    let bytes = BASE64_STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    // What was given is a secret, if a mistyped one, and stays out of the message.
    let bytes: [u8; KEY_LEN] = bytes.with_context(|| {
        format!("{name} is not {KEY_LEN} bytes in base 64: make one with `openssl rand -base64 {KEY_LEN}`")
    })?;
    Ok(Some(SecretBox::new(Box::new(bytes))))
}

/// `KILN_OPERATOR_EMAIL`: who is told by mail what only an operator can mend. Default nobody.
///
/// # Errors
/// When it is not one address.
pub fn operator_email() -> anyhow::Result<Option<String>> {
    let Some(text) = variable("KILN_OPERATOR_EMAIL") else { return Ok(None) };
    let address = text.trim();
    let whole = address.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !whole || address.contains(|c: char| c.is_whitespace() || c.is_control() || ",;<>".contains(c)) {
        bail!("KILN_OPERATOR_EMAIL is {address:?}: say one address, as ops@example.com");
    }
    Ok(Some(address.to_owned()))
}

/// `KILN_CATALOG`: a folder with models of the deployment's own, `*.toml` in the form of this repository's folder `catalog`. A model
/// that has the id of one there replaces it. Default none.
pub fn catalog_dir() -> Option<PathBuf> {
    variable("KILN_CATALOG").map(PathBuf::from)
}

/// How jobs are leased and retried.
#[derive(Debug, Clone)]
pub struct Queue {
    /// `KILN_LEASE_SECONDS`: how long a silent worker keeps a job; it beats three times as often. Default 45.
    pub lease: Duration,
    /// `KILN_POLL_MILLISECONDS`: how often a pool looks for work when nobody wakes it. Default 1000.
    pub poll: Duration,
    /// `KILN_MAX_TRIES`: failures and lost leases a job survives before it fails. Default 5.
    pub max_tries: u16,
    /// `KILN_DRAIN_SECONDS`: how long a stopping worker lets running jobs finish. Default 25.
    pub drain: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(45),
            poll: Duration::from_secs(1),
            max_tries: 5,
            drain: Duration::from_secs(25),
        }
    }
}

impl Queue {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When a value cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        let default = Self::default();
        Ok(Self {
            lease: Duration::from_secs(parsed("KILN_LEASE_SECONDS", default.lease.as_secs())?.max(1)),
            poll: Duration::from_millis(parsed("KILN_POLL_MILLISECONDS", 1000_u64)?.max(10)),
            max_tries: parsed("KILN_MAX_TRIES", default.max_tries)?.max(1),
            drain: Duration::from_secs(parsed("KILN_DRAIN_SECONDS", default.drain.as_secs())?),
        })
    }
}

/// How the process speaks of itself.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `KILN_LOG`: filter in tracing's syntax. Default `info`.
    pub filter: String,
    /// `KILN_LOG_FORMAT`: `json` or `text`. Default `json`.
    pub json: bool,
    /// `KILN_METRICS_ADDR`: where workers, delivery and scheduler serve their metrics, such as `0.0.0.0:9100`. Default
    /// nowhere. The API serves its own at `/metrics`.
    pub metrics_addr: Option<SocketAddr>,
}

impl Telemetry {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When the format is neither word, or the address is none.
    pub fn from_env() -> anyhow::Result<Self> {
        let json = match variable("KILN_LOG_FORMAT").as_deref() {
            None | Some("json") => true,
            Some("text") => false,
            Some(other) => bail!("KILN_LOG_FORMAT is {other:?}: say json or text"),
        };
        let metrics_addr = variable("KILN_METRICS_ADDR")
            .map(|text| text.parse().with_context(|| format!("KILN_METRICS_ADDR is {text:?}: say host:port")))
            .transpose()?;
        Ok(Self { filter: variable("KILN_LOG").unwrap_or_else(|| "info".into()), json, metrics_addr })
    }
}
