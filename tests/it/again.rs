//! A job that is made after another one: again because it failed, or better because its result was not liked.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{account::KeyRole, id::JobId};

use crate::support::{Account, Answer, TestApp, scalar};

/// What a chat costs.
const CHAT: i64 = 1000;

async fn retry(account: &Account, job: JobId, body: Option<&Value>) -> Answer {
    account.send(Method::POST, &format!("/v1/jobs/{job}/retry"), &[], body).await
}

async fn rate(account: &Account, job: JobId, body: Value) -> Answer {
    account.post(&format!("/v1/jobs/{job}/feedback"), body).await
}

/// A chat that the content policy refuses.
fn refused() -> Value {
    json!({ "model": "gpt-4o", "input": { "prompt": "[[sim:refuse]]" } })
}

/// A job that ended without success.
async fn failed(app: &TestApp, account: &Account) -> JobId {
    let job = account.post("/v1/jobs", refused()).await.job();
    app.drain().await;
    job
}

/// All that is kept of how a job was ordered.
async fn ordered(app: &TestApp, job: JobId) -> Value {
    let sql = format!(
        "select jsonb_build_object('model', model, 'input', input, 'metadata', metadata, 'priority', priority, 'url', webhook_url,
             'events', webhook_events, 'wishes', wishes, 'takes', (deadline - created_at)::text)
         from jobs where id = '{}'",
        job.0
    );
    scalar(&app.db, &sql).await
}

