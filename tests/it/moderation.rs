//! Moderation: what is asked for is judged before anybody is paid for it, and not made where nobody could judge it.

use std::fs;

use chrono::TimeDelta;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use workers::{
    Station,
    config::{Judge, Moderation},
    moderation::WhenUnavailable,
};

use crate::support::{Settings, TestApp, scalar};

/// What the account of each job has.
const PURSE: i64 = 100_000;

/// Lists of the tests' own: one in the place of the English one inside, one beside those inside.
const LISTS: [(&str, &str); 2] = [
    ("en.txt", "[forbidden fruit]\nquince\nrotten apple*\n"),
    ("spiky.txt", "[spiky things] # of any kind\nёжик в колючках\nколюч* кактус*\n"),
];

async fn with(moderation: Moderation) -> TestApp {
    TestApp::with(Settings { moderation, ..Settings::default() }).await
}

async fn with_lists(judges: &[Judge]) -> TestApp {
    let dir = TempDir::new().expect("a folder");
    for (name, text) in LISTS {
        fs::write(dir.path().join(name), text).expect("a list");
    }
    let words_dir = Some(dir.path().to_owned());
    with(Moderation { judges: judges.to_vec(), words_dir, ..Moderation::default() }).await
}

async fn with_openai(when_unavailable: WhenUnavailable) -> TestApp {
    with(Moderation { judges: vec![Judge::OpenAi], words_dir: None, when_unavailable }).await
}

/// Runs one job to its end. One that did not succeed has cost nothing.
async fn run(app: &TestApp, model: &str, input: Value) -> Value {
    let alice = app.account(PURSE).await;
    let id = alice.submit(model, input).await;
    app.drain().await;
    let job = alice.job(id).await;
    let price = job["price"]["charged"].as_i64().unwrap_or(0);
    assert!(price == 0 || job["status"] == "succeeded", "{job}");
    assert_eq!(alice.tokens().await, (PURSE - price, 0), "{job}");
    job
}

fn end(job: &Value) -> (&str, &str) {
    (job["status"].as_str().expect("a status"), job["error"]["code"].as_str().unwrap_or("none"))
}

/// What vendors were asked to do with this text, in order.
async fn calls(app: &TestApp, text: &str) -> Vec<String> {
    let submits = app.simulator.submits(text).await;
    let data = submits["data"].as_array().cloned().unwrap_or_default();
    data.iter().map(|submit| submit["call"].as_str().expect("a call").to_owned()).collect()
}

/// As [`calls`], those of moderation alone.
async fn judgements(app: &TestApp, text: &str) -> usize {
    calls(app, text).await.iter().filter(|call| *call == "moderations").count()
}

#[tokio::test]
async fn a_listed_word_is_found_wherever_it_stands_and_no_vendor_hears_of_it() {
    let app = with_lists(&[Judge::Words]).await;
    let picture = json!({ "type": "image_url", "image_url": { "url": "https://example.com/fox.png" } });
    let parts = json!([{ "type": "text", "text": "draw a quince" }, picture]);
    for (model, input) in [
        ("gpt-4o", json!({ "prompt": "Draw a Quince, please." })),
        ("gpt-4o", json!({ "prompt": "hello", "system": "you are a quince" })),
        ("gpt-4o", json!({ "messages": [{ "role": "user", "content": "a quince" }] })),
        ("gpt-4o", json!({ "messages": [{ "role": "user", "content": parts }] })),
        (
            "gpt-4o",
            json!({ "messages": [{ "role": "system", "content": "quince" }, { "role": "user", "content": "hello" }] }),
        ),
        ("nano-banana", json!({ "prompt": "a fox\nwith a quince" })),
        ("nano-banana-edit", json!({ "prompt": "add a quince", "image": crate::flow::picture() })),
        // Two routes: what is refused here is not asked for at the other.
        ("flux", json!({ "prompt": "quince" })),
        ("midjourney", json!({ "prompt": "https://example.com/1.png quince::2 fox --ar 16:9 --no hands" })),
        ("kling", json!({ "prompt": "a quince falls", "seconds": 5 })),
        ("kling", json!({ "prompt": "a fox", "negative_prompt": "quince" })),
        ("suno", json!({ "lyrics": "la la\nquince la", "style": "folk" })),
        ("suno", json!({ "prompt": "a song", "title": "Quince" })),
        ("suno", json!({ "prompt": "a song", "style": "quince core" })),
        ("tts-1", json!({ "text": "quince" })),
    ] {
        let job = run(&app, model, input.clone()).await;
        assert_eq!(end(&job), ("failed", "content_refused"), "{model} {input}: {job}");
        let error = &job["error"];
        assert!(
            error["message"].as_str().is_some_and(|text| text.ends_with(": forbidden fruit")),
            "the category is told: {error}"
        );
        assert_eq!((&error["retryable"], &job["attempts"]), (&json!(false), &json!(0)), "{model} {input}");
    }
    assert_eq!(calls(&app, "").await, [""; 0], "no vendor was asked for anything");
    app.finish().await;
}

