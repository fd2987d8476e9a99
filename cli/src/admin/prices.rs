//! Prices at the command line: what every model costs, how that came to be, and another price from now on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::{ArgGroup, Subcommand};
use serde_json::{Value, json};
use shared::{
    catalog::Catalog,
    price::{self, Rule, SetError, Version},
    wake::{self, Wake},
};

use super::{
    Ctx,
    answer::{Answer, Table, minute, or_nothing},
    words,
};

/// What to do with prices.
#[derive(Debug, Subcommand)]
pub enum Prices {
    /// List what every model costs now.
    List,
    /// Show every price a model had, newest first.
    Show {
        /// The model, such as gpt-4o.
        model: String,
    },
    /// Set a price for jobs from now on; those that were accepted keep theirs.
    #[command(group = ArgGroup::new("price").args(["tokens", "rules"]).required(true))]
    Set {
        /// The model, such as gpt-4o.
        model: String,
        /// So many tokens a job.
        #[arg(long, value_name = "N")]
        tokens: Option<u64>,
        /// A file with a JSON list of rules, such as `kiln admin prices show MODEL --json` shows them; - is standard input.
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
        /// Why, for those who look at the history later.
        #[arg(long, value_parser = words::reason)]
        reason: String,
    },
}

/// Does what was asked.
///
/// # Errors
/// Says what was refused and what would mend it.
pub async fn run(ctx: &Ctx, asked: Prices) -> anyhow::Result<Answer> {
    match asked {
        Prices::List => Ok(show(&price::current(&ctx.db).await?)),
        Prices::Show { model } => {
            let versions = price::history(&ctx.db, &model).await?;
            if versions.is_empty() {
                bail!(unknown(&model));
            }
            Ok(show(&versions))
        }
        Prices::Set { model, tokens, rules, reason } => {
            let rules = match (tokens, rules) {
                (Some(tokens), _) => vec![Rule::per_request(tokens)],
                (None, rules) => read(&rules.context("either --tokens or --rules is needed")?)?,
            };
            set(ctx, &model, &rules, &reason).await
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Rule>> {
    let text =
        if file == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(file) };
    let text = text.with_context(|| format!("read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| {
        let example = r#"[{"per": "request", "tokens": 1000}]"#;
        format!("{} is no JSON list of rules such as {example}", file.display())
    })
}

async fn set(ctx: &Ctx, model: &str, rules: &[Rule], reason: &str) -> anyhow::Result<Answer> {
    let catalog = Catalog::load()?;
    let set = price::set(&ctx.db, &catalog, model, rules, reason, &ctx.by, ctx.now).await;
    let version = set.map_err(|error| match error {
        SetError::UnknownModel(model) => anyhow!(unknown(&model)),
        SetError::Invalid(why) => anyhow!("these rules are no price of {model}: {why}"),
        error @ SetError::Db(_) => error.into(),
    })?;
    // The price counts already; without the hint the running processes find it some seconds later.
    if let Err(error) = wake::send_now(&ctx.db, Wake::Prices).await {
        eprintln!("the price is set, but running processes were not told and find it soon: {error}");
    }
    let mut table = headed();
    add(&mut table, &version);
    Ok(Answer::new(json_of(&version), table))
}

fn unknown(model: &str) -> String {
    format!("there is no model {model:?}; `kiln admin prices list` lists them")
}

fn show(versions: &[Version]) -> Answer {
    let mut table = headed();
    versions.iter().for_each(|version| add(&mut table, version));
    Answer::list(versions.iter().map(json_of).collect(), &table)
}

fn headed() -> Table {
    Table::headed(&["model", "version", "tokens", "per", "where", "since", "by", "reason"])
}

/// A row for each rule; what is of the version stands in the first.
fn add(table: &mut Table, version: &Version) {
    for (place, rule) in version.rules.as_array().into_iter().flatten().enumerate() {
        let first = |text: String| if place == 0 { text } else { String::new() };
        table.row(&[
            first(version.model.clone()),
            first(version.version.to_string()),
            word(&rule["tokens"]),
            word(&rule["per"]),
            conditions(&rule["when"]),
            first(minute(version.created_at)),
            first(version.source.clone()),
            first(or_nothing(version.reason.as_deref())),
        ]);
    }
}

/// The conditions of a rule as `size=1024x1024|512x512 n=1`.
fn conditions(when: &Value) -> String {
    let fields = when.as_object().into_iter().flatten();
    let each = fields.map(|(field, value)| match value {
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(word).collect();
            format!("{field}={}", values.join("|"))
        }
        value => format!("{field}={}", word(value)),
    });
    let all: Vec<_> = each.collect();
    or_nothing((!all.is_empty()).then(|| all.join(" ")))
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn json_of(version: &Version) -> Value {
    json!({
        "object": "price", "model": version.model, "unit": "tokens", "version": version.version,
        "rules": version.rules, "source": version.source, "reason": version.reason,
        "created_at": version.created_at,
    })
}
