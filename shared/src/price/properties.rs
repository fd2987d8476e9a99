//! What holds for any rules, any input and any word of a vendor on what it used.
//!
//! Rules that were checked have a price for every input that the schema takes, and no word of a vendor charges more than was
//! held. Both are asked of rules and inputs that nobody thought of.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::{
    CostRule, Expected, Meter, Metered, Price, Rule, Tariff, Values, Wanted, charge, check, cost_most,
    quote::{ranges, sum},
};
use crate::{
    billing::Tokens,
    catalog::{Catalog, Model},
    job::Output,
};

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

const METERS: [Meter; 7] = [
    Meter::Request,
    Meter::PromptToken,
    Meter::CompletionToken,
    Meter::Image,
    Meter::Megapixel,
    Meter::Second,
    Meter::Character,
];

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "seconds": { "enum": [5, 10], "default": 5 },
            "quality": { "enum": ["low", "high"], "default": "low" },
            "n": { "type": "integer", "minimum": 1, "maximum": 8 },
            "size": { "enum": ["64x64", "2048x1024"], "default": "64x64" },
            "text": { "type": "string" },
            "prompt": { "type": "string" },
            "max_tokens": { "type": "integer", "minimum": 1, "maximum": 100_000 },
            "corners": { "type": "array", "items": { "type": "integer" } },
        },
        "required": ["text"],
    })
}

/// JSON of any shape.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn values() -> impl Strategy<Value = (String, Values)> {
    let of = |field: &'static str, values: Vec<Value>| {
        proptest::sample::subsequence(values.clone(), 0..=values.len())
            .prop_map(move |some| (field.to_owned(), Values(some)))
    };
    prop_oneof![
        4 => of("seconds", vec![json!(5), json!(10), json!(10.0)]),
        4 => of("quality", vec![json!("low"), json!("high")]),
        1 => of("n", vec![json!(1), json!(2), json!(0)]),
        1 => of("corners", vec![json!([]), json!([1, 2]), json!([[1]])]),
        1 => of("colour", vec![json!("red")]),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let amount = prop_oneof![
        4 => (0..10_000_i64, 0..6_u32).prop_map(|(digits, scale)| Decimal::new(digits, scale).normalize()),
        1 => any::<i64>().prop_map(Decimal::from),
        1 => Just(Decimal::from(1_000_000_000)),
    ];
    let quantity =
        || option::weighted(0.7, prop_oneof![6 => 1..5000_u64, 1 => Just(100_000_000), 1 => any::<u64>()]);
    (proptest::sample::select(&METERS[..]), amount, vec(values(), 0..3), quantity(), quantity()).prop_map(
        |(per, tokens, when, most, typical)| {
            // Mostly in order, so that enough lists pass the check.
            let typical = typical.filter(|typical| most.is_none_or(|most| *typical <= most));
            Rule { per, tokens, when: when.into_iter().collect(), most, typical }
        },
    )
}

/// A field of an input, and one that is the same to JSON Schema.
fn input() -> impl Strategy<Value = (Value, Value)> {
    let number = |value: i32| (json!(value), json!(f64::from(value)));
    let same = |value: Value| (value.clone(), value);
    let field = |name: &'static str, value: BoxedStrategy<(Value, Value)>| {
        option::of(value.prop_map(move |value| (name, value)))
    };
    (
        field("seconds", proptest::sample::select(&[5, 10][..]).prop_map(number).boxed()),
        field(
            "quality",
            proptest::sample::select(&["low", "high"][..]).prop_map(move |word| same(json!(word))).boxed(),
        ),
        field("n", (1..9).prop_map(number).boxed()),
        field(
            "size",
            proptest::sample::select(&["64x64", "2048x1024"][..])
                .prop_map(move |word| same(json!(word)))
                .boxed(),
        ),
        field("prompt", any::<String>().prop_map(move |text| same(json!(text))).boxed()),
        field("max_tokens", (1..100_001).prop_map(number).boxed()),
        any::<String>(),
    )
        .prop_map(|(seconds, quality, n, size, prompt, max_tokens, text)| {
            let fields = [seconds, quality, n, size, prompt, max_tokens];
            let pick = |which: fn((Value, Value)) -> Value| {
                let fields =
                    fields.clone().into_iter().flatten().map(|(name, value)| (name.to_owned(), which(value)));
                Value::Object(fields.chain([("text".to_owned(), json!(text))]).collect())
            };
            (pick(|(a, _)| a), pick(|(_, b)| b))
        })
}

