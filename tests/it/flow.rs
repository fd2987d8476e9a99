//! A job of each medium, from the request to the file, and the ways of looking at jobs.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{SecondsFormat, TimeDelta};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::job::Medium;

use crate::support::TestApp;

/// A small picture as a data URL.
pub fn picture() -> String {
    let mut png = std::io::Cursor::new(Vec::new());
    // Kling takes no picture with a side under 300 pixels.
    let image = image::RgbImage::from_fn(320, 320, |x, y| {
        if (i64::from(x) - 160).pow(2) + (i64::from(y) - 160).pow(2) < 10_000 {
            image::Rgb([200, 30, 30])
        } else {
            image::Rgb([255, 255, 255])
        }
    });
    image.write_to(&mut png, image::ImageFormat::Png).expect("encode");
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png.into_inner()))
}

/// Runs one job and gives its final view and the bytes of its first file.
async fn run(app: &TestApp, model: &str, input: Value, price: i64) -> (Value, Vec<u8>) {
    let alice = app.account(price).await;
    let id = alice.submit(model, input).await;
    assert_eq!(alice.tokens().await, (0, price), "the price is held");
    app.drain().await;
    let job = alice.job(id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["price"], json!({ "unit": "tokens", "held": price, "charged": price }));
    assert_eq!(alice.tokens().await, (0, 0), "and charged");
    let Some(url) = job["output"]["files"][0]["url"].as_str() else { return (job, Vec::new()) };
    let file = app.http.get(url).send().await.expect("fetch the file");
    assert_eq!(file.status(), StatusCode::OK);
    assert_eq!(
        file.headers()["content-type"].to_str().expect("text"),
        job["output"]["files"][0]["mime_type"]
    );
    (job, file.bytes().await.expect("bytes").to_vec())
}

#[tokio::test]
async fn a_chat_job_is_answered_and_charged() {
    let app = TestApp::new().await;
    let (job, _) = run(&app, "gpt-4o", json!({ "prompt": "what is a kiln" }), 1000).await;
    assert!(job["output"]["text"].as_str().is_some_and(|text| text.contains("what is a kiln")), "{job}");
    assert!(job["output"]["usage"]["prompt_tokens"].as_u64().is_some_and(|count| count > 0), "{job}");
    assert_eq!(job["expires_at"], Value::Null, "a text does not expire");
    app.finish().await;
}

#[tokio::test]
async fn a_picture_is_stored_with_a_preview_and_expires_after_three_days() {
    let app = TestApp::new().await;
    let accepted = app.now();
    let (job, bytes) =
        run(&app, "nano-banana", json!({ "prompt": "a fox", "aspect_ratio": "21:9" }), 6380).await;
    let file = &job["output"]["files"][0];
    let picture = image::load_from_memory(&bytes).expect("a picture");
    assert_eq!(json!([picture.width(), picture.height()]), json!([file["width"], file["height"]]));
    assert_eq!(file["size_bytes"], bytes.len());
    let preview = app.http.get(file["preview_url"].as_str().expect("a preview")).send().await.expect("fetch");
    let preview = preview.bytes().await.expect("bytes");
    assert_eq!(image::guess_format(&preview).expect("a picture"), image::ImageFormat::Jpeg);
    assert!(preview.windows(2).any(|marker| marker == [0xff, 0xc2]), "the preview is a progressive JPEG");
    let expires: chrono::DateTime<chrono::Utc> =
        job["expires_at"].as_str().expect("a time").parse().expect("a time");
    assert!((expires - accepted - TimeDelta::days(3)).num_seconds().abs() < 5, "{expires}");
    app.finish().await;
}

#[tokio::test]
async fn an_edited_picture_comes_from_the_picture_that_was_sent() {
    let app = TestApp::new().await;
    let input = json!({ "prompt": "make it blue", "image": picture() });
    let (job, bytes) = run(&app, "nano-banana-edit", input, 6380).await;
    image::load_from_memory(&bytes).expect("a picture");
    let shown = job["input"]["image"].as_str().expect("an input");
    assert!(shown.len() < 80, "the data URL is not sent back: {shown}");
    app.finish().await;
}

