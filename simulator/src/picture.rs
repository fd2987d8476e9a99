//! Pictures that clients send along, as data URLs or as addresses.
//!
//! One in a data URL must decode; one behind an address is taken on trust, nothing is fetched.

use std::io::Cursor;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::ImageReader;

use crate::fields::{Complaint, Fields};

/// The size of a picture that nobody has looked at.
const UNSEEN: (u16, u16) = (512, 512);

/// Width and height of the picture that must be in the field.
///
/// # Errors
/// A complaint when it is missing, no picture, or longer than `bytes_max`.
pub(crate) fn size(fields: &Fields<'_>, name: &str, bytes_max: usize) -> Result<(u16, u16), Complaint> {
    let complain = |text: String| Complaint::of(name, text);
    let text = fields.text(name, usize::MAX)?;
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(UNSEEN);
    }
    let data = text.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
    let (_, data) =
        data.ok_or_else(|| complain(format!("{name}: neither an address nor a data URL of a picture")))?;
    let bytes = STANDARD.decode(data).map_err(|_| complain(format!("{name}: invalid base64")))?;
    if bytes.len() > bytes_max {
        return Err(complain(format!("{name}: {} bytes are too many for a data URL", bytes.len())));
    }
    let unreadable = |_| complain(format!("{name}: cannot identify image file"));
    let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format();
    let (width, height) = reader
        .map_err(|_| complain(format!("{name}: cannot identify image file")))?
        .into_dimensions()
        .map_err(unreadable)?;
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    Ok((side(width), side(height)))
}

/// A size that the writers of pictures take: even, and neither tiny nor huge.
pub(crate) fn drawable((width, height): (u16, u16)) -> (u16, u16) {
    let side = |pixels: u16| pixels.clamp(16, 8192) & !1;
    (side(width), side(height))
}
