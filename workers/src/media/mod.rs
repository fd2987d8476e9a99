//! Judges files before anybody calls them a result: recognised by their bytes, decoded, measured.
//!
//! Keeps the rule that nothing is stored as an output, and nobody charged for it, unless it can really be opened:
//! a cut download, an error page saved as `.mp4` or a decompression bomb stops here. Of what callers send in only the
//! header of a picture is read ([`survey`]). Everything but posters is blocking and belongs in `spawn_blocking`. Deliberately
//! absent: any trust in file names or `Content-Type` headers, transcoding, and the network.

use std::{
    fs::File,
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

mod audio;
mod boxes;
mod ends;
mod header;
mod ogg;
mod poster;
mod preview;
#[cfg(test)]
mod properties;
pub(crate) mod raster;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod sounds;
mod vector;
mod video;
mod vorbis;

pub use header::{Picture, survey};
pub use poster::{PROGRAM as POSTER_PROGRAM, poster};
pub use preview::{Preview, preview};
pub(crate) use raster::MAX_PIXELS as RESULT_MAX_PIXELS;
pub use shared::format::{Format, HEAD_BYTES, sniff};

/// What a task promises to make; the file must be of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A raster image: JPEG, PNG, WebP or GIF.
    Image,
    /// An SVG drawing.
    Vector,
    /// An MP4 with a picture.
    Video,
    /// Sound in a container that names its own format.
    Audio,
    /// Raw 16-bit samples without a header, which only the request can tell apart from noise.
    Pcm,
}

impl Kind {
    /// Which kind of result a file of this format can be; `None` for documents, which are only ever sent in.
    pub fn of(format: Format) -> Option<Self> {
        match format {
            Format::Jpeg | Format::Png | Format::WebP | Format::Gif => Some(Self::Image),
            Format::Svg => Some(Self::Vector),
            Format::Mp4 => Some(Self::Video),
            Format::Mp3 | Format::Wav | Format::Ogg | Format::Flac | Format::Aac | Format::M4a => {
                Some(Self::Audio)
            }
            Format::Pdf => None,
        }
    }
}

/// What is known of a file that proved sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Type found in the bytes.
    pub mime_type: &'static str,
    /// Extension for the storage key, without the dot.
    pub extension: &'static str,
    /// Length of the file.
    pub size_bytes: u64,
    /// Pixels across, as displayed, where the file has a picture.
    pub width: Option<u32>,
    /// Pixels down, as displayed, where the file has a picture.
    pub height: Option<u32>,
    /// Length in time, where the file has one.
    pub duration_seconds: Option<f64>,
    /// Whether there is something to hear.
    pub has_sound: bool,
}

/// Why a file is not a usable result.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// Zero bytes.
    #[error("the file is empty")]
    Empty,
    /// No known magic bytes: an error page, JSON, or a format that is not served.
    #[error("the file is of no known format")]
    Unrecognised,
    /// A sound file of another kind than the task makes.
    #[error("the file is {}, expected {expected:?}", found.mime_type())]
    WrongKind {
        /// What the bytes say.
        found: Format,
        /// What the task promised.
        expected: Kind,
    },
    /// Larger than this process is willing to open; the text names the limit.
    #[error("the file is too large: {0}")]
    TooLarge(String),
    /// Of the right kind, but truncated or damaged.
    #[error("the file cannot be decoded: {0}")]
    Undecodable(String),
    /// The local disk failed, which says nothing about the file.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
}

/// What a decoder measured; [`verify`] adds the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Measures {
    width: Option<u32>,
    height: Option<u32>,
    duration_seconds: Option<f64>,
    has_sound: bool,
}

impl Measures {
    fn of_picture(width: u32, height: u32) -> Self {
        Self { width: Some(width), height: Some(height), ..Self::default() }
    }

    fn of_sound(seconds: f64) -> Self {
        Self { duration_seconds: Some(seconds), has_sound: true, ..Self::default() }
    }
}

/// Opens the file at `path`, decodes it as far as this program can, and measures it.
///
/// Images and sound are decoded to the end; of videos the structure is checked and that every sample lies inside
/// the file. Blocking, and as slow as decoding is.
///
/// # Errors
/// Every [`MediaError`]; all but [`MediaError::Io`] are verdicts on the file.
pub fn verify(path: &Path, expected: Kind) -> Result<Verified, MediaError> {
    let size_bytes = std::fs::metadata(path)?.len();
    if size_bytes == 0 {
        return Err(MediaError::Empty);
    }
    if expected == Kind::Pcm {
        return audio::verify_pcm(size_bytes);
    }

    let format = sniff(&head(path)?).ok_or(MediaError::Unrecognised)?;
    if Kind::of(format) != Some(expected) {
        return Err(MediaError::WrongKind { found: format, expected });
    }
    // A decoder that panics over a file has said what it thinks of it.
    let measures = catch_unwind(AssertUnwindSafe(|| match expected {
        Kind::Image => raster::measure(path, format),
        Kind::Vector => vector::measure(path),
        Kind::Video => video::measure(path),
        Kind::Audio | Kind::Pcm => audio::measure(path, format),
    }))
    .map_err(|_| MediaError::Undecodable("it contradicts itself".to_owned()))??;
    Ok(Verified {
        mime_type: format.mime_type(),
        extension: format.extension(),
        size_bytes,
        width: measures.width,
        height: measures.height,
        duration_seconds: measures.duration_seconds,
        has_sound: measures.has_sound,
    })
}

/// The first bytes of the file, as many as [`sniff`] looks at.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The whole file, or a refusal when it is longer than `limit` bytes.
fn contents(path: &Path, limit: u64) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(MediaError::TooLarge(format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_empty_whatever_was_expected() {
        for kind in [Kind::Image, Kind::Vector, Kind::Video, Kind::Audio, Kind::Pcm] {
            let file = samples::file(b"");
            assert!(matches!(verify(file.path(), kind), Err(MediaError::Empty)), "{kind:?}");
        }
    }

    #[test]
    fn an_error_page_is_unrecognised() {
        for page in [&b"<!doctype html><html><body>502 Bad Gateway</body></html>"[..], br#"{"error":"x"}"#] {
            let file = samples::file(page);
            assert!(matches!(verify(file.path(), Kind::Video), Err(MediaError::Unrecognised)));
        }
    }

    #[test]
    fn a_sound_file_of_another_kind_is_told_apart() {
        let file = samples::file(&samples::png(4, 4));
        let error = verify(file.path(), Kind::Video).unwrap_err();
        assert!(matches!(error, MediaError::WrongKind { found: Format::Png, expected: Kind::Video }));
        assert_eq!(error.to_string(), "the file is image/png, expected Video");
    }

    #[test]
    fn a_file_is_described_whole() {
        let bytes = samples::png(7, 5);
        let file = samples::file(&bytes);
        let verified = verify(file.path(), Kind::Image).unwrap();
        let expected = Verified {
            mime_type: "image/png",
            extension: "png",
            size_bytes: bytes.len() as u64,
            width: Some(7),
            height: Some(5),
            duration_seconds: None,
            has_sound: false,
        };
        assert_eq!(verified, expected);
    }
}
