//! Small sounds for the tests of this module in formats that nothing here can encode, put together by hand.
//!
//! Each is as short as its format allows. Absent: sounds that a library makes; those are in `samples.rs`.

use std::io::Cursor;

/// One frame of silence in AAC of low complexity, stereo.
const AAC_SILENCE: [u8; 9] = [0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80];

/// Samples in a frame of [`flac`], the shortest that has a code of its own.
const FLAC_FRAME_SAMPLES: u16 = 192;

/// Silence as an ADTS stream at 44.1 kHz.
pub fn aac(frames: usize) -> Vec<u8> {
    let length = u8::try_from(AAC_SILENCE.len() + 7).unwrap();
    let header = [0xFF, 0xF1, 0x50, 0x80, length >> 3, (length << 5) | 0x1F, 0xFC];
    [&header[..], &AAC_SILENCE].concat().repeat(frames)
}

/// Silence in AAC as Apple's players keep it, index at the end.
pub fn m4a(frames: u32) -> Vec<u8> {
    let brand = mp4::FourCC { value: *b"M4A " };
    let config = mp4::Mp4Config {
        major_brand: brand,
        minor_version: 512,
        compatible_brands: vec![brand],
        timescale: 44_100,
    };
    let track = mp4::TrackConfig {
        timescale: 44_100,
        ..mp4::TrackConfig::from(mp4::AacConfig {
            bitrate: 64_000,
            profile: mp4::AudioObjectType::AacLowComplexity,
            freq_index: mp4::SampleFreqIndex::Freq44100,
            chan_conf: mp4::ChannelConfig::Stereo,
        })
    };
    let mut writer = mp4::Mp4Writer::write_start(Cursor::new(Vec::new()), &config).unwrap();
    writer.add_track(&track).unwrap();
    for number in 0..u64::from(frames) {
        let sample = mp4::Mp4Sample {
            start_time: number * 1024,
            duration: 1024,
            rendering_offset: 0,
            is_sync: true,
            bytes: AAC_SILENCE.to_vec().into(),
        };
        writer.write_sample(1, &sample).unwrap();
    }
    writer.write_end().unwrap();
    let mut file = writer.into_writer().into_inner();
    // The library writes the last descriptor of the codec a byte too short; ISO/IEC 14496-14 has it one byte long, with the value 2.
    let esds = file.windows(4).position(|name| name == b"esds").unwrap();
    let last = esds + file[esds..].windows(3).position(|bytes| bytes == [6, 0, 0]).unwrap();
    file[last..last + 3].copy_from_slice(&[6, 1, 2]);
    file
}

/// A constant at 44.1 kHz in mono; fewer than 128 frames, whose numbers then take one byte each (RFC 9639).
pub fn flac(frames: u8) -> Vec<u8> {
    assert!(frames < 128);
    let samples = u32::from(frames) * u32::from(FLAC_FRAME_SAMPLES);
    let [high, low] = FLAC_FRAME_SAMPLES.to_be_bytes();
    let mut file = b"fLaC\x80\x00\x00\x22".to_vec();
    file.extend([high, low, high, low, 0, 0, 0, 0, 0, 0]);
    // 20 bits of rate, 3 of channels less one, 5 of bits less one, 4 of the 36 that count samples.
    file.extend(((44_100_u32 << 12) | (15 << 4)).to_be_bytes());
    file.extend(samples.to_be_bytes());
    file.extend([0; 16]);
    for number in 0..frames {
        let mut frame = vec![0xFF, 0xF8, 0x19, 0x08, number];
        frame.push(crc(&frame, 8, 0x07).to_be_bytes()[1]);
        frame.extend([0x00, 0x12, 0x34]);
        frame.extend(crc(&frame, 16, 0x8005).to_be_bytes());
        file.extend(frame);
    }
    file
}

/// A checksum of so many bits, neither reflected nor inverted.
fn crc(bytes: &[u8], width: u32, polynomial: u16) -> u16 {
    let (top, mask) = (1 << (width - 1), u16::MAX >> (16 - width));
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << (width - 8)), |crc, _| {
            if crc & top == 0 { (crc << 1) & mask } else { ((crc << 1) ^ polynomial) & mask }
        })
    })
}

#[test]
fn sounds_made_by_hand_are_really_decodable() {
    use super::{Kind, samples, verify};
    for (bytes, kind, seconds) in [
        (aac(50), "audio/aac", 50.0 * 1024.0 / 44_100.0),
        (m4a(50), "audio/mp4", 50.0 * 1024.0 / 44_100.0),
        (samples::index_first(&m4a(50)), "audio/mp4", 50.0 * 1024.0 / 44_100.0),
        (flac(50), "audio/flac", 50.0 * 192.0 / 44_100.0),
    ] {
        let verified = verify(samples::file(&bytes).path(), Kind::Audio)
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let found = verified.duration_seconds.unwrap();
        assert!(
            verified.mime_type == kind && (found - seconds).abs() < 0.05,
            "{kind}: {found} s, not {seconds}"
        );
    }
}
