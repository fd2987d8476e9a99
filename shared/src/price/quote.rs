//! What a job may cost at most and what it probably will, from its input alone.
//!
//! For each meter an input sets a range: the most it can come to, and what is ordinary. The most is what is held, so it
//! must never be too little: an LLM's token is at least one byte, a picture at most so many tokens, an answer no longer than
//! its limit. Rounding happens once, at the end of a whole price.

use std::collections::BTreeMap;

use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value;

use super::{
    PriceError,
    rule::{Meter, Tariff, When, choose, meters},
};
use crate::billing::Tokens;

/// Tokens that a language model adds for each message besides its text: OpenAI's cookbook "How to count tokens" has three
/// and one more for a name; the rest is for vendors with longer frames.
const MESSAGE_TOKENS: u64 = 8;
/// Tokens that a language model adds to a conversation as a whole: three prime the answer (the same cookbook).
const FRAME_TOKENS: u64 = 16;
/// Most tokens of a picture in a message. OpenAI's guide "Images and vision" for GPT-4o: 85 and 170 for each tile of 512
/// pixels, of which a picture scaled to 768 × 2048 has eight.
const PICTURE_TOKENS: u64 = 85 + 8 * 170;
/// Bytes of English that one token ordinarily stands for (OpenAI's help page "What are tokens and how to count them").
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens of an ordinary answer, where a rule does not say.
const COMPLETION_TYPICAL: u64 = 500;
/// Fields of an input that a language model reads.
const READ_FIELDS: [&str; 7] =
    ["prompt", "system", "messages", "tools", "tool_choice", "response_format", "input"];
/// Parts of a message that are pictures, in OpenAI's words.
const PICTURE_PARTS: [&str; 2] = ["image_url", "input_image"];
/// Parts of a message whose length in tokens their bytes do not tell: recordings, documents, films.
const UNBOUNDED_PARTS: [&str; 4] = ["input_audio", "file", "input_file", "video_url"];

/// An input, and the schema that says what is meant where it says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    schema: &'a Value,
    input: &'a Value,
}

/// What a job may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Never more than this; held at submit.
    pub max: Tokens,
    /// Probably about this.
    pub expected: Tokens,
}

/// How much of a meter an input can come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// At most.
    pub most: Decimal,
    /// Ordinarily.
    pub expected: Decimal,
}

impl<'a> Wanted<'a> {
    /// `input` as a model with this schema takes it.
    pub fn new(schema: &'a Value, input: &'a Value) -> Self {
        Self { schema, input }
    }