#[test]
fn rules_are_read_again_as_they_were_written() {
    proptest!(config(1000), |(rules in vec(rule(), 0..5))| {
        let written = serde_json::to_value(&rules).unwrap();
        prop_assert_eq!(serde_json::from_value::<Vec<Rule>>(written.clone()).unwrap(), rules.clone(), "{}", written);
        prop_assert_eq!(Price::read("m", 1, written).unwrap().rules, rules);
    });
}

#[test]
fn no_json_breaks_the_reader_of_rules_or_their_check() {
    let schema = schema();
    let field =
        (proptest::sample::select(&["per", "tokens", "usd", "when", "most", "typical", "more"][..]), json())
            .prop_map(|(name, value)| (name.to_owned(), value));
    let known = (proptest::sample::select(&METERS[..]), "[0-9.]{0,35}|-?[0-9]{1,40}|[0-9]e[0-9]").prop_map(
        |(per, tokens)| {
            Map::from_iter([("per".to_owned(), json!(per)), ("tokens".to_owned(), json!(tokens))])
        },
    );
    let rule = (known, vec(field, 0..3)).prop_map(|(mut known, more)| {
        known.extend(more);
        Value::Object(known)
    });
    proptest!(config(1000), |(rules in vec(rule, 0..4), wild in json())| {
        let _ = serde_json::from_value::<Vec<CostRule>>(wild);
        if let Ok(read) = serde_json::from_value::<Vec<Rule>>(json!(rules)) {
            let _ = check(&read, &schema);
            // What is read is what was written, to the last digit.
            for (rule, written) in read.iter().zip(&rules) {
                let written = written["tokens"].as_str().map_or_else(|| written["tokens"].to_string(), str::to_owned);
                let digits = |text: &str| {
                    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
                    // Less than nothing is no price, so a minus stands before zeros alone.
                    (whole.trim_start_matches(['-', '0']).to_owned(), part.trim_end_matches('0').to_owned())
                };
                prop_assert_eq!(digits(&rule.tokens.to_string()), digits(&written));
            }
        }
    });
}

#[test]
fn rules_that_were_checked_have_one_price_for_every_input() {
    let schema = schema();
    // Few lists of rules pass the check, so each is tried with several inputs.
    let rules = vec(rule(), 1..5).prop_filter("checked", {
        let schema = schema.clone();
        move |rules| check(rules, &schema).is_ok()
    });
    let config = Config { max_local_rejects: 1_000_000, ..config(150) };
    proptest!(config, |(rules in rules, inputs in vec(input(), 1..6))| {
        for (whole, float) in inputs {
            let price = |input: &Value| {
                let wanted = Wanted::new(&schema, input);
                let ranges = ranges(&rules, wanted)?;
                sum(&rules, wanted, |meter| ranges[&meter].most)
            };
            for meter in METERS {
                let matching: Vec<_> =
                    rules.iter().filter(|rule| rule.per == meter && Wanted::new(&schema, &whole).is_like(rule.when())).collect();
                let longest = matching.iter().map(|rule| rule.when.len()).max();
                let winners = matching.iter().filter(|rule| Some(rule.when.len()) == longest).count();
                prop_assert!(winners == 1 || rules.iter().all(|rule| rule.per != meter), "{whole}: {rules:?}");
            }
            let list_price = price(&whole);
            prop_assert!(list_price.is_ok(), "{whole}: {list_price:?} by {rules:?}");
            prop_assert_eq!(price(&float), list_price, "{} and {}", whole, float);
        }
    });
}

#[test]
fn no_word_of_a_vendor_charges_more_than_was_held_or_less_than_nothing() {
    let rules: Vec<Rule> = serde_json::from_value(json!([
        { "per": "prompt_token", "tokens": "0.5", "most": 1000 },
        { "per": "completion_token", "tokens": 2, "most": 200, "typical": 50 },
        { "per": "second", "tokens": "3.25", "most": 600, "typical": 60 },
    ]))
    .unwrap();
    let quantity = || {
        prop_oneof![json(), (0..2000_i64).prop_map(Value::from), (0..3000).prop_map(|n| json!(f64::from(n)))]
    };
    proptest!(config(1500), |(
        usage in (option::of(quantity()), option::of(quantity()), option::of(quantity())),
        wild in option::weighted(0.2, json()),
        (prompt, text) in any::<(String, String)>(),
        percent in 0..101_i16,
        held in 0..3000_i64,
    )| {
        let named = ["prompt_tokens", "completion_tokens", "seconds"].into_iter().zip([usage.0, usage.1, usage.2]);
        let named: Map<_, _> = named.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let output = Output { text: Some(text), usage: Some(wild.unwrap_or(Value::Object(named))), ..Output::default() };
        let (schema, input) = (json!({}), json!({ "prompt": prompt }));
        let (wanted, held) = (Wanted::new(&schema, &input), Tokens::new(held).unwrap());
        let metered = Metered::count(wanted, &output, &Expected::default().with(&rules, wanted));
        let charged = charge(&rules, wanted, &metered, percent, held).unwrap();
        prop_assert!(charged.tokens <= held && charged.tokens.count() >= 0, "{charged:?} of {output:?}");
        prop_assert!(metered.to_json().is_object());
        for meter in [Meter::PromptToken, Meter::CompletionToken, Meter::Second] {
            prop_assert!(metered.quantity(meter) >= Decimal::ZERO, "{metered:?}");
        }
    });
}

