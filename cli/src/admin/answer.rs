//! What a command says: one JSON value for programs, aligned columns for people.
//!
//! Names come from strangers, so nothing in a table can move the cursor or turn the text around.

use std::{
    fmt,
    io::{self, Write},
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// What was done or found.
pub struct Answer {
    json: Value,
    text: String,
    well: bool,
}

impl Answer {
    /// The same for programs and for people.
    pub fn new(json: Value, text: impl fmt::Display) -> Self {
        Self { json, text: text.to_string(), well: true }
    }

    /// Entries of a list, all of them.
    pub fn list(data: Vec<Value>, table: &Table) -> Self {
        Self::new(json!({ "object": "list", "data": data, "has_more": false }), table)
    }

    /// Entries of a list; where there are `more`, says what to type for them.
    pub fn page(data: Vec<Value>, table: &Table, more: Option<&str>) -> Self {
        let json = json!({ "object": "list", "data": data, "has_more": more.is_some() });
        match more {
            Some(option) => Self::new(json, format!("{table}\nthere is more: {option}")),
            None => Self::new(json, table),
        }
    }

    /// The same, with an exit code that tells programs that something is wrong.
    #[must_use]
    pub fn unwell(self) -> Self {
        Self { well: false, ..self }
    }

    /// Prints it and says whether all is well.
    ///
    /// # Errors
    /// When nothing can be printed, other than because nobody reads on.
    pub fn print(&self, json: bool) -> anyhow::Result<bool> {
        let text = if json { format!("{:#}", self.json) } else { self.text.clone() };
        match writeln!(io::stdout(), "{}", text.trim_end()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("write to standard output")
            }
            _ => Ok(self.well),
        }
    }
}

/// Up to `limit` of what was found, and the last of them if there is more.
pub fn first_of<T>(mut found: Vec<T>, limit: i64) -> (Vec<T>, bool) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    (found, more)
}

/// Rows of cells, under their heads or beside their names.
pub struct Table {
    rows: Vec<Vec<String>>,
    headed: bool,
}

impl Table {
    /// A table with a head and nothing else yet.
    pub fn headed(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(ToString::to_string).collect()], headed: true }
    }

    /// One thing's fields, each with its name.
    pub fn fields(fields: &[(&str, String)]) -> Self {
        let rows = fields.iter().map(|(name, value)| vec![(*name).to_owned(), harmless(value)]);
        Self { rows: rows.collect(), headed: false }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.iter().map(|cell| harmless(cell)).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let of = |at: usize| self.rows.iter().filter_map(move |row| row.get(at));
        let widths: Vec<_> =
            (0..columns).map(|at| of(at).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
        let numbers: Vec<_> =
            (0..columns).map(|at| self.headed && of(at).skip(1).all(|cell| is_number(cell))).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), number) in row.iter().zip(&widths).zip(&numbers) {
                let padded = if *number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str(&padded);
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn is_number(cell: &str) -> bool {
    cell.is_empty() || cell == NOTHING || cell.parse::<f64>().is_ok()
}

/// The text without what a terminal would obey or what would reorder it.
fn harmless(text: &str) -> String {
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| {
            if c.is_whitespace() {
                ' '
            } else if obeyed(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A cell without a value.
const NOTHING: &str = "-";

/// A cell for what may be missing.
pub fn or_nothing<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// A moment to the minute, in UTC.
pub fn minute(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_at_the_right() {
        let mut table = Table::headed(&["name", "tokens", "since"]);
        table.row(&["Example Ltd".into(), "5".into(), "-".into()]);
        table.row(&["жаба".into(), "1000000".into(), "2026-01-31".into()]);
        assert_eq!(
            table.to_string(),
            "name          tokens  since\nExample Ltd        5  -\nжаба         1000000  2026-01-31\n"
        );
        let fields = Table::fields(&[("id", "acc_1".into()), ("tokens", "5".into())]);
        assert_eq!(fields.to_string(), "id      acc_1\ntokens  5\n");
    }

    #[test]
    fn a_name_commands_no_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{202e}d\u{9b}"), "a\u{fffd}[2Jb c\u{fffd}d\u{fffd}");
    }
}
