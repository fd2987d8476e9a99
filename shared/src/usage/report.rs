//! What an account used, by model, day, key or person.

use rust_decimal::Decimal;
use sqlx::PgPool;
use std::ops::AddAssign;
use uuid::Uuid;

use super::{Span, rolled_until};
use crate::id::{AccountId, KeyId, UserId};

/// What a report of usage is broken down by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// The models.
    Model,
    /// The days.
    Day,
    /// The API keys that submitted.
    Key,
    /// The people who submitted without a key.
    User,
}

impl GroupBy {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Model, Self::Day, Self::Key, Self::User];

    /// Its word in queries.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Day => "day",
            Self::Key => "key",
            Self::User => "user",
        }
    }
}

/// Whose quantities a line of a report shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// A model's or a day's.
    Word(String),
    /// A key's.
    Key {
        /// Its id.
        id: KeyId,
        /// As its owner called it.
        name: Option<String>,
        /// What it begins with.
        prefix: Option<String>,
    },
    /// A person's.
    User {
        /// Their id.
        id: UserId,
        /// As people call them; none once erased.
        name: Option<String>,
    },
    /// No key's, or nobody's.
    None,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantities {
    /// Jobs that ended.
    pub jobs: i64,
    /// Of these, those with a result.
    pub succeeded: i64,
    /// Of these, those answered from the cache, free.
    pub cached: i64,
    /// Tokens charged.
    pub charged: i64,
    /// Tokens of language models' own, read.
    pub prompt_tokens: i64,
    /// Tokens of language models' own, written.
    pub completion_tokens: i64,
    /// Pictures made.
    pub images: i64,
    /// Of video and sound, made or heard.
    pub seconds: Decimal,
    /// Spoken.
    pub characters: i64,
}

impl AddAssign for Quantities {
    fn add_assign(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.succeeded += other.succeeded;
        self.cached += other.cached;
        self.charged += other.charged;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.images += other.images;
        self.seconds += other.seconds;
        self.characters += other.characters;
    }
}

/// What `account` used on the days of `span`, of one `model` if given: days in order, anything else by what was charged.
///
/// # Errors
/// When the database fails.
pub async fn report(
    db: &PgPool,
    account: AccountId,
    by: GroupBy,
    span: Span,
    model: Option<&str>,
) -> Result<Vec<(Group, Quantities)>, sqlx::Error> {
    let rolled = rolled_until(db).await?;
    let (live_from, live_to) = span.live(rolled);
    let rows = sqlx::query_file!(
        "src/usage/report.sql",
        account.0,
        by.word(),
        span.from(),
        span.to(),
        rolled,
        live_from,
        live_to,
        model,
    )
    .fetch_all(db)
    .await?;
    let lines = rows.into_iter().map(|row| {
        let id = row.id.unwrap_or(Uuid::nil());
        let group = match by {
            GroupBy::Model | GroupBy::Day => row.word.map_or(Group::None, Group::Word),
            _ if row.id.is_none() => Group::None,
            GroupBy::Key => Group::Key { id: KeyId(id), name: row.key_name, prefix: row.key_prefix },
            GroupBy::User => Group::User { id: UserId(id), name: row.user_name },
        };
        let quantities = Quantities {
            jobs: row.jobs,
            succeeded: row.succeeded,
            cached: row.cached,
            charged: row.charged,
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            images: row.images,
            seconds: row.seconds,
            characters: row.characters,
        };
        (group, quantities)
    });
    Ok(lines.collect())
}
