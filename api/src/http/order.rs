//! From the words of a request to an order: everything a caller can get wrong is said here, before anything is held.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    models, preferences,
    routing::{self, Chosen},
    talk::{self, Resumed},
    webhooks::{check_events, check_target},
};
use crate::{ApiError, Ctx, schema};
use shared::{
    account::Caller,
    catalog::{DEADLINE_SECS_MAX, Model},
    id::{DialogId, JobId},
    job::{self, Descent, Former, Idempotency, Order, Priority, Routing, Sending, Turn, Webhook, Wishes},
    price::Quote,
    trace::{TRACEPARENT, Trace},
};

/// Most pairs of metadata.
pub const METADATA_PAIRS: usize = 16;
/// Longest key of them, in characters.
pub const METADATA_KEY_LEN: usize = 64;
/// Longest value of them, in characters.
pub const METADATA_VALUE_LEN: usize = 512;
/// Longest Idempotency-Key, as others allow.
pub const IDEMPOTENCY_KEY_LEN: usize = 255;
/// How far ahead a job may be scheduled.
const START_AHEAD: TimeDelta = TimeDelta::days(30);

/// A generation request as it comes in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// Public name of a model: `GET /v1/models` lists them. Only in a dialog that names one may it be absent.
    model: Option<String>,
    /// What to make: `GET /v1/models/{id}` has the schema of a model's input.
    #[serde(deserialize_with = "with_whole_numbers")]
    #[schema(value_type = Object)]
    input: Value,
    /// Whom to tell of the end, beside the account's endpoints.
    webhook: Option<NewWebhook>,
    /// Most tokens that it may cost; it is refused where it might cost more.
    #[schema(minimum = 0)]
    max_price: Option<i64>,
    /// `normal`, unless said otherwise.
    #[serde(default)]
    priority: Priority,
    /// When to begin, at most 30 days ahead.
    start_at: Option<DateTime<Utc>>,
    /// Longest time that it may take; the model's own, unless said otherwise.
    #[schema(minimum = 1, maximum = 86_400)]
    deadline_seconds: Option<u64>,
    /// Pairs of your own, by which `GET /v1/jobs` finds it.
    #[serde(default)]
    #[schema(value_type = schema::Metadata)]
    metadata: BTreeMap<String, String>,
    /// Where to make it, in place of what the account prefers.
    #[serde(default)]
    routing: Routing,
    /// Whether the answer to the same request before will do; `default`, unless said otherwise.
    #[serde(default)]
    cache: CacheChoice,
    /// The dialog that it goes on in: what was said there goes before its input.
    #[schema(value_type = Option<schema::DialogId>)]
    dialog: Option<DialogId>,
    /// Set by us.
    #[serde(skip)]
    descent: Descent,
    /// Set by us: the part in a dialog of the job that is made again.
    #[serde(skip)]
    turn: Option<Turn>,
}

/// What a request may say that has a job made again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JobRetry)]
pub struct Anew {
    /// Most tokens that it may cost; it is refused where it might cost more.
    #[schema(minimum = 0)]
    max_price: Option<i64>,
    /// In place of the former job's, if given.
    webhook: Option<NewWebhook>,
}

/// Whom to tell of the end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JobWebhook)]
pub struct NewWebhook {
    #[schema(value_type = schema::WebhookUrl)]
    url: String,
    /// Which ends to tell of; empty: all.
    #[serde(default)]
    #[schema(value_type = Vec<schema::JobEvent>, max_items = 4)]
    events: Vec<String>,
}

/// Whether the answer to the same request before will do.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CacheChoice {
    /// A request that was answered within a day is answered the same again, where the model is one that repeats itself.
    #[default]
    Default,
    /// Made anew, and not remembered.
    Off,
}

impl NewJob {
    /// A request for `model` with this input, and nothing said of the rest.
    pub fn of(model: &str, input: Value) -> Self {
        Self {
            model: Some(model.to_owned()),
            input: whole_numbers(input),
            webhook: None,
            max_price: None,
            priority: Priority::default(),
            start_at: None,
            deadline_seconds: None,
            metadata: BTreeMap::new(),
            routing: Routing::default(),
            cache: CacheChoice::default(),
            dialog: None,
            descent: Descent::default(),
            turn: None,
        }
    }

