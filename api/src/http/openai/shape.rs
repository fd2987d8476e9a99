//! Sizes in pixels, as OpenAI asks for them, and the shapes that other makers have names for.

use serde_json::{Map, Value, json};

use crate::ApiError;
use shared::catalog::Model;

/// How far the shape of a picture may be from the one that was asked for, in hundredths: 1792 × 1024 pixels pass for 16:9.
const PICTURE_PERCENT: u64 = 3;
/// As [`PICTURE_PERCENT`], of films: 1366 × 768 pixels are 16:9, and 1792 × 1024 are not.
const FILM_PERCENT: u64 = 1;
/// Lines of a film whose maker has no word for them.
const ORDINARY_LINES: u64 = 720;
/// The shape of OpenAI's films where nothing else is said: its size 720x1280.
const FILM_RATIO: &str = "9:16";

/// Two sides, in pixels or of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sides {
    width: u64,
    height: u64,
}

impl Sides {
    /// Two numbers with this between them, such as `1024x768` or `16:9`.
    fn read(text: &str, between: char) -> Option<Self> {
        let (width, height) = text.split_once(between)?;
        let side = |text: &str| text.parse::<u64>().ok().filter(|side| (1..=100_000).contains(side));
        Some(Self { width: side(width)?, height: side(height)? })
    }

    /// Whether the shapes are no further apart than that.
    fn is_like(self, other: Self, percent: u64) -> bool {
        let (one, two) = (self.width * other.height, self.height * other.width);
        one.abs_diff(two) * 100 <= one.max(two) * percent
    }
}

/// Puts the size of a picture into the words of its model. `auto` leaves it to the model.
///
/// # Errors
/// 400 when the model makes no picture of that shape.
pub fn picture(
    model: &Model,
    fields: &Map<String, Value>,
    input: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let Some(size) = asked(fields) else {
        input.remove("size");
        return Ok(());
    };
    if !knows(model, "size") && knows(model, "aspect_ratio") {
        input.insert("aspect_ratio".to_owned(), ratio_of(model, size, PICTURE_PERCENT)?);
    }
    Ok(())
}

/// Puts the size of a film into the words of its model: its shape and, where the model can choose, its lines.
///
/// # Errors
/// 400 when the model makes no film of that shape.
pub fn film(
    model: &Model,
    fields: &Map<String, Value>,
    input: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let is_shaped = knows(model, "aspect_ratio");
    let Some(size) = asked(fields) else {
        if is_shaped && !input.contains_key("aspect_ratio") && ratios(model).any(|ratio| ratio == FILM_RATIO)
        {
            input.insert("aspect_ratio".to_owned(), json!(FILM_RATIO));
        }
        return Ok(());
    };
    if is_shaped {
        input.insert("aspect_ratio".to_owned(), ratio_of(model, size, FILM_PERCENT)?);
    }
    if let Some(word) = lines_word(model, size) {
        input.insert("resolution".to_owned(), json!(word));
    }
    Ok(())
}

/// The size of a film of this shape and resolution, `None` where its shape is not known.
pub fn film_size(ratio: Option<&str>, resolution: Option<&str>) -> Option<String> {
    let ratio = Sides::read(ratio?, ':')?;
    let lines = resolution.and_then(lines).unwrap_or(ORDINARY_LINES);
    // Codecs want sides in even numbers.
    let long = |long: u64, short: u64| (lines * long).div_ceil(short).next_multiple_of(2);
    Some(if ratio.width >= ratio.height {
        format!("{}x{lines}", long(ratio.width, ratio.height))
    } else {
        format!("{lines}x{}", long(ratio.height, ratio.width))
    })
}

/// The size that was asked for, unless it was left to the model.
fn asked(fields: &Map<String, Value>) -> Option<&Value> {
    fields.get("size").filter(|size| !size.is_null() && *size != "auto")
}

fn knows(model: &Model, field: &str) -> bool {
    model.schema["properties"].get(field).is_some()
}

fn ratios(model: &Model) -> impl Iterator<Item = &str> {
    let listed = model.schema["properties"]["aspect_ratio"]["enum"].as_array();
    listed.into_iter().flatten().filter_map(Value::as_str)
}

