//! The audit log: every change with its author, for the owner to read and for nobody to alter.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use shared::account::KeyRole;

use crate::support::{Account, TestApp, execute, scalar};

async fn entries(who: &Account, path: &str) -> Vec<Value> {
    let answer = who.get(path).await;
    answer.json["data"].as_array().unwrap_or_else(|| panic!("{path}: {}", answer.json)).clone()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().expect("an action")).collect()
}

#[tokio::test]
async fn a_key_s_life_is_written_down() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let owner = app.scoped_key(alice.id, &["audit:read"]).await;
    let headers = [("x-forwarded-for", "1.2.3.4"), ("x-request-id", "mine-1")];
    let body = json!({ "name": "ci", "scopes": ["jobs:read"] });
    let made = alice.send(Method::POST, "/v1/api-keys", &headers, Some(&body)).await.json;
    let id = made["id"].as_str().expect("an id");
    let path = format!("/v1/api-keys/{id}");
    app.clock.advance(TimeDelta::hours(1));
    let change = json!({ "name": "ci 2", "limits": { "day": 5 } });
    alice.send(Method::PATCH, &path, &[], Some(&change)).await;
    alice.send(Method::PATCH, &path, &[], Some(&change)).await;
    alice.post(&format!("{path}/rotate"), json!({})).await;
    alice.send(Method::DELETE, &path, &[], None).await;
    alice.send(Method::DELETE, &path, &[], None).await;

    let log = entries(&owner, "/v1/account/audit-log").await;
    let expected = ["api_key.revoked", "api_key.rotated", "api_key.changed", "api_key.created"];
    assert_eq!(actions(&log), expected, "newest first; what changes nothing is no change");
    let created = &log[3];
    assert_eq!((created["ip"].as_str(), created["request_id"].as_str()), (Some("1.2.3.4"), Some("mine-1")));
    assert_eq!(created["actor"]["kind"], "key");
    assert!(created["actor"]["id"].as_str().expect("an id").starts_with("key_"));
    assert_eq!(created["target"], id);
    assert_eq!(created["before"], Value::Null);
    assert_eq!(created["after"]["scopes"], json!(["jobs:read"]));
    assert_eq!(
        log[2]["before"],
        json!({ "name": "ci", "limits": { "day": null, "month": null, "total": null } })
    );
    assert_eq!(
        log[2]["after"],
        json!({ "name": "ci 2", "limits": { "day": 5, "month": null, "total": null } })
    );

    let count = async |query: &str| entries(&owner, &format!("/v1/account/audit-log?{query}")).await.len();
    let actor = created["actor"]["id"].as_str().expect("an id");
    let moment = (app.now() - TimeDelta::minutes(30)).format("%Y-%m-%dT%H:%M:%SZ");
    assert_eq!(count("action=api_key.created").await, 1);
    assert_eq!(count("action=api_key").await, 0);
    assert_eq!(count(&format!("actor={actor}")).await, 4);
    assert_eq!(count(&format!("target={id}")).await, 4);
    assert_eq!(count("target=key_0").await, 0);
    assert_eq!(count(&format!("created_after={moment}")).await, 3);
    assert_eq!(count(&format!("created_before={moment}")).await, 1);
    assert_eq!(count("limit=3").await, 3);
    let third = log[2]["id"].as_str().expect("an id");
    assert_eq!(count(&format!("after={third}")).await, 1);
    for wrong in ["limit=0", "after=aud_1", "colour=red", "created_after=noon", "account=acc_1"] {
        assert_eq!(owner.get(&format!("/v1/account/audit-log?{wrong}")).await.error().0, 400, "{wrong}");
    }
    assert_eq!(alice.get("/v1/account/audit-log").await.error().0, 403, "only for owners");
    let bob = app.account(0).await;
    let other = app.scoped_key(bob.id, &["audit:read"]).await;
    assert_eq!(entries(&other, "/v1/account/audit-log").await.len(), 0);
    app.finish().await;
}

#[tokio::test]
async fn what_an_operator_does_is_told_without_telling_who_it_was() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let owner = app.scoped_key(alice.id, &["audit:read"]).await;
    let operators = app.account(0).await;
    let operator = app.key(operators.id, KeyRole::Operator).await;
    let gift = json!({ "account": alice.id, "amount": 500, "reason": "for patience" });
    assert_eq!(operator.post("/v1/billing/balance", gift).await.status, 200);
    let log = entries(&owner, "/v1/account/audit-log").await;
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0]["actor"], json!({ "kind": "operator", "id": null }));
    assert_eq!(log[0]["ip"], Value::Null);
    assert!(log[0].to_string().contains("for patience"), "{}", log[0]);
    let all = entries(&operator, &format!("/v1/admin/audit-log?account={}", alice.id)).await;
    assert_eq!(all.len(), 1);
    assert!(all[0]["actor"]["id"].as_str().expect("an id").starts_with("key_"));
    assert_eq!(all[0]["ip"], "127.0.0.1");
    assert_eq!(entries(&operator, &format!("/v1/admin/audit-log?account={}", operators.id)).await.len(), 0);
    assert_eq!(owner.get("/v1/admin/audit-log").await.error().0, 403);
    app.finish().await;
}

#[tokio::test]
async fn nothing_that_was_written_down_is_changed_or_deleted() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let body = json!({ "name": "x" });
    alice.post("/v1/api-keys", body).await;
    for sql in [
        "update audit_log set action = 'other'",
        "update audit_log set after = '{}'",
        "update audit_log set actor = null, before = null, after = null, ip = null",
        "delete from audit_log",
        "truncate audit_log",
    ] {
        let refused = execute(&app.db, sql).await.expect_err(sql);
        assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
    }
    let erased = execute(&app.db, "update audit_log set before = null, after = null, ip = null").await;
    assert_eq!(erased.expect("what is personal may be emptied"), 1);
    assert_eq!(scalar::<i64>(&app.db, "select count(*) from audit_log").await, 1);
    app.finish().await;
}
