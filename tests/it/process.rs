//! The real binaries as processes: all roles together, killed, frozen, stopped, and with their database pulled away.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use cli::embedded::{Postgres, PostgresOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use shared::id::JobId;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Account, Child, Database, Events, Stack, binary, eventually, scalar};

const ROLES: [&str; 7] = ["api", "text", "image", "video", "audio", "delivery", "scheduler"];

/// One request of each kind, told apart by a number.
fn orders(n: usize) -> [(&'static str, Value); 5] {
    [
        ("gpt-4o-mini", json!({ "prompt": format!("chat {n}") })),
        ("nano-banana", json!({ "prompt": format!("picture {n}") })),
        ("kling", json!({ "prompt": format!("kling {n}") })),
        ("hailuo", json!({ "prompt": format!("hailuo {n}") })),
        ("tts-1", json!({ "text": format!("speech {n}") })),
    ]
}

async fn await_all(alice: &Account, ids: &[JobId]) {
    for id in ids {
        eventually(&format!("{id} ends"), async || alice.job(*id).await["finished_at"] != Value::Null).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_runs_as_a_process_of_its_own_and_stops_when_told() {
    let database = Database::create().await;
    let stack = Stack::on(&database.url).await;
    let mut running: Vec<Child> = ROLES.iter().map(|role| stack.start(role)).collect();
    stack.ready().await;
    let alice = stack.account(1_000_000).await;
    let receiver = stack.receiver().await;
    let mut ids = Vec::new();
    for (model, input) in orders(1) {
        let body = json!({ "model": model, "input": input, "webhook": { "url": receiver.url } });
        ids.push(alice.post("/v1/jobs", body).await.job());
    }
    await_all(&alice, &ids).await;
    for id in &ids {
        let job = alice.job(*id).await;
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    eventually("every end is told", async || receiver.received().len() == ids.len()).await;
    assert!(running.iter_mut().all(Child::is_running));
    for child in running {
        child.stop().await;
    }
    stack.check().await;
    stack.process.finish().await;
    stack.db.close().await;
    database.drop_now().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_killed_or_frozen_lose_nothing_and_pay_nothing_twice() {
    let database = Database::create().await;
    let stack = Stack::on(&database.url).await;
    let _always: Vec<Child> = ["api", "delivery", "scheduler"].iter().map(|role| stack.start(role)).collect();
    stack.ready().await;
    let alice = stack.account(10_000_000).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(alice.submit("kling", json!({ "prompt": format!("kling {n}") })).await);
    }
    let (frozen, mut killed) = (stack.start("video"), stack.start("video"));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        frozen.signal(Signal::SIGSTOP);
        killed.signal(Signal::SIGKILL);
        killed = stack.start("video");
        // Past the lease of three seconds: the frozen worker's jobs are someone else's when it wakes.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        frozen.signal(Signal::SIGCONT);
    }
    await_all(&alice, &ids).await;
    for id in &ids {
        let job = alice.job(*id).await;
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    assert_eq!(stack.simulator.paid("kling").await, 20, "Kling can be asked, so nothing is paid twice");
    assert_eq!(alice.tokens().await, (10_000_000 - 20 * 38_000, 0));
    frozen.stop().await;
    killed.stop().await;
    stack.check().await;
    stack.process.finish().await;
    stack.db.close().await;
    database.drop_now().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_again_and_again_ends_no_worker_and_loses_nothing() {
    let dir = TempDir::new().expect("a folder");
    let options = PostgresOptions { fsync: false, max_connections: 100 };
    let mut postgres =
        Postgres::start(&dir.path().join("postgres"), options).await.expect("a Postgres of our own");
    let stack = Stack::on(postgres.url()).await;
    let mut running: Vec<Child> = ROLES.iter().map(|role| stack.start(role)).collect();
    stack.ready().await;
    let alice = stack.account(10_000_000).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        for (model, input) in orders(n) {
            // A caller repeats by key until it is answered.
            let key = format!("{model}-{n}");
            let body = json!({ "model": model, "input": input });
            let mut accepted = None;
            eventually("the job is accepted", async || {
                let headers = [("Idempotency-Key", key.as_str())];
                let answer = alice.send(reqwest::Method::POST, "/v1/jobs", &headers, Some(&body)).await;
                accepted = answer.status.is_success().then(|| answer.job());
                accepted.is_some()
            })
            .await;
            ids.extend(accepted);
        }
        postgres.restart(n % 2 == 0).await.expect("restart");
    }
    eventually("every job ends", async || {
        let mut open = 0;
        for id in &ids {
            let answer = alice.get(&format!("/v1/jobs/{id}")).await;
            open += usize::from(!answer.status.is_success() || answer.json["finished_at"] == Value::Null);
        }
        open == 0
    })
    .await;
    assert!(running.iter_mut().all(Child::is_running), "no process has ended");
    for id in &ids {
        let job = alice.job(*id).await;
        // Hailuo cannot be asked: a submit whose record was lost with the database is given up, and not charged.
        let lost = job["model"] == "hailuo" && job["error"]["code"] == "outcome_unknown";
        assert!(job["status"] == "succeeded" || lost, "{job}");
    }
    for child in running {
        child.stop().await;
    }
    stack.check().await;
    stack.process.finish().await;
    stack.db.close().await;
    postgres.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_stop_in_a_long_job_leaves_it_to_the_next_without_a_second_submit() {
    let database = Database::create().await;
    let stack = Stack::on(&database.url).await;
    let _always: Vec<Child> = ["api", "scheduler"].iter().map(|role| stack.start(role)).collect();
    stack.ready().await;
    let alice = stack.account(1_000_000).await;
    let first = stack.start("video");
    // The submit itself takes longer than the worker is given to drain.
    let id = alice.submit("kling", json!({ "prompt": "[[sim:slow=6]] long" })).await;
    eventually("it is submitted", async || stack.simulator.paid("long").await == 1).await;
    first.stop().await;
    let tries: i16 = scalar(&stack.db, "select tries from queue").await;
    assert_eq!(tries, 0, "stopping costs no try");
    let second = stack.start("video");
    await_all(&alice, &[id]).await;
    let job = alice.job(id).await;
    assert_eq!((job["status"].as_str(), job["attempts"].as_i64()), (Some("succeeded"), Some(1)), "{job}");
    assert_eq!(stack.simulator.paid("long").await, 1);
    second.stop().await;
    stack.check().await;
    stack.process.finish().await;
    stack.db.close().await;
    database.drop_now().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_told_to_stop_tells_the_chats_under_way_to_their_end() {
    let database = Database::create().await;
    let stack = Stack::on(&database.url).await;
    let (mut api, text) = (stack.start("api"), stack.start("text"));
    stack.ready().await;
    let alice = stack.account(1000).await;
    let messages = json!([{ "role": "user", "content": "[[sim:drip=50]] on and on" }]);
    let body = json!({ "model": "gpt-4o", "stream": true, "messages": messages });
    let url = format!("{}/v1/chat/completions", alice.base);
    let mut events = Events::of(alice.http.post(url).bearer_auth(&alice.key).json(&body)).await;
    events.next().await.expect("a first word");
    api.signal(Signal::SIGTERM);
    let rest = events.rest().await;
    assert_eq!(rest.last().expect("an end").data, "[DONE]");
    eventually("the API stops", async || !api.is_running()).await;
    text.stop().await;
    stack.check().await;
    stack.process.finish().await;
    stack.db.close().await;
    database.drop_now().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_told_to_stop_ends_what_is_under_way_and_takes_nothing_new() {
    let database = Database::create().await;
    let stack = Stack::on(&database.url).await;
    let api = stack.start("api");
    stack.ready().await;
    let alice = stack.account(1_000_000).await;
    // Somebody watches a job, and half of a request has come.
    let watched = alice.submit("gpt-4o-mini", json!({ "prompt": "watched" })).await;
    let url = format!("{}/v1/jobs/{watched}/events", alice.base);
    let mut events = alice.http.get(url).bearer_auth(&alice.key).send().await.expect("watch");
    events.chunk().await.expect("the stream begins").expect("with the job as it stands");
    let order = json!({ "model": "gpt-4o-mini", "input": { "prompt": "in two halves" } });
    let body = order.to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let mut half = TcpStream::connect(alice.base.trim_start_matches("http://")).await.expect("connect");
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: kiln\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        alice.key,
        body.len()
    );
    half.write_all(head.as_bytes()).await.expect("send the head");
    let mut go_on = [0; 25];
    half.read_exact(&mut go_on).await.expect("the body is waited for");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    half.write_all(first.as_bytes()).await.expect("send the first half");

    api.signal(Signal::SIGTERM);
    let ready = format!("{}/health/ready", alice.base);
    eventually("it says that it is not ready", async || {
        let asked = alice.http.get(&ready).send().await;
        asked.is_ok_and(|answer| answer.status().as_u16() == 503)
    })
    .await;
    assert_eq!(alice.get("/health/live").await.status, 200);
    let refused = alice.post("/v1/jobs", order).await;
    assert_eq!(refused.error(), (503, "unavailable", "none"));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.headers["connection"], "close");
    events.text().await.expect("the stream ends as streams do");
    half.write_all(second.as_bytes()).await.expect("send the second half");
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.expect("an answer to its end");
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    api.ended().await;

    let text = stack.start("text");
    eventually("both jobs end", async || {
        let open: i64 = scalar(&stack.db, "select count(*) from queue").await;
        open == 0
    })
    .await;
    text.stop().await;
    stack.check().await;
    stack.process.finish().await;
    stack.db.close().await;
    database.drop_now().await;
}

/// A running `kiln dev`, and what its `dev.json` says.
struct Dev {
    child: std::process::Child,
    described: Value,
}

impl Dev {
    async fn start(data: &Path) -> Self {
        let mut command = Command::new(binary("kiln"));
        command.args(["dev", "--port", "0", "--data"]).arg(data).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.env("KILN_LOG", "warn").spawn().expect("start kiln dev");
        let out = child.stdout.take().expect("its output");
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(Duration::from_secs(60), line)
            .await
            .expect("in time")
            .expect("read")
            .expect("text");
        let text = std::fs::read_to_string(data.join("dev.json")).expect("dev.json");
        let described: Value = serde_json::from_str(&text).expect("JSON");
        let (url, key) =
            (described["url"].as_str().expect("a URL"), described["api_key"].as_str().expect("a key"));
        assert_eq!(line.trim_end(), format!("kiln is ready: {url}  api key: {key}"));
        for name in ["admin_key", "database_url", "s3_endpoint", "simulator_url"] {
            assert!(described[name].is_string(), "dev.json tells {name}");
        }
        Self { child, described }
    }

    fn account(&self) -> Account {
        let text = |name: &str| self.described[name].as_str().expect("text").to_owned();
        let id = shared::id::AccountId::new();
        Account {
            id,
            key: text("api_key"),
            base: text("url"),
            http: reqwest::Client::builder().build().expect("a client"),
        }
    }

    async fn end(mut self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), signal).expect("signal");
        eventually("kiln dev ends", async || self.child.try_wait().expect("ask").is_some()).await;
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until the provider has a job and its reference is written down.
async fn parked(alice: &Account, id: JobId) {
    eventually("the provider has it", async || {
        alice.job(id).await["phase"].as_str().is_some_and(|phase| phase.ends_with("provider"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kiln_dev_carries_on_where_it_stopped_or_was_killed() {
    let dir = TempDir::new().expect("a folder");
    let data = dir.path().join("data");
    let dev = Dev::start(&data).await;
    let alice = dev.account();
    let first = alice.submit("kling", json!({ "prompt": "before the stop" })).await;
    parked(&alice, first).await;
    dev.end(Signal::SIGINT).await;

    let dev = Dev::start(&data).await;
    let again = dev.account();
    assert_eq!(alice.key, again.key, "the key is still the same");
    let second = again.submit("kling", json!({ "prompt": "before the kill" })).await;
    parked(&again, second).await;
    dev.end(Signal::SIGKILL).await;

    let dev = Dev::start(&data).await;
    let alice = dev.account();
    await_all(&alice, &[first, second]).await;
    for id in [first, second] {
        let job = alice.job(id).await;
        assert_eq!((job["status"].as_str(), job["attempts"].as_i64()), (Some("succeeded"), Some(1)), "{job}");
    }
    let held = alice.tokens().await.1;
    assert_eq!(held, 0);
    dev.end(Signal::SIGTERM).await;
}
