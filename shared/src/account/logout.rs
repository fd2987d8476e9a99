//! The end of logins: which sessions a person has, and how they end before their time.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::{
    access::Caller,
    audit::{self, By},
};
use crate::id::{AccountId, SessionId, UserId};

/// Why a session ended, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its person said so.
    Logout,
    /// The password was changed or set anew.
    Password,
    /// A refresh token of it was shown twice.
    Reuse,
    /// Its person is no longer a member of the account.
    Removed,
}

impl Ending {
    const fn word(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Password => "password",
            Self::Reuse => "reuse",
            Self::Removed => "removed",
        }
    }
}

/// A session that has not ended.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The account it speaks for.
    pub account: AccountId,
    /// When its person logged in.
    pub created_at: DateTime<Utc>,
    /// When it last got a refresh token.
    pub refreshed_at: Option<DateTime<Utc>>,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
}

/// A page of a person's sessions that have not ended, newest first.
///
/// # Errors
/// When the database fails.
pub async fn sessions(
    db: &PgPool,
    user: UserId,
    after: Option<SessionId>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Session>, sqlx::Error> {
    sqlx::query_as!(
        Session,
        r#"select s.id as "id: _", s.account_id as "account: _", s.created_at, s.expires_at,
                  (select max(r.created_at) from refresh_tokens r where r.session_id = s.id) as refreshed_at
           from sessions s
           where s.user_id = $1 and s.revoked_at is null and s.expires_at > $2 and ($3::uuid is null or s.id < $3)
           order by s.id desc
           limit $4"#,
        user.0,
        now,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Which sessions of a person are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// This one.
    Only(SessionId),
    /// All but this one.
    AllBut(SessionId),
    /// Those that speak for this account.
    Of(AccountId),
}

/// Ends sessions of `user`; how many there were.
pub(super) async fn end(
    conn: &mut PgConnection,
    user: UserId,
    which: Which,
    why: Ending,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let (only, but, account) = match which {
        Which::All => (None, None, None),
        Which::Only(session) => (Some(session.0), None, None),
        Which::AllBut(session) => (None, Some(session.0), None),
        Which::Of(account) => (None, None, Some(account.0)),
    };
    let ended = sqlx::query!(
        "update sessions set revoked_at = $6, revoked_why = $5
         where user_id = $1 and revoked_at is null and ($2::uuid is null or id = $2) and ($3::uuid is null or id <> $3)
           and ($4::uuid is null or account_id = $4)",
        user.0,
        only,
        but,
        account,
        why.word(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected())
}

/// Logs a person out of some sessions; how many there were.
///
/// # Errors
/// When the database fails.
pub async fn log_out(
    db: &PgPool,
    caller: &Caller,
    user: UserId,
    which: Which,
    by: &By,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let mut tx = db.begin().await?;
    let ended = end(&mut tx, user, which, Ending::Logout, now).await?;
    if ended > 0 {
        let after = serde_json::json!({ "sessions_ended": ended });
        let entry = by.did("sessions.ended", Some(caller.account), user, now).changed(None, Some(after));
        audit::record(&mut *tx, &entry).await?;
    }
    tx.commit().await?;
    Ok(ended)
}
