//! Keys that rest after an error that was theirs: as long as the vendor says, or longer each time it does not.
//!
//! Beside the rests of a key, which are by model, it is counted how often the key was refused in a row, whatever it was used for.
//! That count is a row like the others, under the name of no model, so nothing rests by it. Calls that fail together count as one,
//! as they do for a rest, and a submit that is taken ends it.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::id::ProviderKeyId;

/// A quiet time after which the next rest is a first one again.
const FORGIVEN: TimeDelta = TimeDelta::minutes(10);
/// Longest advice of a vendor that is followed.
const ADVICE_MAX: Duration = Duration::from_secs(600);

/// What stands in the place of a model where a key's refusals in a row are counted; no model is called so.
pub(super) const REFUSALS: &str = "*";
/// A quiet time after which refusals are counted anew: keys that are hardly used are refused rarely.
const REFUSALS_STAND: TimeDelta = TimeDelta::days(1);
/// Refusals in a row after which a key is switched off that its vendor cannot be asked about. They are counted no faster than a rest
/// for [`Cause::Auth`] grows, so five are seven and a half minutes at least in which the key was good for nothing: longer than a
/// slip of the vendor's.
pub const REFUSALS_MAX: i16 = 5;

/// Why a key rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Too many requests. Vendors count them by model, so the key rests for that model alone.
    RateLimited,
    /// Its account is out of money or quota.
    Quota,
    /// The vendor does not take it, or not for this.
    Auth,
}

impl Cause {
    /// First rest and longest one; each is twice the one before.
    fn bounds(self) -> (Duration, Duration) {
        match self {
            Self::RateLimited => (Duration::from_secs(2), Duration::from_secs(60)),
            Self::Quota => (Duration::from_secs(30), Duration::from_secs(3600)),
            Self::Auth => (Duration::from_secs(30), Duration::from_secs(1800)),
        }
    }

    /// Whether it passes by itself.
    pub fn passes(self) -> bool {
        self == Self::RateLimited
    }

    /// The cause of this word.
    fn from_word(word: &str) -> Self {
        match word {
            "quota" => Self::Quota,
            "auth" => Self::Auth,
            _ => Self::RateLimited,
        }
    }

    /// The word for it in the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Quota => "quota",
            Self::Auth => "auth",
        }
    }
}

/// A key at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cooldown {
    /// Which.
    pub key: ProviderKeyId,
    /// For this model of the vendor's; empty: for all.
    pub upstream_model: String,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Why.
    pub cause: Cause,
}

/// The keys that something went wrong with.
#[derive(Debug, Default)]
pub struct Cooldowns {
    /// Those that rest.
    pub rests: Vec<Cooldown>,
    /// Those that were refused, and have not been taken since.
    pub refused: HashSet<ProviderKeyId>,
}

/// Lets a key rest, for `upstream_model` alone or (empty) for all; gives until when. Calls that were under way together fail
/// together, so while it rests a further error makes it no longer, unless the vendor's `advice` does.
///
/// # Errors
/// When the database fails. A key that is not there any more rests nowhere.
pub async fn cool_down(
    db: &PgPool,
    key: ProviderKeyId,
    upstream_model: &str,
    cause: Cause,
    advice: Option<Duration>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let (first, longest) = cause.bounds();
    let advised = now + advice.unwrap_or_default().min(ADVICE_MAX);
    let forgiven = if upstream_model == REFUSALS { REFUSALS_STAND } else { FORGIVEN };
    sqlx::query_scalar!(
        r#"
        insert into provider_cooldowns as c (key_id, upstream_model, until, strikes, why)
        select id, $2, greatest($3::timestamptz, $4::timestamptz + $5::double precision * interval '1 second'), 1, $7
        from provider_keys where id = $1
        on conflict (key_id, upstream_model) do update
        set until = case when c.until > $4 then greatest(c.until, $3)
                         when c.until > $8 then greatest($3, $4 + least($6::double precision, $5 * power(2, least(c.strikes, 16))) * interval '1 second')
                         else excluded.until end,
            strikes = case when c.until > $4 then c.strikes when c.until > $8 then least(c.strikes + 1, 100) else 1 end,
            why = excluded.why
        returning until
        "#,
        key.0,
        upstream_model,
        advised,
        now,
        first.as_secs_f64(),
        longest.as_secs_f64(),
        cause.word(),
        now - forgiven,
    )
    .fetch_optional(db)
    .await
}

/// Counts that a key was refused, whatever for.
///
/// # Errors
/// When the database fails.
pub async fn refused(db: &PgPool, key: ProviderKeyId, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    cool_down(db, key, REFUSALS, Cause::Auth, None, now).await.map(drop)
}

/// A submit with a key was taken: what comes next is its first refusal again. How long it rests for a model it was refused for
/// stays as it is.
///
/// # Errors
/// When the database fails.
pub async fn accepted(db: &PgPool, key: ProviderKeyId) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from provider_cooldowns where key_id = $1 and upstream_model = $2", key.0, REFUSALS)
        .execute(db)
        .await?;
    Ok(())
}

/// Every key that rests or was refused.
///
/// # Errors
/// When the database fails.
pub async fn cooldowns(db: &PgPool, now: DateTime<Utc>) -> Result<Cooldowns, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select key_id as "key: ProviderKeyId", upstream_model, until, why from provider_cooldowns where until > $1"#,
        now - REFUSALS_STAND
    )
    .fetch_all(db)
    .await?;
    let mut cooldowns = Cooldowns::default();
    for row in rows {
        if row.upstream_model == REFUSALS {
            cooldowns.refused.insert(row.key);
        } else if row.until > now {
            cooldowns.rests.push(Cooldown {
                key: row.key,
                upstream_model: row.upstream_model,
                until: row.until,
                cause: Cause::from_word(&row.why),
            });
        }
    }
    Ok(cooldowns)
}
