//! Sessions: how a login goes on, and everything that ends one.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::json;

use crate::support::{Account, Answer, PASSWORD, TestApp, read, scalar};

const ANN: &str = "ann@example.com";

fn tokens(answer: &Answer) -> (String, String) {
    let text = |name: &str| {
        answer.json[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer:?}")).to_owned()
    };
    (text("access_token"), text("refresh_token"))
}

async fn refresh(app: &TestApp, token: &str) -> Answer {
    app.post("/v1/auth/refresh", json!({ "refresh_token": token })).await
}

/// The same person with another access token.
fn with(person: &Account, access_token: String) -> Account {
    Account { key: access_token, ..person.clone() }
}

async fn delete(person: &Account, path: &str) -> Answer {
    person.send(Method::DELETE, path, &[], None).await
}

#[tokio::test]
async fn a_refresh_token_shown_twice_ends_its_whole_family() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let login = app.ask_to_log_in(ANN, PASSWORD).await;
    app.mails().await;
    let (_, old) = tokens(&login);
    let next = refresh(&app, &old).await;
    let (access, new) = tokens(&next);
    assert!(new.starts_with("kilnr_") && new.len() == 49 && new != old, "{new}");
    assert!(with(&ann, access.clone()).is_in().await);

    assert_eq!(refresh(&app, &old).await.error(), (401, "refresh_token_reused", "none"));
    assert_eq!(
        refresh(&app, &new).await.error(),
        (401, "invalid_token", "none"),
        "the thief's or the owner's: both end"
    );
    assert!(!with(&ann, access).is_in().await);
    assert!(ann.is_in().await, "another login is another family");
    refresh(&app, &old).await;
    let mails = app.mails().await;
    assert_eq!(mails.len(), 1, "told once: {mails:?}");
    assert!(mails[0].recipient == ANN && mails[0].subject.contains("logged out"), "{mails:?}");
    let stored: i64 = scalar(
        &app.db,
        &format!("select count(*) from refresh_tokens where refresh_tokens::text like '%{new}%'"),
    )
    .await;
    assert_eq!(stored, 0, "the token itself is not in the database");
    app.finish().await;
}

