//! What the environment may say about providers and worker pools.

use std::path::PathBuf;

use anyhow::{Context, bail};
use secrecy::SecretString;
use shared::{
    config::{Identity, parsed, variable},
    job::{Doorbell, Medium},
};

use crate::{
    moderation::{Moderator, Moderators, OpenAi, WhenUnavailable, Words},
    providers::{Providers, VENDORS, Vendor, local},
};

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
        let theirs = VENDORS.iter().map(|vendor| (vendor.adapter)(http.clone(), self.base_url(vendor)));
        Providers::new(std::iter::once(local::adapter()).chain(theirs).collect())
    }

    /// Where every vendor is called, also those whose keys are in the database alone.
    pub fn base_urls(&self) -> impl Iterator<Item = String> {
        VENDORS.into_iter().map(move |vendor| self.base_url(vendor))
    }

    fn base_url(&self, vendor: &Vendor) -> String {
        self.get(vendor.name).map_or_else(|| address(vendor), |door| door.base_url.clone())
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
            return Some(Self {
                vendor,
                base_url: address(vendor),
                key: parts.join(":").into(),
                simulated: false,
            });
        }
        let base_url = format!("{}/{}", simulator?.trim_end_matches('/'), vendor.simulator_path);
        Some(Self { vendor, base_url, key: vendor.simulated_key.into(), simulated: true })
    }
}

/// Where a vendor itself is.
fn address(vendor: &Vendor) -> String {
    variable(vendor.base_variable).unwrap_or_else(|| vendor.base_url.into())
}

/// Who judges what jobs ask for, and what becomes of those that nobody could judge.
#[derive(Debug, Clone)]
pub struct Moderation {
    /// `KILN_MODERATION`: `off`, or one or more of `words` and `openai`, joined by commas and asked in this order. Default `words`.
    pub judges: Vec<Judge>,
    /// `KILN_MODERATION_WORDS`: a folder with lists of words, `*.txt`, one expression a line as in those of this repository's
    /// folder `moderation`. One that has the name of a list there replaces it. Default none.
    pub words_dir: Option<PathBuf>,
    /// `KILN_MODERATION_UNAVAILABLE`: `fail`, a job that could not be judged fails after its tries, or `queue`, it waits until its
    /// deadline. Default `fail`.
    pub when_unavailable: WhenUnavailable,
}

/// What to do about a moderator that cannot be asked.
const NO_KEY: &str = "KILN_MODERATION names openai, which has no key: set OPENAI_API_KEY, or leave openai out (see .env.example)";

/// A kind of moderator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// Lists of words.
    Words,
    /// OpenAI's moderation, by the same key as its models.
    OpenAi,
}

impl Default for Moderation {
    fn default() -> Self {
        Self { judges: vec![Judge::Words], words_dir: None, when_unavailable: WhenUnavailable::default() }
    }
}

impl Moderation {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When a word is none of those.
    pub fn from_env() -> anyhow::Result<Self> {
        let judges = variable("KILN_MODERATION").map(|text| judges(&text)).transpose()?;
        Ok(Self {
            judges: judges.unwrap_or_else(|| Self::default().judges),
            words_dir: variable("KILN_MODERATION_WORDS").map(PathBuf::from),
            when_unavailable: parsed("KILN_MODERATION_UNAVAILABLE", WhenUnavailable::default())?,
        })
    }

    /// Names of the moderators, if all of them can be set up; `has_openai`: there is a key for that one.
    ///
    /// # Errors
    /// As [`Moderation::build`].
    pub fn check(&self, has_openai: bool) -> anyhow::Result<Vec<&'static str>> {
        let check = |judge: &Judge| match judge {
            Judge::Words => Words::load(self.words_dir.as_deref()).map(|_| "words"),
            Judge::OpenAi => has_openai.then_some("openai").context(NO_KEY),
        };
        self.judges.iter().map(check).collect()
    }

    /// The moderators; `openai` is how that one is asked, where there is a key for it.
    ///
    /// # Errors
    /// When a list cannot be read, or one has no key; the message says what to set.
    pub fn build(&self, openai: Option<&OpenAi>) -> anyhow::Result<Moderators> {
        let build = |judge: &Judge| -> anyhow::Result<Box<dyn Moderator>> {
            match judge {
                Judge::Words => Ok(Box::new(Words::load(self.words_dir.as_deref())?)),
                Judge::OpenAi => Ok(Box::new(openai.context(NO_KEY)?.clone())),
            }
        };
        let asked = self.judges.iter().map(build).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Moderators::new(asked, self.when_unavailable))
    }
}

/// The moderators that the setting names.
fn judges(text: &str) -> anyhow::Result<Vec<Judge>> {
    let words: Vec<_> = text.split(',').map(str::trim).collect();
    if words == ["off"] {
        return Ok(Vec::new());
    }
    let judge = |word: &str| match word {
        "words" => Ok(Judge::Words),
        "openai" => Ok(Judge::OpenAi),
        _ => bail!("KILN_MODERATION is {text:?}: say off, words, openai, or words,openai"),
    };
    words.into_iter().map(judge).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_of_moderation_names_who_judges_or_nobody() {
        assert!(judges("off").unwrap().is_empty());
        assert_eq!(judges("words").unwrap(), [Judge::Words]);
        assert_eq!(judges(" openai , words").unwrap(), [Judge::OpenAi, Judge::Words]);
        for odd in ["of", "words,off", "words,", "Words"] {
            let error = judges(odd).expect_err(odd).to_string();
            assert!(error.starts_with("KILN_MODERATION is ") && error.contains("say off, words"), "{error}");
        }
    }

    #[test]
    fn every_vendor_is_somewhere_whether_its_key_is_in_the_environment_or_not() {
        let relay = "http://10.0.0.7:9000/openai";
        let door = Door {
            vendor: VENDORS[0],
            base_url: relay.into(),
            key: SecretString::default(),
            simulated: false,
        };
        let places: Vec<_> = Vendors(vec![door]).base_urls().collect();
        let without_key: Vec<_> = VENDORS.into_iter().skip(1).map(address).collect();
        assert_eq!(places[0], relay);
        assert_eq!(places[1..], without_key);
    }

    #[test]
    fn moderation_that_cannot_be_set_up_says_what_to_set() {
        let openai = Moderation { judges: vec![Judge::OpenAi], ..Moderation::default() };
        let error = openai.build(None).expect_err("no key").to_string();
        assert!(error.contains("set OPENAI_API_KEY"), "{error}");
        let words_dir = Some(PathBuf::from("/no/such/folder"));
        let lost = Moderation { words_dir, ..Moderation::default() };
        let error = lost.build(None).expect_err("no folder").to_string();
        assert_eq!(error, "read the lists in /no/such/folder, which KILN_MODERATION_WORDS names");
        let off = Moderation { judges: Vec::new(), ..Moderation::default() };
        assert!(off.build(None).unwrap().names().is_empty());
    }
}