#[tokio::test]
async fn a_kling_video_is_submitted_polled_and_downloaded() {
    let app = TestApp::new().await;
    let (job, bytes) = run(&app, "kling", json!({ "prompt": "a fox runs", "seconds": 5 }), 38000).await;
    assert_eq!(&bytes[4..8], b"ftyp");
    assert_eq!(job["attempts"], 1);
    assert!(job["output"]["files"][0]["duration_seconds"].as_f64().is_some_and(|secs| secs > 4.0), "{job}");
    app.finish().await;
}

#[tokio::test]
async fn a_kling_video_begins_with_the_picture_that_was_sent() {
    let app = TestApp::new().await;
    let (_, bytes) = run(&app, "kling", json!({ "prompt": "it moves", "image": picture() }), 38000).await;
    assert_eq!(&bytes[4..8], b"ftyp");
    app.finish().await;
}

#[tokio::test]
async fn a_hailuo_video_is_fetched_in_two_steps() {
    let app = TestApp::new().await;
    let (job, bytes) = run(&app, "hailuo", json!({ "prompt": "a fox jumps", "seconds": 6 }), 40000).await;
    assert_eq!(&bytes[4..8], b"ftyp");
    assert_eq!(job["output"]["files"][0]["mime_type"], "video/mp4");
    app.finish().await;
}

