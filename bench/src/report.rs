//! Results: one JSON line for each measure and round, and the table made of them.
//!
//! A file of results begins with a line that describes machine, server and version. Deliberately absent: judging. The
//! table puts goal and figure side by side and marks what was missed.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{goals, stats::spread};

/// Figures of one round, by name; the name ends with the unit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Notes a figure, to four digits or the next whole number.
    pub fn set(&mut self, name: &str, value: f64) {
        let scale = if value.abs() >= 1000.0 {
            1.0
        } else if value.abs() >= 10.0 {
            100.0
        } else {
            10_000.0
        };
        self.0.insert(name.into(), (value * scale).round() / scale);
    }

    /// A figure by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

/// One round of one measure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// What was measured.
    pub measure: String,
    /// In which variant.
    pub variant: String,
    /// Which round, from 1.
    pub round: usize,
    /// What came of it.
    pub figures: Figures,
}

/// Where the lines of a run go.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    flushes: Cell<f64>,
}

impl Results {
    /// Begins a file with what describes the run; one that is there already is continued.
    pub fn begin(path: &Path, about: &Value) -> Result<Self> {
        let results = Self { path: path.to_owned(), flushes: Cell::new(0.0) };
        if !path.exists() {
            results.append(&serde_json::json!({ "about": about }))?;
        }
        Ok(results)
    }

    /// How fast the disk is at the moment; noted with what follows.
    pub fn set_flushes(&self, per_second: f64) {
        self.flushes.set(per_second);
    }

    /// Writes a round down and says it.
    pub fn add(&self, measure: &str, variant: &str, round: usize, mut figures: Figures) -> Result<()> {
        figures.set("disk_flushes_per_second", self.flushes.get());
        let line = Line { measure: measure.into(), variant: variant.into(), round, figures };
        println!("{}", serde_json::to_string(&line)?);
        self.append(&serde_json::to_value(&line)?)
    }

    fn append(&self, value: &Value) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let mut file = file.with_context(|| format!("write {}", self.path.display()))?;
        writeln!(file, "{value}")?;
        Ok(())
    }
}

/// What a file of results says.
#[derive(Debug, Default)]
pub struct Read {
    /// The descriptions of the runs that went into it.
    pub about: Vec<Value>,
    /// The rounds.
    pub lines: Vec<Line>,
}

/// Reads a file of results.
pub fn read(path: &Path) -> Result<Read> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut read = Read::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line)?;
        match value.get("about") {
            Some(about) => read.about.push(about.clone()),
            None => read.lines.push(serde_json::from_value(value)?),
        }
    }
    Ok(read)
}

/// Puts the tables between the marks of a document.
pub fn write_into(document: &Path, read: &Read) -> Result<()> {
    const FROM: &str = "<!-- results -->";
    const TO: &str = "<!-- /results -->";
    let text = fs::read_to_string(document).with_context(|| format!("read {}", document.display()))?;
    let (head, rest) = text.split_once(FROM).context("the document has no mark <!-- results -->")?;
    let (_, tail) = rest.split_once(TO).context("the document has no mark <!-- /results -->")?;
    fs::write(document, format!("{head}{FROM}\n{}\n{TO}{tail}", markdown(read).trim_end()))?;
    Ok(())
}

