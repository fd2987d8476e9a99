//! Judges SVG drawings as text.
//!
//! An SVG served from our storage is opened by browsers, so besides being whole it must not be able to run anything:
//! scripts, event attributes, `javascript:` links however they are spelt, and a grammar of its own are refused: that could
//! define entities (the billion-laughs bomb) or give every element an event attribute. Deliberately
//! absent: a full XML parser and rendering.

use std::path::Path;

use super::{Measures, MediaError, contents};

/// Longest drawing that is read; a traced photograph takes a few megabytes.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// What may never occur in a drawing, in lower case.
const FORBIDDEN: [&str; 7] =
    ["<script", ":script", "<!entity", "<!attlist", "<foreignobject", "<iframe", ":iframe"];

/// Reads the drawing at `path` and tells the size it declares, where it declares one in pixels.
pub(super) fn measure(path: &Path) -> Result<Measures, MediaError> {
    let text = String::from_utf8(contents(path, MAX_FILE_BYTES)?)
        .map_err(|_| MediaError::Undecodable("the svg is not utf-8".to_owned()))?;
    let damage = |why: &str| MediaError::Undecodable(why.to_owned());

    let start = text.find("<svg").ok_or_else(|| damage("no svg element"))?;
    let (root, _) = text[start..].split_once('>').ok_or_else(|| damage("the svg element is cut"))?;
    let lower = text.to_ascii_lowercase();
    if let Some(word) = FORBIDDEN.iter().find(|word| lower.contains(**word)) {
        return Err(MediaError::Undecodable(format!("the svg holds {word}")));
    }
    if as_a_link_is_read(&lower).contains("javascript:") {
        return Err(damage("the svg holds javascript:"));
    }
    if holds_event_attribute(&lower) {
        return Err(damage("the svg holds an event attribute"));
    }
    let is_whole = root.ends_with('/') || (ends_whole(&text) && closes_each(&lower));
    if !is_whole {
        return Err(damage("the svg has no end"));
    }
    let (width, height) = size(&text);
    Ok(Measures { width, height, ..Measures::default() })
}

/// The size that a drawing declares in pixels, as far as it does.
pub(super) fn size(text: &str) -> (Option<u32>, Option<u32>) {
    let root = text.find("<svg").and_then(|start| text[start..].split_once('>'));
    root.map_or((None, None), |(root, _)| (pixels(root, "width"), pixels(root, "height")))
}

/// Whether the last element closed is the root; comments and space may follow it.
fn ends_whole(text: &str) -> bool {
    let Some((_, after)) = text.rsplit_once("</svg") else { return false };
    let Some(after) = after.trim_start().strip_prefix('>') else { return false };
    let after = after.trim();
    after.is_empty() || (after.starts_with("<!--") && after.ends_with("-->"))
}

/// Whether each `svg` that is opened is closed as well: one may hold others, and a cut behind an inner one looks whole.
/// `text` is lower case.
fn closes_each(text: &str) -> bool {
    let opened = text.match_indices("<svg").filter(|(at, name)| {
        let rest = &text[at + name.len()..];
        let is_name_over = rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '>');
        is_name_over && rest.split_once('>').is_some_and(|(tag, _)| !tag.ends_with('/'))
    });
    text.matches("</svg").count() >= opened.count()
}

/// The text as browsers read an address in it: characters by their numbers are written out, line breaks and tabs are passed
/// over. `text` is lower case.
fn as_a_link_is_read(text: &str) -> String {
    let mut pieces = text.split("&#");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (number, rest) = piece.split_once(';').unwrap_or(("", piece));
        let code = match number.strip_prefix('x') {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => number.parse(),
        };
        match code.ok().and_then(char::from_u32) {
            Some(c) => plain.extend(c.to_lowercase().chain(rest.chars())),
            None => plain.push_str(piece),
        }
    }
    plain.retain(|c| !matches!(c, '\t' | '\n' | '\r'));
    plain
}

/// Whether some attribute is called `on…`, such as `onload`; `text` is lower case.
fn holds_event_attribute(text: &str) -> bool {
    text.match_indices("on").any(|(at, _)| {
        let is_start = text[..at].ends_with([' ', '\t', '\r', '\n', '"', '\'', '/']);
        let name_end = text[at..].find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(0);
        is_start && name_end > "on".len() && text[at + name_end..].trim_start().starts_with('=')
    })
}

/// Value of an attribute of the root that counts pixels, rounded to whole ones.
fn pixels(root: &str, name: &str) -> Option<u32> {
    let at =
        root.match_indices(name).map(|(at, _)| at).find(|at| root[..*at].ends_with(char::is_whitespace))?;
    let value = root[at + name.len()..].trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let (value, _) = value[1..].split_once(quote)?;
    let length: f64 = value.trim().trim_end_matches("px").parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was just checked")]
    (1.0..=f64::from(u32::MAX)).contains(&length).then(|| length.round() as u32)
}

#[cfg(test)]
mod tests {
    use crate::media::{Kind, samples, verify};

    fn check(text: &str, expected: Result<(Option<u32>, Option<u32>), &str>) {
        let file = samples::file(text.as_bytes());
        let found = verify(file.path(), Kind::Vector)
            .map(|verified| (verified.width, verified.height))
            .map_err(|error| error.to_string());
        match expected {
            Ok(size) => assert_eq!(found, Ok(size), "{text}"),
            Err(why) => assert!(found.as_ref().is_err_and(|found| found.contains(why)), "{text}: {found:?}"),
        }
    }

    #[test]
    fn a_drawing_is_measured_by_its_own_words() {
        check("<svg width=\"640\" height='480px'><path/></svg>", Ok((Some(640), Some(480))));
        check("<?xml version=\"1.0\"?><!-- x --><svg viewBox=\"0 0 9 9\"><g/></svg>\n", Ok((None, None)));
        check("<svg stroke-width=\"3\" width=\"100%\"></svg><!-- end -->", Ok((None, None)));
        check("<svg width=\"1\" height=\"1\"/>", Ok((Some(1), Some(1))));
    }

    #[test]
    fn a_cut_drawing_is_refused() {
        check("<svg width=\"640\"><path d=\"M0 0", Err("has no end"));
        check("<svg width=\"640", Err("is cut"));
        let nested = "<svg><svg><path/></svg><svg/><path/></svg>";
        check(nested, Ok((None, None)));
        check(&nested[..nested.find("<svg/>").unwrap()], Err("has no end"));
    }

    #[test]
    fn a_drawing_that_could_run_something_is_refused() {
        check("<svg><Script>alert(1)</Script></svg>", Err("<script"));
        check("<svg><s:script>alert(1)</s:script></svg>", Err(":script"));
        check("<svg onload=\"x()\"></svg>", Err("event attribute"));
        check("<svg><a href=\"JavaScript:x()\"/></svg>", Err("javascript:"));
        check("<svg><!ENTITY a \"b\"></svg>", Err("<!entity"));
        for spelt in ["&#106;avascript:x()", "&#x0006A;ava&#10;script&#58;x()", "java\tscript:x()"] {
            check(&format!("<svg><a href=\"{spelt}\"/></svg>"), Err("javascript:"));
        }
        check(
            "<!DOCTYPE svg [<?a > <svg ?><!ATTLIST svg onload CDATA \"x()\">]><svg></svg>",
            Err("<!attlist"),
        );
    }

    #[test]
    fn ordinary_words_are_no_event_attributes() {
        check(
            "<svg><text>on = off, once upon</text><g stop-on=\"1\" version=\"1\"/></svg>",
            Ok((None, None)),
        );
    }
}
