//! Files that accounts send in: each for three days, together within the room an account has.
//!
//! The object is stored first, and the row is written after it, once the object is whole. So whatever an owner can see is
//! there, nothing is half done, and there is no third state to look after: a process that ends in between leaves an object
//! without a row, under a key that says whose it is and when it was begun, and the nightly look for strays deletes it. Room is
//! judged where the row is written, under the lock of the account's row, so that two uploads never take the same room.
//! Deliberately absent: the bytes (`storage`), and what a form looks like.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgExecutor, PgPool};

use crate::{
    file::{File, KEPT},
    format::Format,
    id::{AccountId, FileId},
};

/// Where uploads are kept: `uploads/{account_id}/{id}.{ext}`.
pub const UPLOADS: &str = "uploads/";

/// What may be sent in.
pub const FORMATS: [Format; 8] = [
    Format::Jpeg,
    Format::Png,
    Format::WebP,
    Format::Mp4,
    Format::Mp3,
    Format::Wav,
    Format::Ogg,
    Format::Pdf,
];

/// How old an object without a row is before nobody can be about to write one. The slowest upload that is waited for takes
/// less than an hour.
const STRAY_AFTER: TimeDelta = TimeDelta::days(1);

/// An upload whose object is stored.
#[derive(Debug)]
pub struct NewUpload<'a> {
    /// Its id, which is in its key.
    pub id: FileId,
    /// Whose it is.
    pub account: AccountId,
    /// What to call it.
    pub name: &'a str,
    /// What its sender says it is for.
    pub purpose: Option<&'a str>,
    /// What its bytes say it is.
    pub format: Format,
    /// Its length.
    pub size_bytes: i64,
}

impl NewUpload<'_> {
    /// Where its object is.
    pub fn storage_key(&self) -> String {
        storage_key(self.account, self.id, self.format)
    }
}

/// Why an upload is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The account is suspended or closing.
    #[error("the account is not active")]
    NotActive,
    /// The account has no room for it.
    #[error("the account has {used_bytes} of {quota_bytes} bytes in use")]
    NoRoom {
        /// What its uploads take now.
        used_bytes: i64,
        /// What they may take.
        quota_bytes: i64,
    },
    /// The database failed. Whether the row is there is not known, so the object must be left to the nightly look for strays.
    #[error("write an upload down")]
    Db(#[from] sqlx::Error),
}

/// Where an upload of that id is stored.
pub fn storage_key(account: AccountId, id: FileId, format: Format) -> String {
    format!("{UPLOADS}{account}/{id}.{}", format.extension())
}

/// Writes an upload down whose object is stored, if the account is active and has room for it. No quota is any room.
///
/// # Errors
/// See [`KeepError`]; on the first two nothing was written.
pub async fn keep(
    db: &PgPool,
    new: &NewUpload<'_>,
    quota_bytes: Option<i64>,
    now: DateTime<Utc>,
) -> Result<File, KeepError> {
    let mut tx = db.begin().await?;
    let status =
        sqlx::query_scalar!("select status from accounts where id = $1 for no key update", new.account.0)
            .fetch_optional(&mut *tx)
            .await?;
    if status.as_deref() != Some("active") {
        return Err(KeepError::NotActive);
    }
    if let Some(quota_bytes) = quota_bytes {
        let used_bytes = used_bytes(&mut *tx, new.account, now).await?;
        if new.size_bytes > quota_bytes.saturating_sub(used_bytes) {
            return Err(KeepError::NoRoom { used_bytes, quota_bytes });
        }
    }
    let file = described(new, now);
    sqlx::query!(
        "insert into uploads (id, account_id, name, purpose, storage_key, mime_type, size_bytes, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.id.0,
        new.account.0,
        new.name,
        new.purpose,
        file.storage_key,
        file.mime_type,
        file.size_bytes,
        file.created_at,
        file.expires_at,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(file)
}

fn described(new: &NewUpload<'_>, now: DateTime<Utc>) -> File {
    File {
        id: new.id,
        job: None,
        position: None,
        name: Some(new.name.to_owned()),
        purpose: new.purpose.map(ToOwned::to_owned),
        storage_key: new.storage_key(),
        mime_type: new.format.mime_type().to_owned(),
        size_bytes: new.size_bytes,
        width: None,
        height: None,
        duration_seconds: None,
        created_at: now,
        expires_at: now + KEPT,
    }
}

/// How many bytes the account's uploads take.
///
/// # Errors
/// When the database fails.
pub async fn used_bytes(
    db: impl PgExecutor<'_>,
    account: AccountId,
    now: DateTime<Utc>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select coalesce(sum(size_bytes), 0)::bigint as "used!" from uploads
           where account_id = $1 and expires_at > $2 and delete_tries = 0"#,
        account.0,
        now,
    )
    .fetch_one(db)
    .await
}

