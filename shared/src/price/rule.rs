//! Rules: so much for each unit of what a meter counts, where the input is like this.
//!
//! Prices in tokens and costs in USD are both lists of rules, read and chosen by the same code. For each meter the one
//! rule counts that matches the input and names most fields; [`check`] lets no list through in which two could count or
//! none. Deliberately absent: quantities, see `quote.rs` and `metered.rs`.

use std::{collections::BTreeMap, fmt};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Wanted, quote};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// One for each job.
    Request,
    /// What a language model read, in its own tokens.
    PromptToken,
    /// What a language model wrote, in its own tokens.
    CompletionToken,
    /// Pictures made.
    Image,
    /// Millions of pixels made.
    Megapixel,
    /// Seconds of video or sound made, or of sound listened to.
    Second,
    /// Characters spoken.
    Character,
}

impl Meter {
    /// Its word in TOML, SQL, JSON and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::PromptToken => "prompt_token",
            Self::CompletionToken => "completion_token",
            Self::Image => "image",
            Self::Megapixel => "megapixel",
            Self::Second => "second",
            Self::Character => "character",
        }
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What the input must say for a rule to count: a field and the values that will do.
pub type When = BTreeMap<String, Values>;

/// One value or several; a field matches when it has any of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Values(pub Vec<Value>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

impl From<OneOrMany> for Values {
    fn from(given: OneOrMany) -> Self {
        match given {
            OneOrMany::Many(values) => Self(values),
            OneOrMany::One(value) => Self(vec![value]),
        }
    }
}

impl From<Values> for OneOrMany {
    fn from(values: Values) -> Self {
        match <[Value; 1]>::try_from(values.0) {
            // A list that stands alone would be read as several values.
            Ok([value]) if !value.is_array() => Self::One(value),
            Ok([value]) => Self::Many(vec![value]),
            Err(values) => Self::Many(values),
        }
    }
}

impl Values {
    /// Whether `value` is one of them.
    pub fn include(&self, value: &Value) -> bool {
        self.0.iter().any(|own| same(own, value))
    }
}

/// Whether two values are the same to JSON Schema, to which 5 and 5.0 are.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// So many tokens for each unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Of what.
    pub per: Meter,
    /// How many; fractions are fine, a whole charge is rounded once.
    #[serde(with = "exact")]
    pub tokens: Decimal,
    /// For which inputs; empty is all.
    #[serde(default, skip_serializing_if = "When::is_empty")]
    pub when: When,
    /// Most units one result may have where the input sets no limit itself; for a language model's tokens, the model's own
    /// limit, which no input exceeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// Units that one result ordinarily has, for estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical: Option<u64>,
}

/// So many USD for each unit: what a vendor bills us.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostRule {
    /// Of what.
    pub per: Meter,
    /// How much, exactly.
    #[serde(with = "exact")]
    pub usd: Decimal,
    /// For which inputs; empty is all.
    #[serde(default, skip_serializing_if = "When::is_empty")]
    pub when: When,
    /// As [`Rule::most`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// As [`Rule::typical`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical: Option<u64>,
}

impl Rule {
    /// The simplest price: so many tokens a job.
    pub fn per_request(tokens: u64) -> Self {
        Self { per: Meter::Request, tokens: tokens.into(), when: When::new(), most: None, typical: None }
    }
}

impl CostRule {
    /// The simplest cost: so much a job.
    pub fn per_request(usd: Decimal) -> Self {
        Self { per: Meter::Request, usd, when: When::new(), most: None, typical: None }
    }
}

/// What rules of prices and of costs have in common.
pub trait Tariff {
    /// What is counted.
    fn per(&self) -> Meter;
    /// Tokens or USD for each unit.
    fn amount(&self) -> Decimal;
    /// For which inputs.
    fn when(&self) -> &When;
    /// Most units of one result.
    fn most(&self) -> Option<u64>;
    /// Ordinary units of one result.
    fn typical(&self) -> Option<u64>;
}

macro_rules! tariff {
    ($rule:ty, $amount:ident) => {
        impl Tariff for $rule {
            fn per(&self) -> Meter {
                self.per
            }
            fn amount(&self) -> Decimal {
                self.$amount
            }
            fn when(&self) -> &When {
                &self.when
            }
            fn most(&self) -> Option<u64> {
                self.most
            }
            fn typical(&self) -> Option<u64> {
                self.typical
            }
        }
    };
}
tariff!(Rule, tokens);
tariff!(CostRule, usd);

