//! Our keys at the providers, as a worker uses them: which one for a new submit, which one for a task under way.
//!
//! Keys come from the environment and from the database; how each fares is in the database for all processes, and read again
//! on a hint or every other second. The choice is by weight among those that work and do not rest. Deliberately absent: what
//! makes a key rest, which `blame.rs` decides, and its limits, which Postgres keeps.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use secrecy::SecretString;
use sqlx::PgPool;

use shared::{
    clock::SharedClock,
    db::is_transient,
    id::ProviderKeyId,
    process::Process,
    provider::{self, Cause, Cooldown, Cooldowns},
    seal::Sealer,
    wake::{self, Wake, Wakes},
};

/// How often the database is looked at without a hint.
const LOOK: Duration = Duration::from_secs(2);

/// How long a database that is away is left in peace.
const AWAY: Duration = Duration::from_secs(1);

/// How long is waited for a key that its vendor refused.
const PATIENCE: TimeDelta = TimeDelta::seconds(60);

/// A key that may be called with.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its id.
    pub id: ProviderKeyId,
    /// The secret, in the form its adapter wants.
    pub secret: SecretString,
    /// Whether a place must be asked for before each submit.
    pub is_limited: bool,
    weight: u32,
    is_disabled: bool,
}

/// What there is to call a provider with.
#[derive(Debug, Clone)]
pub enum Choice {
    /// This one.
    Key(Key),
    /// All are too busy for now; the first comes back then.
    NotBefore(DateTime<Utc>),
    /// None works, or is known to work any time soon.
    None,
}

#[derive(Debug, Default)]
struct Known {
    /// By provider.
    keys: HashMap<String, Vec<Key>>,
    cooldowns: Vec<Cooldown>,
    /// Refused, and not taken since.
    refused: HashSet<ProviderKeyId>,
}

impl Known {
    /// The rests of a key that count for a model.
    fn rests(
        &self,
        key: ProviderKeyId,
        upstream_model: &str,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = &Cooldown> {
        let is_meant = move |rest: &&Cooldown| {
            let is_scope = rest.upstream_model.is_empty() || rest.upstream_model == upstream_model;
            rest.key == key && rest.until > now && is_scope
        };
        self.cooldowns.iter().filter(is_meant)
    }
}

/// The keys of this process; clones share.
#[derive(Debug, Clone)]
pub struct Keychain(Arc<Chain>);

#[derive(Debug)]
struct Chain {
    db: PgPool,
    clock: SharedClock,
    wakes: Wakes,
    sealer: Sealer,
    /// Of the environment, by provider and fingerprint.
    environment: HashMap<(String, String), SecretString>,
    known: RwLock<Known>,
}

impl Keychain {
    /// Makes the keys of the environment known, reads the others, and keeps up with them until `process` stops.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(
        db: &PgPool,
        clock: &SharedClock,
        wakes: &Wakes,
        sealer: &Sealer,
        environment: Vec<(&'static str, SecretString)>,
        process: &Process,
    ) -> anyhow::Result<Self> {
        patiently(process, || provider::register(db, &environment, clock.now()))
            .await
            .context("make our keys known")?;
        let environment = environment
            .into_iter()
            .map(|(name, secret)| ((name.to_owned(), provider::fingerprint(&secret)), secret))
            .collect();
        let chain = Chain {
            db: db.clone(),
            clock: clock.clone(),
            wakes: wakes.clone(),
            sealer: sealer.clone(),
            environment,
            known: RwLock::default(),
        };
        let keychain = Self(Arc::new(chain));
        // Subscribed before the first look, so that a change in between is not missed.
        let mut hints = wakes.listen();
        patiently(process, || keychain.refresh()).await.context("read our keys at the providers")?;
        let (kept, watched) = (keychain.clone(), process.clone());
        process.spawn(async move {
            while wake::rest(&mut hints, LOOK, &watched, |wake| wake == Wake::Providers).await {
                if let Err(error) = kept.refresh().await {
                    tracing::warn!(%error, "keys at the providers not read; those known go on");
                }
            }
        });
        Ok(keychain)
    }

