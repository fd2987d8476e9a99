//! A page of a list, as every list answers. Handlers ask for one row more than the page holds, to know whether more follow.

use axum::Json;
use serde::Serialize;
use serde_json::{Value, json};

/// The rows that fit, and whether there was one too many.
pub fn cut<T>(mut rows: Vec<T>, limit: i64) -> (Vec<T>, bool) {
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > page;
    rows.truncate(page);
    (rows, has_more)
}

/// The answer: what is shown of each row, and the `id` of the last one, from which the next page goes on.
pub fn answer<T, I: Serialize, V: Serialize>(
    rows: Vec<T>,
    limit: i64,
    id: impl Fn(&T) -> I,
    show: impl FnMut(T) -> V,
) -> Json<Value> {
    let (rows, has_more) = cut(rows, limit);
    let last = rows.last().map(id);
    let data: Vec<_> = rows.into_iter().map(show).collect();
    Json(json!({ "object": "list", "data": data, "has_more": has_more, "last_id": last }))
}
