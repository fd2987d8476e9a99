//! Members: invited, joined, given other roles and taken out, and the one owner who always stays.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Account, Answer, PASSWORD, TestApp, execute, read, scalar};

const ANN: &str = "ann@example.com";

async fn invite(who: &Account, email: &str, role: &str) -> Answer {
    who.post("/v1/account/users", json!({ "email": email, "role": role })).await
}

async fn set_role(who: &Account, user: &str, role: &str) -> Answer {
    who.send(Method::PATCH, &format!("/v1/account/users/{user}"), &[], Some(&json!({ "role": role }))).await
}

async fn remove(who: &Account, user: &str) -> Answer {
    who.send(Method::DELETE, &format!("/v1/account/users/{user}"), &[], None).await
}

async fn accept(app: &TestApp, token: &str, password: &str) -> Answer {
    let body =
        json!({ "token": token, "name": "Guest", "password": password, "consent": { "version": "1" } });
    app.post("/v1/auth/invitations/accept", body).await
}

/// Lifts an account above the tier that anyone gets by registering.
async fn vouch_for(app: &TestApp, who: &Account) {
    let sql =
        format!("update accounts set tier = 'unlimited', base_tier = 'unlimited' where id = '{}'", who.id.0);
    assert_eq!(execute(&app.db, &sql).await.expect("a tier"), 1);
}

async fn upload(app: &TestApp, who: &Account, kind: &str, list: impl Into<reqwest::Body>) -> Answer {
    let request = app.http.post(format!("{}/v1/account/users/bulk", app.base)).bearer_auth(&who.key);
    read(request.header("content-type", kind).body(list)).await
}

const ACCEPT: &str = "/v1/auth/invitations/accept";

#[tokio::test]
async fn someone_new_is_invited_and_joins() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let invited = ann
        .post("/v1/account/users", json!({ "email": "Bob@example.com", "name": "Bob", "role": "developer" }))
        .await;
    assert_eq!(invited.status, 201, "{}", invited.json);
    assert!(!invited.json.to_string().contains("token"), "{}", invited.json);
    assert_eq!(invite(&ann, "bob@example.com", "viewer").await.error(), (409, "already_invited", "none"));
    let list = ann.get("/v1/account/users").await.json;
    assert_eq!(
        (&list["data"][0]["status"], &list["data"][0]["email"]),
        (&json!("invited"), &json!("bob@example.com"))
    );
    assert_eq!((&list["data"][1]["status"], &list["data"][1]["role"]), (&json!("active"), &json!("owner")));

    let token = app.mailed_token("bob@example.com", ACCEPT).await;
    let page = app.http.get(format!("{}{ACCEPT}?token={token}", app.base)).send().await.expect("ask");
    assert!(page.text().await.expect("a page").contains("I agree"));
    assert_eq!(accept(&app, &token, "short").await.error(), (400, "weak_password", "password"));
    let fields = [("token", token.as_str()), ("name", ""), ("password", PASSWORD), ("consent[version]", "1")];
    let joined = app.post_by_page(ACCEPT, &fields).await;
    assert_eq!(joined.status, 200, "{}", joined.json);
    assert!(joined.json.as_str().expect("a page").contains("Welcome"), "{}", joined.json);
    assert_eq!(accept(&app, &token, PASSWORD).await.error(), (400, "invalid_token", "token"));
    assert_eq!(invite(&ann, "bob@example.com", "viewer").await.error(), (409, "already_member", "none"));

    let bob = app.login("bob@example.com", PASSWORD).await;
    assert_eq!(bob.id, ann.id, "the account that pays is the inviter's");
    let me = bob.get("/v1/me").await.json;
    assert_eq!((&me["name"], &me["accounts"][0]["role"]), (&json!("Bob"), &json!("developer")));
    assert_eq!(bob.get("/v1/account/consents").await.json["data"][0]["version"], "1");
    assert_eq!(invite(&bob, "carol@example.com", "viewer").await.error().0, 403);
    let actions: String = scalar(
        &app.db,
        "select string_agg(action, ' ' order by id) from audit_log where action like 'member.%'",
    )
    .await;
    assert_eq!(actions, "member.invited member.joined");
    app.finish().await;
}

