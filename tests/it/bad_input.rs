//! Whatever a caller gets wrong is told in one clear error, and nothing is held.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body, routing::get};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::stream;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{account::KeyRole, process::Process};
use tokio::net::TcpListener;

use crate::support::{Settings, TestApp, scalar};

#[tokio::test]
async fn a_bad_request_names_its_field_and_holds_nothing() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let ok = || json!({ "prompt": "a fox" });
    let cases: Vec<(Value, (u16, &str, &str))> = vec![
        (json!({ "model": "gpt-9", "input": ok() }), (404, "model_not_found", "model")),
        (json!({ "input": ok() }), (400, "missing_field", "model")),
        (json!({ "model": "gpt-4o" }), (400, "missing_field", "input")),
        (json!({ "model": 7, "input": ok() }), (400, "invalid_type", "model")),
        (json!({ "model": "gpt-4o", "input": ok(), "colour": "red" }), (400, "unknown_field", "colour")),
        (json!({ "model": "gpt-4o", "input": {} }), (400, "invalid_input", "input")),
        (json!({ "model": "gpt-4o", "input": "hello" }), (400, "invalid_input", "input")),
        (
            json!({ "model": "gpt-4o", "input": { "prompt": "x", "hue": 1 } }),
            (400, "invalid_input", "input.hue"),
        ),
        (json!({ "model": "gpt-4o", "input": { "prompt": 1 } }), (400, "invalid_input", "input.prompt")),
        (json!({ "model": "gpt-4o", "input": { "prompt": "" } }), (400, "invalid_input", "input.prompt")),
        (
            json!({ "model": "gpt-4o", "input": { "prompt": "x".repeat(50_001) } }),
            (400, "invalid_input", "input.prompt"),
        ),
        (
            json!({ "model": "gpt-4o", "input": { "prompt": "x", "temperature": 3 } }),
            (400, "invalid_input", "input.temperature"),
        ),
        (
            json!({ "model": "kling", "input": { "prompt": "x", "seconds": 7 } }),
            (400, "invalid_input", "input.seconds"),
        ),
        (
            json!({ "model": "nano-banana", "input": { "prompt": "x", "aspect_ratio": "5:9" } }),
            (400, "invalid_input", "input.aspect_ratio"),
        ),
        (
            json!({ "model": "vectorize", "input": { "image": "file.png" } }),
            (400, "invalid_input", "input.image"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "priority": "urgent" }),
            (400, "invalid_type", "priority"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "max_price": 999 }),
            (400, "price_above_max", "max_price"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "deadline_seconds": 0 }),
            (400, "invalid_deadline", "deadline_seconds"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "start_at": "tomorrow" }),
            (400, "invalid_type", "start_at"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "start_at": "2099-01-01T00:00:00Z" }),
            (400, "invalid_start_at", "start_at"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "metadata": { "a": 1 } }),
            (400, "invalid_type", "metadata.a"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "metadata": { "a": "x".repeat(513) } }),
            (400, "invalid_metadata", "metadata"),
        ),
        (json!({ "model": "gpt-4o", "input": ok(), "webhook": {} }), (400, "missing_field", "webhook.url")),
        (
            json!({ "model": "gpt-4o", "input": ok(), "webhook": { "url": "ftp://example.com" } }),
            (400, "invalid_webhook", "webhook.url"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "webhook": { "url": "https://example.com", "events": ["job.born"] } }),
            (400, "invalid_webhook", "webhook.events"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "routing": { "only": ["acme"] } }),
            (400, "no_route", "routing"),
        ),
        (
            json!({ "model": "gpt-4o", "input": ok(), "routing": { "sort": "beauty" } }),
            (400, "invalid_type", "routing.sort"),
        ),
    ];
    for (body, expected) in cases {
        let answer = alice.post("/v1/jobs", body.clone()).await;
        let shown = body.to_string();
        assert_eq!(answer.error(), expected, "{} → {}", &shown[..shown.len().min(200)], answer.json);
        for key in ["message", "type", "param", "code"] {
            assert!(answer.json["error"].get(key).is_some(), "every error has four keys: {}", answer.json);
        }
        assert!(answer.json.to_string().len() < 1000, "a message does not repeat the input: {}", answer.json);
    }
    assert_eq!(alice.tokens().await, (100_000, 0));
    let rows: i64 =
        scalar(&app.db, "select (select count(*) from jobs) + (select count(*) from queue)").await;
    assert_eq!(rows, 0);
    app.finish().await;
}

