//! People: they register, prove their address, log in, go on, and lose their way in when they should.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use shared::billing::{self, Gift, Source, Tokens};

use crate::support::{Account, Answer, PASSWORD, Settings, TestApp, scalar};

const ANN: &str = "ann@example.com";

fn tokens(answer: &Answer) -> (String, String) {
    let text = |name: &str| {
        answer.json[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer:?}")).to_owned()
    };
    (text("access_token"), text("refresh_token"))
}

async fn refresh(app: &TestApp, token: &str) -> Answer {
    app.post("/v1/auth/refresh", json!({ "refresh_token": token })).await
}

async fn patch(person: &Account, path: &str, body: Value) -> Answer {
    person.send(Method::PATCH, path, &[], Some(&body)).await
}

#[tokio::test]
async fn a_person_registers_proves_their_address_works_and_logs_out() {
    let settings = Settings {
        people: api::config::People { start: Tokens::new(5000).unwrap(), ..Default::default() },
        ..Settings::default()
    };
    let app = TestApp::with(settings).await;
    let body = json!({
        "name": "Example Ltd", "email": " Ann@Example.com", "password": PASSWORD, "description": "We make\nexamples.",
        "website": "https://example.com", "phone": "+79001234567", "address": "1 Example St", "consent": { "version": "1" },
    });
    let answer = app.post("/v1/auth/register", body).await;
    assert_eq!(answer.status, 202, "{}", answer.json);
    assert_eq!(app.ask_to_log_in(ANN, PASSWORD).await.error(), (403, "email_not_verified", "none"));
    let given: i64 = scalar(&app.db, "select count(*) from grants").await;
    assert_eq!(given, 0, "nothing is given for an address that nobody proved");

    let token = app.mailed_token(ANN, "/v1/auth/verify").await;
    assert_eq!(app.verify(&token, PASSWORD).await.status, 200);
    let again = app.verify(&token, PASSWORD).await;
    assert_eq!(again.error(), (400, "invalid_token", "token"), "a link works once");

    let login = app.ask_to_log_in("ANN@example.com", PASSWORD).await;
    assert_eq!((login.status.as_u16(), login.json["token_type"].as_str()), (200, Some("Bearer")));
    assert_eq!(login.json["expires_in"], 900);
    assert_eq!(login.headers["cache-control"], "no-store");
    let ann = app.with_tokens(&login);
    assert_eq!(ann.tokens().await, (5000, 0), "the start balance");
    let id = ann.submit("gpt-4o", json!({ "prompt": "x" })).await;
    app.drain().await;
    assert_eq!(ann.job(id).await["status"], "succeeded");

    let me = ann.get("/v1/me").await.json;
    assert_eq!(
        (me["email"].as_str(), me["account"].as_str()),
        (Some(ANN), Some(ann.id.to_string().as_str()))
    );
    assert_eq!(me["accounts"][0]["role"], "owner");
    let account = ann.get("/v1/account").await.json;
    assert_eq!(account["phone"], "+79001234567", "{account}");
    assert_eq!((account["tier"].as_str(), account["status"].as_str()), (Some("free"), Some("active")));
    assert_eq!(account["consent"]["version"], "1", "{account}");

    let next = refresh(&app, &tokens(&login).1).await;
    assert_eq!(next.status, 200, "{}", next.json);
    let ann = app.with_tokens(&next);
    let out = ann.post("/v1/auth/logout", json!({})).await;
    assert_eq!((out.status.as_u16(), &out.json["sessions_ended"]), (200, &json!(1)));
    assert_eq!(ann.get("/v1/me").await.error(), (401, "invalid_token", "none"));
    assert_eq!(refresh(&app, &tokens(&next).1).await.error(), (401, "invalid_token", "none"));
    app.finish().await;
}

