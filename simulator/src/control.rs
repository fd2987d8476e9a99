//! The strings a test or a person pulls: faults, pace, and the account book.
//!
//! Nothing here imitates a vendor, so errors are plain and early: an order that could never strike as meant is
//! refused with 400 rather than remembered.

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Pace, Sim,
    fault::{Fault, Kind, Rule},
    interference::lock,
    ledger::{Counts, Filter, Op, Provider},
    task::Task,
};

type Refusal = (StatusCode, Json<Value>);

/// An order for a fault, as written by a person.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    provider: Option<Provider>,
    op: Option<Op>,
    contains: Option<String>,
    fault: String,
    value: Option<Value>,
    times: Option<u32>,
}

/// Adds a standing order for a fault.
pub(crate) async fn order_fault(
    State(sim): State<Sim>,
    Json(order): Json<Order>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let Some(kind) = Kind::parse(&order.fault) else {
        return Err(refusal(format!("there is no fault '{}', see GET / for the list", order.fault)));
    };
    let value = order.value.map(|value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let id = sim.faults().order(Rule {
        id: 0,
        provider: order.provider,
        op: order.op,
        contains: order.contains,
        fault: Fault { kind, value },
        left: order.times,
    });
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

/// The standing orders with how many times each has left.
pub(crate) async fn list_faults(State(sim): State<Sim>) -> Json<Value> {
    Json(json!({ "data": sim.faults().rules() }))
}

/// Forgets all standing orders.
pub(crate) async fn clear_faults(State(sim): State<Sim>) -> StatusCode {
    sim.faults().clear();
    StatusCode::NO_CONTENT
}

/// The submits, and how many of them would be billed.
pub(crate) async fn submits(State(sim): State<Sim>, Query(filter): Query<Filter>) -> Json<Value> {
    let (data, accepted) = sim.ledger().submits(&filter);
    Json(json!({ "data": data, "accepted": accepted }))
}

/// How many requests there were of each kind.
pub(crate) async fn requests(State(sim): State<Sim>, Query(filter): Query<Filter>) -> Json<Counts> {
    Json(sim.ledger().requests(&filter))
}

/// Every task, oldest first.
pub(crate) async fn tasks(State(sim): State<Sim>) -> Json<Value> {
    let tasks: Vec<Task> = sim.tasks.all();
    Json(json!({ "data": tasks }))
}

/// Changes when tasks become finished.
pub(crate) async fn set_pace(State(sim): State<Sim>, Json(pace): Json<Pace>) -> Result<Json<Value>, Refusal> {
    if let Pace::AfterSeconds(seconds) = pace
        && seconds < 0.0
    {
        return Err(refusal(format!("after_seconds must not be negative, got {seconds}")));
    }
    sim.set_pace(pace);
    Ok(Json(json!({ "pace": pace })))
}

/// Back to the start: no faults, no tasks, an empty account book, the first pace.
pub(crate) async fn reset(State(sim): State<Sim>) -> StatusCode {
    sim.faults().clear();
    sim.ledger().clear();
    lock(&sim.traces).clear();
    sim.set_pace(sim.first_pace);
    sim.tasks.clear().await;
    StatusCode::NO_CONTENT
}

fn refusal(text: String) -> Refusal {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": text })))
}
