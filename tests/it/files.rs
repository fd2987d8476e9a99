//! Files that are sent in: what is taken, how much of it, what jobs make of it, and when it goes again.

use std::{io, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{Stream, StreamExt, stream};
use image::{ImageFormat, RgbImage};
use reqwest::{
    Body, Method, StatusCode,
    multipart::{Form, Part},
    redirect,
};
use serde_json::{Value, json};
use shared::{id::FileId, storage::PART_BYTES};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use crate::support::{Account, Answer, Settings, TestApp, eventually, execute, read, scalar};

/// A picture that Kling and others would take.
fn picture(format: ImageFormat) -> Vec<u8> {
    let mut bytes = io::Cursor::new(Vec::new());
    let image = RgbImage::from_fn(320, 320, |x, y| image::Rgb([200, if x > y { 30 } else { 200 }, 30]));
    image.write_to(&mut bytes, format).expect("encode");
    bytes.into_inner()
}

/// Half a second of silence: 16 kHz, 16 bits, mono.
pub fn wav() -> Vec<u8> {
    let samples = [0_u8; 16_000];
    let length = u32::try_from(samples.len()).expect("short");
    let mut bytes = [&b"RIFF"[..], &(36 + length).to_le_bytes(), b"WAVEfmt ", &16_u32.to_le_bytes()].concat();
    bytes.extend([1_u16, 1].iter().flat_map(|field| field.to_le_bytes()));
    bytes.extend([16_000_u32, 32_000].iter().flat_map(|field| field.to_le_bytes()));
    bytes.extend([2_u16, 16].iter().flat_map(|field| field.to_le_bytes()));
    [&bytes[..], b"data", &length.to_le_bytes(), &samples].concat()
}

/// The first bytes of a PNG, and nothing of one behind them.
fn png_of(length: usize) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.resize(length, 7);
    bytes
}

/// A file of each kind that is taken. Of some only the first bytes are right, and no more is asked.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let behind = |head: &[u8]| [head, &[7; 5000]].concat();
    vec![
        ("image/jpeg", picture(ImageFormat::Jpeg)),
        ("image/png", picture(ImageFormat::Png)),
        ("image/webp", picture(ImageFormat::WebP)),
        ("video/mp4", behind(b"\0\0\0\x20ftypisom\0\0\x02\0")),
        ("audio/mpeg", behind(b"ID3\x04\0\0\0\0\0\0")),
        ("audio/wav", wav()),
        ("audio/ogg", behind(b"OggS\0\x02")),
        ("application/pdf", b"%PDF-1.7\n%%EOF\n".to_vec()),
    ]
}

async fn post(who: &Account, form: Form) -> Answer {
    let request = who.http.post(format!("{}/v1/files", who.base));
    read(request.bearer_auth(&who.key).multipart(form)).await
}

/// Sends a file as a program does that does not know what it is.
async fn send(who: &Account, name: &str, bytes: Vec<u8>) -> Answer {
    let part = Part::bytes(bytes).file_name(name.to_owned()).mime_str("text/plain").expect("a type");
    post(who, Form::new().text("purpose", "user_data").part("file", part)).await
}

/// A form whose file comes piece by piece, so that nobody knows its length before its end.
fn streamed(pieces: impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static) -> Form {
    Form::new().part("file", Part::stream(Body::wrap_stream(pieces)).file_name("a.png"))
}

fn in_pieces(bytes: &[u8]) -> impl Stream<Item = io::Result<Vec<u8>>> + Send + use<> {
    stream::iter(bytes.chunks(10_000).map(|piece| Ok(piece.to_vec())).collect::<Vec<_>>())
}

fn id(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
    answer.json["id"].as_str().expect("an id").to_owned()
}

async fn delete(who: &Account, file: &str) -> Answer {
    who.send(Method::DELETE, &format!("/v1/files/{file}"), &[], None).await
}

async fn content(who: &Account, file: &str) -> reqwest::Response {
    let request = who.http.get(format!("{}/v1/files/{file}/content", who.base));
    request.bearer_auth(&who.key).send().await.expect("fetch")
}

/// What is kept of uploads: rows and objects.
async fn kept(app: &TestApp) -> (i64, usize) {
    let rows = scalar(&app.db, "select count(*) from uploads").await;
    (rows, app.storage.list("uploads/", None).await.expect("list").len())
}

/// What the storage keeps of objects that are not whole.
fn parts(app: &TestApp) -> usize {
    let entries = std::fs::read_dir(app.s3_dir.path()).expect("a folder").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().contains(".upload")).count()
}

