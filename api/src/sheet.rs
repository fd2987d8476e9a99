//! Lists for spreadsheets: CSV in UTF-8 with a line of headings, in place of JSON where a caller asks for it.
//!
//! Text that a spreadsheet would take for a formula is disarmed by an apostrophe: names and reasons are written by people,
//! and read by others on machines that would compute them. Numbers are left as they are, so a minus stays one. Where lists
//! are separated by semicolons or tabs, a spreadsheet cuts our cells in pieces, so the beginning of each piece counts.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};

use crate::{ApiError, request::Query};

/// In which form an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The usual one.
    Json,
    /// For spreadsheets.
    Csv,
}

impl Format {
    /// What the query's `format` asks for, or else the Accept header.
    ///
    /// # Errors
    /// 400 when it asks for something else.
    pub fn of(query: &mut Query, headers: &HeaderMap) -> Result<Self, ApiError> {
        match query.take::<String>("format")?.as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("json") => Ok(Self::Json),
            Some(_) => Err(ApiError::bad_request("invalid_query", "format", "format is one of json, csv")),
            None if accepts_csv(headers) => Ok(Self::Csv),
            None => Ok(Self::Json),
        }
    }
}

fn accepts_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/csv"))
}

/// What stands in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Words of anybody's.
    Text(String),
    /// Digits of ours.
    Number(String),
}

impl Cell {
    /// Text, or nothing.
    pub fn text(text: Option<impl ToString>) -> Self {
        Self::Text(text.map(|text| text.to_string()).unwrap_or_default())
    }

    /// A number, as it is written.
    pub fn number(number: impl ToString) -> Self {
        Self::Number(number.to_string())
    }

    fn shown(&self) -> String {
        match self {
            Self::Text(text) => disarm(text),
            Self::Number(text) => text.clone(),
        }
    }
}

/// The text with an apostrophe before everything that might begin a formula, in whatever cells it is read as.
fn disarm(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    if text.starts_with(['\t', '\r', '\n']) {
        shown.push('\'');
    }
    let mut begins = true;
    for letter in text.chars() {
        if begins && matches!(letter, '=' | '+' | '-' | '@') {
            shown.push('\'');
        }
        shown.push(letter);
        // Quotes and blanks are dropped from the beginning of a cell.
        begins = matches!(letter, ';' | '\t' | '\r' | '\n') || begins && matches!(letter, '"' | ' ');
    }
    shown
}

/// Rows on their way out.
pub struct Sheet(csv::Writer<Vec<u8>>);

impl Sheet {
    /// The beginning of a table, with its headings.
    pub fn headed(headings: &[&str]) -> Self {
        let mut sheet = Self::continued();
        sheet.0.write_record(headings).expect("memory takes what is written to it");
        sheet
    }

    /// More of a table.
    pub fn continued() -> Self {
        Self(csv::Writer::from_writer(Vec::new()))
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[Cell]) {
        self.0
            .write_record(cells.iter().map(Cell::shown))
            .expect("memory takes as many cells as the headings");
    }

    /// The rows written so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes what is written to it")
    }
}

/// A table that browsers save as `name`, which is ours and plain.
pub fn attachment(name: &str, body: impl Into<Body>) -> Response {
    download(name, "text/csv; charset=utf-8; header=present", body)
}

/// An answer of a type that browsers save as `name`, which is ours and plain.
pub fn download(name: &str, content_type: &'static str, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, body.into()).into_response()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;

    fn check(cell: &Cell, expected: &str) {
        let mut sheet = Sheet::continued();
        sheet.row(&[cell.clone(), Cell::number(1)]);
        assert_eq!(String::from_utf8(sheet.into_bytes()).unwrap(), format!("{expected},1\n"));
    }

    #[test]
    fn no_text_is_a_formula_and_numbers_stay_numbers() {
        for begin in ["=", "+", "-", "@"] {
            check(&Cell::text(Some(format!("{begin}1"))), &format!("'{begin}1"));
        }
        check(&Cell::text(Some("\t=1")), "'\t'=1");
        check(&Cell::text(Some("\tx")), "'\tx");
        check(&Cell::text(Some("Ann;=1;@b;c-d")), "Ann;'=1;'@b;c-d");
        check(&Cell::text(Some("Ann\t+1")), "Ann\t'+1");
        check(&Cell::text(Some("Ann\n-1\r\n =1")), "\"Ann\n'-1\r\n '=1\"");
        check(&Cell::text(Some("Ann;\"=1")), "\"Ann;\"\"'=1\"");
        check(&Cell::text(Some("=cmd|' /C calc'!A0, \"x\"")), "\"'=cmd|' /C calc'!A0, \"\"x\"\"\"");
        check(&Cell::text(Some("a=b")), "a=b");
        check(&Cell::text(None::<String>), "");
        check(&Cell::number(-0.5), "-0.5");
    }

    #[test]
    fn csv_is_given_to_those_who_name_it() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, http::HeaderValue::from_static(value));
            accepts_csv(&headers)
        };
        assert!(accepts("text/csv") && accepts("application/xml, Text/CSV;q=0.9"));
        assert!(!accepts("*/*") && !accepts("text/html") && !accepts_csv(&HeaderMap::new()));
    }

    #[test]
    fn no_accept_header_breaks_anything_and_csv_is_given_only_by_its_name() {
        let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
        let value = prop_oneof![
            vec(any::<u8>(), 0..60),
            "([a-z*]{1,5}/[a-z*]{1,5}|text/csvx|xtext/csv|text/ csv|\"text/csv\")(;q=[01]\\.[0-9])?"
                .prop_map(String::into_bytes)
        ];
        let value = value.prop_filter_map("no header", |bytes| http::HeaderValue::from_bytes(&bytes).ok());
        proptest!(config, |(values in vec(value, 0..4), spelt in "[tT][eE][xX][tT]/[cC][sS][vV]", end in "( ?; ?q=1)?(, ?a/b)?")| {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(header::ACCEPT, value.clone());
            }
            let is_named = values.iter().any(|value| value.as_bytes().to_ascii_lowercase().windows(8).any(|part| part == b"text/csv"));
            prop_assert!(is_named || !accepts_csv(&headers), "{values:?}");
            headers.append(header::ACCEPT, http::HeaderValue::from_str(&format!("{spelt}{end}")).unwrap());
            prop_assert!(accepts_csv(&headers), "{values:?} {spelt}{end}");
        });
        for other in ["text/csvx", "xtext/csv", "\"text/csv\"", "text/ csv"] {
            let value = http::HeaderValue::from_static(other);
            assert!(!accepts_csv(&HeaderMap::from_iter([(header::ACCEPT, value)])), "{other}");
        }
    }
}
