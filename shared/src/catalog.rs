//! What can be generated: models, their tasks, prices, routes and the JSON Schema of each input; and the terms it is sold on.
//!
//! The catalogue is data a person can read and edit, in `catalog/`; this module reads and checks it at start, so that a
//! mistake in it stops the process with a message instead of failing a customer's job. A deployment may have a folder of files
//! of its own, which count before those in the binary. A model's schema is its task's schema, narrowed by the model.
//! Deliberately absent: how a vendor is spoken to.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, anyhow, bail, ensure};
use jsonschema::{Validator, error::ValidationErrorKind};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    config,
    job::Medium,
    price::{self, Rule, Wanted},
};

mod list;
mod mapping;
mod route;
mod terms;

use list::{Adapters, List};

pub use mapping::Mapping;
pub use route::Route;
pub use terms::{Plan, PriceGroup, Subscribers, Tier};

/// Name and text of every file, inside the binary.
pub const FILES: [(&str, &str); 6] = [
    ("catalog/text.toml", include_str!("../../catalog/text.toml")),
    ("catalog/image.toml", include_str!("../../catalog/image.toml")),
    ("catalog/video.toml", include_str!("../../catalog/video.toml")),
    ("catalog/audio.toml", include_str!("../../catalog/audio.toml")),
    ("catalog/plans.toml", include_str!("../../catalog/plans.toml")),
    ("catalog/tiers.toml", include_str!("../../catalog/tiers.toml")),
];

/// The files that are not of models, in whichever folder.
const PLANS_FILE: &str = "plans.toml";
const TIERS_FILE: &str = "tiers.toml";

/// The input schema of every task, inside the binary.
const TASK_SCHEMAS: [(&str, &str); 19] = [
    ("text.chat", include_str!("../../catalog/tasks/text.chat.json")),
    ("text.embed", include_str!("../../catalog/tasks/text.embed.json")),
    ("text.moderate", include_str!("../../catalog/tasks/text.moderate.json")),
    ("image.generate", include_str!("../../catalog/tasks/image.generate.json")),
    ("image.edit", include_str!("../../catalog/tasks/image.edit.json")),
    ("image.upscale", include_str!("../../catalog/tasks/image.upscale.json")),
    ("image.remove_background", include_str!("../../catalog/tasks/image.remove_background.json")),
    ("image.replace_background", include_str!("../../catalog/tasks/image.replace_background.json")),
    ("image.erase", include_str!("../../catalog/tasks/image.erase.json")),
    ("image.vectorize", include_str!("../../catalog/tasks/image.vectorize.json")),
    ("image.face_swap", include_str!("../../catalog/tasks/image.face_swap.json")),
    ("image.describe", include_str!("../../catalog/tasks/image.describe.json")),
    ("image.blend", include_str!("../../catalog/tasks/image.blend.json")),
    ("image.action", include_str!("../../catalog/tasks/image.action.json")),
    ("video.generate", include_str!("../../catalog/tasks/video.generate.json")),
    ("video.extend", include_str!("../../catalog/tasks/video.extend.json")),
    ("audio.speech", include_str!("../../catalog/tasks/audio.speech.json")),
    ("audio.transcribe", include_str!("../../catalog/tasks/audio.transcribe.json")),
    ("audio.music", include_str!("../../catalog/tasks/audio.music.json")),
];

/// JSON Schema keyword by which a task's schema marks a field as a file.
const FILE_KEYWORD: &str = "contentMediaType";

/// Longest time a job may take, whatever its model.
pub const DEADLINE_SECS_MAX: u64 = 24 * 60 * 60;
/// Longest public name of a model, in characters.
const ID_LEN_MAX: usize = 100;

/// Everything on offer.
#[derive(Debug)]
pub struct Catalog {
    models: Vec<Model>,
    withdrawn: Vec<Model>,
    terms: terms::Terms,
}

/// One model under our public name.
#[derive(Debug)]
pub struct Model {
    /// Public name, such as `nano-banana`; never changes.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Task word, such as `image.generate`.
    pub task: String,
    /// The task's medium, which is also its worker pool.
    pub medium: Medium,
    /// Its price as the files have it. What counts is the version in the database, see [`price::Prices`].
    pub rules: Vec<Rule>,
    /// How long a job may take, unless it asks for less.
    pub deadline: Duration,
    /// When the same input gives the same answer again.
    pub cacheable: Cacheable,
    /// Where it can be made, in the order of the file; for every input one at least.
    pub routes: Vec<Route>,
    /// JSON Schema of the input, published with the model.
    pub schema: Value,
    /// Fields of the input that name files.
    pub file_fields: Vec<String>,
    validator: Validator,
}

