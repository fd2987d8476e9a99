//! Webhook endpoints: told of each end they asked for, by their own secrets, and given up when nothing arrives.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use shared::{account::KeyRole, notice, process::Process};
use workers::notify;

use crate::{
    keys::text,
    support::{Account, Receiver, Settings, TestApp, eventually, scalar},
};

/// An endpoint of a test.
pub struct Hook {
    pub id: String,
    pub path: String,
    pub secret: Vec<u8>,
}

/// The bytes of a secret as an answer shows it.
fn secret_of(answer: &Value) -> Vec<u8> {
    let shown = text(&answer["secret"]);
    let secret = shown.strip_prefix("whsec_").unwrap_or_else(|| panic!("{shown} is no secret"));
    BASE64_STANDARD.decode(secret).expect("base 64")
}

/// Makes an endpoint that hears of these events, or of all.
pub async fn endpoint(app: &TestApp, who: &Account, receiver: &Receiver, events: &[&str]) -> Hook {
    let made = who.post("/v1/webhook-endpoints", json!({ "url": receiver.url, "events": events })).await;
    assert_eq!(made.status, 201, "{}", made.json);
    // What ends in the very moment it is made may or may not be told.
    app.clock.advance(TimeDelta::seconds(1));
    let id = text(&made.json["id"]);
    Hook { path: format!("/v1/webhook-endpoints/{id}"), secret: secret_of(&made.json), id }
}

/// A job that succeeds, told to all that want to hear of it.
pub async fn run(app: &TestApp, who: &Account) -> String {
    let job = who.submit("gpt-4o", json!({ "prompt": "hello" })).await;
    app.drain().await;
    app.deliver().await;
    job.to_string()
}

/// What a receiver was told, in the order of the alphabet.
fn types(receiver: &Receiver) -> Vec<String> {
    let mut types: Vec<_> = receiver.received().iter().map(|told| text(&told.json()["type"])).collect();
    types.sort();
    types
}

/// Someone whose owner can be written to, speaking with a key, which outlives a login.
async fn ann(app: &TestApp) -> Account {
    let ann = app.register("ann@example.com").await;
    app.give(ann.id, 100_000, None).await;
    app.key(ann.id, KeyRole::Member).await
}

#[tokio::test]
async fn each_endpoint_is_told_of_the_ends_it_asked_for_beside_the_webhook_of_the_job() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(100_000).await, app.account(10_000).await);
    let (all, failures, own) = (app.receiver().await, app.receiver().await, app.receiver().await);
    let hook = endpoint(&app, &alice, &all, &[]).await;
    endpoint(&app, &alice, &failures, &["job.failed", "job.expired", "job.failed"]).await;
    let told = json!({ "model": "gpt-4o", "input": { "prompt": "good" }, "webhook": { "url": own.url } });
    let job = alice.post("/v1/jobs", told).await.job();
    alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    bob.submit("gpt-4o", json!({ "prompt": "of another account" })).await;
    app.drain().await;
    assert_eq!(app.deliver().await, 4);
    assert_eq!(types(&all), ["job.failed", "job.succeeded"]);
    assert_eq!((types(&failures), types(&own)), (vec!["job.failed".into()], vec!["job.succeeded".into()]));
    let received = all.received();
    let good = received.iter().find(|told| told.json()["type"] == "job.succeeded").expect("told");
    assert_eq!(good.json()["data"]["id"], job.to_string(), "the job as the API shows it");
    assert_ne!(good.id, own.received()[0].id, "each receiver has a notice of its own");
    let signatures: Vec<_> = good.signature.split(' ').collect();
    assert_eq!(signatures[0], good.signed_with(&hook.secret), "by the endpoint's own secret");
    let text = format!("{}.{}.{}", good.id, good.timestamp, good.body);
    let by_key_pair = format!("v1a,{}", BASE64_STANDARD.encode(app.delivery.signer.sign(text.as_bytes())));
    assert_eq!(signatures[1..], [by_key_pair]);
    app.finish().await;
}

