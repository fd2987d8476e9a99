//! How a route puts a model's input into a vendor's own words, for vendors that run many models, each with names of its own.
//!
//! Three things and no more: a name for a field, words for the values of an enumeration, and constants. What cannot be said
//! so needs an adapter. Every field that the model knows must have a name, so that nothing a customer asks for is dropped
//! unseen. Deliberately absent: how a file is sent, which is the adapter's business.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a vendor's model is sent; empty for vendors whose adapter knows all their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping {
    fields: Vec<Field>,
    fixed: Map<String, Value>,
}

/// One field of the input under the vendor's name.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    ours: String,
    theirs: String,
    /// The vendor's word for each value, where its words are not ours.
    words: BTreeMap<String, Value>,
    /// What an input means that leaves the field out. It is sent, for the vendor may mean something else.
    default: Option<Value>,
}

/// What stands behind a field in `[model.route.input]`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Target {
    /// The vendor's name; values stay as they are.
    Name(String),
    /// The vendor's name, and its word for each value.
    Words(Words),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Words {
    name: String,
    words: BTreeMap<String, Value>,
}

impl Mapping {
    /// Reads the tables `input` and `fixed` of a route for a model with this schema.
    ///
    /// # Errors
    /// Names the field that the model does not have, or that has no name, or no word for one of its values.
    pub(super) fn read(
        mut input: BTreeMap<String, Target>,
        fixed: Map<String, Value>,
        schema: &Value,
    ) -> anyhow::Result<Self> {
        if input.is_empty() && fixed.is_empty() {
            return Ok(Self::default());
        }
        let properties = schema["properties"].as_object().context("the schema has no properties")?;
        let mut fields = Vec::new();
        for (ours, property) in properties {
            match input.remove(ours) {
                Some(target) => fields.push(Field::read(ours, target, property)?),
                // A constant says nothing that the vendor does not know already.
                None => ensure!(property.get("const").is_some(), "input has no name for {ours:?}"),
            }
        }
        if let Some(stranger) = input.keys().next() {
            anyhow::bail!("input names {stranger:?}, which the model does not have");
        }
        let mut theirs = BTreeSet::new();
        for name in fields.iter().map(|field| &field.theirs).chain(fixed.keys()) {
            ensure!(theirs.insert(name), "{name:?} is sent twice");
        }
        Ok(Self { fields, fixed })
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.fixed.is_empty()
    }

    /// An input in the vendor's words. `file` gives what is sent for a field that names a file.
    pub fn apply(&self, input: &Value, file: impl Fn(&str) -> Option<String>) -> Map<String, Value> {
        let mut sent = self.fixed.clone();
        for field in &self.fields {
            let value = match file(&field.ours) {
                Some(file) => Some(Value::String(file)),
                None => input.get(&field.ours).or(field.default.as_ref()).map(|value| field.word(value)),
            };
            if let Some(value) = value {
                sent.insert(field.theirs.clone(), value);
            }
        }
        sent
    }
}

impl Field {
    fn read(ours: &str, target: Target, property: &Value) -> anyhow::Result<Self> {
        let (theirs, words) = match target {
            Target::Name(name) => (name, BTreeMap::new()),
            Target::Words(Words { name, words }) => {
                let values = property["enum"].as_array().with_context(|| {
                    format!("input has words for {ours:?}, whose values are not listed by `enum`")
                })?;
                let values: BTreeSet<_> = values.iter().map(key).collect();
                let known: BTreeSet<_> = words.keys().cloned().collect();
                if let Some(value) = values.symmetric_difference(&known).next() {
                    anyhow::bail!("the words for {ours:?} and its values differ in {value:?}");
                }
                (name, words)
            }
        };
        ensure!(!theirs.is_empty(), "input has an empty name for {ours:?}");
        Ok(Self { ours: ours.to_owned(), theirs, words, default: property.get("default").cloned() })
    }

    fn word(&self, value: &Value) -> Value {
        self.words.get(&key(value)).unwrap_or(value).clone()
    }
}

/// A value as the key of a table: a text as it is, a number as it is written.
fn key(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Tables {
        #[serde(default)]
        input: BTreeMap<String, Target>,
        #[serde(default)]
        fixed: Map<String, Value>,
    }

    fn read(text: &str) -> anyhow::Result<Mapping> {
        let tables: Tables = toml::from_str(text)?;
        let schema = json!({ "properties": {
            "image": { "type": "string", "contentMediaType": "image/*" },
            "seconds": { "enum": [5, 10], "default": 5 },
            "prompt": { "type": "string" },
            "consent": { "const": true },
        }});
        Mapping::read(tables.input, tables.fixed, &schema)
    }

    const GOOD: &str = r#"
        [input]
        image = "start_image"
        prompt = "text"
        seconds = { name = "length", words = { 5 = "short", 10 = "long" } }
        [fixed]
        quality = 90
    "#;

    #[test]
    fn an_input_is_put_into_the_vendors_words() {
        let mapping = read(GOOD).expect("a good mapping");
        let file = |field: &str| (field == "image").then(|| "data:,".to_owned());
        let input = json!({ "image": "file_1", "seconds": 10, "prompt": "a fox", "consent": true });
        let expected = json!({ "start_image": "data:,", "length": "long", "text": "a fox", "quality": 90 });
        assert_eq!(Value::from(mapping.apply(&input, file)), expected);
        // What is left out and has a default is said, what has none is not.
        let expected = json!({ "length": "short", "quality": 90 });
        assert_eq!(Value::from(mapping.apply(&json!({}), |_| None)), expected);
        assert!(read("").expect("none").is_empty() && !mapping.is_empty());
    }

    fn check_refused(from: &str, to: &str, expected: &str) {
        let error = read(&GOOD.replace(from, to)).expect_err(expected).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }

    #[test]
    fn a_mistake_is_named() {
        check_refused(
            "image =",
            "picture = \"a\"\nimage =",
            "names \"picture\", which the model does not have",
        );
        check_refused("prompt = \"text\"", "", "no name for \"prompt\"");
        check_refused("prompt = \"text\"", "prompt = \"\"", "empty name for \"prompt\"");
        check_refused("prompt = \"text\"", "prompt = \"start_image\"", "\"start_image\" is sent twice");
        check_refused("quality", "length", "\"length\" is sent twice");
        check_refused(", 10 = \"long\"", "", "differ in \"10\"");
        check_refused("5 = \"short\"", "5 = \"short\", 7 = \"odd\"", "differ in \"7\"");
        check_refused(
            "prompt = \"text\"",
            "prompt = { name = \"text\", words = { a = \"b\" } }",
            "words for \"prompt\", whose values are not listed",
        );
    }
}
