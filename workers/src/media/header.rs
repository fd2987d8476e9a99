//! What a picture that was sent in says of itself, read before anything decodes it.
//!
//! Keeps the rule that no input goes on to a vendor, or to a decoder of ours, that is large out of all proportion once it is
//! opened: a few kilobytes can promise pixels without number, in one frame or in thousands of them. Sounds, films and documents
//! are sent on unopened, so only their length in bytes bounds them. Deliberately absent: decoding, and any judgement of what
//! comes after the header.

use std::io::Cursor;

use image::{ImageDecoder, ImageReader, Limits, metadata::Orientation};

use super::{Format, vector};

/// Most pixels of a picture that is taken: what good cameras make, and more than any vendor takes.
const MAX_PIXELS: u64 = 50_000_000;

/// Longest side of a picture that is taken, in pixels.
const MAX_SIDE: u32 = 16_384;

/// Most memory that reading a header may take: the file once more, and what is packed in it, such as a colour profile.
const MAX_HEADER_BYTES: u64 = 64 * 1024 * 1024;

/// Most pixels of all frames of an animation together, which whoever opens it may hold in memory at once: two gigabytes.
const MAX_MOVING_PIXELS: u64 = 500_000_000;

/// Longest drawing that is taken. A traced photograph has as much; vendors draw it pixel by pixel.
const MAX_DRAWING_BYTES: usize = 5 * 1024 * 1024;

/// What the header of a picture says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across, as displayed.
    pub width: u32,
    /// Pixels down, as displayed.
    pub height: u32,
    /// Whether it is displayed as it is because its EXIF orientation turns it: whoever passes over that sees it lying on its side.
    pub is_turned: bool,
}

/// Reads the header of a file that was sent in and holds it against the limits; `None` for what is no picture of pixels.
///
/// # Errors
/// Says what is wrong, to be read behind the name of the field.
pub fn survey(bytes: &[u8], format: Format) -> Result<Option<Picture>, String> {
    match format {
        Format::Jpeg | Format::Png | Format::WebP | Format::Gif => raster(bytes, format).map(Some),
        Format::Svg => drawing(bytes).map(|()| None),
        Format::Mp4
        | Format::Mp3
        | Format::Wav
        | Format::Ogg
        | Format::Flac
        | Format::Aac
        | Format::M4a
        | Format::Pdf => Ok(None),
    }
}

fn raster(bytes: &[u8], format: Format) -> Result<Picture, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("cannot be read as a picture: {error}");
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|error| unreadable(&error))?;
    // The sides have no limit here, so that they can be told.
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_HEADER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| unreadable(&error))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    check_frames(&frames(bytes, format, u64::from(width) * u64::from(height)))?;
    // An orientation that cannot be read turns nothing.
    let is_turned = decoder.orientation().is_ok_and(is_quarter_turn);
    let (width, height) = if is_turned { (height, width) } else { (width, height) };
    Ok(Picture { width, height, is_turned })
}

fn check_size(width: u32, height: u32) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err("has no pixels".to_owned());
    }
    if pixels > MAX_PIXELS || width.max(height) > MAX_SIDE {
        let most = MAX_PIXELS / 1_000_000;
        return Err(format!(
            "has {width}×{height} pixels; at most {most} megapixels are taken, and {MAX_SIDE} a side"
        ));
    }
    Ok(())
}

