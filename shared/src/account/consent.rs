//! What people agreed to, in which version, and when. Rows are never changed: another version is another row.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::audit::{self, By};
use crate::id::{AccountId, UserId};

/// The one document there is: how we treat personal data.
pub const PERSONAL_DATA: &str = "personal_data";

/// A consent that was given.
#[derive(Debug, Clone)]
pub struct Consent {
    /// To which document.
    pub document: String,
    /// In which version.
    pub version: String,
    /// When.
    pub given_at: DateTime<Utc>,
}

/// Writes down that `user` agreed to a version of a document; the first time counts.
pub(super) async fn record(
    conn: &mut PgConnection,
    user: UserId,
    version: &str,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let given = sqlx::query!(
        "insert into consents (user_id, document, version, given_at) values ($1, $2, $3, $4) on conflict do nothing",
        user.0,
        PERSONAL_DATA,
        version,
        now,
    )
    .execute(conn)
    .await?;
    Ok(given.rows_affected() == 1)
}

/// Takes the consent of a person who is a member of `account` to `version` of how we treat personal data. Given again, it
/// changes nothing.
///
/// # Errors
/// When the database fails.
pub async fn consent(
    db: &PgPool,
    account: AccountId,
    user: UserId,
    version: &str,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    if record(&mut tx, user, version, now).await? {
        let after = serde_json::json!({ "document": PERSONAL_DATA, "version": version });
        let entry = by.did("consent.given", Some(account), user, now).changed(None, Some(after));
        audit::record(&mut *tx, &entry).await?;
    }
    tx.commit().await
}

/// Whether a person has yet to agree to `version` of how we treat personal data.
///
/// # Errors
/// When the database fails.
pub async fn lacks_consent(db: &PgPool, user: UserId, version: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select not exists (
               select from consents where user_id = $1 and document = $2 and version = $3) as "lacks!""#,
        user.0,
        PERSONAL_DATA,
        version,
    )
    .fetch_one(db)
    .await
}

/// Every consent a person gave, newest first.
///
/// # Errors
/// When the database fails.
pub async fn consents(db: &PgPool, user: UserId) -> Result<Vec<Consent>, sqlx::Error> {
    sqlx::query_as!(
        Consent,
        "select document, version, given_at from consents where user_id = $1
         order by given_at desc, document, version desc",
        user.0
    )
    .fetch_all(db)
    .await
}