    /// The same as what is said next in a dialog, if one is named.
    #[must_use]
    pub fn in_dialog(self, dialog: Option<DialogId>) -> Self {
        Self { dialog, ..self }
    }

    /// The same with the caller's own pairs.
    #[must_use]
    pub fn with_metadata(self, metadata: BTreeMap<String, String>) -> Self {
        Self { metadata, ..self }
    }

    /// The request for what a former job was to make, to be begun at once.
    pub fn after(former: Former, descent: Descent, anew: Anew) -> Self {
        let Former { model, input, metadata, priority, webhook, wishes, turn, .. } = former;
        let as_before = |webhook: Webhook| NewWebhook { url: webhook.url, events: webhook.events };
        Self {
            model: Some(model),
            input,
            webhook: anew.webhook.or_else(|| webhook.map(as_before)),
            max_price: anew.max_price,
            priority,
            start_at: None,
            deadline_seconds: wishes.deadline_seconds,
            metadata,
            routing: wishes.routing,
            cache: if wishes.uncached { CacheChoice::Off } else { CacheChoice::Default },
            dialog: None,
            descent,
            turn,
        }
    }

    /// Turns the request into an order of `caller` and what it may cost, or says what is wrong with it.
    ///
    /// # Errors
    /// 400, 404 or 409, naming the field.
    pub async fn into_order(
        mut self,
        ctx: &Ctx,
        caller: &Caller,
        headers: &HeaderMap,
        body_hash: Vec<u8>,
    ) -> Result<(Order, Quote), ApiError> {
        let turn = self.take_up(ctx, caller).await?;
        let now = ctx.clock.now();
        let name = self.model.take().ok_or_else(|| {
            ApiError::bad_request("missing_field", "model", "the field \"model\" is missing")
        })?;
        let model = ctx.catalog.get(&name).ok_or_else(|| models::unknown(&name))?;
        if !caller.may_use(&model.id) {
            return Err(models::not_allowed(&model.id));
        }
        model.check(&self.input)?;
        check_metadata(&self.metadata)?;
        let price = ctx.prices.get(&model.id).ok_or_else(|| {
            tracing::error!(model = model.id, "{} has no price; `kiln migrate` publishes it", model.id);
            ApiError::internal()
        })?;
        let quote = price.quote(model, &self.input, caller.price_percent).map_err(|error| {
            tracing::error!(model = model.id, %error, "no price for an input of {}", model.id);
            ApiError::internal()
        })?;
        if let Some(max) = self.max_price
            && quote.max.count() > max
        {
            let message = format!("{} may cost {} here, more than max_price allows", model.id, quote.max);
            return Err(ApiError::bad_request("price_above_max", "max_price", message));
        }
        let job = JobId::new();
        let wishes = preferences::of(caller)?.fill(&model.id, &self.routing);
        let Chosen { route, cost_usd, fallbacks } = routing::choose(ctx, model, &self.input, &wishes, job)?;
        let start_at = self.start_at.filter(|at| *at > now);
        if start_at.is_some_and(|at| at > now + START_AHEAD) {
            return Err(ApiError::bad_request(
                "invalid_start_at",
                "start_at",
                "start_at is at most 30 days ahead",
            ));
        }
        let order = Order {
            job,
            at: now,
            account: caller.account,
            actor: caller.actor,
            task: model.task.clone(),
            medium: model.medium,
            route,
            cost_usd,
            fallbacks,
            price: quote.max,
            price_version: price.version,
            price_percent: caller.price_percent,
            fair_interval: ctx.catalog.subscribers().interval(&model.id),
            deadline: start_at.unwrap_or(now) + deadline(model, self.deadline_seconds)?,
            sending: sending(headers, caller, &body_hash),
            idempotency: idempotency(headers, body_hash)?,
            descent: self.descent,
            traceparent: Some(trace(headers).to_string()),
            request_hash: (self.cacheable(start_at, &wishes) && model.is_cacheable(&self.input))
                .then(|| Sha256::digest(json!([name, self.input]).to_string()).to_vec()),
            webhook: self.webhook.map(|webhook| webhook.check(ctx.allow_private_addresses)).transpose()?,
            wishes: Wishes {
                uncached: self.cache == CacheChoice::Off,
                deadline_seconds: self.deadline_seconds,
                routing: self.routing,
            },
            model: name,
            input: self.input,
            priority: self.priority,
            metadata: self.metadata,
            start_at,
            turn,
        };
        Ok((order, quote))
    }

