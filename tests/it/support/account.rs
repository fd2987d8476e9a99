//! Someone with an account and a key, speaking HTTP to the front door.

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use shared::id::{AccountId, JobId};

use super::document;

/// An account of a test.
#[derive(Debug, Clone)]
pub struct Account {
    pub id: AccountId,
    pub key: String,
    pub base: String,
    pub http: reqwest::Client,
}

/// What the front door answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    /// The id of the job it shows.
    pub fn job(&self) -> JobId {
        self.json["id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .unwrap_or_else(|| panic!("no job in {self:?}"))
    }

    /// Status, code and param of an error.
    pub fn error(&self) -> (u16, &str, &str) {
        let error = &self.json["error"];
        (
            self.status.as_u16(),
            error["code"].as_str().unwrap_or("none"),
            error["param"].as_str().unwrap_or("none"),
        )
    }
}

impl Account {
    /// Any request, with headers.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[], Some(&body)).await
    }

    /// Submits and expects to be accepted.
    pub async fn submit(&self, model: &str, input: Value) -> JobId {
        let answer = self.post("/v1/jobs", json!({ "model": model, "input": input })).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.json);
        answer.job()
    }

    /// A job that only this provider may do.
    pub async fn submit_to(&self, provider: &str, model: &str, input: Value) -> JobId {
        let body = json!({ "model": model, "input": input, "routing": { "only": [provider] } });
        let answer = self.post("/v1/jobs", body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.json);
        answer.job()
    }

    /// A job as the API shows it.
    pub async fn job(&self, job: JobId) -> Value {
        let answer = self.get(&format!("/v1/jobs/{job}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json
    }

    pub async fn cancel(&self, job: JobId) -> Answer {
        self.send(Method::POST, &format!("/v1/jobs/{job}/cancel"), &[], None).await
    }

    /// Available and held tokens.
    pub async fn tokens(&self) -> (i64, i64) {
        let balance = self.get("/v1/billing/balance").await.json;
        (balance["available"].as_i64().expect("available"), balance["held"].as_i64().expect("held"))
    }
}

/// Sends a request and reads the JSON of its answer, which must be as the document of the API says.
pub async fn read(request: reqwest::RequestBuilder) -> Answer {
    let (client, request) = request.build_split();
    let request = request.expect("a request");
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await.expect("the API answers");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a body");
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    let answer = Answer { status, headers, json };
    document::check(&method, &path, &answer);
    answer
}