#[tokio::test]
async fn too_small_a_balance_is_402_and_holds_nothing() {
    let app = TestApp::new().await;
    let alice = app.account(999).await;
    let headers = [("Idempotency-Key", "k")];
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" } });
    let answer = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    assert_eq!(answer.error().0, 402);
    assert!(answer.json["error"]["message"].as_str().unwrap().contains("999"), "{}", answer.json);
    assert_eq!(alice.tokens().await, (999, 0));
    let keys: i64 = scalar(&app.db, "select count(*) from idempotency_keys").await;
    assert_eq!(keys, 0, "the same key may be used again once there are tokens");
    app.finish().await;
}

#[tokio::test]
async fn without_a_good_key_there_is_no_entry() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let url = format!("{}/v1/jobs", app.base);
    let bare = app.http.get(&url).send().await.expect("ask");
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(bare.headers()["www-authenticate"], "Bearer");
    for header in ["Bearer wrong", "Basic abc", "Bearer", &format!("Bearer {}x", alice.key)] {
        let answer = app.http.get(&url).header("authorization", header).send().await.expect("ask");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{header}");
        let body = answer.text().await.expect("a body");
        assert!(body.contains("invalid_api_key") && !body.contains(&alice.key), "{body}");
    }
    assert_eq!(alice.get("/v1/jobs").await.status, StatusCode::OK);
    let key = alice.get("/v1/api-keys").await.json["data"][0]["id"].as_str().expect("a key").to_owned();
    let revoked = alice.send(Method::DELETE, &format!("/v1/api-keys/{key}"), &[], None).await;
    assert_eq!(revoked.status, StatusCode::OK, "{}", revoked.json);
    assert_eq!(
        alice.get("/v1/jobs").await.status,
        StatusCode::UNAUTHORIZED,
        "a revoked key is refused at once"
    );
    let stored: i64 = scalar(
        &app.db,
        &format!("select count(*) from api_keys where api_keys::text like '%{}%'", alice.key),
    )
    .await;
    assert_eq!(stored, 0, "the key itself is not in the database");
    app.finish().await;
}

#[tokio::test]
async fn anothers_job_is_not_found() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(1000).await, app.account(1000).await);
    let id = alice.submit("gpt-4o", json!({ "prompt": "mine" })).await;
    assert_eq!(bob.get(&format!("/v1/jobs/{id}")).await.error(), (404, "job_not_found", "id"));
    assert_eq!(bob.get(&format!("/v1/jobs/{id}/events")).await.error().0, 404);
    for id in ["job_1", "nonsense", "acc_00000000000000000000000000000000", "%ff"] {
        assert_eq!(alice.get(&format!("/v1/jobs/{id}")).await.error().0, 404, "{id}");
    }
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let post = |kind: &'static str, body: Vec<u8>| {
        let request = app.http.post(format!("{}/v1/jobs", app.base)).bearer_auth(&alice.key);
        crate::support::read(request.header("content-type", kind).body(body))
    };
    assert_eq!(
        post("application/json", b"{\"model\": ".to_vec()).await.error(),
        (400, "invalid_json", "none")
    );
    assert_eq!(post("application/json", b"\xff\xfe".to_vec()).await.error().1, "invalid_json");
    assert_eq!(post("application/json", b"[]".to_vec()).await.error().0, 400);
    assert_eq!(post("text/plain", b"{}".to_vec()).await.error(), (415, "unsupported_media_type", "none"));
    let zero = br#"{"model":"gpt-4o","input":{"prompt":"a\u0000b"}}"#.to_vec();
    assert_eq!(post("application/json", zero).await.error(), (400, "invalid_json", "none"));
    let deep = "[".repeat(100_000);
    assert_eq!(post("application/json", deep.into_bytes()).await.error().1, "invalid_json");
    app.finish().await;
}

