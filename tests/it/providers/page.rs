//! docs/PROVIDERS.md is made from the table of vendors and the catalogue, and must be what they make today.

#![expect(clippy::disallowed_methods, reason = "one variable says whether to write the page")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use shared::catalog::Catalog;
use workers::providers::{AfterAmbiguity, VENDORS, Vendor};

const HEAD: &str = "\
# Providers

Made from the table of vendors in [the adapters](../workers/src/providers/mod.rs) and from the [catalogue](../catalog/README.md);
`KILN_WRITE_SNAPSHOTS=1 scripts/test the_page_of_providers` writes it anew.

**A lost submit**: what happens when the answer to a paid submit never came. *Asked*: the provider is asked by our own name of the
attempt, and nothing is repeated before it has answered. *Repeated*: it is submitted again, which may be billed twice; what may cost more
than 0.25 USD is given up all the same. *Given up*: the job fails free of charge, because it cannot be asked and a second bill would hurt.

Everything was proved against the [simulator](../simulator/src/lib.rs), which speaks the vendors' protocols as far as they are known;
what nobody could confirm is listed below.

| provider | tasks | result | a lost submit | cancel | key |
|---|---|---|---|---|---|
";

const MODELS: &str = "
## Models

Routes in the order of the catalogue. Upstream names and prices are configuration: vendors retire and change them.

| model | task | routes |
|---|---|---|
";

const UNVERIFIED: &str = "
## Not verified
";

#[test]
fn the_page_of_providers_is_what_the_catalogue_makes_today() {
    let catalog = Catalog::load().expect("the catalogue");
    let now = page(&catalog);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROVIDERS.md");
    if std::env::var("KILN_WRITE_SNAPSHOTS").is_ok() {
        std::fs::write(&file, &now).expect("write the page");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == now, "docs/PROVIDERS.md is old; KILN_WRITE_SNAPSHOTS=1 writes it anew");
}

#[test]
fn every_route_of_the_catalogue_leads_to_an_adapter_and_every_adapter_has_a_model() {
    let catalog = Catalog::load().expect("the catalogue");
    let routed: BTreeSet<_> = tasks(&catalog).into_keys().collect();
    let known: BTreeSet<_> = VENDORS.iter().map(|vendor| vendor.name).chain(["local"]).collect();
    assert_eq!(routed.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

fn page(catalog: &Catalog) -> String {
    let mut page = HEAD.to_owned();
    let tasks = tasks(catalog);
    for vendor in VENDORS {
        let adapter = (vendor.adapter)(reqwest::Client::new(), vendor.base_url.to_owned());
        let lost = match adapter.after_ambiguity() {
            AfterAmbiguity::Lookup => "asked",
            AfterAmbiguity::SubmitAgain => "repeated",
            AfterAmbiguity::GiveUp => "given up",
        };
        let Vendor { name, mode, cancel, key_variables, .. } = vendor;
        let made = tasks.get(*name).map(|tasks| code(tasks.iter())).unwrap_or_default();
        let keys = code(key_variables.iter());
        writeln!(page, "| {name} | {made} | {mode} | {lost} | {cancel} | {keys} |").expect("text");
    }
    let made = tasks.get("local").map(|tasks| code(tasks.iter())).unwrap_or_default();
    writeln!(page, "| local | {made} | in the process itself | repeated | no | none |").expect("text");
    page.push_str(MODELS);
    for model in catalog.models() {
        let routes = model.routes.iter().map(|route| format!("{} {}", route.provider, route.upstream_model));
        let routes = code(routes);
        writeln!(page, "| `{}` | `{}` | {routes} |", model.id, model.task).expect("text");
    }
    page.push_str(UNVERIFIED);
    for vendor in VENDORS.iter().filter(|vendor| !vendor.unverified.is_empty()) {
        writeln!(page, "\n**{}**: {}.", vendor.name, vendor.unverified.join("; ")).expect("text");
    }
    page
}

/// The tasks that each provider has a model for.
fn tasks(catalog: &Catalog) -> BTreeMap<String, BTreeSet<String>> {
    let mut tasks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for model in catalog.models() {
        for route in &model.routes {
            tasks.entry(route.provider.clone()).or_default().insert(model.task.clone());
        }
    }
    tasks
}

fn code(words: impl Iterator<Item = impl std::fmt::Display>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}
