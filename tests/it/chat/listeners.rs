//! Words on their way from worker to listener: heard in time, lost, begun anew, contradicted, and nobody there to hear them.

use std::sync::{Mutex, mpsc};

use serde_json::{Value, json};
use shared::{job::Medium, text::Place};
use workers::{Probe, Station, run};

use super::{EACH, ask, chat, chunks, job_of, request, stream, tools, words};
use crate::support::{Account, Events, Heard, TestApp, eventually, execute};

/// Holds a job back when its text is written and nothing is done with it yet, until the sender says something or is gone.
fn hold_what_is_written(app: &mut TestApp) -> mpsc::Sender<()> {
    let (release, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    app.worker.probe = Probe::new(move |at| {
        if at == Station::Answered {
            tokio::task::block_in_place(|| gate.lock().expect("one at a time").recv().unwrap_or_default());
        }
    });
    release
}

/// Lets a worker of its own run the first job that comes.
async fn run_next(app: &TestApp) {
    loop {
        if let Some(claimed) = app.claim(Medium::Text).await.into_iter().next() {
            let worker = app.worker.clone();
            app.process.spawn(async move { run::run_job(&worker, &claimed).await });
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// The next of a stream's chunks that says something.
async fn next_word(events: &mut Events) -> String {
    loop {
        let chunk = events.next().await.expect("a chunk").json();
        match chunk["choices"][0]["delta"]["content"].as_str() {
            Some(word) if !word.is_empty() => return word.to_owned(),
            _ => assert!(chunk["choices"].is_array(), "{chunk}"),
        }
    }
}

/// Waits for somebody to listen, and says a word in the name of that job before any worker has it.
async fn lie(app: &TestApp, word: &str) {
    let mut asks = app.worker.wakes.listen_to_asks();
    let ask = asks.recv().await.expect("somebody listens")[0];
    let words = json!([{ "index": 0, "delta": { "content": word } }]);
    say(app, &format!("{}@1-0:{words}\n", ask.job)).await;
}

/// Says something to all who listen to texts.
async fn say(app: &TestApp, payload: &str) {
    execute(&app.db, &format!("select pg_notify('kiln_text', '{payload}')")).await.expect("say it");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_heard_while_the_job_is_still_running() {
    let mut app = TestApp::new().await;
    let release = hold_what_is_written(&mut app);
    let alice = app.account(1000).await;
    let body = chat("gpt-4o", "word by word", json!({ "stream": true }));
    let (mut events, ()) = tokio::join!(Events::of(request(&alice, &body)), run_next(&app));
    let mut text = String::new();
    for _ in 0..5 {
        text += &next_word(&mut events).await;
    }
    let job = events.job();
    assert_eq!(alice.job(job).await["status"], "running");
    assert_eq!(alice.tokens().await, (0, 1000), "held and not charged");
    release.send(()).expect("the worker waits");
    text += &words(&chunks(&events.rest().await), 0);
    assert_eq!(alice.job(job).await["output"]["text"], text);
    assert_eq!(alice.tokens().await, (0, 0));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_in_the_middle_is_charged_once() {
    let mut app = TestApp::new().await;
    let release = hold_what_is_written(&mut app);
    let alice = app.account(2000).await;
    let body = chat("gpt-4o", "hang up", json!({ "stream": true }));
    let (mut events, ()) = tokio::join!(Events::of(request(&alice, &body)), run_next(&app));
    next_word(&mut events).await;
    let job = events.job();
    drop(events);
    release.send(()).expect("the worker waits");
    eventually("the job ends", async || alice.job(job).await["status"] == "succeeded").await;
    assert_eq!(alice.tokens().await, (1000, 0));
    assert_eq!(app.simulator.paid("hang up").await, 1);
    app.finish().await;
}

#[tokio::test]
async fn a_process_that_hears_no_words_tells_the_whole_answer_at_its_end() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let deaf = Account { base: app.deaf_door().await, ..alice.clone() };
    for more in [json!({}), json!({ "tools": tools(), "tool_choice": "required" })] {
        let chunks = chunks(&stream(&app, &deaf, chat("gpt-4o", "deaf", more.clone())).await);
        assert_eq!(chunks.len(), 2, "all at once, and the end: {chunks:?}");
        let whole = ask(&app, &alice, chat("gpt-4o", "deaf", more)).await.json;
        let (told, message) = (&chunks[0]["choices"][0]["delta"], &whole["choices"][0]["message"]);
        assert_eq!((&told["role"], &told["content"]), (&message["role"], &message["content"]), "{told}");
        let arguments = |from: &Value| from["tool_calls"][0]["function"]["arguments"].clone();
        assert_eq!(arguments(told), arguments(message));
    }
    app.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_begun_anew_is_told_once() {
    let app = TestApp::new().await;
    for (model, price) in EACH {
        let alice = app.account(10_000).await;
        for value in ["cut", "end", "error"] {
            let question = format!("{model} breaks by {value}");
            let fault = json!({ "fault": "stream", "value": value, "contains": question, "times": 1 });
            app.simulator.order(fault).await;
            let chunks = chunks(&stream(&app, &alice, chat(model, &question, json!({}))).await);
            let job = job_of(&alice, &chunks).await;
            assert_eq!(json!(words(&chunks, 0)), job["output"]["text"], "{question}");
            assert_eq!(job["attempts"], 2, "{question}");
            app.providers_forgive();
        }
        assert_eq!(alice.tokens().await, (10_000 - 3 * price, 0), "{model}");
    }
    app.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_told_ends_with_an_error() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let body = chat("gpt-4o", "the truth", json!({ "stream": true }));
    let (mut events, ()) = tokio::join!(Events::of(request(&alice, &body)), lie(&app, "a lie, "));
    assert_eq!(next_word(&mut events).await, "a lie, ");
    let job = events.job();
    let (rest, ()) = tokio::join!(events.rest(), app.drain());
    let last = rest.last().expect("the end").json();
    assert_eq!(last["error"]["code"], "answer_begun_anew", "{last}");
    for key in ["message", "type", "param", "code"] {
        assert!(last["error"].get(key).is_some(), "{last}");
    }
    let job = alice.job(job).await;
    assert_eq!((job["status"].as_str(), job["price"]["charged"].as_i64()), (Some("succeeded"), Some(1000)));
    app.finish().await;
}

#[tokio::test]
async fn who_misses_a_word_asks_for_it_again() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let id = alice.submit("gpt-4o", json!({ "prompt": "again" })).await;
    let url = format!("{}/v1/jobs/{id}/events", app.base);
    let mut events = Events::of(app.http.get(url).bearer_auth(&alice.key)).await;
    assert_eq!(events.next().await.expect("the job").event, "job");
    let mut asks = app.worker.wakes.listen_to_asks();
    // From the middle of the first attempt, whose beginning was never heard.
    say(&app, &format!("{id}@1-500:[]\n")).await;
    loop {
        let asked = asks.recv().await.expect("an ask");
        // Before that it had asked for whatever comes.
        let again = asked.iter().filter(|ask| ask.job == id).find_map(|ask| ask.again);
        if again == Some(Place { attempt: 1, offset: 0 }) {
            break;
        }
    }
    let (rest, ()) = tokio::join!(events.rest(), app.drain());
    assert_eq!(rest.last().expect("the end").json()["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn a_chat_that_fails_after_its_first_word_ends_with_an_error_and_is_free() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    app.simulator.order(json!({ "fault": "stream", "value": "error", "contains": "half way" })).await;
    app.simulator.order(json!({ "fault": "drip", "value": "5", "contains": "half way" })).await;
    let heard = stream(&app, &alice, chat("gpt-4o", "half way", json!({}))).await;
    let (last, chunks) = heard.split_last().expect("events");
    assert_eq!(last.json()["error"]["code"], "provider_unavailable", "{last:?}");
    let chunks: Vec<_> = chunks.iter().map(Heard::json).collect();
    assert!(!words(&chunks, 0).is_empty(), "something was said");
    assert!(chunks.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()), "and nothing ended");
    assert_eq!(alice.tokens().await, (10_000, 0));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_chat_have_its_words_and_go_on_where_a_client_was() {
    let mut app = TestApp::new().await;
    let alice = app.account(10_000).await;
    app.simulator.order(json!({ "fault": "drip", "value": "10", "contains": "a story" })).await;
    let known = alice.submit("gpt-4o", json!({ "prompt": "a story" })).await;
    app.drain().await;
    let text = alice.job(known).await["output"]["text"].as_str().expect("a text").to_owned();

    let release = hold_what_is_written(&mut app);
    let id = alice.submit("gpt-4o", json!({ "prompt": "a story" })).await;
    let watch = |last: Option<String>| {
        let request = app.http.get(format!("{}/v1/jobs/{id}/events", app.base)).bearer_auth(&alice.key);
        Events::of(match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        })
    };
    let said = |heard: &Heard| -> String {
        let choices = heard.json()["choices"].as_array().cloned().unwrap_or_default();
        choices.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect()
    };
    let mut first = watch(None).await;
    run_next(&app).await;
    let (mut head, mut last) = (String::new(), String::new());
    while head.split(' ').count() < 4 {
        let heard = first.next().await.expect("an event");
        if heard.event == "delta" {
            assert_eq!(heard.json()["attempt"], 1);
            head += &said(&heard);
            last = heard.id;
        }
    }
    let mut second = watch(Some(last)).await;
    let mut tail = String::new();
    while head.len() + tail.len() < text.len() {
        let heard = second.next().await.expect("an event");
        if heard.event == "delta" {
            tail += &said(&heard);
        }
    }
    assert_eq!(head + &tail, text);
    release.send(()).expect("the worker waits");
    for events in [first, second] {
        let rest = events.rest().await;
        let last = rest.last().expect("the end");
        assert_eq!((last.event.as_str(), &last.json()["status"]), ("job", &json!("succeeded")));
    }
    app.finish().await;
}
