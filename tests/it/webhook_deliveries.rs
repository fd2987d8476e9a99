//! The log of webhooks: what was told and how that went, sent again by hand, and forgotten after a month.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::{
    keys::text,
    support::{Account, TestApp, execute, scalar},
    webhook_endpoints::{endpoint, run},
};

const LOG: &str = "/v1/webhook-deliveries";

async fn list(who: &Account, query: &str) -> Vec<Value> {
    let answer = who.get(&format!("{LOG}?{query}")).await;
    answer.json["data"].as_array().unwrap_or_else(|| panic!("{query}: {}", answer.json)).clone()
}

fn ids(list: &[Value]) -> Vec<String> {
    list.iter().map(|one| text(&one["id"])).collect()
}

#[tokio::test]
async fn every_try_is_in_the_log() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &alice, &receiver, &[]).await;
    receiver.answer(503, &[]);
    let job = run(&app, &alice).await;
    let waiting = list(&alice, "status=pending").await.remove(0);
    assert!(waiting["next_attempt_at"].is_string() && waiting["settled_at"].is_null(), "{waiting}");
    app.clock.advance(TimeDelta::seconds(10));
    app.deliver().await;
    let told = list(&alice, "").await.remove(0);
    assert_eq!((&told["job"], &told["endpoint"]), (&json!(job), &json!(hook.id)));
    assert_eq!((&told["event"], &told["status"]), (&json!("job.succeeded"), &json!("delivered")));
    assert_eq!(
        (&told["tries"], &told["next_attempt_at"], &told["url"]),
        (&json!(2), &Value::Null, &Value::Null)
    );
    let attempts = told["attempts"].as_array().expect("a list");
    assert_eq!((&attempts[0]["status_code"], &attempts[1]["status_code"]), (&json!(503), &json!(204)));
    assert!(text(&attempts[0]["error"]).contains("503") && attempts[1]["error"].is_null(), "{told}");
    assert!(attempts.iter().all(|one| one["duration_ms"].is_u64() && one["at"].is_string()), "{told}");
    let id = text(&told["id"]);
    assert_eq!(receiver.received().iter().map(|one| one.id.clone()).collect::<Vec<_>>(), [&*id, &*id]);
    assert_eq!(alice.get(&format!("{LOG}/{id}")).await.json, told);

    // Nobody listens there, so there is no status.
    let deaf = json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": "http://127.0.0.1:1/hook" } });
    let unheard = alice.post("/v1/jobs", deaf).await.job();
    app.drain().await;
    app.deliver().await;
    let both = list(&alice, &format!("job={unheard}")).await;
    let own = both.iter().find(|one| one["endpoint"].is_null()).expect("the job's own");
    assert_eq!((both.len(), &own["url"]), (2, &json!("http://127.0.0.1:1/hook")));
    assert_eq!(own["attempts"][0]["status_code"], Value::Null);
    assert!(!own["attempts"].to_string().contains("/hook"), "without the URL: {own}");
    app.finish().await;
}

#[tokio::test]
async fn the_log_is_narrowed_and_turned_page_by_page_and_is_nobody_else_s() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(100_000).await, app.account(10_000).await);
    let (one, two) = (app.receiver().await, app.receiver().await);
    let first = endpoint(&app, &alice, &one, &[]).await;
    let second = endpoint(&app, &alice, &two, &[]).await;
    let jobs = [run(&app, &alice).await, run(&app, &alice).await, run(&app, &alice).await];
    two.answer(500, &[]);
    let last = run(&app, &alice).await;
    run(&app, &bob).await;
    let all = list(&alice, "").await;
    assert_eq!(all.len(), 8);
    let newest_first: Vec<_> = ids(&all);
    let mut sorted = newest_first.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    assert_eq!(newest_first, sorted);
    let of = async |query: String| list(&alice, &query).await.len();
    assert_eq!(of(format!("endpoint={}", first.id)).await, 4);
    assert_eq!(of(format!("job={}", jobs[0])).await, 2);
    assert_eq!(of(format!("job={}&endpoint={}", jobs[0], second.id)).await, 1);
    assert_eq!(of("status=delivered".into()).await, 7);
    assert_eq!(of(format!("endpoint={}&status=delivered", second.id)).await, 3);
    assert_eq!(list(&alice, "status=pending").await[0]["job"], last);
    for narrowing in [String::new(), format!("endpoint={}", first.id), format!("job={last}")] {
        let whole = ids(&list(&alice, &narrowing).await);
        let mut turned: Vec<String> = Vec::new();
        loop {
            let after = turned.last().map_or_else(String::new, |id| format!("&after={id}"));
            let page = alice.get(&format!("{LOG}?{narrowing}&limit=1{after}").replace("?&", "?")).await.json;
            turned.extend(ids(page["data"].as_array().expect("a list")));
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(turned, whole, "{narrowing}");
    }
    for (query, param) in [
        ("status=lost", "status"),
        ("job=whe_1", "job"),
        ("endpoint=7", "endpoint"),
        ("after=x", "after"),
        ("limit=0", "limit"),
        ("colour=red", "colour"),
    ] {
        let error = alice.get(&format!("{LOG}?{query}")).await;
        assert_eq!((error.error().0, error.error().2), (400, param), "{query}");
    }
    assert_eq!(list(&bob, "").await.len(), 0);
    assert_eq!(list(&bob, &format!("job={}", jobs[0])).await.len(), 0);
    assert_eq!(list(&bob, &format!("endpoint={}", first.id)).await.len(), 0);
    let foreign = format!("{LOG}/{}", newest_first[0]);
    assert_eq!(bob.get(&foreign).await.error(), (404, "webhook_delivery_not_found", "id"));
    let replayed = bob.post(&format!("{foreign}/replay"), json!({})).await;
    assert_eq!(replayed.error(), (404, "webhook_delivery_not_found", "id"));
    app.finish().await;
}