/// The tables, as Markdown.
pub fn markdown(read: &Read) -> String {
    let mut text = read.about.first().map(described).unwrap_or_default();
    if let Some(last) = read.about.get(1..).and_then(<[Value]>::last) {
        let word = |name| last.get(name).and_then(Value::as_str).unwrap_or("unknown");
        let parts = read.about.len();
        text.push_str(&format!(
            "Made in {parts} parts, the last {} at commit `{}`.\n",
            word("date"),
            word("commit")
        ));
    }
    text.push_str("\n### Beside the goals\n\n| what | goal | median | least – most | rounds | |\n|---|---|---|---|---|---|\n");
    for goal in goals::ALL {
        let found = figures_of(read, goal.measure, goal.variant, goal.figure);
        if found.is_empty() {
            continue;
        }
        let (median, least, most) = spread(&found);
        let mark = if goal.is_met(median) { "✓" } else { "missed" };
        let cells = [
            goal.what.to_owned(),
            goal.words(),
            shown(median),
            format!("{} – {}", shown(least), shown(most)),
            found.len().to_string(),
            mark.to_owned(),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push_str(&comparison(read));
    text.push_str("\n### Everything\n\nMedian of the rounds, least – most in brackets.\n\n| measure | figures |\n|---|---|\n");
    for (measure, variant) in kinds(read) {
        let lines = read.lines.iter().filter(|line| line.measure == measure && line.variant == variant);
        let names: Vec<&String> =
            lines.clone().next().into_iter().flat_map(|line| line.figures.0.keys()).collect();
        let cells: Vec<String> = names
            .into_iter()
            .map(|name| {
                let found = figures_of(read, &measure, &variant, name);
                let (median, least, most) = spread(&found);
                if found.len() == 1 {
                    return format!("{name} **{}**", shown(median));
                }
                format!("{name} **{}** ({} – {})", shown(median), shown(least), shown(most))
            })
            .collect();
        text.push_str(&format!("| {measure}: {variant} | {} |\n", cells.join("; ")));
    }
    text
}

/// Kiln beside others: a job taken in, and a job worked off. Medians.
fn comparison(read: &Read) -> String {
    let cell = |measure, variant, figure| {
        let found = figures_of(read, measure, variant, figure);
        if found.is_empty() { "–".to_owned() } else { shown(spread(&found).0) }
    };
    let mut text = String::from(
        "\n### Beside others\n\n| | jobs a second | Postgres, µs a job | log, bytes a job | flushes a job |\n|---|---|---|---|---|\n",
    );
    for (what, measure, variant) in goals::SIDE_BY_SIDE {
        let figures = ["per_second", "postgres_cpu_us_per_job", "wal_bytes_per_job", "flushes_per_job"];
        let cells = figures.map(|figure| cell(measure, variant, figure));
        text.push_str(&format!("| {what} | {} |\n", cells.join(" | ")));
    }
    text
}

/// Measures and variants in the order in which they were first seen.
fn kinds(read: &Read) -> Vec<(String, String)> {
    let mut kinds: Vec<(String, String)> = Vec::new();
    for line in &read.lines {
        let kind = (line.measure.clone(), line.variant.clone());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn figures_of(read: &Read, measure: &str, variant: &str, figure: &str) -> Vec<f64> {
    let lines = read.lines.iter().filter(|line| line.measure == measure && line.variant == variant);
    lines.filter_map(|line| line.figures.get(figure)).collect()
}

/// A number as people read it.
fn shown(value: f64) -> String {
    if value.abs() < 1000.0 {
        let digits = if value.fract() == 0.0 {
            0
        } else if value.abs() < 0.1 {
            4
        } else if value.abs() < 10.0 {
            2
        } else {
            1
        };
        return format!("{value:.digits$}");
    }
    let whole = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("-{grouped}") } else { grouped }
}

/// Machine, server and version in a few lines.
fn described(about: &Value) -> String {
    let word = |path: &str| match about.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "unknown".into(),
    };
    let settings = about.pointer("/postgres").and_then(Value::as_object);
    let settings: Vec<String> = settings
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "server_version")
        .map(|(name, value)| format!("`{name} = {}`", value.as_str().unwrap_or("unknown")))
        .collect();
    format!(
        "\nMeasured {} at commit `{}` with `{}`, on {} cores of an {}, {} GB of memory, Linux {}; \
         {:.0} durable flushes a second by one writer; PostgreSQL {}, {}.\n",
        word("/date"),
        word("/commit"),
        word("/command"),
        word("/machine/cores"),
        word("/machine/cpu"),
        word("/machine/memory_gb"),
        word("/machine/kernel"),
        about.pointer("/flushes_per_second").and_then(Value::as_f64).unwrap_or(0.0),
        word("/postgres/server_version"),
        settings.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        let check = |value, expected: &str| assert_eq!(shown(value), expected);
        check(15_234.4, "15 234");
        check(1_234_567.0, "1 234 567");
        check(24.26, "24.3");
        check(0.5, "0.50");
        check(3.0, "3");
    }
}