#[tokio::test]
async fn however_a_job_ends_its_account_s_endpoint_is_told_once() {
    let app = TestApp::new().await;
    let alice = app.account(500_000).await;
    let receiver = app.receiver().await;
    endpoint(&app, &alice, &receiver, &[]).await;
    let canceled = alice.submit("kling", json!({ "prompt": "never mind" })).await;
    alice.cancel(canceled).await;
    let endless =
        json!({ "model": "kling", "input": { "prompt": "[[sim:never_finish]]" }, "deadline_seconds": 600 });
    alice.post("/v1/jobs", endless).await.job();
    alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    let speech = json!({ "model": "tts-1", "input": { "text": "the same again", "format": "wav" } });
    alice.post("/v1/jobs", speech.clone()).await.job();
    app.drain().await;
    let again = alice.send(Method::POST, "/v1/jobs", &[("Prefer", "wait=0")], Some(&speech)).await;
    assert_eq!(again.json["output"]["cached"], true, "{}", again.json);
    app.deliver().await;
    let expected = ["job.canceled", "job.expired", "job.failed", "job.succeeded", "job.succeeded"];
    assert_eq!(types(&receiver), expected);
    let mut ids: Vec<_> = receiver.received().into_iter().map(|told| told.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    app.finish().await;
}

#[tokio::test]
async fn a_secret_is_shown_once_and_after_a_rotation_both_sign_for_a_day() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &alice, &receiver, &[]).await;
    let shown = BASE64_STANDARD.encode(&hook.secret);
    for path in [hook.path.as_str(), "/v1/webhook-endpoints"] {
        let answer = alice.get(path).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.json.to_string().contains(&shown), "{}", answer.json);
    }
    let kept: i64 = scalar(
        &app.db,
        &format!(
            "select count(*) from webhook_endpoints where strpos(secret::text, encode(decode('{shown}', 'base64'), 'hex')) > 0"
        ),
    )
    .await;
    assert_eq!(kept, 0, "sealed");
    let signatures = async || {
        run(&app, &alice).await;
        let told = receiver.received().pop().expect("told");
        let signatures: Vec<_> = told.signature.split(' ').map(str::to_owned).collect();
        (told, signatures)
    };
    let rotated = alice.post(&format!("{}/rotate", hook.path), json!({})).await;
    assert_eq!(rotated.status, 200, "{}", rotated.json);
    let secret = secret_of(&rotated.json);
    assert_ne!(secret, hook.secret);
    let (told, both) = signatures().await;
    assert_eq!(both[..2], [told.signed_with(&secret), told.signed_with(&hook.secret)]);
    assert_eq!(both.len(), 3);
    assert!(alice.get(&hook.path).await.json["previous_secret_until"].is_string());
    app.clock.advance(TimeDelta::hours(24));
    let (told, one) = signatures().await;
    assert_eq!((&one[0], one.len()), (&told.signed_with(&secret), 2));
    assert_eq!(alice.get(&hook.path).await.json["previous_secret_until"], Value::Null);
    app.finish().await;
}

#[tokio::test]
async fn the_public_key_is_everybody_s_to_see() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &alice, &receiver, &[]).await;
    let url = format!("{}/v1/webhook-endpoints/public-key", app.base);
    let answer = crate::support::read(app.http.get(url)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json["public_key"], app.delivery.signer.public_key());
    assert_eq!(alice.get(&hook.path).await.json["public_key"], answer.json["public_key"]);
    app.finish().await;
}

