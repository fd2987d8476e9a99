//! The document of the API: kept beside the code, complete, true to what its examples are answered; and the page that shows it.
//!
//! That answers are as the document says is asked of every answer that any test reads (`support/document.rs`).

#![expect(clippy::disallowed_methods, reason = "one variable says whether to write the document")]

use std::{collections::BTreeSet, path::Path};

use jsonschema::Validator;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::{TestApp, execute, read};

/// Why a request whose ids and secrets are made up is refused after it was read.
const MADE_UP: [&str; 2] = ["invalid_token", "wrong_password"];

fn document() -> Value {
    serde_json::to_value(api::http::document()).expect("a document is JSON")
}

/// Method, path and operation.
fn operations(document: &Value) -> Vec<(Method, &str, &Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let method = method.to_uppercase().parse().expect("a method");
            found.push((method, path.as_str(), operation));
        }
    }
    found
}

/// The examples of an operation's body, by name; `None` where it has no body of JSON.
fn examples(operation: &Value) -> Option<Vec<(&str, &Value)>> {
    let content = operation.pointer("/requestBody/content/application~1json")?;
    let named = content["examples"].as_object();
    Some(named.into_iter().flatten().map(|(name, example)| (name.as_str(), &example["value"])).collect())
}

/// Every value of a field of this name, wherever it stands.
fn find<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(name));
            fields.values().for_each(|inner| find(inner, name, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| find(inner, name, found)),
        _ => {}
    }
}

#[test]
fn the_document_of_the_api_is_what_the_code_says_today() {
    let now = format!("{:#}\n", document());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var("KILN_WRITE_SNAPSHOTS").is_ok() {
        std::fs::write(&file, &now).expect("write the document");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == now, "docs/openapi.json is old; KILN_WRITE_SNAPSHOTS=1 writes it anew");
}

#[test]
fn every_route_is_in_the_document_and_nothing_else_is() {
    let document = document();
    let said: BTreeSet<_> =
        operations(&document).into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let routes = api::http::listed();
    let routed: BTreeSet<_> = routes.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(said, routed);
}

#[test]
fn whatever_the_document_refers_to_is_there_and_names_are_names_of_one_thing() {
    let document = document();
    let mut references = Vec::new();
    find(&document, "$ref", &mut references);
    assert!(!references.is_empty());
    for reference in references.into_iter().filter_map(Value::as_str) {
        let place = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads elsewhere"));
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let asked = format!("{method} {path}");
        let name = operation["operationId"].as_str().unwrap_or_default();
        assert!(!name.is_empty() && names.insert(name), "{asked} is called {name:?}");
        assert!(operation["summary"].is_string(), "{asked} does not say what it is");
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let within: BTreeSet<_> = parameters
            .iter()
            .filter(|one| one["in"] == "path")
            .filter_map(|one| one["name"].as_str().map(|name| format!("{{{name}}}")))
            .collect();
        let wanted: BTreeSet<_> =
            path.split('/').filter(|part| part.starts_with('{')).map(str::to_owned).collect();
        assert_eq!(within, wanted, "{asked}");
        let answers = operation["responses"].as_object().expect("answers");
        assert!(answers.keys().any(|status| status.starts_with(['2', '3'])), "{asked} never succeeds");
    }
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        validator(&document, schema, name);
    }
}

#[test]
fn every_body_has_an_example_that_is_as_its_schema_says() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let Some(examples) = examples(operation) else { continue };
        assert!(!examples.is_empty(), "{method} {path} has no example");
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let validator = validator(&document, schema, path);
        for (name, body) in examples {
            let wrong: Vec<_> = validator.iter_errors(body).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{method} {path}, {name}: {wrong:?}");
        }
    }
}

#[tokio::test]
async fn every_order_in_the_document_is_accepted_and_made() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let document = document();
    let orders = examples(&document["paths"]["/v1/jobs"]["post"]).expect("orders");
    let mut jobs = Vec::new();
    for (name, body) in orders {
        assert_eq!(alice.post("/v1/jobs/quote", body.clone()).await.status, 200, "{name}");
        let answer = alice.post("/v1/jobs", body.clone()).await;
        assert_eq!(answer.status, 202, "{name}: {}", answer.json);
        jobs.push((name, answer.job()));
    }
    app.drain().await;
    for (name, job) in jobs {
        let job = alice.job(job).await;
        assert_eq!(job["status"], "succeeded", "{name}: {job}");
    }
    app.finish().await;
}

