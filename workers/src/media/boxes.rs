//! Walks the boxes of an ISO media file before a parser is let near them.
//!
//! Keeps the rule that every box lies inside the one that holds it. The parser behind `video.rs` believes what boxes say of
//! their own length: one of length zero sends it round in a circle for ever, one of a terabyte has it ask for as much memory,
//! and a process that is refused memory is gone with everything it was doing. Facts from ISO/IEC 14496-12, and from where that
//! parser looks. Deliberately absent: what is in the boxes, but for how many samples they claim.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
};

use super::MediaError;

/// Most samples an index may claim, over nine hours of 60 frames a second; a few forged bytes can claim billions, and the
/// parser would make room for each.
const MAX_SAMPLES: u64 = 2_000_000;

/// Deepest nesting that is followed; the way to the codec of a sound, `moov/trak/mdia/minf/stbl/stsd/mp4a/wave`, has eight.
const MAX_DEPTH: u8 = 12;

/// Length of a box's own length and name.
const HEAD_BYTES: u64 = 8;

/// A box, as far as its head tells.
struct Head {
    name: [u8; 4],
    body: u64,
    end: u64,
}

/// Checks the boxes of a file of `size` bytes down to the last that a parser opens.
pub(super) fn check(reader: &mut BufReader<File>, size: u64) -> Result<(), MediaError> {
    let mut samples = 0;
    walk(reader, 0, size, 0, &mut samples)
}

/// Checks the outermost boxes alone: a file that was cut inside one of them shows.
pub(super) fn check_outermost(reader: &mut BufReader<File>, size: u64) -> Result<(), MediaError> {
    let mut at = 0;
    while at < size {
        at = head(reader, at, size, true)?.end;
    }
    Ok(())
}

fn walk(
    reader: &mut BufReader<File>,
    from: u64,
    to: u64,
    depth: u8,
    samples: &mut u64,
) -> Result<(), MediaError> {
    if depth > MAX_DEPTH {
        return Err(damage("boxes are nested too deeply"));
    }
    let (mut at, mut has_codec) = (from, false);
    while at < to {
        // Some writers end the description of a codec with four zero bytes; nothing after the codec itself is read.
        if has_codec && to - at < HEAD_BYTES {
            break;
        }
        let found = head(reader, at, to, depth == 0)?;
        has_codec |= matches!(&found.name, b"avcC" | b"hvcC" | b"av1C" | b"vpcC" | b"esds");
        *samples += claimed(reader, &found)?;
        if *samples > MAX_SAMPLES {
            return Err(MediaError::TooLarge(format!("the index claims more than {MAX_SAMPLES} samples")));
        }
        if let Some(children) = children(reader, &found)? {
            walk(reader, children, found.end, depth + 1, samples)?;
        }
        at = found.end;
    }
    Ok(())
}

/// The box that begins at `at`, which must end by `limit`. An outermost one may leave its length to the end of the file.
fn head(reader: &mut BufReader<File>, at: u64, limit: u64, is_outermost: bool) -> Result<Head, MediaError> {
    let [a, b, c, d, name @ ..] = bytes::<8>(reader, at)?;
    let (body, length) = match u32::from_be_bytes([a, b, c, d]) {
        0 if is_outermost => (at + HEAD_BYTES, limit - at),
        1 => (at + 2 * HEAD_BYTES, u64::from_be_bytes(bytes(reader, at + HEAD_BYTES)?)),
        short => (at + HEAD_BYTES, short.into()),
    };
    match at.checked_add(length) {
        Some(end) if (body..=limit).contains(&end) => Ok(Head { name, body, end }),
        _ => Err(damage("a box is larger than what holds it, or smaller than its own head")),
    }
}

/// Samples that a box claims there are.
fn claimed(reader: &mut BufReader<File>, found: &Head) -> Result<u64, MediaError> {
    // Behind version and flags; in a table of sizes the one size for all comes first.
    let place = match &found.name {
        b"stsz" => found.body + 8,
        b"trun" => found.body + 4,
        _ => return Ok(0),
    };
    if place + 4 > found.end {
        return Err(damage("a table of samples is cut"));
    }
    Ok(u32::from_be_bytes(bytes(reader, place)?).into())
}

