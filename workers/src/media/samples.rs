//! Small, really decodable files for the tests of this module, made on the spot.
//!
//! Absent: fixtures on disk; what a test reads is what its own lines made.

use std::io::{Cursor, Write};

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage};
use less_avc::{
    BitDepth, LessEncoder,
    ycbcr_image::{DataPlane, Planes, YCbCrImage},
};
use tempfile::NamedTempFile;

/// Frames a second of [`mp4`].
const FRAME_RATE: u32 = 10;

/// A temporary file with these contents, gone when dropped.
pub fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Bytes that follow no format, always the same.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state: u32 = 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] & 0x7F
    };
    (0..length).map(next).collect()
}

/// A picture that compresses badly enough for a cut to hit its pixels.
fn picture(width: u32, height: u32) -> DynamicImage {
    let bytes = noise(width as usize * height as usize * 3);
    DynamicImage::from(RgbImage::from_raw(width, height, bytes).unwrap())
}

pub fn as_format(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    as_format(&picture(width, height), format)
}

pub fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(width, height, ImageFormat::Png)
}

pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    encoded(width, height, ImageFormat::Jpeg)
}

/// One colour all over: tiny on disk, large in memory.
pub fn flat_png(width: u32, height: u32) -> Vec<u8> {
    as_format(&DynamicImage::from(GrayImage::new(width, height)), ImageFormat::Png)
}

/// A JPEG whose EXIF says that the camera lay on its right side (orientation 6).
pub fn jpeg_turned_right(width: u32, height: u32) -> Vec<u8> {
    let flat = DynamicImage::from(RgbImage::from_pixel(width, height, Rgb([10, 20, 30])));
    let mut bytes = as_format(&flat, ImageFormat::Jpeg);
    let tiff = [
        &b"Exif\0\0MM\0*\0\0\0\x08"[..],
        // One entry: tag 0x0112, one SHORT, value 6; then no further directory.
        b"\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ]
    .concat();
    let length = u16::try_from(tiff.len() + 2).unwrap().to_be_bytes();
    let segment = [&[0xFF, 0xE1][..], &length, &tiff].concat();
    bytes.splice(2..2, segment);
    bytes
}

/// Mono, 16 bits, `frames` long.
pub fn wav(rate: u32, frames: u32) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for frame in 0..frames {
        writer.write_sample(i16::try_from(frame % 1000).unwrap()).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

/// Layer III at 128 kbit/s and 44.1 kHz, all side information zero, which decodes to silence.
pub fn silent_mp3(frames: usize) -> Vec<u8> {
    let mut frame = vec![0xFF, 0xFB, 0x90, 0x00];
    frame.resize(417, 0);
    frame.repeat(frames)
}

/// As [`silent_mp3`], behind an ID3 tag and a first frame that counts the others.
pub fn indexed_mp3(frames: u32) -> Vec<u8> {
    let mut bytes = b"ID3\x03\x00\x00\x00\x00\x00\x0AABCDEFGHIJ".to_vec();
    let mut index = silent_mp3(1);
    // Behind the four bytes of header and the side information of a stereo frame; flag 1 announces the count.
    index[36..48].copy_from_slice(&[&b"Xing\0\0\0\x01"[..], &frames.to_be_bytes()].concat());
    bytes.extend(index);
    bytes.extend(silent_mp3(frames as usize));
    bytes
}

/// H.264 at ten frames a second, index at the end.
pub fn mp4(width: u16, height: u16, frames: u8) -> Vec<u8> {
    let (sps, pps, nals) = h264(width, height, frames);
    let config = mp4::Mp4Config {
        major_brand: mp4::FourCC { value: *b"isom" },
        minor_version: 512,
        compatible_brands: vec![mp4::FourCC { value: *b"isom" }, mp4::FourCC { value: *b"avc1" }],
        timescale: 1000,
    };
    let avc = mp4::AvcConfig { width, height, seq_param_set: sps, pic_param_set: pps };
    let mut writer = mp4::Mp4Writer::write_start(Cursor::new(Vec::new()), &config).unwrap();
    writer.add_track(&mp4::TrackConfig::from(avc)).unwrap();
    let duration = 1000 / FRAME_RATE;
    for (number, nal) in (0u64..).zip(nals) {
        let length = u32::try_from(nal.len()).unwrap().to_be_bytes();
        let sample = mp4::Mp4Sample {
            start_time: number * u64::from(duration),
            duration,
            rendering_offset: 0,
            is_sync: true,
            bytes: [&length[..], &nal].concat().into(),
        };
        writer.write_sample(1, &sample).unwrap();
    }
    writer.write_end().unwrap();
    writer.into_writer().into_inner()
}

/// As [`mp4`], with the index at the start, as files for streaming have it.
pub fn mp4_for_streaming(width: u16, height: u16, frames: u8) -> Vec<u8> {
    index_first(&mp4(width, height, frames))
}

/// The same film or sound with its index before its samples.
pub fn index_first(bytes: &[u8]) -> Vec<u8> {
    let box_at = |name: &[u8]| bytes.windows(4).rposition(|found| found == name).unwrap() - 4;
    let (data, index) = (bytes.windows(4).position(|found| found == b"mdat").unwrap() - 4, box_at(b"moov"));
    let mut moov = bytes[index..].to_vec();
    // The samples move back by the length of the index, so every chunk offset grows by it.
    let shift = u32::try_from(moov.len()).unwrap();
    let name = moov.windows(4).position(|found| found == b"stco" || found == b"co64").unwrap();
    let wide = &moov[name..name + 4] == b"co64";
    let entry = if wide { 8 } else { 4 };
    let count = u32::from_be_bytes(moov[name + 8..name + 12].try_into().unwrap()) as usize;
    for number in 0..count {
        // Offsets in these small files fit the low four bytes of either width.
        let low = name + 12 + number * entry + entry - 4;
        let offset = u32::from_be_bytes(moov[low..low + 4].try_into().unwrap()) + shift;
        moov[low..low + 4].copy_from_slice(&offset.to_be_bytes());
    }
    [&bytes[..data], &moov, &bytes[data..index]].concat()
}

/// Parameter sets and one NAL unit a frame, each frame another shade of grey.
fn h264(width: u16, height: u16, frames: u8) -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
    let pixels = usize::from(width) * usize::from(height);
    let mut nals = Vec::new();
    let mut sets = (Vec::new(), Vec::new());
    let mut encoder: Option<LessEncoder> = None;
    for frame in 0..frames.max(1) {
        let data = vec![frame; pixels];
        let plane = DataPlane { data: &data, stride: usize::from(width), bit_depth: BitDepth::Depth8 };
        let image =
            YCbCrImage { planes: Planes::Mono(plane), width: u32::from(width), height: u32::from(height) };
        if let Some(encoder) = &mut encoder {
            nals.push(encoder.encode(&image).unwrap().to_nal_unit());
        } else {
            let (first, made) = LessEncoder::new(&image).unwrap();
            sets = (first.sps.to_nal_unit(), first.pps.to_nal_unit());
            nals.push(first.frame.to_nal_unit());
            encoder = Some(made);
        }
    }
    nals.truncate(usize::from(frames));
    (sets.0, sets.1, nals)
}
