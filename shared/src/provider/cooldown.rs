//! Keys that rest after an error that was theirs: as long as the vendor says, or longer each time it does not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::id::ProviderKeyId;

/// A quiet time after which the next rest is a first one again.
const FORGIVEN: TimeDelta = TimeDelta::minutes(10);
/// Longest advice of a vendor that is followed.
const ADVICE_MAX: Duration = Duration::from_secs(600);

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
        now - FORGIVEN,
    )
    .fetch_optional(db)
    .await
}

/// Every key that rests.
///
/// # Errors
/// When the database fails.
pub async fn cooldowns(db: &PgPool, now: DateTime<Utc>) -> Result<Vec<Cooldown>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select key_id as "key: ProviderKeyId", upstream_model, until, why from provider_cooldowns where until > $1"#,
        now
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Cooldown {
            key: row.key,
            upstream_model: row.upstream_model,
            until: row.until,
            cause: Cause::from_word(&row.why),
        })
        .collect())
}
