//! What the environment may say about providers and worker pools.

use std::{path::PathBuf, sync::Arc};

use secrecy::SecretString;
use shared::{
    config::{parsed, variable},
    job::Medium,
};

use crate::providers::{
    Provider, Providers, gemini::Gemini, kling::Kling, local::Local, minimax::MiniMax, openai::OpenAi,
};

/// Where a vendor is, and the key that opens it.
#[derive(Debug, Clone)]
pub struct Vendor {
    /// Base URL.
    pub base_url: String,
    /// Key; for Kling the secret key.
    pub key: SecretString,
    /// The simulator stands in.
    pub simulated: bool,
}

/// The vendors this process may call. One without a key, where no simulator stands in, is not there.
#[derive(Debug, Clone, Default)]
pub struct Vendors {
    /// `OPENAI_API_KEY`, and `OPENAI_BASE_URL` (default `https://api.openai.com/v1`).
    pub openai: Option<Vendor>,
    /// `GEMINI_API_KEY`, and `GEMINI_BASE_URL` (default `https://generativelanguage.googleapis.com/v1beta`).
    pub gemini: Option<Vendor>,
    /// `KLING_ACCESS_KEY` and `KLING_SECRET_KEY`, and `KLING_BASE_URL` (default `https://api-singapore.klingai.com`).
    pub kling: Option<(SecretString, Vendor)>,
    /// `MINIMAX_API_KEY`, and `MINIMAX_BASE_URL` (default `https://api.minimax.io`).
    pub minimax: Option<Vendor>,
}

/// Key that the simulator takes from every vendor but Kling.
const SIMULATED_KEY: &str = "simulated";
/// Kling's pair of keys at the simulator.
const SIMULATED_KLING: (&str, &str) = ("simulator", "simulated");

impl Vendors {
    /// Reads the variables above, and `KILN_SIMULATOR_URL`: base URL of the simulator, which stands in for every
    /// vendor whose key is not set. Default none.
    pub fn from_env() -> Self {
        Self::from_variables(variable("KILN_SIMULATOR_URL").as_deref())
    }

    /// As [`Vendors::from_env`], with the simulator given.
    pub fn from_variables(simulator: Option<&str>) -> Self {
        let vendor = |key: &str, base: &str, default: &str, path: &str| {
            choose(variable(key), variable(base), default, simulator, path, SIMULATED_KEY)
        };
        let kling_base = "https://api-singapore.klingai.com";
        let (access, secret) = (variable("KLING_ACCESS_KEY"), variable("KLING_SECRET_KEY"));
        let access_key =
            access.clone().filter(|_| secret.is_some()).unwrap_or_else(|| SIMULATED_KLING.0.into());
        let kling = choose(
            secret.filter(|_| access.is_some()),
            variable("KLING_BASE_URL"),
            kling_base,
            simulator,
            "kling",
            SIMULATED_KLING.1,
        );
        Self {
            openai: vendor("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1", "openai/v1"),
            gemini: vendor(
                "GEMINI_API_KEY",
                "GEMINI_BASE_URL",
                "https://generativelanguage.googleapis.com/v1beta",
                "gemini/v1beta",
            ),
            kling: kling.map(|vendor| (access_key.into(), vendor)),
            minimax: vendor("MINIMAX_API_KEY", "MINIMAX_BASE_URL", "https://api.minimax.io", "minimax"),
        }
    }

    /// The adapters for these vendors, and the local one, which needs none.
    pub fn adapters(self, http: &reqwest::Client) -> Providers {
        let mut adapters: Vec<Arc<dyn Provider>> = vec![Arc::new(Local::new())];
        if let Some(Vendor { base_url, key, .. }) = self.openai {
            adapters.push(Arc::new(OpenAi::new(http.clone(), base_url, key)));
        }
        if let Some(Vendor { base_url, key, .. }) = self.gemini {
            adapters.push(Arc::new(Gemini::new(http.clone(), base_url, key)));
        }
        if let Some((access_key, Vendor { base_url, key, .. })) = self.kling {
            adapters.push(Arc::new(Kling::new(http.clone(), base_url, access_key, key)));
        }
        if let Some(Vendor { base_url, key, .. }) = self.minimax {
            adapters.push(Arc::new(MiniMax::new(http.clone(), base_url, key)));
        }
        Providers::new(adapters)
    }
}

/// The vendor itself where its key is set, else the simulator where there is one.
fn choose(
    key: Option<String>,
    base: Option<String>,
    default: &str,
    simulator: Option<&str>,
    path: &str,
    simulated_key: &str,
) -> Option<Vendor> {
    match (key, simulator) {
        (Some(key), _) => {
            let base_url = base.unwrap_or_else(|| default.into());
            Some(Vendor { base_url, key: key.into(), simulated: false })
        }
        (None, Some(simulator)) => Some(Vendor {
            base_url: format!("{}/{path}", simulator.trim_end_matches('/')),
            key: simulated_key.to_owned().into(),
            simulated: true,
        }),
        (None, None) => None,
    }
}

/// `KILN_TEXT_SLOTS` (64), `KILN_IMAGE_SLOTS` (16), `KILN_VIDEO_SLOTS` (32), `KILN_AUDIO_SLOTS` (16): how many jobs of
/// a pool one process runs at once. A video waiting for its provider holds no slot.
///
/// # Errors
/// When a number cannot be read.
pub fn slots(pool: Medium) -> anyhow::Result<usize> {
    let (name, default) = match pool {
        Medium::Text => ("KILN_TEXT_SLOTS", 64),
        Medium::Image => ("KILN_IMAGE_SLOTS", 16),
        Medium::Video => ("KILN_VIDEO_SLOTS", 32),
        Medium::Audio => ("KILN_AUDIO_SLOTS", 16),
    };
    Ok(parsed(name, default)?.max(1))
}

/// `KILN_ALLOW_PRIVATE_ADDRESSES`: whether inputs, downloads and webhooks may lead into private networks. Default `false`.
///
/// # Errors
/// When it is neither `true` nor `false`.
pub fn allow_private_addresses() -> anyhow::Result<bool> {
    parsed("KILN_ALLOW_PRIVATE_ADDRESSES", false)
}

/// `KILN_DELIVERY_SLOTS`: webhooks sent at once. Default 32.
///
/// # Errors
/// When the number cannot be read.
pub fn delivery_slots() -> anyhow::Result<usize> {
    Ok(parsed("KILN_DELIVERY_SLOTS", 32)?.max(1))
}

/// How mails are sent. Where both are set, the server gets them and the folder none; where neither is, they wait.
#[derive(Debug, Clone)]
pub struct Mail {
    /// `KILN_SMTP_URL`: the server that sends mails on, as `smtp://user:password@host:587?tls=required` or
    /// `smtps://user:password@host`. Default none.
    pub smtp_url: Option<SecretString>,
    /// `KILN_MAIL_DIR`: a folder that gets each mail as a file, for development. Default none.
    pub dir: Option<PathBuf>,
    /// Whether links in mails of that folder are logged. Only `kiln dev` says so: a link opens an account.
    pub shows_links: bool,
    /// `KILN_MAIL_FROM`: who mails are from. Default `Kiln <no-reply@localhost>`.
    pub from: String,
}

impl Mail {
    /// Reads the variables above.
    pub fn from_env() -> Self {
        Self {
            smtp_url: variable("KILN_SMTP_URL").map(SecretString::from),
            dir: variable("KILN_MAIL_DIR").map(PathBuf::from),
            shows_links: false,
            from: variable("KILN_MAIL_FROM").unwrap_or_else(|| "Kiln <no-reply@localhost>".into()),
        }
    }
}