#[tokio::test]
async fn an_endpoint_that_is_slow_or_far_behind_keeps_no_other_waiting() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(100_000).await, app.account(10_000).await);
    let (slow, quick, own) = (app.receiver().await, app.receiver().await, app.receiver().await);
    endpoint(&app, &alice, &slow, &["job.succeeded"]).await;
    for _ in 0..30 {
        alice.submit("gpt-4o", json!({ "prompt": "many" })).await;
    }
    app.drain().await;
    let claim = async || {
        let claimed = notice::claim(&app.db, 32, Duration::from_secs(60), app.now()).await.expect("claim");
        [&slow, &quick, &own].map(|receiver| claimed.iter().filter(|due| due.target == receiver.url).count())
    };
    assert_eq!(claim().await, [4, 0, 0], "the rest waits for these");
    endpoint(&app, &alice, &quick, &["job.failed"]).await;
    alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    endpoint(&app, &bob, &own, &[]).await;
    bob.submit("gpt-4o", json!({ "prompt": "one" })).await;
    app.drain().await;
    assert_eq!(claim().await, [0, 1, 1], "the others do not");
    app.clock.advance(TimeDelta::minutes(2));
    app.deliver().await;
    assert_eq!([&slow, &quick, &own].map(|receiver| receiver.received().len()), [30, 1, 1]);
    app.finish().await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_waited_for_while_others_are_told() {
    let mut app = TestApp::new().await;
    // Longer than this test takes anywhere.
    app.delivery.timeout = Duration::from_secs(3600);
    let alice = app.account(100_000).await;
    let (slow, quick) = (app.receiver().await, app.receiver().await);
    let hook = endpoint(&app, &alice, &slow, &[]).await;
    endpoint(&app, &alice, &quick, &[]).await;
    for _ in 0..10 {
        alice.submit("gpt-4o", json!({ "prompt": "many" })).await;
    }
    app.drain().await;
    slow.hang();
    let deliverer = Process::new();
    let delivering = notify::serve(app.delivery.clone(), &app.door.wakes, 8, &deliverer);
    let listening = async {
        eventually("the quick one is told of all", async || quick.received().len() == 10).await;
        let log = format!("/v1/webhook-deliveries?endpoint={}&status=pending", hook.id);
        let waiting = alice.get(&log).await.json;
        assert_eq!(waiting["data"].as_array().map(Vec::len), Some(10), "{waiting}");
        slow.go_on();
        eventually("the slow one is told as well", async || slow.received().len() == 10).await;
        deliverer.finish().await;
    };
    tokio::join!(delivering, listening);
    for receiver in [&slow, &quick] {
        let mut ids: Vec<_> = receiver.received().into_iter().map(|told| told.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 10, "each once");
    }
    app.finish().await;
}

#[tokio::test]
async fn an_endpoint_that_answers_410_is_switched_off_and_what_it_was_to_hear_is_gone() {
    let app = TestApp::new().await;
    let ann = ann(&app).await;
    let (leaving, staying) = (app.receiver().await, app.receiver().await);
    let hook = endpoint(&app, &ann, &leaving, &[]).await;
    endpoint(&app, &ann, &staying, &[]).await;
    app.mails().await;
    leaving.answer(500, &[]);
    run(&app, &ann).await;
    leaving.answer(410, &[]);
    run(&app, &ann).await;
    let view = ann.get(&hook.path).await.json;
    assert_eq!((&view["enabled"], &view["disabled_reason"]), (&json!(false), &json!("gone")), "{view}");
    let log = ann.get(&format!("/v1/webhook-deliveries?endpoint={}", hook.id)).await.json;
    let statuses: Vec<_> =
        log["data"].as_array().expect("a list").iter().map(|one| text(&one["status"])).collect();
    assert_eq!(statuses, ["gone", "gone"], "also the one that waited: {log}");
    let mails = app.mails().await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!((mails[0].recipient.as_str(), mails[0].text.contains(&hook.id)), ("ann@example.com", true));
    assert!(mails[0].text.contains("410"), "{}", mails[0].text);

    run(&app, &ann).await;
    assert_eq!((leaving.received().len(), staying.received().len()), (2, 3), "nobody is told there");
    let on = ann.patch(&hook.path, json!({ "enabled": true })).await;
    assert_eq!((&on.json["enabled"], &on.json["disabled_reason"]), (&json!(true), &Value::Null));
    app.clock.advance(TimeDelta::seconds(1));
    run(&app, &ann).await;
    assert_eq!((leaving.received().len(), staying.received().len()), (3, 4));
    assert_eq!(app.mails().await, []);
    app.finish().await;
}

#[tokio::test]
async fn an_endpoint_at_which_nothing_arrives_for_five_days_is_switched_off() {
    let app = TestApp::new().await;
    let ann = ann(&app).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &ann, &receiver, &[]).await;
    app.mails().await;
    for _ in 0..500 {
        receiver.answer(503, &[]);
    }
    let began = app.now();
    loop {
        run(&app, &ann).await;
        let view = ann.get(&hook.path).await.json;
        if view["enabled"] == false {
            assert_eq!(view["disabled_reason"], "failing");
            break;
        }
        assert!(view["failing_since"].is_string(), "{view}");
        app.clock.advance(TimeDelta::hours(8));
    }
    let lasted = app.now() - began;
    assert!((TimeDelta::days(5)..TimeDelta::hours(5 * 24 + 8)).contains(&lasted), "{lasted}");
    let waiting: i64 = scalar(&app.db, "select count(*) from notices where status = 'pending'").await;
    assert_eq!(waiting, 0, "what waited is gone");
    let mails = app.mails().await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(mails[0].text.contains("has arrived since"), "{}", mails[0].text);
    app.finish().await;
}

