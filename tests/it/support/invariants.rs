//! The invariants of the house, checked at the end of every test.
//!
//! Most are queries of `breaches.rs`; a test fails with the name of the invariant and the first job that breaks it.

use serde_json::Value;
use shared::{billing, storage::Storage};
use sqlx::PgPool;

use super::{Simulator, breaches::BREACHES, scalar};

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
    let attempts: i64 = scalar(db, "select count(*) from attempts").await;
    let data = submits["data"].as_array().cloned().unwrap_or_default();
    // What is asked for is judged before there is an attempt, and nobody bills that.
    let is_paid = |submit: &&Value| submit["accepted"] == true && submit["call"] != "moderations";
    let paid: Vec<_> = data.iter().filter(is_paid).collect();
    let count = i64::try_from(paid.len()).expect("a count");
    assert!(count <= attempts, "{count} paid submits in {attempts} attempts: {submits}");
    let mut refs: Vec<_> = paid.into_iter().filter_map(|submit| submit["client_ref"].as_str()).collect();
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