#[tokio::test]
async fn a_delivery_is_sent_again_under_its_id_as_long_as_its_endpoint_is_there() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &alice, &receiver, &[]).await;
    let job = run(&app, &alice).await;
    let id = ids(&list(&alice, "").await).remove(0);
    let replay = format!("{LOG}/{id}/replay");
    let again = alice.post(&replay, json!({})).await;
    assert_eq!((again.status.as_u16(), &again.json["status"]), (202, &json!("pending")), "{}", again.json);
    assert_eq!(app.deliver().await, 1);
    let told = receiver.received();
    assert_eq!((&told[0].id, &told[1].id), (&id, &id));
    assert_eq!(told[1].json()["data"]["id"], job);
    let view = alice.get(&format!("{LOG}/{id}")).await.json;
    assert_eq!((view["attempts"].as_array().map(Vec::len), &view["status"]), (Some(2), &json!("delivered")));

    // One that waits does not wait any longer.
    receiver.answer(500, &[]);
    run(&app, &alice).await;
    let waiting = ids(&list(&alice, "status=pending").await).remove(0);
    assert_eq!(app.deliver().await, 0);
    assert_eq!(alice.post(&format!("{LOG}/{waiting}/replay"), json!({})).await.status, 202);
    assert_eq!(app.deliver().await, 1);

    alice.patch(&hook.path, json!({ "enabled": false })).await;
    assert_eq!(alice.post(&replay, json!({})).await.error(), (409, "webhook_endpoint_disabled", "none"));
    alice.patch(&hook.path, json!({ "enabled": true })).await;
    assert_eq!(alice.post(&replay, json!({})).await.status, 202);
    app.deliver().await;
    alice.delete(&hook.path).await;
    assert_eq!(alice.post(&replay, json!({})).await.error(), (409, "webhook_endpoint_disabled", "none"));
    assert_eq!(list(&alice, &format!("endpoint={}", hook.id)).await.len(), 2, "the log stays");
    app.finish().await;
}

#[tokio::test]
async fn what_died_is_sent_again_from_the_start_of_the_schedule() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let receiver = app.receiver().await;
    let hook = json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": receiver.url } });
    alice.post("/v1/jobs", hook).await;
    app.drain().await;
    for _ in 0..workers::notify::TRIES {
        receiver.answer(500, &[]);
        app.deliver().await;
        app.clock.advance(TimeDelta::hours(30));
    }
    let dead = list(&alice, "status=dead").await.remove(0);
    assert_eq!(dead["attempts"].as_array().map(Vec::len), Some(workers::notify::TRIES));
    let path = format!("{LOG}/{}/replay", text(&dead["id"]));
    receiver.answer(500, &[]);
    assert_eq!(alice.post(&path, json!({})).await.status, 202);
    app.deliver().await;
    app.clock.advance(TimeDelta::seconds(10));
    assert_eq!(app.deliver().await, 1, "five seconds later, as the first time");
    assert_eq!(list(&alice, "").await[0]["status"], "delivered");
    app.finish().await;
}

#[tokio::test]
async fn by_hand_only_so_many_are_sent_in_an_hour() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &alice, &receiver, &[]).await;
    let path = format!("{}/test", hook.path);
    assert_eq!(alice.post(&path, json!({})).await.status, 202);
    let full = format!(
        "update rates set full_at = full_at + interval '1 hour' where bucket = 'webhooks_by_hand' and subject = '{}'",
        alice.id
    );
    assert_eq!(execute(&app.db, &full).await.expect("use up"), 1);
    let refused = alice.post(&path, json!({})).await;
    assert_eq!(refused.error(), (429, "rate_limited", "none"));
    assert!(refused.headers.contains_key("retry-after"));
    app.deliver().await;
    app.finish().await;
}

#[tokio::test]
async fn a_month_later_the_log_is_empty_and_the_jobs_are_still_there() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let receiver = app.receiver().await;
    let hook = endpoint(&app, &alice, &receiver, &[]).await;
    let job = run(&app, &alice).await;
    alice.post(&format!("{}/test", hook.path), json!({})).await;
    app.deliver().await;
    app.clock.advance(TimeDelta::days(20));
    let younger = run(&app, &alice).await;
    assert!(app.tick("forget-old-rows").await);
    assert_eq!(list(&alice, "").await.len(), 3);
    app.clock.advance(TimeDelta::days(11));
    assert!(app.tick("forget-old-rows").await);
    let left = list(&alice, "").await;
    assert_eq!((left.len(), &left[0]["job"]), (1, &json!(younger)));
    assert_eq!(alice.get(&format!("/v1/jobs/{job}")).await.json["status"], "succeeded");
    let rows: i64 = scalar(&app.db, "select count(*) from notices").await;
    assert_eq!(rows, 1);
    app.finish().await;
}