/// The meters that `rules` name, each once.
pub fn meters<T: Tariff>(rules: &[T]) -> Vec<Meter> {
    let mut meters: Vec<_> = rules.iter().map(Tariff::per).collect();
    meters.sort_unstable();
    meters.dedup();
    meters
}

/// The rule of `meter` that counts for this input.
pub fn choose<'a, T: Tariff>(rules: &'a [T], meter: Meter, wanted: Wanted<'_>) -> Option<&'a T> {
    rules
        .iter()
        .filter(|rule| rule.per() == meter && wanted.is_like(rule.when()))
        .max_by_key(|rule| rule.when().len())
}

/// Highest amount of a rule: a slip of the finger stays small, and no price overflows.
const AMOUNT_MAX: i64 = 1_000_000_000;
/// Most rules of one model.
const RULES_MAX: usize = 100;
/// Highest ceiling of a quantity.
const QUANTITY_MAX: u64 = 100_000_000;

/// Checks a list of rules against the schema of the inputs it is for.
///
/// # Errors
/// Says which rule is wrong and how, counting from 1.
pub fn check<T: Tariff>(rules: &[T], schema: &Value) -> Result<(), String> {
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err(format!("there must be 1 to {RULES_MAX} rules"));
    }
    for (place, rule) in rules.iter().enumerate() {
        let named = |why: String| format!("rule {} (per {}): {why}", place + 1, rule.per());
        check_amounts(rule).map_err(named)?;
        check_when(rule.when(), schema).map_err(named)?;
        quote::check_bounded(rule, schema).map_err(named)?;
        for (later, other) in rules.iter().enumerate().skip(place + 1) {
            if may_tie(rule, other) {
                let why = format!(
                    "it and rule {} can match the same input, and neither names more fields",
                    later + 1
                );
                return Err(named(why));
            }
        }
    }
    for meter in meters(rules) {
        check_covered(rules, meter, schema)?;
    }
    Ok(())
}

fn check_amounts(rule: &impl Tariff) -> Result<(), String> {
    if rule.amount() < Decimal::ZERO || rule.amount() > AMOUNT_MAX.into() {
        return Err(format!("its amount is between 0 and {AMOUNT_MAX}"));
    }
    for (name, quantity) in [("most", rule.most()), ("typical", rule.typical())] {
        if quantity.is_some_and(|quantity| !(1..=QUANTITY_MAX).contains(&quantity)) {
            return Err(format!("{name} is between 1 and {QUANTITY_MAX}"));
        }
    }
    match (rule.most(), rule.typical()) {
        (Some(most), Some(typical)) if typical > most => Err("typical is more than most".into()),
        _ => Ok(()),
    }
}

/// Checks a condition against the schema of the inputs it is for.
///
/// # Errors
/// Names the field or the value that no input has.
pub fn check_when(when: &When, schema: &Value) -> Result<(), String> {
    for (field, values) in when {
        let Some(property) = schema["properties"].get(field) else {
            return Err(format!("the model's input has no field {field:?}"));
        };
        if values.0.is_empty() {
            return Err(format!("{field} is given no value"));
        }
        let validator = jsonschema::validator_for(property).map_err(|error| error.to_string())?;
        if let Some(odd) = values.0.iter().find(|value| !validator.is_valid(value)) {
            return Err(format!("{field} of the model's input is never {odd}"));
        }
    }
    Ok(())
}

/// Whether an input could match both, with nothing to say which counts.
fn may_tie(a: &impl Tariff, b: &impl Tariff) -> bool {
    let apart = |(field, values): (&String, &Values)| {
        b.when().get(field).is_some_and(|others| !others.0.iter().any(|other| values.include(other)))
    };
    a.per() == b.per() && a.when().len() == b.when().len() && !a.when().iter().any(apart)
}

/// Whatever the input, some rule of the meter counts.
fn check_covered<T: Tariff>(rules: &[T], meter: Meter, schema: &Value) -> Result<(), String> {
    let whens: Vec<_> = rules.iter().filter(|rule| rule.per() == meter).map(Tariff::when).collect();
    if is_covered(&whens, schema) {
        return Ok(());
    }
    Err(format!("some inputs match no rule per {meter}: add one without `when`"))
}

/// Whether one of these conditions holds whatever the input, as far as can be told: there is one without fields, or one for
/// each value of a field that always has one.
pub fn is_covered(whens: &[&When], schema: &Value) -> bool {
    if whens.iter().any(|when| when.is_empty()) {
        return true;
    }
    let is_required = |field: &str| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|name| name == field))
    };
    let covers = |(field, property): (&String, &Value)| {
        let always_there = property.get("default").is_some() || is_required(field);
        let taken = |value: &Value| {
            whens
                .iter()
                .any(|when| when.len() == 1 && when.get(field).is_some_and(|values| values.include(value)))
        };
        always_there && property["enum"].as_array().is_some_and(|values| values.iter().all(taken))
    };
    schema["properties"].as_object().is_some_and(|fields| fields.iter().any(covers))
}

