//! Reports at the command line: what an account used, and what the platform earned and spent.

use chrono::{Days, NaiveDate};
use clap::Args;
use serde_json::{Value, json};
use shared::{
    catalog::Catalog,
    id::AccountId,
    usage::{self, By, Group, GroupBy, Line, Quantities, SPAN_DAYS_DEFAULT, Span},
};

use super::{
    Ctx,
    answer::{Answer, Table, or_nothing},
    words,
};

/// Whose usage, and by what.
#[derive(Debug, Args)]
pub struct Usage {
    /// Id of the account.
    #[arg(value_name = "ACC")]
    account: AccountId,
    #[command(flatten)]
    days: ReportDays,
    /// Only of this model.
    #[arg(long)]
    model: Option<String>,
    /// A line for each of what.
    #[arg(long, default_value = "day", value_parser = words::one_of(GroupBy::ALL, GroupBy::word))]
    group_by: GroupBy,
}

/// Margin by what.
#[derive(Debug, Args)]
pub struct Margin {
    #[command(flatten)]
    days: ReportDays,
    /// A line for each of what.
    #[arg(long, default_value = "day", value_parser = words::one_of(By::ALL, By::word))]
    group_by: By,
}

/// The days of a report, those of UTC.
#[derive(Debug, Clone, Copy, Args)]
pub struct ReportDays {
    /// First day, such as 2026-01-01; 30 days unless it is said.
    #[arg(long, value_name = "DAY", value_parser = words::day)]
    from: Option<NaiveDate>,
    /// Last day; today unless it is said.
    #[arg(long, value_name = "DAY", value_parser = words::day)]
    to: Option<NaiveDate>,
}

impl ReportDays {
    fn span(self, today: NaiveDate) -> anyhow::Result<Span> {
        let to = self.to.unwrap_or(today);
        let from = self.from.or_else(|| to.checked_sub_days(Days::new(SPAN_DAYS_DEFAULT - 1)));
        Ok(Span::new(from.unwrap_or(to), to)?)
    }
}

/// What an account used.
///
/// # Errors
/// When there is no such account, the days are no span, or the database fails.
pub async fn usage(ctx: &Ctx, asked: Usage) -> anyhow::Result<Answer> {
    let Usage { account, days, model, group_by } = asked;
    let span = days.span(ctx.now.date_naive())?;
    ctx.account(account).await?;
    let lines = usage::report(&ctx.db, account, group_by, span, model.as_deref()).await?;
    let mut totals = Quantities::default();
    let mut table = Table::headed(&[
        group_by.word(),
        "jobs",
        "succeeded",
        "cached",
        "charged",
        "read",
        "written",
        "images",
        "seconds",
        "characters",
    ]);
    let mut data = Vec::new();
    for (group, used) in &lines {
        totals += *used;
        let (name, value) = words_of(group);
        table.row(&[vec![name], cells(*used)].concat());
        let mut line = quantities(*used);
        line[group_by.word()] = value;
        data.push(line);
    }
    table.row(&[vec!["all".into()], cells(totals)].concat());
    let json = json!({
        "object": "list", "account": account, "group_by": group_by.word(), "from": span.from(), "to": span.to(),
        "unit": "tokens", "data": data, "totals": quantities(totals),
    });
    Ok(Answer::new(json, table))
}

/// Whose line it is, for people and for programs.
fn words_of(group: &Group) -> (String, Value) {
    match group {
        Group::Word(word) => (word.clone(), json!(word)),
        Group::Key { id, name, prefix } => (
            or_nothing(name.as_deref().or(prefix.as_deref())),
            json!({ "id": id, "name": name, "prefix": prefix }),
        ),
        Group::User { id, name } => {
            (name.clone().unwrap_or_else(|| id.to_string()), json!({ "id": id, "name": name }))
        }
        Group::None => (or_nothing(None::<String>), Value::Null),
    }
}

fn cells(used: Quantities) -> Vec<String> {
    let counts = [
        used.jobs,
        used.succeeded,
        used.cached,
        used.charged,
        used.prompt_tokens,
        used.completion_tokens,
        used.images,
    ];
    let mut cells: Vec<_> = counts.iter().map(ToString::to_string).collect();
    cells.extend([used.seconds.normalize().to_string(), used.characters.to_string()]);
    cells
}

fn quantities(used: Quantities) -> Value {
    json!({
        "jobs": used.jobs, "succeeded": used.succeeded, "cached": used.cached, "charged": used.charged,
        "prompt_tokens": used.prompt_tokens, "completion_tokens": used.completion_tokens, "images": used.images,
        "seconds": used.seconds.normalize(), "characters": used.characters,
    })
}

/// What the platform earned, what that cost it, and what is left.
///
/// # Errors
/// When the days are no span, or the database fails.
pub async fn margin(ctx: &Ctx, asked: Margin) -> anyhow::Result<Answer> {
    let Margin { days, group_by } = asked;
    let span = days.span(ctx.now.date_naive())?;
    let token_usd = Catalog::load()?.token_usd();
    let lines = usage::margin(&ctx.db, group_by, span).await?;
    let cells = |name: String, line: &Line| {
        [
            name,
            line.revenue_tokens.to_string(),
            line.revenue_usd(token_usd).to_string(),
            line.cost_usd.normalize().to_string(),
            line.margin_usd(token_usd).to_string(),
            or_nothing(line.margin_percent(token_usd)),
            line.attempts.to_string(),
            line.failed_attempts.to_string(),
        ]
    };
    let sums = |line: &Line| {
        json!({
            "revenue_tokens": line.revenue_tokens, "revenue_usd": line.revenue_usd(token_usd),
            "cost_usd": line.cost_usd.normalize(), "margin_usd": line.margin_usd(token_usd),
            "margin_percent": line.margin_percent(token_usd), "attempts": line.attempts,
            "failed_attempts": line.failed_attempts,
        })
    };
    let mut totals = Line::default();
    let mut table = Table::headed(&[
        group_by.word(),
        "tokens",
        "revenue USD",
        "cost USD",
        "margin USD",
        "percent",
        "attempts",
        "failed",
    ]);
    let mut data = Vec::new();
    for line in &lines {
        totals.add(line);
        table.row(&cells(or_nothing(line.word.as_deref()), line));
        let mut shown = sums(line);
        shown[group_by.word()] = match group_by {
            By::Account => json!({ "id": line.account, "name": line.word }),
            By::Model | By::Provider | By::Day => json!(line.word),
        };
        data.push(shown);
    }
    table.row(&cells("all".into(), &totals));
    let json = json!({
        "object": "list", "group_by": group_by.word(), "from": span.from(), "to": span.to(), "unit": "tokens",
        "token_usd": token_usd, "data": data, "totals": sums(&totals),
    });
    Ok(Answer::new(json, table))
}