/// Values that a field of this schema may take, and some that it may not.
fn candidates(property: &Value) -> Vec<Value> {
    let number = |name: &str| property[name].as_i64();
    let (least, most) = (number("minimum").unwrap_or(0), number("maximum").unwrap_or(1000));
    let mut candidates = vec![
        json!(least),
        json!(most),
        json!(i64::midpoint(least, most)),
        json!(most.saturating_add(1)),
        json!(true),
        json!("x"),
        json!("1024x768"),
        json!("https://example.com/a"),
        json!("job_0123456789abcdef0123456789abcdef"),
        json!("MJ::JOB::upsample::1::3"),
        json!([]),
        json!({}),
        json!([{"role": "user", "content": "hi", "type": "text"}]),
        json!([{"role": "user", "content": [{"type": "file", "file": {}}, {"type": "image_url", "image_url": "x"}]}]),
        json!(["a", "b"]),
        Value::Null,
    ];
    candidates.extend(property["enum"].as_array().into_iter().flatten().cloned());
    candidates.extend(property.get("const").cloned());
    let validator = jsonschema::validator_for(property).unwrap();
    candidates.retain(|value| validator.is_valid(value));
    candidates
}

/// Inputs of a model: some of its fields, each with a value that its schema allows.
fn inputs_of(model: &Model) -> BoxedStrategy<Value> {
    let fields = model.schema["properties"].as_object().unwrap().iter().filter_map(|(name, property)| {
        let candidates = candidates(property);
        let name = name.clone();
        (!candidates.is_empty()).then(|| {
            option::weighted(0.6, proptest::sample::select(candidates))
                .prop_map(move |value| Some((name.clone(), value?)))
                .boxed()
        })
    });
    fields
        .collect::<Vec<_>>()
        .prop_map(|fields| Value::Object(fields.into_iter().flatten().collect()))
        .boxed()
}

#[test]
fn every_input_that_a_model_takes_has_a_price_and_a_cost_by_every_route() {
    let catalog = Catalog::load().unwrap();
    for model in catalog.models() {
        let price = Price { model: model.id.clone(), version: 1, rules: model.rules.clone() };
        let mut taken = 0;
        proptest!(config(64), |(input in inputs_of(model))| {
            if model.check(&input).is_ok() {
                let quote = price.quote(model, &input, 100);
                prop_assert!(quote.is_ok_and(|quote| quote.expected <= quote.max), "{} {input}: {quote:?}", model.id);
                for route in &model.routes {
                    let cost = cost_most(&route.costs, model.wanted(&input));
                    prop_assert!(cost.is_ok_and(|cost| cost >= Decimal::ZERO), "{} {input}: {cost:?}", model.id);
                }
            }
        });
        // Enough of them are taken for this to mean something.
        let mut runner = TestRunner::deterministic();
        for _ in 0..200 {
            let input = inputs_of(model).new_tree(&mut runner).unwrap().current();
            taken += u32::from(model.check(&input).is_ok());
        }
        assert!(taken > 0, "{} takes nothing that is made here", model.id);
    }
}

#[test]
fn an_input_of_any_shape_is_judged_and_not_repeated() {
    let catalog = Catalog::load().unwrap();
    let field = (
        proptest::sample::select(
            &["prompt", "messages", "seconds", "image", "n", "text", "audio", "more"][..],
        ),
        json(),
    )
        .prop_map(|(name, value)| (name.to_owned(), value));
    let input =
        prop_oneof![json(), vec(field, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect()))];
    proptest!(config(300), |(nth in any::<proptest::sample::Index>(), input in input, secret in "[a-z]{30}")| {
        let model = nth.get(catalog.models());
        let mut input = input;
        if let Some(fields) = input.as_object_mut() {
            fields.insert("seconds".to_owned(), json!(secret));
        }
        if let Err(error) = model.check(&input) {
            prop_assert!(error.param.starts_with("input") && !error.message.contains(&secret), "{error:?}");
        }
    });
}
