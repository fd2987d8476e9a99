//! What the environment may say about the front door.

use std::net::SocketAddr;

use anyhow::{Context, bail};

use crate::{
    Origins,
    limit::{IP_REGISTRATIONS_PER_HOUR, IP_REQUESTS_PER_HOUR, Limits},
    uploads::{QUOTA_MEGABYTES, UploadLimits},
};
use shared::{billing::Tokens, config::parsed};

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct Http {
    /// `KILN_HTTP_ADDR`: address and port to listen on. Default `127.0.0.1:8080`.
    pub addr: SocketAddr,
    /// `KILN_ALLOW_PRIVATE_ADDRESSES`: `true` lets webhooks and input URLs lead into private networks and use plain
    /// http. For development only. Default `false`.
    pub allow_private_addresses: bool,
    /// `KILN_TRUSTED_PROXIES`: how many proxies of yours stand in front of the API, so that the caller's address is read
    /// from X-Forwarded-For. Default 0: the address of the connection counts.
    pub trusted_proxies: usize,
    /// `KILN_IP_REQUESTS_PER_HOUR`: how many requests that change something one network address may send, and how many
    /// that prove nobody. Looking is free, so whoever polls as told never meets it. 0 is no limit. Default 1000.
    /// `KILN_IP_REGISTRATIONS_PER_HOUR`: how many accounts one address may register. 0 is no limit. Default 10.
    pub limits: Limits,
    /// `KILN_UPLOAD_QUOTA_MEGABYTES`: how much the files that an account has sent in may take together. 0 is no limit.
    /// Default 2000.
    pub uploads: UploadLimits,
    /// Read by [`cors_origins`].
    pub cors: Origins,
}

impl Http {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            addr: parsed("KILN_HTTP_ADDR", SocketAddr::from(([127, 0, 0, 1], 8080)))?,
            allow_private_addresses: parsed("KILN_ALLOW_PRIVATE_ADDRESSES", false)?,
            trusted_proxies: parsed("KILN_TRUSTED_PROXIES", 0)?,
            limits: Limits::hourly(
                parsed("KILN_IP_REQUESTS_PER_HOUR", IP_REQUESTS_PER_HOUR)?,
                parsed("KILN_IP_REGISTRATIONS_PER_HOUR", IP_REGISTRATIONS_PER_HOUR)?,
            ),
            uploads: UploadLimits::megabytes(parsed("KILN_UPLOAD_QUOTA_MEGABYTES", QUOTA_MEGABYTES)?),
            cors: cors_origins()?,
        })
    }
}

/// `KILN_CORS_ORIGINS`: origins of pages that may use the API from a browser, separated by commas, such as
/// `https://app.example.com`; `*` for all. Default none.
///
/// # Errors
/// When one of them is none.
pub fn cors_origins() -> anyhow::Result<Origins> {
    parsed("KILN_CORS_ORIGINS", Origins::None)
}

/// What a deployment asks of and gives to people who are new.
#[derive(Debug, Clone)]
pub struct People {
    /// `KILN_CONSENT_VERSION`: the version of how you treat personal data that people agree to. Default 1.
    pub consent_version: String,
    /// `KILN_START_TOKENS`: tokens that a new account gets when its owner's address is proved. Default 0.
    pub start: Tokens,
}

impl Default for People {
    fn default() -> Self {
        Self { consent_version: "1".into(), start: Tokens::ZERO }
    }
}

/// Longest name of a version.
const VERSION_LEN: usize = 32;

impl People {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        let consent_version = parsed("KILN_CONSENT_VERSION", Self::default().consent_version)?;
        if consent_version.len() > VERSION_LEN {
            bail!("KILN_CONSENT_VERSION is longer than {VERSION_LEN} characters");
        }
        let start: i64 = parsed("KILN_START_TOKENS", 0)?;
        let start =
            Tokens::new(start).with_context(|| format!("KILN_START_TOKENS is {start}: say 0 or more"))?;
        Ok(Self { consent_version, start })
    }
}
