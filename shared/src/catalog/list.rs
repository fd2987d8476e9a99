//! The models of a catalogue, file by file: those that are built in, and over them those of a deployment's own folder.
//!
//! A model of the folder takes the place of the one that has its id, whole, or stands behind all others. One that is withdrawn is
//! offered no more, and is kept for its open jobs. What an adapter can be asked for is known by the models that are built in, of
//! which each adapter has some: so a model that no adapter makes stops the process instead of failing its jobs. Deliberately
//! absent: changing a part of a model, for then what counts would be written in no place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::{Model, ModelEntry, is_of_terms};
use crate::job::Medium;

/// A file of models.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    #[serde(default)]
    model: Vec<ModelEntry>,
    /// Ids of models that are offered no more, of this file or of another.
    #[serde(default)]
    withdraw: Vec<String>,
}

/// Models in their order, and which of them are withdrawn.
#[derive(Default)]
pub(super) struct List {
    models: Vec<Model>,
    withdrawals: Vec<Withdrawal>,
}

struct Withdrawal {
    file: String,
    model: String,
}

impl List {
    /// Reads files of these names and texts; `check` may refuse a model.
    ///
    /// # Errors
    /// Names the file, the model and what is wrong with it.
    pub(super) fn read(
        files: &[(&str, &str)],
        check: impl Fn(&Model) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut list = Self::default();
        for (file, text) in files.iter().filter(|(file, _)| !is_of_terms(file)) {
            let read: ModelFile = toml::from_str(text).with_context(|| format!("read {file}"))?;
            for entry in read.model {
                let id = entry.id.clone();
                let place = || format!("read model {id} in {file}");
                let model = Model::read(entry).with_context(place)?;
                check(&model).with_context(place)?;
                let is_twice = list.models.iter().any(|known| known.id == id);
                ensure!(!is_twice, "model {id} in {file} is listed twice");
                list.models.push(model);
            }
            let withdrawal = |model| Withdrawal { file: (*file).to_owned(), model };
            list.withdrawals.extend(read.withdraw.into_iter().map(withdrawal));
        }
        Ok(list)
    }

    /// Puts each model of `over` in the place of the one that has its id, or behind all others.
    pub(super) fn overlay(&mut self, over: Self) {
        for model in over.models {
            match self.models.iter().position(|known| known.id == model.id) {
                Some(place) => self.models[place] = model,
                None => self.models.push(model),
            }
        }
        self.withdrawals.extend(over.withdrawals);
    }

    /// The models that are on offer, and those that are withdrawn.
    ///
    /// # Errors
    /// When one is withdrawn that there is not.
    pub(super) fn part(self) -> anyhow::Result<(Vec<Model>, Vec<Model>)> {
        let Self { models, withdrawals } = self;
        for Withdrawal { file, model } in &withdrawals {
            let is_listed = models.iter().any(|listed| listed.id == *model);
            ensure!(is_listed, "withdraw in {file} names {model:?}, which is no model: take it out");
        }
        let is_offered = |model: &Model| withdrawals.iter().all(|withdrawal| withdrawal.model != model.id);
        Ok(models.into_iter().partition(is_offered))
    }
}

/// What each adapter can be asked for, by its name.
pub(super) struct Adapters(BTreeMap<String, Adapter>);

#[derive(Default)]
struct Adapter {
    tasks: BTreeSet<String>,
    /// It runs models of many makers, each with names of its own, which the route says.
    is_of_many: bool,
}

impl Adapters {
    /// What these models ask of them.
    pub(super) fn of(built_in: &List) -> Self {
        let mut adapters: BTreeMap<String, Adapter> = BTreeMap::new();
        for model in &built_in.models {
            for route in &model.routes {
                let adapter = adapters.entry(route.provider.clone()).or_default();
                adapter.tasks.insert(model.task.clone());
                adapter.is_of_many |= !route.mapping.is_empty();
            }
        }
        Self(adapters)
    }