#[tokio::test]
async fn a_job_that_failed_is_made_again_as_it_was_ordered_and_paid_for_anew() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let mut order = refused();
    order["metadata"] = json!({ "order": "7" });
    order["priority"] = json!("low");
    order["webhook"] = json!({ "url": "https://example.com/hook", "events": ["job.succeeded"] });
    order["routing"] = json!({ "only": ["openai"], "allow_fallbacks": false });
    order["deadline_seconds"] = json!(300);
    order["cache"] = json!("off");
    let first = alice.post("/v1/jobs", order).await.job();
    app.drain().await;
    let was = ordered(&app, first).await;
    assert_eq!(
        was["wishes"],
        json!({ "routing": { "only": ["openai"], "allow_fallbacks": false }, "deadline_seconds": 300, "uncached": true })
    );

    let again = retry(&alice, first, None).await;
    assert_eq!((again.status, &again.json["status"]), (StatusCode::ACCEPTED, &json!("queued")));
    let second = again.job();
    assert_ne!(second, first);
    assert_eq!(again.headers["location"], format!("/v1/jobs/{second}"));
    assert_eq!(again.json["retry_of"], json!(first));
    assert_eq!(ordered(&app, second).await, was);
    assert_eq!(alice.tokens().await, (10_000 - CHAT, CHAT), "held anew");
    let old = alice.job(first).await;
    assert_eq!((&old["status"], &old["retry_of"]), (&json!("failed"), &Value::Null), "the old one stays");

    app.drain().await;
    let hook = json!({ "webhook": { "url": "https://example.com/other" }, "max_price": CHAT });
    let third = retry(&alice, second, Some(&hook)).await;
    assert_eq!(third.json["retry_of"], json!(second), "{}", third.json);
    let is = ordered(&app, third.job()).await;
    assert_eq!((&is["url"], &is["events"]), (&json!("https://example.com/other"), &json!([])));
    assert_eq!((&is["input"], &is["wishes"]), (&was["input"], &was["wishes"]));
    app.drain().await;
    assert_eq!(alice.tokens().await, (10_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn only_what_ended_without_success_is_made_again_and_only_for_its_owner() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(2 * CHAT).await, app.account(CHAT).await);
    let open = alice.submit("gpt-4o", json!({ "prompt": "hello" })).await;
    assert_eq!(retry(&alice, open, None).await.error(), (409, "job_not_failed", "none"));
    app.drain().await;
    assert_eq!(retry(&alice, open, None).await.error(), (409, "job_not_failed", "none"));
    let canceled = alice.submit("gpt-4o", json!({ "prompt": "never mind" })).await;
    assert_eq!(alice.cancel(canceled).await.status, StatusCode::OK);
    assert_eq!(retry(&bob, canceled, None).await.error(), (404, "job_not_found", "id"));
    for (body, error) in [
        (json!({ "max_price": CHAT - 1 }), (400, "price_above_max", "max_price")),
        (json!({ "webhook": { "url": "ftp://example.com" } }), (400, "invalid_webhook", "webhook.url")),
        (json!({ "model": "kling" }), (400, "unknown_field", "model")),
    ] {
        assert_eq!(retry(&alice, canceled, Some(&body)).await.error(), error, "{body}");
    }
    // Many programs say JSON and send nothing.
    let headers = [("content-type", "application/json")];
    let again = alice.send(Method::POST, &format!("/v1/jobs/{canceled}/retry"), &headers, None).await;
    assert_eq!(again.status, StatusCode::ACCEPTED, "{}", again.json);
    assert_eq!(alice.tokens().await, (0, CHAT));
    assert_eq!(retry(&alice, canceled, None).await.error().0, 402, "each is held for");
    app.drain().await;
    assert_eq!(alice.job(again.job()).await["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn a_retry_with_a_key_is_one_retry_of_one_job() {
    let app = TestApp::new().await;
    let alice = app.account(10 * CHAT).await;
    let (first, other) = (failed(&app, &alice).await, failed(&app, &alice).await);
    let headers = [("Idempotency-Key", "again"), ("Prefer", "wait=0")];
    let send =
        async |job: JobId| alice.send(Method::POST, &format!("/v1/jobs/{job}/retry"), &headers, None).await;
    let again = send(first).await;
    assert_eq!(again.status, StatusCode::ACCEPTED, "{}", again.json);
    assert_eq!(again.headers["preference-applied"], "wait=0");
    let repeat = send(first).await;
    assert_eq!(repeat.job(), again.job());
    assert_eq!(repeat.headers["idempotent-replayed"], "true");
    assert_eq!(send(other).await.error(), (422, "idempotency_key_reused", "Idempotency-Key"));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_result_has_one_word_said_of_it_which_is_the_latest() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(10 * CHAT).await, app.account(0).await);
    let chat = alice.submit("gpt-4o", json!({ "prompt": "hello" })).await;
    let like = json!({ "rating": "like" });
    assert_eq!(rate(&alice, chat, like.clone()).await.error(), (409, "job_not_succeeded", "none"));
    app.drain().await;
    let failed = failed(&app, &alice).await;
    assert_eq!(rate(&alice, failed, like.clone()).await.error(), (409, "job_not_succeeded", "none"));
    assert_eq!(rate(&bob, chat, like.clone()).await.error(), (404, "job_not_found", "id"));
    for (body, error) in [
        (json!({}), (400, "missing_field", "rating")),
        (json!({ "rating": "love" }), (400, "invalid_type", "rating")),
        (json!({ "rating": "like", "stars": 5 }), (400, "unknown_field", "stars")),
        (json!({ "rating": "like", "reason": "x".repeat(2001) }), (400, "invalid_text", "reason")),
        (json!({ "rating": "like", "improve": "shorter" }), (400, "cannot_improve", "improve")),
    ] {
        assert_eq!(rate(&alice, chat, body.clone()).await.error(), error, "{body}");
    }
    let said = rate(&alice, chat, json!({ "rating": "like", "reason": " well put " })).await;
    assert_eq!(
        (said.status, said.json),
        (
            StatusCode::OK,
            json!({ "object": "feedback", "job": chat, "rating": "like", "reason": "well put", "given_at": app.now(),
                    "improvement": null })
        )
    );
    assert_eq!(rate(&alice, chat, json!({ "rating": "dislike" })).await.json["reason"], Value::Null);
    let kept: Value = scalar(&app.db, "select jsonb_agg(to_jsonb(f) - 'given_at') from feedback f").await;
    assert_eq!(
        kept,
        json!([{ "job_id": chat.0, "account_id": alice.id.0, "rating": "dislike", "reason": null }])
    );

    let film = alice.submit("nano-banana", json!({ "prompt": "a fox" })).await;
    app.drain().await;
    assert_eq!(rate(&alice, film, like).await.status, StatusCode::OK);
    let operator = app.key(bob.id, KeyRole::Operator).await;
    let report = operator.get("/v1/admin/reports/feedback").await.json;
    assert_eq!(
        report["data"],
        json!([{ "model": "gpt-4o", "provider": "openai", "likes": 0, "dislikes": 1 },
               { "model": "nano-banana", "provider": "gemini", "likes": 1, "dislikes": 0 }])
    );
    assert_eq!(report["totals"], json!({ "likes": 1, "dislikes": 1 }));
    let before = operator.get("/v1/admin/reports/feedback?from=2020-01-01&to=2020-01-31").await.json;
    assert_eq!((&before["data"], &before["totals"]["likes"]), (&json!([]), &json!(0)));
    app.finish().await;
}

#[tokio::test]
async fn a_chat_that_is_not_liked_goes_on_with_the_wish_three_times_at_most() {
    let app = TestApp::new().await;
    let alice = app.account(4 * CHAT).await;
    let mut job = alice.submit("gpt-4o", json!({ "prompt": "what is a kiln", "system": "be brief" })).await;
    app.drain().await;
    for iteration in 1..=3 {
        let before = alice.job(job).await;
        let wish = format!("wish {iteration}");
        let answer = rate(&alice, job, json!({ "rating": "dislike", "improve": wish })).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.json);
        let better = &answer.json["improvement"];
        assert_eq!(
            (&better["improves"], &better["iteration"], &better["retry_of"]),
            (&json!(job), &json!(iteration), &Value::Null)
        );
        assert_eq!(answer.headers["location"], format!("/v1/jobs/{}", better["id"].as_str().expect("an id")));
        let messages = better["input"]["messages"].as_array().expect("a conversation");
        assert_eq!(messages.len(), 1 + 2 * iteration);
        let end = &messages[messages.len() - 2..];
        assert_eq!(end[0], json!({ "role": "assistant", "content": before["output"]["text"] }));
        assert_eq!(end[1], json!({ "role": "user", "content": wish }));
        assert_eq!(better["input"]["system"], "be brief");
        job = better["id"].as_str().expect("an id").parse().expect("an id");
        app.drain().await;
    }
    assert_eq!(alice.tokens().await, (0, 0), "each is paid for");
    let fourth = rate(&alice, job, json!({ "rating": "dislike", "improve": "once more" })).await;
    assert_eq!(fourth.error(), (409, "too_many_iterations", "none"));
    app.finish().await;
}

