//! The invariants of the house, checked at the end of every test.
//!
//! Each is a query for its breaches; a test fails with the name of the invariant and the first job that breaks it.

use serde_json::Value;
use shared::{billing, storage::Storage};
use sqlx::PgPool;

use super::{Simulator, scalar};

/// Name of the invariant, and a query that finds what breaks it, as text.
const BREACHES: [(&str, &str); 12] = [
    ("a test ends with no open job", "select id::text from jobs where status = 'open'"),
    (
        "a job is charged exactly once if it succeeded, never otherwise",
        "select j.id::text from jobs j left join ledger l on l.kind = 'charge' and l.reference = j.id::text
         where (j.status <> 'succeeded' and l.id is not null)
            or coalesce(l.amount_tokens, 0) <> coalesce(j.charged_tokens, 0)",
    ),
    (
        "every hold is closed exactly once",
        "select j.id::text from jobs j where j.status <> 'open' and j.held_tokens <>
             (select coalesce(sum(amount_tokens), 0) from ledger where reference = j.id::text and kind in ('charge', 'release'))",
    ),
    (
        "every job has one hold of its price",
        "select j.id::text from jobs j where j.held_tokens <>
             (select coalesce(sum(amount_tokens), 0) from ledger where reference = j.id::text and kind = 'hold')",
    ),
    (
        "an unfinished job has exactly one queue row, a finished one none",
        "select coalesce(j.id, q.job_id)::text from jobs j full join queue q on q.job_id = j.id
         where (j.status = 'open') is distinct from (q.job_id is not null)",
    ),
    (
        "attempts are counted without a gap",
        "select j.id::text from jobs j where j.status <> 'open'
           and (j.attempts <> (select count(*) from attempts a where a.job_id = j.id)
             or j.attempts <> (select coalesce(max(attempt), 0) from attempts a where a.job_id = j.id))",
    ),
    (
        "no attempt of a final job is left open",
        "select a.job_id::text from attempts a join jobs j on j.id = a.job_id where j.status <> 'open' and a.outcome is null",
    ),
    (
        "every attempt that ended says what it cost",
        "select job_id::text from attempts where (outcome is not null) <> (cost_usd is not null) or cost_usd < 0",
    ),
    (
        "what a job holds of expiring grants is part of its hold",
        "select id::text from jobs where lots_total(held_lots) > held_tokens",
    ),
    (
        "every final job produced exactly one notice per subscribed channel",
        "select j.id::text from jobs j where j.status <> 'open' and
             (j.webhook_url is not null and (j.webhook_events = '{}' or 'job.' || j.status = any (j.webhook_events)))::int <>
             (select count(*) from notices n where n.job_id = j.id)",
    ),
    (
        "files that are kept belong to jobs that succeeded",
        "select f.job_id::text from files f join jobs j on j.id = f.job_id
         where j.status <> 'succeeded' and f.expires_at > f.created_at",
    ),
    (
        "a queue row without a worker holds no lease",
        "select job_id::text from queue where lease_token is not null",
    ),
];

pub async fn check(db: &PgPool, simulator: &Simulator, storage: &Storage) {
    for (invariant, breach) in BREACHES {
        let found: Option<String> = scalar(db, &format!("select ({breach} limit 1)")).await;
        assert_eq!(found, None, "{invariant}");
    }
    let drifted = billing::audit(db).await.expect("audit");
    assert!(drifted.is_empty(), "balances are the fold of the ledger: {drifted:?}");
    let strays = billing::strays(db).await.expect("look for strays");
    assert!(strays.is_empty(), "every row refers to one that exists: {strays:?}");
    check_submits(db, simulator).await;
    check_storage(db, storage).await;
    let unused = simulator.unused().await;
    assert!(unused.is_empty(), "every fault that was ordered has struck: {unused:?}");
}

/// At most one paid submit for each attempt, as the vendors counted them.
async fn check_submits(db: &PgPool, simulator: &Simulator) {
    let submits = simulator.submits("").await;
    let accepted = submits["accepted"].as_i64().expect("a count");
    let attempts: i64 = scalar(db, "select count(*) from attempts").await;
    assert!(accepted <= attempts, "{accepted} paid submits in {attempts} attempts: {submits}");
    let data = submits["data"].as_array().cloned().unwrap_or_default();
    let mut refs: Vec<_> = data
        .iter()
        .filter(|submit| submit["accepted"] == Value::Bool(true))
        .filter_map(|submit| submit["client_ref"].as_str())
        .collect();
    let all = refs.len();
    refs.sort_unstable();
    refs.dedup();
    assert_eq!(refs.len(), all, "no attempt is paid twice: {submits}");
}

/// No file is readable without a signed URL.
async fn check_storage(db: &PgPool, storage: &Storage) {
    let key: Option<String> = scalar(db, "select (select storage_key from files limit 1)").await;
    if let Some(key) = key {
        let signed = storage.signed_url(&key).await.expect("sign");
        let bare = signed.split('?').next().expect("a path");
        let answer = reqwest::get(bare).await.expect("ask the storage");
        assert_eq!(answer.status().as_u16(), 403, "a file is not readable without a signed URL");
    }
}