/// Where the boxes inside this one begin, if a parser looks for any there.
fn children(reader: &mut BufReader<File>, found: &Head) -> Result<Option<u64>, MediaError> {
    let skipped = match &found.name {
        b"moov" | b"trak" | b"mdia" | b"minf" | b"stbl" | b"dinf" | b"edts" | b"udta" | b"mvex" | b"moof"
        | b"traf" | b"ilst" | b"wave" | b"\xA9nam" | b"\xA9day" | b"covr" | b"desc" => 0,
        b"stsd" | b"dref" => 8,
        // Version and flags, which Apple's own files leave out.
        b"meta" if found.end - found.body >= 4 && bytes(reader, found.body)? == [0; 4] => 4,
        b"meta" => 0,
        b"avc1" | b"avc3" | b"hvc1" | b"hev1" | b"av01" | b"vp08" | b"vp09" => 78,
        // The version of QuickTime's description decides how long it is.
        b"mp4a" if found.end - found.body >= 10 && bytes(reader, found.body + 8)? == [0, 1] => 44,
        b"mp4a" => 28,
        _ => return Ok(None),
    };
    let start = found.body + skipped;
    if start > found.end {
        return Err(damage("a box is cut before what it holds"));
    }
    Ok(Some(start))
}

/// So many bytes from `at`.
fn bytes<const COUNT: usize>(reader: &mut BufReader<File>, at: u64) -> Result<[u8; COUNT], MediaError> {
    let here = reader.stream_position()?;
    // Relative, so that what is in the buffer is used.
    reader.seek_relative(at.cast_signed().saturating_sub(here.cast_signed()))?;
    let mut found = [0; COUNT];
    reader.read_exact(&mut found).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damage("the file ends inside a box"),
        _ => MediaError::Io(error),
    })?;
    Ok(found)
}

fn damage(why: &str) -> MediaError {
    MediaError::Undecodable(why.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::media::{Kind, MediaError, samples, verify};

    fn refused(bytes: &[u8]) -> String {
        let error = verify(samples::file(bytes).path(), Kind::Video).unwrap_err();
        assert!(matches!(error, MediaError::Undecodable(_)), "{error}");
        error.to_string()
    }

    /// A good video with this box as another child of its index.
    fn with_child(child: &[u8]) -> Vec<u8> {
        let mut bytes = samples::mp4(64, 48, 2);
        let at = bytes.windows(4).rposition(|name| name == b"moov").unwrap() - 4;
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let longer = length + u32::try_from(child.len()).unwrap();
        bytes[at..at + 4].copy_from_slice(&longer.to_be_bytes());
        bytes.extend(child);
        bytes
    }

    #[test]
    fn a_harmless_child_changes_nothing() {
        let file = samples::file(&with_child(b"\0\0\0\x0Cfree\0\0\0\0"));
        assert!(verify(file.path(), Kind::Video).is_ok());
    }

    #[test]
    fn a_box_of_no_length_does_not_hold_the_worker_for_ever() {
        for child in
            [&b"\0\0\0\0free"[..], b"\0\0\0\x10udta\0\0\0\0name", b"\0\0\0\x14meta\0\0\0\0\0\0\0\0hdlr"]
        {
            assert!(refused(&with_child(child)).contains("larger than what holds it"));
        }
    }

    #[test]
    fn a_box_of_a_terabyte_does_not_take_the_process_down() {
        let hdlr = [&b"\0\0\0\x20hdlr\0\0\0\0\0\0\0\0text"[..], &[0; 12]].concat();
        let vast = [&b"\0\0\0\x01text"[..], &(1u64 << 40).to_be_bytes()].concat();
        let meta = [&b"\0\0\0\x3Cmeta\0\0\0\0"[..], &hdlr, &vast].concat();
        assert!(refused(&with_child(&meta)).contains("larger than what holds it"));
    }

    #[test]
    fn boxes_in_boxes_without_end_are_refused() {
        let mut nest = Vec::new();
        for _ in 0..50 {
            let length = u32::try_from(nest.len() + 8).unwrap().to_be_bytes();
            nest = [&length[..], b"udta", &nest].concat();
        }
        assert!(refused(&with_child(&nest)).contains("nested"));
    }
}
