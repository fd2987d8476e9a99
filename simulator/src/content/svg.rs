//! Drawings: a few coloured disks on a ground, in SVG.

use std::fmt::Write as _;

use crate::seed::Seed;

/// How many disks a drawing has.
const DISKS: usize = 6;

/// An SVG file of that size.
pub(crate) fn drawing(seed: &Seed, (width, height): (u16, u16)) -> Vec<u8> {
    let colour = |n: usize| format!("#{:02x}{:02x}{:02x}", seed.byte(n), seed.byte(n + 1), seed.byte(n + 2));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" \
         height=\"{height}\"><rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>",
        colour(0)
    );
    for disk in 0..DISKS {
        let at = 3 + disk * 4;
        let (x, y) =
            (seed.below(at, usize::from(width.max(1))), seed.below(at + 1, usize::from(height.max(1))));
        // Writing to a string cannot fail.
        let _ = write!(text, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{}\" fill=\"{}\"/>", 8 + at, colour(at));
    }
    text.push_str("</svg>\n");
    text.into_bytes()
}
