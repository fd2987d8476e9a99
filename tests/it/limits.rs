//! Limits per network address: kept by the database, so that no restart and no second process loosens them.

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, future::join_all, stream};
use reqwest::{Method, StatusCode};
use serde_json::json;
use shared::rate::{self, Quota, Take};

use crate::support::{Account, Answer, PASSWORD, Settings, TestApp, read, scalar};

async fn limited(requests: u32, registrations: u32) -> TestApp {
    let limits = api::Limits::hourly(requests, registrations);
    TestApp::with(Settings { limits, ..Settings::default() }).await
}

/// A request that is counted, whatever else is wrong with it.
async fn change(who: &Account, address: &str) -> Answer {
    who.send(Method::POST, "/v1/api-keys", &[("x-forwarded-for", address)], Some(&json!({}))).await
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_again() {
    let app = limited(5, 0).await;
    let alice = app.account(0).await;
    for _ in 0..5 {
        assert_eq!(change(&alice, "1.2.3.4").await.error().0, 400);
    }
    let refused = change(&alice, "1.2.3.4").await;
    assert_eq!(refused.error(), (429, "rate_limited", "none"));
    assert_eq!(refused.json["error"]["type"], "rate_limit_error");
    for (name, value) in [
        ("retry-after", "720"),
        ("ratelimit-policy", "\"hour\";q=5;w=3600"),
        ("ratelimit", "\"hour\";r=0;t=3600"),
        ("x-ratelimit-limit-requests", "5"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "3600s"),
    ] {
        assert_eq!(refused.headers[name], value, "{name}");
    }
    assert_eq!(change(&alice, "1.2.3.5").await.error().0, 400, "another address has its own");
    app.clock.advance(TimeDelta::seconds(719));
    assert_eq!(change(&alice, "1.2.3.4").await.headers["retry-after"], "1");
    app.clock.advance(TimeDelta::seconds(1));
    assert_eq!(change(&alice, "1.2.3.4").await.error().0, 400, "whoever waits as told is served");
    assert_eq!(change(&alice, "1.2.3.4").await.error().0, 429, "once");
    app.clock.advance(TimeDelta::hours(1));
    for _ in 0..5 {
        assert_eq!(change(&alice, "1.2.3.4").await.error().0, 400);
    }
    assert_eq!(change(&alice, "1.2.3.4").await.error().0, 429);
    app.finish().await;
}

#[tokio::test]
async fn openais_clients_are_told_in_their_own_word_whether_address_or_account_asks_too_often() {
    let app = limited(5, 0).await;
    let alice = app.account_of_tier("free", 100_000).await;
    for n in 0..5 {
        alice.submit("gpt-4o", json!({ "prompt": format!("{n}") })).await;
    }
    let chat = async || {
        let body = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "hi" }] });
        let sent = [("x-forwarded-for", "1.2.3.4")];
        alice.send(Method::POST, "/v1/chat/completions", &sent, Some(&body)).await
    };
    let word = (429, "rate_limit_exceeded", "none");
    assert_eq!(chat().await.error(), word, "the account has had the five jobs of its hour");
    for _ in 0..4 {
        assert_eq!(change(&alice, "1.2.3.4").await.error().0, 400);
    }
    let refused = chat().await;
    assert_eq!(refused.error(), word, "the address has had its five requests");
    assert_eq!(refused.json["error"]["type"], "rate_limit_error");
    for (name, value) in [("retry-after", "720"), ("x-ratelimit-limit-requests", "5")] {
        assert_eq!(refused.headers[name], value, "{name}");
    }
    assert_eq!(change(&alice, "1.2.3.4").await.error(), (429, "rate_limited", "none"), "our own word");
    let guess = Account { key: "kiln_guess".into(), ..alice.clone() };
    let look = guess.send(Method::GET, "/v1/videos", &[("x-forwarded-for", "1.2.3.4")], None).await;
    assert_eq!(look.error(), word, "also whoever guesses keys");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_limit_holds_over_restarts_and_processes() {
    let app = limited(4, 0).await;
    let alice = app.account(0).await;
    let elsewhere = Account { base: app.another_door().await, ..alice.clone() };
    for who in [&alice, &elsewhere, &alice, &elsewhere] {
        assert_eq!(change(who, "1.2.3.4").await.error().0, 400);
    }
    let fresh = Account { base: app.another_door().await, ..alice.clone() };
    for who in [&alice, &elsewhere, &fresh] {
        assert_eq!(change(who, "1.2.3.4").await.error().0, 429);
    }
    app.finish().await;
}

#[tokio::test]
async fn of_many_requests_at_once_no_more_pass_than_are_left() {
    let app = limited(20, 0).await;
    let alice = app.account(0).await;
    let answers = join_all((0..50).map(|_| change(&alice, "1.2.3.4"))).await;
    let passed = answers.iter().filter(|answer| answer.error().0 == 400).count();
    let refused = answers.iter().filter(|answer| answer.error().0 == 429).count();
    assert_eq!((passed, refused), (20, 30));
    for answer in answers.iter().filter(|answer| answer.error().0 == 429) {
        let wait: i64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!((1..=180).contains(&wait), "{wait}");
    }
    app.finish().await;
}