#[tokio::test]
async fn a_known_address_registers_like_any_other_and_only_its_owner_learns_of_it() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let (new, known) =
        (app.ask_to_register("bob@example.com").await, app.ask_to_register("Ann@example.com").await);
    assert_eq!((new.status, &new.json), (known.status, &known.json));
    let mails = app.mails().await;
    let to_ann: Vec<_> = mails.iter().filter(|mail| mail.recipient == ANN).collect();
    assert_eq!(to_ann.len(), 1);
    assert!(to_ann[0].subject.contains("already registered"), "{:?}", to_ann[0]);
    app.ask_to_register(ANN).await;
    assert_eq!(app.mails().await.len(), 0, "told once a day");
    let counts: String = scalar(
        &app.db,
        "select concat_ws(' ', (select count(*) from users), (select count(*) from accounts), (select count(*) from members))",
    )
    .await;
    assert_eq!(counts, "2 2 2");
    assert!(ann.is_in().await);
    assert_eq!(app.ask_to_log_in(ANN, PASSWORD).await.status, 200, "the password is still the first one");
    for email in [ANN, "nobody@example.com"] {
        for path in ["/v1/auth/password/forgot", "/v1/auth/verify/resend"] {
            let answer = app.post(path, json!({ "email": email })).await;
            assert_eq!((answer.status, &answer.json), (new.status, &new.json), "{path}");
        }
    }
    let mails = app.mails().await;
    assert_eq!(mails.len(), 1, "a link for the one known address: {mails:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_one_answer() {
    let app = TestApp::new().await;
    app.register(ANN).await;
    app.ask_to_register("bob@example.com").await;
    let wrong = app.ask_to_log_in(ANN, "incorrect horse").await;
    assert_eq!(wrong.error(), (401, "invalid_credentials", "none"));
    for (email, password) in [("nobody@example.com", PASSWORD), ("bob@example.com", "not proved and wrong")] {
        let other = app.ask_to_log_in(email, password).await;
        assert_eq!((wrong.status, &wrong.json), (other.status, &other.json), "{email}");
    }
    let answer = app.ask_to_log_in(ANN, &"x".repeat(10_000)).await;
    assert_eq!(answer.error().0, 401, "a long password is only wrong");
    app.finish().await;
}

