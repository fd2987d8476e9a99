//! Which traces the vendors were told that requests belong to: the header `traceparent`, as it came.
//!
//! The last so many requests that had one, in their order; none of them is read or judged, as no vendor does.

use std::collections::VecDeque;

use axum::{
    Json,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Sim, interference::lock};

/// How many are kept: more than any test makes.
const KEPT: usize = 1000;

/// A request that said what it is part of.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Traced {
    method: String,
    path: String,
    traceparent: String,
}

/// Those that are kept, oldest first.
pub(crate) type Traces = VecDeque<Traced>;

/// Notes what a request is part of, and lets it pass.
pub(crate) async fn note(State(sim): State<Sim>, request: Request, next: Next) -> Response {
    let sent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    if let Some(traceparent) = sent {
        let mut traces = lock(&sim.traces);
        if traces.len() == KEPT {
            traces.pop_front();
        }
        traces.push_back(Traced {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            traceparent: traceparent.to_owned(),
        });
    }
    next.run(request).await
}

/// The requests that said what they are part of, oldest first.
pub(crate) async fn list(State(sim): State<Sim>) -> Json<Value> {
    let traces = lock(&sim.traces).clone();
    Json(json!({ "data": traces }))
}
