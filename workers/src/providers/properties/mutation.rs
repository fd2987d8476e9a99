//! Good JSON made odd: fields that are gone, doubled, of another type, out of all range or nested without end.
//!
//! The result is text, since much of what is odd about JSON, such as a field that is there twice, no parsed value can hold.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};

/// One thing done to one value of a document.
#[derive(Debug, Clone)]
pub enum Change {
    Drop,
    Replace(String),
    /// The field is there a second time, with another value.
    Twice(String),
    /// In a list of its own.
    Wrap,
    /// Its JSON as a string.
    Quote,
}

/// Which values are changed, and how.
pub type Changes = Vec<(Index, Change)>;

/// A few changes, to be made by [`mutate`]; among the words that replace others are `words`.
pub fn changes(words: &'static [&'static str]) -> impl Strategy<Value = Changes> {
    let change = prop_oneof![
        Just(Change::Drop),
        odd(words).prop_map(Change::Replace),
        odd(words).prop_map(Change::Twice),
        Just(Change::Wrap),
        Just(Change::Quote),
    ];
    vec((any::<Index>(), change), 1..4)
}

/// JSON that nobody expects. What no parser of ours reads whole, such as `1e400`, half a surrogate pair or a nesting of hundreds, is not among it: adapters
/// pass over fields that they do not know, and would take such an answer where the tests here read none.
fn odd(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let fixed = [
        "null",
        "true",
        "false",
        "\"\"",
        "{}",
        "[]",
        "0",
        "-1",
        "7",
        "1.5",
        "1203",
        "1301",
        "5002",
        "18446744073709551615",
        "123456789012345678901234567890",
        "1e308",
        "\"\\u0000\"",
        "\"\\ud83e\\udd8a\"",
        "\"../../etc\"",
        "\"a/b?c#d\"",
        "NaN",
    ];
    prop_oneof![
        4 => proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        3 => proptest::sample::select(words).prop_map(|word| json!(word).to_string()),
        1 => any::<String>().prop_map(|text| json!(text).to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => (1..100_usize).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth))),
    ]
}

/// The document with the changes made, none of them to the whole of it.
pub fn mutate(good: &Value, changes: &Changes) -> String {
    let inner = count(good) - 1;
    let changes = changes.iter().map(|(index, change)| (1 + index.index(inner), change)).collect();
    write(good, &changes, &mut 0).concat()
}

/// The documents of a list with the changes made, whole ones among them: each as its text.
pub fn mutate_each(good: &[Value], changes: &Changes) -> Vec<String> {
    let all: usize = good.iter().map(count).sum();
    let changes = changes.iter().map(|(index, change)| (index.index(all), change)).collect();
    let mut number = 0;
    good.iter().flat_map(|each| write(each, &changes, &mut number)).collect()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The texts of one value: none when it was dropped, two when it is there twice.
fn write(value: &Value, changes: &BTreeMap<usize, &Change>, number: &mut usize) -> Vec<String> {
    let change = changes.get(number);
    *number += 1;
    let text = match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().flat_map(|item| write(item, changes, number)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .flat_map(|(name, value)| {
                    let name = json!(name);
                    write(value, changes, number).into_iter().map(move |text| format!("{name}:{text}"))
                })
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        plain => plain.to_string(),
    };
    match change {
        None => vec![text],
        Some(Change::Drop) => vec![],
        Some(Change::Replace(other)) => vec![other.clone()],
        Some(Change::Twice(other)) => vec![text, other.clone()],
        Some(Change::Wrap) => vec![format!("[{text}]")],
        Some(Change::Quote) => vec![json!(text).to_string()],
    }
}
