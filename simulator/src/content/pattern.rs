//! The picture behind every image and film: slow waves of a seeded palette with one disk in them.
//!
//! Per pixel it costs two additions and a look-up, all in integers, so that a megapixel takes milliseconds even in
//! an unoptimised build.

use crate::seed::Seed;

/// How many colours the palette has; a power of two, so that wrapping around is a mask.
const PALETTE: usize = 512;
/// A full turn of [`sine`].
pub(crate) const TURN: i32 = 1 << 16;
/// The height of [`sine`].
pub(crate) const HEIGHT: i32 = 1 << 15;

/// A sine wave good enough for pictures and tones: parabolas, period [`TURN`], height [`HEIGHT`].
pub(crate) fn sine(phase: i32) -> i32 {
    let half = phase & (TURN / 2 - 1);
    let arch = (half * (TURN / 2 - half)) >> 13;
    if phase & (TURN / 2) == 0 { arch } else { -arch }
}

/// A seeded picture that can be painted at any size and moment.
pub(crate) struct Pattern {
    /// Every colour twice, so that a coarse pixel is one copy.
    palette: Vec<[u8; 6]>,
    seed: Seed,
}

impl Pattern {
    /// The picture of this seed.
    pub fn new(seed: &Seed) -> Self {
        let palette = (0..PALETTE).map(|index| colour(seed, index)).collect();
        Self { palette, seed: *seed }
    }

    /// Red, green and blue bytes, row by row; `moment` moves waves and disk, for the frames of a film.
    pub fn paint(&self, width: usize, height: usize, moment: i32) -> Vec<u8> {
        self.paint_grained(width, height, moment, 1)
    }

    /// A still at a quarter of the cost: every point is two pixels wide and high, so both sides must be even.
    pub fn paint_coarse(&self, width: usize, height: usize) -> Vec<u8> {
        self.paint_grained(width / 2, height / 2, 0, 2)
    }

    fn paint_grained(&self, width: usize, height: usize, moment: i32, grain: usize) -> Vec<u8> {
        let across = self.wave(width, 3, moment);
        let down = self.wave(height, 5, moment);
        let radius = width.min(height) / 4;
        let centre_x = swing(width, i32::from(self.seed.byte(7)) * 256 + moment);
        let centre_y = swing(height, i32::from(self.seed.byte(8)) * 256 + moment * 2);
        let mut pixels = Vec::with_capacity(width * height * 3 * grain * grain);
        for (y, down) in down.into_iter().enumerate() {
            let rise = y.abs_diff(centre_y);
            let chord = (radius * radius).saturating_sub(rise * rise).isqrt();
            let row = pixels.len();
            for (x, across) in across.iter().enumerate() {
                // Inside the disk the palette is turned by half, so it always stands out.
                let turned = if x.abs_diff(centre_x) < chord { PALETTE / 2 } else { 0 };
                pixels
                    .extend_from_slice(&self.palette[(across + down + turned) & (PALETTE - 1)][..3 * grain]);
            }
            for _ in 1..grain {
                pixels.extend_from_within(row..row + width * 3 * grain);
            }
        }
        pixels
    }

    /// Palette steps along one side: a ramp with a wave on it.
    fn wave(&self, length: usize, position: usize, moment: i32) -> Vec<usize> {
        let waves = 1 + self.seed.below(position, 3);
        let start = i32::from(self.seed.byte(position + 1)) * 256 + moment;
        let depth = 200_usize;
        (0..length)
            .map(|at| {
                let turn = i32::try_from(at * waves * 65_536 / length).unwrap_or_default();
                let lift = usize::try_from(sine(turn + start) + HEIGHT).unwrap_or_default();
                at * (PALETTE / 2) / length + lift * depth / 65_536
            })
            .collect()
    }
}

/// A place along a side that swings to and fro, away from the edges.
fn swing(length: usize, phase: i32) -> usize {
    let lift = usize::try_from(sine(phase) + HEIGHT).unwrap_or_default();
    length / 4 + length / 2 * lift / 65_536
}

fn colour(seed: &Seed, index: usize) -> [u8; 6] {
    let turn = i32::try_from(index * 65_536 / PALETTE).unwrap_or_default();
    [10, 11, 12, 10, 11, 12].map(|position| {
        let level = (sine(turn + i32::from(seed.byte(position)) * 256) + HEIGHT) >> 8;
        // Neither black nor burnt out: 24 to 247.
        u8::try_from(24 + level * 223 / 256).unwrap_or(u8::MAX)
    })
}