#[tokio::test]
async fn words_are_whole_in_any_case_and_letters_that_stand_for_each_other_are_one() {
    let app = with_lists(&[Judge::Words]).await;
    for (prompt, code) in [
        ("ROTTEN APPLES", "content_refused"),
        ("rotten, apple-like", "content_refused"),
        ("Ежик в колючках", "content_refused"),
        ("ёжик в  КОЛЮЧКАХ", "content_refused"),
        ("е\u{308}жик в колючках", "content_refused"),
        ("колючего кактуса", "content_refused"),
        ("quinces", "none"),
        ("an acquincent word", "none"),
        ("rotten and apples", "none"),
        ("It is rotten. Apples are not.", "none"),
        ("неколючий кактус", "none"),
        ("ёжик", "none"),
        // The list inside gave way to the folder's of its name, and the Russian one did not.
        ("jailbait", "none"),
        ("лоликон", "content_refused"),
    ] {
        let job = run(&app, "gpt-4o-mini", json!({ "prompt": prompt })).await;
        assert_eq!(job["error"]["code"].as_str().unwrap_or("none"), code, "{prompt}: {job}");
    }
    app.finish().await;
}

#[tokio::test]
async fn without_any_setting_the_lists_inside_refuse_and_the_webhook_tells() {
    let app = TestApp::new().await;
    let alice = app.account(PURSE).await;
    let receiver = app.receiver().await;
    let body = json!({ "model": "nano-banana", "input": { "prompt": "anime, Lolicon" }, "webhook": { "url": receiver.url } });
    alice.post("/v1/jobs", body).await.job();
    app.drain().await;
    assert_eq!(app.deliver().await, 1);
    let told = receiver.received()[0].json();
    assert_eq!(
        (&told["type"], &told["data"]["error"]["code"]),
        (&json!("job.failed"), &json!("content_refused"))
    );
    assert!(
        told["data"]["error"]["message"].as_str().is_some_and(|text| text.contains("sexual/minors")),
        "{told}"
    );
    assert_eq!(alice.tokens().await, (PURSE, 0));
    app.finish().await;
}

#[tokio::test]
async fn files_names_and_texts_that_make_nothing_are_not_judged() {
    let app = with_lists(&[Judge::Words]).await;
    let address = "https://example.com/quince.png";
    let picture = json!({ "type": "image_url", "image_url": { "url": address } });
    let parts = json!([{ "type": "text", "text": "what is it" }, picture]);
    for (model, input, ends) in [
        ("gpt-4o", json!({ "messages": [{ "role": "user", "content": parts }] }), ("succeeded", "none")),
        ("text-embedding-3-small", json!({ "input": "quince" }), ("succeeded", "none")),
        ("omni-moderation-latest", json!({ "input": "quince" }), ("succeeded", "none")),
        // It was looked for, so it had been judged.
        (
            "nano-banana-edit",
            json!({ "prompt": "bluer", "image": "http://127.0.0.1:1/quince.png" }),
            ("failed", "input_unavailable"),
        ),
    ] {
        let job = run(&app, model, input).await;
        assert_eq!(end(&job), ends, "{model}: {job}");
    }
    app.finish().await;
}

