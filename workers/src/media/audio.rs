//! Decodes sound to its end and counts the frames.
//!
//! The length comes from what was decoded, never from what a header claims, and a header that claims much more
//! than there is gives a cut file away. Opus is the exception: there is no decoder for it here, so its pages are
//! checked instead (`ogg.rs`).

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use symphonia::core::{
    codecs::audio::{AudioCodecParameters, AudioDecoderOptions, well_known::CODEC_ID_VORBIS},
    errors::Error,
    formats::{FormatOptions, FormatReader, TrackType, probe::Hint},
    io::MediaSourceStream,
    meta::MetadataOptions,
};

use super::{Format, Measures, MediaError, Verified, boxes, ogg, vorbis};

/// Longest sound that is decoded; no model here makes or takes more than an hour.
const MAX_SECONDS: u64 = 4 * 3600;

/// Share of the declared frames that must be there. The rest allows for encoder padding that decoders trim; what is not
/// compressed with loss has none.
const MIN_PERCENT_OF_DECLARED: u64 = 95;

/// From here on a length in a WAV header is a placeholder (0x7FFF_FFFF or 0xFFFF_FFFF, less the header).
const STREAMED_WAV_BYTES: u64 = 0x7FFF_0000;

/// Sampling rate of raw speech, in 16-bit little-endian mono: what OpenAI documents for `pcm`.
const PCM_BYTES_PER_SECOND: u64 = 24_000 * 2;

/// Judges raw samples by their length alone, since they have no other mark.
pub(super) fn verify_pcm(size_bytes: u64) -> Result<Verified, MediaError> {
    if !size_bytes.is_multiple_of(2) {
        return Err(MediaError::Undecodable("half a sample at the end of raw 16-bit sound".to_owned()));
    }
    Ok(Verified {
        mime_type: "audio/pcm",
        extension: "pcm",
        size_bytes,
        width: None,
        height: None,
        duration_seconds: Some(ratio(size_bytes, PCM_BYTES_PER_SECOND)),
        has_sound: true,
    })
}

/// Decodes the sound at `path` and tells its length.
pub(super) fn measure(path: &Path, format: Format) -> Result<Measures, MediaError> {
    if format == Format::Ogg
        && let Some(seconds) = ogg::check(path)?
    {
        return Ok(Measures::of_sound(seconds));
    }
    if format == Format::M4a {
        let size = std::fs::metadata(path)?.len();
        boxes::check_outermost(&mut BufReader::new(File::open(path)?), size)?;
    }
    let mut hint = Hint::new();
    hint.with_extension(format.extension());
    let source = MediaSourceStream::new(Box::new(File::open(path)?), Default::default());
    let mut reader = symphonia::default::get_probe()
        .probe(&hint, source, FormatOptions::default(), MetadataOptions::default())
        .map_err(damaged)?;

    let (track, declared, params) = chosen_track(reader.as_ref())?;
    if params.codec == CODEC_ID_VORBIS {
        vorbis::check(params.extra_data.as_deref().unwrap_or_default())?;
    }
    let (frames, rate) = decode(reader.as_mut(), track, &params)?;
    let is_fact = match format {
        // ADTS has no index, and an MP3 may have one; without, the reader guesses from the length of the file.
        Format::Aac => false,
        Format::Mp3 => holds_mp3_index(path)?,
        Format::Wav => declared.is_some_and(|frames| !is_placeholder(frames, &params)),
        _ => true,
    };
    let percent = if matches!(format, Format::Wav | Format::Flac) { 100 } else { MIN_PERCENT_OF_DECLARED };
    // A header may claim any number, so nothing may overflow.
    if let Some(declared) = declared.filter(|_| is_fact)
        && frames.saturating_mul(100) < declared.saturating_mul(percent)
    {
        return Err(MediaError::Undecodable(format!(
            "only {frames} of {declared} declared frames are there"
        )));
    }
    Ok(Measures::of_sound(ratio(frames, rate)))
}

/// Id, declared number of frames and codec of the track that a player would choose.
fn chosen_track(reader: &dyn FormatReader) -> Result<(u32, Option<u64>, AudioCodecParameters), MediaError> {
    let track = reader
        .default_track(TrackType::Audio)
        .ok_or_else(|| MediaError::Undecodable("no audio track".to_owned()))?;
    let params = track
        .codec_params
        .as_ref()
        .and_then(|params| params.audio())
        .ok_or_else(|| MediaError::Undecodable("the codec is not described".to_owned()))?;
    Ok((track.id, track.num_frames, params.clone()))
}

/// Decodes one track to its end; frames and frames a second.
fn decode(
    reader: &mut dyn FormatReader,
    track: u32,
    params: &AudioCodecParameters,
) -> Result<(u64, u64), MediaError> {
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(params, &AudioDecoderOptions::default())
        .map_err(damaged)?;
    let (mut frames, mut rate, mut good, mut bad) = (0u64, 0u64, 0u64, 0u64);
    while let Some(packet) = next_packet(reader)? {
        if packet.track_id != track {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(buffer) => {
                frames += buffer.frames() as u64;
                rate = u64::from(buffer.spec().rate());
                good += 1;
            }
            // Decoders recover at the next packet; the first packet of a cut stream is often unusable.
            Err(Error::DecodeError(_)) => bad += 1,
            Err(error) => return Err(damaged(error)),
        }
        if frames > rate * MAX_SECONDS {
            return Err(MediaError::TooLarge(format!("it lasts more than {MAX_SECONDS} seconds")));
        }
    }
    if frames == 0 || rate == 0 {
        return Err(MediaError::Undecodable("no sound could be decoded".to_owned()));
    }
    if bad > good {
        return Err(MediaError::Undecodable(format!("{bad} of {} packets are damaged", good + bad)));
    }
    Ok((frames, rate))
}