/// Decimals as whole numbers or in quotes; a float would not be what was written.
mod exact {
    use std::fmt;

    use rust_decimal::Decimal;
    use serde::{Deserializer, Serializer, de};

    struct Exact;

    impl de::Visitor<'_> for Exact {
        type Value = Decimal;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, or a decimal in quotes such as \"0.25\"")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Decimal, E> {
            Ok(number.into())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Decimal, E> {
            Ok(number.into())
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
            let read = Decimal::from_str_exact(text.trim());
            read.map(|number| number.normalize())
                .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    pub fn serialize<S: Serializer>(number: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        deserializer.deserialize_any(Exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "properties": {
                "seconds": { "enum": [5, 10], "default": 5 },
                "quality": { "enum": ["low", "high"] },
                "text": { "type": "string" },
            },
        })
    }

    fn read(rules: Value) -> Vec<Rule> {
        serde_json::from_value(rules).unwrap()
    }

    fn refused(rules: Value) -> String {
        check(&read(rules), &schema()).unwrap_err()
    }

    #[test]
    fn the_most_particular_rule_counts_and_absent_fields_have_their_defaults() {
        let rules = read(json!([
            { "per": "second", "tokens": 10 },
            { "per": "second", "tokens": 8, "when": { "seconds": 10 } },
            { "per": "second", "tokens": "20.50", "when": { "seconds": [5, 10], "quality": "high" } },
        ]));
        check(&rules, &schema()).unwrap();
        let schema = schema();
        for (input, expected) in [
            (json!({}), "10"),
            (json!({ "seconds": 10 }), "8"),
            (json!({ "seconds": 10.0 }), "8"),
            (json!({ "quality": "high" }), "20.5"),
            (json!({ "seconds": 10, "quality": "low" }), "8"),
            (json!({ "seconds": 10, "quality": "high" }), "20.5"),
        ] {
            let rule = choose(&rules, Meter::Second, Wanted::new(&schema, &input)).unwrap();
            assert_eq!(rule.tokens.to_string(), expected, "{input}");
        }
    }

    #[test]
    fn a_bad_list_is_refused_with_the_place_and_the_reason() {
        let second = |when: Value| json!({ "per": "second", "tokens": 1, "when": when });
        for (rules, expected) in [
            (json!([]), "1 to 100 rules"),
            (json!([{ "per": "request", "tokens": "-1" }]), "rule 1 (per request): its amount"),
            (
                json!([second(json!({ "colour": "red" }))]),
                "rule 1 (per second): the model's input has no field \"colour\"",
            ),
            (json!([second(json!({ "seconds": 7 }))]), "seconds of the model's input is never 7"),
            (json!([second(json!({ "seconds": [] }))]), "seconds is given no value"),
            (json!([second(json!({ "quality": "high" }))]), "some inputs match no rule per second"),
            // Not every input says a quality, so covering its values is not enough.
            (json!([second(json!({ "quality": ["low", "high"] }))]), "some inputs match no rule per second"),
            (
                json!([{ "per": "second", "tokens": 1 }, second(json!({ "seconds": 5 })), second(json!({ "quality": "low" }))]),
                "rule 2 (per second): it and rule 3 can match",
            ),
            (
                json!([{ "per": "second", "tokens": 1 }, { "per": "second", "tokens": 2 }]),
                "it and rule 2 can match",
            ),
            (json!([{ "per": "completion_token", "tokens": 1 }]), "most"),
            (json!([{ "per": "image", "tokens": 1, "most": 2, "typical": 3 }]), "typical is more than most"),
        ] {
            let why = refused(rules.clone());
            assert!(why.contains(expected), "{rules}: {why}");
        }
        let covered = json!([second(json!({ "seconds": 5 })), second(json!({ "seconds": 10 }))]);
        check(&read(covered), &schema()).unwrap();
    }

    #[test]
    fn a_float_is_no_price() {
        let error = serde_json::from_value::<Rule>(json!({ "per": "request", "tokens": 0.1 })).unwrap_err();
        assert!(error.to_string().contains("in quotes"), "{error}");
        let rule: Rule = serde_json::from_value(json!({ "per": "request", "tokens": "0.10" })).unwrap();
        assert_eq!(serde_json::to_value(rule).unwrap(), json!({ "per": "request", "tokens": "0.1" }));
    }
}
