//! The style of the house, as far as a program can read it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace").to_owned()
}

/// Every file below `dir` that ends with `ending`, with its path from the root; build and data folders left out.
fn files(dir: &Path, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !["target", ".git", ".kiln", ".sqlx", "node_modules"].contains(&name.as_str()) {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            let shown = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            found.push((shown, fs::read_to_string(&path).expect("text")));
        }
    }
    found
}

/// Source of the product: no tests, no repro beside a document, no benchmark.
fn sources() -> Vec<(String, String)> {
    let aside = ["docs/", "tests/", "bench/"];
    let all = files(&root(), ".rs");
    all.into_iter().filter(|(path, _)| !aside.iter().any(|aside| path.starts_with(aside))).collect()
}

#[test]
fn every_source_file_says_what_it_owns() {
    for (path, text) in files(&root(), ".rs") {
        assert!(text.starts_with("//!"), "{path} does not begin with //!");
    }
}

#[test]
fn no_source_file_grows_past_five_hundred_lines() {
    for (path, text) in files(&root(), ".rs") {
        assert!(text.lines().count() <= 500, "{path} has {} lines", text.lines().count());
    }
}

#[test]
fn apalis_is_named_only_where_our_queue_meets_it() {
    for (path, text) in sources() {
        let allowed = path.starts_with("shared/src/queue/") || path == "workers/src/runtime.rs";
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
        assert!(allowed || !code.contains("apalis"), "{path} names apalis");
    }
}

#[test]
fn the_environment_is_read_only_by_configs() {
    for (path, text) in sources() {
        let allowed = path.ends_with("config.rs")
            || path.starts_with("simulator/")
            || path.starts_with("cli/src/embedded/");
        assert!(allowed || !text.contains("env::var"), "{path} reads the environment");
    }
}

#[test]
fn crates_depend_on_shared_and_never_sideways() {
    for (name, allowed) in [
        ("shared", &[][..]),
        ("simulator", &[]),
        ("api", &["shared"]),
        ("workers", &["shared"]),
        ("scheduler", &["shared"]),
    ] {
        let text = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("TOML");
        for table in ["dependencies", "dev-dependencies"] {
            let Some(listed) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
            for ours in ["api", "cli", "scheduler", "shared", "simulator", "tests", "workers"] {
                assert!(allowed.contains(&ours) || !listed.contains_key(ours), "{name} depends on {ours}");
            }
        }
    }
}

#[test]
fn there_is_one_version_of_what_must_agree_and_none_of_what_is_banned() {
    let text = fs::read_to_string(root().join("Cargo.lock")).expect("a lock file");
    let lock: toml::Table = text.parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    let versions =
        |name: &str| packages.iter().filter(|package| package["name"].as_str() == Some(name)).count();
    for one in ["sqlx", "hyper", "reqwest", "rustls", "tokio", "axum", "http"] {
        assert_eq!(versions(one), 1, "{one}");
    }
    for banned in ["openssl", "openssl-sys", "native-tls", "apalis-postgres", "apalis-sql"] {
        assert_eq!(versions(banned), 0, "{banned}");
    }
}

#[test]
fn every_variable_is_described_and_every_description_is_of_a_variable() {
    let mut read = BTreeSet::new();
    for (path, text) in sources() {
        if !path.ends_with("config.rs") && path != "cli/src/dev.rs" {
            continue;
        }
        for part in text.split('"').filter(|part| is_variable(part)) {
            read.insert(part.to_owned());
        }
    }
    let example = fs::read_to_string(root().join(".env.example")).expect(".env.example");
    let compose = fs::read_to_string(root().join("docker-compose.yml")).expect("docker-compose.yml");
    let described: BTreeSet<String> = example
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| is_variable(name))
        .collect();
    for name in &read {
        assert!(described.contains(name), "{name} is not in .env.example");
    }
    for name in &described {
        assert!(read.contains(name) || compose.contains(name), "{name} of .env.example is read by nobody");
    }
}

fn is_variable(text: &str) -> bool {
    let known = [
        "KILN_",
        "S3_",
        "OPENAI_",
        "GEMINI_",
        "KLING_",
        "MINIMAX_",
        "REPLICATE_",
        "FAL_",
        "LUMA_",
        "STABILITY_",
        "RECRAFT_",
        "REMOVEBG_",
        "MIDJOURNEY_",
        "SUNO_",
        "SUNOAPI_",
        "OPENROUTER_",
        "DEEPSEEK_",
        "ANTHROPIC_",
        "PERPLEXITY_",
        "POSTGRES_",
        "MINIO_",
    ];
    known.iter().any(|prefix| text.starts_with(prefix) && text.len() > prefix.len())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn links_in_documents_lead_somewhere() {
    for (path, text) in files(&root(), ".md") {
        let folder = root().join(&path).parent().expect("a folder").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            assert!(folder.join(target).exists(), "{path} links to {target}, which is not there");
        }
    }
}

#[test]
fn every_constraint_has_a_name() {
    for (path, text) in files(&root().join("migrations"), ".sql") {
        for line in text.lines().map(|line| line.split("--").next().unwrap_or_default().trim()) {
            let bare = ["check (", "unique ("].iter().any(|word| line.contains(word))
                && !line.contains("constraint ");
            assert!(!bare, "{path}: {line}");
        }
    }
}
