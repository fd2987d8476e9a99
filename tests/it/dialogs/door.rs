//! Whose a dialog is, how many there may be, what is refused and by which words, and the whole of one as a file.

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ask, begin, delete, questions, say, user};
use crate::support::{Account, Answer, Settings, TestApp, execute};

#[tokio::test]
async fn a_person_sees_their_own_dialogs_and_a_key_those_of_its_account_s_keys() {
    let app = TestApp::new().await;
    let ann = app.register("ann@example.com").await;
    app.give(ann.id, 10_000, None).await;
    let bob = app.join(&ann, "bob@example.com", "developer").await;
    let eve = app.join(&ann, "eve@example.com", "viewer").await;
    let (one, two) = (
        app.scoped_key(ann.id, &["jobs:write", "jobs:read"]).await,
        app.scoped_key(ann.id, &["jobs:write", "jobs:read"]).await,
    );
    let stranger = app.account(10_000).await;
    let hers = begin(&ann, json!({ "model": "gpt-4o", "title": "mine" })).await;
    let ours = begin(&one, json!({ "model": "gpt-4o" })).await;
    for (who, dialog, sees) in [
        (&ann, &hers, true),
        (&bob, &hers, false),
        (&eve, &hers, false),
        (&one, &hers, false),
        (&stranger, &hers, false),
        (&one, &ours, true),
        (&two, &ours, true),
        (&ann, &ours, false),
        (&stranger, &ours, false),
    ] {
        let listed = who.get("/v1/dialogs").await.json;
        let ids: Vec<_> = listed["data"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
        assert_eq!(ids.contains(&&json!(dialog)), sees, "{listed}");
        for path in ["", "/messages", "/export"] {
            let status = who.get(&format!("/v1/dialogs/{dialog}{path}")).await.status.as_u16();
            assert_eq!(status, if sees { 200 } else { 404 }, "{path}");
        }
    }
    for who in [&bob, &one, &stranger] {
        let path = format!("/v1/dialogs/{hers}");
        let patched = who.send(Method::PATCH, &path, &[], Some(&json!({ "title": "x" }))).await;
        assert_eq!(patched.error(), (404, "dialog_not_found", "id"));
        assert_eq!(delete(who, format!("{path}/messages")).await, StatusCode::NOT_FOUND);
        assert_eq!(delete(who, path).await, StatusCode::NOT_FOUND);
        assert_eq!(
            ask(who, &hers, json!({ "prompt": "x" })).await.error(),
            (404, "dialog_not_found", "dialog")
        );
    }
    assert_eq!(eve.post("/v1/dialogs", json!({})).await.error(), (403, "forbidden", "none"));
    say(&two, &ours, "hello").await;
    app.drain().await;
    assert_eq!(questions(&one, &ours).await, ["hello"]);
    let given_up = say(&ann, &hers, "never mind").await;
    assert_eq!(ann.cancel(given_up).await.status, StatusCode::OK);
    for who in [&bob, &one] {
        let again = who.post(&format!("/v1/jobs/{given_up}/retry"), json!({})).await;
        assert_eq!((again.status, again.json.get("dialog")), (StatusCode::ACCEPTED, None), "{}", again.json);
    }
    app.drain().await;
    assert_eq!(questions(&ann, &hers).await, Vec::<String>::new(), "nobody else speaks in it");
    assert_eq!(ann.get(&format!("/v1/dialogs/{hers}")).await.json["title"], "mine");
    app.finish().await;
}

#[tokio::test]
async fn however_many_begin_at_once_no_account_has_more_than_it_may() {
    let dialogs = api::config::Dialogs { per_account: 3, ..Default::default() };
    let app = TestApp::with(Settings { dialogs, ..Settings::default() }).await;
    let (alice, bob) = (app.account(0).await, app.account(0).await);
    let answers = join_all((0..10).map(|_| alice.post("/v1/dialogs", json!({})))).await;
    let begun: Vec<_> = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).collect();
    assert_eq!(begun.len(), 3);
    let refused: BTreeSet<_> =
        answers.iter().filter(|answer| answer.status != StatusCode::CREATED).map(Answer::error).collect();
    assert_eq!(refused, BTreeSet::from([(409, "too_many_dialogs", "none")]));
    begin(&bob, json!({})).await;
    let first = begun[0].json["id"].as_str().expect("an id");
    assert_eq!(delete(&alice, format!("/v1/dialogs/{first}")).await, StatusCode::OK);
    begin(&alice, json!({})).await;
    let page = alice.get("/v1/dialogs?limit=2").await.json;
    let next = alice
        .get(&format!("/v1/dialogs?limit=2&after={}", page["last_id"].as_str().expect("an id")))
        .await
        .json;
    let count = |page: &Value| page["data"].as_array().map(Vec::len);
    assert_eq!((count(&page), &page["has_more"], count(&next)), (Some(2), &json!(true), Some(1)));
    app.finish().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_dialog_or_a_question_in_one_is_named_as_it_was_sent() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let long = "ы".repeat(50_001);
    for (fields, expected) in [
        (json!({ "model": "gpt-9" }), (404, "model_not_found", "model")),
        (json!({ "model": "kling" }), (400, "invalid_model", "model")),
        (json!({ "title": "" }), (400, "invalid_text", "title")),
        (json!({ "system": long }), (400, "invalid_text", "system")),
        (json!({ "keeps_history": "yes" }), (400, "invalid_type", "keeps_history")),
        (json!({ "colour": 1 }), (400, "unknown_field", "colour")),
    ] {
        assert_eq!(alice.post("/v1/dialogs", fields).await.error(), expected);
    }
    let nameless = begin(&alice, json!({ "system": "ы".repeat(50_000) })).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o" })).await;
    say(&alice, &dialog, "hello").await;
    app.drain().await;
    let half = json!({ "type": "text", "text": "x".repeat(25_001) });
    let given_up = say(&alice, &dialog, "never mind").await;
    assert_eq!(alice.cancel(given_up).await.status, StatusCode::OK);
    let held = alice.tokens().await;
    for (body, expected) in [
        (json!({ "dialog": "dlg_1", "input": { "prompt": "x" } }), (400, "invalid_type", "dialog")),
        (
            json!({ "dialog": dialog.replace('0', "1"), "input": { "prompt": "x" } }),
            (404, "dialog_not_found", "dialog"),
        ),
        (json!({ "dialog": nameless, "input": { "prompt": "x" } }), (400, "missing_field", "model")),
        (
            json!({ "dialog": dialog, "model": "gpt-9", "input": { "prompt": "x" } }),
            (404, "model_not_found", "model"),
        ),
        (
            json!({ "dialog": dialog, "model": "tts-1", "input": { "text": "x" } }),
            (400, "invalid_dialog", "dialog"),
        ),
        (json!({ "dialog": dialog, "input": {} }), (400, "invalid_input", "input")),
        (
            json!({ "dialog": dialog, "input": { "messages": [{ "role": "ghost" }] } }),
            (400, "invalid_input", "input.messages.0.role"),
        ),
        (
            json!({ "dialog": dialog, "input": { "messages": [user("x"), { "role": "user", "content": [half, half] }] } }),
            (400, "message_too_long", "input.messages.1"),
        ),
    ] {
        let answer = alice.post("/v1/jobs", body).await;
        assert_eq!(answer.error(), expected, "{}", answer.json);
    }
    execute(&app.db, "update dialogs set message_count = 10000 where model is not null")
        .await
        .expect("fill it");
    assert_eq!(ask(&alice, &dialog, json!({ "prompt": "x" })).await.error(), (409, "dialog_full", "none"));
    let again = alice.post(&format!("/v1/jobs/{given_up}/retry"), json!({})).await;
    assert_eq!(again.error(), (409, "dialog_full", "none"));
    execute(&app.db, "update dialogs set message_count = 2 where model is not null")
        .await
        .expect("as it was");
    assert_eq!(alice.tokens().await, held, "nothing is held");
    let narrow = json!({ "name": "narrow", "allowed_models": ["gpt-4o-mini"], "scopes": ["jobs:write"] });
    let narrow =
        alice.post("/v1/api-keys", narrow).await.json["secret"].as_str().expect("a secret").to_owned();
    let narrow = Account { key: narrow, ..alice.clone() };
    assert_eq!(
        ask(&narrow, &dialog, json!({ "prompt": "x" })).await.error(),
        (403, "model_not_allowed", "model")
    );
    assert_eq!(
        narrow.post("/v1/dialogs", json!({ "model": "gpt-4o" })).await.error(),
        (403, "model_not_allowed", "model")
    );
    app.finish().await;
}

