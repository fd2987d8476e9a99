//! Bodies that stop coming: whoever sends one is waited for, and not without end.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Account, TestApp, scalar};

const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=b";

/// What comes back, until the connection is closed, of a request whose body begins so and does not go on.
async fn answer(who: &Account, path: &str, kind: &str, begun: &[u8]) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: kiln\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        who.key,
        begun.len() + 5000
    );
    let mut stream = TcpStream::connect(who.base.trim_start_matches("http://")).await.expect("connect");
    stream.write_all(&[head.as_bytes(), begun].concat()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer to its end");
    answer
}

#[tokio::test]
async fn a_body_that_stops_coming_is_answered_for_and_nothing_of_it_is_kept() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let short = Duration::from_millis(30);
    let waits = api::Waits { body: short, piece: short, linger: short, ..api::Waits::default() };
    let hasty = Account { base: app.waiting_door(waits).await, ..alice.clone() };
    let field = &b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-ima"[..];
    let head = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n";
    let file = [&head[..], b"\x89PNG\r\n\x1a\n", &[7; 2000]].concat();
    for (path, kind, begun) in [
        ("/v1/jobs", JSON, &br#"{ "model": "gpt-4o", "input": { "prompt": "half a w"#[..]),
        ("/v1/chat/completions", JSON, &br#"{ "model": "gpt-4o", "mess"#[..]),
        ("/v1/images/edits", FORM, field),
        ("/v1/files", FORM, &b""[..]),
        ("/v1/files", FORM, &b"--b\r\nContent-Disposi"[..]),
        ("/v1/files", FORM, &file[..]),
    ] {
        let answer = answer(&hasty, path, kind, begun).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{path}: {answer}");
        assert!(answer.contains("request_timeout"), "{path}: {answer}");
    }
    assert_eq!(alice.tokens().await, (1000, 0));
    let rows = "select (select count(*) from jobs) + (select count(*) from uploads)";
    let rows: i64 = scalar(&app.db, rows).await;
    let objects = app.storage.list("uploads/", None).await.expect("list");
    assert_eq!((rows, objects, app.door.uploads.under_way()), (0, Vec::new(), 0));
    app.finish().await;
}