#[tokio::test]
async fn whatever_arrives_ends_a_row_of_failures() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &alice, &receiver, &[]).await;
    let failing_since = async || alice.get(&hook.path).await.json["failing_since"].clone();
    receiver.answer(500, &[]);
    run(&app, &alice).await;
    assert!(failing_since().await.is_string());
    app.clock.advance(TimeDelta::seconds(10));
    assert_eq!(app.deliver().await, 1);
    assert_eq!(failing_since().await, Value::Null);
    app.clock.advance(TimeDelta::days(6));
    receiver.answer(500, &[]);
    run(&app, &alice).await;
    assert_eq!(alice.get(&hook.path).await.json["enabled"], true, "a new row, of one");
    app.finish().await;
}

#[tokio::test]
async fn a_change_counts_for_what_waits_and_for_what_ends_from_then_on() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let (old, new) = (app.receiver().await, app.receiver().await);
    let hook = endpoint(&app, &alice, &old, &[]).await;
    old.answer(500, &[]);
    let first = run(&app, &alice).await;
    let moved = json!({ "url": new.url, "description": " the new one " });
    let view = alice.patch(&hook.path, moved).await.json;
    assert_eq!((&view["description"], &view["failing_since"]), (&json!("the new one"), &Value::Null));
    app.clock.advance(TimeDelta::seconds(10));
    app.deliver().await;
    assert_eq!(new.received()[0].json()["data"]["id"], first, "what waited goes to the new place");
    alice.patch(&hook.path, json!({ "events": ["job.failed"] })).await;
    app.clock.advance(TimeDelta::seconds(1));
    run(&app, &alice).await;
    assert_eq!(new.received().len(), 1, "of successes it wants to hear no more");
    alice.patch(&hook.path, json!({ "events": [], "description": null })).await;
    app.clock.advance(TimeDelta::seconds(1));
    new.answer(500, &[]);
    run(&app, &alice).await;
    let off = alice.patch(&hook.path, json!({ "enabled": false })).await.json;
    assert_eq!((&off["enabled"], &off["disabled_reason"]), (&json!(false), &json!("owner")));
    run(&app, &alice).await;
    alice.patch(&hook.path, json!({ "enabled": true })).await;
    app.clock.advance(TimeDelta::days(2));
    assert_eq!((app.deliver().await, new.received().len()), (0, 2), "what it was not to hear stays unheard");
    new.answer(500, &[]);
    run(&app, &alice).await;
    assert_eq!(alice.delete(&hook.path).await.json["deleted"], true);
    assert_eq!(alice.get(&hook.path).await.error(), (404, "webhook_endpoint_not_found", "id"));
    run(&app, &alice).await;
    app.clock.advance(TimeDelta::days(2));
    assert_eq!((app.deliver().await, new.received().len()), (0, 3));
    let ends: String =
        scalar(&app.db, "select string_agg(status, ' ' order by created_at, id) from notices").await;
    assert_eq!(ends, "delivered gone gone", "{ends}");
    app.finish().await;
}

#[tokio::test]
async fn a_test_is_sent_as_any_webhook_and_of_no_job() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &alice, &receiver, &["job.failed"]).await;
    let path = format!("{}/test", hook.path);
    let sent = alice.post(&path, json!({})).await;
    assert_eq!((sent.status.as_u16(), &sent.json["event"]), (202, &json!("webhook.test")), "{}", sent.json);
    assert_eq!((&sent.json["job"], &sent.json["endpoint"]), (&Value::Null, &json!(hook.id)));
    assert_eq!(app.deliver().await, 1);
    let told = receiver.received().remove(0);
    assert_eq!(
        (&told.json()["type"], &told.json()["data"]["endpoint"]),
        (&json!("webhook.test"), &json!(hook.id))
    );
    assert_eq!(told.id, text(&sent.json["id"]));
    assert!(told.signature.starts_with(&told.signed_with(&hook.secret)));
    alice.patch(&hook.path, json!({ "enabled": false })).await;
    assert_eq!(alice.post(&path, json!({})).await.error(), (409, "webhook_endpoint_disabled", "none"));
    let bob = app.account(0).await;
    assert_eq!(bob.post(&path, json!({})).await.error(), (404, "webhook_endpoint_not_found", "id"));
    app.finish().await;
}

