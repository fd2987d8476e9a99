//! Tiny MP4 films with a real H.264 track: lossless frames, two a second, about 64 pixels across.
//!
//! A film is as long as was asked for and shaped as was asked for, but small: tens of kilobytes. It has no sound.

use anyhow::Context as _;
use bytes::Bytes;
use less_avc::{
    BitDepth, LessEncoder,
    nal_unit::NalUnit,
    ycbcr_image::{DataPlane, Planes, YCbCrImage},
};
use mp4::{AvcConfig, MediaConfig, Mp4Config, Mp4Sample, Mp4Writer, TrackConfig, TrackType};

use crate::{
    content::pattern::{Pattern, TURN},
    seed::Seed,
};

/// Frames a second; few, since every frame is stored whole.
const FRAMES_PER_SECOND: u16 = 2;
/// The side of a macroblock; planes are padded to whole ones.
const BLOCK: usize = 16;
/// Ticks a second in the file.
const TIMESCALE: u32 = 1000;

/// The small frame that stands for an aspect ratio: even sides, as H.264 wants, and few macroblocks.
pub(crate) fn frame_of(width: u32, height: u32) -> (u16, u16) {
    match (width * 10).checked_div(height) {
        Some(..7) => (36, 64),
        Some(7..9) => (48, 64),
        Some(9..12) => (48, 48),
        Some(12..15) => (64, 48),
        _ => (64, 36),
    }
}

/// An MP4 file of that frame and length.
///
/// # Errors
/// When the encoder or the muxer refuses, which they have no reason to for even sides.
pub(crate) fn video(seed: &Seed, frame: (u16, u16), seconds: u16) -> anyhow::Result<Vec<u8>> {
    let frames = i32::from(seconds.max(1) * FRAMES_PER_SECOND);
    let pattern = Pattern::new(seed);
    let planes = |number: i32| Yuv::paint(&pattern, frame, number * TURN / frames);
    let (first, mut encoder) = LessEncoder::new(&planes(0).image()).context("encode the first frame")?;
    let mut film = Film::begin(frame, &first.sps, &first.pps)?;
    film.append(&first.frame)?;
    for number in 1..frames {
        let unit = encoder.encode(&planes(number).image()).context("encode a frame")?;
        film.append(&unit)?;
    }
    film.end()
}

struct Film {
    writer: Mp4Writer<std::io::Cursor<Vec<u8>>>,
    at: u64,
}

impl Film {
    fn begin((width, height): (u16, u16), sps: &NalUnit, pps: &NalUnit) -> anyhow::Result<Self> {
        let brand = |name: &[u8; 4]| mp4::FourCC::from(*name);
        let config = Mp4Config {
            major_brand: brand(b"isom"),
            minor_version: 512,
            compatible_brands: vec![brand(b"isom"), brand(b"iso2"), brand(b"avc1"), brand(b"mp41")],
            timescale: TIMESCALE,
        };
        let mut writer =
            Mp4Writer::write_start(std::io::Cursor::default(), &config).context("begin an MP4")?;
        let track = TrackConfig {
            track_type: TrackType::Video,
            timescale: TIMESCALE,
            language: "und".to_owned(),
            media_conf: MediaConfig::AvcConfig(AvcConfig {
                width,
                height,
                seq_param_set: sps.to_nal_unit(),
                pic_param_set: pps.to_nal_unit(),
            }),
        };
        writer.add_track(&track).context("add a video track")?;
        Ok(Self { writer, at: 0 })
    }

    /// Adds a frame in the form MP4 stores it: length first, no start code.
    fn append(&mut self, unit: &NalUnit) -> anyhow::Result<()> {
        let unit = unit.to_nal_unit();
        let mut bytes = u32::try_from(unit.len())?.to_be_bytes().to_vec();
        bytes.extend_from_slice(&unit);
        let duration = TIMESCALE / u32::from(FRAMES_PER_SECOND);
        let sample = Mp4Sample {
            start_time: self.at,
            duration,
            rendering_offset: 0,
            is_sync: true,
            bytes: Bytes::from(bytes),
        };
        self.at += u64::from(duration);
        self.writer.write_sample(1, &sample).context("add a frame")
    }

    fn end(mut self) -> anyhow::Result<Vec<u8>> {
        self.writer.write_end().context("finish an MP4")?;
        Ok(self.writer.into_writer().into_inner())
    }
}

/// One frame as brightness and two colour planes of half size, padded to whole macroblocks.
struct Yuv {
    width: u16,
    height: u16,
    stride: usize,
    planes: [Vec<u8>; 3],
}

impl Yuv {
    fn paint(pattern: &Pattern, (width, height): (u16, u16), moment: i32) -> Self {
        let stride = usize::from(width).next_multiple_of(BLOCK);
        let rows = usize::from(height).next_multiple_of(BLOCK);
        let pixels = pattern.paint(stride, rows, moment);
        let pixel = |x: usize, y: usize| {
            let at = (y * stride + x) * 3;
            [pixels[at], pixels[at + 1], pixels[at + 2]].map(i32::from)
        };
        // Full range BT.601, in 1/256.
        let brightness = plane(stride, rows, 1, |x, y| {
            let [red, green, blue] = pixel(x, y);
            (77 * red + 150 * green + 29 * blue) >> 8
        });
        let blueness = plane(stride, rows, 2, |x, y| {
            let [red, green, blue] = pixel(x, y);
            128 + ((-43 * red - 85 * green + 128 * blue) >> 8)
        });
        let redness = plane(stride, rows, 2, |x, y| {
            let [red, green, blue] = pixel(x, y);
            128 + ((128 * red - 107 * green - 21 * blue) >> 8)
        });
        Self { width, height, stride, planes: [brightness, blueness, redness] }
    }

    fn image(&self) -> YCbCrImage<'_> {
        let [y, cb, cr] = &self.planes;
        let plane = |data, stride| DataPlane { data, stride, bit_depth: BitDepth::Depth8 };
        YCbCrImage {
            planes: Planes::YCbCr((
                plane(y, self.stride),
                plane(cb, self.stride / 2),
                plane(cr, self.stride / 2),
            )),
            width: u32::from(self.width),
            height: u32::from(self.height),
        }
    }
}

fn plane(width: usize, height: usize, step: usize, level: impl Fn(usize, usize) -> i32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(width * height / step / step);
    for y in (0..height).step_by(step) {
        for x in (0..width).step_by(step) {
            bytes.push(u8::try_from(level(x, y).clamp(0, 255)).unwrap_or_default());
        }
    }
    bytes
}
