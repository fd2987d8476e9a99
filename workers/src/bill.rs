//! The bill of a job that succeeded: what was counted, what its owner is charged, what it cost us.
//!
//! Nothing here can fail a job whose result is in hand. Where a price cannot be worked out, the hold is charged, which was
//! agreed to at submit; where a vendor's count is not believed, the ordinary one is, and an operator is told once a day.

use rust_decimal::Decimal;
use serde_json::Value;

use crate::Ctx;
use shared::{
    billing::Tokens,
    catalog::{Model, Route},
    job::{Claimed, Output},
    mail::{self, Letter, News},
    price::{self, Expected, Meter, Metered, Wanted},
};

/// What goes into the books when a job closes.
#[derive(Debug)]
pub struct Bill {
    /// At most what was held.
    pub charge: Tokens,
    /// What was counted, by meter.
    pub metered: Value,
    /// What the vendor bills us, in USD.
    pub cost_usd: Decimal,
}

/// Counts a result and works out charge and cost.
pub async fn draw_up(ctx: &Ctx, claimed: &Claimed, output: &Output) -> Bill {
    let model = ctx.catalog.known(&claimed.model);
    let route = model.and_then(|model| model.route(&claimed.provider, &claimed.upstream_model));
    // A model that is in no file any more has no defaults to fill in.
    let wanted = Wanted::new(model.map_or(&Value::Null, schema), &claimed.input);
    let mut expected = Expected::default();
    if let Some(price) = &claimed.price {
        expected = expected.with(&price.rules, wanted);
    }
    if let Some(route) = route {
        expected = expected.with(&route.costs, wanted);
    }
    let metered = Metered::count(wanted, output, &expected);
    report_rejected(ctx, claimed, &metered).await;
    Bill {
        charge: charge(claimed, wanted, &metered),
        cost_usd: output.cost_usd.unwrap_or_else(|| cost(claimed, route, wanted, &metered)),
        metered: metered.to_json(),
    }
}

fn schema(model: &Model) -> &Value {
    &model.schema
}

fn charge(claimed: &Claimed, wanted: Wanted<'_>, metered: &Metered) -> Tokens {
    let held = Tokens::new(claimed.held_tokens).unwrap_or(Tokens::ZERO);
    // A plan pays for it, or it was free.
    if held == Tokens::ZERO {
        return held;
    }
    let Some(price) = &claimed.price else { return held };
    match price::charge(&price.rules, wanted, metered, claimed.price_percent, held) {
        Ok(charge) => {
            if charge.is_capped {
                metrics::counter!("kiln_charges_capped_total", "model" => claimed.model.clone()).increment(1);
                tracing::warn!(job.id = %claimed.job(), model = claimed.model, "charge of {} capped at its hold", claimed.job());
            }
            charge.tokens
        }
        Err(error) => {
            tracing::error!(job.id = %claimed.job(), model = claimed.model, %error, "{} is charged what it holds", claimed.job());
            held
        }
    }
}

fn cost(claimed: &Claimed, route: Option<&Route>, wanted: Wanted<'_>, metered: &Metered) -> Decimal {
    match route.map(|route| route.cost(wanted, metered)) {
        Some(Ok(cost)) => cost,
        Some(Err(error)) => {
            tracing::error!(job.id = %claimed.job(), model = claimed.model, %error, "cost of {} taken at its most", claimed.job());
            claimed.cost_usd
        }
        None => claimed.cost_usd,
    }
}

/// Says that a vendor's count was not believed: in the log, in the metrics, and once a day by mail.
async fn report_rejected(ctx: &Ctx, claimed: &Claimed, metered: &Metered) {
    let rejected: Vec<_> = metered.rejected().map(Meter::word).collect();
    if rejected.is_empty() {
        return;
    }
    for meter in &rejected {
        let labels = [
            ("provider", claimed.provider.clone()),
            ("model", claimed.model.clone()),
            ("meter", (*meter).to_owned()),
        ];
        metrics::counter!("kiln_usage_rejected_total", &labels).increment(1);
        tracing::error!(job.id = %claimed.job(), provider.name = claimed.provider, model = claimed.model, meter,
                        "usage of {} not believed; the ordinary is charged", claimed.job());
    }
    let Some(recipient) = &ctx.operator_email else { return };
    let now = ctx.clock.now();
    let news = News::UsageRejected {
        provider: claimed.provider.clone(),
        model: claimed.model.clone(),
        why: format!("{}, of {} and perhaps of others since", rejected.join(", "), claimed.job()),
    };
    let reference = format!("{}:{}:{}", claimed.provider, claimed.model, now.date_naive());
    let letter = Letter { reference: &reference, account: None, recipient, news: &news };
    if let Err(error) = mail::queue(&ctx.db, &ctx.sealer, &letter, now).await {
        tracing::warn!(%error, "operators not told of usage that was not believed");
    }
}