#[tokio::test]
async fn where_moderation_is_off_nothing_is_judged() {
    let app = with(Moderation { judges: Vec::new(), ..Moderation::default() }).await;
    let job = run(&app, "gpt-4o", json!({ "prompt": "what does jailbait mean" })).await;
    assert_eq!(end(&job), ("succeeded", "none"), "{job}");
    app.finish().await;
}

#[tokio::test]
async fn what_openai_flags_is_not_made_and_what_it_does_not_is() {
    let app = with_openai(WhenUnavailable::Fail).await;
    let job = run(&app, "nano-banana", json!({ "prompt": "a fox and [[violence]]" })).await;
    assert_eq!(end(&job), ("failed", "content_refused"), "{job}");
    assert!(job["error"]["message"].as_str().is_some_and(|text| text.ends_with(": violence")), "{job}");
    assert_eq!(calls(&app, "[[violence]]").await, ["moderations"]);

    let song = json!({ "lyrics": "la [[sexual/minors]]", "style": "folk", "title": "Fox" });
    let job = run(&app, "suno", song).await;
    assert!(job["error"]["message"].as_str().is_some_and(|text| text.ends_with(": sexual/minors")), "{job}");

    let job = run(&app, "nano-banana", json!({ "prompt": "a fox in the snow" })).await;
    assert_eq!(end(&job), ("succeeded", "none"), "{job}");
    assert_eq!(calls(&app, "a fox in the snow").await, ["moderations", "generateContent"]);

    // The end of a long text counts as well, and what has no text is not sent.
    let long = format!("{} [[hate]]", "лиса ".repeat(9000));
    let job = run(&app, "gpt-4o", json!({ "prompt": long })).await;
    assert!(job["error"]["message"].as_str().is_some_and(|text| text.ends_with(": hate")), "{job}");
    let before = judgements(&app, "").await;
    let job = run(&app, "vectorize", json!({ "image": crate::flow::picture() })).await;
    assert_eq!(end(&job), ("succeeded", "none"), "{job}");
    assert_eq!(judgements(&app, "").await, before);
    app.finish().await;
}

#[tokio::test]
async fn several_moderators_are_asked_in_order_until_one_objects() {
    let app = with_lists(&[Judge::Words, Judge::OpenAi]).await;
    let job = run(&app, "nano-banana", json!({ "prompt": "quince, first of all" })).await;
    assert!(
        job["error"]["message"].as_str().is_some_and(|text| text.ends_with(": forbidden fruit")),
        "{job}"
    );
    assert_eq!(calls(&app, "first of all").await, [""; 0]);
    let job = run(&app, "nano-banana", json!({ "prompt": "[[hate]], second" })).await;
    assert!(job["error"]["message"].as_str().is_some_and(|text| text.ends_with(": hate")), "{job}");
    app.finish().await;
}

/// Those of the ways below that are the key's fault, so that it rests.
const OF_THE_KEY: [&str; 3] = ["quota", "auth", "rate_limit"];

/// Every way in which OpenAI may leave us without a judgement.
const AWAY: [&str; 9] =
    ["fail", "quota", "auth", "rate_limit", "bad_input", "drop", "drop_before", "malformed", "no_result"];

