//! Notices: signed, at least once, under one id, on the schedule, and not into private networks.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use shared::{
    account::KeyRole,
    notice::{self, Recorded},
};
use workers::notify;

use crate::support::{Receiver, Settings, TestApp, scalar};

#[tokio::test]
async fn the_end_of_a_job_is_told_once_and_signed() {
    let app = TestApp::new().await;
    let alice = app.account(50_000).await;
    let receiver = app.receiver().await;
    let body = json!({ "model": "nano-banana", "input": { "prompt": "tell me" }, "webhook": { "url": receiver.url } });
    let id = alice.post("/v1/jobs", body).await.job();
    assert_eq!(app.deliver().await, 0, "nothing to tell yet");
    app.drain().await;
    assert_eq!(app.deliver().await, 1);
    assert_eq!(app.deliver().await, 0, "told once");
    let told = receiver.received();
    assert_eq!(told.len(), 1);
    let signatures: Vec<_> = told[0].signature.split(' ').collect();
    assert_eq!(signatures[0], told[0].signed_with(&app.webhook_key(alice.id)));
    assert!(signatures[1].starts_with("v1a,") && signatures.len() == 2, "{signatures:?}");
    assert_eq!(told[0].timestamp, app.now().timestamp());
    let message = told[0].json();
    assert_eq!(
        (message["type"].as_str(), message["data"]["id"].as_str()),
        (Some("job.succeeded"), Some(id.to_string().as_str()))
    );
    let url = message["data"]["output"]["files"][0]["url"].as_str().expect("a URL");
    assert_eq!(app.http.get(url).send().await.expect("fetch").status().as_u16(), 200);
    app.finish().await;
}

#[tokio::test]
async fn whoever_may_say_where_webhooks_go_learns_what_those_of_jobs_are_checked_with() {
    let app = TestApp::new().await;
    let path = "/v1/account/webhook-secret";
    let ann = app.register("ann@example.com").await;
    app.give(ann.id, 50_000, None).await;
    let shown = ann.get(path).await;
    assert_eq!((shown.status.as_u16(), &shown.json["object"]), (200, &json!("webhook_secret")));
    assert_eq!(shown.headers["cache-control"], "no-store");
    let secret = shown.json["secret"].as_str().and_then(|secret| secret.strip_prefix("whsec_"));
    let secret = BASE64_STANDARD.decode(secret.expect("a secret")).expect("base 64");

    let receiver = app.receiver().await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": receiver.url } });
    ann.post("/v1/jobs", body).await.job();
    app.drain().await;
    app.deliver().await;
    let told = receiver.received();
    assert_eq!(told[0].signature.split(' ').next(), Some(told[0].signed_with(&secret).as_str()));

    let key = app.key(ann.id, KeyRole::Member).await;
    let writer = app.scoped_key(ann.id, &["webhooks:write"]).await;
    for may in [&key, &writer] {
        assert_eq!(may.get(path).await.json, shown.json, "it stays what it is");
    }
    let reader = app.scoped_key(ann.id, &["webhooks:read", "account:write", "jobs:write"]).await;
    assert_eq!(reader.get(path).await.error(), (403, "forbidden", "none"));
    let bob = app.account(0).await.get(path).await;
    assert!(bob.status.is_success() && bob.json["secret"] != shown.json["secret"], "{}", bob.json);
    app.finish().await;
}

#[tokio::test]
async fn every_end_is_told_and_only_what_was_asked_for() {
    let app = TestApp::new().await;
    let alice = app.account(200_000).await;
    let receiver = app.receiver().await;
    let submit = async |prompt: &str, events: &[&str]| {
        let webhook = json!({ "url": receiver.url, "events": events });
        let body = json!({ "model": "kling", "input": { "prompt": prompt }, "webhook": webhook, "deadline_seconds": 600 });
        alice.post("/v1/jobs", body).await.job()
    };
    submit("good", &[]).await;
    submit("[[sim:refuse]]", &["job.failed"]).await;
    let canceled = submit("canceled", &[]).await;
    submit("[[sim:never_finish]]", &["job.expired"]).await;
    submit("quiet", &["job.failed"]).await;
    alice.cancel(canceled).await;
    app.drain().await;
    app.deliver().await;
    let mut told: Vec<_> = receiver
        .received()
        .iter()
        .map(|told| told.json()["type"].as_str().expect("a type").to_owned())
        .collect();
    told.sort();
    assert_eq!(told, ["job.canceled", "job.expired", "job.failed", "job.succeeded"]);
    app.finish().await;
}