    /// Refuses a model that an adapter of its routes does not make.
    ///
    /// # Errors
    /// Names the route's provider and what to set.
    pub(super) fn check(&self, model: &Model) -> anyhow::Result<()> {
        for route in &model.routes {
            let (provider, task) = (&route.provider, &model.task);
            let adapter = self.0.get(provider).with_context(|| {
                format!("there is no provider {provider:?}: set it to one of {}", joined(self.0.keys()))
            })?;
            if adapter.is_of_many {
                ensure!(model.medium != Medium::Text, "task: {provider} makes files, not {task}");
                ensure!(
                    !route.mapping.is_empty(),
                    "the route by {provider} has no names for its input: set them under [model.route.input]"
                );
            } else {
                let made = joined(&adapter.tasks);
                ensure!(adapter.tasks.contains(task), "task: {provider} makes no {task}; it makes {made}");
                ensure!(
                    route.mapping.is_empty(),
                    "the route by {provider} has input or fixed, which its adapter does not read: take them out"
                );
            }
        }
        Ok(())
    }
}

fn joined<'a>(words: impl IntoIterator<Item = &'a String>) -> String {
    words.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Path and text of every `*.toml` in a folder, in the order of their paths.
///
/// # Errors
/// When the folder or a file of it cannot be read.
pub(super) fn files_in(dir: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            files.push((path.display().to_string(), text));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use crate::{
        catalog::{Catalog, FILES},
        price::Rule,
    };

    /// A file of one chat model by OpenRouter.
    const FOX: &str = r#"
        [[model]]
        id = "fox"
        name = "Fox"
        task = "text.chat"
        price_tokens = 120
        deadline_seconds = 600
        [[model.route]]
        provider = "openrouter"
        upstream_model = "maker/fox-1"
        cost_usd = "0.0003"
    "#;

    fn read(own: &str) -> anyhow::Result<Catalog> {
        Catalog::read_with(&FILES, &[("/own/models.toml", own)])
    }

    fn ids(catalog: &Catalog) -> Vec<&str> {
        catalog.models().iter().map(|model| model.id.as_str()).collect()
    }

    #[test]
    fn a_model_of_the_folder_stands_behind_those_that_are_built_in() {
        let (built_in, catalog) = (Catalog::read(&FILES).unwrap(), read(FOX).unwrap());
        assert_eq!(ids(&catalog), [ids(&built_in), vec!["fox"]].concat());
        assert_eq!(catalog.get("fox").unwrap().routes[0].upstream_model, "maker/fox-1");
        // A folder may have nothing in it, and files of nothing.
        assert_eq!(ids(&read("").unwrap()), ids(&built_in));
        assert_eq!(ids(&Catalog::read_with(&FILES, &[]).unwrap()), ids(&built_in));
    }

    #[test]
    fn a_model_of_the_folder_takes_the_place_of_the_one_with_its_id_whole() {
        let built_in = Catalog::read(&FILES).unwrap();
        assert_eq!(built_in.get("gpt-4o").unwrap().routes.len(), 2);
        let catalog = read(&FOX.replace("\"fox\"", "\"gpt-4o\"")).unwrap();
        assert_eq!(ids(&catalog), ids(&built_in));
        let model = catalog.get("gpt-4o").unwrap();
        assert_eq!((model.name.as_str(), &model.rules[..]), ("Fox", &[Rule::per_request(120)][..]));
        let routes: Vec<_> = model.routes.iter().map(|route| route.upstream_model.as_str()).collect();
        assert_eq!(routes, ["maker/fox-1"]);
    }

    #[test]
    fn a_model_that_is_withdrawn_is_kept_for_its_jobs_alone() {
        let catalog = read(&format!("withdraw = [\"gpt-4\", \"fox\"]\n{FOX}")).unwrap();
        for id in ["gpt-4", "fox"] {
            assert!(catalog.get(id).is_none() && !ids(&catalog).contains(&id), "{id}");
            assert_eq!(catalog.known(id).unwrap().id, id);
        }
        assert!(catalog.get("gpt-4o").is_some() && catalog.known("gpt-4o").is_some());
        assert!(catalog.known("gpt-5").is_none());
    }

    #[test]
    fn terms_of_the_folder_take_the_place_of_those_that_are_built_in() {
        let withdrawn = ("/own/a.toml", "withdraw = [\"gpt-4o-mini\"]");
        let error = Catalog::read_with(&FILES, &[withdrawn]).unwrap_err().to_string();
        assert!(error.contains("catalog/plans.toml gives subscribers \"gpt-4o-mini\""), "{error}");
        let (_, plans) = FILES.iter().find(|(file, _)| file.ends_with("plans.toml")).unwrap();
        let plans = plans.replace("\"gpt-4o-mini\"", "\"gpt-4o\"");
        let own = [withdrawn, ("/own/plans.toml", plans.as_str())];
        assert_eq!(Catalog::read_with(&FILES, &own).unwrap().subscribers().models, ["gpt-4o"]);
        let error = Catalog::read_with(&FILES, &[("/own/tiers.toml", "tiers = 1")]).unwrap_err();
        assert!(error.to_string().contains("read /own/tiers.toml"), "{error:#}");
    }

    #[test]
    fn the_example_of_the_readme_is_read() {
        let readme = include_str!("../../../catalog/README.md");
        let mut blocks = readme.split("```toml\n");
        let example = blocks.find(|block| block.starts_with("withdraw")).unwrap();
        let catalog = read(example.split("```").next().unwrap()).unwrap();
        assert!(catalog.get("qwen-coder").is_some() && catalog.get("gpt-4-turbo").is_none());
    }

    fn check_refused(from: &str, to: &str, expected: &str) {
        assert!(FOX.contains(from), "{from} is not in the file");
        let error = format!("{:#}", read(&FOX.replacen(from, to, 1)).expect_err(expected));
        assert!(error.contains("/own/models.toml") && error.contains(expected), "{to}: {error}");
    }

    #[test]
    fn a_mistake_is_told_with_its_file_its_model_and_its_field() {
        let unknown =
            "fox in /own/models.toml: there is no provider \"openruter\": set it to one of anthropic, ";
        check_refused("\"openrouter\"", "\"openruter\"", unknown);
        check_refused("text.chat", "image.generate", "task: openrouter makes no image.generate; it makes");
        check_refused("text.chat", "text.talk", "task text.talk has no schema");
        check_refused("\"fox\"", "\"Fox 1\"", "read model Fox 1 in /own/models.toml: id is small letters");
        check_refused("\"Fox\"", "\" \"", "name is empty");
        check_refused("= 600", "= 0", "deadline_seconds is between 1 and 86400");
        check_refused("price_tokens = 120", "", "it has no price: set price_tokens, or [[model.price]]");
        check_refused("price_tokens", "price_token", "unknown field `price_token`");
        check_refused("\"maker/fox-1\"", "\"\"", "the route by openrouter has an empty upstream_model");
        check_refused("cost_usd = \"0.0003\"", "", "the route by openrouter has no cost: set cost_usd, or");
        check_refused("cost_usd", "fixed.top_k = 1\ncost_usd", "read the names of the route by openrouter");
        check_refused("[[model]]", "withdraw = [\"gpt-5\"]\n[[model]]", "names \"gpt-5\", which is no model");
        let twice = format!("{FOX}{FOX}");
        check_refused(FOX, &twice, "model fox in /own/models.toml is listed twice");
    }

    #[test]
    fn a_vendor_of_many_models_needs_names_and_may_make_any_file() {
        let by_fal = FOX.replace("\"openrouter\"", "\"fal\"");
        let error = format!("{:#}", read(&by_fal).unwrap_err());
        assert!(error.contains("task: fal makes files, not text.chat"), "{error}");
        let film = by_fal.replace("text.chat", "video.generate");
        let error = format!("{:#}", read(&film).unwrap_err());
        assert!(error.contains("set them under [model.route.input]"), "{error}");
        let few = film.replace(
            "price_tokens",
            "omit = [\"negative_prompt\", \"seconds\", \"aspect_ratio\", \"resolution\", \"image\", \"end_image\", \"effect\", \
             \"audio\"]\nprice_tokens",
        );
        let named = format!("{few}\n[model.route.input]\nprompt = \"text\"\n");
        assert_eq!(read(&named).unwrap().get("fox").unwrap().task, "video.generate");
    }
}
