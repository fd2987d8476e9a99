//! Who changed what: the audit log, which is only ever added to.
//!
//! An entry is written on the connection of the change itself, so that neither is there without the other. It holds the
//! fields that changed and never a secret; the database refuses to change or delete one. Deliberately absent: reads, logins,
//! jobs and dialogs, which have rows of their own.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};

use super::access::{Actor, Caller};
use crate::id::{AccountId, AuditId, KeyId, UserId};

/// Longest reason that someone gives for a change, in characters.
pub const REASON_LEN: usize = 1000;

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A person, in an account of theirs.
    User(UserId),
    /// A key, in its account.
    Key(KeyId),
    /// One of the platform's own people, or their key, by a permission over all accounts.
    Operator(Actor),
    /// Someone at the command line of a server.
    CommandLine,
    /// The platform by itself.
    Scheduler,
}

impl Who {
    /// Its word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Key(_) => "key",
            Self::Operator(_) => "operator",
            Self::CommandLine => "command_line",
            Self::Scheduler => "scheduler",
        }
    }

    /// The id of the person or key, where there is one.
    pub fn id(self) -> Option<String> {
        match self {
            Self::User(user) | Self::Operator(Actor::User { user, .. }) => Some(user.to_string()),
            Self::Key(key) | Self::Operator(Actor::Key(key)) => Some(key.to_string()),
            Self::CommandLine | Self::Scheduler => None,
        }
    }
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        match caller.actor {
            Actor::Key(key) => Self::Key(key),
            Actor::User { user, .. } => Self::User(user),
        }
    }
}

/// Who did something, and by which request.
#[derive(Debug, Clone)]
pub struct By {
    /// Who.
    pub who: Who,
    /// Their network address.
    pub ip: Option<IpAddr>,
    /// Name of the request in our logs and in the caller's.
    pub request_id: Option<String>,
}

impl By {
    /// Someone without a request.
    pub const fn hand(who: Who) -> Self {
        Self { who, ip: None, request_id: None }
    }

    /// The entry for what they did to `target`; add what changed with [`AuditEntry::changed`].
    pub fn did(
        &self,
        action: &'static str,
        account: Option<AccountId>,
        target: impl ToString,
        at: DateTime<Utc>,
    ) -> AuditEntry {
        AuditEntry {
            account,
            actor: self.who,
            action,
            target: target.to_string(),
            before: None,
            after: None,
            ip: self.ip.map(|ip| ip.to_string()),
            request_id: self.request_id.clone(),
            at,
        }
    }
}

/// An entry to be written.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Whose owner may read it; `None` for what concerns the platform alone.
    pub account: Option<AccountId>,
    /// Who did it.
    pub actor: Who,
    /// What, such as `api_key.created`.
    pub action: &'static str,
    /// Id of what was changed.
    pub target: String,
    /// The fields that changed, as they were.
    pub before: Option<Value>,
    /// The same fields as they are now.
    pub after: Option<Value>,
    /// From where.
    pub ip: Option<String>,
    /// By which request.
    pub request_id: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

impl AuditEntry {
    /// The same with the fields that changed. No secret, no password, no token.
    #[must_use]
    pub fn changed(self, before: Option<Value>, after: Option<Value>) -> Self {
        Self { before, after, ..self }
    }
}

/// Writes an entry, on the connection of the change it tells of.
///
/// # Errors
/// When the database fails.
pub async fn record<'e>(executor: impl PgExecutor<'e>, entry: &AuditEntry) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into audit_log (id, account_id, actor_kind, actor, action, target, before, after, ip, request_id, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        AuditId::new().0,
        entry.account.map(|account| account.0),
        entry.actor.word(),
        entry.actor.id(),
        entry.action,
        entry.target,
        entry.before,
        entry.after,
        entry.ip,
        entry.request_id,
        entry.at,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// An entry as it was written.
#[derive(Debug, Clone)]
pub struct Audited {
    /// Its id, later entries later.
    pub id: AuditId,
    /// Whose owner may read it.
    pub account: Option<AccountId>,
    /// What kind of actor: user, key, operator, command_line or scheduler.
    pub actor_kind: String,
    /// Id of the user or key.
    pub actor: Option<String>,
    /// What was done.
    pub action: String,
    /// Id of what was changed.
    pub target: String,
    /// The fields that changed, as they were; nothing once the account is erased.
    pub before: Option<Value>,
    /// The same fields afterwards.
    pub after: Option<Value>,
    /// From where.
    pub ip: Option<String>,
    /// By which request.
    pub request_id: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Which entries to list; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this account.
    pub account: Option<AccountId>,
    /// With this action.
    pub action: Option<String>,
    /// Done by the user or key with this id.
    pub actor: Option<String>,
    /// To the thing with this id.
    pub target: Option<String>,
    /// Not before this.
    pub from: Option<DateTime<Utc>>,
    /// Before this.
    pub to: Option<DateTime<Utc>>,
    /// Older than this entry.
    pub after: Option<AuditId>,
}

/// Up to `limit` entries, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &PgPool, filter: &AuditFilter, limit: i64) -> Result<Vec<Audited>, sqlx::Error> {
    sqlx::query_as!(
        Audited,
        r#"
        select id as "id: _", account_id as "account: _", actor_kind, actor, action, target, before, after, ip, request_id,
               created_at
        from audit_log
        where ($1::uuid is null or account_id = $1)
          and ($2::text is null or action = $2) and ($3::text is null or actor = $3) and ($4::text is null or target = $4)
          and ($5::timestamptz is null or created_at >= $5) and ($6::timestamptz is null or created_at < $6)
          and ($7::uuid is null or id < $7)
        order by id desc
        limit $8
        "#,
        filter.account.map(|account| account.0),
        filter.action,
        filter.actor,
        filter.target,
        filter.from,
        filter.to,
        filter.after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}