#[tokio::test]
async fn of_two_refreshes_at_once_one_wins_and_the_session_goes_on() {
    let app = TestApp::new().await;
    app.register(ANN).await;
    for _ in 0..5 {
        let (_, token) = tokens(&app.ask_to_log_in(ANN, PASSWORD).await);
        let answers = futures::future::join_all((0..4).map(|_| refresh(&app, &token))).await;
        let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        let reused = answers.iter().any(|answer| answer.error().1 == "refresh_token_reused");
        let goes_on = refresh(&app, &tokens(won[0]).1).await.status == 200;
        assert_eq!(goes_on, !reused, "those who came too late only lose: {answers:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn tokens_work_for_their_time() {
    let app = TestApp::new().await;
    app.register(ANN).await;
    let login = app.ask_to_log_in(ANN, PASSWORD).await;
    let (ann, mut token) = (app.with_tokens(&login), tokens(&login).1);
    app.clock.advance(TimeDelta::seconds(899));
    assert!(ann.is_in().await);
    app.clock.advance(TimeDelta::seconds(1));
    assert_eq!(ann.get("/v1/me").await.error(), (401, "token_expired", "none"));
    // Refreshed each month less a moment, the family still ends after ninety days.
    for _ in 0..2 {
        app.clock.advance(TimeDelta::days(30) - TimeDelta::seconds(1000));
        let next = refresh(&app, &token).await;
        assert_eq!(next.status, 200, "{}", next.json);
        token = tokens(&next).1;
    }
    app.clock.advance(TimeDelta::days(30));
    assert_eq!(refresh(&app, &token).await.error(), (401, "invalid_token", "none"));
    let (_, token) = tokens(&app.ask_to_log_in(ANN, PASSWORD).await);
    app.clock.advance(TimeDelta::days(30));
    assert_eq!(refresh(&app, &token).await.error(), (401, "invalid_token", "none"), "a month is the most");
    for bad in ["", "kilnr_", "nonsense", &ann.key] {
        assert_eq!(refresh(&app, bad).await.error().0, 401, "{bad}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_foreign_access_token_opens_nothing() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let parts: Vec<_> = ann.key.split('.').collect();
    for bad in [
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(43)),
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{}.", parts[1]),
        "a.b.c".to_owned(),
    ] {
        assert_eq!(
            with(&ann, bad.clone()).get("/v1/me").await.error(),
            (401, "invalid_token", "none"),
            "{bad}"
        );
    }
    let key = app.account(0).await;
    assert_eq!(key.get("/v1/me").await.error(), (403, "forbidden", "none"), "a key is no person");
    app.finish().await;
}

#[tokio::test]
async fn sessions_are_seen_and_ended_one_by_one_or_all_at_once() {
    let app = TestApp::new().await;
    let phone = app.register(ANN).await;
    let laptop = app.login(ANN, PASSWORD).await;
    let bob = app.register("bob@example.com").await;
    let list = laptop.get("/v1/me/sessions").await.json;
    assert_eq!(list["data"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!((&list["data"][0]["current"], &list["data"][1]["current"]), (&json!(true), &json!(false)));
    let other = list["data"][1]["id"].as_str().expect("an id").to_owned();
    let page = laptop.get("/v1/me/sessions?limit=1").await.json;
    assert_eq!((page["has_more"].as_bool(), page["data"].as_array().map(Vec::len)), (Some(true), Some(1)));
    let path = format!("/v1/me/sessions/{other}");
    assert_eq!(
        delete(&bob, &path).await.error(),
        (404, "session_not_found", "id"),
        "another's session is not found"
    );
    assert!(phone.is_in().await);
    assert_eq!(delete(&laptop, &path).await.status, 200);
    assert!(!phone.is_in().await && laptop.is_in().await);
    assert_eq!(delete(&laptop, &path).await.error().0, 404);

    let phone = app.login(ANN, PASSWORD).await;
    let out = phone.post("/v1/auth/logout", json!({ "everywhere": true })).await;
    assert_eq!(out.json["sessions_ended"], 2);
    assert!(!phone.is_in().await && !laptop.is_in().await && bob.is_in().await);
    let bare = read(app.http.post(format!("{}/v1/auth/logout", app.base)).bearer_auth(&bob.key)).await;
    assert_eq!(bare.status, 200, "a body is not needed: {}", bare.json);
    app.finish().await;
}

#[tokio::test]
async fn a_new_password_ends_every_session_and_every_older_link() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    app.post("/v1/auth/password/forgot", json!({ "email": ANN })).await;
    let older = app.mailed_token(ANN, "/v1/auth/password/reset").await;
    app.post("/v1/auth/password/forgot", json!({ "email": ANN })).await;
    let newer = app.mailed_token(ANN, "/v1/auth/password/reset").await;
    let set = |token: &str, password: &str| {
        app.post("/v1/auth/password/reset", json!({ "token": token, "password": password }))
    };
    assert_eq!(set(&newer, "password1234").await.error(), (400, "weak_password", "password"));
    assert_eq!(set(&newer, "a better password").await.status, 200);
    assert!(!ann.is_in().await);
    assert_eq!(set(&older, "the thief's password").await.error(), (400, "invalid_token", "token"));
    assert_eq!(app.ask_to_log_in(ANN, PASSWORD).await.error().0, 401);
    let mails = app.mails().await;
    assert!(mails.iter().any(|mail| mail.subject.contains("password was changed")), "{mails:?}");

    let (here, there) =
        (app.login(ANN, "a better password").await, app.login(ANN, "a better password").await);
    let change = |current: &str, new: &str| {
        here.post("/v1/auth/password/change", json!({ "current_password": current, "password": new }))
    };
    assert_eq!(
        change(PASSWORD, "the best password").await.error(),
        (400, "wrong_password", "current_password")
    );
    assert_eq!(
        change("a better password", "ann@example.com!").await.error(),
        (400, "weak_password", "password")
    );
    assert_eq!(change("a better password", "the best password").await.status, 200);
    assert!(here.is_in().await && !there.is_in().await, "the session that asks goes on");
    assert_eq!(app.mails().await.len(), 1);
    app.login(ANN, "the best password").await;

    app.post("/v1/auth/password/forgot", json!({ "email": ANN })).await;
    let late = app.mailed_token(ANN, "/v1/auth/password/reset").await;
    app.clock.advance(TimeDelta::hours(1));
    assert_eq!(set(&late, "another password").await.error(), (400, "invalid_token", "token"));
    app.finish().await;
}

#[tokio::test]
async fn a_changed_password_ends_every_mailed_link_to_set_one() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    app.post("/v1/auth/password/forgot", json!({ "email": ANN })).await;
    let older = app.mailed_token(ANN, "/v1/auth/password/reset").await;
    let change = json!({ "current_password": PASSWORD, "password": "the best password" });
    assert_eq!(ann.post("/v1/auth/password/change", change).await.status, 200);
    let reset = json!({ "token": older, "password": "the thief's password" });
    assert_eq!(app.post("/v1/auth/password/reset", reset).await.error(), (400, "invalid_token", "token"));
    app.login(ANN, "the best password").await;
    app.finish().await;
}