#[tokio::test]
async fn a_receiver_that_is_down_is_told_later_under_the_same_id_until_the_tries_are_spent() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let receiver = app.receiver().await;
    for _ in 0..notify::TRIES {
        receiver.answer(500, &[]);
    }
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": receiver.url } });
    alice.post("/v1/jobs", body).await;
    app.drain().await;
    let began = app.now();
    let mut waits = Vec::new();
    loop {
        app.deliver().await;
        let next: Option<DateTime<Utc>> =
            scalar(&app.db, "select (select run_at from notices where status = 'pending')").await;
        let Some(next) = next else { break };
        waits.push((next - app.now()).num_minutes());
        app.clock.advance_to(next);
    }
    assert_eq!(waits.len(), 9);
    for (wait, planned) in waits.iter().zip([0, 5, 30, 120, 300, 600, 840, 1200, 1440]) {
        assert!((planned..=planned + planned / 10 + 1).contains(wait), "{waits:?}");
    }
    assert!(app.now() - began > TimeDelta::hours(75));
    let told = receiver.received();
    assert_eq!(told.len(), notify::TRIES);
    assert!(told.iter().all(|try_| try_.id == told[0].id), "one id at every try");
    let status: String = scalar(&app.db, "select status from notices").await;
    assert_eq!(status, "dead");
    app.finish().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_has_had_its_try_and_gets_another_one_later() {
    let mut app = TestApp::new().await;
    let alice = app.account(1000).await;
    let receiver = app.receiver().await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": receiver.url } });
    alice.post("/v1/jobs", body).await;
    app.drain().await;
    receiver.hang();
    app.delivery.timeout = Duration::from_millis(30);
    assert_eq!(app.deliver().await, 1);
    let log = async || alice.get("/v1/webhook-deliveries").await.json["data"][0].clone();
    let waiting = log().await;
    assert_eq!((&waiting["status"], &waiting["tries"]), (&json!("pending"), &json!(1)), "{waiting}");
    let first = &waiting["attempts"][0];
    assert_eq!(first["status_code"], Value::Null, "nothing was answered: {first}");
    assert!(first["error"].as_str().is_some_and(|why| why.contains("timed out")), "{first}");
    assert_eq!(app.deliver().await, 0, "not at once");

    receiver.go_on();
    app.delivery.timeout = notify::TIMEOUT;
    app.clock.advance(TimeDelta::seconds(10));
    assert_eq!(app.deliver().await, 1);
    let told = log().await;
    assert_eq!((&told["status"], &told["tries"]), (&json!("delivered"), &json!(2)), "{told}");
    assert!(receiver.received().iter().all(|try_| told["id"] == try_.id), "one id at every try");
    app.finish().await;
}

#[tokio::test]
async fn an_answer_decides_what_becomes_of_a_notice() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let receiver = app.receiver().await;
    for (status, headers, expected) in [
        (200, vec![], "delivered"),
        (301, vec![("location", "http://127.0.0.1:1/elsewhere")], "pending"),
        (410, vec![], "dead"),
        (429, vec![("retry-after", "7200")], "pending"),
    ] {
        receiver.answer(status, &headers);
        let body =
            json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": receiver.url } });
        let id = alice.post("/v1/jobs", body).await.job();
        app.drain().await;
        app.deliver().await;
        let row = format!("from notices where job_id = '{}'", id.0);
        let word: String = scalar(&app.db, &format!("select status {row}")).await;
        assert_eq!(word, expected, "{status}");
        if status == 429 {
            let next: DateTime<Utc> = scalar(&app.db, &format!("select run_at {row}")).await;
            assert_eq!((next - app.now()).num_seconds(), 7200, "Retry-After is honoured");
        }
    }
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "breaks the database on purpose")]
async fn a_notice_that_was_sent_but_not_written_down_is_sent_again_under_the_same_id() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let receiver = app.receiver().await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": receiver.url } });
    alice.post("/v1/jobs", body).await;
    app.drain().await;
    let run = async |sql: &'static str| sqlx::query(sql).execute(&app.db).await.expect(sql);
    run("alter table notices add constraint broken check (status <> 'delivered') not valid").await;
    assert_eq!(app.deliver().await, 1);
    run("alter table notices drop constraint broken").await;
    app.clock.advance(TimeDelta::minutes(2));
    assert_eq!(app.deliver().await, 1);
    let told = receiver.received();
    assert_eq!((told.len(), &told[0].id), (2, &told[1].id), "at least once, under one id");
    app.finish().await;
}

