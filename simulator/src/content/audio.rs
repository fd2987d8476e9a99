//! Speech without words: a seeded tone as WAV or bare PCM, silence as MP3.
//!
//! The MP3 is written by hand. With all-zero side information a Layer III frame decodes to silence, so a file is an
//! ID3 tag (which makes it different from all others) and as many equal frames as the length asks for.

use std::io::Cursor;

use anyhow::Context as _;

use crate::{content::pattern, seed::Seed};

/// The rate of the tone, which is also what the vendor documents for PCM.
pub(crate) const SAMPLE_RATE: u32 = 24_000;
/// MPEG-1 Layer III, no checksum, 32 kbit/s, 32 kHz, mono (ISO 11172-3, 2.4.1.3).
const MP3_HEADER: [u8; 4] = [0xFF, 0xFB, 0x18, 0xC0];
/// 144 · 32 000 / 32 000, without padding.
const MP3_FRAME_BYTES: usize = 144;
/// 1152 samples at 32 kHz.
const MP3_FRAME_MILLIS: u32 = 36;
/// The tone fades in and out over this many samples, so that it does not click.
const FADE_SAMPLES: u32 = SAMPLE_RATE / 20;

/// 16-bit samples of a tone, mono.
pub(crate) fn tone(seed: &Seed, millis: u32) -> Vec<i16> {
    let count = samples(millis);
    let hertz = 180 + 2 * i64::from(seed.byte(0));
    (0..count)
        .map(|at| {
            let phase = i64::from(at) * hertz * i64::from(pattern::TURN) / i64::from(SAMPLE_RATE);
            let wave =
                i64::from(pattern::sine(i32::try_from(phase % i64::from(pattern::TURN)).unwrap_or_default()));
            let fade = at.min(count - at).min(FADE_SAMPLES);
            // A quarter of full scale: to be heard, not to be startled by.
            i16::try_from(wave * i64::from(fade) / i64::from(FADE_SAMPLES) / 4).unwrap_or_default()
        })
        .collect()
}

fn samples(millis: u32) -> u32 {
    millis * (SAMPLE_RATE / 1000)
}

/// The tone as bare little-endian samples.
pub(crate) fn pcm(seed: &Seed, millis: u32) -> Vec<u8> {
    tone(seed, millis).into_iter().flat_map(i16::to_le_bytes).collect()
}

/// The tone as a WAV file.
///
/// # Errors
/// When the writer refuses, which it has no reason to.
pub(crate) fn wav(seed: &Seed, millis: u32) -> anyhow::Result<Vec<u8>> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).context("begin a WAV")?;
    for sample in tone(seed, millis) {
        writer.write_sample(sample).context("write a sample")?;
    }
    writer.finalize().context("finish a WAV")?;
    Ok(file.into_inner())
}

/// Silence as an MP3 file, titled with the name of its seed.
pub(crate) fn mp3(seed: &Seed, millis: u32) -> Vec<u8> {
    let mut file = id3_title(&seed.name());
    let mut frame = [0; MP3_FRAME_BYTES];
    frame[..MP3_HEADER.len()].copy_from_slice(&MP3_HEADER);
    for _ in 0..millis.div_ceil(MP3_FRAME_MILLIS).max(1) {
        file.extend_from_slice(&frame);
    }
    file
}

/// An ID3v2.3 tag with a title of at most a hundred ASCII characters, so that every length fits one byte.
fn id3_title(title: &str) -> Vec<u8> {
    let title = &title.as_bytes()[..title.len().min(100)];
    let text_bytes = u8::try_from(title.len() + 1).unwrap_or_default();
    let mut tag = b"ID3\x03\x00\x00\x00\x00\x00".to_vec();
    tag.push(10 + text_bytes);
    tag.extend_from_slice(b"TIT2\x00\x00\x00");
    // Two bytes of flags and the encoding, all zero.
    tag.extend_from_slice(&[text_bytes, 0, 0, 0]);
    tag.extend_from_slice(title);
    tag
}
