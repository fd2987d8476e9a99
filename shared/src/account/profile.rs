//! What an account says of itself and how it stands, as its own people see it.
//!
//! Changing it is read, compare, write under the row's lock, so that the audit log names exactly the fields that changed.
//! Deliberately absent: what only operators set (`terms.rs`), and balances ([`crate::billing`]).

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, PgPool};

use super::audit::{self, By};
use crate::id::AccountId;

/// An account. Names and addresses are not to be shown in logs, so there is no `Debug`.
pub struct Profile {
    /// Its id.
    pub id: AccountId,
    /// Name of the company or person.
    pub name: String,
    /// `active` wherever its own people can ask.
    pub status: String,
    /// What it does.
    pub description: Option<String>,
    /// Its website.
    pub website: Option<String>,
    /// Its phone.
    pub phone: Option<String>,
    /// Its postal address.
    pub address: Option<String>,
    /// The tier that counts now.
    pub tier: String,
    /// The tier without any plan.
    pub base_tier: String,
    /// Jobs it may submit in an hour; `None` is no limit.
    pub requests_per_hour: Option<i32>,
    /// Which discount it has.
    pub price_group: String,
    /// Which part of list prices it pays, in percent.
    pub price_percent: i16,
    /// How much it may owe.
    pub credit_limit_tokens: i64,
    /// What it owes.
    pub owed_tokens: i64,
    /// Until when it has a plan.
    pub subscribed_until: Option<DateTime<Utc>>,
    /// Until when every job is free.
    pub unlimited_until: Option<DateTime<Utc>>,
    /// Tokens below which it wants to be told; `None` is what the deployment has for all.
    pub low_balance_tokens: Option<i64>,
    /// The newest version that an owner agreed to of how we treat personal data.
    pub consent_version: Option<String>,
    /// When they did.
    pub consent_given_at: Option<DateTime<Utc>>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
}

/// What to change; `None` leaves it, `Some(None)` clears it.
#[derive(Default)]
pub struct NewProfile {
    /// Name of the company or person.
    pub name: Option<String>,
    /// What it does.
    pub description: Option<Option<String>>,
    /// Its website.
    pub website: Option<Option<String>>,
    /// Its phone.
    pub phone: Option<Option<String>>,
    /// Its postal address.
    pub address: Option<Option<String>>,
    /// Tokens below which it wants to be told.
    pub low_balance_tokens: Option<Option<i64>>,
}

/// An account as its own people see it.
///
/// # Errors
/// When the database fails.
pub async fn profile(db: &PgPool, account: AccountId) -> Result<Option<Profile>, sqlx::Error> {
    sqlx::query_as!(
        Profile,
        r#"select a.id as "id: _", a.name, a.status, a.description, a.website, a.phone, a.address, a.tier, a.base_tier,
                  coalesce(a.requests_per_hour, t.requests_per_hour) as requests_per_hour, a.price_group,
                  coalesce(g.percent, 100::smallint) as "price_percent!", a.credit_limit_tokens, a.owed_tokens, a.subscribed_until,
                  a.unlimited_until, a.low_balance_tokens, c.version as "consent_version?",
                  c.given_at as "consent_given_at?", a.created_at
           from accounts a
           left join tiers t on t.tier = a.tier
           left join price_groups g on g.price_group = a.price_group
           left join lateral (
               select c.version, c.given_at from members m join consents c on c.user_id = m.user_id
               where m.account_id = a.id and m.role = 'owner' order by c.given_at desc limit 1
           ) c on true
           where a.id = $1"#,
        account.0
    )
    .fetch_optional(db)
    .await
}

/// The fields that its own people may change, as they stand.
struct Own {
    name: String,
    description: Option<String>,
    website: Option<String>,
    phone: Option<String>,
    address: Option<String>,
    low_balance_tokens: Option<i64>,
}

impl Own {
    fn with(&self, new: &NewProfile) -> Self {
        let text =
            |new: &Option<Option<String>>, old: &Option<String>| new.as_ref().unwrap_or(old).to_owned();
        Self {
            name: new.name.as_ref().unwrap_or(&self.name).to_owned(),
            description: text(&new.description, &self.description),
            website: text(&new.website, &self.website),
            phone: text(&new.phone, &self.phone),
            address: text(&new.address, &self.address),
            low_balance_tokens: new.low_balance_tokens.unwrap_or(self.low_balance_tokens),
        }
    }

    fn fields(&self) -> [(&'static str, Value); 6] {
        [
            ("name", json!(self.name)),
            ("description", json!(self.description)),
            ("website", json!(self.website)),
            ("phone", json!(self.phone)),
            ("address", json!(self.address)),
            ("low_balance_tokens", json!(self.low_balance_tokens)),
        ]
    }

    /// The fields of `self` that are others in `than`.
    fn differing(&self, than: &Self) -> Map<String, Value> {
        let pairs = self.fields().into_iter().zip(than.fields());
        pairs
            .filter(|(ours, theirs)| ours != theirs)
            .map(|((name, value), _)| (name.to_owned(), value))
            .collect()
    }
}

/// Changes what an account says of itself. `false`: there is no such account.
///
/// # Errors
/// When the database fails.
pub async fn change_profile(
    db: &PgPool,
    account: AccountId,
    new: &NewProfile,
    by: &By,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let old = sqlx::query_as!(
        Own,
        "select name, description, website, phone, address, low_balance_tokens from accounts
         where id = $1 for no key update",
        account.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(old) = old else { return Ok(false) };
    let changed = old.with(new);
    let (before, after) = (old.differing(&changed), changed.differing(&old));
    if after.is_empty() {
        return Ok(true);
    }
    write(&mut tx, account, &changed).await?;
    let entry = by.did("account.changed", Some(account), account, now);
    audit::record(&mut *tx, &entry.changed(Some(before.into()), Some(after.into()))).await?;
    tx.commit().await?;
    Ok(true)
}

/// Another threshold is told of anew.
async fn write(conn: &mut PgConnection, account: AccountId, own: &Own) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update accounts
         set name = $2, description = $3, website = $4, phone = $5, address = $6, low_balance_tokens = $7,
             low_balance_told = low_balance_told and low_balance_tokens is not distinct from $7
         where id = $1",
        account.0,
        own.name,
        own.description,
        own.website,
        own.phone,
        own.address,
        own.low_balance_tokens,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let old = Own {
            name: "Ann".into(),
            description: None,
            website: Some("https://example.com".into()),
            phone: Some("+1".into()),
            address: None,
            low_balance_tokens: Some(5),
        };
        let new = NewProfile {
            name: Some("Ann".into()),
            website: Some(None),
            low_balance_tokens: Some(Some(6)),
            ..NewProfile::default()
        };
        let changed = old.with(&new);
        assert_eq!(changed.phone.as_deref(), Some("+1"));
        let before = json!({ "website": "https://example.com", "low_balance_tokens": 5 });
        assert_eq!(Value::from(old.differing(&changed)), before);
        assert_eq!(Value::from(changed.differing(&old)), json!({ "website": null, "low_balance_tokens": 6 }));
    }
}
