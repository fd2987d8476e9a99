//! What is said in a dialog: given along with the next question, and kept once, with its answer, by the end of its job.

use chrono::TimeDelta;
use reqwest::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use shared::{
    billing::Tokens,
    id::JobId,
    job::{self, Closing, Fence, Medium, Output, Verdict},
};
use workers::{Station, run};

use super::{ask, begin, change, delete, questions, said, say, user};
use crate::{
    flow::picture,
    support::{Settings, TestApp, scalar},
};

#[tokio::test]
async fn a_question_is_asked_with_what_was_said_before_it() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o", "title": "Kilns", "system": "Be brief." })).await;
    let first = say(&alice, &dialog, "what is a kiln").await;
    app.drain().await;
    let first = alice.job(first).await;
    assert_eq!((&first["model"], &first["dialog"]), (&json!("gpt-4o"), &json!(dialog)));
    assert_eq!(first["input"], json!({ "prompt": "what is a kiln", "system": "Be brief." }));
    let second = say(&alice, &dialog, "and how hot").await;
    let answer = json!({ "role": "assistant", "content": first["output"]["text"] });
    let told =
        json!({ "system": "Be brief.", "messages": [user("what is a kiln"), answer, user("and how hot")] });
    assert_eq!(alice.job(second).await["input"], told, "complete before anybody has it");
    app.drain().await;
    let second = alice.job(second).await;
    assert!(second["output"]["text"].as_str().is_some_and(|text| text.contains("and how hot")), "{second}");
    let read = |job: &Value| job["output"]["usage"]["prompt_tokens"].as_u64().expect("a count");
    assert!(read(&second) > 2 * read(&first), "the vendor read all of it");

    let path = format!("/v1/dialogs/{dialog}");
    let shown = alice.get(&path).await.json;
    assert_eq!((&shown["title"], &shown["message_count"]), (&json!("Kilns"), &json!(4)), "{shown}");
    let page = alice.get(&format!("{path}/messages?limit=3")).await.json;
    let numbers = |page: &Value| -> Vec<Value> {
        page["data"].as_array().expect("a list").iter().map(|message| message["n"].clone()).collect()
    };
    assert_eq!(
        (numbers(&page), &page["has_more"], &page["last_id"]),
        (vec![json!(4), json!(3), json!(2)], &json!(true), &json!("2"))
    );
    assert_eq!(
        (&page["data"][0]["content"], &page["data"][0]["job"]),
        (&second["output"]["text"], &second["id"])
    );
    let rest = alice.get(&format!("{path}/messages?limit=3&after=2")).await.json;
    assert_eq!((numbers(&rest), &rest["has_more"]), (vec![json!(1)], &json!(false)));
    let other = alice
        .post("/v1/jobs", json!({ "dialog": dialog, "model": "deepseek", "input": { "prompt": "x" } }))
        .await;
    assert_eq!(
        (other.status, &other.json["model"]),
        (StatusCode::ACCEPTED, &json!("deepseek")),
        "{}",
        other.json
    );
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_job_without_a_result_leaves_nothing_in_its_dialog() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o" })).await;
    let refused = say(&alice, &dialog, "[[sim:refuse]] no").await;
    app.drain().await;
    assert_eq!(alice.job(refused).await["status"], "failed");
    let canceled = say(&alice, &dialog, "never mind").await;
    assert_eq!(alice.cancel(canceled).await.status, StatusCode::OK);
    let late = json!({ "dialog": dialog, "input": { "prompt": "too late" }, "deadline_seconds": 1 });
    let late = alice.post("/v1/jobs", late).await.job();
    app.clock.advance(TimeDelta::minutes(2));
    assert!(app.tick("expire-overdue-jobs").await);
    assert_eq!(alice.job(late).await["status"], "expired");
    assert_eq!(said(&alice, &dialog).await, Vec::<Value>::new());
    let good = say(&alice, &dialog, "hello").await;
    assert_eq!(alice.job(good).await["input"], json!({ "prompt": "hello" }), "nothing goes before it");
    app.drain().await;
    assert_eq!(questions(&alice, &dialog).await, ["hello"]);
    app.finish().await;
}