/// When a request may be answered from the cache of its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cacheable {
    /// Each answer is new.
    #[default]
    Never,
    /// With `temperature` 0.
    AtZeroTemperature,
    /// The same input always gives the same answer.
    Always,
}

/// What is wrong with an input, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidInput {
    /// Path of the field, such as `input.prompt`.
    pub param: String,
    /// What is wrong, without the value itself.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    id: String,
    name: String,
    task: String,
    /// Short for a price per request.
    price_tokens: Option<u64>,
    #[serde(default)]
    price: Vec<Rule>,
    deadline_seconds: u64,
    #[serde(default)]
    cacheable: Cacheable,
    route: Vec<route::Entry>,
    /// Narrower words for some of the task's fields.
    #[serde(default)]
    input: Map<String, Value>,
    /// Fields of the task that this model does not know.
    #[serde(default)]
    omit: Vec<String>,
    /// Fields that this model needs, beside those that the task does.
    #[serde(default)]
    require: Vec<String>,
}

impl Catalog {
    /// Reads the catalogue built into the binary, and over it the folder that `KILN_CATALOG` names.
    ///
    /// # Errors
    /// When a file of it is wrong; the message says which and how.
    pub fn load() -> anyhow::Result<Self> {
        Self::load_with(config::catalog_dir().as_deref())
    }

    /// As [`Catalog::load`], with the folder given.
    ///
    /// # Errors
    /// As [`Catalog::load`], and when the folder cannot be read.
    pub fn load_with(dir: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = dir else { return Self::read(&FILES) };
        let reading = || format!("read the folder {}, which KILN_CATALOG names", dir.display());
        let own = list::files_in(dir).with_context(reading)?;
        let own: Vec<_> = own.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        let catalog = Self::read_with(&FILES, &own).with_context(reading)?;
        let (models, withdrawn) = (catalog.models.len(), catalog.withdrawn.len());
        tracing::info!(folder = %dir.display(), files = own.len(), models, withdrawn, "catalogue is read");
        Ok(catalog)
    }

    /// Reads a catalogue from files of these names and texts.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn read(files: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::read_with(files, &[])
    }

    /// Reads a catalogue from files of these names and texts, and over it those of a deployment's own: a model there takes the place
    /// of the one with its id, and `plans.toml` and `tiers.toml` that of the whole file.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn read_with(built_in: &[(&str, &str)], own: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut list = List::read(built_in, |_| Ok(()))?;
        let adapters = Adapters::of(&list);
        list.overlay(List::read(own, |model| adapters.check(model))?);
        let (models, withdrawn) = list.part()?;
        let find = |name: &str| {
            let found = own.iter().chain(built_in).find(|(file, _)| base_name(file) == name);
            found.copied().with_context(|| format!("{name} is missing"))
        };
        let (plans, tiers) = (find(PLANS_FILE)?, find(TIERS_FILE)?);
        let terms = terms::Terms::read(plans, tiers)?;
        for free in &terms.subscribers.models {
            let is_offered = models.iter().any(|model| model.id == *free);
            ensure!(is_offered, "{} gives subscribers {free:?}, which is no model on offer", plans.0);
        }
        Ok(Self { models, withdrawn, terms })
    }

    /// Every model that is on offer, in the catalogue's order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model called `id`, if it is on offer.
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == id)
    }

    /// The model called `id`, on offer or withdrawn: that of a job which was accepted.
    pub fn known(&self, id: &str) -> Option<&Model> {
        self.models.iter().chain(&self.withdrawn).find(|model| model.id == id)
    }

    /// Every provider that a model has a route by.
    pub fn providers(&self) -> BTreeSet<&str> {
        let routes = self.models.iter().flat_map(|model| &model.routes);
        routes.map(|route| route.provider.as_str()).collect()
    }

    /// Everything that is sold, in the files' order.
    pub fn plans(&self) -> &[Plan] {
        &self.terms.plans
    }

    /// Every tier, in the files' order.
    pub fn tiers(&self) -> &[Tier] {
        &self.terms.tiers
    }

    /// Every price group, in the files' order.
    pub fn price_groups(&self) -> &[PriceGroup] {
        &self.terms.price_groups
    }

    /// What subscribers get when they have no tokens left.
    pub fn subscribers(&self) -> &Subscribers {
        &self.terms.subscribers
    }

    /// What a token is worth to us in USD, for reports of margin.
    pub fn token_usd(&self) -> Decimal {
        self.terms.token_usd
    }

    /// Below this an account is told, unless it has a threshold of its own.
    pub fn low_balance_tokens(&self) -> i64 {
        self.terms.low_balance_tokens
    }
}

