//! Requests that one can send as they stand, for the document: one at least for every body of JSON.
//!
//! Orders of jobs are made of the catalogue, so that they run wherever it does, against the simulator too. Ids and secrets are made up:
//! such a request is read, and then finds nothing. A test sends each of them.

use http::Method;
use serde_json::{Value, json};

/// Examples of the body of a request, each with its name.
pub fn of(method: &Method, path: &str) -> Vec<(&'static str, Value)> {
    match (method.as_str(), path) {
        ("POST", "/v1/jobs") => orders(),
        ("POST", "/v1/jobs/quote") => orders().into_iter().take(1).collect(),
        ("POST", "/v1/chat/completions") => chats(),
        _ => other(method, path).map(|body| ("ordinary", body)).into_iter().collect(),
    }
}

/// One of each medium, and one that says all there is to say.
fn orders() -> Vec<(&'static str, Value)> {
    vec![
        ("text", json!({ "model": "gpt-4o", "input": { "prompt": "Why is the sky blue?" } })),
        (
            "conversation",
            json!({
                "model": "gpt-4o-mini",
                "input": {
                    "messages": [
                        { "role": "system", "content": "You answer in one sentence." },
                        { "role": "user", "content": "Who was Ada Lovelace?" },
                    ],
                    "temperature": 0,
                },
            }),
        ),
        (
            "picture",
            json!({ "model": "nano-banana", "input": { "prompt": "a fox in the snow", "aspect_ratio": "16:9" } }),
        ),
        ("film", json!({ "model": "kling", "input": { "prompt": "the fox runs", "seconds": 5 } })),
        ("speech", json!({ "model": "tts-1", "input": { "text": "Good morning", "voice": "nova" } })),
        (
            "music",
            json!({ "model": "suno", "input": { "prompt": "a song about a fox", "instrumental": true } }),
        ),
        (
            "everything",
            json!({
                "model": "flux",
                "input": { "prompt": "a fox in the snow", "n": 2, "aspect_ratio": "4:3" },
                "max_price": 50_000,
                "priority": "low",
                "deadline_seconds": 600,
                "metadata": { "campaign": "winter" },
                "routing": { "order": ["fal", "replicate"], "allow_fallbacks": true, "sort": "price" },
                "cache": "off",
            }),
        ),
    ]
}

/// One of each way that a chat is answered.
fn chats() -> Vec<(&'static str, Value)> {
    let chat = |question: &str| json!([{ "role": "user", "content": question }]);
    let look = json!({
        "type": "function",
        "function": { "name": "look_up", "parameters": { "type": "object", "properties": { "animal": { "type": "string" } } } },
    });
    vec![
        ("whole", json!({ "model": "gpt-4o", "messages": chat("Why is the sky blue?") })),
        (
            "streamed",
            json!({
                "model": "gpt-4o-mini", "messages": chat("Who was Ada Lovelace?"), "stream": true,
                "stream_options": { "include_usage": true }, "max_completion_tokens": 200,
            }),
        ),
        (
            "tool",
            json!({
                "model": "gpt-4o", "messages": chat("How long do foxes live?"), "tools": [look], "tool_choice": "required",
            }),
        ),
    ]
}