    /// Takes up the dialog that is named, if one is: who answers, and what was said before. A job that is made again brings all of
    /// that along.
    async fn take_up(&mut self, ctx: &Ctx, caller: &Caller) -> Result<Option<Turn>, ApiError> {
        if let Some(turn) = self.turn.take() {
            let turn = talk::say_again(ctx, caller, turn).await?;
            self.dialog = turn.as_ref().map(|turn| turn.dialog);
            return Ok(turn);
        }
        let Some(dialog) = self.dialog else { return Ok(None) };
        let Resumed { model, input, turn } =
            talk::resume(ctx, caller, dialog, self.model.take(), self.input.take()).await?;
        (self.model, self.input) = (Some(model), input);
        Ok(Some(turn))
    }

    /// A request that wants a time or a provider of its own is not answered with another's result, and neither is one in a
    /// dialog, which would be answered without anything being said in it.
    fn cacheable(&self, start_at: Option<DateTime<Utc>>, wishes: &Routing) -> bool {
        let is_free = start_at.is_none() && !wishes.is_restricted() && self.dialog.is_none();
        self.cache == CacheChoice::Default && is_free
    }
}

/// An input in which whole numbers are written as such: 5.0 is an integer to JSON Schema, but not to vendors, and not to the
/// tables of their words.
fn with_whole_numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Value::deserialize(deserializer).map(whole_numbers)
}

fn whole_numbers(value: Value) -> Value {
    /// Beyond, a float is exact to no unit.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it is whole, and the range was just checked"
            )]
            Some(float) if float.fract() == 0.0 && float.abs() <= EXACT_MAX => json!(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect()
        }
        other => other,
    }
}

impl NewWebhook {
    fn check(self, allow_private: bool) -> Result<Webhook, ApiError> {
        check_target("webhook.url", &self.url, allow_private)?;
        check_events("webhook.events", &self.events)?;
        Ok(Webhook { url: self.url, events: self.events })
    }
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let invalid = |message| Err(ApiError::bad_request("invalid_metadata", "metadata", message));
    if metadata.len() > METADATA_PAIRS {
        return invalid(format!("metadata has at most {METADATA_PAIRS} pairs"));
    }
    if metadata.keys().any(|key| key.is_empty() || key.chars().count() > METADATA_KEY_LEN) {
        return invalid(format!("a metadata key has 1 to {METADATA_KEY_LEN} characters"));
    }
    if metadata.values().any(|value| value.chars().count() > METADATA_VALUE_LEN) {
        return invalid(format!("a metadata value has at most {METADATA_VALUE_LEN} characters"));
    }
    Ok(())
}

fn deadline(model: &Model, wanted_secs: Option<u64>) -> Result<TimeDelta, ApiError> {
    let secs = match wanted_secs {
        None => model.deadline.as_secs(),
        Some(secs) if (1..=DEADLINE_SECS_MAX).contains(&secs) => secs,
        Some(_) => {
            let message = format!("deadline_seconds is between 1 and {DEADLINE_SECS_MAX}");
            return Err(ApiError::bad_request("invalid_deadline", "deadline_seconds", message));
        }
    };
    Ok(TimeDelta::seconds(i64::try_from(secs).unwrap_or(i64::MAX / 1000)))
}

