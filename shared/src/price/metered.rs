//! What a finished job came to: counted from its files and its input, and by the vendor's word where there is no other.
//!
//! That word is checked: less than nothing, no whole number, nothing where there was something, or more than the input can
//! have come to is not believed, and the ordinary quantity of such an input is counted in its place. Nothing counted here
//! can charge more than was held.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::{Decimal, prelude::FromPrimitive};
use serde_json::{Value, json};

use super::{
    Meter, PriceError,
    quote::{Range, Wanted, decimal, ranges, round, sum},
    rule::Tariff,
};
use crate::{billing::Tokens, job::Output};

/// Most tokens of a conversation that any vendor's model takes, several times over: more is no number to believe.
const TOKENS_ABSURD: i64 = 20_000_000;
/// Longest film or recording that is believed, whether its header or a vendor says so, in seconds: a day.
const SECONDS_ABSURD: i64 = 86_400;
/// Vendors count stop words and the frames of tool calls into an answer's tokens, beyond the limit that was asked for.
const COMPLETION_SLACK: i64 = 64;

/// What was counted, by meter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metered {
    counted: BTreeMap<Meter, Decimal>,
    rejected: BTreeSet<Meter>,
}

/// What is known of each meter before the job ran, from all rules that it matters to.
#[derive(Debug, Default)]
pub struct Expected(BTreeMap<Meter, Range>);

/// What a job is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// At most what was held.
    pub tokens: Tokens,
    /// It would have been more.
    pub is_capped: bool,
}

impl Expected {
    /// Adds the meters of `rules`; those that are known already stay.
    pub fn with<T: Tariff>(mut self, rules: &[T], wanted: Wanted<'_>) -> Self {
        // An input that no rule fits any more was accepted by older ones; it has nothing to expect.
        for (meter, range) in ranges(rules, wanted).unwrap_or_default() {
            self.0.entry(meter).or_insert(range);
        }
        self
    }
}

impl Metered {
    /// Counts a result.
    pub fn count(wanted: Wanted<'_>, output: &Output, expected: &Expected) -> Self {
        let mut metered = Self::default();
        metered.counted.insert(Meter::Request, Decimal::ONE);
        if let Some(characters) = wanted.characters() {
            metered.counted.insert(Meter::Character, characters.into());
        }
        metered.count_files(output);
        let usage = |name| output.usage.as_ref().and_then(|usage| usage.get(name));
        let most = |meter| expected.0.get(&meter).map(|range| range.most);
        let absurd = Decimal::from(TOKENS_ABSURD);
        let read = Claim {
            claimed: usage("prompt_tokens"),
            is_whole: true,
            is_something: wanted.is_read(),
            most: most(Meter::PromptToken).unwrap_or(absurd),
        };
        metered.believe(Meter::PromptToken, &read);
        let written = Claim {
            claimed: usage("completion_tokens"),
            is_whole: true,
            is_something: output.text.as_ref().is_some_and(|text| !text.is_empty()),
            most: most(Meter::CompletionToken).map_or(absurd, |most| most + Decimal::from(COMPLETION_SLACK)),
        };
        metered.believe(Meter::CompletionToken, &written);
        if !metered.counted.contains_key(&Meter::Second) {
            let heard = Claim {
                claimed: usage("seconds"),
                is_whole: false,
                is_something: false,
                most: most(Meter::Second).unwrap_or(SECONDS_ABSURD.into()),
            };
            metered.believe(Meter::Second, &heard);
        }
        for (meter, range) in &expected.0 {
            if !metered.counted.contains_key(meter) {
                metered.rejected.insert(*meter);
                metered.counted.insert(*meter, range.expected.normalize());
            }
        }
        metered
    }

    /// How much of `meter` there was; nothing where it was not counted.
    pub fn quantity(&self, meter: Meter) -> Decimal {
        self.counted.get(&meter).copied().unwrap_or_default()
    }

    /// Meters whose count was missing or not believed.
    pub fn rejected(&self) -> impl Iterator<Item = Meter> {
        self.rejected.iter().copied()
    }