/// Up to `limit` uploads of `account`, newest first, older than `after` if given.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &PgPool,
    account: AccountId,
    after: Option<FileId>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<File>, sqlx::Error> {
    sqlx::query_as!(
        File,
        r#"select id as "id: _", null::uuid as "job?: _", null::smallint as "position?", name as "name?", purpose,
                  storage_key, mime_type, size_bytes, null::integer as "width?", null::integer as "height?",
                  null::float8 as "duration_seconds?", created_at, expires_at
           from uploads
           where account_id = $1 and id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
             and expires_at > $3 and delete_tries = 0
           order by id desc limit $4"#,
        account.0,
        after.map(|id| id.0),
        now,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Those of `keys` that nothing refers to and nobody is about to: objects without a row that were begun more than a day ago.
/// A process that ended between an upload and its row leaves such an object. Keys of another form are left alone.
///
/// # Errors
/// When the database fails.
pub async fn strays(db: &PgPool, keys: &[String], now: DateTime<Utc>) -> Result<Vec<String>, sqlx::Error> {
    let old = |id: &FileId| begun_at(*id).is_some_and(|begun| begun <= now - STRAY_AFTER);
    let (keys, ids): (Vec<_>, Vec<_>) =
        keys.iter().filter_map(|key| Some((key.as_str(), id_in(key).filter(old)?.0))).unzip();
    sqlx::query_scalar!(
        r#"select o.key as "key!" from unnest($1::text[], $2::uuid[]) as o (key, id)
           where not exists (select from uploads u where u.id = o.id and u.storage_key = o.key)"#,
        &keys as _,
        &ids,
    )
    .fetch_all(db)
    .await
}

fn id_in(key: &str) -> Option<FileId> {
    let (_, name) = key.strip_prefix(UPLOADS)?.split_once('/')?;
    name.split('.').next()?.parse().ok()
}

/// When an upload began: its id is made then, and begins with its time.
fn begun_at(id: FileId) -> Option<DateTime<Utc>> {
    let (secs, nanos) = id.0.get_timestamp()?.to_unix();
    DateTime::from_timestamp(i64::try_from(secs).ok()?, nanos)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_key_says_whose_an_upload_is_and_when_it_began() {
        let id = FileId(Uuid::parse_str("0190163d-8694-739b-aea5-966c26f8ad91").unwrap());
        let key = storage_key(AccountId(Uuid::nil()), id, Format::Jpeg);
        assert_eq!(
            key,
            "uploads/acc_00000000000000000000000000000000/file_0190163d8694739baea5966c26f8ad91.jpg"
        );
        assert_eq!(id_in(&key), Some(id));
        assert_eq!(begun_at(id), DateTime::from_timestamp_millis(0x0190_163D_8694));
    }

    #[test]
    fn keys_of_another_form_are_nobodys_uploads() {
        for key in ["uploads/acc_1", "uploads/acc_1/", "uploads/acc_1/x.png", "outputs/job_1/0.png", ""] {
            assert_eq!(id_in(key), None, "{key}");
        }
    }
}
