//! Acceptance: whether what a vendor made is what was ordered.
//!
//! A file that opens well may still be another one than is paid for: a thumbnail, the wrong shape, a film of two seconds.
//! Whoever makes such a thing has failed as if it had made nothing: the job goes on elsewhere or is tried again, and nobody is
//! charged for it. The tolerances are as wide as good vendors need, so only that is refused which a customer would send back,
//! and what is not known is not judged. Everything here is a function of what is known. Deliberately absent: what a picture
//! shows or a voice says.

use serde_json::Value;

use crate::media::{Picture, RESULT_MAX_PIXELS, Verified};
use shared::{
    catalog::Model,
    job::Claimed,
    price::{Meter, Wanted},
};

/// The field with the picture that a tool is to change.
pub const SOURCE_FIELD: &str = "image";

/// The tools whose result is held against the picture they were given.
const OF_SOURCE: [&str; 5] = [
    "image.upscale",
    "image.remove_background",
    "image.replace_background",
    "image.erase",
    "image.face_swap",
];

/// How far the shape of a picture may be from a size in pixels: vendors cut sides to multiples of 8 to 64 pixels.
const SIZE_SHAPE_TOLERANCE: f64 = 0.03;
/// Least share of each side that was asked for: some vendors keep to a sum of pixels and not to sides.
const SIZE_LEAST: f64 = 0.5;
/// How far the shape of a picture may be from a ratio: 864 × 1184 pixels, a common 3:4, are 2.7 % off.
const RATIO_TOLERANCE: f64 = 0.06;
/// As [`RATIO_TOLERANCE`], of films, whose codecs want sides in multiples of 16: 832 × 480 pixels pass for 16:9, and 640 × 272
/// for 21:9.
const FILM_RATIO_TOLERANCE: f64 = 0.08;
/// How far a tool may be from the shape of its source, or from so many times its sides.
const SOURCE_TOLERANCE: f64 = 0.05;
/// Least share of each side of its source that an enlarged picture has where nobody said how much larger: the last multiple of 8
/// of a small picture's side.
const ENLARGED_LEAST: f64 = 0.98;
/// Least share of the lines that a resolution names. `768P` is often a sum of pixels, of which a wide film has few lines.
const LINES_LEAST: f64 = 0.6;
/// Least and most share of the seconds that were asked for, and what may come on top: models make whole groups of frames.
const SECONDS_LEAST: f64 = 0.7;
const SECONDS_MOST: f64 = 1.5;
const SECONDS_ON_TOP: f64 = 1.0;
/// Shorter than this nothing is heard, in seconds.
const SOUND_LEAST_SECONDS: f64 = 0.1;
/// Letters that nobody says in a second at the ordinary pace: eight times as many as people do.
const LETTERS_A_SECOND: f64 = 120.0;

/// Whether results of this task are held against the picture they were made from.
pub fn is_of_source(task: &str) -> bool {
    OF_SOURCE.contains(&task)
}

/// What was ordered.
#[derive(Debug, Clone, Copy)]
pub struct Ordered<'a> {
    task: &'a str,
    wanted: Wanted<'a>,
    /// The picture that a tool was to change, where it is known.
    source: Option<Picture>,
    /// Whether fewer pictures cost less.
    is_paid_by_picture: bool,
}

impl<'a> Ordered<'a> {
    /// What a job ordered. Of a model that is offered no more the defaults are not known.
    pub fn new(claimed: &'a Claimed, model: Option<&'a Model>, source: Option<Picture>) -> Self {
        let schema = match model {
            Some(model) => &model.schema,
            None => &Value::Null,
        };
        let is_by_picture = |meter: Meter| matches!(meter, Meter::Image | Meter::Megapixel);
        let price = claimed.price.as_ref();
        Self {
            task: &claimed.task,
            wanted: Wanted::new(schema, &claimed.input),
            source,
            is_paid_by_picture: price
                .is_some_and(|price| price.rules.iter().any(|rule| is_by_picture(rule.per))),
        }
    }