    /// A field of the input, or its default.
    pub fn field(self, name: &str) -> Option<&'a Value> {
        let default = || self.schema["properties"].get(name)?.get("default");
        self.input.get(name).filter(|value| !value.is_null()).or_else(default)
    }

    /// Whether inputs of this model have a field of that name.
    pub fn knows(self, name: &str) -> bool {
        self.schema["properties"].get(name).is_some()
    }

    /// Whether the input has one of the values that `when` asks for, in each of its fields.
    pub fn is_like(self, when: &When) -> bool {
        when.iter().all(|(name, values)| self.field(name).is_some_and(|value| values.include(value)))
    }

    /// Characters to be spoken.
    pub fn characters(self) -> Option<u64> {
        self.field("text").and_then(Value::as_str).map(|text| widen(text.chars().count()))
    }

    /// Whether there is anything for a language model to read.
    pub fn is_read(self) -> bool {
        READ_FIELDS.iter().any(|name| self.input.get(name).is_some())
    }

    /// How many results are asked for; one where nothing is said.
    pub fn count(self) -> u64 {
        self.field("n").and_then(whole).unwrap_or(1).max(1)
    }

    /// Millions of pixels of one picture, where the input says how large.
    fn megapixels(self) -> Option<Decimal> {
        let (width, height) = self.field("size")?.as_str()?.split_once('x')?;
        let pixels = width.parse::<u64>().ok()?.checked_mul(height.parse().ok()?)?;
        Some(Decimal::from(pixels) / Decimal::from(1_000_000_u32))
    }

    /// The limit that the input sets for one answer.
    fn completion_limit(self) -> Option<u64> {
        ["max_completion_tokens", "max_tokens"].iter().find_map(|name| whole(self.field(name)?))
    }

    fn seconds(self) -> Option<Decimal> {
        self.field("seconds").and_then(decimal)
    }

    /// What the language model has to read.
    fn reading(self) -> Reading {
        let mut reading = Reading::default();
        for value in READ_FIELDS.iter().filter_map(|name| self.input.get(name)) {
            reading.add(value);
        }
        if let Some(messages) = self.input.get("messages").and_then(Value::as_array) {
            reading.messages += widen(messages.len());
        }
        // `prompt` and `system` become a message each.
        reading.messages += 2;
        reading
    }

    /// How much of `rule`'s meter this input can come to. `None`: nothing bounds it.
    fn range(self, rule: &impl Tariff) -> Option<Range> {
        let (most, typical) = (rule.most().map(Decimal::from), rule.typical().map(Decimal::from));
        let count = Decimal::from(self.count());
        let exactly = |quantity| Some(Range { most: quantity, expected: quantity });
        let no_more_than = |most| Some(Range { most, expected: typical.unwrap_or(most) });
        match rule.per() {
            Meter::Request => exactly(Decimal::ONE),
            Meter::Image => exactly(count),
            Meter::Character => self.characters().map(Decimal::from).or(most).and_then(exactly),
            Meter::Second => match self.seconds() {
                Some(seconds) => exactly(seconds),
                None => most.and_then(no_more_than),
            },
            Meter::Megapixel => {
                self.megapixels().and_then(exactly).or_else(|| most.and_then(no_more_than))?.times(count)
            }
            Meter::PromptToken => self.reading().range(most, typical),
            Meter::CompletionToken => {
                let asked = self.completion_limit().map(Decimal::from);
                let each = least(asked, most)?;
                let expected = typical.unwrap_or_else(|| COMPLETION_TYPICAL.into()).min(each);
                Range { most: each, expected }.times(count)
            }
        }
    }
}

impl Range {
    /// As much, so many times. `None`: beyond all bounds.
    fn times(self, count: Decimal) -> Option<Self> {
        Some(Self { most: self.most.checked_mul(count)?, expected: self.expected.checked_mul(count)? })
    }
}

/// What a language model is given to read, weighed but not understood.
#[derive(Debug, Default)]
struct Reading {
    bytes: u64,
    messages: u64,
    pictures: u64,
    /// Something whose length in tokens its bytes do not tell, such as a document or a recording.
    is_unbounded: bool,
}

impl Reading {
    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.bytes += widen(text.len()),
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(fields) => {
                let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
                let is_picture = PICTURE_PARTS.contains(&kind);
                self.pictures += u64::from(is_picture);
                self.is_unbounded |= UNBOUNDED_PARTS.contains(&kind);
                // Only the picture itself is left out: a text that calls itself a picture is read all the same.
                for (name, value) in fields.iter().filter(|(name, _)| !(is_picture && *name == "image_url")) {
                    self.bytes += widen(name.len());
                    self.add(value);
                }
            }
            // As long as they are written, and some for what is around them.
            Value::Null | Value::Bool(_) | Value::Number(_) => self.bytes += widen(value.to_string().len()),
        }
    }

    fn range(&self, most: Option<Decimal>, typical: Option<Decimal>) -> Option<Range> {
        let added = FRAME_TOKENS + MESSAGE_TOKENS * self.messages + PICTURE_TOKENS * self.pictures;
        let bound = (!self.is_unbounded).then(|| Decimal::from(self.bytes + added));
        let most = least(bound, most)?;
        let read = Decimal::from(self.bytes.div_ceil(BYTES_PER_TOKEN) + PICTURE_TOKENS * self.pictures);
        let expected = if self.is_unbounded { typical.unwrap_or(most).max(read) } else { read };
        Some(Range { most, expected: expected.min(most) })
    }
}

