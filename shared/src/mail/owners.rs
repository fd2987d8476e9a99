//! Writing to the owners of an account, each once for a cause.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Letter, News, queue};
use crate::{
    id::{AccountId, UserId},
    seal::Sealer,
};

/// Someone who is told.
struct Owner {
    user: UserId,
    email: String,
}

/// The owners of an account, as far as they can be written to.
async fn owners(conn: &mut PgConnection, account: AccountId) -> Result<Vec<Owner>, sqlx::Error> {
    sqlx::query_as!(
        Owner,
        r#"select u.id as "user: _", u.email as "email!"
           from members m join users u on u.id = m.user_id
           where m.account_id = $1 and m.role = 'owner' and u.email is not null and u.email_verified_at is not null
           order by u.id"#,
        account.0,
    )
    .fetch_all(conn)
    .await
}

/// Writes to every owner of an account whose address is proved, in the caller's transaction; gives how many mails that were.
///
/// # Errors
/// When the database fails.
pub(crate) async fn tell_owners(
    tx: &mut PgConnection,
    sealer: &Sealer,
    account: AccountId,
    cause: &str,
    news: &News,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let mut told = 0;
    for owner in owners(&mut *tx, account).await? {
        let reference = format!("{cause}:{}", owner.user.0);
        let letter = Letter { reference: &reference, account: Some(account), recipient: &owner.email, news };
        told += u64::from(queue(&mut *tx, sealer, &letter, now).await?);
    }
    Ok(told)
}
