//! Reports about the platform as a whole, for operators.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::usage::span;
use crate::{
    ApiError, Ctx,
    request::{Query, word},
    sheet::{Cell, Format, Sheet, attachment},
};
use shared::usage::{self, By, Line, Ratings};

const HEADINGS: [&str; 7] = [
    "revenue_tokens",
    "revenue_usd",
    "cost_usd",
    "margin_usd",
    "margin_percent",
    "attempts",
    "failed_attempts",
];

/// Revenue, cost and margin over some days, by model, provider, account or day.
///
/// Counted as revenue are the tokens that jobs were charged, at the catalogue's `token_usd`, wherever the tokens came from:
/// bought, part of a plan, or a gift. Not counted are what people paid for plans, tokens that expired unused, and jobs that
/// a plan paid for ("unlimited", or free for subscribers): these charged nothing, so they show as cost alone. Cost is that
/// of every attempt, failed ones included, by the day on which it ended.
pub async fn margin(
    State(ctx): State<Ctx>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    let format = Format::of(&mut query, &headers)?;
    let read = |word: &str| By::ALL.into_iter().find(|by| by.word() == word);
    let by = word(&mut query, "group_by", read, &By::ALL.map(By::word))?.unwrap_or(By::Day);
    let span = span(&mut query, ctx.clock.now())?;
    query.finish()?;
    let lines = usage::margin(&ctx.db, by, span).await?;
    let token_usd = ctx.catalog.token_usd();
    match format {
        Format::Csv => {
            let name = format!("margin-by-{}-{}-{}.csv", by.word(), span.from(), span.to());
            Ok(attachment(&name, sheet(by, &lines, token_usd)))
        }
        Format::Json => {
            let mut totals = Line::default();
            lines.iter().for_each(|line| totals.add(line));
            let data: Vec<_> = lines.iter().map(|line| show(by, line, token_usd)).collect();
            let answer = json!({
                "object": "list", "group_by": by.word(), "from": span.from(), "to": span.to(), "unit": "tokens",
                "token_usd": token_usd, "data": data, "totals": sums(&totals, token_usd),
            });
            Ok(Json(answer).into_response())
        }
    }
}

/// What people thought of results over some days, by model and by who made them, what was disliked most first.
pub async fn feedback(State(ctx): State<Ctx>, mut query: Query) -> Result<Json<Value>, ApiError> {
    let span = span(&mut query, ctx.clock.now())?;
    query.finish()?;
    let lines = usage::ratings(&ctx.db, span).await?;
    let all = |count: fn(&Ratings) -> i64| lines.iter().map(count).sum::<i64>();
    let totals = json!({ "likes": all(|line| line.likes), "dislikes": all(|line| line.dislikes) });
    let show = |line: &Ratings| json!({ "model": line.model, "provider": line.provider, "likes": line.likes, "dislikes": line.dislikes });
    let data: Vec<_> = lines.iter().map(show).collect();
    Ok(Json(json!({
        "object": "list", "from": span.from(), "to": span.to(), "data": data, "totals": totals,
    })))
}

fn show(by: By, line: &Line, token_usd: Decimal) -> Value {
    let mut shown = sums(line, token_usd);
    shown[by.word()] = match by {
        By::Account => json!({ "id": line.account, "name": line.word }),
        By::Model | By::Provider | By::Day => json!(line.word),
    };
    shown
}

fn sums(line: &Line, token_usd: Decimal) -> Value {
    json!({
        "revenue_tokens": line.revenue_tokens, "revenue_usd": line.revenue_usd(token_usd),
        "cost_usd": line.cost_usd.normalize(), "margin_usd": line.margin_usd(token_usd),
        "margin_percent": line.margin_percent(token_usd), "attempts": line.attempts,
        "failed_attempts": line.failed_attempts,
    })
}

fn sheet(by: By, lines: &[Line], token_usd: Decimal) -> Vec<u8> {
    let group: &[&str] = if by == By::Account { &["account", "account_name"] } else { &[by.word()] };
    let mut sheet = Sheet::headed(&[group, &HEADINGS].concat());
    for line in lines {
        let percent = line.margin_percent(token_usd);
        let mut cells = if by == By::Account { vec![Cell::text(line.account)] } else { Vec::new() };
        cells.extend([
            Cell::text(line.word.as_ref()),
            Cell::number(line.revenue_tokens),
            Cell::number(line.revenue_usd(token_usd)),
            Cell::number(line.cost_usd.normalize()),
            Cell::number(line.margin_usd(token_usd)),
            Cell::number(percent.map(|percent| percent.to_string()).unwrap_or_default()),
            Cell::number(line.attempts),
            Cell::number(line.failed_attempts),
        ]);
        sheet.row(&cells);
    }
    sheet.into_bytes()
}
