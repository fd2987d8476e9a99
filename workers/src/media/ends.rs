//! Whether the file of a picture runs to its end.
//!
//! Decoders are forgiving: they fill a missing lower half with grey, and stop at the last pixel they were asked for. A cut
//! download must not pass for a result, so the formats' own marks of the end are looked for. Deliberately absent: what the
//! marks enclose; that is the decoder's to judge.

use super::Format;

/// Whether the picture reaches the end that its format marks.
pub(super) fn reaches_end(bytes: &[u8], format: Format) -> bool {
    match format {
        Format::Jpeg => reaches_jpeg_end(bytes),
        Format::Png => reaches_png_end(bytes),
        Format::Gif => reaches_gif_end(bytes).is_some(),
        Format::WebP => reaches_riff_end(bytes),
        _ => true,
    }
}

/// Whether the JPEG runs to its end marker.
fn reaches_jpeg_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    const END_OF_IMAGE: u8 = 0xD9;

    let mut at = 2;
    while let Some(&[0xFF, marker]) = bytes.get(at..at + 2) {
        match marker {
            END_OF_IMAGE => return true,
            // Fill bytes and markers that stand alone.
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                if marker == START_OF_SCAN {
                    let Some(next) = next_marker(bytes, at) else { return false };
                    at = next;
                }
            }
        }
    }
    false
}

/// Where compressed data that begins at `from` gives way to a marker other than a restart.
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let data = bytes.get(from..)?;
    let found = data.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7))?;
    Some(from + found)
}

/// Whether the PNG runs to its last chunk, checksum included.
fn reaches_png_end(bytes: &[u8]) -> bool {
    /// Length, name and checksum of a chunk.
    const FRAME_BYTES: usize = 12;

    let mut at = 8;
    while let Some(&[a, b, c, d, ref name @ ..]) = bytes.get(at..at + 8) {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        at = at.saturating_add(length).saturating_add(FRAME_BYTES);
        if name == b"IEND" {
            return at <= bytes.len();
        }
    }
    false
}

/// Whether the RIFF file holds as much as it says.
fn reaches_riff_end(bytes: &[u8]) -> bool {
    let Some(&[a, b, c, d]) = bytes.get(4..8) else { return false };
    bytes.len() as u64 >= u64::from(u32::from_le_bytes([a, b, c, d])) + 8
}

/// Whether the GIF runs to its trailer; `None` where it does not.
fn reaches_gif_end(bytes: &[u8]) -> Option<()> {
    const TRAILER: u8 = 0x3B;
    const EXTENSION: u8 = 0x21;
    const IMAGE: u8 = 0x2C;

    // Behind the screen's size and its colours, if it has any of its own.
    let mut at = 13 + colours_bytes(*bytes.get(10)?);
    loop {
        match *bytes.get(at)? {
            TRAILER => return Some(()),
            // The kind of extension follows.
            EXTENSION => at += 2,
            // Place and size, flags, colours, and one byte on how the pixels are written.
            IMAGE => at += 11 + colours_bytes(*bytes.get(at + 9)?),
            _ => return None,
        }
        // Data in blocks, the last of which is empty.
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

/// Bytes of a colour table, from the flags that announce it.
fn colours_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 0x07) + 1) }
}