#[tokio::test]
async fn someone_known_joins_with_their_own_password() {
    let app = TestApp::new().await;
    let (ann, bob) = (app.register(ANN).await, app.register("bob@example.com").await);
    app.clock.advance(TimeDelta::seconds(1));
    assert_eq!(invite(&ann, "bob@example.com", "admin").await.status, 201);
    let token = app.mailed_token("bob@example.com", ACCEPT).await;
    assert_eq!(accept(&app, &token, "not bob's password").await.error(), (400, "wrong_password", "password"));
    assert_eq!(accept(&app, &token, PASSWORD).await.status, 200);
    let first = app.login("bob@example.com", PASSWORD).await;
    assert_eq!(first.id, bob.id, "without a word on it, the account joined first");
    let login = json!({ "email": "bob@example.com", "password": PASSWORD, "account": ann.id });
    let second = app.with_tokens(&app.post("/v1/auth/login", login).await);
    assert_eq!(second.id, ann.id);
    assert_eq!(second.get("/v1/me").await.json["accounts"].as_array().map(Vec::len), Some(2));
    let login = json!({ "email": ANN, "password": PASSWORD, "account": bob.id });
    assert_eq!(app.post("/v1/auth/login", login).await.error(), (403, "no_account", "account"));
    app.finish().await;
}

#[tokio::test]
async fn whoever_reads_the_mail_of_an_unproved_address_chooses_its_password() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    app.ask_to_register("bob@example.com").await;
    app.mails().await;
    assert_eq!(invite(&ann, "bob@example.com", "viewer").await.status, 201);
    let token = app.mailed_token("bob@example.com", ACCEPT).await;
    assert_eq!(accept(&app, &token, "bob chose this one").await.status, 200);
    assert_eq!(app.ask_to_log_in("bob@example.com", PASSWORD).await.error().0, 401);
    app.login("bob@example.com", "bob chose this one").await;
    app.finish().await;
}

#[tokio::test]
async fn an_invitation_ends_by_time_and_by_word() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let id = invite(&ann, "bob@example.com", "viewer").await.json["id"].as_str().expect("an id").to_owned();
    let first = app.mailed_token("bob@example.com", ACCEPT).await;
    let path = format!("/v1/account/invitations/{id}");
    let other = app.register("eve@example.com").await;
    assert_eq!(other.send(Method::DELETE, &path, &[], None).await.error(), (404, "not_found", "id"));
    assert_eq!(ann.send(Method::DELETE, &path, &[], None).await.status, 200);
    assert_eq!(ann.send(Method::DELETE, &path, &[], None).await.error().0, 404);
    assert_eq!(accept(&app, &first, PASSWORD).await.error(), (400, "invalid_token", "token"));
    assert_eq!(invite(&ann, "bob@example.com", "viewer").await.status, 201);
    let second = app.mailed_token("bob@example.com", ACCEPT).await;
    app.clock.advance(TimeDelta::days(7));
    assert_eq!(accept(&app, &second, PASSWORD).await.error(), (400, "invalid_token", "token"));
    let ann = app.login(ANN, PASSWORD).await;
    assert_eq!(ann.get("/v1/account/users").await.json["data"][0]["status"], "expired");
    assert_eq!(
        invite(&ann, "bob@example.com", "viewer").await.status,
        201,
        "one that nobody accepted gives way"
    );
    let third = app.mailed_token("bob@example.com", ACCEPT).await;
    let answers = futures::future::join_all((0..3).map(|_| accept(&app, &third, PASSWORD))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{answers:?}");
    let open = ann.get("/v1/account/users").await.json;
    assert_eq!(open["data"].as_array().map(Vec::len), Some(2), "{open}");
    app.finish().await;
}

