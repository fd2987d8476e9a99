//! Consent: a new version is asked for, and nobody is kept out meanwhile.

use serde_json::{Value, json};

use super::ALICE;
use crate::support::{Account, TestApp, execute};

#[tokio::test]
async fn who_agreed_to_an_older_version_is_asked_again_and_goes_on_meanwhile() {
    let app = TestApp::new().await;
    let alice = ALICE.register(&app).await;
    assert_eq!(alice.get("/v1/account").await.json["consent_required"], Value::Null);
    execute(&app.db, "update consents set version = '0'").await.expect("an older version");

    let login = ALICE.log_in(&app).await;
    let required = json!({ "document": "personal_data", "version": "1" });
    assert_eq!((login.status.as_u16(), &login.json["consent_required"]), (200, &required));
    let alice = app.with_tokens(&login);
    assert_eq!(alice.get("/v1/account").await.json["consent_required"], required);
    let key = alice.post("/v1/api-keys", json!({ "name": "k" })).await.json["secret"]
        .as_str()
        .expect("a key")
        .to_owned();
    let program = Account { key, ..alice.clone() };
    assert_eq!(
        program.get("/v1/account").await.json["consent_required"],
        Value::Null,
        "a program agrees to nothing"
    );

    let given =
        alice.post("/v1/account/consents", json!({ "document": "personal_data", "version": "1" })).await;
    assert_eq!(given.status, 201, "{}", given.json);
    let versions: Vec<_> =
        given.json["data"].as_array().expect("a list").iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, ["1", "0"]);
    assert_eq!(ALICE.log_in(&app).await.json["consent_required"], Value::Null);
    app.finish().await;
}