/// The next time it is half past three in the morning.
fn night(app: &TestApp) -> DateTime<Utc> {
    let today = app.now().date_naive().and_hms_opt(3, 30, 0).expect("a time").and_utc();
    if today > app.now() { today } else { today + TimeDelta::days(1) }
}

async fn with(file_bytes_max: i64, quota_bytes: Option<i64>) -> TestApp {
    let uploads = api::UploadLimits { file_bytes_max, quota_bytes };
    TestApp::with(Settings { uploads, ..Settings::default() }).await
}

#[tokio::test]
async fn a_file_of_each_kind_is_taken_by_its_bytes_and_given_back() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    for (mime_type, bytes) in kinds() {
        let answer = send(&alice, "C:\\notes\\fox \u{202E}txt.exe", bytes.clone()).await;
        let file = id(&answer);
        let shown = alice.get(&format!("/v1/files/{file}")).await.json;
        for json in [&answer.json, &shown] {
            assert_eq!((&json["object"], &json["mime_type"]), (&json!("file"), &json!(mime_type)));
            assert_eq!((&json["size_bytes"], &json["bytes"]), (&json!(bytes.len()), &json!(bytes.len())));
            assert_eq!((&json["name"], &json["filename"]), (&json!("fox txt.exe"), &json!("fox txt.exe")));
            assert_eq!((&json["purpose"], &json["job"]), (&json!("user_data"), &Value::Null));
            assert_eq!(json["created_at"], answer.json["created_at"]);
            let expires: DateTime<Utc> =
                json["expires_at"].as_str().expect("a time").parse().expect("a time");
            assert_eq!(expires, app.now() + TimeDelta::days(3));
        }
        assert_eq!(answer.headers["location"], format!("/v1/files/{file}").as_str());
        let by_url = app.http.get(shown["url"].as_str().expect("a URL")).send().await.expect("fetch");
        for fetched in [content(&alice, &file).await, by_url] {
            assert_eq!(fetched.status(), StatusCode::OK);
            assert_eq!(fetched.headers()["content-type"], mime_type);
            assert_eq!(fetched.bytes().await.expect("bytes"), bytes, "{mime_type}");
        }
    }
    assert_eq!(kept(&app).await, (8, 8));
    app.finish().await;
}