#[tokio::test]
async fn a_role_counts_from_the_next_request_on() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let bob = app.join(&ann, "bob@example.com", "viewer").await;
    let id = bob.user().await;
    let order = json!({ "model": "gpt-4o", "input": { "prompt": "x" } });
    assert_eq!(bob.post("/v1/jobs", order.clone()).await.error().0, 403, "a viewer looks");
    assert_eq!(set_role(&ann, &id, "developer").await.status, 200);
    assert_eq!(bob.post("/v1/jobs", order.clone()).await.error().0, 402, "allowed, were there tokens");
    assert_eq!(set_role(&ann, &id, "viewer").await.status, 200);
    assert_eq!(bob.post("/v1/jobs", order).await.error().0, 403);

    let rejoin = app.login("bob@example.com", PASSWORD).await;
    assert_eq!(remove(&ann, &id).await.status, 200);
    for gone in [&bob, &rejoin] {
        assert_eq!(gone.get("/v1/me").await.error(), (401, "invalid_token", "none"), "at once");
    }
    assert_eq!(remove(&ann, &id).await.error(), (404, "not_found", "id"));
    assert_eq!(app.ask_to_log_in("bob@example.com", PASSWORD).await.error(), (403, "no_account", "account"));
    app.join(&ann, "bob@example.com", "viewer").await;
    assert!(!bob.is_in().await, "the sessions of before stay ended");
    let changes: Value = scalar(
        &app.db,
        "select jsonb_agg(jsonb_build_array(action, before ->> 'role', after ->> 'role') order by id) from audit_log
         where action in ('member.role_changed', 'member.removed')",
    )
    .await;
    let expected = json!([
        ["member.role_changed", "viewer", "developer"],
        ["member.role_changed", "developer", "viewer"],
        ["member.removed", "viewer", null],
    ]);
    assert_eq!(changes, expected);
    app.finish().await;
}

#[tokio::test]
async fn only_an_owner_makes_and_unmakes_owners_and_admins() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let adam = app.join(&ann, "adam@example.com", "admin").await;
    let dora = app.join(&ann, "dora@example.com", "developer").await;
    let (ann_id, adam_id, dora_id) = (ann.user().await, adam.user().await, dora.user().await);
    let eve = app.register("eve@example.com").await;
    let denied = |answer: Answer| assert_eq!(answer.error(), (403, "forbidden", "none"));
    denied(invite(&adam, "x@example.com", "admin").await);
    denied(set_role(&adam, &dora_id, "admin").await);
    denied(set_role(&adam, &adam_id, "owner").await);
    denied(set_role(&adam, &ann_id, "viewer").await);
    denied(remove(&adam, &ann_id).await);
    denied(set_role(&dora, &dora_id, "viewer").await);
    assert_eq!(invite(&ann, "x@example.com", "owner").await.error(), (400, "invalid_role", "role"));
    assert_eq!(set_role(&ann, &dora_id, "king").await.error(), (400, "invalid_type", "role"));
    assert_eq!(
        set_role(&eve, &dora_id, "viewer").await.error(),
        (404, "not_found", "id"),
        "another account's people"
    );
    assert_eq!(remove(&eve, &dora_id).await.error(), (404, "not_found", "id"));
    assert_eq!(set_role(&adam, &dora_id, "viewer").await.status, 200);
    assert_eq!(remove(&adam, &dora_id).await.status, 200);
    assert_eq!(invite(&adam, "x@example.com", "viewer").await.status, 201);
    let by_key = app.key(ann.id, shared::account::KeyRole::Member).await;
    assert_eq!(invite(&by_key, "y@example.com", "viewer").await.error().0, 403, "a developer's key");
    assert_eq!(set_role(&ann, &adam_id, "owner").await.status, 200);
    assert_eq!(set_role(&adam, &ann_id, "viewer").await.status, 200, "an owner unmakes another");
    assert_eq!(remove(&adam, &adam_id).await.error(), (409, "last_owner", "none"));
    app.finish().await;
}