#[tokio::test]
async fn what_goes_before_is_paid_for_and_a_repeat_is_a_repeat_and_never_the_cache() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o-tokens" })).await;
    let body =
        json!({ "dialog": dialog, "input": { "prompt": "hello", "temperature": 0, "max_tokens": 100 } });
    let quote =
        async || alice.post("/v1/jobs/quote", body.clone()).await.json["max"].as_i64().expect("tokens");
    let before = quote().await;
    let headers = [("Idempotency-Key", "once")];
    let first = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await.job();
    app.drain().await;
    assert!(quote().await > before, "what was said is read again");
    let second = alice.post("/v1/jobs", body.clone()).await.job();
    assert_eq!(alice.job(second).await["status"], "queued", "not from the cache");
    let alone = json!({ "model": "gpt-4o-tokens", "input": { "prompt": "hello", "temperature": 0, "max_tokens": 100 } });
    let alone = alice.post("/v1/jobs", alone).await.job();
    assert_eq!(alice.job(alone).await["status"], "queued", "and not in it");
    app.drain().await;
    let again = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    assert_eq!(again.job(), first);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(delete(&alice, format!("/v1/dialogs/{dialog}")).await, StatusCode::OK);
    let again = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    assert_eq!(again.job(), first, "also when the dialog is gone");
    app.finish().await;
}