#[tokio::test]
async fn what_nobody_could_judge_fails_after_its_tries_and_a_short_absence_does_not_matter() {
    let app = with_openai(WhenUnavailable::Fail).await;
    for fault in AWAY {
        let prompt = format!("unjudged for {fault}.");
        app.simulator.order(json!({ "provider": "openai", "contains": prompt, "fault": fault })).await;
        let job = run(&app, "nano-banana", json!({ "prompt": prompt })).await;
        assert_eq!(end(&job), ("failed", "moderation_unavailable"), "{fault}: {job}");
        assert_eq!((&job["error"]["retryable"], &job["attempts"]), (&json!(true), &json!(0)), "{fault}");
        // As often as a job is tried; a key that rests is not asked with, each second time here.
        let asked = if OF_THE_KEY.contains(&fault) { 3 } else { 5 };
        assert_eq!(calls(&app, &prompt).await, vec!["moderations"; asked], "{fault}");
        app.providers_forgive();

        let prompt = format!("once without {fault}.");
        app.simulator
            .order(json!({ "provider": "openai", "contains": prompt, "fault": fault, "times": 1 }))
            .await;
        let job = run(&app, "nano-banana", json!({ "prompt": prompt })).await;
        assert_eq!(end(&job), ("succeeded", "none"), "{fault}: {job}");
        app.providers_forgive();
    }
    app.finish().await;
}

#[tokio::test]
async fn where_it_may_wait_a_job_is_made_once_moderation_is_back() {
    let app = with_openai(WhenUnavailable::Queue).await;
    for fault in AWAY {
        let prompt = format!("waits for {fault}.");
        // With the waits for a key that rests longer each time, more often than a job is tried.
        let times = if ["quota", "auth"].contains(&fault) { 3 } else { 8 };
        app.simulator
            .order(json!({ "provider": "openai", "contains": prompt, "fault": fault, "times": times }))
            .await;
        let alice = app.account(PURSE).await;
        let id = alice.submit("kling", json!({ "prompt": prompt })).await;
        let began = app.now();
        assert_eq!(app.run_due().await, 1);
        assert_eq!(alice.job(id).await["phase"], "waiting for moderation", "{fault}");
        let tries: i16 = scalar(&app.db, &format!("select tries from queue where job_id = '{}'", id.0)).await;
        assert_eq!(tries, 0, "{fault}: waiting spends none");
        app.drain().await;
        let job = alice.job(id).await;
        assert_eq!((end(&job), &job["attempts"]), (("succeeded", "none"), &json!(1)), "{fault}: {job}");
        assert_eq!(alice.tokens().await, (PURSE - 38_000, 0), "{fault}");
        assert_eq!(judgements(&app, &prompt).await, times + 1, "{fault}");
        // Where the vendor gives no advice, each pause is twice as long as the one before.
        let least = match fault {
            "rate_limit" => TimeDelta::seconds(8),
            "quota" | "auth" => TimeDelta::minutes(3),
            _ => TimeDelta::minutes(6),
        };
        assert!(app.now() - began > least, "{fault}: {}", app.now() - began);
        app.providers_forgive();
    }
    app.finish().await;
}