fn is_quarter_turn(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// The frames of an animation, counted and not opened. A picture that does not move has none.
struct Frames {
    count: u64,
    /// Pixels of the largest, and at least those of the picture as a whole.
    largest: u64,
}

fn check_frames(frames: &Frames) -> Result<(), String> {
    let pixels = frames.count.saturating_mul(frames.largest);
    if pixels > MAX_MOVING_PIXELS || frames.largest > MAX_PIXELS {
        let (found, most) = (pixels / 1_000_000, MAX_MOVING_PIXELS / 1_000_000);
        return Err(format!(
            "has {} frames with {found} megapixels together; at most {most} are taken",
            frames.count
        ));
    }
    Ok(())
}

fn frames(bytes: &[u8], format: Format, canvas: u64) -> Frames {
    match format {
        Format::Png => Frames { count: count_png_frames(bytes), largest: canvas },
        Format::WebP => Frames { count: count_webp_frames(bytes), largest: canvas },
        Format::Gif => gif_frames(bytes, canvas),
        _ => Frames { count: 0, largest: canvas },
    }
}

/// Frames of an animated PNG, each of which has a chunk of its own for what it is (PNG, third edition, 11.3.6).
fn count_png_frames(bytes: &[u8]) -> u64 {
    /// Bytes of the signature.
    const START: usize = 8;
    /// Bytes of the checksum behind a chunk.
    const CHECKSUM: usize = 4;

    let mut rest = skip(bytes, START);
    let mut frames = 0;
    while let Some(([a, b, c, d, name @ ..], after)) = rest.split_first_chunk::<8>() {
        frames += u64::from(name == b"fcTL");
        rest = skip(after, length(u32::from_be_bytes([*a, *b, *c, *d])).saturating_add(CHECKSUM));
    }
    frames
}

/// Frames of an animated WebP: its chunks of that kind (RFC 9649, 2.7.1.1).
fn count_webp_frames(bytes: &[u8]) -> u64 {
    /// Bytes of the RIFF header.
    const START: usize = 12;

    let mut rest = skip(bytes, START);
    let mut frames = 0;
    while let Some(([name @ .., a, b, c, d], after)) = rest.split_first_chunk::<8>() {
        frames += u64::from(name == b"ANMF");
        let length = length(u32::from_le_bytes([*a, *b, *c, *d]));
        // A chunk of odd length is padded.
        rest = skip(after, length.saturating_add(length % 2));
    }
    frames
}

/// Frames of a GIF: its image descriptors, each with a size of its own (GIF89a, 20). What no decoder knows is passed over, for some
/// decoders do so.
fn gif_frames(bytes: &[u8], canvas: u64) -> Frames {
    /// Bytes of the header and of the screen's descriptor, whose flags are in the last but two.
    const START: usize = 13;

    let mut frames = Frames { count: 0, largest: canvas };
    let Some((start, mut rest)) = bytes.split_first_chunk::<START>() else { return frames };
    rest = skip(rest, colour_table(start[10]));
    loop {
        rest = match rest {
            [0x2C, _, _, _, _, w, width, h, height, flags, tail @ ..] => {
                let (width, height) = (u16::from_le_bytes([*w, *width]), u16::from_le_bytes([*h, *height]));
                frames.count += 1;
                frames.largest = frames.largest.max(u64::from(width) * u64::from(height));
                // One byte more tells the length of the first code.
                behind_blocks(skip(tail, colour_table(*flags) + 1))
            }
            [0x21, _, tail @ ..] => behind_blocks(tail),
            [_, tail @ ..] => tail,
            [] => return frames,
        };
    }
}

/// Bytes of the colour table that these flags of a GIF announce.
fn colour_table(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 0x07) + 1) }
}

/// What comes after a row of blocks, each of which begins with its length; an empty one is the last.
fn behind_blocks(mut rest: &[u8]) -> &[u8] {
    while let Some((length, tail)) = rest.split_first() {
        if *length == 0 {
            return tail;
        }
        rest = skip(tail, usize::from(*length));
    }
    rest
}

fn skip(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(count..).unwrap_or_default()
}

fn length(written: u32) -> usize {
    usize::try_from(written).unwrap_or(usize::MAX)
}

