//! Checks that an MP4 is whole: a picture, a length, and every sample inside the file.
//!
//! The index of an MP4 says where each sample lies, so a cut download shows without decoding a single frame.
//! Deliberately absent: decoding, and any judgement of codecs; what players make of them is not ours to say.

use std::{
    fs::File,
    io::{BufReader, Seek, SeekFrom},
    path::Path,
};

use re_mp4::{Mp4, StsdBoxContent, Track, TrackKind};

use super::{Measures, MediaError, boxes};

/// Walks the index of the video at `path` and tells its dimensions and length.
pub(super) fn measure(path: &Path) -> Result<Measures, MediaError> {
    let size = std::fs::metadata(path)?.len();
    let mut reader = BufReader::new(File::open(path)?);

    boxes::check(&mut reader, size)?;
    reader.seek(SeekFrom::Start(0))?;
    // The parser indexes its tables without looking, so an index that contradicts itself makes it panic.
    let mp4 = Mp4::read(&mut reader, size).map_err(damaged)?;

    let mut picture = None;
    let mut has_sound = false;
    for track in mp4.tracks().values() {
        check_samples(track, size)?;
        has_sound |= is_sound(track, &mp4) && !track.samples.is_empty();
        if is_picture(track, &mp4) && !track.samples.is_empty() {
            picture = picture.or(Some(track));
        }
    }
    let track = picture.ok_or_else(|| MediaError::Undecodable("no video track with samples".to_owned()))?;
    let (width, height) = dimensions(track, &mp4);
    if width == 0 || height == 0 {
        return Err(MediaError::Undecodable(format!("the picture is {width}x{height}")));
    }
    Ok(Measures { duration_seconds: Some(seconds(track)?), has_sound, ..Measures::of_picture(width, height) })
}

/// Every sample must lie inside the file, and not all of them may be empty.
fn check_samples(track: &Track, size: u64) -> Result<(), MediaError> {
    let cut = track
        .samples
        .iter()
        .find(|sample| sample.offset.checked_add(sample.size).is_none_or(|end| end > size));
    if let Some(sample) = cut {
        let why = format!("sample {} of track {} lies past the end", sample.id, track.track_id);
        return Err(MediaError::Undecodable(why));
    }
    if !track.samples.is_empty() && track.samples.iter().all(|sample| sample.size == 0) {
        return Err(MediaError::Undecodable(format!("all samples of track {} are empty", track.track_id)));
    }
    Ok(())
}

/// Whether the track is shown; the parser names only the codecs it knows, the track's handler tells for the others.
fn is_picture(track: &Track, mp4: &Mp4) -> bool {
    match track.kind {
        Some(kind) => kind == TrackKind::Video,
        None => &track.trak(mp4).mdia.hdlr.handler_type.value == b"vide",
    }
}

/// Whether the track is heard.
fn is_sound(track: &Track, mp4: &Mp4) -> bool {
    match track.kind {
        Some(kind) => kind == TrackKind::Audio,
        None => &track.trak(mp4).mdia.hdlr.handler_type.value == b"soun",
    }
}

/// Size of the picture from the track, or from its sample description where the track leaves it out.
fn dimensions(track: &Track, mp4: &Mp4) -> (u32, u32) {
    let described = match &track.trak(mp4).mdia.minf.stbl.stsd.contents {
        StsdBoxContent::Avc1(entry) => (entry.width, entry.height),
        StsdBoxContent::Hvc1(entry) | StsdBoxContent::Hev1(entry) => (entry.width, entry.height),
        StsdBoxContent::Av01(entry) => (entry.width, entry.height),
        _ => (0, 0),
    };
    let pick = |own: u16, described: u16| u32::from(if own == 0 { described } else { own });
    (pick(track.width, described.0), pick(track.height, described.1))
}

fn seconds(track: &Track) -> Result<f64, MediaError> {
    if track.timescale == 0 || track.duration == 0 {
        return Err(MediaError::Undecodable("the video lasts no time".to_owned()));
    }
    #[expect(clippy::cast_precision_loss, reason = "a length in seconds needs no 53 bits")]
    Ok(track.duration as f64 / track.timescale as f64)
}

fn damaged(error: re_mp4::Error) -> MediaError {
    MediaError::Undecodable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Kind, samples, verify};

    #[test]
    fn a_good_video_is_measured() {
        let file = samples::file(&samples::mp4(64, 48, 10));
        let verified = verify(file.path(), Kind::Video).unwrap();
        assert_eq!((verified.width, verified.height), (Some(64), Some(48)));
        assert_eq!(verified.duration_seconds, Some(1.0));
        assert_eq!(verified.mime_type, "video/mp4");
    }

    #[test]
    fn a_video_cut_anywhere_is_refused() {
        // The first has its index at the end, the second at the start: only there do the samples tell.
        for bytes in [samples::mp4(64, 48, 10), samples::mp4_for_streaming(64, 48, 10)] {
            assert!(verify(samples::file(&bytes).path(), Kind::Video).is_ok());
            for percent in [10, 50, 99] {
                let file = samples::file(&bytes[..bytes.len() * percent / 100]);
                let error = verify(file.path(), Kind::Video).unwrap_err();
                assert!(matches!(error, MediaError::Undecodable(_)), "cut at {percent} %: {error}");
            }
        }
    }

    #[test]
    fn a_video_without_frames_is_refused() {
        let file = samples::file(&samples::mp4(64, 48, 0));
        assert!(matches!(verify(file.path(), Kind::Video), Err(MediaError::Undecodable(_))));
    }

    #[test]
    fn a_forged_sample_count_is_refused_without_making_room_for_it() {
        let mut bytes = samples::mp4(64, 48, 10);
        let at = bytes.windows(4).position(|name| name == b"stsz").unwrap();
        // After the name: version and flags, then one size for all, then the count.
        bytes[at + 8..at + 16].copy_from_slice(&[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
        let file = samples::file(&bytes);
        assert!(matches!(verify(file.path(), Kind::Video), Err(MediaError::TooLarge(_))));
    }

    #[test]
    fn an_index_that_contradicts_itself_is_refused() {
        let mut bytes = samples::mp4(64, 48, 10);
        let at = bytes.windows(4).position(|name| name == b"stsz").unwrap();
        bytes[at + 8..at + 16].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0xFF, 0xFF]);
        let file = samples::file(&bytes);
        assert!(matches!(verify(file.path(), Kind::Video), Err(MediaError::Undecodable(_))));
    }
}
