//! Nobody grants what they do not have: not with a new key, not by changing one, not by rotating one.

use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::account::{KeyRole, Permission, Permissions, Role};

use crate::{
    keys::text,
    support::{Account, TestApp, scalar},
};

#[tokio::test]
async fn no_key_grants_more_than_it_has() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let owner =
        app.scoped_key(alice.id, &["api_keys:write", "api_keys:read", "jobs:read", "audit:read"]).await;
    let refused = async |by: &Account, method: Method, path: &str, body: Value, param: &str| {
        let answer = by.send(method, path, &[], Some(&body)).await;
        assert_eq!(answer.error(), (403, "beyond_permissions", param), "{path} {body} → {}", answer.json);
    };
    let make = |extra: Value| {
        let mut body = json!({ "name": "x", "scopes": ["jobs:read"] });
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        body
    };
    refused(&owner, Method::POST, "/v1/api-keys", make(json!({ "scopes": ["jobs:write"] })), "scopes").await;
    refused(&alice, Method::POST, "/v1/api-keys", make(json!({ "scopes": ["audit:read"] })), "scopes").await;
    let operators = make(json!({ "scopes": ["admin.tokens:write"] }));
    refused(&alice, Method::POST, "/v1/api-keys", operators, "scopes").await;

    // Each of these makes keys, and is limited in one way.
    let scopes = json!(["api_keys:write", "api_keys:read", "jobs:read"]);
    let end = app.now() + TimeDelta::days(1);
    for (limited, wider, param) in [
        (json!({ "allowed_models": ["gpt-4o"] }), json!({}), "allowed_models"),
        (json!({ "allowed_models": ["gpt-4o"] }), json!({ "allowed_models": ["kling"] }), "allowed_models"),
        (json!({ "allowed_ips": ["127.0.0.0/8"] }), json!({}), "allowed_ips"),
        (json!({ "allowed_ips": ["127.0.0.0/8"] }), json!({ "allowed_ips": ["0.0.0.0/0"] }), "allowed_ips"),
        (json!({ "expires_at": end }), json!({}), "expires_at"),
        (json!({ "expires_at": end }), json!({ "expires_at": end + TimeDelta::seconds(1) }), "expires_at"),
        (json!({ "limits": { "day": 5 } }), json!({}), "limits"),
        (json!({ "limits": { "day": 5 } }), json!({ "limits": { "day": 1 } }), "limits"),
    ] {
        let mut body = make(limited.clone());
        body["scopes"] = scopes.clone();
        let (id, key) = owner.make_key(body).await;
        refused(&key, Method::POST, "/v1/api-keys", make(wider.clone()), param).await;
        // Nor does it widen itself, nor take over a wider key.
        let field = limited.as_object().and_then(|fields| fields.keys().next()).expect("a field").clone();
        refused(&key, Method::PATCH, &format!("/v1/api-keys/{id}"), json!({ field: null }), param).await;
        let (other, _) = owner.make_key(make(json!({}))).await;
        refused(&key, Method::POST, &format!("/v1/api-keys/{other}/rotate"), json!({}), param).await;
        let rotated = key.post(&format!("/v1/api-keys/{id}/rotate"), json!({})).await;
        assert_eq!(rotated.status, StatusCode::OK, "itself it may rotate: {}", rotated.json);
    }
    let mine: String =
        scalar(&app.db, "select id::text from api_keys where 'audit:read' = any(scopes) limit 1").await;
    let path = format!("/v1/api-keys/key_{}", mine.replace('-', ""));
    refused(&alice, Method::POST, &format!("{path}/rotate"), json!({}), "scopes").await;
    app.finish().await;
}

