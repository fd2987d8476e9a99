//! API keys: made with less than their maker has, shown once, limited, rotated, ended.

use std::time::Duration;

use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Account, Answer, TestApp, scalar};

impl Account {
    /// The same account, speaking with another secret.
    pub fn with(&self, secret: &str) -> Self {
        Self { key: secret.to_owned(), ..self.clone() }
    }

    /// Makes a key, and speaks with it.
    pub async fn make_key(&self, body: Value) -> (String, Self) {
        let made = self.post("/v1/api-keys", body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.json);
        (text(&made.json["id"]), self.with(&text(&made.json["secret"])))
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, &[], Some(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[tokio::test]
async fn a_secret_is_shown_once_and_kept_nowhere() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let made = alice.post("/v1/api-keys", json!({ "name": " build server " })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let (id, secret) = (text(&made.json["id"]), text(&made.json["secret"]));
    assert!(secret.starts_with("kiln_") && secret.len() == 48, "{secret}");
    assert_eq!(made.json["name"], "build server");
    assert_eq!(made.json["prefix"], secret[..13]);
    let scopes: Vec<_> = made.json["scopes"].as_array().expect("scopes").iter().map(text).collect();
    assert!(
        scopes.contains(&"jobs:write".into()) && !scopes.contains(&"api_keys:write".into()),
        "{scopes:?}"
    );
    let path = format!("/v1/api-keys/{id}");
    for answer in [
        alice.get(&path).await,
        alice.get("/v1/api-keys").await,
        alice.patch(&path, json!({ "name": "ci" })).await,
        alice.delete(&path).await,
    ] {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        assert!(!answer.json.to_string().contains(&secret[13..]), "{}", answer.json);
        assert!(answer.json.get("secret").is_none());
    }
    for table in ["api_keys", "audit_log"] {
        let sql = format!("select count(*) from {table} where {table}::text like '%{}%'", &secret[13..]);
        assert_eq!(scalar::<i64>(&app.db, &sql).await, 0, "{table} holds no secret");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_no_more() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let (_, reader) = alice.make_key(json!({ "name": "reader", "scopes": ["jobs:read"] })).await;
    assert_eq!(reader.get("/v1/jobs").await.status, StatusCode::OK);
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" } });
    let refused = reader.post("/v1/jobs", body.clone()).await;
    assert_eq!(refused.error(), (403, "forbidden", "none"));
    assert!(text(&refused.json["error"]["message"]).contains("jobs:write"), "{}", refused.json);
    assert_eq!(reader.get("/v1/billing/balance").await.error().0, 403);
    assert_eq!(reader.get("/v1/api-keys").await.error().0, 403);
    let (id, writer) = alice.make_key(json!({ "name": "writer", "scopes": ["jobs:write"] })).await;
    assert_eq!(writer.post("/v1/jobs", body.clone()).await.status, StatusCode::ACCEPTED);
    assert_eq!(writer.get("/v1/jobs").await.error().0, 403);
    alice.patch(&format!("/v1/api-keys/{id}"), json!({ "scopes": ["jobs:read"] })).await;
    assert_eq!(writer.get("/v1/jobs").await.status, StatusCode::OK, "a change counts at once");
    assert_eq!(writer.post("/v1/jobs", body).await.error().0, 403);
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_key_without_scopes_does_nothing_and_none_is_made() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let maker = app.scoped_key(alice.id, &["api_keys:write"]).await;
    for body in [json!({ "name": "x" }), json!({ "name": "x", "scopes": [] })] {
        let answer = maker.post("/v1/api-keys", body).await;
        assert_eq!(answer.error(), (400, "invalid_scopes", "scopes"), "{}", answer.json);
    }
    let (id, child) = maker.make_key(json!({ "name": "x", "scopes": ["api_keys:write"] })).await;
    assert_eq!(child.get("/v1/jobs").await.error().0, 403);
    let emptied = alice.patch(&format!("/v1/api-keys/{id}"), json!({ "scopes": [] })).await;
    assert_eq!(emptied.error(), (400, "invalid_scopes", "scopes"));
    let empty = app.scoped_key(alice.id, &[]).await;
    for path in ["/v1/jobs", "/v1/account", "/v1/api-keys", "/v1/billing/balance"] {
        assert_eq!(empty.get(path).await.error().0, 403, "{path}");
        assert_eq!(
            alice.get(path).await.status,
            StatusCode::OK,
            "a key from before there were scopes: {path}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn a_key_ends_at_its_time() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let end = app.now() + TimeDelta::hours(1);
    let (id, key) = alice.make_key(json!({ "name": "short", "expires_at": end })).await;
    assert_eq!(key.get("/v1/models").await.status, StatusCode::OK);
    app.clock.advance_to(end - TimeDelta::milliseconds(1));
    assert_eq!(key.get("/v1/models").await.status, StatusCode::OK);
    app.clock.advance_to(end);
    assert_eq!(key.get("/v1/models").await.error(), (401, "key_expired", "none"));
    let guess = key.with(&format!("{}x", &key.key[..key.key.len() - 1]));
    assert_eq!(
        guess.get("/v1/models").await.error().1,
        "invalid_api_key",
        "only its holder learns that it ended"
    );
    alice.patch(&format!("/v1/api-keys/{id}"), json!({ "expires_at": null })).await;
    assert_eq!(key.get("/v1/models").await.status, StatusCode::OK);
    app.finish().await;
}

#[tokio::test]
async fn a_key_uses_only_the_models_it_is_allowed() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let (id, school) = alice.make_key(json!({ "name": "school", "allowed_models": ["gpt-4o"] })).await;
    let submit = async |model: &str| {
        school.post("/v1/jobs", json!({ "model": model, "input": { "prompt": "x" } })).await
    };
    assert_eq!(submit("gpt-4o").await.status, StatusCode::ACCEPTED);
    assert_eq!(submit("kling").await.error(), (403, "model_not_allowed", "model"));
    assert_eq!(submit("gpt-9").await.error(), (404, "model_not_found", "model"));
    let listed = school.get("/v1/models").await.json;
    let ids: Vec<_> =
        listed["data"].as_array().expect("models").iter().map(|model| text(&model["id"])).collect();
    assert_eq!(ids, ["gpt-4o"]);
    assert_eq!(school.get("/v1/models/gpt-4o").await.status, StatusCode::OK);
    assert_eq!(school.get("/v1/models/kling").await.error(), (404, "model_not_found", "model"));
    let quote = school.post("/v1/jobs/quote", json!({ "model": "kling", "input": { "prompt": "x" } })).await;
    assert_eq!(quote.error(), (403, "model_not_allowed", "model"));
    alice.patch(&format!("/v1/api-keys/{id}"), json!({ "allowed_models": null })).await;
    assert_eq!(submit("nano-banana").await.status, StatusCode::ACCEPTED);
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_used_only_from_the_networks_it_is_allowed() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let networks = json!(["10.1.2.3/8", "1.2.3.4", "2001:db8::/32"]);
    let (id, office) = alice.make_key(json!({ "name": "office", "allowed_ips": networks })).await;
    let from = async |address: &str| {
        office.send(Method::GET, "/v1/models", &[("x-forwarded-for", address)], None).await
    };
    for address in ["10.255.0.1", "1.2.3.4", "2001:db8:1::5", "::ffff:1.2.3.4", "8.8.8.8, 10.0.0.1"] {
        assert_eq!(from(address).await.status, StatusCode::OK, "{address}");
    }
    for address in ["11.0.0.1", "1.2.3.5", "2001:db9::1", "10.0.0.1, 8.8.8.8"] {
        assert_eq!(from(address).await.error(), (403, "ip_not_allowed", "none"), "{address}");
    }
    assert_eq!(
        office.get("/v1/models").await.error().0,
        403,
        "what comes through no proxy comes from loopback"
    );
    let shown = alice.get(&format!("/v1/api-keys/{id}")).await.json;
    assert_eq!(shown["allowed_ips"], json!(["10.0.0.0/8", "1.2.3.4", "2001:db8::/32"]));
    app.finish().await;
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_until_its_grace_ends() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let (id, first) = alice.make_key(json!({ "name": "app" })).await;
    let rotate = async |grace: Value| {
        let answer = alice.post(&format!("/v1/api-keys/{id}/rotate"), grace).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        (alice.with(&text(&answer.json["secret"])), answer.json)
    };
    let works = async |key: &Account| key.get("/v1/models").await.status == StatusCode::OK;
    let (second, shown) = rotate(json!({ "grace_seconds": 3600 })).await;
    assert_eq!(shown["id"], id);
    assert_eq!(shown["prefix"], second.key[..13]);
    assert!(shown["previous_secret_until"].is_string(), "{shown}");
    assert!(works(&first).await && works(&second).await);
    app.clock.advance(TimeDelta::seconds(3599));
    assert!(works(&first).await);
    app.clock.advance(TimeDelta::seconds(1));
    assert!(!works(&first).await && works(&second).await);
    assert_eq!(alice.get(&format!("/v1/api-keys/{id}")).await.json["previous_secret_until"], Value::Null);

    let (third, _) = rotate(json!({})).await;
    let (fourth, _) = rotate(json!({})).await;
    assert!(!works(&second).await, "only one old secret works at a time");
    assert!(works(&third).await && works(&fourth).await);
    app.clock.advance(TimeDelta::hours(24));
    assert!(!works(&third).await, "a day by default");
    let (fifth, shown) = rotate(json!({ "grace_seconds": 0 })).await;
    assert_eq!(shown["previous_secret_until"], Value::Null);
    assert!(!works(&fourth).await && works(&fifth).await);
    app.finish().await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_with_both_its_secrets() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let (id, old) = alice.make_key(json!({ "name": "leaked" })).await;
    let path = format!("/v1/api-keys/{id}");
    let new = alice.post(&format!("{path}/rotate"), json!({})).await.json;
    let new = alice.with(&text(&new["secret"]));
    let revoked = alice.delete(&path).await;
    assert_eq!(revoked.status, StatusCode::OK);
    assert!(revoked.json["revoked_at"].is_string());
    for key in [old, new] {
        assert_eq!(key.get("/v1/models").await.error(), (401, "invalid_api_key", "none"));
    }
    assert_eq!(
        alice.delete(&path).await.json["revoked_at"],
        revoked.json["revoked_at"],
        "once more changes nothing"
    );
    assert_eq!(alice.get(&path).await.status, StatusCode::OK, "what was done with it can still be looked up");
    assert_eq!(alice.patch(&path, json!({ "name": "x" })).await.error().0, 409);
    assert_eq!(alice.post(&format!("{path}/rotate"), json!({})).await.error().0, 409);
    let listed = alice.get("/v1/api-keys").await.json;
    assert!(!listed.to_string().contains(&id), "{listed}");
    let bob = app.account(0).await;
    assert_eq!(bob.get(&path).await.error(), (404, "api_key_not_found", "id"));
    assert_eq!(bob.delete(&path).await.error().0, 404);
    app.finish().await;
}

#[tokio::test]
async fn a_key_tells_to_the_minute_when_it_was_used_and_no_request_waits_for_that() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let (id, key) = alice.make_key(json!({ "name": "busy" })).await;
    let uuid = id.replace("key_", "");
    let version = async || {
        scalar::<String>(&app.db, &format!("select xmin::text from api_keys where id = '{uuid}'")).await
    };
    let used = async || alice.get(&format!("/v1/api-keys/{id}")).await.json["last_used_at"].clone();
    assert_eq!(used().await, Value::Null);
    let began = app.now();
    key.get("/v1/models").await;
    let (first, touched) = (used().await, version().await);
    assert_eq!(first.as_str().expect("a time")[..19], began.to_rfc3339()[..19]);
    for _ in 0..50 {
        key.get("/v1/models").await;
        app.clock.advance(TimeDelta::seconds(1));
    }
    assert_eq!(
        (used().await, version().await),
        (first.clone(), touched),
        "nothing is written within the minute"
    );
    app.clock.advance(TimeDelta::seconds(10));
    let mut busy = app.db.begin().await.expect("begin");
    let _: i32 = {
        let sql = format!("select 1 from api_keys where id = '{uuid}' for update");
        scalar(&mut *busy, &sql).await
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), key.get("/v1/models")).await;
    assert_eq!(answer.expect("no wait for the lock").status, StatusCode::OK);
    busy.rollback().await.expect("roll back");
    assert_eq!(used().await, first);
    key.get("/v1/models").await;
    assert_ne!(used().await, first);
    app.finish().await;
}

#[tokio::test]
async fn limits_are_managed_and_shown_with_what_was_spent() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let body = json!({ "name": "metered", "limits": { "day": 5000, "month": null, "total": 1_000_000 } });
    let (id, key) = alice.make_key(body).await;
    let path = format!("/v1/api-keys/{id}");
    let shown = alice.get(&path).await.json;
    assert_eq!(shown["limits"], json!({ "day": 5000, "month": null, "total": 1_000_000 }));
    assert_eq!(shown["spent"], json!({ "day": 0, "month": 0, "total": 0 }));
    key.submit("gpt-4o", json!({ "prompt": "x" })).await;
    app.drain().await;
    assert_eq!(alice.get(&path).await.json["spent"], json!({ "day": 1000, "month": 1000, "total": 1000 }));
    app.clock.advance(TimeDelta::days(1));
    assert_eq!(alice.get(&path).await.json["spent"]["day"], 0);
    let shown = alice.patch(&path, json!({ "limits": { "day": null, "month": 7 } })).await.json;
    assert_eq!(shown["limits"], json!({ "day": null, "month": 7, "total": 1_000_000 }));
    let shown = alice.patch(&path, json!({ "limits": null })).await.json;
    assert_eq!(shown["limits"], json!({ "day": null, "month": null, "total": null }));
    assert_eq!(shown["spent"], Value::Null);
    app.finish().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_told_by_its_field() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let past = app.now() - TimeDelta::seconds(1);
    let (id, _) = alice.make_key(json!({ "name": "x" })).await;
    for (body, code, param) in [
        (json!({ "name": "" }), "invalid_text", "name"),
        (json!({ "name": "  " }), "invalid_text", "name"),
        (json!({ "name": "x".repeat(101) }), "invalid_text", "name"),
        (json!({ "name": 7 }), "invalid_type", "name"),
        (json!({ "name": "x", "colour": "red" }), "unknown_field", "colour"),
        (json!({ "name": "x", "scopes": [] }), "invalid_scopes", "scopes"),
        (json!({ "name": "x", "scopes": ["jobs:steal"] }), "invalid_type", "scopes[0]"),
        (json!({ "name": "x", "scopes": "jobs:read" }), "invalid_type", "scopes"),
        (json!({ "name": "x", "expires_at": past }), "invalid_expires_at", "expires_at"),
        (json!({ "name": "x", "expires_at": "+12000-01-01T00:00:00Z" }), "invalid_expires_at", "expires_at"),
        (json!({ "name": "x", "expires_at": "soon" }), "invalid_type", "expires_at"),
        (json!({ "name": "x", "allowed_models": [] }), "invalid_list", "allowed_models"),
        (json!({ "name": "x", "allowed_models": ["gpt-9"] }), "model_not_found", "allowed_models"),
        (json!({ "name": "x", "allowed_ips": [] }), "invalid_list", "allowed_ips"),
        (json!({ "name": "x", "allowed_ips": ["10.0.0.0/33"] }), "invalid_type", "allowed_ips[0]"),
        (json!({ "name": "x", "allowed_ips": ["home"] }), "invalid_type", "allowed_ips[0]"),
        (json!({ "name": "x", "allowed_ips": vec!["1.2.3.4"; 101] }), "invalid_list", "allowed_ips"),
        (json!({ "name": "x", "limits": { "day": -1 } }), "invalid_limit", "limits.day"),
        (json!({ "name": "x", "limits": { "month": 1.5 } }), "invalid_type", "limits.month"),
        (json!({ "name": "x", "limits": { "year": 1 } }), "unknown_field", "limits.year"),
        (
            json!({ "name": "x", "limits": { "total": 10_000_000_000_000_000_000_u64 } }),
            "invalid_type",
            "limits.total",
        ),
    ] {
        let path = format!("/v1/api-keys/{id}");
        for answer in [alice.post("/v1/api-keys", body.clone()).await, alice.patch(&path, body.clone()).await]
        {
            assert_eq!(answer.error(), (400, code, param), "{body} → {}", answer.json);
        }
    }
    assert_eq!(alice.post("/v1/api-keys", json!({})).await.error(), (400, "missing_field", "name"));
    for (grace, code) in
        [(json!(604_801), "invalid_grace"), (json!(-1), "invalid_type"), (json!("day"), "invalid_type")]
    {
        let body = json!({ "grace_seconds": grace });
        let answer = alice.post(&format!("/v1/api-keys/{id}/rotate"), body).await;
        assert_eq!(answer.error(), (400, code, "grace_seconds"), "{}", answer.json);
    }
    for path in ["/v1/api-keys?limit=0", "/v1/api-keys?after=key_1", "/v1/api-keys?colour=red"] {
        assert_eq!(alice.get(path).await.error().0, 400, "{path}");
    }
    assert_eq!(alice.get("/v1/api-keys/key_1").await.error().0, 404);
    app.finish().await;
}

#[tokio::test]
async fn keys_come_in_pages() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    for n in 0..5 {
        alice.make_key(json!({ "name": n.to_string() })).await;
    }
    let mut names = Vec::new();
    let mut path = "/v1/api-keys?limit=2".to_owned();
    loop {
        let page = alice.get(&path).await.json;
        names.extend(page["data"].as_array().expect("keys").iter().map(|key| text(&key["name"])));
        if page["has_more"] == false {
            break;
        }
        path = format!("/v1/api-keys?limit=2&after={}", text(&page["last_id"]));
    }
    assert_eq!(names, ["4", "3", "2", "1", "0", "test"]);
    app.finish().await;
}