/// A job that follows up another needs one that has succeeded, and an action that it offers, and is made where that one was. The
/// worker looks again; here it costs the caller nothing.
///
/// # Errors
/// 400, naming the field.
pub async fn follow_parent(ctx: &Ctx, order: &mut Order) -> Result<(), ApiError> {
    let Some(id) = job::parent_id(&order.input) else { return Ok(()) };
    let bad = |code, field, message: &str| Err(ApiError::bad_request(code, field, message));
    let Some(parent) = job::parent(&ctx.db, order.account, id).await? else {
        return bad(
            "invalid_parent",
            "input.job",
            "input.job names no job of this account that has succeeded",
        );
    };
    let model = ctx.catalog.get(&order.model).ok_or_else(|| models::unknown(&order.model))?;
    if !routing::stay_with(&parent.provider, model, order) {
        let message = format!("{} cannot take further what this job made", order.model);
        return bad("invalid_parent", "input.job", &message);
    }
    match order.input.get("action").and_then(Value::as_str) {
        Some(action) if !parent.offers(action) => {
            bad("unknown_action", "input.action", "the job of input.job does not offer this action")
        }
        _ => Ok(()),
    }
}

/// The Idempotency-Key, bare or as a quoted string.
///
/// # Errors
/// 400 when it is none.
pub fn idempotency(headers: &HeaderMap, body_hash: Vec<u8>) -> Result<Option<Idempotency>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default().trim().trim_matches('"');
    if key.trim().is_empty() || key.len() > IDEMPOTENCY_KEY_LEN {
        let message = format!("an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_LEN} visible ASCII characters");
        return Err(ApiError::bad_request("invalid_idempotency_key", "Idempotency-Key", message));
    }
    Ok(Some(Idempotency { key: key.to_owned(), body_hash }))
}

/// What the SDKs that Stainless makes, OpenAI's among them, say of which time they send a request. `None` where nothing is said of
/// it.
pub fn sending(headers: &HeaderMap, caller: &Caller, body_hash: &[u8]) -> Option<Sending> {
    let count: u32 = headers.get("x-stainless-retry-count")?.to_str().ok()?.trim().parse().ok()?;
    Some(Sending::new(caller.actor, body_hash, count > 0))
}

/// The trace that a request is part of, or a new one.
fn trace(headers: &HeaderMap) -> Trace {
    Trace::of_request(headers.get_all(TRACEPARENT).iter().map(HeaderValue::as_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    fn config() -> Config {
        Config { cases: 500, failure_persistence: None, ..Config::default() }
    }

    fn with(name: &'static str, value: &[u8]) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).ok()?);
        Some(headers)
    }

    #[test]
    fn a_whole_number_is_written_as_one_however_it_came() {
        let check = |sent: &str, kept: Value| {
            assert_eq!(whole_numbers(serde_json::from_str(sent).unwrap()), kept, "{sent}");
        };
        check("5.0", json!(5));
        check("-2e3", json!(-2000));
        check("0.5", json!(0.5));
        check("1e300", json!(1e300));
        check("18446744073709551615", json!(u64::MAX));
        check(r#"{"a": [1.0, "1.0", {"b": 4.0}]}"#, json!({"a": [1, "1.0", {"b": 4}]}));
    }

    #[test]
    fn a_key_means_the_same_bare_and_quoted_and_is_never_empty_or_too_long() {
        proptest!(config(), |(value in proptest::collection::vec(any::<u8>(), 0..300))| {
            let Some(headers) = with("idempotency-key", &value) else { return Ok(()) };
            if let Ok(key) = idempotency(&headers, Vec::new()) {
                let key = key.unwrap().key;
                prop_assert!((1..=IDEMPOTENCY_KEY_LEN).contains(&key.len()) && key.is_ascii(), "{key:?}");
                prop_assert!(!key.contains('\0') && !key.trim().is_empty(), "{key:?}");
            }
        });
        proptest!(config(), |(word in "[!#-~]{1,255}")| {
            for value in [word.clone(), format!("\"{word}\""), format!("  {word} ")] {
                let key = idempotency(&with("idempotency-key", value.as_bytes()).unwrap(), Vec::new());
                prop_assert_eq!(&key.ok().flatten().unwrap().key, &word);
            }
        });
    }
}