#[tokio::test]
async fn what_is_wrong_with_an_endpoint_is_said_and_there_are_twenty_at_most() {
    let app = TestApp::with(Settings { allow_private: false, ..Settings::default() }).await;
    let (alice, bob) = (app.account(0).await, app.account(0).await);
    let good = json!({ "url": "https://example.com/hook" });
    for (body, code, param) in [
        (json!({}), "missing_field", "url"),
        (json!({ "url": "https://example.com", "secret": "mine" }), "unknown_field", "secret"),
        (json!({ "url": "http://example.com/hook" }), "invalid_webhook", "url"),
        (json!({ "url": "https://10.0.0.1/hook" }), "invalid_webhook", "url"),
        (json!({ "url": format!("https://example.com/{}", "x".repeat(2048)) }), "invalid_webhook", "url"),
        (json!({ "url": "https://example.com", "events": ["job.running"] }), "invalid_webhook", "events"),
        (
            json!({ "url": "https://example.com", "description": "x".repeat(2001) }),
            "invalid_text",
            "description",
        ),
    ] {
        assert_eq!(
            alice.post("/v1/webhook-endpoints", body.clone()).await.error(),
            (400, code, param),
            "{body}"
        );
    }
    let mut last = Value::Null;
    for _ in 0..20 {
        let made = alice.post("/v1/webhook-endpoints", good.clone()).await;
        assert_eq!(made.status, 201, "{}", made.json);
        last = made.json["id"].clone();
    }
    let more = alice.post("/v1/webhook-endpoints", good).await;
    assert_eq!(more.error(), (409, "too_many_endpoints", "none"));
    let page = alice.get("/v1/webhook-endpoints?limit=15").await.json;
    assert_eq!((page["data"].as_array().map(Vec::len), &page["has_more"]), (Some(15), &json!(true)));
    assert_eq!(page["data"][0]["id"], last, "newest first");
    let rest = alice.get(&format!("/v1/webhook-endpoints?after={}", text(&page["last_id"]))).await.json;
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["has_more"]), (Some(5), &json!(false)));
    let path = format!("/v1/webhook-endpoints/{}", text(&last));
    let private = alice.patch(&path, json!({ "url": "https://localhost/" })).await;
    assert_eq!(private.error(), (400, "invalid_webhook", "url"));
    for foreign in [
        bob.get(&path).await,
        bob.patch(&path, json!({ "enabled": false })).await,
        bob.post(&format!("{path}/rotate"), json!({})).await,
        bob.delete(&path).await,
    ] {
        assert_eq!(foreign.error(), (404, "webhook_endpoint_not_found", "id"));
    }
    assert_eq!(bob.get("/v1/webhook-endpoints").await.json["data"], json!([]));
    assert_eq!(alice.get(&path).await.json["enabled"], true);
    app.finish().await;
}

#[tokio::test]
async fn every_change_of_an_endpoint_is_written_down_without_its_secrets() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let owner = app.scoped_key(alice.id, &["audit:read"]).await;
    let made = alice
        .post(
            "/v1/webhook-endpoints",
            json!({ "url": "https://example.com/hook?token=hush", "description": "ops" }),
        )
        .await;
    let path = format!("/v1/webhook-endpoints/{}", text(&made.json["id"]));
    alice.patch(&path, json!({ "description": "ops" })).await;
    alice.patch(&path, json!({ "enabled": false, "url": "https://example.com/other?token=hush" })).await;
    alice.post(&format!("{path}/rotate"), json!({})).await;
    alice.delete(&path).await;
    let log = owner.get("/v1/account/audit-log").await.json;
    let entries = log["data"].as_array().expect("a list");
    let actions: Vec<_> = entries.iter().map(|entry| text(&entry["action"])).collect();
    let expected =
        ["deleted", "rotated", "changed", "created"].map(|done| format!("webhook_endpoint.{done}"));
    assert_eq!(actions, expected, "newest first; what changes nothing is no change");
    assert_eq!(entries[2]["before"], json!({ "enabled": true, "url": "https://example.com/…" }));
    assert_eq!(entries[2]["after"], json!({ "enabled": false, "url": "https://example.com/…" }));
    assert!(!log.to_string().contains("hush") && !log.to_string().contains("whsec"), "{log}");
    app.finish().await;
}