#[tokio::test]
async fn a_body_is_bounded_by_its_route_before_it_is_read() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let post = |path: &str, kind: &'static str, body: String| {
        let request = app.http.post(format!("{}{path}", app.base)).bearer_auth(&alice.key);
        crate::support::read(request.header("content-type", kind).body(body))
    };
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    let text = |bytes: usize| format!("{{\"model\":\"{}\"}}", "x".repeat(bytes));
    let values =
        |count: usize| format!("{{\"model\":\"gpt-4o\",\"input\":{{\"prompt\":[{}0]}}}}", "0,".repeat(count));
    const KIB: usize = 1024;
    for (path, kind, body, limit) in [
        ("/v1/auth/login", json, values(6 * KIB * KIB), 64 * KIB),
        ("/v1/auth/register", json, text(64 * KIB), 64 * KIB),
        ("/v1/api-keys", json, text(64 * KIB), 64 * KIB),
        ("/v1/auth/verify", form, format!("token={}", "a[]=1&".repeat(11 * KIB)), 64 * KIB),
        ("/v1/jobs", json, text(14 * KIB * KIB), 14 * KIB * KIB),
        ("/v1/jobs/quote", json, text(14 * KIB * KIB), 14 * KIB * KIB),
    ] {
        let answer = post(path, kind, body).await;
        assert_eq!(answer.error(), (413, "request_too_large", "none"), "{path}");
        let message = answer.json["error"]["message"].as_str().expect("words");
        assert!(message.contains(&limit.to_string()), "{path}: {message}");
    }
    let long = post("/v1/jobs", json, text(13 * KIB * KIB)).await;
    assert_eq!(long.error().1, "missing_field", "a picture fits");
    for path in ["/v1/jobs", "/v1/jobs/quote"] {
        let many = post(path, json, values(6 * KIB * KIB)).await;
        assert_eq!(many.error(), (400, "invalid_json", "none"), "{path}");
        assert!(many.json["error"]["message"].as_str().expect("words").contains("100000"), "{}", many.json);
    }
    let fits = post("/v1/jobs", json, values(90_000)).await;
    assert_eq!(fits.error(), (400, "invalid_input", "input.prompt"));
    app.finish().await;
}