/// A drawing has as many pixels as whoever opens it makes of it: at least its declared size is bounded, and it may not grow by entities.
fn drawing(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MAX_DRAWING_BYTES {
        return Err(format!("is a drawing of more than {MAX_DRAWING_BYTES} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is a drawing that is not in UTF-8")?;
    if text.to_ascii_lowercase().contains("<!entity") {
        return Err("is a drawing with entities, which may stand for any length of text".to_owned());
    }
    let (width, height) = vector::size(text);
    check_size(width.unwrap_or(1), height.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::*;
    use crate::media::{HEAD_BYTES, samples, sniff};

    fn look(bytes: &[u8]) -> Result<Option<Picture>, String> {
        survey(bytes, sniff(&bytes[..bytes.len().min(HEAD_BYTES)]).unwrap())
    }

    fn check(bytes: &[u8], expected: (u32, u32, bool)) {
        let found = look(bytes).map(|picture| picture.map(|it| (it.width, it.height, it.is_turned)));
        assert_eq!(found, Ok(Some(expected)), "{:?}", sniff(bytes));
    }

    fn check_refused(bytes: &[u8], expected: &str) {
        let found = look(bytes);
        assert!(found.as_ref().is_err_and(|why| why.contains(expected)), "{expected}: {found:?}");
    }

    /// A GIF of that size whose frames are of these.
    fn gif((width, height): (u16, u16), frames: &[(u16, u16)]) -> Vec<u8> {
        let size = |width: u16, height: u16| [width.to_le_bytes(), height.to_le_bytes()].concat();
        // The screen has two colours, and a comment goes before the first frame.
        let mut bytes = [&b"GIF89a"[..], &size(width, height), &[0x80, 0, 0], &[0; 6]].concat();
        bytes.extend(b"\x21\xFE\x03\x2C\x2C\x2C\x00");
        for (width, height) in frames {
            bytes.extend(b"\x2C\0\0\0\0");
            bytes.extend(size(*width, *height));
            // Two colours of its own, then the length of the first code and one block.
            bytes.extend(b"\x80\0\0\0\0\0\0\x02\x01\x44\0");
        }
        bytes.push(0x3B);
        bytes
    }

    #[test]
    fn a_header_tells_the_size_as_displayed() {
        check(&samples::png(40, 20), (40, 20, false));
        check(&samples::jpeg(40, 20), (40, 20, false));
        check(&samples::jpeg_turned_right(40, 20), (20, 40, true));
        check(&samples::encoded(40, 20, ImageFormat::WebP), (40, 20, false));
        check(&samples::encoded(40, 20, ImageFormat::Gif), (40, 20, false));
        check(&gif((40, 20), &[(40, 20), (10, 10)]), (40, 20, false));
        // Nothing behind the header is looked at.
        let whole = samples::png(40, 20);
        check(&whole[..whole.len() / 2], (40, 20, false));
    }

    #[test]
    fn a_picture_too_large_to_be_opened_is_refused_with_its_size() {
        check_refused(&samples::flat_png(9000, 9000), "has 9000×9000 pixels; at most 50 megapixels");
        check_refused(&gif((20_000, 20_000), &[(1, 1)]), "has 20000×20000 pixels");
        check_refused(&gif((16_385, 10), &[(1, 1)]), "16384 a side");
        check(&gif((16_384, 3000), &[(1, 1)]), (16_384, 3000, false));
        check_refused(&gif((0, 10), &[(1, 1)]), "has no pixels");
        check_refused(b"\x89PNG\r\n\x1a\nrubbish", "cannot be read as a picture");
    }

    #[test]
    fn an_animation_is_bounded_by_all_its_frames_together() {
        check(&gif((1000, 1000), &[(1000, 1000); 500]), (1000, 1000, false));
        check_refused(&gif((1000, 1000), &[(1000, 1000); 501]), "has 501 frames with 501 megapixels");
        // However small they are, each may be painted on the whole.
        check_refused(&gif((1000, 1000), &[(1, 1); 501]), "has 501 frames");
        check_refused(&gif((10, 10), &[(60_000, 60_000)]), "has 1 frames with 3600 megapixels");
        check_refused(&gif((10, 10), &[(10_000, 6000)]), "has 1 frames with 60 megapixels");

        let still = samples::png(200, 200);
        let (body, end) = still.split_at(still.len() - 12);
        let frame = [&[0_u8, 0, 0, 26][..], b"fcTL", &[0; 26 + 4]].concat();
        let moving = |frames: usize| [body, &frame.repeat(frames), end].concat();
        check(&moving(12_500), (200, 200, false));
        check_refused(&moving(12_501), "has 12501 frames with 500 megapixels");

        let still = samples::encoded(100, 100, ImageFormat::WebP);
        let frame = [&b"ANMF"[..], &[3, 0, 0, 0], &[0; 4]].concat();
        check_refused(&[&still[..], &frame.repeat(50_001)].concat(), "has 50001 frames");
    }

    #[test]
    fn a_drawing_is_bounded_in_what_it_declares_and_in_length() {
        let refused = |text: &str, expected: &str| check_refused(text.as_bytes(), expected);
        assert_eq!(look(b"<svg width=\"640\" height=\"480\"></svg>"), Ok(None));
        assert_eq!(look(b"<svg viewBox=\"0 0 9 9\"></svg>"), Ok(None));
        refused("<svg width=\"20000\" height=\"20000\"></svg>", "has 20000×20000 pixels");
        refused("<svg width=\"1e6\"></svg>", "16384 a side");
        refused("<svg><!ENTITY a \"b\"></svg>", "entities");
        refused(&format!("<svg>{}</svg>", " ".repeat(MAX_DRAWING_BYTES)), "more than 5242880 bytes");
    }

    #[test]
    fn what_is_no_picture_is_not_looked_at() {
        assert_eq!(look(&samples::wav(8000, 10)), Ok(None));
        assert_eq!(look(b"%PDF-1.7"), Ok(None));
    }
}