/// The next packet, or `None` at the end; an end in the middle of a packet is judged by what was declared.
fn next_packet(reader: &mut dyn FormatReader) -> Result<Option<symphonia::core::packet::Packet>, MediaError> {
    match reader.next_packet() {
        Ok(packet) => Ok(packet),
        Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(damaged(error)),
    }
}

/// Whether a WAV was written to a pipe, where the length could not be filled in afterwards.
fn is_placeholder(frames: u64, params: &AudioCodecParameters) -> bool {
    let channels = params.channels.as_ref().map_or(1, |channels| channels.count() as u64);
    let bits = u64::from(params.bits_per_sample.unwrap_or(8));
    frames.saturating_mul(channels * bits / 8) >= STREAMED_WAV_BYTES
}

/// Whether the first frame of an MP3, after any ID3 tag, is an index that counts the others.
fn holds_mp3_index(path: &Path) -> std::io::Result<bool> {
    /// The tag's mark lies behind at most 32 bytes of side information and a checksum.
    const FIRST_FRAME_BYTES: u64 = 64;
    const ID3_HEADER_BYTES: u64 = 10;

    let mut file = File::open(path)?;
    let mut tag = Vec::new();
    (&mut file).take(ID3_HEADER_BYTES).read_to_end(&mut tag)?;
    let start = match tag[..] {
        // The length is written in seven bits a byte.
        [b'I', b'D', b'3', _, _, _, a, b, c, d] => {
            let length = [a, b, c, d].into_iter().fold(0, |sum, byte| (sum << 7) | u64::from(byte & 0x7F));
            ID3_HEADER_BYTES + length
        }
        _ => 0,
    };
    file.seek(SeekFrom::Start(start))?;
    let mut frame = Vec::new();
    file.take(FIRST_FRAME_BYTES).read_to_end(&mut frame)?;
    Ok(frame.windows(4).any(|mark| matches!(mark, b"Xing" | b"Info" | b"VBRI")))
}

#[expect(clippy::cast_precision_loss, reason = "a length in seconds needs no 53 bits")]
pub(super) fn ratio(units: u64, per_second: u64) -> f64 {
    units as f64 / per_second as f64
}

fn damaged(error: Error) -> MediaError {
    MediaError::Undecodable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Kind, samples, verify};

    #[test]
    fn a_good_wav_is_measured_by_decoding() {
        let file = samples::file(&samples::wav(8000, 12_000));
        let verified = verify(file.path(), Kind::Audio).unwrap();
        assert_eq!(verified.duration_seconds, Some(1.5));
        assert_eq!((verified.mime_type, verified.extension), ("audio/wav", "wav"));
    }

    #[test]
    fn a_cut_wav_is_refused() {
        let bytes = samples::wav(8000, 12_000);
        for percent in [10, 50, 90, 99] {
            let file = samples::file(&bytes[..bytes.len() * percent / 100]);
            assert!(
                matches!(verify(file.path(), Kind::Audio), Err(MediaError::Undecodable(_))),
                "{percent} %"
            );
        }
    }

    #[test]
    fn a_wav_written_to_a_pipe_has_the_length_of_its_sound() {
        for placeholder in [u32::MAX, 0x7FFF_FFFF] {
            let mut bytes = samples::wav(8000, 12_000);
            let at = bytes.windows(4).position(|name| name == b"data").unwrap() + 4;
            bytes[at..at + 4].copy_from_slice(&placeholder.to_le_bytes());
            bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            let file = samples::file(&bytes);
            assert_eq!(verify(file.path(), Kind::Audio).unwrap().duration_seconds, Some(1.5));
        }
    }

    #[test]
    fn a_header_without_sound_is_refused() {
        let file = samples::file(&samples::wav(8000, 0));
        assert!(matches!(verify(file.path(), Kind::Audio), Err(MediaError::Undecodable(_))));
    }

    #[test]
    fn a_good_mp3_is_measured() {
        let file = samples::file(&samples::silent_mp3(100));
        let verified = verify(file.path(), Kind::Audio).unwrap();
        let seconds = verified.duration_seconds.unwrap();
        assert!(
            (seconds - 2.6).abs() < 0.1,
            "100 frames of 1152 samples at 44.1 kHz are 2.6 s, found {seconds}"
        );
        assert_eq!(verified.extension, "mp3");
    }

    #[test]
    fn a_cut_mp3_is_refused_where_its_index_tells() {
        let whole = samples::indexed_mp3(100);
        assert!(verify(samples::file(&whole).path(), Kind::Audio).is_ok());
        for percent in [20, 60, 90] {
            let file = samples::file(&whole[..whole.len() * percent / 100]);
            assert!(
                matches!(verify(file.path(), Kind::Audio), Err(MediaError::Undecodable(_))),
                "{percent} %"
            );
        }
    }

    #[test]
    fn an_mp3_of_noise_is_refused() {
        let mut bytes = b"ID3\x04\x00\x00\x00\x00\x00\x00".to_vec();
        bytes.extend(samples::noise(5000));
        let file = samples::file(&bytes);
        assert!(matches!(verify(file.path(), Kind::Audio), Err(MediaError::Undecodable(_))));
    }

    #[test]
    fn raw_sound_has_whole_samples() {
        let file = samples::file(&[0; 48_000]);
        assert_eq!(verify(file.path(), Kind::Pcm).unwrap().duration_seconds, Some(1.0));
        let file = samples::file(&[0; 3]);
        assert!(matches!(verify(file.path(), Kind::Pcm), Err(MediaError::Undecodable(_))));
    }
}