    /// As it is kept with the job: exact decimals by meter, and which of them are only `estimated`.
    pub fn to_json(&self) -> Value {
        let mut counted: serde_json::Map<_, _> = self
            .counted
            .iter()
            .map(|(meter, quantity)| (meter.word().to_owned(), json!(quantity.to_string())))
            .collect();
        let estimated: Vec<_> =
            self.rejected.iter().filter(|meter| self.counted.contains_key(meter)).collect();
        if !estimated.is_empty() {
            counted.insert("estimated".into(), json!(estimated));
        }
        counted.into()
    }

    fn count_files(&mut self, output: &Output) {
        let pictures: Vec<_> =
            output.files.iter().filter(|file| file.mime_type.starts_with("image/")).collect();
        if !pictures.is_empty() {
            self.counted.insert(Meter::Image, pictures.len().into());
        }
        let pixels: Option<i64> =
            pictures.iter().map(|file| i64::from(file.width?).checked_mul(file.height?.into())).sum();
        if let Some(pixels) = pixels.filter(|pixels| *pixels > 0) {
            self.counted.insert(Meter::Megapixel, Decimal::new(pixels, 6).normalize());
        }
        let seconds: Decimal = output
            .files
            .iter()
            .filter_map(|file| Decimal::from_f64(file.duration_seconds?))
            .filter(|seconds| (Decimal::ZERO..=SECONDS_ABSURD.into()).contains(seconds))
            .map(|seconds| seconds.round_dp(3))
            .sum();
        if seconds > Decimal::ZERO {
            self.counted.insert(Meter::Second, seconds.normalize());
        }
    }

    /// Takes a vendor's word, or remembers that it was none to take.
    fn believe(&mut self, meter: Meter, claim: &Claim<'_>) {
        let Some(claimed) = claim.claimed.filter(|value| !value.is_null()) else { return };
        match decimal(claimed).filter(|quantity| claim.is_credible(*quantity)) {
            Some(quantity) => drop(self.counted.insert(meter, quantity.normalize())),
            None => drop(self.rejected.insert(meter)),
        }
    }
}

/// What a vendor says, and what is known of it otherwise.
struct Claim<'a> {
    claimed: Option<&'a Value>,
    is_whole: bool,
    /// It cannot have been nothing.
    is_something: bool,
    most: Decimal,
}

impl Claim<'_> {
    fn is_credible(&self, quantity: Decimal) -> bool {
        let floor_kept = quantity > Decimal::ZERO || (quantity.is_zero() && !self.is_something);
        floor_kept && quantity <= self.most && (quantity.is_integer() || !self.is_whole)
    }
}