fn other(method: &Method, path: &str) -> Option<Value> {
    let body = match (method.as_str(), path) {
        ("POST", "/v1/jobs/{id}/retry") => json!({ "max_price": 50_000 }),
        ("POST", "/v1/jobs/{id}/feedback") => {
            json!({ "rating": "dislike", "reason": "the fox looks like a dog" })
        }
        ("POST", "/v1/embeddings") => {
            json!({ "model": "text-embedding-3-small", "input": "a fox in the snow" })
        }
        ("POST", "/v1/moderations") => json!({ "input": "a fox in the snow" }),
        ("POST", "/v1/images/generations") => {
            json!({ "model": "gpt-image-1", "prompt": "a fox in the snow", "quality": "low" })
        }
        ("POST", "/v1/audio/speech") => json!({ "model": "tts-1", "input": "Good morning", "voice": "nova" }),
        ("POST", "/v1/videos") => {
            json!({ "model": "sora-2", "prompt": "the fox runs", "seconds": "4", "size": "1280x720" })
        }
        ("POST", "/v1/videos/{id}/remix") => json!({ "prompt": "the fox stands still" }),
        ("POST", "/v1/dialogs") => json!({ "model": "gpt-4o", "title": "Foxes", "system": "Be brief." }),
        ("PATCH", "/v1/dialogs/{id}") => {
            json!({ "title": "Red foxes", "model": null, "uses_history": false })
        }
        ("POST", "/v1/callbacks/{id}") => json!({ "challenge": "a1b2c3" }),
        ("POST", "/v1/webhook-endpoints") => json!({
            "url": "https://example.com/kiln", "events": ["job.succeeded", "job.failed"], "description": "the shop",
        }),
        ("PATCH", "/v1/webhook-endpoints/{id}") => json!({ "events": [], "enabled": true }),
        ("POST", "/v1/billing/balance") => json!({
            "account": "acc_01930a1c2f3e7b4a8d5c6e7f8a9b0c1d", "amount": 5000, "reason": "an outage on our side",
            "reference": "ticket-1042",
        }),
        ("PATCH", "/v1/admin/accounts/{id}") => {
            json!({ "base_tier": "premium", "credit_limit_tokens": 100_000 })
        }
        ("PUT", "/v1/admin/accounts/{id}/status") => json!({ "status": "suspended" }),
        ("POST", "/v1/admin/accounts/{id}/subscriptions") => {
            json!({ "plan": "month", "reference": "order-77" })
        }
        ("PUT", "/v1/admin/users/{id}/operator-role") => json!({ "role": "analyst" }),
        ("PUT", "/v1/admin/prices/{model}") => {
            json!({ "tokens": 1200, "reason": "the provider asks for more" })
        }
        ("POST", "/v1/auth/register") => json!({
            "name": "Fox Pictures", "email": "ann@example.com", "password": "three foxes in the snow",
            "consent": { "version": "1" },
        }),
        ("POST", "/v1/auth/verify") => {
            json!({ "token": "made-up-and-too-short", "password": "three foxes in the snow" })
        }
        ("POST", "/v1/auth/verify/resend" | "/v1/auth/password/forgot") => {
            json!({ "email": "ann@example.com" })
        }
        ("POST", "/v1/auth/login") => {
            json!({ "email": "ann@example.com", "password": "three foxes in the snow" })
        }
        ("POST", "/v1/auth/refresh") => json!({ "refresh_token": "kilnr_made-up-and-too-short" }),
        ("POST", "/v1/auth/logout") => json!({ "everywhere": true }),
        ("POST", "/v1/auth/password/reset") => {
            json!({ "token": "made-up-and-too-short", "password": "four foxes in the snow" })
        }
        ("POST", "/v1/auth/password/change") => {
            json!({ "current_password": "three foxes in the snow", "password": "four foxes in the snow" })
        }
        ("POST", "/v1/auth/invitations/accept") => json!({
            "token": "made-up-and-too-short", "name": "Ben", "password": "five foxes in the snow",
            "consent": { "version": "1" },
        }),
        ("PATCH", "/v1/me") => json!({ "name": "Ann" }),
        ("PATCH", "/v1/account") => json!({
            "name": "Fox Pictures", "website": "https://example.com", "phone": "+4930123456",
            "low_balance_tokens": 20_000,
        }),
        ("PUT", "/v1/account/preferences") => json!({
            "default": { "sort": "price" }, "models": { "flux": { "order": ["fal", "replicate"] } },
        }),
        ("POST", "/v1/account/consents") => json!({ "document": "personal_data", "version": "1" }),
        ("POST", "/v1/account/users") => {
            json!({ "email": "ben@example.com", "name": "Ben", "role": "developer" })
        }
        ("PATCH", "/v1/account/users/{id}") => json!({ "role": "viewer" }),
        ("POST", "/v1/account/erasure") => {
            json!({ "password": "three foxes in the snow", "confirm": "Fox Pictures" })
        }
        ("POST", "/v1/api-keys") => json!({
            "name": "the shop's server", "scopes": ["jobs:read", "jobs:write"], "allowed_models": ["gpt-4o", "flux"],
            "limits": { "day": 200_000 },
        }),
        ("PATCH", "/v1/api-keys/{id}") => json!({ "name": "the shop's other server", "limits": null }),
        ("POST", "/v1/api-keys/{id}/rotate") => json!({ "grace_seconds": 3600 }),
        _ => return None,
    };
    Some(body)
}
