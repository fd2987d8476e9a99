//! Logs carry ids: whatever people do, nothing of theirs is in what the processes say of themselves.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use reqwest::Method;
use serde_json::json;
use tracing_subscriber::{EnvFilter, Layer, fmt, fmt::MakeWriter, layer::SubscriberExt};

use super::{ALICE, run};
use crate::support::{Account, TestApp};

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic while locked")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while locked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Everything at the usual level, our own crates' finer words, and what the database's client says of statements.
fn listen() -> [(&'static str, Log); 3] {
    let logs = [
        ("info", Log::default()),
        ("info,api=debug,cli=debug,scheduler=debug,shared=debug,workers=debug", Log::default()),
        ("off,sqlx=trace", Log::default()),
    ];
    let layer = |(filter, log): &(&str, Log)| {
        fmt::layer().json().with_writer(log.clone()).with_filter(EnvFilter::new(filter)).boxed()
    };
    let layers: Vec<_> = logs.iter().map(layer).collect();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layers))
        .expect("the only one");
    logs
}

#[tokio::test]
async fn nothing_personal_and_no_secret_is_ever_logged() {
    let logs = listen();
    let app = TestApp::new().await;
    let receiver = app.receiver().await;
    let alice = ALICE.live(&app, &receiver).await;
    let mut secrets = vec![alice.key.clone(), ALICE.password()];
    secrets.push(ALICE.log_in(&app).await.json["refresh_token"].as_str().expect("a token").to_owned());
    // What fails is logged with more words than what works.
    for body in [
        json!({ "email": ALICE.email(), "password": format!("wrong {}", ALICE.word) }),
        json!({ "email": format!("{}@", ALICE.word), "password": ALICE.password() }),
        json!({ "email": ALICE.email(), "passwort": ALICE.password() }),
    ] {
        assert!(app.post("/v1/auth/login", body).await.status.is_client_error());
    }
    let taken = json!({ "email": ALICE.email(), "name": ALICE.name(), "password": ALICE.password(), "consent": { "version": "1" } });
    assert_eq!(app.post("/v1/auth/register", taken).await.status, 202);
    let unknown = Account { key: format!("kiln_{}", ALICE.word), ..alice.clone() };
    assert_eq!(unknown.get("/v1/jobs").await.status, 401);
    for (status, model, input) in [
        (400, "gpt-4o", json!({ "prompt": ALICE.word, "temperature": ALICE.word })),
        (202, "gpt-4o", json!({ "prompt": format!("[[sim:fail]] {}", ALICE.word) })),
        (202, "gpt-4o", json!({ "prompt": format!("[[sim:malformed]] {}", ALICE.word) })),
        (202, "gpt-4o", json!({ "prompt": format!("[[sim:html]] {}", ALICE.word) })),
        (202, "gpt-4o", json!({ "prompt": format!("[[sim:bad_input]] {}", ALICE.word) })),
        (202, "kling", json!({ "prompt": format!("[[sim:task_fail]] {}", ALICE.word), "seconds": 5 })),
        // A word that moderation refuses.
        (202, "nano-banana", json!({ "prompt": format!("lolicon {}", ALICE.word) })),
        (
            202,
            "nano-banana-edit",
            json!({ "prompt": ALICE.word, "image": format!("http://127.0.0.1:1/{}", ALICE.word) }),
        ),
    ] {
        let body = json!({ "model": model, "input": input });
        let answer = ALICE.send(&alice, Method::POST, "/v1/jobs", body).await;
        assert_eq!(answer.status, status, "{}", answer.json);
    }
    let hook = format!("http://127.0.0.1:1/{}", ALICE.word);
    let unheard = json!({ "model": "gpt-4o", "input": { "prompt": ALICE.word }, "webhook": { "url": hook } });
    assert_eq!(ALICE.send(&alice, Method::POST, "/v1/jobs", unheard).await.status, 202);
    app.post("/v1/auth/password/forgot", json!({ "email": ALICE.email() })).await;
    secrets.push(app.mailed_token(&ALICE.email(), "/v1/auth/password/reset").await);
    app.drain().await;
    app.deliver().await;
    let alice = ALICE.enter(&app).await;
    assert_eq!(ALICE.send(&alice, Method::POST, "/v1/account/exports", json!({})).await.status, 202);
    run(&app, "build-exports").await;
    app.mails().await;
    let alice = ALICE.enter(&app).await;
    let erasure = json!({ "password": ALICE.password(), "confirm": ALICE.name() });
    assert_eq!(ALICE.send(&alice, Method::POST, "/v1/account/erasure", erasure).await.status, 202);
    app.mails().await;
    run(&app, "erase-accounts").await;
    app.finish().await;

    for (filter, log) in logs {
        let text = log.text();
        let heard = if filter.starts_with("info") { "is erased" } else { "update audit_log" };
        assert!(text.contains(heard), "{filter} hears something");
        for needle in ALICE.needles().iter().chain(&secrets) {
            let line = text.lines().find(|line| line.to_lowercase().contains(&needle.to_lowercase()));
            assert_eq!(line, None, "{needle} at {filter}");
        }
    }
}