#[tokio::test]
async fn speech_is_made_and_then_transcribed_by_its_file_id() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let speech = alice.submit("tts-1", json!({ "text": "hello from the kiln", "format": "wav" })).await;
    app.drain().await;
    let file = alice.job(speech).await["output"]["files"][0].clone();
    assert_eq!(file["mime_type"], "audio/wav");
    assert!(file["duration_seconds"].as_f64().is_some_and(|secs| secs > 0.1));

    let transcript = alice.submit("whisper-1", json!({ "audio": file["id"] })).await;
    app.drain().await;
    let job = alice.job(transcript).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    assert!(job["output"]["text"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(alice.tokens().await, (10_000 - 2000 - 1000, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_picture_is_vectorized_without_any_provider() {
    let app = TestApp::new().await;
    let (job, bytes) = run(&app, "vectorize", json!({ "image": picture() }), 4000).await;
    assert!(String::from_utf8_lossy(&bytes).contains("<svg"), "{job}");
    assert_eq!(app.simulator.paid("").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_file_of_another_account_is_no_input() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(10_000).await, app.account(10_000).await);
    let speech = alice.submit("tts-1", json!({ "text": "private" })).await;
    app.drain().await;
    let file = alice.job(speech).await["output"]["files"][0]["id"].clone();
    let stolen = bob.submit("whisper-1", json!({ "audio": file })).await;
    app.drain().await;
    let job = bob.job(stolen).await;
    assert_eq!(
        (job["status"].as_str(), job["error"]["code"].as_str()),
        (Some("failed"), Some("invalid_input_file"))
    );
    assert_eq!(bob.tokens().await, (10_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_job_again() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "once" } });
    let send = |body: Value| {
        let alice = alice.clone();
        async move { alice.send(Method::POST, "/v1/jobs", &[("Idempotency-Key", "\"k-1\"")], Some(&body)).await }
    };
    let first = send(body.clone()).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let again = send(json!({ "input": { "prompt": "once" }, "model": "gpt-4o" })).await;
    assert_eq!((again.status, again.job()), (StatusCode::ACCEPTED, first.job()));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(alice.tokens().await, (9000, 1000), "held once");

    let other = send(json!({ "model": "gpt-4o", "input": { "prompt": "twice" } })).await;
    assert_eq!(other.error(), (422, "idempotency_key_reused", "Idempotency-Key"));
    let bob = app.account(1000).await;
    let theirs = bob.send(Method::POST, "/v1/jobs", &[("Idempotency-Key", "k-1")], Some(&body)).await;
    assert_ne!(theirs.job(), first.job(), "a key belongs to its account");
    app.drain().await;
    assert_eq!(send(body).await.job(), first.job(), "also after the end");
    app.finish().await;
}

#[tokio::test]
async fn a_repeat_of_the_request_that_took_the_last_tokens_is_still_a_repeat() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "the last" } });
    let headers = [("Idempotency-Key", "last")];
    let first = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    let again = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    assert_eq!((again.status, again.job()), (StatusCode::ACCEPTED, first.job()), "{}", again.json);
    let other = json!({ "model": "gpt-4o", "input": { "prompt": "another" } });
    assert_eq!(alice.send(Method::POST, "/v1/jobs", &headers, Some(&other)).await.error().0, 422);
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn the_same_request_to_a_model_that_repeats_itself_is_answered_from_the_cache_for_free() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let receiver = app.receiver().await;
    let body = json!({ "model": "tts-1", "input": { "text": "say it again", "format": "wav" }, "webhook": { "url": receiver.url } });
    let first = alice.post("/v1/jobs", body.clone()).await.job();
    app.drain().await;
    let headers = [("Idempotency-Key", "cached"), ("Prefer", "wait=0")];
    let cached = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    assert_eq!(
        (cached.status, cached.json["status"].as_str()),
        (StatusCode::OK, Some("succeeded")),
        "{}",
        cached.json
    );
    assert_eq!(
        (&cached.json["output"]["cached"], cached.json["price"]["charged"].as_i64()),
        (&json!(true), Some(0))
    );
    assert_ne!(cached.job(), first);
    let url = cached.json["output"]["files"][0]["url"].as_str().expect("a file");
    assert_eq!(app.http.get(url).send().await.expect("fetch").status(), StatusCode::OK);
    let again = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    assert_eq!(again.job(), cached.job(), "a repeat of a cached answer is still a repeat");
    assert_eq!(alice.tokens().await, (8000, 0), "paid once");
    assert_eq!(app.simulator.paid("say it again").await, 1);
    app.deliver().await;
    assert_eq!(receiver.received().len(), 2, "both ends are told");

    let mut off = body.clone();
    off["cache"] = json!("off");
    let fresh = alice.post("/v1/jobs", off).await.job();
    assert_eq!(alice.job(fresh).await["status"], "queued");
    let bob = app.account(10_000).await;
    let theirs = bob.post("/v1/jobs", body.clone()).await.job();
    assert_eq!(bob.job(theirs).await["status"], "queued", "a cache belongs to its account");
    let warm = alice.submit("gpt-4o", json!({ "prompt": "warm" })).await;
    let cold = alice.submit("gpt-4o", json!({ "prompt": "cold", "temperature": 0 })).await;
    app.drain().await;
    let warm_again = alice.submit("gpt-4o", json!({ "prompt": "warm" })).await;
    let cold_again = alice.submit("gpt-4o", json!({ "temperature": 0, "prompt": "cold" })).await;
    assert_eq!(alice.job(warm_again).await["status"], "queued");
    let (cold, cold_again) = (alice.job(cold).await, alice.job(cold_again).await);
    assert_eq!(cold_again["output"]["text"], cold["output"]["text"]);
    assert_ne!(alice.job(warm).await["id"], cold["id"]);

    app.clock.advance(TimeDelta::hours(25));
    let next_day = alice.post("/v1/jobs", body).await.job();
    assert_eq!(alice.job(next_day).await["status"], "queued", "a day later it is made anew");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn twenty_requests_at_once_with_one_key_make_one_job() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "at once" } });
    let answers = futures::future::join_all(
        (0..20).map(|_| alice.send(Method::POST, "/v1/jobs", &[("Idempotency-Key", "same")], Some(&body))),
    )
    .await;
    let first = answers[0].job();
    assert!(answers.iter().all(|answer| answer.status == StatusCode::ACCEPTED && answer.job() == first));
    assert_eq!(alice.tokens().await, (99_000, 1000));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn jobs_are_listed_newest_first_page_by_page_and_by_filter() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let body = json!({ "model": "gpt-4o", "input": { "prompt": format!("{n}") }, "metadata": { "n": n.to_string() } });
        ids.push(alice.post("/v1/jobs", body).await.job().to_string());
    }
    let speech = alice.submit("tts-1", json!({ "text": "x" })).await.to_string();
    let listed = |answer: &Value| -> Vec<String> {
        let data = answer["data"].as_array().expect("a list");
        data.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
    };
    let page = alice.get("/v1/jobs?limit=4").await.json;
    assert_eq!((listed(&page).len(), page["has_more"].as_bool()), (4, Some(true)));
    assert_eq!(listed(&page)[0], speech);
    let rest = alice.get(&format!("/v1/jobs?limit=4&after={}", page["last_id"].as_str().unwrap())).await.json;
    assert_eq!(
        (listed(&rest), rest["has_more"].as_bool()),
        (vec![ids[1].clone(), ids[0].clone()], Some(false))
    );
    assert_eq!(listed(&alice.get("/v1/jobs?medium=audio").await.json), std::slice::from_ref(&speech));
    assert_eq!(listed(&alice.get("/v1/jobs?model=gpt-4o").await.json).len(), 5);
    assert_eq!(listed(&alice.get("/v1/jobs?metadata[n]=3").await.json), [ids[3].clone()]);
    assert_eq!(listed(&alice.get("/v1/jobs?status=queued").await.json).len(), 6);
    assert_eq!(listed(&alice.get("/v1/jobs?status=succeeded").await.json).len(), 0);
    let bob = app.account(0).await;
    assert_eq!(listed(&bob.get("/v1/jobs").await.json).len(), 0, "another account sees nothing");
    app.drain().await;
    assert_eq!(listed(&alice.get("/v1/jobs?status=succeeded").await.json).len(), 6);
    app.finish().await;
}

