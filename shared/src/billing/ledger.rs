//! Reading the book: the entries of an account, newest first.
//!
//! Entries are written by the statements that move the tokens; the database refuses to change one afterwards.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::id::{AccountId, EntryId};

/// What kind of movement an entry records; the words of the database and the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Tokens given to the account.
    Grant,
    /// Tokens taken back by an operator.
    Debit,
    /// Set aside for a job at submit.
    Hold,
    /// Earned by a job that succeeded.
    Charge,
    /// Given back when a job ended for less than its hold.
    Release,
}

impl EntryKind {
    /// Every kind with its word.
    pub const ALL: [(Self, &str); 5] = [
        (Self::Grant, "grant"),
        (Self::Debit, "debit"),
        (Self::Hold, "hold"),
        (Self::Charge, "charge"),
        (Self::Release, "release"),
    ];

    /// Its word in SQL and JSON.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// The kind a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// One movement of tokens.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id, later entries later.
    pub id: EntryId,
    /// The kind's word.
    pub kind: String,
    /// What caused it: a job's UUID, or a grant's own reference.
    pub reference: String,
    /// How many tokens moved, always positive.
    pub amount: i64,
    /// Pot they left.
    pub debit: String,
    /// Pot they entered.
    pub credit: String,
    /// Why, for movements made by people.
    pub reason: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Up to `limit` entries of `account`, newest first, older than the entry `after` if given, of one `kind` if given.
///
/// # Errors
/// When the database fails.
pub async fn entries(
    db: &PgPool,
    account: AccountId,
    kind: Option<EntryKind>,
    after: Option<EntryId>,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as!(
        Entry,
        r#"
        select id as "id: _", kind, reference, amount_tokens as amount, debit, credit, reason, created_at
        from ledger
        where account_id = $1 and ($2::text is null or kind = $2) and ($3::uuid is null or id < $3)
        order by id desc
        limit $4
        "#,
        account.0,
        kind.map(EntryKind::word),
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}
