//! What is forgotten by itself when it is old, and what is not.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::json;
use shared::account::KeyRole;

use super::{columns_with, run};
use crate::support::{Account, PASSWORD, TestApp, scalar};

const ANN: &str = "ann@example.com";
const TASK: &str = "forget-old-rows";

/// Goes on to the night after so many days, and lets the task run.
async fn after(app: &TestApp, start: DateTime<Utc>, days: i64) {
    app.clock.advance_to(start + TimeDelta::days(days + 1));
    assert!(app.tick(TASK).await, "{TASK} was due");
}

async fn counts(app: &TestApp) -> String {
    let sql = "select concat_ws(' ', (select count(*) from sessions), (select count(*) from refresh_tokens),
                   (select count(*) from mail_links), (select count(*) from invitations where email is not null),
                   (select count(*) from mails where recipient is not null), (select count(*) from audit_log where ip is not null))";
    scalar(&app.db, sql).await
}

async fn invite(who: &Account, email: &str) -> String {
    let invited =
        who.post("/v1/account/users", json!({ "email": email, "role": "viewer", "name": "Guest" })).await;
    invited.json["id"].as_str().unwrap_or_else(|| panic!("{}", invited.json)).to_owned()
}

#[tokio::test]
async fn traces_are_forgotten_each_at_its_age_and_what_happened_stays() {
    let app = TestApp::new().await;
    app.tick(TASK).await;
    let start = app.now();
    let ann = app.register(ANN).await;
    app.join(&ann, "bob@example.com", "viewer").await;
    invite(&ann, "expired@example.com").await;
    let revoked = invite(&ann, "revoked@example.com").await;
    ann.send(Method::DELETE, &format!("/v1/account/invitations/{revoked}"), &[], None).await;
    let login = app.ask_to_log_in(ANN, PASSWORD).await;
    let token = login.json["refresh_token"].as_str().expect("a token").to_owned();
    let next = app.post("/v1/auth/refresh", json!({ "refresh_token": token })).await;
    assert_eq!(next.status, 200);
    app.with_tokens(&next).post("/v1/auth/logout", json!({})).await;
    app.mails().await;
    // Two who are logged in and one who was; a token each, and one that was used; one link that was.
    assert_eq!(counts(&app).await, "3 4 1 3 4 8");
    after(&app, start, 1).await;
    assert_eq!(counts(&app).await, "3 4 1 3 4 8", "all of it is young");
    after(&app, start, 8).await;
    assert_eq!(counts(&app).await, "3 4 0 3 4 8", "links");
    after(&app, start, 31).await;
    assert_eq!(counts(&app).await, "3 2 0 3 0 8", "tokens of what ended, and where mails went");
    assert_eq!(scalar::<i64>(&app.db, "select count(*) from mails").await, 4, "that it was told is known");
    assert!(columns_with(&app, "revoked@").await == ["invitations.email"]);
    after(&app, start, 91).await;
    assert_eq!(counts(&app).await, "2 0 0 2 0 8", "what ended, and the invitation that was taken back");
    after(&app, start, 98).await;
    assert!(columns_with(&app, "expired@").await.is_empty());
    let ann = app.login(ANN, PASSWORD).await;
    let listed = ann.get("/v1/account/users").await.json;
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2), "the members: {listed}");
    after(&app, start, 181).await;
    assert_eq!(
        counts(&app).await,
        "1 1 0 1 0 8",
        "sessions that ended by themselves; bob's invitation was accepted"
    );
    after(&app, start, 366).await;
    assert_eq!(counts(&app).await, "0 0 0 1 0 0", "addresses of a year ago");
    assert_eq!(scalar::<i64>(&app.db, "select count(*) from audit_log").await, 8, "what was done is known");
    app.finish().await;
}