/// The ranges of all meters that `rules` name.
///
/// # Errors
/// When no rule matches or nothing bounds a meter, which checked rules do not allow.
pub fn ranges<T: Tariff>(rules: &[T], wanted: Wanted<'_>) -> Result<BTreeMap<Meter, Range>, PriceError> {
    meters(rules)
        .into_iter()
        .map(|meter| {
            let rule = choose(rules, meter, wanted).ok_or(PriceError::NoRule(meter))?;
            Ok((meter, wanted.range(rule).ok_or(PriceError::Unbounded(meter))?))
        })
        .collect()
}

/// The sum over the meters of quantity times amount, not rounded.
///
/// # Errors
/// When no rule matches, or the sum is beyond all bounds.
pub fn sum<T: Tariff>(
    rules: &[T],
    wanted: Wanted<'_>,
    quantity: impl Fn(Meter) -> Decimal,
) -> Result<Decimal, PriceError> {
    meters(rules).into_iter().try_fold(Decimal::ZERO, |sum, meter| {
        let rule = choose(rules, meter, wanted).ok_or(PriceError::NoRule(meter))?;
        let part = rule.amount().checked_mul(quantity(meter)).ok_or(PriceError::Overflow)?;
        sum.checked_add(part).ok_or(PriceError::Overflow)
    })
}

/// The part of a list price that an account pays, rounded half up to whole tokens: the one place where a price is rounded.
///
/// # Errors
/// When it is more than can be counted.
pub fn round(list_price: Decimal, percent: i16) -> Result<Tokens, PriceError> {
    let part = list_price.checked_mul(percent.into()).ok_or(PriceError::Overflow)? / Decimal::ONE_HUNDRED;
    let whole = part.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero);
    i64::try_from(whole).ok().and_then(Tokens::new).ok_or(PriceError::Overflow)
}

/// Checks that inputs of this schema bound the rule's meter, or that the rule does.
///
/// # Errors
/// Says what is missing.
pub fn check_bounded(rule: &impl Tariff, schema: &Value) -> Result<(), String> {
    let is_required = |field: &str| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|name| name == field))
    };
    let always = |field: &str| {
        let property = schema["properties"].get(field);
        property.is_some_and(|property| property.get("default").is_some() || is_required(field))
    };
    let bounded = match rule.per() {
        Meter::Request | Meter::Image => true,
        Meter::Character => always("text"),
        Meter::Second => always("seconds"),
        Meter::Megapixel => always("size"),
        // A document in a message, or an answer without a limit, has only the model's own.
        Meter::PromptToken | Meter::CompletionToken => false,
    };
    if bounded || rule.most().is_some() {
        return Ok(());
    }
    Err(format!("inputs of this model set no limit per {}: say `most`", rule.per()))
}

fn least(a: Option<Decimal>, b: Option<Decimal>) -> Option<Decimal> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// A JSON number exactly as it is written.
pub fn decimal(value: &Value) -> Option<Decimal> {
    let text = value.as_number()?.to_string();
    text.parse().or_else(|_| Decimal::from_scientific(&text)).ok()
}

/// A whole number, also one that is written as 4.0: to JSON Schema it is an integer all the same.
fn whole(value: &Value) -> Option<u64> {
    decimal(value).filter(Decimal::is_integer).and_then(|number| u64::try_from(number).ok())
}

