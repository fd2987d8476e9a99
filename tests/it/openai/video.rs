//! Films as OpenAI's clients order, ask after, fetch, remix and delete them.

use chrono::TimeDelta;
use reqwest::{Method, StatusCode, multipart::Form};
use serde_json::{Value, json};
use shared::job::Medium;
use workers::run;

use super::{fetch, header, picture, request};
use crate::support::{Account, TestApp, execute, read, scalar};

/// The price of a film of OpenAI's.
const PRICE: i64 = 50_000;

async fn order(alice: &Account, body: Value) -> Value {
    let answer = alice.post("/v1/videos", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!(answer.headers["openai-poll-after-ms"], "2000");
    answer.json
}

fn id(video: &Value) -> &str {
    video["id"].as_str().expect("an id")
}

async fn ids(alice: &Account, query: &str) -> (Vec<String>, Value) {
    let page = alice.get(&format!("/v1/videos{query}")).await.json;
    let data = page["data"].as_array().unwrap_or_else(|| panic!("a list: {page}"));
    (data.iter().map(|video| id(video).to_owned()).collect(), page)
}

#[tokio::test]
async fn a_film_is_ordered_asked_after_fetched_and_deleted() {
    let app = TestApp::new().await;
    let alice = app.account(PRICE).await;
    let begun = order(&alice, json!({ "prompt": "a fox runs", "seconds": "8", "size": "1280x720" })).await;
    for (field, expected) in [
        ("object", json!("video")),
        ("model", json!("sora-2")),
        ("status", json!("queued")),
        ("progress", json!(0)),
        ("seconds", json!("8")),
        ("size", json!("1280x720")),
        ("prompt", json!("a fox runs")),
        ("completed_at", Value::Null),
        ("error", Value::Null),
        ("remixed_from_video_id", Value::Null),
    ] {
        assert_eq!(begun[field], expected, "{field}: {begun}");
    }
    let (path, bob) = (format!("/v1/videos/{}", id(&begun)), app.account(0).await);
    let content = format!("{path}/content");
    assert_eq!(alice.tokens().await, (0, PRICE));
    assert_eq!(alice.get(&content).await.error(), (400, "video_not_ready", "id"));
    assert_eq!(bob.get(&path).await.error(), (404, "video_not_found", "id"));
    app.drain().await;

    let done = alice.get(&path).await;
    assert!(!done.headers.contains_key("openai-poll-after-ms"), "nothing is to come");
    let done = done.json;
    assert_eq!((&done["status"], &done["progress"]), (&json!("completed"), &json!(100)), "{done}");
    assert!(
        done["completed_at"].is_i64() && done["expires_at"].as_i64() > done["completed_at"].as_i64(),
        "{done}"
    );
    assert_eq!(alice.tokens().await, (0, 0));
    let film = fetch(&app, request(&alice, Method::GET, &content)).await;
    assert_eq!((film.status(), header(&film, "content-type")), (StatusCode::OK, "video/mp4"));
    assert_eq!(&film.bytes().await.expect("the film")[4..8], b"ftyp");
    for (query, expected) in [
        ("?variant=spritesheet", (404, "variant_not_found", "variant")),
        ("?variant=gif", (400, "invalid_value", "variant")),
    ] {
        assert_eq!(alice.get(&format!("{content}{query}")).await.error(), expected);
    }
    assert_eq!(bob.get(&content).await.error(), (404, "video_not_found", "id"));
    assert_eq!(bob.send(Method::DELETE, &path, &[], None).await.error(), (404, "video_not_found", "id"));

    let gone = alice.send(Method::DELETE, &path, &[], None).await.json;
    assert_eq!(gone, json!({ "id": id(&begun), "object": "video.deleted", "deleted": true }));
    for path in [&path, &content] {
        assert_eq!(alice.get(path).await.error(), (404, "video_not_found", "id"), "{path}");
    }
    assert_eq!(ids(&alice, "").await.0, Vec::<String>::new());
    assert_eq!(app.storage.list("outputs/", None).await.expect("list"), Vec::<String>::new());
    let job = alice.get(&format!("/v1/jobs/{}", id(&begun).replace("video_", "job_"))).await.json;
    assert_eq!((&job["status"], &job["output"]["files"]), (&json!("succeeded"), &json!([])), "the job stays");
    app.finish().await;
}

#[tokio::test]
async fn a_thumbnail_is_the_preview_of_the_film_where_there_is_one() {
    let app = TestApp::new().await;
    let alice = app.account(PRICE).await;
    let begun = order(&alice, json!({ "prompt": "a fox" })).await;
    let thumbnail = format!("/v1/videos/{}/content?variant=thumbnail", id(&begun));
    assert_eq!(alice.get(&thumbnail).await.error(), (400, "video_not_ready", "id"));
    app.drain().await;
    let made: Option<String> = scalar(&app.db, "select preview_key from files").await;
    // Whether there is one depends on ffmpeg; from here on there is.
    let key = match made {
        Some(key) => key,
        None => {
            assert_eq!(alice.get(&thumbnail).await.error(), (404, "variant_not_found", "variant"));
            let set = "update files set preview_key = 'outputs/' || job_id::text || '/0.preview.jpg'";
            assert_eq!(execute(&app.db, set).await.expect("set"), 1);
            scalar(&app.db, "select preview_key from files").await
        }
    };
    let picture = bytes::Bytes::from_static(b"\xff\xd8 a picture");
    app.storage.put_bytes(&key, picture.clone(), "image/jpeg").await.expect("store");
    let shown = fetch(&app, request(&alice, Method::GET, &thumbnail)).await;
    assert_eq!((shown.status(), header(&shown, "content-type")), (StatusCode::OK, "image/jpeg"));
    assert_eq!(shown.bytes().await.expect("the picture"), picture);
    delete(&alice, &begun).await;
    assert_eq!(alice.get(&thumbnail).await.error(), (404, "video_not_found", "id"));
    assert_eq!(app.storage.list("outputs/", None).await.expect("list"), Vec::<String>::new());
    app.finish().await;
}

#[tokio::test]
async fn a_film_that_nobody_wants_any_more_is_canceled() {
    let app = TestApp::new().await;
    let alice = app.account(2 * PRICE).await;
    let (first, second) =
        (order(&alice, json!({ "prompt": "one" })).await, order(&alice, json!({ "prompt": "two" })).await);
    let path = format!("/v1/videos/{}", id(&first));
    assert_eq!(alice.send(Method::DELETE, &path, &[], None).await.json["deleted"], true);
    assert_eq!(alice.tokens().await, (PRICE, PRICE), "it costs nothing");
    assert_eq!(alice.get(&path).await.error(), (404, "video_not_found", "id"));
    assert_eq!(ids(&alice, "").await.0, [id(&second)]);
    app.drain().await;
    app.finish().await;
}

/// Deletes a film, which is then nowhere to be seen.
async fn delete(alice: &Account, video: &Value) {
    let path = format!("/v1/videos/{}", id(video));
    let gone = alice.send(Method::DELETE, &path, &[], None).await;
    assert_eq!(gone.json["deleted"], true, "{}", gone.json);
    assert_gone(alice, video).await;
    assert_eq!(alice.send(Method::DELETE, &path, &[], None).await.error(), (404, "video_not_found", "id"));
}

async fn assert_gone(alice: &Account, video: &Value) {
    let path = format!("/v1/videos/{}", id(video));
    for path in [format!("{path}/content"), path] {
        assert_eq!(alice.get(&path).await.error(), (404, "video_not_found", "id"), "{path}");
    }
    let (listed, page) = ids(alice, "").await;
    assert!(listed.iter().all(|listed| listed != id(video)), "{page}");
}

async fn job_of(alice: &Account, video: &Value) -> Value {
    alice.get(&format!("/v1/jobs/{}", id(video).replace("video_", "job_"))).await.json
}

#[tokio::test]
async fn a_film_that_is_deleted_while_its_maker_is_at_work_is_gone_at_once_and_costs_nothing() {
    let app = TestApp::new().await;
    let alice = app.account(2 * PRICE).await;
    let (first, second) =
        (order(&alice, json!({ "prompt": "one" })).await, order(&alice, json!({ "prompt": "two" })).await);
    assert_eq!(app.run_due().await, 2);
    let under_way = alice.get(&format!("/v1/videos/{}", id(&first))).await.json;
    assert_eq!(under_way["status"], "in_progress", "{under_way}");
    delete(&alice, &first).await;
    let job = job_of(&alice, &first).await;
    assert_eq!((&job["status"], &job["phase"]), (&json!("running"), &json!("canceling")), "{job}");
    app.drain().await;
    assert_gone(&alice, &first).await;
    assert_eq!(job_of(&alice, &first).await["status"], "canceled");
    assert_eq!(ids(&alice, "").await.0, [id(&second)]);
    assert_eq!(alice.tokens().await, (PRICE, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_film_that_is_finished_after_it_was_deleted_is_not_shown_and_not_kept() {
    let app = TestApp::new().await;
    app.simulator.finish_after_polls(1).await;
    let alice = app.account(PRICE).await;
    let begun = order(&alice, json!({ "prompt": "too late" })).await;
    assert_eq!(app.run_due().await, 1);
    app.clock.advance(TimeDelta::minutes(1));
    // A worker has it already, and brings the result before it hears of the end.
    let claimed = app.claim(Medium::Video).await;
    assert_eq!(claimed.len(), 1);
    delete(&alice, &begun).await;
    run::run_job(&app.worker, &claimed[0]).await;

    assert_gone(&alice, &begun).await;
    let job = job_of(&alice, &begun).await;
    assert_eq!((&job["status"], &job["output"]["files"]), (&json!("succeeded"), &json!([])), "{job}");
    assert_eq!(alice.tokens().await, (0, 0), "it was made, so it is paid for, as with any cancel");
    let night =
        app.now().date_naive().succ_opt().expect("a day").and_hms_opt(3, 0, 1).expect("a time").and_utc();
    app.clock.advance_to(night);
    assert!(app.tick("delete-expired-files").await);
    assert_eq!(app.storage.list("outputs/", None).await.expect("list"), Vec::<String>::new());
    assert_gone(&alice, &begun).await;
    app.finish().await;
}

#[tokio::test]
async fn a_film_that_fails_says_why_until_it_is_deleted() {
    let app = TestApp::new().await;
    let alice = app.account(PRICE).await;
    let begun = order(&alice, json!({ "prompt": "no [[sim:refuse]]" })).await;
    app.drain().await;
    let path = format!("/v1/videos/{}", id(&begun));
    let failed = alice.get(&path).await.json;
    assert_eq!((&failed["status"], &failed["progress"]), (&json!("failed"), &json!(0)), "{failed}");
    assert_eq!(failed["error"]["code"], "content_refused", "{failed}");
    assert_eq!(alice.get(&format!("{path}/content")).await.error(), (404, "video_failed", "none"));
    assert_eq!(ids(&alice, "").await.0, [id(&begun)]);
    assert_eq!(alice.send(Method::DELETE, &path, &[], None).await.json["deleted"], true);
    assert_eq!(ids(&alice, "").await.0, Vec::<String>::new());
    assert_eq!(alice.tokens().await, (PRICE, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_film_begins_with_a_picture_that_is_sent_or_named() {
    let app = TestApp::new().await;
    let alice = app.account(2 * PRICE).await;
    let form = Form::new()
        .text("model", "sora-2")
        .text("prompt", "it moves")
        .text("seconds", "4")
        .part("input_reference", picture(720, 1280));
    let sent = read(request(&alice, Method::POST, "/v1/videos").multipart(form)).await;
    assert_eq!(sent.status, StatusCode::OK, "{}", sent.json);
    let file = alice.get("/v1/files").await.json["data"][0]["id"].clone();
    order(&alice, json!({ "prompt": "it moves on", "input_reference": { "file_id": file } })).await;
    app.drain().await;
    let (films, page) = ids(&alice, "").await;
    assert_eq!(films.len(), 2);
    for video in page["data"].as_array().expect("a list") {
        assert_eq!((&video["status"], &video["size"]), (&json!("completed"), &json!("720x1280")), "{video}");
        let job = alice.get(&format!("/v1/jobs/{}", id(video).replace("video_", "job_"))).await.json;
        assert_eq!((&job["input"]["image"], &job["input"]["aspect_ratio"]), (&file, &json!("9:16")));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_film_whose_time_is_over_is_shown_without_its_content() {
    let app = TestApp::new().await;
    let alice = app.account(PRICE).await;
    let begun = order(&alice, json!({ "prompt": "a fox" })).await;
    app.drain().await;
    app.clock.advance(TimeDelta::days(3));
    let path = format!("/v1/videos/{}", id(&begun));
    assert_eq!(alice.get(&path).await.json["status"], "completed");
    assert_eq!(alice.get(&format!("{path}/content")).await.error(), (404, "file_not_found", "none"));
    assert_eq!(alice.send(Method::DELETE, &path, &[], None).await.json["deleted"], true);
    assert_eq!(alice.get(&path).await.error(), (404, "video_not_found", "id"));
    app.finish().await;
}

#[tokio::test]
async fn films_are_listed_from_either_end_page_by_page_and_nothing_else_is() {
    let app = TestApp::new().await;
    let alice = app.account(4 * PRICE).await;
    let mut made = Vec::new();
    for n in 0..3 {
        made.push(id(&order(&alice, json!({ "prompt": format!("film {n}") })).await).to_owned());
    }
    alice.submit("tts-1", json!({ "text": "no film" })).await;
    let (first, page) = ids(&alice, "?limit=2&order=desc").await;
    assert_eq!((first, &page["has_more"]), (vec![made[2].clone(), made[1].clone()], &json!(true)));
    let last = page["last_id"].as_str().expect("an id");
    let (rest, page) = ids(&alice, &format!("?limit=2&after={last}")).await;
    assert_eq!((rest, &page["has_more"]), (vec![made[0].clone()], &json!(false)));
    let (first, page) = ids(&alice, "?limit=2&order=asc").await;
    assert_eq!((first, &page["has_more"]), (made[..2].to_vec(), &json!(true)));
    let last = page["last_id"].as_str().expect("an id");
    let (rest, page) = ids(&alice, &format!("?limit=2&order=asc&after={last}")).await;
    assert_eq!((rest, &page["has_more"]), (vec![made[2].clone()], &json!(false)));
    for hidden in &made[1..] {
        let gone = alice.send(Method::DELETE, &format!("/v1/videos/{hidden}"), &[], None).await;
        assert_eq!(gone.json["deleted"], true, "{}", gone.json);
    }
    let (rest, page) = ids(&alice, "?limit=1").await;
    assert_eq!(
        (rest, &page["has_more"]),
        (vec![made[0].clone()], &json!(false)),
        "those deleted take no room"
    );
    assert_eq!(ids(&alice, "?limit=1&order=asc").await.0, [made[0].clone()]);
    assert_eq!(alice.get("/v1/videos?order=oldest").await.error(), (400, "invalid_query", "order"));
    assert_eq!(alice.get("/v1/videos?after=job_1").await.error(), (400, "invalid_query", "after"));
    for other in ["video_1".to_owned(), made[0].replace("video_", "job_")] {
        let path = format!("/v1/videos/{other}");
        assert_eq!(alice.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_remix_is_made_where_the_films_maker_can_go_on() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let film = order(&alice, json!({ "model": "midjourney-video", "prompt": "it runs" })).await;
    let remix = |video: &Value| format!("/v1/videos/{}/remix", id(video));
    let early = alice.post(&remix(&film), json!({ "prompt": "and jumps" })).await;
    assert_eq!(early.error(), (400, "video_not_ready", "id"), "{}", early.json);
    app.drain().await;
    let more = alice.post(&remix(&film), json!({ "prompt": "and jumps" })).await;
    assert_eq!(more.status, StatusCode::OK, "{}", more.json);
    assert_eq!(
        (&more.json["remixed_from_video_id"], &more.json["prompt"]),
        (&film["id"], &json!("and jumps"))
    );
    app.drain().await;
    let more = alice.get(&format!("/v1/videos/{}", id(&more.json))).await.json;
    assert_eq!(more["status"], "completed", "{more}");

    let other = order(&alice, json!({ "prompt": "a fox" })).await;
    app.drain().await;
    let refused = alice.post(&remix(&other), json!({ "prompt": "at night" })).await;
    assert_eq!(refused.error(), (400, "remix_unsupported", "id"), "{}", refused.json);
    app.finish().await;
}