#[tokio::test]
async fn an_operators_key_is_not_seen_by_those_who_are_none() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let operator = app.key(alice.id, KeyRole::Operator).await;
    let listed = operator.get("/v1/api-keys").await.json;
    let id = text(&listed["data"][0]["id"]);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2));
    let path = format!("/v1/api-keys/{id}");
    assert_eq!(alice.get("/v1/api-keys").await.json["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(alice.get(&path).await.error().0, 404);
    assert_eq!(alice.patch(&path, json!({ "name": "mine" })).await.error().0, 404);
    assert_eq!(alice.post(&format!("{path}/rotate"), json!({})).await.error().0, 404);
    assert_eq!(alice.delete(&path).await.error().0, 404);

    let bob = app.account(0).await;
    let bobs = text(&bob.get("/v1/api-keys").await.json["data"][0]["id"]);
    assert_eq!(alice.delete(&format!("/v1/admin/api-keys/{bobs}")).await.error().0, 403);
    assert_eq!(operator.delete(&format!("/v1/api-keys/{bobs}")).await.error().0, 404);
    assert_eq!(operator.delete(&format!("/v1/admin/api-keys/{bobs}")).await.status, StatusCode::OK);
    assert_eq!(bob.get("/v1/models").await.error().0, 401);

    // Whoever runs the account sees every key to it, and ends it.
    let ann = app.register("ann@example.com").await;
    let foreign = app.scoped_key(ann.id, &["jobs:read", "admin.audit:read"]).await;
    let listed = ann.get("/v1/api-keys").await.json;
    let path = format!("/v1/api-keys/{}", text(&listed["data"][0]["id"]));
    assert_eq!(ann.get(&path).await.status, StatusCode::OK);
    let rotated = ann.post(&format!("{path}/rotate"), json!({})).await;
    assert_eq!(rotated.error(), (403, "beyond_permissions", "scopes"), "but comes to no secret of theirs");
    assert_eq!(ann.patch(&path, json!({ "name": "mine" })).await.error().0, 403);
    assert_eq!(ann.delete(&path).await.status, StatusCode::OK);
    assert_eq!(foreign.get("/v1/models").await.error().0, 401);
    app.finish().await;
}

#[tokio::test]
async fn what_an_operator_may_do_ends_for_their_keys_when_it_ends_for_them() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let user = "01890000-0000-7000-8000-000000000001";
    let made = format!(
        "insert into users (id, email, name, operator_role, created_at)
         values ('{user}', 'm@example.com', 'M', 'moderator', now()) returning 1"
    );
    assert_eq!(scalar::<i32>(&app.db, &made).await, 1);
    let member = format!(
        "insert into members (account_id, user_id, role, created_at) values ('{}', '{user}', 'viewer', now()) returning 1",
        alice.id.0
    );
    assert_eq!(scalar::<i32>(&app.db, &member).await, 1);
    let key = app.scoped_key(alice.id, &["jobs:read", "admin.audit:read", "admin.tokens:write"]).await;
    let by = format!(
        "update api_keys set created_by = '{user}' where 'admin.audit:read' = any(scopes) returning 1"
    );
    let _: i32 = scalar(&app.db, &by).await;
    assert_eq!(key.get("/v1/admin/audit-log").await.status, StatusCode::OK);
    assert_eq!(
        key.post("/v1/billing/balance", json!({})).await.error().0,
        403,
        "a moderator moves no tokens"
    );
    let _: i32 = scalar(&app.db, "update users set operator_role = null returning 1").await;
    assert_eq!(key.get("/v1/admin/audit-log").await.error().0, 403);
    assert_eq!(key.get("/v1/jobs").await.status, StatusCode::OK);
    let _: i32 = scalar(
        &app.db,
        "with gone as (delete from members returning 1) update users set operator_role = 'moderator' returning 1",
    )
    .await;
    assert_eq!(key.get("/v1/admin/audit-log").await.error().0, 403, "nor does it go on where they have left");
    app.finish().await;
}