impl ModelEntry {
    /// Checks what nothing else does.
    fn check(&self) -> anyhow::Result<()> {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let begins_well = self.id.starts_with(|c: char| c.is_ascii_alphanumeric());
        ensure!(
            begins_well && self.id.len() <= ID_LEN_MAX && self.id.bytes().all(is_plain),
            "id is small letters, digits, `.`, `_`, `-`, at most {ID_LEN_MAX}, and begins with one of the first two"
        );
        ensure!(!self.name.trim().is_empty(), "name is empty");
        ensure!(
            (1..=DEADLINE_SECS_MAX).contains(&self.deadline_seconds),
            "deadline_seconds is between 1 and {DEADLINE_SECS_MAX}"
        );
        Ok(())
    }
}

impl Model {
    fn read(entry: ModelEntry) -> anyhow::Result<Self> {
        entry.check()?;
        let Some((_, schema)) = TASK_SCHEMAS.iter().find(|(task, _)| *task == entry.task) else {
            bail!("task {} has no schema in catalog/tasks", entry.task);
        };
        let task_schema =
            serde_json::from_str(schema).with_context(|| format!("read schema of {}", entry.task))?;
        let schema = narrow(task_schema, entry.input, &entry.omit, entry.require)?;
        let validator = jsonschema::validator_for(&schema).map_err(|error| anyhow!("{error}"))?;
        let rules = match (entry.price_tokens, entry.price) {
            (Some(tokens), rules) if rules.is_empty() => vec![Rule::per_request(tokens)],
            (None, rules) if rules.is_empty() => {
                bail!("it has no price: set price_tokens, or [[model.price]]")
            }
            (None, rules) => rules,
            (Some(_), _) => bail!("it has both price_tokens and price"),
        };
        price::check(&rules, &schema).map_err(|why| anyhow!("price: {why}"))?;
        let routes = route::read(entry.route, &schema)?;
        Ok(Self {
            medium: Medium::of_task(&entry.task)
                .with_context(|| format!("task {} has no medium", entry.task))?,
            rules,
            deadline: Duration::from_secs(entry.deadline_seconds),
            cacheable: entry.cacheable,
            routes,
            file_fields: file_fields(&schema),
            id: entry.id,
            name: entry.name,
            task: entry.task,
            schema,
            validator,
        })
    }

    /// An input, with what this model means where it says nothing.
    pub fn wanted<'a>(&'a self, input: &'a Value) -> Wanted<'a> {
        Wanted::new(&self.schema, input)
    }

    /// The route by this adapter to this id of the vendor's.
    pub fn route(&self, provider: &str, upstream_model: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.provider == provider && route.upstream_model == upstream_model)
    }

    /// Media type of the file that a field of the input names, such as `image/*`; `None` where it names none.
    pub fn media_type(&self, field: &str) -> Option<&str> {
        self.schema["properties"][field][FILE_KEYWORD].as_str()
    }

    /// Whether this input gives the same answer again. A file of the web may change, so one that names such a file does not.
    pub fn is_cacheable(&self, input: &Value) -> bool {
        let from_web = |field: &String| {
            input.get(field).and_then(Value::as_str).is_some_and(|source| source.starts_with("http"))
        };
        let repeats = match self.cacheable {
            Cacheable::Never => false,
            Cacheable::AtZeroTemperature => input.get("temperature").and_then(Value::as_f64) == Some(0.0),
            Cacheable::Always => true,
        };
        repeats && !self.file_fields.iter().any(from_web)
    }

    /// Checks an input against the schema; reports the first thing wrong.
    ///
    /// # Errors
    /// Names the field and what is wrong with it, never the value, which may be private and long.
    pub fn check(&self, input: &Value) -> Result<(), InvalidInput> {
        let Err(error) = self.validator.validate(input) else { return Ok(()) };
        let at = error.instance_path().as_str().replace('/', ".");
        let param = |field: &str| format!("input{at}.{field}");
        Err(match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let field = unexpected.first().map_or("?", String::as_str);
                InvalidInput {
                    param: param(field),
                    message: format!("{} does not know the field {field:?}", self.id),
                }
            }
            ValidationErrorKind::Required { property } => {
                let field = property.as_str().unwrap_or("?");
                InvalidInput {
                    param: param(field),
                    message: format!("{} needs the field {field:?}", self.id),
                }
            }
            ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. }
                if at.is_empty() =>
            {
                let needed = self.schema["x-needs"].as_str().unwrap_or("one of several fields");
                InvalidInput { param: "input".into(), message: format!("{} needs {needed}", self.id) }
            }
            _ => {
                let param = format!("input{at}");
                let message = error.masked_with(param.clone()).to_string();
                InvalidInput { param, message }
            }
        })
    }
}