#[tokio::test]
async fn whoever_never_proved_an_address_is_forgotten_with_their_empty_account() {
    let app = TestApp::new().await;
    app.tick(TASK).await;
    app.tick("erase-accounts").await;
    let start = app.now();
    for email in ["gone@example.com", "paid@example.com", "again@example.com"] {
        app.ask_to_register(email).await;
    }
    app.register(ANN).await;
    let paid: String = scalar(
        &app.db,
        "select account_id::text from members m join users u on u.id = m.user_id where u.email = 'paid@example.com'",
    )
    .await;
    app.give(shared::id::AccountId(paid.parse().expect("a uuid")), 100, None).await;
    after(&app, start, 20).await;
    app.ask_to_register("again@example.com").await;
    app.mails().await;
    after(&app, start, 31).await;
    run(&app, "erase-accounts").await;
    let left: String = scalar(&app.db, "select string_agg(email, ' ' order by email) from users").await;
    assert_eq!(left, "again@example.com ann@example.com paid@example.com");
    let statuses: String =
        scalar(&app.db, "select string_agg(status, ' ' order by status) from accounts").await;
    assert_eq!(statuses, "active active active erased");
    // Mails that went out name their recipient for their own time.
    after(&app, start, 62).await;
    run(&app, "erase-accounts").await;
    let left: String = scalar(&app.db, "select string_agg(email, ' ' order by email) from users").await;
    assert_eq!(left, "ann@example.com paid@example.com", "where something happened, an operator decides");
    for needle in ["gone@", "again@"] {
        assert!(columns_with(&app, needle).await.is_empty(), "{needle}");
    }
    app.register("gone@example.com").await;
    app.finish().await;
}

#[tokio::test]
async fn whoever_belongs_to_no_account_is_forgotten_after_a_month() {
    let app = TestApp::new().await;
    app.tick(TASK).await;
    let start = app.now();
    let ann = app.register(ANN).await;
    let mut people = Vec::new();
    for name in ["gone", "back"] {
        let email = format!("{name}@example.com");
        let user = app.join(&ann, &email, "viewer").await.user().await;
        let path = format!("/v1/account/users/{user}");
        assert_eq!(ann.send(Method::DELETE, &path, &[], None).await.status, 200);
        people.push(user);
    }
    after(&app, start, 20).await;
    let ann = app.login(ANN, PASSWORD).await;
    app.join(&ann, "back@example.com", "viewer").await;
    app.mails().await;
    after(&app, start, 31).await;
    let left: String = scalar(&app.db, "select string_agg(email, ' ' order by email) from users").await;
    assert_eq!(left, "ann@example.com back@example.com");
    assert!(columns_with(&app, "gone@").await.is_empty());
    assert_eq!(app.login("back@example.com", PASSWORD).await.user().await, people[1], "the same person");
    assert_ne!(app.register("gone@example.com").await.user().await, people[0], "someone new");
    app.finish().await;
}

#[tokio::test]
async fn a_dialog_is_forgotten_when_nobody_goes_on_with_it_for_a_year_or_its_person_has_left_for_a_month() {
    let app = TestApp::new().await;
    app.tick(TASK).await;
    let start = app.now();
    let ann = app.register(ANN).await;
    // Bob has an account of his own as well, so he himself is not forgotten.
    app.register("bob@example.com").await;
    let bob = app.join(&ann, "bob@example.com", "developer").await;
    let key = app.key(ann.id, KeyRole::Member).await;
    let mut paths = Vec::new();
    for who in [&ann, &bob, &key] {
        let begun = who.post("/v1/dialogs", json!({ "title": "once" })).await;
        paths.push(format!("/v1/dialogs/{}", begun.json["id"].as_str().expect("an id")));
    }
    let member = format!("/v1/account/users/{}", bob.user().await);
    assert_eq!(ann.send(Method::DELETE, &member, &[], None).await.status, 200);
    let left = async || scalar::<i64>(&app.db, "select count(*) from dialogs").await;
    after(&app, start, 28).await;
    assert_eq!(left().await, 3, "he may be asked back");
    after(&app, start, 31).await;
    assert_eq!(left().await, 2, "nobody sees his");
    after(&app, start, 200).await;
    let again = key.send(Method::PATCH, &paths[2], &[], Some(&json!({ "title": "again" }))).await;
    assert_eq!(again.status, 200);
    after(&app, start, 366).await;
    assert_eq!((left().await, key.get(&paths[2]).await.status.as_u16()), (1, 200));
    after(&app, start, 600).await;
    assert_eq!(left().await, 0);
    app.finish().await;
}
