//! Giving tokens: with a time to spend them in or for good, once per cause.
//!
//! What is left of a grant that expires is a lot on its account's row, and lots are spent soonest to expire first, so no job
//! has to choose. Deliberately absent: who may give (the API's table of permissions) and what plans contain
//! (`subscription.rs`).

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};

use super::{MoveError, Tokens};
use crate::{
    db::broken_constraint,
    id::{AccountId, EntryId, GrantId},
};

/// Where tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An operator gave them.
    Operator,
    /// A plan contains them.
    Plan,
    /// Every new account gets them.
    Start,
}

impl Source {
    /// Its word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Plan => "plan",
            Self::Start => "start",
        }
    }
}

/// Tokens to be given.
#[derive(Debug, Clone)]
pub struct Gift<'a> {
    /// To whom.
    pub account: AccountId,
    /// How many.
    pub tokens: Tokens,
    /// Until when they can be spent; `None`: for ever. A job that holds them by then may still be charged.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where they come from.
    pub source: Source,
    /// Natural key of the cause; the same one gives nothing twice.
    pub reference: &'a str,
    /// Why, for people.
    pub reason: Option<&'a str>,
}

/// Gives tokens. What the account owes is paid back out of them.
///
/// # Errors
/// See [`MoveError`]; on any of them nothing was given.
pub async fn give(
    db: impl PgExecutor<'_>,
    gift: &Gift<'_>,
    now: DateTime<Utc>,
) -> Result<GrantId, MoveError> {
    let id = GrantId::new();
    let given = sqlx::query_file_scalar!(
        "src/billing/grant.sql",
        gift.account.0,
        gift.tokens.count(),
        id.0,
        gift.source.word(),
        gift.reference,
        gift.expires_at,
        gift.reason,
        now,
        EntryId::new().0,
        EntryId::new().0,
    )
    .fetch_optional(db)
    .await
    .map_err(|error| match broken_constraint(&error) {
        Some("grants_once" | "ledger_once") => MoveError::AlreadyMoved,
        _ => MoveError::Db(error),
    })?;
    given.map(|_| id).ok_or(MoveError::UnknownAccount)
}

/// A grant and what is left of it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Its id, later grants later.
    pub id: GrantId,
    /// Where the tokens came from.
    pub source: String,
    /// How many there were.
    pub tokens: i64,
    /// How many of them are available now; `None` for grants that do not expire, which are not told apart.
    pub remaining: Option<i64>,
    /// When what is left goes.
    pub expires_at: Option<DateTime<Utc>>,
    /// Why, for people.
    pub reason: Option<String>,
    /// When it was given.
    pub created_at: DateTime<Utc>,
}

/// Up to `limit` grants of `account`, newest first, older than `after` if given.
///
/// # Errors
/// When the database fails.
pub async fn grants(
    db: &PgPool,
    account: AccountId,
    after: Option<GrantId>,
    limit: i64,
) -> Result<Vec<Grant>, sqlx::Error> {
    sqlx::query_as!(
        Grant,
        r#"select g.id as "id: _", g.source, g.tokens, g.expires_at, g.reason, g.created_at,
                  case when g.expires_at is not null then coalesce(l.tokens, 0) end as remaining
           from grants g
           join accounts a on a.id = g.account_id
           left join lateral unnest(a.expiring) l on l.grant_id = g.id
           where g.account_id = $1 and g.id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
           order by g.id desc
           limit $3"#,
        account.0,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}
