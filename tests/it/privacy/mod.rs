//! What people may demand of their data: a copy of everything, that it goes, and that it stays out of the logs.

mod consent;
mod erase;
mod export;
mod logs;
mod retention;

use std::{fs, path::Path};

use chrono::TimeDelta;
use reqwest::{
    Method,
    header::HeaderName,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use shared::id::JobId;

use crate::support::{Account, Answer, Receiver, TestApp, execute, read, scalar};

/// Someone whose every text holds one word that nobody else's does.
#[derive(Debug, Clone, Copy)]
pub struct Marked {
    pub word: &'static str,
    pub phone: &'static str,
    pub ip: &'static str,
}

pub const ALICE: Marked = Marked { word: "zyxwomat", phone: "+79001230001", ip: "203.0.113.77" };
/// The file that each of them sends in.
pub const UPLOAD: &[u8] = b"%PDF-1.7\n%%EOF\n";

pub const BOB: Marked = Marked { word: "qvorblin", phone: "+79001230002", ip: "198.51.100.23" };

impl Marked {
    pub fn email(&self) -> String {
        format!("{}@example.org", self.word)
    }

    /// The account's name, and at first the person's.
    pub fn name(&self) -> String {
        format!("{} Works", self.word)
    }

    pub fn password(&self) -> String {
        format!("secret of {}", self.word.chars().rev().collect::<String>())
    }

    /// Everything of theirs that must be found nowhere else, or nowhere any more.
    pub fn needles(&self) -> [String; 3] {
        [self.word.to_owned(), self.phone.to_owned(), self.ip.to_owned()]
    }

    /// What they call their requests. Logs call them so too, in words that are the caller's own.
    pub fn request(&self) -> String {
        format!("request-of-{}", &self.word[..4])
    }

    /// Any request from their network.
    pub async fn send(&self, who: &Account, method: Method, path: &str, body: Value) -> Answer {
        let request = self.request();
        let headers = [("x-forwarded-for", self.ip), ("x-request-id", request.as_str())];
        who.send(method, path, &headers, Some(&body)).await
    }

    pub async fn log_in(&self, app: &TestApp) -> Answer {
        let body = json!({ "email": self.email(), "password": self.password() });
        let request = app.http.post(format!("{}/v1/auth/login", app.base));
        read(request.header(HeaderName::from_static("x-forwarded-for"), self.ip).json(&body)).await
    }

    /// The owner of an account, logged in anew: an access token lasts a quarter of an hour.
    pub async fn enter(&self, app: &TestApp) -> Account {
        let answer = self.log_in(app).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        app.with_tokens(&answer)
    }

    /// Registers, proves the address and logs in.
    pub async fn register(&self, app: &TestApp) -> Account {
        let word = self.word;
        let body = json!({
            "name": self.name(), "email": self.email(), "password": self.password(), "phone": self.phone,
            "description": format!("We are {word}."), "website": format!("https://{word}.example.org"),
            "address": format!("1 {word} Street"), "consent": { "version": "1" },
        });
        assert_eq!(app.post("/v1/auth/register", body).await.status, 202);
        let token = app.mailed_token(&self.email(), "/v1/auth/verify").await;
        assert_eq!(app.verify(&token, &self.password()).await.status, 200);
        self.enter(app).await
    }

    /// Sends in a file that is called after them.
    pub async fn upload(&self, app: &TestApp, who: &Account) {
        let part = Part::bytes(UPLOAD).file_name(format!("{}.pdf", self.word));
        let form = Form::new().text("purpose", self.word).part("file", part);
        let request = app.http.post(format!("{}/v1/files", app.base)).bearer_auth(&who.key);
        let answer = read(request.multipart(form)).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
    }

    /// Leaves a trace wherever an account can leave one: keys, members, invitations, preferences, files, jobs of every end,
    /// a dialog, feedback, webhooks and an endpoint of them, changes.
    pub async fn live(&self, app: &TestApp, receiver: &Receiver) -> Account {
        let owner = self.register(app).await;
        let word = self.word;
        let unlimited = format!(
            "update accounts set tier = 'unlimited', base_tier = 'unlimited' where id = '{}'",
            owner.id.0
        );
        execute(&app.db, &unlimited).await.expect("a tier");
        app.give(owner.id, 5_000_000, None).await;
        app.give(owner.id, 1000, Some(app.now() + TimeDelta::days(30))).await;
        let key = json!({ "name": format!("{word} key"), "allowed_ips": ["127.0.0.0/8", self.ip] });
        let key = self.send(&owner, Method::POST, "/v1/api-keys", key).await;
        assert_eq!(key.status, 201, "{}", key.json);
        let key = Account { key: key.json["secret"].as_str().expect("a secret").to_owned(), ..owner.clone() };
        let renamed = json!({ "name": format!("{word} Person") });
        assert_eq!(self.send(&owner, Method::PATCH, "/v1/me", renamed).await.status, 200);
        let changed = json!({ "description": format!("We are still {word}.") });
        assert_eq!(self.send(&owner, Method::PATCH, "/v1/account", changed).await.status, 200);
        let preferred = json!({ "models": { "flux": { "sort": "price" } } });
        assert_eq!(self.send(&owner, Method::PUT, "/v1/account/preferences", preferred).await.status, 200);
        let invited =
            json!({ "email": format!("invited.{word}@example.com"), "name": word, "role": "viewer" });
        assert_eq!(self.send(&owner, Method::POST, "/v1/account/users", invited).await.status, 201);

        self.upload(app, &key).await;

        let hook = format!("{}?{word}", receiver.url);
        let endpoint = json!({ "url": hook, "description": format!("where {word} listens") });
        let endpoint = self.send(&owner, Method::POST, "/v1/webhook-endpoints", endpoint).await;
        assert_eq!(endpoint.status, 201, "{}", endpoint.json);
        let test = format!("/v1/webhook-endpoints/{}/test", endpoint.json["id"].as_str().expect("an id"));
        assert_eq!(self.send(&owner, Method::POST, &test, json!({})).await.status, 202);
        let order = |model: &str, input: Value| json!({ "model": model, "input": input, "metadata": { word: word }, "webhook": { "url": hook } });
        let mut jobs = Vec::new();
        for (n, (model, input)) in [
            ("gpt-4o", json!({ "prompt": format!("tell me of {word}") })),
            ("nano-banana", json!({ "prompt": format!("a picture of {word}") })),
            ("gpt-4o", json!({ "prompt": format!("[[sim:refuse]] {word}") })),
        ]
        .into_iter()
        .enumerate()
        {
            let idempotency = format!("{word}-{n}");
            let headers = [("idempotency-key", idempotency.as_str())];
            let mut order = order(model, input);
            order["routing"] = json!({ "ignore": [word] });
            let answer = key.send(Method::POST, "/v1/jobs", &headers, Some(&order)).await;
            assert_eq!(answer.status, 202, "{}", answer.json);
            jobs.push(answer.job());
        }
        let dialog = json!({ "title": format!("about {word}"), "system": format!("Speak of {word}."), "model": "gpt-4o" });
        let dialog = self.send(&owner, Method::POST, "/v1/dialogs", dialog).await;
        assert_eq!(dialog.status, 201, "{}", dialog.json);
        let said = json!({ "dialog": dialog.json["id"], "input": { "prompt": format!("more of {word}") } });
        assert_eq!(owner.post("/v1/jobs", said).await.status, 202);
        app.drain().await;
        let disliked = json!({ "rating": "dislike", "reason": format!("not what {word} is") });
        let said = self.send(&key, Method::POST, &format!("/v1/jobs/{}/feedback", jobs[0]), disliked).await;
        assert_eq!(said.status, 200, "{}", said.json);
        let again = order("nano-banana", json!({ "prompt": format!("a picture of {word}") }));
        assert_eq!(
            owner.post("/v1/jobs", again).await.status,
            202,
            "by a person, and from the cache where there is one"
        );
        app.drain().await;
        app.deliver().await;
        app.mails().await;
        self.enter(app).await
    }
}

/// Every column of the whole database that holds `needle`, as table.column.
pub async fn columns_with(app: &TestApp, needle: &str) -> Vec<String> {
    let columns: Value = scalar(
        &app.db,
        "select jsonb_agg(jsonb_build_array(c.table_name, c.column_name, c.data_type))
         from information_schema.columns c
         join information_schema.tables t using (table_schema, table_name)
         where c.table_schema = 'public' and t.table_type = 'BASE TABLE'",
    )
    .await;
    let mut found = Vec::new();
    for column in columns.as_array().expect("a list") {
        let text = |at: usize| column[at].as_str().expect("a word").to_owned();
        let (table, name, kind) = (text(0), text(1), text(2));
        let shown = if kind == "bytea" {
            format!("encode(\"{name}\", 'escape')")
        } else {
            format!("\"{name}\"::text")
        };
        let sql = format!(
            "select exists (select from \"{table}\" where strpos(lower({shown}), lower('{needle}')) > 0)"
        );
        if scalar(&app.db, &sql).await {
            found.push(format!("{table}.{name}"));
        }
    }
    found
}

/// Every object in storage, by its path.
pub fn objects(app: &TestApp) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).expect("a folder").flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), found);
            } else {
                found.push(entry.path().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(app.s3_dir.path(), &mut found);
    found.retain(|path| ["outputs/", "uploads/", "exports/"].iter().any(|place| path.contains(place)));
    found
}

/// The jobs of an account, oldest first.
pub async fn jobs_of(app: &TestApp, account: &Account) -> Vec<JobId> {
    let sql = format!(
        "select coalesce(jsonb_agg(id order by id), '[]') from jobs where account_id = '{}'",
        account.id.0
    );
    let ids: Value = scalar(&app.db, &sql).await;
    let uuid = |id: &Value| JobId(id.as_str().expect("an id").parse().expect("a uuid"));
    ids.as_array().expect("a list").iter().map(uuid).collect()
}

/// Runs a task at its next tick.
pub async fn run(app: &TestApp, task: &str) {
    app.clock.advance(TimeDelta::minutes(1));
    assert!(app.tick(task).await, "{task} was due");
}