#[tokio::test]
async fn a_job_that_waits_for_moderation_in_vain_expires_and_one_may_be_canceled() {
    let app = with_openai(WhenUnavailable::Queue).await;
    app.simulator.order(json!({ "provider": "openai", "fault": "fail" })).await;
    let began = app.now();
    let job = run(&app, "nano-banana", json!({ "prompt": "in vain" })).await;
    assert_eq!(end(&job), ("expired", "deadline_exceeded"), "{job}");
    assert!(app.now() - began >= TimeDelta::minutes(5), "only the deadline ends it");
    assert_eq!(judgements(&app, "in vain").await, calls(&app, "").await.len(), "nobody else was asked");

    let alice = app.account(PURSE).await;
    let id = alice.submit("nano-banana", json!({ "prompt": "never mind" })).await;
    assert_eq!(app.run_due().await, 1);
    assert_eq!(alice.cancel(id).await.status.as_u16(), 200, "nobody has it");
    assert_eq!(alice.job(id).await["status"], "canceled");
    assert_eq!(alice.tokens().await, (PURSE, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_job_is_judged_before_its_first_submit_and_not_again() {
    let mut app = with_openai(WhenUnavailable::Fail).await;
    for model in ["nano-banana", "kling"] {
        for (station, times) in [
            (Station::Claimed, 1),
            // Nothing was written yet, and asking again costs nothing.
            (Station::Judged, 2),
            (Station::Intended, 1),
            (Station::Answered, 1),
        ] {
            let alice = app.account(PURSE).await;
            let prompt = format!("{model} dies at {station:?}");
            let id = alice.submit(model, json!({ "prompt": prompt })).await;
            assert!(app.drain_crashing_at(station).await, "{station:?} is on the way");
            assert_eq!(alice.job(id).await["status"], "succeeded", "{prompt}");
            assert_eq!(judgements(&app, &prompt).await, times, "{prompt}");
        }
    }
    let again = json!({ "provider": "gemini", "contains": "tried again", "fault": "quota", "times": 2 });
    app.simulator.order(again).await;
    let job = run(&app, "nano-banana", json!({ "prompt": "tried again" })).await;
    assert_eq!((end(&job), &job["attempts"]), (("succeeded", "none"), &json!(3)), "{job}");
    assert_eq!(judgements(&app, "tried again").await, 1);
    app.finish().await;
}

#[tokio::test]
async fn a_key_that_is_too_busy_to_judge_rests_for_all_jobs_and_questions_are_timed() {
    let app = with_openai(WhenUnavailable::Queue).await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    let busy =
        json!({ "provider": "openai", "contains": "busy", "fault": "rate_limit", "value": "90", "times": 1 });
    app.simulator.order(busy).await;
    let alice = app.account(PURSE).await;
    let first = alice.submit("nano-banana", json!({ "prompt": "a busy fox" })).await;
    app.run_due().await;
    let second = alice.submit("nano-banana", json!({ "prompt": "a patient fox" })).await;
    app.run_due().await;
    assert_eq!(calls(&app, "a patient fox").await, [""; 0], "the key rests");
    let began = app.now();
    app.drain().await;
    assert!(app.now() - began >= TimeDelta::seconds(90));
    for id in [first, second] {
        assert_eq!(alice.job(id).await["status"], "succeeded");
    }
    drop(guard);
    let shown = shown.render();
    let is_counted = |error: &str| {
        let labels = ["verb=\"judge\"".to_owned(), format!("error=\"{error}\"")];
        let mut lines = shown.lines().filter(|line| line.starts_with("kiln_provider_requests_total{"));
        lines.any(|line| labels.iter().all(|label| line.contains(label)))
    };
    assert!(is_counted("rate_limited") && is_counted("none"), "{shown}");
    app.finish().await;
}

#[tokio::test]
async fn verdicts_are_counted_by_moderator() {
    let app = with_lists(&[Judge::Words, Judge::OpenAi]).await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    app.simulator
        .order(json!({ "provider": "openai", "contains": "away", "fault": "fail", "times": 1 }))
        .await;
    for prompt in ["a quince", "a fox", "the fox is away"] {
        run(&app, "nano-banana", json!({ "prompt": prompt })).await;
    }
    drop(guard);
    let shown = shown.render();
    let count = |moderator: &str, verdict: &str| {
        let labels = [format!("moderator=\"{moderator}\""), format!("verdict=\"{verdict}\"")];
        let mut lines = shown.lines().filter(|line| line.starts_with("kiln_moderation_total{"));
        let line = lines.find(|line| labels.iter().all(|label| line.contains(label)));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    assert_eq!((count("words", "flagged"), count("words", "clean")), (1, 3), "{shown}");
    assert_eq!((count("openai", "clean"), count("openai", "unavailable")), (2, 1), "{shown}");
    app.finish().await;
}