/// What was counted by these rules, for an account that pays `percent`: never more than was `held`.
///
/// # Errors
/// When no rule matches or the sum is beyond all bounds, which checked rules do not allow.
pub fn charge<T: Tariff>(
    rules: &[T],
    wanted: Wanted<'_>,
    metered: &Metered,
    percent: i16,
    held: Tokens,
) -> Result<Charge, PriceError> {
    let ranges = ranges(rules, wanted)?;
    // A film of five seconds may come out some frames longer: what was asked for is what is paid.
    let paid = |meter| {
        let most = ranges.get(&meter).map_or(Decimal::ZERO, |range| range.most);
        metered.quantity(meter).min(most)
    };
    let tokens = round(sum(rules, wanted, paid)?, percent)?;
    Ok(Charge { tokens: tokens.min(held), is_capped: tokens > held })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{job::StoredFile, price::Rule};

    fn rules() -> Vec<Rule> {
        serde_json::from_value(json!([
            { "per": "prompt_token", "tokens": "0.5", "most": 1000 },
            { "per": "completion_token", "tokens": 2, "most": 200, "typical": 50 },
        ]))
        .unwrap()
    }

    fn output(usage: Value) -> Output {
        Output { text: Some("hello".into()), usage: Some(usage), ..Output::default() }
    }

    fn tokens(count: i64) -> Tokens {
        Tokens::new(count).unwrap()
    }

    /// Counts a chat of "0123456789" (10 bytes; 3 tokens expected) and charges it at `percent`.
    fn check(usage: Value, percent: i16, charged: i64, rejected: &[Meter]) {
        let (schema, input) = (json!({}), json!({ "prompt": "0123456789", "max_tokens": 100 }));
        let wanted = Wanted::new(&schema, &input);
        let expected = Expected::default().with(&rules(), wanted);
        let metered = Metered::count(wanted, &output(usage.clone()), &expected);
        assert_eq!(metered.rejected().collect::<Vec<_>>(), rejected, "{usage}");
        let charge = charge(&rules(), wanted, &metered, percent, tokens(300)).unwrap();
        assert_eq!((charge.tokens.count(), charge.is_capped), (charged, false), "{usage}");
    }

    #[test]
    fn a_believable_count_is_charged_and_rounded_once_after_the_discount() {
        check(json!({ "prompt_tokens": 7, "completion_tokens": 20 }), 100, 44, &[]); // 3.5 + 40
        check(json!({ "prompt_tokens": 7, "completion_tokens": 20 }), 90, 39, &[]); // 39.15
        check(json!({ "prompt_tokens": 7.0, "completion_tokens": 21.0 }), 100, 46, &[]); // 45.5, half up
        check(json!({ "prompt_tokens": 8, "completion_tokens": 100 }), 1, 2, &[]); // 2.04
        // A stop word beyond the limit is believed, and not paid.
        check(json!({ "prompt_tokens": 8, "completion_tokens": 101 }), 100, 204, &[]);
    }

    #[test]
    fn a_count_that_cannot_be_is_replaced_by_what_is_ordinary() {
        use Meter::{CompletionToken, PromptToken};
        let good = 20;
        for bad in
            [json!(-5), json!(2.5), json!(1e30), json!("7"), json!(0), json!(43), json!(null), json!([1])]
        {
            // 10 bytes, 16 for the frame and 8 for each of two messages make 42.
            check(json!({ "prompt_tokens": bad, "completion_tokens": good }), 100, 42, &[PromptToken]); // 1.5 + 40
        }
        for bad in [json!(-1), json!(0), json!(165), json!(u64::MAX)] {
            check(json!({ "prompt_tokens": 6, "completion_tokens": bad }), 100, 103, &[CompletionToken]); // 3 + 2 × 50
        }
        check(json!({}), 100, 102, &[PromptToken, CompletionToken]);
        check(json!("none"), 100, 102, &[PromptToken, CompletionToken]);
    }

    #[test]
    fn a_charge_never_exceeds_the_hold() {
        let (schema, input) = (json!({}), json!({ "prompt": "0123456789" }));
        let wanted = Wanted::new(&schema, &input);
        let expected = Expected::default().with(&rules(), wanted);
        let usage = json!({ "prompt_tokens": 10, "completion_tokens": 200 });
        let metered = Metered::count(wanted, &output(usage), &expected);
        let charge = charge(&rules(), wanted, &metered, 100, tokens(50)).unwrap();
        assert_eq!(charge, Charge { tokens: tokens(50), is_capped: true });
    }

    #[test]
    fn files_are_counted_as_they_are_and_kept_exactly() {
        let file = |mime: &str, seconds: Option<f64>| StoredFile {
            storage_key: "k".into(),
            preview_key: None,
            mime_type: mime.into(),
            size_bytes: 1,
            width: Some(1024),
            height: Some(768),
            duration_seconds: seconds,
        };
        let (schema, input) = (json!({}), json!({ "text": "жаба" }));
        let wanted = Wanted::new(&schema, &input);
        let pictures =
            Output { files: vec![file("image/png", None), file("image/png", None)], ..Output::default() };
        let metered = Metered::count(wanted, &pictures, &Expected::default());
        assert_eq!(
            metered.to_json(),
            json!({ "request": "1", "image": "2", "megapixel": "1.572864", "character": "4" })
        );
        let film = Output { files: vec![file("video/mp4", Some(5.041_66))], ..Output::default() };
        let metered = Metered::count(wanted, &film, &Expected::default());
        assert_eq!(metered.quantity(Meter::Second).to_string(), "5.042");
        let transcript = Output { usage: Some(json!({ "seconds": 27.5 })), ..Output::default() };
        let metered = Metered::count(wanted, &transcript, &Expected::default());
        assert_eq!(metered.quantity(Meter::Second).to_string(), "27.5");
    }
}