/// Whether a file is not of models.
fn is_of_terms(file: &str) -> bool {
    [PLANS_FILE, TIERS_FILE].contains(&base_name(file))
}

/// A file's name without its folders.
fn base_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// Puts a model's own words over its task's schema. A field that the model does not know is no longer needed either.
fn narrow(
    mut schema: Value,
    words: Map<String, Value>,
    omit: &[String],
    require: Vec<String>,
) -> anyhow::Result<Value> {
    let properties = schema["properties"].as_object_mut().context("the schema has no properties")?;
    for field in omit {
        ensure!(properties.remove(field).is_some(), "omit names {field:?}, which the task does not have");
    }
    for (field, word) in words {
        let property = properties
            .get_mut(&field)
            .and_then(Value::as_object_mut)
            .with_context(|| format!("input names {field:?}, which the task does not have"))?;
        property.extend(word.as_object().context("each word under input is a table")?.clone());
    }
    for field in &require {
        ensure!(properties.contains_key(field), "require names {field:?}, which the model does not have");
    }
    let mut needed: Vec<Value> = schema["required"].as_array().cloned().unwrap_or_default();
    needed.retain(|field| !omit.iter().any(|omitted| field == omitted));
    for field in require.into_iter().map(Value::from) {
        if !needed.contains(&field) {
            needed.push(field);
        }
    }
    if !needed.is_empty() || schema.get("required").is_some() {
        schema["required"] = needed.into();
    }
    Ok(schema)
}

fn file_fields(schema: &Value) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    properties
        .iter()
        .filter(|(_, field)| field.get(FILE_KEYWORD).is_some())
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(model: &str, input: &Value) -> Option<(String, String)> {
        let catalog = Catalog::load().expect("the catalogue is right");
        let model = catalog.get(model).expect("the model is listed");
        model.check(input).err().map(|error| (error.param, error.message))
    }

    #[test]
    fn a_good_input_of_each_task_is_accepted() {
        for (model, input) in [
            ("gpt-4o", json!({"prompt": "hello"})),
            ("gpt-4o", json!({"messages": [{"role": "user", "content": "hello"}], "temperature": 0.2})),
            ("nano-banana", json!({"prompt": "a fox", "aspect_ratio": "16:9"})),
            ("kling", json!({"prompt": "a fox runs", "seconds": 5})),
            ("hailuo", json!({"prompt": "a fox runs", "seconds": 6})),
            ("tts-1", json!({"text": "hello", "voice": "alloy"})),
            ("whisper-1", json!({"audio": "https://example.com/a.mp3"})),
            ("vectorize", json!({"image": "data:image/png;base64,AAAA"})),
            ("kling-effects", json!({"effect": "squish", "image": "https://example.com/a.png"})),
            ("midjourney", json!({"prompt": "a fox", "aspect_ratio": "21:9"})),
            (
                "midjourney-video-extend",
                json!({"job": "job_0123456789abcdef0123456789abcdef", "motion": "low"}),
            ),
            ("suno", json!({"lyrics": "la la", "style": "folk"})),
        ] {
            assert_eq!(check(model, &input), None, "{model} {input}");
        }
    }

    #[test]
    fn a_bad_input_is_named_but_not_repeated() {
        let (param, message) = check("kling", &json!({"prompt": "x".repeat(60_000)})).expect("too long");
        assert_eq!(param, "input.prompt");
        assert!(message.len() < 200, "{message}");
        assert_eq!(check("kling", &json!({"prompt": "a", "colour": 1})).expect("unknown").0, "input.colour");
        assert_eq!(
            check("kling", &json!({"prompt": "a", "seconds": "5"})).expect("wrong type").0,
            "input.seconds"
        );
        assert_eq!(check("tts-1", &json!({"voice": "alloy"})).expect("missing").0, "input.text");
        assert_eq!(check("kling-effects", &json!({"effect": "hug"})).expect("missing").0, "input.image");
        assert_eq!(check("gpt-4o", &json!({})).expect("neither").0, "input");
        assert_eq!(check("gpt-4o", &json!("hello")).expect("not an object").0, "input");
    }
}