#[tokio::test]
async fn a_prompt_that_is_not_liked_gets_the_wish_and_what_has_no_prompt_gets_none() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let fox = alice.submit("nano-banana", json!({ "prompt": "a fox", "aspect_ratio": "16:9" })).await;
    let speech = alice.submit("tts-1", json!({ "text": "hello" })).await;
    let film = alice.submit("kling", json!({ "prompt": "x".repeat(2495) })).await;
    app.drain().await;
    let wish = json!({ "rating": "dislike", "improve": "a red one" });
    let better = rate(&alice, fox, wish.clone()).await.json["improvement"].clone();
    assert_eq!(
        better["input"],
        json!({ "prompt": "a fox\n\nChange: a red one", "aspect_ratio": "16:9" }),
        "{better}"
    );
    for job in [speech, film] {
        assert_eq!(rate(&alice, job, wish.clone()).await.error(), (400, "cannot_improve", "improve"));
    }
    let said: i64 = scalar(&app.db, "select count(*) from feedback").await;
    assert_eq!(said, 1, "what is refused is not said");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn an_improvement_is_a_job_that_can_be_too_dear_fail_and_be_made_again() {
    let app = TestApp::new().await;
    let alice = app.account(CHAT).await;
    let chat = alice.submit("gpt-4o", json!({ "prompt": "hello" })).await;
    app.drain().await;
    let wish = json!({ "rating": "dislike", "reason": "dull", "improve": "[[sim:refuse]]" });
    assert_eq!(rate(&alice, chat, wish.clone()).await.error().1, "insufficient_tokens");
    let kept: String = scalar(&app.db, "select rating || ' ' || reason from feedback").await;
    assert_eq!(kept, "dislike dull", "the word stays");

    app.give(alice.id, CHAT, None).await;
    let headers = [("Idempotency-Key", "wish")];
    let path = format!("/v1/jobs/{chat}/feedback");
    let answer = alice.send(Method::POST, &path, &headers, Some(&wish)).await;
    let repeat = alice.send(Method::POST, &path, &headers, Some(&wish)).await;
    let better = answer.json["improvement"]["id"].clone();
    assert_eq!(repeat.json["improvement"]["id"], better, "{}", repeat.json);
    app.drain().await;
    let better: JobId = better.as_str().expect("an id").parse().expect("an id");
    assert_eq!(alice.job(better).await["status"], "failed");
    let again = retry(&alice, better, None).await.json;
    assert_eq!(
        (&again["retry_of"], &again["improves"], &again["iteration"]),
        (&json!(better), &json!(chat), &json!(1))
    );
    app.drain().await;
    assert_eq!(alice.tokens().await, (CHAT, 0));
    app.finish().await;
}