#[tokio::test]
async fn questions_at_once_know_nothing_of_each_other_and_are_kept_in_the_order_of_their_ends() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o" })).await;
    for words in ["first", "second"] {
        let job = say(&alice, &dialog, words).await;
        assert_eq!(alice.job(job).await["input"], json!({ "prompt": words }));
    }
    for claimed in app.claim(Medium::Text).await.iter().rev() {
        run::run_job(&app.worker, claimed).await;
    }
    assert_eq!(questions(&alice, &dialog).await, ["second", "first"]);

    let (third, fourth) = (say(&alice, &dialog, "third").await, say(&alice, &dialog, "fourth").await);
    let claimed = app.claim(Medium::Text).await;
    let closing = |job: JobId| {
        let lease = claimed.iter().find(|claimed| claimed.job() == job).expect("claimed").lease;
        let verdict = Verdict::Succeeded {
            output: Output { text: Some("yes".into()), ..Output::default() },
            charge: Tokens::new(1000).expect("positive"),
            metered: json!({}),
            cost_usd: Decimal::ZERO,
        };
        Closing { fence: Fence::Held(lease), verdict, begun: 0, at: app.now() }
    };
    let ended = job::close_all(&app.db, &[closing(fourth), closing(third)]).await.expect("close");
    assert_eq!(ended, [true, true]);
    assert_eq!(
        questions(&alice, &dialog).await,
        ["second", "first", "third", "fourth"],
        "of those that end together, the one that was submitted first"
    );
    let again = job::close_all(&app.db, &[closing(fourth), closing(third)]).await.expect("close");
    assert_eq!((again, said(&alice, &dialog).await.len()), (vec![false, false], 8), "once");
    let fifth = say(&alice, &dialog, "fifth").await;
    let told = [said(&alice, &dialog).await, vec![user("fifth")]].concat();
    assert_eq!(alice.job(fifth).await["input"]["messages"], json!(told));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn wherever_a_worker_dies_a_question_is_kept_once_with_its_answer() {
    let mut app = TestApp::new().await;
    for station in [
        Station::Claimed,
        Station::Judged,
        Station::Intended,
        Station::Answered,
        Station::Closing,
        Station::Closed,
    ] {
        let alice = app.account(10_000).await;
        let dialog = begin(&alice, json!({ "model": "gpt-4o" })).await;
        let job = say(&alice, &dialog, "hello").await;
        assert!(app.drain_crashing_at(station).await, "{station:?} is on the way");
        assert_eq!(alice.job(job).await["status"], "succeeded", "{station:?}");
        assert_eq!(questions(&alice, &dialog).await, ["hello"], "{station:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn history_may_be_kept_and_not_used_or_not_kept_at_all() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o" })).await;
    let speak = async |words: &str| {
        let job = say(&alice, &dialog, words).await;
        let input = alice.job(job).await["input"].clone();
        app.drain().await;
        input
    };
    speak("a").await;
    let off = change(&alice, &dialog, json!({ "uses_history": false })).await;
    assert_eq!((&off["uses_history"], &off["keeps_history"]), (&json!(false), &json!(true)));
    assert_eq!(speak("b").await, json!({ "prompt": "b" }));
    assert_eq!(questions(&alice, &dialog).await, ["a", "b"], "kept all the same");
    change(&alice, &dialog, json!({ "uses_history": true, "keeps_history": false })).await;
    assert_eq!(speak("c").await, json!({ "prompt": "c" }), "what is not kept is not used");
    assert_eq!(questions(&alice, &dialog).await, ["a", "b"], "what was kept stays");
    change(&alice, &dialog, json!({ "keeps_history": true })).await;
    let told = [said(&alice, &dialog).await, vec![user("d")]].concat();
    assert_eq!(speak("d").await["messages"], json!(told));
    say(&alice, &dialog, "e").await;
    change(&alice, &dialog, json!({ "keeps_history": false })).await;
    app.drain().await;
    assert_eq!(questions(&alice, &dialog).await, ["a", "b", "d"], "what counts is how it is set at the end");
    app.finish().await;
}