#[tokio::test]
async fn every_filter_narrows_the_list_and_several_narrow_it_together() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let submit = async |model: &str, input: Value, team: &str, run: &str| {
        let body = json!({ "model": model, "input": input, "metadata": { "team": team, "run": run } });
        alice.post("/v1/jobs", body).await.job().to_string()
    };
    let old = submit("gpt-4o", json!({ "prompt": "x" }), "a", "1").await;
    app.clock.advance(TimeDelta::hours(1));
    let noon = app.now().to_rfc3339_opts(SecondsFormat::Micros, true);
    app.clock.advance(TimeDelta::seconds(1));
    let new = submit("gpt-4o", json!({ "prompt": "x" }), "a", "2").await;
    let speech = submit("tts-1", json!({ "text": "x" }), "b", "2").await;
    assert_eq!(alice.cancel(old.parse().expect("an id")).await.status, StatusCode::OK);
    let (old, new, speech) = (old.as_str(), new.as_str(), speech.as_str());
    for (filter, expected) in [
        (format!("created_after={noon}"), vec![speech, new]),
        ("metadata[team]=a".into(), vec![new, old]),
        ("metadata[team]=a&metadata[run]=2".into(), vec![new]),
        ("metadata[team]=A".into(), vec![]),
        ("metadata[colour]=a".into(), vec![]),
        ("status=canceled".into(), vec![old]),
        ("status=queued&metadata[run]=2".into(), vec![speech, new]),
        ("status=queued&model=gpt-4o".into(), vec![new]),
        (format!("medium=audio&metadata[run]=2&created_after={noon}"), vec![speech]),
        ("medium=video".into(), vec![]),
        ("metadata[team]=a&limit=1".into(), vec![new]),
        (format!("metadata[team]=a&limit=1&after={new}"), vec![old]),
    ] {
        let page = alice.get(&format!("/v1/jobs?{filter}")).await.json;
        let jobs = page["data"].as_array().expect("a list").iter();
        let listed: Vec<_> = jobs.map(|job| job["id"].as_str().expect("an id")).collect();
        assert_eq!(listed, expected, "{filter}");
        assert_eq!(page["has_more"], filter.ends_with("&limit=1"), "{filter}");
    }
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_waiting_request_sees_the_end() {
    let app = TestApp::new().await;
    let alice = app.account(2000).await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "wait" } });
    let submit = alice.send(Method::POST, "/v1/jobs", &[("Prefer", "wait=30")], Some(&body));
    let work = async {
        while app.run_due().await == 0 {
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(submit, work);
    assert_eq!((answer.status, &answer.json["status"]), (StatusCode::OK, &json!("succeeded")));
    assert_eq!(answer.headers["preference-applied"], "wait=30");

    let id = alice.submit("gpt-4o", json!({ "prompt": "poll" })).await;
    let early = alice.get(&format!("/v1/jobs/{id}?wait=0")).await;
    assert_eq!(
        (early.json["status"].as_str(), early.json["queue_position"].as_i64()),
        (Some("queued"), Some(0))
    );
    assert!(early.headers.contains_key("retry-after"));
    let path = format!("/v1/jobs/{id}?wait=30");
    let (late, ()) = tokio::join!(alice.get(&path), async {
        app.run_due().await;
    });
    assert_eq!(late.json["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn the_events_of_a_job_are_told_until_its_end() {
    let app = TestApp::new().await;
    let alice = app.account(40_000).await;
    let id = alice.submit("kling", json!({ "prompt": "watch me" })).await;
    let url = format!("{}/v1/jobs/{id}/events", app.base);
    let stream = app.http.get(url).bearer_auth(&alice.key).send().await.expect("watch");
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut stream = stream;
    let first = stream.chunk().await.expect("the stream begins").expect("with the job as it stands");
    let first = String::from_utf8(first.to_vec()).expect("text");
    assert!(first.contains(r#""status":"queued""#), "the first event comes before anything happens: {first}");
    let (rest, ()) = tokio::join!(stream.text(), app.drain());
    let text = first + &rest.expect("the stream ends");
    let states: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert_eq!(states.first().expect("one")["status"], "queued");
    assert_eq!(states.last().expect("one")["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn a_job_may_start_later_and_is_shown_as_scheduled() {
    let app = TestApp::new().await;
    let alice = app.account(2000).await;
    let start = app.now() + TimeDelta::hours(2);
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "later" }, "start_at": start });
    let id = alice.post("/v1/jobs", body).await.job();
    assert_eq!(app.run_due().await, 0);
    assert_eq!(alice.job(id).await["phase"], "scheduled");
    app.clock.advance(TimeDelta::hours(2));
    assert_eq!(app.run_due().await, 1);
    assert_eq!(alice.job(id).await["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn the_catalogue_shows_price_task_and_schema() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let models = alice.get("/v1/models").await.json;
    for model in models["data"].as_array().expect("a list") {
        assert_eq!((&model["object"], &model["input_schema"]["type"]), (&json!("model"), &json!("object")));
        assert!(model["price"]["rules"].as_array().is_some_and(|rules| !rules.is_empty()), "{model}");
        let medium = model["medium"].as_str().and_then(Medium::from_word);
        assert_eq!(medium, model["task"].as_str().and_then(Medium::of_task), "{model}");
        let path = format!("/v1/models/{}", model["id"].as_str().expect("an id"));
        assert_eq!(&alice.get(&path).await.json, model);
    }
    assert_eq!(alice.get("/v1/models/none").await.error(), (404, "model_not_found", "model"));
    assert_eq!(alice.get("/v1/models/%FF").await.error().0, 404);
    app.finish().await;
}

#[tokio::test]
async fn health_is_told_without_a_key_and_follows_the_database() {
    let app = TestApp::new().await;
    for path in ["/health/live", "/health/ready", "/health/dependencies"] {
        let answer = app.http.get(format!("{}{path}", app.base)).send().await.expect("ask");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert!(answer.headers().contains_key("x-request-id"), "{path}");
    }
    app.finish().await;
}