#[tokio::test]
async fn wrong_paths_methods_and_queries_are_told_apart() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    assert_eq!(alice.get("/v2/jobs").await.error(), (404, "not_found", "none"));
    assert_eq!(alice.send(Method::DELETE, "/v1/jobs", &[], None).await.error().1, "method_not_allowed");
    for (path, param) in [
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?limit=101", "limit"),
        ("/v1/jobs?limit=many", "limit"),
        ("/v1/jobs?status=open", "status"),
        ("/v1/jobs?medium=smell", "medium"),
        ("/v1/jobs?after=job_1", "after"),
        ("/v1/jobs?colour=red", "colour"),
        ("/v1/jobs?model=%00", "query"),
        ("/v1/jobs?created_after=-10000-01-01T00:00:00Z", "created_after"),
        ("/v1/jobs?created_after=noon", "created_after"),
        ("/v1/billing/transactions?kind=theft", "kind"),
    ] {
        let answer = alice.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.error().2), (400, param), "{path}: {}", answer.json);
    }
    let operator = app.key(alice.id, KeyRole::Operator).await;
    for path in ["/v1/admin/prices/%00", "/v1/models/%00", "/v1/jobs/%00"] {
        assert_eq!(operator.get(path).await.error(), (404, "not_found", "id"), "{path}");
    }
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" } });
    for (header, value, param) in [
        ("Prefer", "wait=61", "Prefer"),
        ("Prefer", "wait=soon", "Prefer"),
        ("Idempotency-Key", "", "Idempotency-Key"),
    ] {
        let answer = alice.send(Method::POST, "/v1/jobs", &[(header, value)], Some(&body)).await;
        assert_eq!((answer.status.as_u16(), answer.error().2), (400, param), "{header}: {value}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_time_beyond_all_reason_is_refused_before_it_is_kept() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let operator = app.key(alice.id, KeyRole::Operator).await;
    for end in [
        "+10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "+262142-12-31T23:59:59Z",
        "+999999-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "tomorrow",
    ] {
        let movement =
            json!({ "account": alice.id.to_string(), "amount": 5, "expires_at": end, "reason": "test" });
        let key = json!({ "name": "test", "expires_at": end });
        for (path, body) in [("/v1/billing/balance", movement), ("/v1/api-keys", key)] {
            let answer = operator.post(path, body).await;
            let (status, _, param) = answer.error();
            assert_eq!((status, param), (400, "expires_at"), "{path} {end}: {}", answer.json);
        }
    }
    assert_eq!(alice.tokens().await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_character_that_cannot_be_kept_is_refused_wherever_text_is_taken() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let operator = app.key(alice.id, KeyRole::Operator).await;
    let owner = app.register("ann@example.com").await;
    let consent = json!({ "version": "1" });
    for (who, method, path, body) in [
        (&owner, Method::PATCH, "/v1/account", json!({ "description": "a\0b" })),
        (&owner, Method::PATCH, "/v1/me", json!({ "name": "a\0b" })),
        (&owner, Method::POST, "/v1/auth/register", json!({ "name": "a\0b", "consent": consent })),
        (&owner, Method::POST, "/v1/auth/login", json!({ "email": "ann@example.com", "password": "a\0b" })),
        (&owner, Method::POST, "/v1/auth/refresh", json!({ "refresh_token": "\0" })),
        (&owner, Method::PUT, "/v1/account/preferences", json!({ "models": { "a\0b": {} } })),
        (&owner, Method::POST, "/v1/api-keys", json!({ "name": "a\0b" })),
        (&operator, Method::POST, "/v1/billing/balance", json!({ "reason": "a\0b" })),
        (&operator, Method::PUT, "/v1/admin/prices/gpt-4o", json!({ "reason": "a\0b", "tokens": 1 })),
    ] {
        let answer = who.send(method, path, &[], Some(&body)).await;
        assert_eq!(answer.error(), (400, "invalid_json", "none"), "{path}: {}", answer.json);
    }
    for path in [
        "/v1/account/audit-log?action=%00",
        "/v1/account/audit-log?%00=1",
        "/v1/usage?model=a%00b",
        "/v1/billing/transactions?kind=%00",
    ] {
        assert_eq!(owner.get(path).await.error(), (400, "invalid_query", "query"), "{path}");
    }
    let page = app.post_by_page("/v1/auth/password/forgot", &[("email", "a\0b")]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.json);
    app.finish().await;
}

#[tokio::test]
async fn null_for_a_body_that_may_be_absent_is_none() {
    let app = TestApp::new().await;
    for body in [json!(null), json!({})] {
        let owner = app.register(&format!("ann{}@example.com", body.is_null())).await;
        let ended = owner.post("/v1/auth/logout", body).await;
        assert_eq!(
            (ended.status.as_u16(), &ended.json["sessions_ended"]),
            (200, &json!(1)),
            "{}",
            ended.json
        );
    }
    let owner = app.register("bob@example.com").await;
    assert_eq!(owner.post("/v1/auth/logout", json!([])).await.error().0, 400);
    app.finish().await;
}

#[tokio::test]
async fn private_addresses_are_refused_where_nothing_allows_them() {
    let app = TestApp::with(Settings { allow_private: false, ..Settings::default() }).await;
    let alice = app.account(100_000).await;
    for url in [
        "http://example.com/hook",
        "https://127.0.0.1/hook",
        "https://localhost/hook",
        "https://169.254.169.254/",
    ] {
        let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "webhook": { "url": url } });
        assert_eq!(
            alice.post("/v1/jobs", body).await.error(),
            (400, "invalid_webhook", "webhook.url"),
            "{url}"
        );
    }
    let id = alice.submit("vectorize", json!({ "image": "https://127.0.0.1:1/a.png" })).await;
    app.drain().await;
    let job = alice.job(id).await;
    assert_eq!(job["error"]["code"], "invalid_input_file", "{job}");
    assert!(job["error"]["message"].as_str().unwrap().contains("private network"), "{job}");
    app.finish().await;
}