#[tokio::test]
async fn no_more_goes_before_a_question_than_is_set() {
    let dialogs = api::config::Dialogs { history_bytes: 1000, ..Default::default() };
    let app = TestApp::with(Settings { dialogs, ..Settings::default() }).await;
    let alice = app.account(100_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o" })).await;
    for letter in ["a", "b", "c"] {
        say(&alice, &dialog, &letter.repeat(300)).await;
        app.drain().await;
    }
    let all = said(&alice, &dialog).await;
    let job = say(&alice, &dialog, "d").await;
    let told = [&all[4..], &[user("d")]].concat();
    assert_eq!(alice.job(job).await["input"]["messages"], json!(told), "the last of three");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_dialog_keeps_words_and_calls_of_tools_and_no_pictures() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o" })).await;
    let part = json!({ "type": "image_url", "image_url": { "url": picture() } });
    let text = json!({ "type": "text", "text": "what is this?" });
    let seen =
        ask(&alice, &dialog, json!({ "messages": [{ "role": "user", "content": [text, part] }] })).await;
    assert_eq!(seen.status, StatusCode::ACCEPTED, "{}", seen.json);
    app.drain().await;
    let words = json!([text, { "type": "text", "text": "[a picture]" }]);
    assert_eq!(said(&alice, &dialog).await[0], json!({ "role": "user", "content": words }));

    let tools =
        json!([{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }]);
    let input = json!({ "prompt": "look again", "tools": tools, "tool_choice": "required" });
    let called = ask(&alice, &dialog, input).await.job();
    app.drain().await;
    let calls = alice.job(called).await["output"]["tool_calls"].clone();
    let result = json!({ "role": "tool", "tool_call_id": calls[0]["id"], "content": "a fox" });
    let told = ask(&alice, &dialog, json!({ "messages": [result] })).await.job();
    let messages = alice.job(told).await["input"]["messages"].clone();
    assert_eq!((&messages[3]["tool_calls"], &messages[4]), (&calls, &result), "{messages}");
    app.drain().await;
    assert_eq!(alice.job(told).await["status"], "succeeded");
    let newest = alice.get(&format!("/v1/dialogs/{dialog}/messages?limit=2")).await.json;
    assert_eq!(newest["data"][1]["tool_call_id"], calls[0]["id"], "{newest}");
    app.finish().await;
}

#[tokio::test]
async fn what_was_said_is_forgotten_or_goes_with_its_dialog_whatever_is_under_way() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o", "system": "Be brief." })).await;
    let path = format!("/v1/dialogs/{dialog}");
    say(&alice, &dialog, "a").await;
    app.drain().await;
    let open = say(&alice, &dialog, "b").await;
    assert_eq!(delete(&alice, format!("{path}/messages")).await, StatusCode::OK);
    assert_eq!(alice.get(&path).await.json["message_count"], 0);
    assert_eq!(said(&alice, &dialog).await, Vec::<Value>::new());
    app.drain().await;
    assert_eq!(alice.job(open).await["input"]["messages"][0], user("a"), "an input never changes");
    assert_eq!(questions(&alice, &dialog).await, ["b"], "the first that is kept again");

    let open = say(&alice, &dialog, "c").await;
    assert_eq!(delete(&alice, path.clone()).await, StatusCode::OK);
    assert_eq!(delete(&alice, path.clone()).await, StatusCode::NOT_FOUND);
    app.drain().await;
    assert_eq!(alice.job(open).await["status"], "succeeded", "whoever asked is answered");
    let left: i64 = scalar(&app.db, "select count(*) from dialog_messages").await;
    assert_eq!((left, alice.get(&path).await.status), (0, StatusCode::NOT_FOUND));
    app.finish().await;
}