    /// Reads the keys and their rests again.
    ///
    /// # Errors
    /// When the database fails; those known go on.
    pub async fn refresh(&self) -> Result<(), sqlx::Error> {
        let listed = provider::keys(&self.0.db).await?;
        let Cooldowns { rests, refused } = provider::cooldowns(&self.0.db, self.0.clock.now()).await?;
        let mut keys: HashMap<String, Vec<Key>> = HashMap::new();
        for key in listed {
            if let Some(secret) = self.secret(&key) {
                let usable = Key {
                    id: key.id,
                    secret,
                    is_limited: key.per_minute.is_some() || key.concurrency.is_some(),
                    weight: key.weight.unsigned_abs(),
                    is_disabled: key.disabled_at.is_some(),
                };
                keys.entry(key.provider).or_default().push(usable);
            }
        }
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) =
            Known { keys, cooldowns: rests, refused };
        Ok(())
    }

    /// The secret of a key, where this process has it or can open it.
    fn secret(&self, key: &provider::Key) -> Option<SecretString> {
        let ours = self.0.environment.get(&(key.provider.clone(), key.fingerprint.clone()));
        let Some(sealed) = &key.secret else { return ours.cloned() };
        match provider::open_secret(&self.0.sealer, key.id, sealed) {
            Ok(secret) => Some(secret),
            Err(error) => {
                tracing::error!(key.id = %key.id, provider.name = key.provider, %error, "key {} of {} cannot be used", key.name, key.provider);
                ours.cloned()
            }
        }
    }

    /// The key for a new submit to `upstream_model` of `provider`.
    pub fn choose(&self, provider: &str, upstream_model: &str) -> Choice {
        self.choose_but(provider, upstream_model, &[])
    }

    /// The same, but for some keys.
    pub fn choose_but(&self, provider: &str, upstream_model: &str, but: &[ProviderKeyId]) -> Choice {
        let now = self.0.clock.now();
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut fresh: Vec<&Key> = Vec::new();
        let mut back_at: Option<DateTime<Utc>> = None;
        for key in known.keys.get(provider).into_iter().flatten() {
            if key.is_disabled || but.contains(&key.id) {
                continue;
            }
            let rests: Vec<_> = known.rests(key.id, upstream_model, now).collect();
            match rests.iter().map(|rest| rest.until).max() {
                None => fresh.push(key),
                Some(until) if rests.iter().all(|rest| is_worth_waiting(rest, now)) => {
                    back_at = Some(back_at.map_or(until, |soonest| soonest.min(until)));
                }
                Some(_) => {}
            }
        }
        match draw(&fresh) {
            Some(key) => Choice::Key(key.clone()),
            None => back_at.map_or(Choice::None, Choice::NotBefore),
        }
    }

    /// Whether there is a key for a provider, however it fares.
    pub fn has(&self, provider: &str) -> bool {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.keys.get(provider).is_some_and(|keys| !keys.is_empty())
    }

