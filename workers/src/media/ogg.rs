//! Walks the pages of an Ogg file, whatever they hold.
//!
//! Every page carries a checksum and a length, and the last one a flag, so damage and cuts show without decoding;
//! decoders alone would take a cut stream for a short one. A file may hold several streams, and each has to end. For Opus, which has no decoder here, the pages also tell
//! how long the sound is. Facts from RFC 3533 (pages) and RFC 7845 (Opus in Ogg).

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufReader, ErrorKind, Read},
    ops::Range,
    path::Path,
};

use super::{MediaError, audio::ratio};

/// Bytes of a page before its segment table.
const HEADER_BYTES: usize = 27;

/// Opus counts time in 48 kHz whatever the sound was sampled at (RFC 7845 §4).
const GRANULES_PER_SECOND: u64 = 48_000;

/// What every Opus stream opens with.
const OPUS_MAGIC: &[u8] = b"OpusHead";

/// Where the `OpusHead` says how much of the start decoders throw away.
const OPUS_PRE_SKIP: Range<usize> = 10..12;

/// A page on which no packet ends carries this for a position.
const NO_POSITION: u64 = u64::MAX;

/// One page, its checksum already found right.
struct Page {
    granule: u64,
    /// Which stream it belongs to.
    serial: u32,
    is_first: bool,
    is_last: bool,
    body: Vec<u8>,
}

/// Checks every page of the file at `path`; the seconds it plays where it holds Opus, `None` for other codecs.
pub(super) fn check(path: &Path) -> Result<Option<f64>, MediaError> {
    let mut reader = BufReader::new(File::open(path)?);
    let first = next_page(&mut reader)?.ok_or(MediaError::Empty)?;
    let (mut end, mut open) = (0, BTreeSet::new());
    if !first.is_last {
        open.insert(first.serial);
    }
    while let Some(page) = next_page(&mut reader)? {
        if page.granule != NO_POSITION {
            end = end.max(page.granule);
        }
        if page.is_first {
            open.insert(page.serial);
        }
        if page.is_last {
            open.remove(&page.serial);
        }
    }
    if !open.is_empty() {
        return Err(MediaError::Undecodable("the ogg file has no last page".to_owned()));
    }
    if !first.body.starts_with(OPUS_MAGIC) {
        return Ok(None);
    }
    let Some(&[low, high]) = first.body.get(OPUS_PRE_SKIP) else {
        return Err(MediaError::Undecodable("the opus header is cut".to_owned()));
    };
    let pre_skip = u64::from(u16::from_le_bytes([low, high]));
    if end <= pre_skip {
        return Err(MediaError::Undecodable("the opus stream holds no sound".to_owned()));
    }
    Ok(Some(ratio(end - pre_skip, GRANULES_PER_SECOND)))
}

/// The next page, or `None` at the end of the file.
fn next_page(reader: &mut impl Read) -> Result<Option<Page>, MediaError> {
    let mut header = [0; HEADER_BYTES];
    if reader.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    fill(reader, &mut header[1..])?;
    if !header.starts_with(b"OggS") {
        return Err(MediaError::Undecodable("a page of the ogg file does not begin as one".to_owned()));
    }
    let mut segments = vec![0; usize::from(header[26])];
    fill(reader, &mut segments)?;
    let mut body = vec![0; segments.iter().map(|length| usize::from(*length)).sum()];
    fill(reader, &mut body)?;

    let granule = u64::from_le_bytes(header[6..14].try_into().expect("eight bytes were taken"));
    let serial = u32::from_le_bytes(header[14..18].try_into().expect("four bytes were taken"));
    let (is_first, is_last) = (header[5] & 0x02 != 0, header[5] & 0x04 != 0);
    let claimed = u32::from_le_bytes(header[22..26].try_into().expect("four bytes were taken"));
    header[22..26].fill(0);
    if checksum([&header[..], &segments, &body]) != claimed {
        return Err(MediaError::Undecodable("a page of the ogg file is damaged".to_owned()));
    }
    Ok(Some(Page { granule, serial, is_first, is_last, body }))
}

fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), MediaError> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => MediaError::Undecodable("a page of the ogg file is cut".to_owned()),
        _ => MediaError::Io(error),
    })
}

/// The CRC of RFC 3533: polynomial 0x04C11DB7, neither reflected nor inverted.
fn checksum(parts: [&[u8]; 3]) -> u32 {
    parts.into_iter().flatten().fold(0, |crc: u32, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 24), |crc, _| {
            if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04C1_1DB7 }
        })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::media::{Kind, samples, verify};

    /// Two header pages and two seconds of sound on two pages.
    pub(in crate::media) fn opus() -> Vec<u8> {
        let mut head = b"OpusHead\x01\x01".to_vec();
        head.extend(312u16.to_le_bytes());
        head.extend([0x80, 0xBB, 0, 0, 0, 0, 0]);
        let mut file = page(0x02, 0, 0, &head);
        file.extend(page(0, 0, 1, b"OpusTags\x00\x00\x00\x00\x00\x00\x00\x00"));
        file.extend(page(0, 48_000, 2, &samples::noise(200)));
        file.extend(page(0x04, 96_312, 3, &samples::noise(200)));
        file
    }

    pub(in crate::media) fn page(flags: u8, granule: u64, number: u32, body: &[u8]) -> Vec<u8> {
        let mut header = b"OggS\x00".to_vec();
        header.push(flags);
        header.extend(granule.to_le_bytes());
        header.extend(7u32.to_le_bytes());
        header.extend(number.to_le_bytes());
        header.extend([0; 4]);
        let mut segments = vec![255; body.len() / 255];
        segments.push(u8::try_from(body.len() % 255).unwrap());
        header.push(u8::try_from(segments.len()).unwrap());
        let crc = checksum([&header, &segments, body]);
        header[22..26].copy_from_slice(&crc.to_le_bytes());
        [&header[..], &segments, body].concat()
    }

    #[test]
    fn the_checksum_is_the_one_of_real_files() {
        // The usual test word of CRC catalogues, for this polynomial without reflection or inversion.
        assert_eq!(checksum([b"123456789", b"", b""]), 0x89A1_897F);
    }

    #[test]
    fn opus_is_as_long_as_its_last_page_says() {
        let verified = verify(samples::file(&opus()).path(), Kind::Audio).unwrap();
        assert_eq!(verified.duration_seconds, Some(2.0));
        assert_eq!(verified.mime_type, "audio/ogg");
    }

    #[test]
    fn a_stream_without_its_last_page_is_refused_whatever_its_codec() {
        for magic in [&b"OpusHead\x01\x01\x38\x01"[..], b"\x01vorbis"] {
            let bytes = [page(0x02, 0, 0, magic), page(0, 48_000, 1, &samples::noise(200))].concat();
            let error = verify(samples::file(&bytes).path(), Kind::Audio).unwrap_err();
            assert_eq!(error.to_string(), "the file cannot be decoded: the ogg file has no last page");
        }
    }

    #[test]
    fn a_second_stream_has_to_end_as_well() {
        let whole = opus();
        let next = page(0x02, 0, 0, b"OpusHead\x01\x01\x38\x01");
        assert!(verify(samples::file(&[&whole[..], &whole].concat()).path(), Kind::Audio).is_ok());
        let error = verify(samples::file(&[whole, next].concat()).path(), Kind::Audio).unwrap_err();
        assert_eq!(error.to_string(), "the file cannot be decoded: the ogg file has no last page");
    }

    #[test]
    fn cut_or_damaged_opus_is_refused() {
        let whole = opus();
        for percent in [20, 50, 90] {
            let file = samples::file(&whole[..whole.len() * percent / 100]);
            assert!(
                matches!(verify(file.path(), Kind::Audio), Err(MediaError::Undecodable(_))),
                "{percent} %"
            );
        }
        let mut damaged = whole;
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let file = samples::file(&damaged);
        assert!(matches!(verify(file.path(), Kind::Audio), Err(MediaError::Undecodable(_))));
    }
}