#[tokio::test]
async fn a_job_uses_what_was_sent_in_and_that_makes_it_stay_no_longer() {
    let app = TestApp::new().await;
    let alice = app.account(50_000).await;
    let fox = send(&alice, "fox.webp", picture(ImageFormat::WebP)).await;
    let sound = send(&alice, "silence", wav()).await;
    let edit = alice.submit("nano-banana-edit", json!({ "prompt": "bluer", "image": id(&fox) })).await;
    let transcript = alice.submit("whisper-1", json!({ "audio": id(&sound) })).await;
    app.drain().await;
    for job in [edit, transcript] {
        let job = alice.job(job).await;
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    for file in [fox, sound] {
        let now = alice.get(&format!("/v1/files/{}", id(&file))).await.json;
        assert_eq!(now["expires_at"], file.json["expires_at"]);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_file_of_another_kind_than_its_field_wants_or_too_long_fails_the_job_and_nobody_is_asked() {
    let app = TestApp::new().await;
    let alice = app.account(50_000).await;
    let pdf = id(&send(&alice, "fox.png", b"%PDF-1.7\n".to_vec()).await);
    let sound = id(&send(&alice, "a", wav()).await);
    let long = id(&send(&alice, "a", png_of(100)).await);
    let sql = "update uploads set size_bytes = 30 * 1024 * 1024 + 1 where size_bytes = 100";
    assert_eq!(execute(&app.db, sql).await.expect("say so"), 1);
    for (model, input, says) in [
        ("vectorize", json!({ "image": pdf }), "image is application/pdf where image/* is wanted"),
        ("vectorize", json!({ "image": sound }), "image is audio/wav where image/* is wanted"),
        ("whisper-1", json!({ "audio": pdf }), "audio is application/pdf where audio/* is wanted"),
        ("vectorize", json!({ "image": long }), "image is longer than 31457280 bytes"),
    ] {
        let job = alice.submit(model, input).await;
        app.drain().await;
        let job = alice.job(job).await;
        assert_eq!(job["error"]["code"], "invalid_input_file", "{says}: {job}");
        assert!(job["error"]["message"].as_str().is_some_and(|message| message.contains(says)), "{job}");
    }
    assert_eq!(app.simulator.submits("").await["data"], json!([]));
    app.finish().await;
}

#[tokio::test]
async fn what_is_refused_is_named_and_nothing_of_it_is_kept() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    for other in [&b"GIF89a"[..], b"<svg/>", b"<html></html>", b"PK\x03\x04", b"fLaC\0\0\0\x22", b"\x7fELF"] {
        let answer = send(&alice, "fox.png", [other, &[0; 100]].concat()).await;
        assert_eq!(answer.error(), (415, "unsupported_file_type", "file"), "{other:?}");
        let message = answer.json["error"]["message"].as_str().expect("words");
        assert!(message.contains("image/png") && message.contains("application/pdf"), "{message}");
    }
    assert_eq!(send(&alice, "a.png", Vec::new()).await.error(), (400, "empty_file", "file"));
    let part = || Part::bytes(png_of(100)).file_name("a.png");
    for (form, code, param) in [
        (Form::new().text("purpose", "vision"), "missing_field", "file"),
        (Form::new().part("file", part()).part("file", part()), "duplicate_field", "file"),
        (Form::new().part("file", part()).text("colour", "red"), "unknown_field", "colour"),
        (Form::new().text("expires_after[seconds]", "9"), "unknown_field", "expires_after[seconds]"),
        (Form::new().text("purpose", "a".repeat(65)).part("file", part()), "invalid_text", "purpose"),
        (Form::new().part("file", part()).text("purpose", "a\nb"), "invalid_text", "purpose"),
        (Form::new().text("purpose", "a").text("purpose", "a"), "duplicate_field", "purpose"),
    ] {
        assert_eq!(post(&alice, form).await.error(), (400, code, param));
    }
    let json = alice.post("/v1/files", json!({ "file": "a" })).await;
    assert_eq!(json.error(), (415, "unsupported_media_type", "none"));
    let cut = app.http.post(format!("{}/v1/files", app.base)).bearer_auth(&alice.key);
    let cut = cut.header("content-type", "multipart/form-data; boundary=b").body("--b\r\nContent-Disp");
    assert_eq!(read(cut).await.error(), (400, "invalid_form", "none"));
    assert_eq!(kept(&app).await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_file_that_turns_out_too_long_on_its_way_leaves_nothing() {
    let limit = PART_BYTES + 100_000;
    let app = with(i64::try_from(limit).expect("a size"), None).await;
    let alice = app.account(0).await;
    let answer = post(&alice, streamed(in_pieces(&png_of(limit + 1)))).await;
    assert_eq!(answer.error(), (413, "file_too_large", "file"), "{}", answer.json);
    assert_eq!((kept(&app).await, parts(&app)), ((0, 0), 0));

    let whole = png_of(limit);
    let file = id(&post(&alice, streamed(in_pieces(&whole))).await);
    assert!(content(&alice, &file).await.bytes().await.expect("bytes") == whole, "put together as it came");
    assert_eq!((kept(&app).await, parts(&app)), ((1, 1), 0));

    // One that says so at once is answered before anything of it is read.
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: kiln\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n",
        alice.key,
        api::uploads::FORM_BYTES_MAX + 1
    );
    let mut stream = TcpStream::connect(app.base.trim_start_matches("http://")).await.expect("connect");
    stream.write_all(head.as_bytes()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request_too_large"), "{answer}");
    app.finish().await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_neither_object_nor_row() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let (cut, told) = oneshot::channel();
    let end = stream::once(async move {
        told.await.expect("told");
        Err(io::Error::other("cut"))
    });
    let form = streamed(in_pieces(&png_of(PART_BYTES + 100_000)).chain(end));
    let request = app.http.post(format!("{}/v1/files", app.base)).bearer_auth(&alice.key).multipart(form);
    let (sent, ()) = futures::join!(request.send(), async {
        eventually("a part is stored", async || parts(&app) > 0).await;
        cut.send(()).expect("it still sends");
    });
    assert!(sent.is_err(), "the connection broke");
    eventually("it is given up", async || app.door.uploads.under_way() == 0).await;
    assert_eq!((kept(&app).await, parts(&app)), ((0, 0), 0));
    app.finish().await;
}

#[tokio::test]
async fn what_is_on_its_way_while_its_account_ends_is_not_kept() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let (go_on, told) = oneshot::channel();
    let rest = stream::once(async move {
        told.await.expect("told");
        Ok(vec![7; 100])
    });
    let form = streamed(in_pieces(&png_of(50_000)).chain(rest));
    let (answer, ()) = futures::join!(post(&alice, form), async {
        eventually("it is under way", async || app.door.uploads.under_way() == 1).await;
        let suspend = format!("update accounts set status = 'suspended' where id = '{}'", alice.id.0);
        assert_eq!(execute(&app.db, &suspend).await.expect("suspend"), 1);
        go_on.send(()).expect("it still sends");
    });
    assert_eq!(answer.error(), (403, "forbidden", "none"), "{}", answer.json);
    assert_eq!(kept(&app).await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn an_account_has_room_for_so_much_and_is_told_what_takes_it() {
    let app = with(1_000_000, Some(100_000)).await;
    let (alice, bob) = (app.account(0).await, app.account(0).await);
    let first = id(&send(&alice, "a", png_of(60_000)).await);
    let refused = post(&alice, streamed(in_pieces(&png_of(40_001)))).await;
    assert_eq!(refused.error(), (413, "upload_quota_exceeded", "file"), "{}", refused.json);
    let message = refused.json["error"]["message"].as_str().expect("words");
    assert!(message.contains("take 60000 of the 100000 bytes"), "{message}");
    id(&send(&bob, "a", png_of(100_000)).await);
    assert_eq!(send(&bob, "a", png_of(10)).await.error().1, "upload_quota_exceeded", "full");
    id(&send(&alice, "a", png_of(40_000)).await);

    // Deleting and expiring make room, and of two that come at once one has it.
    assert_eq!(delete(&alice, &first).await.status, StatusCode::OK);
    let both = futures::join!(send(&alice, "b", png_of(60_000)), send(&alice, "c", png_of(60_000)));
    let mut statuses = [both.0.status.as_u16(), both.1.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!((statuses, kept(&app).await), ([201, 413], (3, 3)));
    app.clock.advance(TimeDelta::days(3));
    id(&send(&alice, "d", png_of(100_000)).await);
    app.finish().await;
}

#[tokio::test]
async fn anothers_file_is_not_there() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(0).await, app.account(10_000).await);
    let file = id(&send(&alice, "mine", picture(ImageFormat::Png)).await);
    for stranger in [file.as_str(), &FileId::new().to_string(), "file_1", "nonsense"] {
        let path = format!("/v1/files/{stranger}");
        let code = if stranger.len() > 20 { "file_not_found" } else { "not_found" };
        assert_eq!(bob.get(&path).await.error(), (404, code, "id"), "{stranger}");
        assert_eq!(bob.get(&format!("{path}/content")).await.error(), (404, code, "id"), "{stranger}");
        assert_eq!(delete(&bob, stranger).await.error(), (404, code, "id"), "{stranger}");
    }
    assert_eq!(bob.get("/v1/files").await.json["data"], json!([]));
    let stolen = bob.submit("vectorize", json!({ "image": file })).await;
    app.drain().await;
    assert_eq!(bob.job(stolen).await["error"]["code"], "invalid_input_file");
    assert_eq!((kept(&app).await, content(&alice, &file).await.status()), ((1, 1), StatusCode::OK));
    app.finish().await;
}

#[tokio::test]
async fn content_is_a_redirect_to_a_signed_url_that_nobody_keeps() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let file = id(&send(&alice, "a.pdf", b"%PDF-1.7\n".to_vec()).await);
    let client =
        reqwest::Client::builder().redirect(redirect::Policy::none()).timeout(Duration::from_secs(30));
    let client = client.build().expect("a client");
    let request = client.get(format!("{}/v1/files/{file}/content", app.base)).bearer_auth(&alice.key);
    let answer = request.send().await.expect("ask");
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let url = answer.headers()["location"].to_str().expect("a URL").to_owned();
    assert!(url.contains("X-Amz-Signature="), "{url}");
    assert_eq!(client.get(&url).send().await.expect("fetch").bytes().await.expect("bytes"), "%PDF-1.7\n");
    let bare = url.split('?').next().expect("a path");
    assert_eq!(client.get(bare).send().await.expect("ask").status(), StatusCode::FORBIDDEN);
    app.finish().await;
}

#[tokio::test]
async fn a_deleted_file_is_gone_and_a_result_goes_with_its_time_alone() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let file = id(&send(&alice, "a", png_of(100)).await);
    let deleted = delete(&alice, &file).await;
    assert_eq!(
        (deleted.status.as_u16(), deleted.json),
        (200, json!({ "id": file, "object": "file", "deleted": true }))
    );
    assert_eq!(kept(&app).await, (0, 0));
    assert_eq!(delete(&alice, &file).await.error(), (404, "file_not_found", "id"));

    let job = alice.submit("nano-banana", json!({ "prompt": "a fox" })).await;
    app.drain().await;
    let made = alice.job(job).await["output"]["files"][0].clone();
    let path = made["id"].as_str().expect("an id");
    let shown = alice.get(&format!("/v1/files/{path}")).await.json;
    for field in ["id", "mime_type", "size_bytes", "width", "height", "expires_at"] {
        assert_eq!(shown[field], made[field], "{field}");
    }
    assert_eq!((&shown["job"], &shown["name"]), (&json!(job), &json!(format!("{job}-0.png"))));
    assert_eq!(content(&alice, path).await.status(), StatusCode::OK);
    assert_eq!(alice.get("/v1/files").await.json["data"], json!([]), "it is no upload");
    assert_eq!(delete(&alice, path).await.error(), (409, "file_of_job", "none"));
    assert_eq!(content(&alice, path).await.status(), StatusCode::OK);
    app.finish().await;
}

#[tokio::test]
async fn a_file_is_not_there_after_three_days_and_deleted_in_the_night() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let file = id(&send(&alice, "a", png_of(100)).await);
    app.clock.advance(TimeDelta::days(3) - TimeDelta::seconds(1));
    assert_eq!(content(&alice, &file).await.status(), StatusCode::OK);
    app.clock.advance(TimeDelta::seconds(1));
    assert_eq!(alice.get(&format!("/v1/files/{file}")).await.error(), (404, "file_not_found", "id"));
    assert_eq!(content(&alice, &file).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(alice.get("/v1/files").await.json["data"], json!([]));
    assert_eq!(kept(&app).await, (1, 1), "until three in the morning");
    let young = id(&send(&alice, "b", png_of(100)).await);
    app.clock.advance_to(night(&app));
    assert!(app.tick("delete-expired-files").await);
    assert_eq!(kept(&app).await, (1, 1));
    assert_eq!(content(&alice, &young).await.status(), StatusCode::OK, "the other one");
    app.finish().await;
}

#[tokio::test]
async fn an_upload_that_cannot_be_deleted_is_hidden_counted_and_tried_again() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let file = id(&send(&alice, "a", png_of(100)).await);
    let key: String = scalar(&app.db, "select storage_key from uploads").await;
    // A key that no storage takes stands for a storage that refuses.
    execute(&app.db, "update uploads set storage_key = repeat('x', 2000)").await.expect("break");
    app.clock.advance(TimeDelta::days(3));
    app.clock.advance_to(night(&app));
    assert!(app.tick("delete-expired-files").await);
    let tries: i32 = scalar(&app.db, "select delete_tries from uploads").await;
    assert_eq!((tries, alice.get(&format!("/v1/files/{file}")).await.error().0), (1, 404));
    execute(&app.db, &format!("update uploads set storage_key = '{key}'")).await.expect("mend");
    app.clock.advance(TimeDelta::hours(2));
    assert!(app.tick("retry-failed-deletions").await);
    assert_eq!(kept(&app).await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn uploads_are_listed_newest_first_page_by_page() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let mut sent = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        sent.insert(0, id(&send(&alice, name, png_of(100)).await));
    }
    let (mut found, mut path) = (Vec::new(), "/v1/files?limit=2".to_owned());
    for more in [true, true, false] {
        let page = alice.get(&path).await.json;
        let ids = page["data"].as_array().expect("a list").iter().map(|file| file["id"].clone());
        found.extend(ids);
        assert_eq!((&page["object"], &page["has_more"]), (&json!("list"), &json!(more)), "{page}");
        assert_eq!(Some(&page["last_id"]), found.last());
        path = format!("/v1/files?limit=2&after={}", page["last_id"].as_str().expect("an id"));
    }
    assert_eq!(found, sent);
    for (query, param) in [("limit=0", "limit"), ("after=job_1", "after"), ("purpose=vision", "purpose")] {
        let refused = alice.get(&format!("/v1/files?{query}")).await;
        assert_eq!((refused.error().0, refused.error().2), (400, param), "{query}");
    }
    app.finish().await;
}

#[tokio::test]
async fn an_object_without_a_row_is_left_alone_for_a_day_and_then_deleted() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    app.tick("delete-stray-objects").await;
    let file = id(&send(&alice, "a", png_of(100)).await);
    // The process died, or is just about to write the row.
    for key in [format!("uploads/{}/{}.png", alice.id, FileId::new()), "uploads/of-another-form.png".into()] {
        app.storage.put_bytes(&key, "stray".into(), "image/png").await.expect("store");
    }
    app.clock.advance_to(night(&app));
    app.tick("delete-stray-objects").await;
    assert_eq!(kept(&app).await, (1, 3), "not a day old");
    app.clock.advance(TimeDelta::days(2));
    assert!(app.tick("delete-stray-objects").await);
    let left = app.storage.list("uploads/", None).await.expect("list");
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().any(|key| key.contains(&file)), "{left:?}");
    app.finish().await;
}
