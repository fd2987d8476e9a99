//! Models of a deployment's own: added, changed and withdrawn by a folder of files, without a build.

use std::{fs, sync::Arc};

use serde_json::{Value, json};
use shared::catalog::{Catalog, FILES};
use tempfile::TempDir;

use crate::{
    flow::picture,
    support::{Child, Database, Settings, Stack, TestApp, eventually, scalar},
};

/// A model more, one that is made by another of the vendor's, and one less.
const OWN: &str = r#"
withdraw = ["gpt-4"]

[[model]]
id = "fox"
name = "Fox"
task = "text.chat"
price_tokens = 120
deadline_seconds = 600
[[model.route]]
provider = "openrouter"
upstream_model = "maker/fox-1"
cost_usd = "0.0003"

[[model]]
id = "gpt-4o-mini"
name = "GPT-4o mini"
task = "text.chat"
price_tokens = 260
deadline_seconds = 600
omit = ["n"]
[[model.route]]
provider = "openai"
upstream_model = "gpt-4o-mini-2027"
cost_usd = "0.0004"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn models_of_the_deployments_own_are_published_listed_and_made_without_a_build() {
    let dir = TempDir::new().expect("a folder");
    fs::write(dir.path().join("models.toml"), OWN).expect("write the file");
    fs::write(dir.path().join("README.md"), "no models").expect("write a file that is not read");
    let database = Database::create().await;
    let folder = dir.path().to_str().expect("a path in UTF-8");
    let stack = Stack::on(&database.url).await.with_variable("KILN_CATALOG", folder);
    stack.start_with("kiln", &["migrate"]).ended().await;
    let running: Vec<Child> = ["api", "text"].iter().map(|role| stack.start(role)).collect();
    stack.ready().await;
    let alice = stack.account(1000).await;

    let listed = alice.get("/v1/models").await.json;
    let price = |id: &str| {
        let model = listed["data"].as_array()?.iter().find(|model| model["id"] == id)?;
        model["price"]["per_request"].as_i64()
    };
    assert_eq!((price("fox"), price("gpt-4o-mini"), price("gpt-4o")), (Some(120), Some(260), Some(1000)));
    assert_eq!(price("gpt-4"), None);
    let refused = alice.post("/v1/jobs", json!({ "model": "gpt-4", "input": { "prompt": "hello" } })).await;
    assert_eq!(refused.error(), (404, "model_not_found", "model"));

    for (model, charged, route) in
        [("fox", 120, "openrouter maker/fox-1"), ("gpt-4o-mini", 260, "openai gpt-4o-mini-2027")]
    {
        let id = alice.submit(model, json!({ "prompt": "hello" })).await;
        eventually(&format!("{model} answers"), async || alice.job(id).await["finished_at"] != Value::Null)
            .await;
        let job = alice.job(id).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["price"]["charged"], json!(charged), "{job}");
        let sql = format!("select provider || ' ' || upstream_model from jobs where id = '{}'", id.0);
        let taken: String = scalar(&stack.db, &sql).await;
        assert_eq!(taken, route);
    }
    for child in running {
        child.stop().await;
    }
    stack.check().await;
    stack.process.finish().await;
    stack.db.close().await;
    database.drop_now().await;
}

/// The catalogue with a model withdrawn.
fn without(model: &str) -> Arc<Catalog> {
    let own = format!("withdraw = [{model:?}]");
    Arc::new(Catalog::read_with(&FILES, &[("own.toml", own.as_str())]).expect("a catalogue"))
}

#[tokio::test]
async fn open_jobs_of_a_model_that_is_withdrawn_are_finished() {
    let mut app = TestApp::new().await;
    let alice = app.account(6380).await;
    // Its worker has to know still which field is a picture.
    let input = json!({ "prompt": "at night", "image": picture() });
    let id = alice.submit("nano-banana-edit", input).await;
    app.worker.catalog = without("nano-banana-edit");
    app.drain().await;
    let job = alice.job(id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(alice.tokens().await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_model_that_is_withdrawn_is_neither_shown_nor_ordered() {
    let app = TestApp::with(Settings { catalog: without("kling"), ..Settings::default() }).await;
    let alice = app.account(38_000).await;
    let unknown = (404, "model_not_found", "model");
    assert_eq!(alice.get("/v1/models/kling").await.error(), unknown);
    let order = json!({ "model": "kling", "input": { "prompt": "a fox" } });
    assert_eq!(alice.post("/v1/jobs", order).await.error(), unknown);
    assert_eq!(alice.get("/v1/models/kling-seconds").await.status, 200);
    assert_eq!(alice.tokens().await, (38_000, 0));
    app.finish().await;
}

#[test]
fn a_folder_that_is_not_there_and_a_file_that_is_wrong_are_named() {
    let dir = TempDir::new().expect("a folder");
    let error = |folder: &std::path::Path| {
        let error = Catalog::load_with(Some(folder)).expect_err("a mistake");
        format!("{error:#}")
    };
    let gone = error(&dir.path().join("gone"));
    assert!(gone.contains("gone, which KILN_CATALOG names"), "{gone}");
    let file = dir.path().join("models.toml");
    fs::write(&file, OWN.replace("\"openrouter\"", "\"openruter\"")).expect("write the file");
    let wrong = error(dir.path());
    let expected = format!("read model fox in {}: there is no provider \"openruter\"", file.display());
    assert!(wrong.contains(&expected), "{wrong}");
}
