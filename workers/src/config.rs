//! What the environment may say about providers and worker pools.

use std::path::PathBuf;

use secrecy::SecretString;
use shared::{
    config::{Identity, parsed, variable},
    job::{Doorbell, Medium},
};

use crate::providers::{Providers, VENDORS, Vendor, local};

/// A vendor that this process may call.
#[derive(Debug, Clone)]
pub struct Door {
    /// Which.
    pub vendor: &'static Vendor,
    /// Base URL.
    pub base_url: String,
    /// Our key.
    pub key: SecretString,
    /// The simulator stands in.
    pub simulated: bool,
}

/// The vendors that this process has a key for in its environment, or the simulator in their place. Keys in the database are not
/// among them.
#[derive(Debug, Clone, Default)]
pub struct Vendors(pub Vec<Door>);

impl Vendors {
    /// Reads the variables that each [`Vendor`] names, and `KILN_SIMULATOR_URL`: base URL of the simulator, which stands in for
    /// every vendor whose key is not set. Default none.
    pub fn from_env() -> Self {
        Self::from_variables(variable("KILN_SIMULATOR_URL").as_deref())
    }

    /// As [`Vendors::from_env`], with the simulator given.
    pub fn from_variables(simulator: Option<&str>) -> Self {
        Self(VENDORS.into_iter().filter_map(|vendor| Door::of(vendor, simulator)).collect())
    }

    /// The vendor of this name.
    pub fn get(&self, name: &str) -> Option<&Door> {
        self.0.iter().find(|door| door.vendor.name == name)
    }

    /// The adapters for every vendor, and the local one.
    pub fn adapters(&self, http: &reqwest::Client) -> Providers {
        let place = |vendor: &Vendor| match self.get(vendor.name) {
            Some(door) => door.base_url.clone(),
            None => address(vendor),
        };
        let theirs = VENDORS.iter().map(|vendor| (vendor.adapter)(http.clone(), place(vendor)));
        Providers::new(std::iter::once(local::adapter()).chain(theirs).collect())
    }

    /// The keys of the environment, and where each is for.
    pub fn keys(&self) -> Vec<(&'static str, SecretString)> {
        self.0.iter().map(|door| (door.vendor.name, door.key.clone())).collect()
    }
}

impl Door {
    /// The vendor itself where its key is set, else the simulator where there is one.
    fn of(vendor: &'static Vendor, simulator: Option<&str>) -> Option<Self> {
        let parts: Option<Vec<_>> = vendor.key_variables.iter().map(|name| variable(name)).collect();
        if let Some(parts) = parts {
            return Some(Self { vendor, base_url: address(vendor), key: parts.join(":").into(), simulated: false });
        }
        let base_url = format!("{}/{}", simulator?.trim_end_matches('/'), vendor.simulator_path);
        Some(Self { vendor, base_url, key: vendor.simulated_key.into(), simulated: true })
    }
}

/// Where a vendor itself is.
fn address(vendor: &Vendor) -> String {
    variable(vendor.base_variable).unwrap_or_else(|| vendor.base_url.into())
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

/// `KILN_PROVIDER_CALLBACKS`: whether providers are told an address of this API to ring at, beside being asked now and then.
/// They must be able to reach `KILN_PUBLIC_URL`. Default `false`.
///
/// # Errors
/// When it is neither `true` nor `false`, or when it is `true` and `KILN_SECRET` or `KILN_PUBLIC_URL` is not set.
pub fn doorbell() -> anyhow::Result<Option<Doorbell>> {
    if !parsed("KILN_PROVIDER_CALLBACKS", false)? {
        return Ok(None);
    }
    let Identity { secret, public_url } = Identity::from_env()?;
    Ok(Some(Doorbell::new(&secret, public_url)))
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