#[tokio::test]
async fn every_example_in_openais_form_is_answered() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let document = document();
    for (method, path, operation) in operations(&document) {
        // A remix goes on from a film that is there, of a maker that can.
        if operation["tags"][0] != "OpenAI" || path.contains('{') {
            continue;
        }
        for (name, body) in examples(operation).into_iter().flatten() {
            let asked = alice.http.request(method.clone(), format!("{}{path}", alice.base));
            let answered = app.worked(async {
                let answer = asked.bearer_auth(&alice.key).json(body).send().await.expect("the API answers");
                (answer.status(), answer.bytes().await.expect("a body"))
            });
            let (status, bytes) = answered.await;
            assert_eq!(status, StatusCode::OK, "{path}, {name}: {}", String::from_utf8_lossy(&bytes));
            assert!(!bytes.is_empty(), "{path}, {name}");
        }
    }
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn every_other_example_in_the_document_is_read() {
    let app = TestApp::new().await;
    let root = app.register("root@example.com").await;
    let set = "update users set operator_role = 'super_admin' where email = 'root@example.com'";
    assert_eq!(execute(&app.db, set).await.expect("set"), 1);
    let document = document();
    let mut asked = operations(&document);
    // Whoever has logged out asks no more.
    asked.sort_by_key(|(_, path, _)| *path == "/v1/auth/logout");
    for (method, path, operation) in asked {
        // Those were made above.
        if path.starts_with("/v1/jobs") || operation["tags"][0] == "OpenAI" {
            continue;
        }
        for (name, body) in examples(operation).into_iter().flatten() {
            let answer = root.send(method.clone(), &with_ids(path), &[], Some(body)).await;
            let (status, code, _) = answer.error();
            let is_read = !matches!(status, 400 | 413 | 415 | 429 | 500..) || MADE_UP.contains(&code);
            assert!(is_read, "{method} {path}, {name}: {}", answer.json);
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn the_page_has_all_it_needs_and_refers_to_no_other_host() {
    let app = TestApp::new().await;
    let get = async |path: &str| {
        let answer = app.http.get(format!("{}/{path}", app.base)).send().await.expect("the API answers");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let (kind, policy) =
            (header("content-type").map(str::to_owned), header("content-security-policy").map(str::to_owned));
        (kind.expect("a type"), policy.expect("a policy"), answer.bytes().await.expect("a body"))
    };
    let (kind, policy, page) = get("docs").await;
    assert!(kind.starts_with("text/html"), "{kind}");
    assert!(policy.contains("script-src 'self'; ") && policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!policy.contains("http"), "{policy}");
    let page = String::from_utf8(page.to_vec()).expect("text");
    let named = page.split('"').filter(|text| text.starts_with("docs/") || text.ends_with(".json"));
    let named: BTreeSet<_> = named.collect();
    assert!(named.len() > 5 && !page.contains("://"), "{page}");
    for file in named {
        let (kind, _, bytes) = get(file).await;
        assert!(!bytes.is_empty(), "{file}");
        let ending = file.rsplit('.').next().unwrap_or_default();
        let wanted = match ending {
            "css" => "text/css",
            "js" => "text/javascript",
            "json" => "application/json",
            _ => "image/png",
        };
        assert_eq!(kind.split(';').next(), Some(wanted), "{file}");
        let text = String::from_utf8_lossy(&bytes);
        match file {
            "docs/swagger-initializer.js" => {
                assert!(text.contains("\"openapi.json\"") && !text.contains("://"), "{text}");
            }
            _ if ending == "css" => {
                let mut urls = text.split("url(").skip(1).map(|rest| rest.trim_start_matches(['"', '\'']));
                assert!(urls.all(|url| url.starts_with("data:")), "{file}");
            }
            _ => {}
        }
    }
    let served = read(app.http.get(format!("{}/openapi.json", app.base))).await;
    assert_eq!((served.status, served.json), (StatusCode::OK, document()));
    let other = read(app.http.get(format!("{}/docs/swagger-ui-bundle.js.map", app.base))).await;
    assert_eq!(other.error(), (404, "not_found", "file"));
    app.finish().await;
}

/// What checks values of a schema, which may refer to others of the document.
fn validator(document: &Value, schema: &Value, name: &str) -> Validator {
    let mut root = schema.clone();
    root["components"] = document["components"].clone();
    let built = jsonschema::options().should_validate_formats(true).build(&root);
    built.unwrap_or_else(|error| panic!("{name} is no schema: {error}"))
}

/// The path with ids of the right kinds, which nothing has, in place of its parameters.
fn with_ids(path: &str) -> String {
    let kind = match path {
        _ if path.contains("/accounts/") => "acc",
        _ if path.contains("/users/") => "user",
        _ if path.contains("/api-keys/") => "key",
        _ if path.contains("/webhook-endpoints/") => "whe",
        _ => "id",
    };
    let id = format!("{kind}_01930a1c2f3e7b4a8d5c6e7f8a9b0c1d");
    let part = |part: &str| if part.starts_with('{') { id.clone() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}
