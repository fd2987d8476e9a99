//! Tiny MP4 films with a real H.264 track: lossless frames, two a second, about 64 pixels across.
//!
//! A film is as long as was asked for, and is shown as large as was asked for: its track says so, and players stretch the few
//! pixels that there are. So it has only tens of kilobytes. It has no sound.

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
/// The longer side of the frames that are really encoded.
const CODED_SIDE: u16 = 64;

/// The frame of a film of this shape with so many lines, which are its shorter side; both sides are even.
pub(crate) fn frame_of(width: u32, height: u32, lines: u32) -> (u16, u16) {
    let (width, height) = (width.max(1), height.max(1));
    let side = |own: u32| {
        let pixels = u64::from(own) * u64::from(lines) / u64::from(width.min(height));
        u16::try_from(pixels & !1).unwrap_or(u16::MAX - 1)
    };
    (side(width), side(height))
}

/// The small frame that stands for one of this shape: even sides, as H.264 wants, and few macroblocks.
fn coded(frame: (u16, u16)) -> (u16, u16) {
    let longer = u32::from(frame.0.max(frame.1).max(1));
    let side = |pixels: u16| {
        let scaled = u32::from(pixels) * u32::from(CODED_SIDE) / longer;
        (u16::try_from(scaled).unwrap_or(CODED_SIDE) & !1).max(16)
    };
    (side(frame.0), side(frame.1))
}

/// An MP4 file that is shown in that frame and lasts so long.
///
/// # Errors
/// When the encoder or the muxer refuses, which they have no reason to for even sides.
pub(crate) fn video(seed: &Seed, frame: (u16, u16), seconds: u16) -> anyhow::Result<Vec<u8>> {
    let frames = i32::from(seconds.max(1) * FRAMES_PER_SECOND);
    let pattern = Pattern::new(seed);
    let planes = |number: i32| Yuv::paint(&pattern, coded(frame), number * TURN / frames);
    let (first, mut encoder) = LessEncoder::new(&planes(0).image()).context("encode the first frame")?;
    let mut film = Film::begin(coded(frame), &first.sps, &first.pps)?;
    film.append(&first.frame)?;
    for number in 1..frames {
        let unit = encoder.encode(&planes(number).image()).context("encode a frame")?;
        film.append(&unit)?;
    }
    shown_in(frame, film.end()?)
}

/// The same film, shown in a frame of its own: the last eight bytes of the track's header, as 16.16 fixed point numbers
/// (ISO/IEC 14496-12, 8.3.2).
fn shown_in((width, height): (u16, u16), mut film: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    // The index is behind the frames, so the last such name is not one of a picture's bytes.
    let name = film.windows(4).rposition(|name| name == b"tkhd").context("find the track's header")?;
    let length = film.get(name.saturating_sub(4)..name).and_then(|length| length.try_into().ok());
    let length =
        usize::try_from(u32::from_be_bytes(length.context("read the length of the track's header")?))?;
    let end = name.saturating_sub(4).saturating_add(length);
    let sides = film.get_mut(end.saturating_sub(8)..end).context("find the sides of the track")?;
    sides[..4].copy_from_slice(&(u32::from(width) << 16).to_be_bytes());
    sides[4..].copy_from_slice(&(u32::from(height) << 16).to_be_bytes());
    Ok(film)
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