    /// Whether the result could be opened here at all. If not, it would be made, paid for and thrown away.
    ///
    /// # Errors
    /// Says what is wrong, to be read behind the name of [`SOURCE_FIELD`].
    pub fn check_feasible(self) -> Result<(), String> {
        let factor = self.wanted.field("factor").and_then(Value::as_u64);
        let (Some(source), Some(factor), "image.upscale") = (self.source, factor, self.task) else {
            return Ok(());
        };
        let Picture { width, height, .. } = source;
        let pixels = (u64::from(width) * u64::from(height)).saturating_mul(factor.saturating_mul(factor));
        if pixels <= RESULT_MAX_PIXELS {
            return Ok(());
        }
        let (made, most) = (pixels / 1_000_000, RESULT_MAX_PIXELS / 1_000_000);
        Err(format!(
            "has {width}×{height} pixels, which are {made} megapixels {factor} times as wide and high; at most {most} are made"
        ))
    }

    /// How many of the files count. What is more than was ordered nobody has asked for, and nobody pays it; what is less will do
    /// where it costs less.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn count(self, made: usize) -> Result<usize, String> {
        let is_drawn = matches!(self.task, "image.generate" | "image.edit");
        if !is_drawn || !self.wanted.knows("n") {
            return Ok(made);
        }
        let asked = usize::try_from(self.wanted.count()).unwrap_or(usize::MAX);
        if made < asked && !self.is_paid_by_picture {
            return Err(format!("{made} of {asked} pictures"));
        }
        Ok(made.min(asked))
    }

    /// Whether a file is what was ordered.
    ///
    /// # Errors
    /// Says what it is instead.
    pub fn check(self, file: &Verified) -> Result<(), String> {
        let sides = file.width.zip(file.height).map(|(width, height)| Sides { width, height });
        let seconds = file.duration_seconds;
        match (self.task, sides) {
            ("image.generate" | "image.edit" | "image.blend", Some(sides)) => {
                self.check_format(file.mime_type)?;
                self.check_drawn(sides)
            }
            ("image.upscale", Some(sides)) => self.check_enlarged(sides),
            ("image.remove_background", _) if file.mime_type == "image/jpeg" => {
                Err("a JPEG, which has no transparency".to_owned())
            }
            (task, Some(sides)) if is_of_source(task) => self.check_shape_kept(sides),
            ("video.generate" | "video.extend", Some(sides)) => {
                self.check_length(seconds)?;
                self.check_film(sides, file.has_sound)
            }
            ("audio.speech" | "audio.music", _) => self.check_sound(seconds),
            _ => Ok(()),
        }
    }

    fn check_format(self, made: &str) -> Result<(), String> {
        match self.text("output_format") {
            Some(asked) if made.strip_prefix("image/") != Some(asked) => Err(format!("{made} for {asked}")),
            _ => Ok(()),
        }
    }

    fn check_drawn(self, made: Sides) -> Result<(), String> {
        if let Some(asked) = self.text("size").and_then(|size| Sides::read(size, 'x')) {
            let least = |side: u32| f64::from(side) * SIZE_LEAST;
            let is_small =
                f64::from(made.width) < least(asked.width) || f64::from(made.height) < least(asked.height);
            if is_small || !is_near(made.shape(), asked.shape(), SIZE_SHAPE_TOLERANCE) {
                return Err(format!("{made} pixels for {asked}"));
            }
        }
        // Words of its own in the prompt go before the field, at Midjourney.
        let has_own = self
            .text("prompt")
            .is_some_and(|prompt| ["--ar ", "--aspect "].iter().any(|word| prompt.contains(word)));
        if has_own { Ok(()) } else { self.check_ratio(made, RATIO_TOLERANCE) }
    }

    fn check_ratio(self, made: Sides, tolerance: f64) -> Result<(), String> {
        match self.text("aspect_ratio").and_then(|ratio| Sides::read(ratio, ':')) {
            Some(asked) if !is_near(made.shape(), asked.shape(), tolerance) => {
                Err(format!("{made} pixels for {}:{}", asked.width, asked.height))
            }
            _ => Ok(()),
        }
    }

    /// The sides of the source, and those that it has for whoever passes over its EXIF orientation, where it has one.
    fn sources(self) -> Option<(Sides, Option<Sides>)> {
        let Picture { width, height, is_turned } = self.source?;
        let turned = is_turned.then_some(Sides { width: height, height: width });
        Some((Sides { width, height }, turned))
    }

    fn check_shape_kept(self, made: Sides) -> Result<(), String> {
        let Some((source, turned)) = self.sources() else { return Ok(()) };
        let is_like = |source: Sides| is_near(made.shape(), source.shape(), SOURCE_TOLERANCE);
        if is_like(source) || turned.is_some_and(is_like) {
            return Ok(());
        }
        Err(format!("{made} pixels of {source}"))
    }

    fn check_enlarged(self, made: Sides) -> Result<(), String> {
        let Some((source, turned)) = self.sources() else { return Ok(()) };
        let factor = self.number("factor");
        let will_do = |made: u32, source: u32| match factor {
            Some(factor) => is_near(f64::from(made), f64::from(source) * factor, SOURCE_TOLERANCE),
            None => f64::from(made) >= f64::from(source) * ENLARGED_LEAST,
        };
        let is_enlarged =
            |source: Sides| will_do(made.width, source.width) && will_do(made.height, source.height);
        if is_enlarged(source) || turned.is_some_and(is_enlarged) {
            return Ok(());
        }
        match factor {
            Some(factor) => Err(format!("{made} pixels for {factor} times {source}")),
            None => Err(format!("{made} pixels, fewer than the {source} they were made from")),
        }
    }

    fn check_length(self, made: Option<f64>) -> Result<(), String> {
        let (Some(made), Some(asked)) = (made, self.number("seconds")) else { return Ok(()) };
        // A film that goes on may come with all that was before.
        let may_be_longer = self.task == "video.extend";
        let most = asked * SECONDS_MOST + SECONDS_ON_TOP;
        if made < asked * SECONDS_LEAST || (made > most && !may_be_longer) {
            return Err(format!("{made:.1} seconds for {asked}"));
        }
        Ok(())
    }

    fn check_film(self, made: Sides, has_sound: bool) -> Result<(), String> {
        // The shape of a first or last frame counts more than words.
        let has_frame = ["image", "end_image"].iter().any(|field| self.wanted.field(field).is_some());
        if !has_frame {
            self.check_ratio(made, FILM_RATIO_TOLERANCE)?;
        }
        if let Some(resolution) = self.text("resolution")
            && let Some(lines) = lines(resolution)
            && f64::from(made.width.min(made.height)) < lines * LINES_LEAST
        {
            return Err(format!("{made} pixels for {resolution}"));
        }
        if self.wanted.field("audio") == Some(&Value::Bool(true)) && !has_sound {
            return Err("a film without the sound that was asked for".to_owned());
        }
        Ok(())
    }

    fn check_sound(self, made: Option<f64>) -> Result<(), String> {
        let Some(made) = made else { return Ok(()) };
        let letters =
            self.text("text").map_or(0, |text| text.chars().filter(|c| c.is_alphanumeric()).count());
        let letters = u32::try_from(letters).unwrap_or(u32::MAX);
        let pace = LETTERS_A_SECOND * self.number("speed").unwrap_or(1.0).max(1.0);
        if made < (f64::from(letters) / pace).max(SOUND_LEAST_SECONDS) {
            return Err(format!("{made:.2} seconds of sound for {letters} letters"));
        }
        Ok(())
    }

    fn text(self, field: &str) -> Option<&'a str> {
        self.wanted.field(field).and_then(Value::as_str)
    }

    fn number(self, field: &str) -> Option<f64> {
        self.wanted.field(field).and_then(Value::as_f64)
    }
}

/// Two sides, in pixels or of a ratio.
#[derive(Debug, Clone, Copy)]
struct Sides {
    width: u32,
    height: u32,
}

impl Sides {
    /// Two numbers with this between them, such as `1024x768` or `16:9`.
    fn read(text: &str, between: char) -> Option<Self> {
        let (width, height) = text.split_once(between)?;
        Some(Self { width: width.parse().ok()?, height: height.parse().ok()? })
    }

    /// Width to height.
    fn shape(self) -> f64 {
        f64::from(self.width.max(1)) / f64::from(self.height.max(1))
    }
}

impl std::fmt::Display for Sides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}

/// Whether neither is greater than the other by more than this share.
fn is_near(one: f64, other: f64, tolerance: f64) -> bool {
    one.max(other) <= one.min(other) * (1.0 + tolerance)
}

/// Lines of a resolution such as `720p`. Vendors mean more or less by thousands of pixels; the least is taken.
fn lines(resolution: &str) -> Option<f64> {
    match resolution.to_ascii_lowercase().as_str() {
        "2k" => Some(1080.0),
        "4k" => Some(2160.0),
        word => word.strip_suffix('p')?.parse::<u32>().ok().map(f64::from),
    }
}

#[cfg(test)]
mod tests;
