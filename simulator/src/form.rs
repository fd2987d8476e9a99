//! A multipart form read strictly, part by part, with a complaint that names what is wrong.
//!
//! The twin of `fields` for vendors that take forms: everything in a form is text or a file, so numbers come as
//! words. A part with a file name is a file; pictures among them must be recognisable as such.

use std::{io::Cursor, ops::RangeInclusive, str::FromStr};

use axum::extract::{FromRequest as _, Multipart, Request};
use bytes::Bytes;
use image::{ImageFormat, ImageReader};

use crate::fields::Complaint;

/// The longest side of a picture that is made here: large enough for the vendors' largest, four times as wide.
const SIDE_MAX: u32 = 8192;
/// The shortest.
const SIDE_MIN: u32 = 16;

/// A form under strict eyes.
#[derive(Debug, Default)]
pub(crate) struct Form {
    texts: Vec<(String, String)>,
    files: Vec<(String, Bytes)>,
}

/// A picture that came with a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// What kind of file it is.
    pub format: ImageFormat,
    /// Length of the file.
    pub bytes: usize,
}

impl Picture {
    /// The picture's size so many times over, within what the writers of pictures here take.
    pub fn scaled(&self, times: u32) -> (u32, u32) {
        let side = |pixels: u32| pixels.saturating_mul(times).clamp(SIDE_MIN, SIDE_MAX) & !1;
        (side(self.width), side(self.height))
    }

    /// How many pixels it has.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// How it is named in the prompt of the ledger, so that a tool without a prompt can be told apart: `320x200`.
    pub fn name(&self) -> String {
        format!("{}x{}", self.width, self.height)
    }
}

impl Form {
    /// Reads a whole form.
    ///
    /// # Errors
    /// A complaint when the request is no multipart form or breaks off.
    pub async fn receive(request: Request) -> Result<Self, Complaint> {
        let unreadable =
            |error: String| Complaint::general(format!("could not parse the multipart form: {error}"));
        let mut parts =
            Multipart::from_request(request, &()).await.map_err(|error| unreadable(error.body_text()))?;
        let mut form = Self::default();
        while let Some(part) = parts.next_field().await.map_err(|error| unreadable(error.body_text()))? {
            let name = part.name().unwrap_or_default().to_owned();
            if part.file_name().is_some() {
                let bytes = part.bytes().await.map_err(|error| unreadable(error.body_text()))?;
                form.files.push((name, bytes));
            } else {
                let text = part.text().await.map_err(|error| unreadable(error.body_text()))?;
                form.texts.push((name, text));
            }
        }
        Ok(form)
    }

    /// Refuses parts that the vendor does not know, and files where a text belongs or the other way round.
    pub fn only(&self, texts: &[&str], files: &[&str]) -> Result<(), Complaint> {
        let strange_text =
            self.texts.iter().map(|(name, _)| name).find(|name| !texts.contains(&name.as_str()));
        let strange_file =
            self.files.iter().map(|(name, _)| name).find(|name| !files.contains(&name.as_str()));
        match strange_text.or(strange_file) {
            Some(stranger) => Err(Complaint::of(stranger, format!("unexpected part: {stranger}"))),
            None => Ok(()),
        }
    }

    /// How many bytes its files have together.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// A text that must be there and not be blank, of at most `chars_max` characters.
    pub fn text(&self, name: &str, chars_max: usize) -> Result<&str, Complaint> {
        match self.optional_text(name, chars_max)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(Complaint::of(name, format!("{name}: cannot be blank"))),
        }
    }

    /// A text that may be absent.
    pub fn optional_text(&self, name: &str, chars_max: usize) -> Result<Option<&str>, Complaint> {
        let Some((_, text)) = self.texts.iter().find(|(known, _)| known == name) else { return Ok(None) };
        if text.chars().count() > chars_max {
            return Err(Complaint::of(name, format!("{name}: cannot exceed {chars_max} characters")));
        }
        Ok(Some(text))
    }

    /// One of a few words, or absent.
    pub fn choice(&self, name: &str, allowed: &[&str]) -> Result<Option<&str>, Complaint> {
        match self.optional_text(name, usize::MAX)? {
            Some(word) if !allowed.contains(&word) => {
                Err(Complaint::of(name, format!("{name}: {word:?} is not one of {allowed:?}")))
            }
            word => Ok(word),
        }
    }

    /// A number in a range, or absent.
    pub fn number<N: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        range: RangeInclusive<N>,
    ) -> Result<Option<N>, Complaint> {
        let Some(text) = self.optional_text(name, usize::MAX)? else { return Ok(None) };
        let number = text.parse::<N>().ok().filter(|number| range.contains(number));
        let wanted = || format!("{name}: must be a number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| Complaint::of(name, wanted()))
    }

    /// A picture that must be there.
    pub fn picture(&self, name: &str) -> Result<Picture, Complaint> {
        let missing = || Complaint::of(name, format!("{name}: is required"));
        self.pictures(name)?.first().copied().ok_or_else(missing)
    }

    /// All pictures in parts of this name.
    pub fn pictures(&self, name: &str) -> Result<Vec<Picture>, Complaint> {
        self.files.iter().filter(|(known, _)| known == name).map(|(_, bytes)| look_at(name, bytes)).collect()
    }
}

fn look_at(name: &str, bytes: &[u8]) -> Result<Picture, Complaint> {
    let unreadable = || Complaint::of(name, format!("{name}: is no picture that can be read"));
    let format = image::guess_format(bytes).map_err(|_| unreadable())?;
    let reader = ImageReader::with_format(Cursor::new(bytes), format);
    let (width, height) = reader.into_dimensions().map_err(|_| unreadable())?;
    Ok(Picture { width, height, format, bytes: bytes.len() })
}