#[tokio::test]
async fn a_whole_dialog_is_given_as_a_file_for_programs_or_for_people() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let fields = json!({ "model": "gpt-4o-mini", "title": "Foxes", "system": "Be brief." });
    let dialog = begin(&alice, fields).await;
    let path = format!("/v1/dialogs/{dialog}/export");
    let empty = alice.get(&path).await;
    assert_eq!((&empty.json["id"], &empty.json["messages"]), (&json!(dialog), &json!([])));
    // More than are read at once.
    for n in 0..51 {
        say(&alice, &dialog, &format!("question {n}")).await;
    }
    app.drain().await;
    let whole = alice.get(&path).await;
    let name = whole.headers["content-disposition"].to_str().expect("text");
    assert_eq!(name, format!("attachment; filename=\"{dialog}.json\""));
    let messages = whole.json["messages"].as_array().expect("a list");
    let numbers: Vec<_> = messages.iter().map(|message| message["n"].as_i64()).collect();
    assert_eq!(numbers, (1..=102).map(Some).collect::<Vec<_>>());
    assert_eq!((&whole.json["title"], &whole.json["message_count"]), (&json!("Foxes"), &json!(102)));
    let text = alice.get(&format!("{path}?format=markdown")).await;
    assert_eq!(text.headers["content-type"], "text/markdown; charset=utf-8");
    let text = text.json.as_str().expect("text").to_owned();
    assert!(text.starts_with("# Foxes\n") && text.contains("\n## system\n\nBe brief.\n"), "{text}");
    assert_eq!((text.matches("\n## user (").count(), text.matches("\n## assistant (").count()), (51, 51));
    assert!(text.contains("\nquestion 50\n"), "{text}");
    assert_eq!(alice.get(&format!("{path}?format=pdf")).await.error(), (400, "invalid_query", "format"));
    app.finish().await;
}