fn widen(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Rule;
    use serde_json::json;

    fn schema() -> Value {
        json!({ "properties": { "seconds": { "default": 5 }, "n": {}, "size": {}, "text": {} } })
    }

    /// Checks the most and the ordinary quantity that an input comes to.
    fn check(rule: Value, input: Value, most: &str, expected: &str) {
        let rules: Vec<Rule> = vec![serde_json::from_value(rule).unwrap()];
        let schema = schema();
        let ranges = ranges(&rules, Wanted::new(&schema, &input)).unwrap();
        let range = ranges[&rules[0].per];
        let found = (range.most.normalize().to_string(), range.expected.normalize().to_string());
        assert_eq!(found, (most.to_owned(), expected.to_owned()), "{input}");
    }

    #[test]
    fn an_input_bounds_what_it_may_come_to() {
        check(json!({ "per": "request", "tokens": 1 }), json!({ "n": 4 }), "1", "1");
        check(json!({ "per": "image", "tokens": 1 }), json!({}), "1", "1");
        check(json!({ "per": "image", "tokens": 1 }), json!({ "n": 4 }), "4", "4");
        check(json!({ "per": "image", "tokens": 1 }), json!({ "n": 4.0 }), "4", "4");
        check(json!({ "per": "second", "tokens": 1 }), json!({}), "5", "5");
        check(json!({ "per": "second", "tokens": 1 }), json!({ "seconds": 10 }), "10", "10");
        check(json!({ "per": "character", "tokens": 1 }), json!({ "text": "жаба" }), "4", "4");
        check(
            json!({ "per": "megapixel", "tokens": 1 }),
            json!({ "size": "1024x768", "n": 2 }),
            "1.572864",
            "1.572864",
        );
        let megapixel = json!({ "per": "megapixel", "tokens": 1, "most": 4, "typical": 1 });
        check(megapixel, json!({ "n": 3 }), "12", "3");
    }

    #[test]
    fn an_answer_is_bounded_by_its_limit_or_the_models() {
        let rule = json!({ "per": "completion_token", "tokens": 1, "most": 4000 });
        check(rule.clone(), json!({}), "4000", "500");
        check(rule.clone(), json!({ "max_tokens": 20 }), "20", "20");
        check(rule.clone(), json!({ "max_tokens": 2e1 }), "20", "20");
        check(rule.clone(), json!({ "max_tokens": 1000, "n": 3 }), "3000", "1500");
        check(rule, json!({ "max_tokens": 100_000 }), "4000", "500");
    }

    #[test]
    fn a_prompt_has_no_more_tokens_than_bytes_and_what_frames_it() {
        let rule = json!({ "per": "prompt_token", "tokens": 1, "most": 7000 });
        check(rule.clone(), json!({ "prompt": "жаба" }), "40", "2"); // 8 + 16 + 2 × 8
        // role, content, user and жаба have 23 bytes.
        let talk = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
        check(rule.clone(), talk(json!("жаба")), "63", "6");
        let picture =
            json!([{ "type": "image_url", "image_url": { "url": format!("data:{}", "A".repeat(5000)) } }]);
        // role, content, user, type and image_url, the picture, and the frames.
        check(rule.clone(), talk(picture), "1513", "1452");
        // A text that calls itself a picture is still a text.
        let posing = json!([{ "type": "image_url", "text": "A".repeat(5000) }]);
        check(rule.clone(), talk(posing), "6517", "2703");
        let document =
            json!([{ "type": "file", "file": { "file_data": "data:application/pdf;base64,AAAA" } }]);
        check(rule.clone(), talk(document), "7000", "7000");
        check(rule, json!({ "prompt": "A".repeat(8000) }), "7000", "2000");
    }

    #[test]
    fn a_price_is_rounded_half_up_and_overflow_is_an_error() {
        for (list, percent, expected) in [
            ("0.4", 100, 0),
            ("0.5", 100, 1),
            ("2.5", 100, 3),
            ("10.5", 90, 9),
            ("1", 50, 1),
            ("0.49", 100, 0),
        ] {
            assert_eq!(
                round(list.parse().unwrap(), percent).unwrap().count(),
                expected,
                "{list} at {percent} %"
            );
        }
        assert_eq!(round(Decimal::MAX, 100), Err(PriceError::Overflow));
        assert_eq!(round(Decimal::from(i64::MAX) + Decimal::ONE, 100), Err(PriceError::Overflow));
        let rules: Vec<Rule> =
            serde_json::from_value(json!([{ "per": "request", "tokens": 1_000_000_000 }])).unwrap();
        let (schema, input) = (schema(), json!({}));
        let overflown = sum(&rules, Wanted::new(&schema, &input), |_| Decimal::MAX);
        assert_eq!(overflown, Err(PriceError::Overflow));
    }
}