#[tokio::test]
async fn takers_at_the_same_moment_never_exceed_the_limit() {
    let app = TestApp::new().await;
    let (quota, now) = (Quota::hourly(7), app.now());
    for round in 0..20 {
        let subject = round.to_string();
        let takes = join_all((0..50).map(|_| rate::take(&app.db, "test", &subject, quota, now))).await;
        let mut left: Vec<_> = takes
            .into_iter()
            .filter_map(|take| match take.expect("take") {
                Take::Taken(state) => Some(state.remaining),
                Take::Refused { .. } => None,
            })
            .collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2, 3, 4, 5, 6], "each sees how many are left after it");
    }
    app.finish().await;
}

#[tokio::test]
async fn looking_is_never_counted() {
    let app = limited(2, 0).await;
    let alice = app.account(1000).await;
    let id = alice.submit("gpt-4o", json!({ "prompt": "x" })).await;
    for _ in 0..100 {
        alice.job(id).await;
    }
    app.drain().await;
    for _ in 0..100 {
        alice.job(id).await;
    }
    let options = alice.send(Method::OPTIONS, "/v1/jobs", &[], None).await;
    assert_eq!(options.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(change(&alice, "127.0.0.1").await.error().0, 400, "the second of two");
    assert_eq!(change(&alice, "127.0.0.1").await.error().0, 429);
    assert_eq!(alice.get("/v1/jobs").await.status, StatusCode::OK, "and looking goes on");
    let health = app.http.post(format!("{}/health/live", app.base)).send().await.expect("ask");
    assert_eq!(health.status(), StatusCode::METHOD_NOT_ALLOWED, "health is no part of it");
    app.finish().await;
}

#[tokio::test]
async fn guessing_keys_is_counted() {
    let app = limited(3, 0).await;
    let alice = app.account(0).await;
    let guess = Account { key: "kiln_guess".into(), ..alice.clone() };
    for _ in 0..3 {
        assert_eq!(guess.get("/v1/jobs").await.error().0, 401);
    }
    assert_eq!(guess.get("/v1/jobs").await.error(), (429, "rate_limited", "none"));
    assert_eq!(alice.get("/v1/jobs").await.status, StatusCode::OK, "who has a key may look");
    app.finish().await;
}

#[tokio::test]
async fn an_ipv6_network_counts_as_one() {
    let app = limited(2, 0).await;
    let alice = app.account(0).await;
    for address in ["2001:db8::1", "2001:db8::2"] {
        assert_eq!(change(&alice, address).await.error().0, 400);
    }
    assert_eq!(change(&alice, "2001:db8::3").await.error().0, 429);
    assert_eq!(change(&alice, "2001:db8:0:1::3").await.error().0, 400);
    app.finish().await;
}

#[tokio::test]
async fn counts_that_limit_nobody_any_more_are_forgotten() {
    let app = limited(2, 0).await;
    let alice = app.account(0).await;
    change(&alice, "1.2.3.4").await;
    app.clock.advance(TimeDelta::minutes(25));
    change(&alice, "1.2.3.5").await;
    app.clock.advance(TimeDelta::minutes(20));
    assert!(app.tick("evict-rates").await);
    let left: String = scalar(&app.db, "select string_agg(subject, ',') from rates").await;
    assert_eq!(left, "1.2.3.5");
    let full_at: DateTime<Utc> = scalar(&app.db, "select full_at from rates").await;
    assert!(full_at > app.now());
    app.finish().await;
}

/// Tries to log in from an address.
async fn log_in(app: &TestApp, email: &str, password: &str, address: &str) -> Answer {
    let request = app.http.post(format!("{}/v1/auth/login", app.base)).header("x-forwarded-for", address);
    read(request.json(&json!({ "email": email, "password": password }))).await
}

#[tokio::test]
async fn guessing_a_password_is_slowed_down_for_known_and_unknown_names_alike() {
    let app = TestApp::new().await;
    app.register("ann@example.com").await;
    for email in ["Ann@Example.com", "nobody@example.com"] {
        let tries = (0..10).map(|_| log_in(&app, email, "incorrect horse", "10.0.1.1"));
        let answers = join_all(tries).await;
        let judged = answers.iter().filter(|answer| answer.error().0 == 401).count();
        let refused = answers.iter().filter(|answer| answer.error() == (429, "rate_limited", "none")).count();
        assert_eq!((judged, refused), (5, 5), "{email}");
        let refused = log_in(&app, email, PASSWORD, "10.0.1.1").await;
        assert_eq!(
            (refused.error().0, refused.headers["retry-after"].to_str().ok()),
            (429, Some("60")),
            "{email}"
        );
    }
    app.clock.advance(TimeDelta::seconds(59));
    assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.0.1.1").await.error().0, 429);
    app.clock.advance(TimeDelta::seconds(1));
    assert_eq!(
        log_in(&app, "ann@example.com", "incorrect horse", "10.0.1.1").await.error().0,
        401,
        "one a minute"
    );
    assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.0.1.1").await.error().0, 429);
    app.clock.advance(TimeDelta::seconds(60));
    assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.0.1.1").await.status, StatusCode::OK);
    for _ in 0..5 {
        let answer = log_in(&app, "ann@example.com", "incorrect horse", "10.0.1.1").await;
        assert_eq!(answer.error().0, 401, "whoever knew the password starts afresh");
    }
    let kept: String = scalar(&app.db, "select string_agg(rates::text, ' ') from rates").await;
    assert!(!kept.contains('@'), "no address of mail is kept: {kept}");
    app.finish().await;
}

/// Several at a time, and not so many that the last would wait too long for its turn to be hashed and be answered 503.
async fn some_at_once(tries: impl Iterator<Item = impl Future<Output = Answer>>) -> Vec<Answer> {
    stream::iter(tries).buffer_unordered(8).collect().await
}

#[tokio::test]
async fn a_stranger_keeps_nobody_out_and_many_strangers_guess_no_faster() {
    let app = TestApp::new().await;
    app.register("ann@example.com").await;
    // What one address is refused is no try of anybody else's.
    for n in 0..30 {
        let guess = log_in(&app, "ann@example.com", "incorrect horse", "10.0.0.1").await;
        assert_eq!(guess.error().0, if n < 5 { 401 } else { 429 });
    }
    assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.0.0.2").await.status, StatusCode::OK);
    assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.0.0.1").await.error().0, 429);
    for email in ["ann@example.com", "nobody@example.com"] {
        let addresses: Vec<_> = (0..120).map(|n| format!("10.1.{n}.1")).collect();
        let tries = addresses.iter().map(|address| log_in(&app, email, "incorrect horse", address));
        let answers = some_at_once(tries).await;
        let judged = answers.iter().filter(|answer| answer.error().0 == 401).count();
        assert_eq!(judged, if email.starts_with("ann") { 95 } else { 100 }, "a hundred an hour: {email}");
    }
    let refused = log_in(&app, "ann@example.com", PASSWORD, "10.2.0.1").await;
    assert_eq!((refused.error().0, refused.headers["retry-after"].to_str().ok()), (429, Some("36")));
    app.clock.advance(TimeDelta::seconds(36));
    assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.2.0.1").await.status, StatusCode::OK);
    app.finish().await;
}

#[tokio::test]
async fn an_address_that_tries_many_names_is_refused_and_one_where_many_log_in_is_not() {
    let app = TestApp::new().await;
    app.register("ann@example.com").await;
    for _ in 0..32 {
        assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.0.0.1").await.status, StatusCode::OK);
    }
    let names: Vec<_> = (0..31).map(|n| format!("{n}@example.com")).collect();
    let tries = names.iter().map(|name| log_in(&app, name, "incorrect horse", "10.0.0.1"));
    let answers = some_at_once(tries).await;
    let refused = answers.iter().filter(|answer| answer.error().0 == 429).count();
    assert_eq!(refused, 1, "30 failures an hour");
    assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.0.0.1").await.headers["retry-after"], "120");
    assert_eq!(log_in(&app, "ann@example.com", PASSWORD, "10.0.0.2").await.status, StatusCode::OK);
    app.finish().await;
}

#[tokio::test]
async fn one_address_registers_so_many_accounts_an_hour() {
    let app = limited(0, 10).await;
    for n in 0..10 {
        assert_eq!(app.ask_to_register(&format!("{n}@example.com")).await.status, StatusCode::ACCEPTED);
    }
    let refused = app.ask_to_register("one.more@example.com").await;
    assert_eq!(refused.error(), (429, "rate_limited", "none"));
    assert_eq!(refused.headers["retry-after"], "360");
    assert_eq!(refused.headers["ratelimit-policy"], "\"hour\";q=10;w=3600");
    let people: i64 = scalar(&app.db, "select count(*) from users").await;
    assert_eq!(people, 10);
    app.clock.advance(TimeDelta::seconds(360));
    assert_eq!(app.ask_to_register("one.more@example.com").await.status, StatusCode::ACCEPTED);
    app.finish().await;
}

#[tokio::test]
async fn nobody_has_an_address_flooded_with_mails() {
    let app = TestApp::new().await;
    let ask = async |email: &str, path: &str| app.post(path, json!({ "email": email })).await.status.as_u16();
    let (forgot, resend) = ("/v1/auth/password/forgot", "/v1/auth/verify/resend");
    for path in [forgot, resend, forgot] {
        assert_eq!(ask("ann@example.com", path).await, 202);
    }
    assert_eq!(ask("ANN@example.com", resend).await, 429, "three to one address");
    for n in 0..6 {
        assert_eq!(ask(&format!("{n}@example.com"), forgot).await, 202);
    }
    assert_eq!(ask("bob@example.com", forgot).await, 429, "ten from one address");
    app.clock.advance(TimeDelta::minutes(20));
    assert_eq!(ask("ann@example.com", forgot).await, 202);
    app.finish().await;
}