/// The model's word for the shape of `size`.
fn ratio_of(model: &Model, size: &Value, percent: u64) -> Result<Value, ApiError> {
    let bad = |message: String| ApiError::bad_request("invalid_size", "size", message);
    let sides = size.as_str().and_then(|size| Sides::read(size, 'x'));
    let sides =
        sides.ok_or_else(|| bad("size is a width and a height in pixels, such as 1024x1024".into()))?;
    let found = ratios(model)
        .find(|ratio| Sides::read(ratio, ':').is_some_and(|ratio| sides.is_like(ratio, percent)));
    found.map(|ratio| json!(ratio)).ok_or_else(|| {
        let shapes: Vec<_> = ratios(model).collect();
        let (width, height) = (sides.width, sides.height);
        bad(format!(
            "{} makes nothing of the shape of {width}x{height}; it makes {}",
            model.id,
            shapes.join(", ")
        ))
    })
}

/// The model's word for the lines of `size`, where it has one for just these.
fn lines_word<'a>(model: &'a Model, size: &Value) -> Option<&'a str> {
    let sides = Sides::read(size.as_str()?, 'x')?;
    let mut words =
        model.schema["properties"]["resolution"]["enum"].as_array()?.iter().filter_map(Value::as_str);
    words.find(|word| lines(word) == Some(sides.width.min(sides.height)))
}

/// Lines of a resolution such as `720p`.
fn lines(resolution: &str) -> Option<u64> {
    match resolution.to_ascii_lowercase().as_str() {
        "2k" => Some(1440),
        "4k" => Some(2160),
        word => word.strip_suffix('p')?.parse::<u64>().ok().filter(|lines| (1..=10_000).contains(lines)),
    }
}

#[cfg(test)]
mod tests {
    use shared::catalog::Catalog;

    use super::*;

    type Fit = fn(&Model, &Map<String, Value>, &mut Map<String, Value>) -> Result<(), ApiError>;

    fn check(fit: Fit, model: &str, size: Value, expected: Option<Value>) {
        let catalog = Catalog::load().expect("the catalogue");
        let fields = Map::from_iter([("size".to_owned(), size.clone())]);
        let mut input = Map::new();
        let made = fit(catalog.get(model).expect("a model"), &fields, &mut input).ok();
        assert_eq!(made.map(|()| Value::from(input)), expected, "{model} {size}");
    }

    #[test]
    fn a_picture_gets_the_word_that_its_model_has_for_the_shape() {
        check(picture, "nano-banana", json!("1024x1024"), Some(json!({"aspect_ratio": "1:1"})));
        check(picture, "nano-banana", json!("1792x1024"), Some(json!({"aspect_ratio": "16:9"})));
        check(picture, "nano-banana", json!("100x900"), None);
        check(picture, "nano-banana", json!("large"), None);
        check(picture, "nano-banana", json!(5), None);
        check(picture, "nano-banana", json!("auto"), Some(json!({})));
        // It reads sizes itself.
        check(picture, "gpt-image-1", json!("1024x1024"), Some(json!({})));
    }

    #[test]
    fn a_film_gets_shape_and_lines_and_is_upright_where_nothing_is_said() {
        check(film, "sora-2", json!("1280x720"), Some(json!({"aspect_ratio": "16:9"})));
        check(film, "sora-2", json!(null), Some(json!({"aspect_ratio": "9:16"})));
        check(film, "sora-2", json!("1792x1024"), None);
        check(
            film,
            "veo-3.1",
            json!("1080x1920"),
            Some(json!({"aspect_ratio": "9:16", "resolution": "1080p"})),
        );
        check(film, "veo-3.1", json!("854x480"), Some(json!({"aspect_ratio": "16:9"})));
        check(film, "hailuo", json!("1366x768"), Some(json!({"resolution": "768P"})));
        check(film, "hailuo", json!(null), Some(json!({})));
        check(film, "sora-2", json!("0x0"), None);
    }

    #[test]
    fn a_shape_and_its_lines_make_a_size() {
        for (ratio, resolution, expected) in [
            (Some("9:16"), None, Some("720x1280")),
            (Some("16:9"), Some("1080p"), Some("1920x1080")),
            (Some("16:9"), Some("768P"), Some("1366x768")),
            (Some("1:1"), Some("odd"), Some("720x720")),
            (None, Some("720p"), None),
        ] {
            assert_eq!(film_size(ratio, resolution).as_deref(), expected);
        }
    }
}