    /// The key that a task under way was submitted with, or, should it be gone, another of the provider.
    pub fn of_task(&self, provider: &str, key: Option<ProviderKeyId>) -> Option<Key> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let keys = known.keys.get(provider)?;
        let own = keys.iter().find(|candidate| Some(candidate.id) == key);
        own.or_else(|| keys.iter().find(|key| !key.is_disabled)).or_else(|| keys.first()).cloned()
    }

    /// Every key that this process can call with, and where.
    pub fn all(&self) -> Vec<(String, Key)> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let list = |(provider, keys): (&String, &Vec<Key>)| {
            keys.iter().map(|key| (provider.clone(), key.clone())).collect::<Vec<_>>()
        };
        known.keys.iter().flat_map(list).collect()
    }

    /// Lets a key rest after an error that was its own, for one model or (empty) for all, and asks the vendor about it where it was
    /// refused. All processes are told; where the database is away, the next error says it again.
    pub async fn rest(
        &self,
        provider: &str,
        key: &Key,
        upstream_model: &str,
        cause: Cause,
        advice: Option<Duration>,
    ) {
        let (db, now) = (&self.0.db, self.0.clock.now());
        let known = self.known_rest(key.id, upstream_model);
        let until = match provider::cool_down(db, key.id, upstream_model, cause, advice, now).await {
            Ok(until) => until,
            Err(error) => {
                tracing::warn!(key.id = %key.id, %error, "a key that should rest does not");
                return;
            }
        };
        // Before the question, whose answer may depend on it.
        if cause == Cause::Auth
            && let Err(error) = provider::refused(db, key.id, now).await
        {
            tracing::warn!(key.id = %key.id, %error, "a refusal of a key is not counted");
        }
        if cause != Cause::RateLimited
            && let Err(error) = provider::ask_soon(db, key.id, now).await
        {
            tracing::warn!(key.id = %key.id, %error, "a key in doubt is not asked about");
        }
        // Calls that were under way together fail together; the first has said it all.
        if until == known {
            return;
        }
        tracing::warn!(key.id = %key.id, provider.name = provider, model = upstream_model, why = cause.word(), ?until, "a key of {provider} rests");
        metrics::counter!("kiln_provider_key_rests_total", "provider" => provider.to_owned(), "why" => cause.word())
            .increment(1);
        self.changed().await;
    }

    /// A submit with a key was taken, so it is not refused any more. Costs nothing unless it was.
    pub async fn accepted(&self, key: &Key) {
        let was_refused = {
            let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
            known.refused.contains(&key.id)
        };
        if !was_refused {
            return;
        }
        match provider::accepted(&self.0.db, key.id).await {
            Ok(()) => self.changed().await,
            Err(error) => tracing::warn!(key.id = %key.id, %error, "the next submit says it again"),
        }
    }

    fn known_rest(&self, key: ProviderKeyId, upstream_model: &str) -> Option<DateTime<Utc>> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let same = |rest: &&Cooldown| rest.key == key && rest.upstream_model == upstream_model;
        known.cooldowns.iter().find(same).map(|rest| rest.until)
    }

    /// Reads what was just written, and tells the other processes.
    pub async fn changed(&self) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "keys at the providers not read; those known go on");
        }
        self.0.wakes.send(Wake::Providers);
    }
}

/// Asks the database again while it is away, until it answers or `process` stops: a worker that starts during a restart is none
/// that failed to start.
async fn patiently<F: Future<Output = Result<(), sqlx::Error>>>(
    process: &Process,
    ask: impl Fn() -> F,
) -> Result<(), sqlx::Error> {
    loop {
        match ask().await {
            Err(error) if is_transient(&error) => {
                tracing::warn!(%error, "database away; trying again");
                if !process.sleep(AWAY).await {
                    return Err(error);
                }
            }
            answer => return answer,
        }
    }
}

/// Whether a key at rest can be expected back. One that was refused comes back by luck, or by an operator; a first rest may be a
/// slip of the vendor's.
fn is_worth_waiting(rest: &Cooldown, now: DateTime<Utc>) -> bool {
    rest.cause.passes() || rest.until - now <= PATIENCE
}

/// One of them, by weight.
fn draw<'a>(keys: &[&'a Key]) -> Option<&'a Key> {
    let whole: u32 = keys.iter().map(|key| key.weight).sum();
    if whole == 0 {
        return keys.first().copied();
    }
    let mut left = rand::rng().random_range(0..whole);
    keys.iter().copied().find(|key| match left.checked_sub(key.weight) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(weight: u32) -> Key {
        Key {
            id: ProviderKeyId::new(),
            secret: SecretString::default(),
            is_limited: false,
            weight,
            is_disabled: false,
        }
    }

    #[test]
    fn a_key_is_drawn_by_its_weight() {
        assert!(draw(&[]).is_none());
        let (light, heavy) = (key(1), key(9));
        let keys = [&light, &heavy];
        let drawn = (0..10_000).filter(|_| draw(&keys).unwrap().id == light.id).count();
        // Six standard deviations.
        assert!((820..1180).contains(&drawn), "{drawn}");
    }
}