#[tokio::test]
async fn a_receiver_with_many_notices_keeps_nobody_else_waiting() {
    let app = TestApp::new().await;
    let (heavy, light) = (app.account(100_000).await, app.account(1000).await);
    let (receiver, other) = (app.receiver().await, app.receiver().await);
    let order = |prompt: String, to: &Receiver| json!({ "model": "gpt-4o", "input": { "prompt": prompt }, "webhook": { "url": to.url } });
    for n in 0..30 {
        heavy.post("/v1/jobs", order(format!("heavy {n}"), &receiver)).await;
    }
    app.drain().await;
    app.clock.advance(TimeDelta::seconds(1));
    heavy.post("/v1/jobs", order("to another receiver".into(), &other)).await;
    light.post("/v1/jobs", order("light".into(), &receiver)).await;
    app.drain().await;
    let claim = async |limit| {
        let claimed = notice::claim(&app.db, limit, Duration::from_secs(60), app.now()).await.expect("claim");
        let of = |account, receiver: &Receiver| {
            claimed.iter().filter(|due| due.account == account && due.target == receiver.url).count()
        };
        (of(heavy.id, &receiver), of(heavy.id, &other), of(light.id, &receiver))
    };
    assert_eq!(claim(2).await, (1, 0, 1), "of each account one before a second of any");
    assert_eq!(claim(2).await, (1, 1, 0), "and of each receiver before a second of any");
    assert_eq!(claim(32).await, (2, 0, 0), "a receiver has a share of what is under way");
    assert_eq!(claim(32).await, (0, 0, 0));
    app.clock.advance(TimeDelta::minutes(2));
    app.deliver().await;
    assert_eq!((receiver.received().len(), other.received().len()), (31, 1));
    app.finish().await;
}

#[tokio::test]
async fn a_deliverer_that_dies_is_followed_by_another_and_its_late_word_does_not_count() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let receiver = app.receiver().await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": receiver.url } });
    alice.post("/v1/jobs", body).await;
    app.drain().await;
    let lease = Duration::from_secs(60);
    let lost = notice::claim(&app.db, 10, lease, app.now()).await.expect("claim").pop().expect("a notice");
    assert_eq!(app.deliver().await, 0, "leased to someone");
    app.clock.advance(TimeDelta::minutes(2));
    assert_eq!(app.deliver().await, 1);
    let late = notice::Sent::Dead("late".into());
    let recorded = notice::record(&app.db, &lost, &late, None, app.now()).await.expect("record");
    assert_eq!(recorded, Recorded::Lost);
    let status: String = scalar(&app.db, "select status from notices").await;
    assert_eq!(status, "delivered");
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "puts in what the front door would refuse")]
async fn a_webhook_into_a_private_network_is_not_sent() {
    let app = TestApp::with(Settings { allow_private: false, ..Settings::default() }).await;
    let receiver = app.receiver().await;
    let hook = json!({ "url": "https://example.com/hook" });
    let body = json!({ "model": "vectorize", "input": { "image": crate::flow::picture() }, "webhook": hook });
    let rich = app.account(10_000).await;
    rich.post("/v1/jobs", body).await;
    app.drain().await;
    sqlx::query("update notices set target = $1")
        .bind(&receiver.url)
        .execute(&app.db)
        .await
        .expect("retarget");
    app.deliver().await;
    assert!(receiver.received().is_empty());
    let error: String = scalar(&app.db, "select last_error from notices").await;
    assert!(error.contains("https"), "{error}");
    // A name that leads into the private network is stopped when it is resolved.
    sqlx::query("update notices set target = 'https://localhost.localdomain/hook', run_at = $1")
        .bind(app.now())
        .execute(&app.db)
        .await
        .expect("retarget");
    app.deliver().await;
    let status: String = scalar(&app.db, "select status from notices").await;
    assert_eq!(status, "pending");
    app.finish().await;
}