#[tokio::test]
async fn the_last_owner_stays_even_when_two_leave_at_once() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let ann_id = ann.user().await;
    assert_eq!(set_role(&ann, &ann_id, "admin").await.error(), (409, "last_owner", "none"));
    assert_eq!(remove(&ann, &ann_id).await.error(), (409, "last_owner", "none"));
    let bob = app.join(&ann, "bob@example.com", "admin").await;
    let bob_id = bob.user().await;
    for round in 0..10 {
        set_role(&ann, &bob_id, "owner").await;
        set_role(&bob, &ann_id, "owner").await;
        let (one, two) = match round % 3 {
            0 => tokio::join!(set_role(&ann, &ann_id, "admin"), set_role(&bob, &bob_id, "admin")),
            1 => tokio::join!(set_role(&ann, &bob_id, "admin"), set_role(&bob, &ann_id, "admin")),
            _ => tokio::join!(set_role(&ann, &ann_id, "viewer"), set_role(&bob, &bob_id, "developer")),
        };
        let statuses = [one.status.as_u16(), two.status.as_u16()];
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{one:?} {two:?}");
        let owners: i64 = scalar(&app.db, "select count(*) from members where role = 'owner'").await;
        assert_eq!(owners, 1, "round {round}: {statuses:?}");
        if !ann.get("/v1/account").await.status.is_success() || !bob.is_in().await {
            panic!("both still belong to the account");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_list_is_invited_line_by_line() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    app.join(&ann, "bob@example.com", "viewer").await;
    invite(&ann, "carol@example.com", "viewer").await;
    app.mails().await;
    let list = "\u{feff}Email;Name;Role\r\n\
        dan@example.com;\"Dan; the man\";developer\r\n\
        bob@example.com;;viewer\r\n\
        CAROL@example.com;;viewer\r\n\
        nobody;;viewer\r\n\
        \r\n\
        erin@example.com;Erin;owner\r\n\
        Dan@Example.com;Dan again;viewer\r\n\
        frank@example.com;Frank\r\n\
        grace@example.com;;admin\r\n";
    let report = upload(&app, &ann, "text/csv; charset=utf-8", list).await;
    assert_eq!(report.status, 200, "{}", report.json);
    let lines: Vec<_> = report.json["data"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| {
            (
                line["line"].as_i64().unwrap_or(0),
                line["email"].as_str().unwrap_or(""),
                line["status"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            (2, "dan@example.com", "invited"),
            (3, "bob@example.com", "already_member"),
            (4, "CAROL@example.com", "already_invited"),
            (5, "nobody", "invalid"),
            (7, "erin@example.com", "invalid"),
            (8, "Dan@Example.com", "already_invited"),
            (9, "frank@example.com", "invalid"),
            (10, "grace@example.com", "invited"),
        ]
    );
    let counts =
        ["invited", "already_member", "already_invited", "invalid"].map(|name| report.json[name].as_i64());
    assert_eq!(counts, [Some(2), Some(1), Some(2), Some(3)]);
    assert!(
        report.json["data"][3]["message"].as_str().expect("a reason").contains("e-mail"),
        "{}",
        report.json
    );
    let mails = app.mails().await;
    assert_eq!(mails.len(), 2, "{mails:?}");
    let again = upload(&app, &ann, "text/csv", list).await.json;
    assert_eq!(
        (&again["invited"], &again["already_invited"]),
        (&json!(0), &json!(4)),
        "the same list invites nobody twice"
    );
    let adam = app.join(&ann, "adam@example.com", "admin").await;
    let report =
        upload(&app, &adam, "text/csv", "email,role\nh@example.com,admin\ni@example.com,viewer\n").await.json;
    assert_eq!(
        (&report["data"][0]["status"], &report["data"][1]["status"]),
        (&json!("invalid"), &json!("invited"))
    );
    app.finish().await;
}

#[tokio::test]
async fn a_thousand_are_invited_and_no_more_than_a_day_allows() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let list = |prefix: &str, count: usize| {
        let lines = (0..count).map(|number| format!("{prefix}{number}@example.com,,viewer\n"));
        format!("email,name,role\n{}", lines.collect::<String>())
    };
    let free = app.register("free@example.com").await;
    let report = upload(&app, &free, "text/csv", list("f", 51)).await.json;
    assert_eq!((&report["invited"], &report["too_many"]), (&json!(50), &json!(1)), "whoever just registered");
    vouch_for(&app, &ann).await;
    let started = std::time::Instant::now();
    let report = upload(&app, &ann, "text/csv", list("a", 1000)).await.json;
    assert_eq!(report["invited"], 1000, "in {:?}", started.elapsed());
    println!("invited a thousand in {:?}", started.elapsed());
    let report = upload(&app, &ann, "text/csv", list("b", 1000)).await.json;
    assert_eq!(report["invited"], 1000);
    assert_eq!(invite(&ann, "c@example.com", "viewer").await.error(), (429, "rate_limited", "none"));
    let report = upload(&app, &ann, "text/csv", list("d", 1)).await.json;
    assert_eq!(report["data"][0]["status"], "too_many");
    assert!(report["data"][0]["message"].as_str().expect("a reason").contains("a day"), "{report}");

    let mut after = String::new();
    let mut seen = 0;
    loop {
        let page = ann.get(&format!("/v1/account/users?limit=100{after}")).await.json;
        seen += page["data"].as_array().map_or(0, Vec::len);
        if page["has_more"] == json!(false) {
            break;
        }
        after = format!("&after={}", page["last_id"].as_str().expect("an id"));
    }
    assert_eq!(seen, 2001, "every page once");
    assert_eq!(ann.get("/v1/account/users?after=acc_1").await.error(), (400, "invalid_query", "after"));
    app.finish().await;
}

#[tokio::test]
async fn nobody_fills_a_strangers_mailbox_with_invitations() {
    const EVE: &str = "eve@example.com";
    let app = TestApp::new().await;
    let (ann, bob, carol) =
        (app.register(ANN).await, app.register("bob@example.com").await, app.register("c@example.com").await);
    app.mails().await;
    let invite_and_revoke = async |who: &Account| {
        let invited = invite(who, EVE, "viewer").await;
        let Some(id) = invited.json["id"].as_str() else { return invited };
        who.send(Method::DELETE, &format!("/v1/account/invitations/{id}"), &[], None).await
    };
    let mut refused = Vec::new();
    for who in [&ann, &bob, &carol] {
        for _ in 0..10 {
            let answer = invite_and_revoke(who).await;
            if answer.status != 200 {
                refused.push(answer);
            }
        }
    }
    assert_eq!(refused.len(), 25, "3 by the first, 2 by the second");
    assert!(refused.iter().all(|answer| answer.error() == (429, "rate_limited", "none")), "{refused:?}");
    let mails = app.mails().await;
    assert_eq!(mails.iter().filter(|mail| mail.recipient == EVE).count(), 5);
    let list = format!("email,role\n{EVE},viewer\nf@example.com,viewer\nF@example.com,viewer\n");
    let report = upload(&app, &carol, "text/csv", list).await.json;
    assert_eq!(report["data"][0]["status"], "too_many", "{report}");
    assert!(report["data"][0]["message"].as_str().expect("a reason").contains("this address"), "{report}");
    assert_eq!(
        (&report["invited"], &report["already_invited"], &report["invalid"]),
        (&json!(1), &json!(1), &json!(0))
    );
    let named: i64 = scalar(&app.db, "select count(*) from rates where subject like '%example%'").await;
    assert_eq!(named, 0, "no address is in the table");
    app.clock.advance(TimeDelta::days(1));
    let carol = app.login("c@example.com", PASSWORD).await;
    assert_eq!(invite_and_revoke(&carol).await.status, 200, "and tomorrow again");
    app.finish().await;
}

#[tokio::test]
async fn an_invitation_advertises_nothing() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let name = json!({ "name": "Win a prize at https://evil.example/x or www.evil.example" });
    assert_eq!(ann.send(Method::PATCH, "/v1/account", &[], Some(&name)).await.status, 200);
    invite(&ann, "bob@example.com", "viewer").await;
    let mails = app.mails().await;
    let mail = mails.iter().find(|mail| mail.recipient == "bob@example.com").expect("a mail");
    assert!(mail.subject.contains("Win a prize at or"), "{mail:?}");
    assert!(!mail.subject.contains("evil") && !mail.text.contains("evil"), "{mail:?}");
    app.finish().await;
}

#[tokio::test]
async fn someone_who_belongs_to_no_account_registers_like_someone_new() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let bob = app.join(&ann, "bob@example.com", "viewer").await;
    let id = bob.user().await;
    let sql = format!("update users set operator_role = 'analyst' where id = '{}'", id.replace("user_", ""));
    assert_eq!(execute(&app.db, &sql).await.expect("a role"), 1);
    assert_eq!(remove(&ann, &id).await.status, 200);
    let left: bool = scalar(&app.db, "select bool_or(left_at is not null) from users").await;
    assert!(left);
    let body = json!({
        "name": "Bob Ltd", "email": "bob@example.com", "password": "bob's next password", "consent": { "version": "1" },
    });
    app.mails().await;
    assert_eq!(app.post("/v1/auth/register", body).await.status, 202);
    for password in [PASSWORD, "bob's next password"] {
        assert!(
            app.ask_to_log_in("bob@example.com", password).await.status != 200,
            "not before it is proved"
        );
    }
    let token = app.mailed_token("bob@example.com", "/v1/auth/verify").await;
    assert_eq!(app.verify(&token, PASSWORD).await.error().1, "wrong_password");
    assert_eq!(app.verify(&token, "bob's next password").await.status, 200);
    let again = app.login("bob@example.com", "bob's next password").await;
    assert_ne!(again.id, ann.id);
    let me = again.get("/v1/me").await.json;
    assert_eq!((&me["id"], &me["accounts"][0]["role"]), (&json!(id), &json!("owner")), "the same person");
    assert_eq!(me["accounts"].as_array().map(Vec::len), Some(1));
    assert_eq!(again.get("/v1/admin/accounts").await.error().0, 403, "nobody comes back as an operator");
    assert_eq!(again.get("/v1/account").await.json["name"], "Bob Ltd");
    app.finish().await;
}

#[tokio::test]
async fn what_is_no_list_is_refused() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    for (kind, list, expected) in [
        ("application/json", "{}".to_owned(), (415, "unsupported_media_type", "none")),
        ("text/csv", String::new(), (400, "invalid_csv", "body")),
        ("text/csv", "name,role\nBob,viewer\n".to_owned(), (400, "invalid_csv", "body")),
        ("text/csv", "email,name,role,salary\n".to_owned(), (400, "invalid_csv", "body")),
        (
            "text/csv",
            format!("email,role\n{}", "a@example.com,viewer\n".repeat(1001)),
            (400, "too_many_lines", "body"),
        ),
        ("text/csv", "x".repeat(1024 * 1024 + 1), (413, "request_too_large", "none")),
    ] {
        let answer = upload(&app, &ann, kind, list).await;
        assert_eq!(answer.error(), expected, "{}", answer.json);
    }
    let zero = upload(&app, &ann, "text/csv", "email,name,role\na@example.com,a\0b,viewer\n").await;
    assert_eq!(zero.json["invalid"], 1, "{}", zero.json);
    app.finish().await;
}
