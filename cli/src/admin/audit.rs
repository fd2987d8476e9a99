//! The audit log and the audit of the books at the command line.

use clap::{Subcommand, value_parser};
use serde_json::{Value, json};
use shared::{
    account::audit::{self, AuditFilter, Audited},
    billing::{self, Drift},
    id::{AccountId, AuditId},
};

use super::{
    Ctx,
    answer::{Answer, Table, first_of, minute, or_nothing},
    words::LIST_MAX,
};

/// Longest change that is told in a table, in characters; JSON tells all of it.
const CHANGE_LEN: usize = 100;

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List who changed what, newest first.
    List {
        /// Only in this account.
        #[arg(long, value_name = "ACC")]
        account: Option<AccountId>,
        /// Only this, such as api_key.revoked.
        #[arg(long)]
        action: Option<String>,
        /// Only done to the thing with this id.
        #[arg(long, value_name = "ID")]
        target: Option<String>,
        /// Only older than this entry: the last one listed before.
        #[arg(long, value_name = "AUD")]
        after: Option<AuditId>,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = value_parser!(i64).range(1..=LIST_MAX))]
        limit: i64,
    },
    /// Check that balances are what the ledger says and holds those of the open jobs; exit code 1 if not.
    Books,
}

/// Looks at what was asked.
///
/// # Errors
/// When the database fails.
pub async fn run(ctx: &Ctx, asked: Audit) -> anyhow::Result<Answer> {
    match asked {
        Audit::List { account, action, target, after, limit } => {
            let filter = AuditFilter { account, action, target, after, ..AuditFilter::default() };
            list(ctx, &filter, limit).await
        }
        Audit::Books => Ok(books(&billing::audit(&ctx.db).await?)),
    }
}

async fn list(ctx: &Ctx, filter: &AuditFilter, limit: i64) -> anyhow::Result<Answer> {
    let (entries, more) = first_of(audit::list(&ctx.db, filter, limit + 1).await?, limit);
    let mut table = Table::headed(&["when", "who", "action", "target", "account", "change"]);
    for entry in &entries {
        let who = match &entry.actor {
            Some(id) => format!("{} {id}", entry.actor_kind),
            None => entry.actor_kind.clone(),
        };
        table.row(&[
            minute(entry.created_at),
            who,
            entry.action.clone(),
            entry.target.clone(),
            or_nothing(entry.account),
            change(entry),
        ]);
    }
    let next = entries.last().filter(|_| more).map(|last| format!("--after {}", last.id));
    Ok(Answer::page(entries.iter().map(json_of).collect(), &table, next.as_deref()))
}

/// What became of which fields, as `name: "ci" → "ci 2"`.
fn change(entry: &Audited) -> String {
    let fields = |side: &Option<Value>| side.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, after) = (fields(&entry.before), fields(&entry.after));
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    let gone = gone.map(|(name, old)| format!("{name}: {old} →"));
    let now = after.iter().filter(|(name, new)| before.get(*name) != Some(new));
    let now = now.map(|(name, new)| match before.get(name) {
        Some(old) => format!("{name}: {old} → {new}"),
        None => format!("{name}: {new}"),
    });
    let told = gone.chain(now).collect::<Vec<_>>().join(", ");
    if told.chars().count() <= CHANGE_LEN {
        return told;
    }
    told.chars().take(CHANGE_LEN - 1).chain(['…']).collect()
}

fn json_of(entry: &Audited) -> Value {
    json!({
        "id": entry.id, "object": "audit_entry", "account": entry.account,
        "actor": { "kind": entry.actor_kind, "id": entry.actor },
        "action": entry.action, "target": entry.target, "before": entry.before, "after": entry.after,
        "ip": entry.ip, "request_id": entry.request_id, "created_at": entry.created_at,
    })
}

fn books(drifted: &[Drift]) -> Answer {
    let json = json!({
        "object": "books", "right": drifted.is_empty(), "drifted": drifted.iter().map(json_of_drift).collect::<Vec<_>>(),
    });
    if drifted.is_empty() {
        return Answer::new(json, "balances and holds agree with the book");
    }
    let mut table = Table::headed(&[
        "account",
        "available",
        "by ledger",
        "held",
        "by ledger",
        "by jobs",
        "owed",
        "by ledger",
        "expiring",
        "lots",
    ]);
    for drift in drifted {
        let right = drift.are_lots_right && drift.jobs_with_more_lots_than_hold == 0;
        table.row(&[
            drift.account.to_string(),
            drift.available.to_string(),
            drift.available_by_ledger.to_string(),
            drift.held.to_string(),
            drift.held_by_ledger.to_string(),
            drift.held_by_jobs.to_string(),
            drift.owed.to_string(),
            drift.owed_by_ledger.to_string(),
            drift.expiring.to_string(),
            if right { "right".into() } else { "wrong".into() },
        ]);
    }
    Answer::new(json, format!("{table}\nsee docs/RUNBOOK.md, money drift")).unwell()
}

fn json_of_drift(drift: &Drift) -> Value {
    json!({
        "account": drift.account, "available": drift.available, "available_by_ledger": drift.available_by_ledger,
        "held": drift.held, "held_by_ledger": drift.held_by_ledger, "held_by_jobs": drift.held_by_jobs,
        "owed": drift.owed, "owed_by_ledger": drift.owed_by_ledger, "expiring": drift.expiring,
        "are_lots_right": drift.are_lots_right, "jobs_with_more_lots_than_hold": drift.jobs_with_more_lots_than_hold,
    })
}
