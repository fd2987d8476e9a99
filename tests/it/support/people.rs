//! People of a test: they register, follow the link in their mail and log in, as anyone would.

use serde_json::{Value, json};

use super::{Account, Answer, Mail, TestApp, read};

/// The password of everyone who does not say otherwise.
pub const PASSWORD: &str = "correct horse battery";

impl TestApp {
    /// Posts as nobody.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        read(self.http.post(format!("{}{path}", self.base)).json(&body)).await
    }

    /// Posts the fields of a page, as a browser does.
    pub async fn post_by_page(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let url = format!("{}{path}", self.base);
        let encoded = reqwest::Url::parse_with_params(&url, fields).expect("a URL");
        let body = encoded.query().unwrap_or_default().to_owned();
        read(self.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(body)).await
    }

    /// Asks to register and does nothing more.
    pub async fn ask_to_register(&self, email: &str) -> Answer {
        let body = json!({
            "name": "Example Ltd", "email": email, "password": PASSWORD, "consent": { "version": "1" },
        });
        self.post("/v1/auth/register", body).await
    }

    /// Someone who registered, proved their address and logged in: the owner of an account of their own, whose key is an
    /// access token.
    pub async fn register(&self, email: &str) -> Account {
        assert_eq!(self.ask_to_register(email).await.status, 202);
        let token = self.mailed_token(email, "/v1/auth/verify").await;
        let verified = self.verify(&token, PASSWORD).await;
        assert_eq!(verified.status, 200, "{}", verified.json);
        self.login(email, PASSWORD).await
    }

    /// Follows the link that proves an address.
    pub async fn verify(&self, token: &str, password: &str) -> Answer {
        self.post("/v1/auth/verify", json!({ "token": token, "password": password })).await
    }

    /// What a login is answered.
    pub async fn ask_to_log_in(&self, email: &str, password: &str) -> Answer {
        self.post("/v1/auth/login", json!({ "email": email, "password": password })).await
    }

    /// Someone who logged in; the key is an access token.
    pub async fn login(&self, email: &str, password: &str) -> Account {
        let answer = self.ask_to_log_in(email, password).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        self.with_tokens(&answer)
    }

    /// Someone with the access token of an answer.
    pub fn with_tokens(&self, answer: &Answer) -> Account {
        let text = |name: &str| {
            answer.json[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer:?}")).to_owned()
        };
        Account {
            id: text("account").parse().expect("an account's id"),
            key: text("access_token"),
            base: self.base.clone(),
            http: self.http.clone(),
        }
    }

    /// Someone new whom `inviter` invited into their account and who joined it and logged in.
    pub async fn join(&self, inviter: &Account, email: &str, role: &str) -> Account {
        let invited = inviter.post("/v1/account/users", json!({ "email": email, "role": role })).await;
        assert_eq!(invited.status, 201, "{}", invited.json);
        let token = self.mailed_token(email, "/v1/auth/invitations/accept").await;
        let body = json!({ "token": token, "password": PASSWORD, "consent": { "version": "1" } });
        let joined = self.post("/v1/auth/invitations/accept", body).await;
        assert_eq!(joined.status, 200, "{}", joined.json);
        let login = json!({ "email": email, "password": PASSWORD, "account": inviter.id });
        self.with_tokens(&self.post("/v1/auth/login", login).await)
    }

    /// The token of the link in the newest mail to `email`, which leads to `path`.
    pub async fn mailed_token(&self, email: &str, path: &str) -> String {
        let mails = self.mails().await;
        let mail = mails
            .iter()
            .rfind(|mail| mail.recipient == email)
            .unwrap_or_else(|| panic!("no mail to {email}: {mails:?}"));
        self.token_of(mail, path)
    }

    /// The token of the link in a mail.
    pub fn token_of(&self, mail: &Mail, path: &str) -> String {
        let start = format!("{}{path}?token=", self.base);
        let link = mail.link();
        link.strip_prefix(&start).unwrap_or_else(|| panic!("{link} does not begin with {start}")).to_owned()
    }
}

impl Account {
    /// The id of the person behind an access token.
    pub async fn user(&self) -> String {
        self.get("/v1/me").await.json["id"].as_str().expect("a person").to_owned()
    }

    /// Whether the front door still lets them in.
    pub async fn is_in(&self) -> bool {
        self.get("/v1/me").await.status == 200
    }
}