#[tokio::test]
async fn a_retry_is_said_in_its_dialog_with_the_history_it_had_and_an_improvement_is_not() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let dialog = begin(&alice, json!({ "model": "gpt-4o", "system": "Be brief." })).await;
    let retry = async |job: JobId| alice.post(&format!("/v1/jobs/{job}/retry"), json!({})).await;
    say(&alice, &dialog, "a").await;
    app.drain().await;
    let failed = say(&alice, &dialog, "[[sim:refuse]] b").await;
    let canceled = say(&alice, &dialog, "c").await;
    assert_eq!(alice.cancel(canceled).await.status, StatusCode::OK);
    app.drain().await;
    say(&alice, &dialog, "d").await;
    app.drain().await;
    assert_eq!(questions(&alice, &dialog).await, ["a", "d"]);

    let refused = retry(failed).await;
    let again = retry(canceled).await;
    for answer in [&refused, &again] {
        assert_eq!(
            (answer.status, &answer.json["dialog"]),
            (StatusCode::ACCEPTED, &json!(dialog)),
            "{}",
            answer.json
        );
    }
    let input = alice.job(canceled).await["input"].clone();
    assert_eq!(input["messages"].as_array().map(Vec::len), Some(3), "{input}");
    assert_eq!(
        alice.job(again.job()).await["input"],
        input,
        "the order that failed, and not what was said since"
    );
    app.drain().await;
    assert_eq!(alice.job(refused.job()).await["status"], "failed");
    assert_eq!(questions(&alice, &dialog).await, ["a", "d", "c"]);

    let wish = json!({ "rating": "dislike", "improve": "shorter" });
    let better = alice.post(&format!("/v1/jobs/{}/feedback", again.job()), wish).await;
    assert_eq!(better.status, StatusCode::ACCEPTED, "{}", better.json);
    let better = &better.json["improvement"];
    assert_eq!((better.get("dialog"), &better["input"]["system"]), (None, &json!("Be brief.")), "{better}");
    app.drain().await;
    assert_eq!(questions(&alice, &dialog).await, ["a", "d", "c"]);

    let canceled = say(&alice, &dialog, "e").await;
    assert_eq!(alice.cancel(canceled).await.status, StatusCode::OK);
    assert_eq!(delete(&alice, format!("/v1/dialogs/{dialog}")).await, StatusCode::OK);
    let again = retry(canceled).await;
    assert_eq!((again.status, again.json.get("dialog")), (StatusCode::ACCEPTED, None), "{}", again.json);
    app.drain().await;
    assert_eq!(alice.job(again.job()).await["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn a_chat_of_an_openai_client_goes_on_in_a_dialog() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let dialog = begin(&alice, json!({ "system": "Be brief." })).await;
    for (question, is_streamed) in [("what is a kiln", false), ("and how hot", true)] {
        let body = json!({ "model": "gpt-4o", "messages": [user(question)], "dialog": dialog, "stream": is_streamed });
        let url = format!("{}/v1/chat/completions", alice.base);
        let request = alice.http.post(url).bearer_auth(&alice.key).json(&body);
        let answer = app
            .worked(async { request.send().await.expect("an answer").text().await.expect("a text") })
            .await;
        assert!(answer.contains("chatcmpl-"), "{answer}");
    }
    assert_eq!(questions(&alice, &dialog).await, ["what is a kiln", "and how hot"]);
    let unknown = "dlg_00000000000000000000000000000000";
    let body = json!({ "model": "gpt-4o", "messages": [user("hi")], "dialog": unknown });
    assert_eq!(alice.post("/v1/chat/completions", body).await.error(), (404, "dialog_not_found", "dialog"));
    app.finish().await;
}