#[tokio::test]
async fn what_a_person_may_do_ends_for_their_keys_when_it_ends_for_them() {
    let app = TestApp::new().await;
    let ann = app.register("ann@example.com").await;
    app.give(ann.id, 10_000, None).await;
    let bob = app.join(&ann, "bob@example.com", "admin").await;
    let (user, granted) = (bob.user().await, Role::Admin.permissions());
    let (_, key) = bob.make_key(json!({ "name": "build server", "scopes": granted })).await;
    let invite = async |email: &str| {
        let answer = key.post("/v1/account/users", json!({ "email": email, "role": "viewer" })).await;
        answer.status.as_u16()
    };
    let rename = async || key.patch("/v1/account", json!({ "description": "mine" })).await.status.as_u16();
    let make = async || {
        let body = json!({ "name": "child", "scopes": ["jobs:read"] });
        key.post("/v1/api-keys", body).await.status.as_u16()
    };
    assert_eq!((invite("eve@example.com").await, rename().await, make().await), (201, 200, 201));

    let role = json!({ "role": "developer" });
    assert_eq!(ann.patch(&format!("/v1/account/users/{user}"), role).await.status, StatusCode::OK);
    assert_eq!((invite("dan@example.com").await, rename().await, make().await), (403, 403, 201));
    assert_eq!(ann.delete(&format!("/v1/account/users/{user}")).await.status, StatusCode::OK);
    assert_eq!((invite("dan@example.com").await, rename().await, make().await), (403, 403, 403));
    for path in ["/v1/api-keys", "/v1/account/users"] {
        assert_eq!(key.get(path).await.error().0, 403, "{path}");
    }
    // What runs on it goes on.
    let job = key.submit("gpt-4o", json!({ "prompt": "x" })).await;
    app.drain().await;
    assert_eq!(key.job(job).await["status"], "succeeded");
    for path in ["/v1/billing/balance", "/v1/usage", "/v1/account", "/v1/jobs"] {
        assert_eq!(key.get(path).await.status, StatusCode::OK, "{path}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_key_gives_no_role_that_is_free_of_what_binds_the_key() {
    let app = TestApp::new().await;
    let ann = app.register("ann@example.com").await;
    let scopes = json!(Role::Admin.permissions());
    let invite = async |key: &Account, email: &str, role: &str| {
        key.post("/v1/account/users", json!({ "email": email, "role": role })).await
    };
    let refused = (403, "beyond_permissions", "role");
    let eve = app.join(&ann, "eve@example.com", "viewer").await.user().await;
    let promote = async |key: &Account| {
        key.patch(&format!("/v1/account/users/{eve}"), json!({ "role": "developer" })).await
    };
    for (limit, word) in [
        (json!({ "limits": { "total": 5 } }), "spend"),
        (json!({ "allowed_models": ["gpt-4o"] }), "models"),
        (json!({ "allowed_ips": ["127.0.0.0/8"] }), "everywhere"),
        (json!({ "expires_at": app.now() + TimeDelta::days(1) }), "ends"),
    ] {
        let mut body = json!({ "name": "limited", "scopes": scopes });
        body.as_object_mut().expect("an object").extend(limit.as_object().expect("an object").clone());
        let (_, key) = ann.make_key(body).await;
        for role in ["viewer", "developer"] {
            let answer = invite(&key, "dan@example.com", role).await;
            assert_eq!(answer.error(), refused, "{limit} {role}");
            assert!(text(&answer.json["error"]["message"]).contains(word), "{}", answer.json);
        }
        assert_eq!(promote(&key).await.error(), refused, "{limit}");
    }
    let some: Permissions = Role::Viewer.permissions().or([Permission::UsersWrite].into_iter().collect());
    let (_, narrow) = ann.make_key(json!({ "name": "narrow", "scopes": some })).await;
    let answer = invite(&narrow, "dan@example.com", "developer").await;
    assert_eq!(answer.error(), refused);
    assert!(text(&answer.json["error"]["message"]).contains("jobs:write"), "{}", answer.json);
    assert_eq!(promote(&narrow).await.error(), refused);
    assert_eq!(invite(&narrow, "dan@example.com", "viewer").await.status, StatusCode::CREATED);
    let (_, whole) = ann.make_key(json!({ "name": "whole", "scopes": scopes })).await;
    assert_eq!(invite(&whole, "kim@example.com", "developer").await.status, StatusCode::CREATED);
    assert_eq!(invite(&whole, "lee@example.com", "admin").await.error(), (403, "forbidden", "none"));
    assert_eq!(promote(&whole).await.status, StatusCode::OK);
    let out = narrow.delete(&format!("/v1/account/users/{eve}")).await;
    assert_eq!(out.status, StatusCode::OK, "who may leave is another matter: {}", out.json);
    app.finish().await;
}

#[tokio::test]
async fn a_person_s_key_says_who_made_it_and_outranks_nobody_who_rotates_it() {
    let app = TestApp::new().await;
    let ann = app.register("ann@example.com").await;
    let me = text(&ann.get("/v1/me").await.json["id"]);
    let scopes = json!(["audit:read", "jobs:read", "api_keys:write"]);
    let (id, key) = ann.make_key(json!({ "name": "auditor", "scopes": scopes })).await;
    assert_eq!(key.get("/v1/account/audit-log").await.status, StatusCode::OK);
    assert_eq!(ann.get(&format!("/v1/api-keys/{id}")).await.json["created_by"], me);
    let made = key.post("/v1/api-keys", json!({ "name": "child", "scopes": ["jobs:read"] })).await.json;
    assert_eq!(made["created_by"], me, "whoever made the key that made it");
    let log = ann.get("/v1/account/audit-log?action=api_key.created").await.json;
    let actors: Vec<_> =
        log["data"].as_array().expect("entries").iter().map(|entry| &entry["actor"]).collect();
    assert_eq!(actors, [&json!({ "kind": "key", "id": id }), &json!({ "kind": "user", "id": me })]);

    // A developer may manage keys, but not come to a secret that does more than they may.
    let sql = "update members set role = 'developer' returning 1";
    assert_eq!(scalar::<i32>(&app.db, sql).await, 1);
    let path = format!("/v1/api-keys/{id}");
    let rotate = format!("{path}/rotate");
    assert_eq!(ann.post(&rotate, json!({})).await.error(), (403, "beyond_permissions", "scopes"));
    assert_eq!(ann.patch(&path, json!({ "name": "x" })).await.error(), (403, "beyond_permissions", "scopes"));
    assert_eq!(
        ann.patch(&path, json!({ "scopes": ["jobs:read"] })).await.status,
        StatusCode::OK,
        "less is allowed"
    );
    assert_eq!(ann.post(&rotate, json!({})).await.status, StatusCode::OK);
    app.finish().await;
}