#[tokio::test]
async fn a_link_works_for_its_time_and_a_mail_scanner_uses_up_none() {
    let app = TestApp::new().await;
    app.ask_to_register(ANN).await;
    let first = app.mailed_token(ANN, "/v1/auth/verify").await;
    app.clock.advance(TimeDelta::hours(24));
    let late = app.verify(&first, PASSWORD).await;
    assert_eq!(late.error(), (400, "invalid_token", "token"));
    app.post("/v1/auth/verify/resend", json!({ "email": ANN })).await;
    let second = app.mailed_token(ANN, "/v1/auth/verify").await;
    let reset = {
        app.post("/v1/auth/password/forgot", json!({ "email": ANN })).await;
        app.mailed_token(ANN, "/v1/auth/password/reset").await
    };
    for (path, token) in [("/v1/auth/verify", &second), ("/v1/auth/password/reset", &reset)] {
        for _ in 0..2 {
            let page = app
                .http
                .get(format!("{}{path}?token={token}&utm_source=mail", app.base))
                .send()
                .await
                .expect("ask");
            assert_eq!(page.status(), 200);
            let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
            assert_eq!(page.headers()["referrer-policy"], "no-referrer");
            let text = page.text().await.expect("a page");
            assert!(
                text.contains(token.as_str()) && text.contains("<form") && !text.contains("<script"),
                "{text}"
            );
        }
    }
    let used: i64 = scalar(&app.db, "select count(*) from mail_links where used_at is not null").await;
    assert_eq!(used, 0, "looking at a page uses up nothing");

    let proved = app.post_by_page("/v1/auth/verify", &[("token", &second), ("password", PASSWORD)]).await;
    assert_eq!(proved.status, 200);
    assert!(proved.json.as_str().expect("a page").contains("is confirmed"), "{}", proved.json);
    let again = app.post_by_page("/v1/auth/verify", &[("token", &second), ("password", PASSWORD)]).await;
    assert_eq!(again.status, 400);
    assert!(again.json.as_str().expect("a page").contains("ask for a new one"), "{}", again.json);
    let weak = app.post_by_page("/v1/auth/password/reset", &[("token", &reset), ("password", "short")]).await;
    assert!(weak.json.as_str().expect("a page").contains("10 to 128"), "{}", weak.json);
    let set = app
        .post_by_page("/v1/auth/password/reset", &[("token", &reset), ("password", "a better password")])
        .await;
    assert_eq!(set.status, 200, "a password that is not good enough leaves the link good: {}", set.json);
    assert!(app.login(ANN, "a better password").await.is_in().await);
    let forgot = app.http.get(format!("{}/v1/auth/password/forgot", app.base)).send().await.expect("ask");
    assert!(forgot.text().await.expect("a page").contains(r#"type="email""#));
    app.finish().await;
}

#[tokio::test]
async fn a_mailed_link_to_a_new_password_proves_the_address_and_gives_the_start_once() {
    let settings = Settings {
        people: api::config::People { start: Tokens::new(700).unwrap(), ..Default::default() },
        ..Settings::default()
    };
    let app = TestApp::with(settings).await;
    app.ask_to_register(ANN).await;
    let verify = app.mailed_token(ANN, "/v1/auth/verify").await;
    app.post("/v1/auth/password/forgot", json!({ "email": ANN })).await;
    let reset = app.mailed_token(ANN, "/v1/auth/password/reset").await;
    let body = json!({ "token": reset, "password": "a better password" });
    assert_eq!(app.post("/v1/auth/password/reset", body).await.status, 200);
    let ann = app.login(ANN, "a better password").await;
    assert_eq!(app.verify(&verify, "a better password").await.status, 200, "it says the same again");
    assert_eq!(ann.tokens().await, (700, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_password_kept_by_parameters_of_old_is_kept_anew() {
    let app = TestApp::new().await;
    app.register(ANN).await;
    // The same password by the reference implementation of Argon2id, with 8 MiB and one pass.
    let old =
        "$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHRmb3J0ZXN0cw$u8uv0/9rCZKA/rhxKwXCTC5yoZAsoTh0166RN2NUzsg";
    let kept: String =
        scalar(&app.db, &format!("update users set password_hash = '{old}' returning password_hash")).await;
    assert_eq!(kept, old);
    assert!(app.login(ANN, PASSWORD).await.is_in().await);
    let kept: String = scalar(&app.db, "select password_hash from users").await;
    assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
    app.login(ANN, PASSWORD).await;
    app.finish().await;
}

#[tokio::test]
async fn an_account_says_of_itself_what_its_people_say() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let changed =
        patch(&ann, "/v1/account", json!({ "website": "https://example.org", "low_balance_tokens": 500 }))
            .await;
    assert_eq!(
        (&changed.json["website"], &changed.json["low_balance_tokens"]),
        (&json!("https://example.org"), &json!(500))
    );
    let cleared = patch(&ann, "/v1/account", json!({ "website": null, "name": "Other Ltd" })).await;
    assert_eq!((&cleared.json["website"], &cleared.json["name"]), (&json!(null), &json!("Other Ltd")));
    assert_eq!(cleared.json["low_balance_tokens"], 500, "what is not named stays");
    for (body, expected) in [
        (json!({ "name": "" }), (400, "invalid_text", "name")),
        (json!({ "name": "a\nb" }), (400, "invalid_text", "name")),
        (json!({ "website": "example.org" }), (400, "invalid_url", "website")),
        (json!({ "phone": "call me" }), (400, "invalid_phone", "phone")),
        (json!({ "description": "x".repeat(2001) }), (400, "invalid_text", "description")),
        (json!({ "low_balance_tokens": -1 }), (400, "invalid_amount", "low_balance_tokens")),
        (json!({ "low_balance_tokens": "many" }), (400, "invalid_type", "low_balance_tokens")),
        (json!({ "tier": "unlimited" }), (400, "unknown_field", "tier")),
    ] {
        assert_eq!(patch(&ann, "/v1/account", body.clone()).await.error(), expected, "{body}");
    }
    assert_eq!(patch(&ann, "/v1/me", json!({ "name": "Ann" })).await.json["name"], "Ann");
    assert_eq!(patch(&ann, "/v1/me", json!({ "name": " " })).await.error(), (400, "invalid_text", "name"));
    let key = app.key(ann.id, shared::account::KeyRole::Member).await;
    assert_eq!(key.get("/v1/account").await.json["name"], "Other Ltd", "a key may look");
    assert_eq!(patch(&key, "/v1/account", json!({ "name": "Mine" })).await.error().0, 403);

    let consents = ann.get("/v1/account/consents").await.json;
    assert_eq!((&consents["data"][0]["version"], &consents["current_version"]), (&json!("1"), &json!("1")));
    let consent = |document: &str, version: &str| {
        ann.post("/v1/account/consents", json!({ "document": document, "version": version }))
    };
    assert_eq!(consent("personal_data", "1").await.status, 201, "given again, it changes nothing");
    assert_eq!(consent("personal_data", "0").await.error(), (400, "consent_version", "version"));
    assert_eq!(consent("soul", "1").await.error(), (400, "invalid_document", "document"));
    let actions: String = scalar(&app.db, "select string_agg(action, ' ' order by id) from audit_log").await;
    assert_eq!(actions, "account.registered user.verified account.changed account.changed user.renamed");
    let entry: Value =
        scalar(&app.db, "select before || after from audit_log where action = 'user.renamed'").await;
    assert_eq!(entry, json!({ "name": "Ann" }));
    app.finish().await;
}

#[tokio::test]
async fn every_bad_word_of_a_stranger_is_told_apart() {
    let app = TestApp::new().await;
    let good = json!({ "name": "Ann", "email": ANN, "password": PASSWORD, "consent": { "version": "1" } });
    let but = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let without = |name: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let cases = [
        (without("name"), (400, "missing_field", "name")),
        (without("email"), (400, "missing_field", "email")),
        (without("password"), (400, "missing_field", "password")),
        (without("consent"), (400, "missing_field", "consent")),
        (but("consent", json!({})), (400, "missing_field", "consent.version")),
        (but("consent", json!({ "version": "0" })), (400, "consent_version", "consent.version")),
        (but("role", json!("owner")), (400, "unknown_field", "role")),
        (but("name", json!("  ")), (400, "invalid_text", "name")),
        (but("name", json!("x".repeat(201))), (400, "invalid_text", "name")),
        (but("name", json!("a\r\nBcc: b")), (400, "invalid_text", "name")),
        (but("email", json!("ann")), (400, "invalid_email", "email")),
        (but("email", json!("ann@localhost")), (400, "invalid_email", "email")),
        (but("email", json!("a@example.com\nb@example.com")), (400, "invalid_email", "email")),
        (but("email", json!(7)), (400, "invalid_type", "email")),
        (but("password", json!("short")), (400, "weak_password", "password")),
        (but("password", json!("x y".repeat(43))), (400, "weak_password", "password")),
        (but("password", json!("1234567890")), (400, "weak_password", "password")),
        (but("password", json!("it is ann@example.com")), (400, "weak_password", "password")),
        (but("password", json!(["a"])), (400, "invalid_type", "password")),
        (but("website", json!("javascript:alert(1)")), (400, "invalid_url", "website")),
        (but("phone", json!("+7 (900)")), (400, "invalid_phone", "phone")),
        (but("phone", json!("1".repeat(21))), (400, "invalid_phone", "phone")),
        (but("address", json!("x".repeat(501))), (400, "invalid_text", "address")),
        (but("description", json!("x".repeat(2001))), (400, "invalid_text", "description")),
    ];
    for (body, expected) in cases {
        let answer = app.post("/v1/auth/register", body.clone()).await;
        assert_eq!(answer.error(), expected, "{body} → {}", answer.json);
        assert!(!answer.json.to_string().contains(PASSWORD), "a password is not repeated: {}", answer.json);
    }
    for (path, body, expected) in [
        ("/v1/auth/login", json!({ "email": ANN }), (400, "missing_field", "password")),
        ("/v1/auth/login", json!({ "email": "ann", "password": "x" }), (400, "invalid_email", "email")),
        (
            "/v1/auth/login",
            json!({ "email": ANN, "password": "x", "account": "mine" }),
            (400, "invalid_type", "account"),
        ),
        ("/v1/auth/verify", json!({}), (400, "missing_field", "token")),
        ("/v1/auth/verify", json!({ "token": "nonsense" }), (400, "missing_field", "password")),
        (
            "/v1/auth/verify",
            json!({ "token": "nonsense", "password": PASSWORD }),
            (400, "invalid_token", "token"),
        ),
        ("/v1/auth/verify/resend", json!({ "email": "" }), (400, "invalid_email", "email")),
        ("/v1/auth/refresh", json!({}), (400, "missing_field", "refresh_token")),
        ("/v1/auth/password/forgot", json!({ "email": "ann" }), (400, "invalid_email", "email")),
        (
            "/v1/auth/password/reset",
            json!({ "token": "x", "password": PASSWORD }),
            (400, "invalid_token", "token"),
        ),
        (
            "/v1/auth/invitations/accept",
            json!({ "token": "x", "password": PASSWORD, "consent": { "version": "1" } }),
            (400, "invalid_token", "token"),
        ),
        (
            "/v1/auth/invitations/accept",
            json!({ "token": "x", "password": PASSWORD }),
            (400, "missing_field", "consent"),
        ),
        ("/v1/auth/logout", json!({}), (401, "invalid_api_key", "none")),
        ("/v1/auth/password/change", json!({}), (401, "invalid_api_key", "none")),
    ] {
        let answer = app.post(path, body.clone()).await;
        assert_eq!(answer.error(), expected, "{path} {body} → {}", answer.json);
    }
    let rows: i64 =
        scalar(&app.db, "select (select count(*) from users) + (select count(*) from mails)").await;
    assert_eq!(rows, 0);
    app.finish().await;
}

#[tokio::test]
async fn registering_from_many_places_at_once_makes_one_person() {
    let app = TestApp::new().await;
    let answers = futures::future::join_all((0..8).map(|_| app.ask_to_register(ANN))).await;
    assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
    let counts: String = scalar(
        &app.db,
        "select concat_ws(' ', (select count(*) from users), (select count(*) from accounts))",
    )
    .await;
    assert_eq!(counts, "1 1");
    let mails = app.mails().await;
    let tokens: Vec<_> = mails.iter().map(|mail| app.token_of(mail, "/v1/auth/verify")).collect();
    assert_eq!(tokens.len(), 8, "each is told: {mails:?}");
    let twice = tokens.iter().chain(&tokens).map(|token| app.verify(token, PASSWORD));
    let answers = futures::future::join_all(twice).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "the last link: {answers:?}");
    app.finish().await;
}

#[tokio::test]
async fn who_registers_first_with_an_address_of_somebody_else_gets_in_by_no_way() {
    let app = TestApp::new().await;
    let register = |name: &str, password: &str| {
        app.post(
            "/v1/auth/register",
            json!({ "name": name, "email": ANN, "password": password, "phone": "+79001234567", "consent": { "version": "1" } }),
        )
    };
    // Ann follows the link of a registration that was not hers.
    register("Mallory", "mallory knows it").await;
    let first = app.mailed_token(ANN, "/v1/auth/verify").await;
    let page = app.post_by_page("/v1/auth/verify", &[("token", &first), ("password", PASSWORD)]).await;
    assert_eq!(page.status, 400);
    let text = page.json.as_str().expect("a page");
    assert!(text.contains("not the password") && text.contains(r#"type="password""#), "{text}");
    assert_eq!(app.verify(&first, PASSWORD).await.error(), (400, "wrong_password", "password"));
    assert_eq!(app.ask_to_log_in(ANN, "mallory knows it").await.error().1, "email_not_verified");
    // She registers herself: from now on, nothing of the first counts.
    assert_eq!(app.ask_to_register(ANN).await.status, 202);
    let second = app.mailed_token(ANN, "/v1/auth/verify").await;
    for password in ["mallory knows it", PASSWORD] {
        assert_eq!(app.verify(&first, password).await.error(), (400, "invalid_token", "token"));
    }
    assert_eq!(app.verify(&second, "mallory knows it").await.error(), (400, "wrong_password", "password"));
    assert_eq!(app.verify(&second, PASSWORD).await.status, 200, "a wrong password leaves the link good");
    assert_eq!(
        app.ask_to_log_in(ANN, "mallory knows it").await.error(),
        (401, "invalid_credentials", "none")
    );
    let ann = app.login(ANN, PASSWORD).await;
    let account = ann.get("/v1/account").await.json;
    assert_eq!((&account["name"], &account["phone"]), (&json!("Example Ltd"), &json!(null)), "{account}");
    assert_eq!(ann.get("/v1/me").await.json["name"], "Example Ltd");
    let counts: String = scalar(
        &app.db,
        "select concat_ws(' ', (select count(*) from users), (select count(*) from accounts), (select count(*) from consents))",
    )
    .await;
    assert_eq!(counts, "1 1 1");
    // Once proved, registering changes nothing any more.
    register("Mallory", "mallory knows it").await;
    assert!(ann.is_in().await);
    assert_eq!(app.ask_to_log_in(ANN, "mallory knows it").await.error().0, 401);
    app.finish().await;
}

#[tokio::test]
async fn guessing_at_a_link_and_registering_over_and_over_come_to_an_end() {
    let app = TestApp::new().await;
    app.register("bob@example.com").await;
    app.ask_to_register(ANN).await;
    let token = app.mailed_token(ANN, "/v1/auth/verify").await;
    for _ in 0..5 {
        assert_eq!(app.verify(&token, "a wrong guess").await.error().1, "wrong_password");
    }
    assert_eq!(app.verify(&token, PASSWORD).await.error(), (429, "rate_limited", "none"));
    app.clock.advance(TimeDelta::minutes(5));
    assert_eq!(app.verify(&token, PASSWORD).await.status, 200);
    for email in ["bob@example.com", "new@example.com"] {
        let mut accepted = 0;
        let refused = loop {
            let answer = app.ask_to_register(email).await;
            if answer.status != 202 {
                break answer;
            }
            accepted += 1;
        };
        assert_eq!(refused.error(), (429, "rate_limited", "none"), "known or not");
        assert!((9..=10).contains(&accepted), "{accepted} mails to {email}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_suspended_account_lets_nobody_in() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let status: String = scalar(
        &app.db,
        &format!("update accounts set status = 'suspended' where id = '{}' returning status", ann.id.0),
    )
    .await;
    assert_eq!(status, "suspended");
    assert!(!ann.is_in().await);
    assert_eq!(app.ask_to_log_in(ANN, PASSWORD).await.error(), (403, "no_account", "account"));
    app.finish().await;
}

#[tokio::test]
async fn a_person_submits_without_a_key_and_tokens_are_held_for_the_account() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let gift = Gift {
        account: ann.id,
        tokens: Tokens::new(1000).unwrap(),
        expires_at: None,
        source: Source::Operator,
        reference: "for the test",
        reason: None,
    };
    billing::give(&app.db, &gift, app.now()).await.expect("give");
    let id = ann.submit("gpt-4o", json!({ "prompt": "x" })).await;
    let by: String = scalar(&app.db, &format!("select user_id::text from jobs where id = '{}'", id.0)).await;
    assert_eq!(format!("user_{}", by.replace('-', "")), ann.user().await);
    app.drain().await;
    assert_eq!(ann.tokens().await, (0, 0));
    app.finish().await;
}