/// A server whose one file has neither a length nor an end: the file's URL, and how many bytes of it were asked for so far.
async fn endless(process: &Process) -> (String, Arc<AtomicUsize>) {
    static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let url = format!("http://{}/zeros", listener.local_addr().expect("a bound address"));
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let zeros = move || async move {
        Body::from_stream(stream::repeat_with(move || {
            counted.fetch_add(PIECE.len(), Ordering::Relaxed);
            Ok::<_, io::Error>(Bytes::from_static(&PIECE))
        }))
    };
    let (router, stop) = (Router::new().route("/zeros", get(zeros)), process.clone());
    process.spawn(async move {
        let served =
            axum::serve(listener, router).with_graceful_shutdown(async move { stop.stopping().await });
        served.await.expect("send zeros");
    });
    (url, sent)
}

#[tokio::test]
async fn a_file_of_the_web_without_an_end_is_cut_off_where_it_is_too_long() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let (url, sent) = endless(&app.process).await;
    let id = alice.submit("nano-banana-edit", json!({ "prompt": "bluer", "image": url })).await;
    app.drain().await;
    let job = alice.job(id).await;
    assert_eq!(job["error"]["code"], "invalid_input_file", "{job}");
    let message = job["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("image is longer than 31457280 bytes"), "{message}");
    // What is beyond the limit was on its way.
    let sent = sent.load(Ordering::Relaxed);
    assert!((31_457_280..62_914_560).contains(&sent), "{sent} bytes were sent");
    assert_eq!(app.simulator.submits("").await["data"], json!([]), "nobody was asked");
    assert_eq!(alice.tokens().await, (100_000, 0));
    app.finish().await;
}

/// A GIF that says it is so large, with so many frames that do.
fn gif(width: u16, height: u16, frames: usize) -> String {
    let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
    // Where the frame begins, how large it is, and one block of pixels.
    let frame = [&[0x2C_u8, 0, 0, 0, 0][..], &size, &[0, 2, 1, 0x44, 0]].concat();
    let bytes = [&b"GIF89a"[..], &size, &[0, 0, 0], &frame.repeat(frames), &[0x3B]].concat();
    format!("data:image/gif;base64,{}", BASE64_STANDARD.encode(bytes))
}

/// A PNG of one colour.
fn png(width: u32, height: u32) -> String {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(width, height).write_to(&mut png, image::ImageFormat::Png).expect("encode");
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png.into_inner()))
}

#[tokio::test]
async fn a_picture_too_large_to_be_opened_is_refused_and_no_provider_hears_of_it() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let edit = |image: String| ("nano-banana-edit", json!({ "prompt": "bluer", "image": image }));
    let cases = [
        (edit(gif(20_000, 20_000, 1)), "image has 20000×20000 pixels; at most 50 megapixels"),
        (edit(gif(16_385, 10, 1)), "16384 a side"),
        (edit(gif(4000, 4000, 40)), "image has 40 frames with 640 megapixels together"),
        (edit("data:image/png;base64,iVBORw0KGgpydWJiaXNo".into()), "image cannot be read as a picture"),
        (("vectorize", json!({ "image": png(8000, 8000) })), "image has 8000×8000 pixels"),
        (
            ("upscale-replicate", json!({ "image": png(1200, 1200), "factor": 8 })),
            "image has 1200×1200 pixels, which are 92 megapixels 8 times as wide and high",
        ),
        (
            (
                "face-swap-fal",
                json!({ "image": crate::flow::picture(), "source": gif(20_000, 20_000, 1), "consent": true }),
            ),
            "source has 20000×20000 pixels",
        ),
    ];
    for ((model, input), says) in cases {
        let id = alice.submit(model, input).await;
        app.drain().await;
        let job = alice.job(id).await;
        let message = job["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(job["error"]["code"], "invalid_input_file", "{says}: {message}");
        assert!(message.contains(says), "{says}: {message}");
    }
    assert_eq!(app.simulator.submits("").await["data"], json!([]), "nobody was asked");
    assert_eq!(alice.tokens().await, (100_000, 0));
    app.finish().await;
}
