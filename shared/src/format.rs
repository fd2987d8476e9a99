//! Recognises file formats by their first bytes.
//!
//! The one table of magic bytes, used for results, for inputs and for what callers upload. What a file or its sender claims
//! to be is never asked. Deliberately absent: any claim that the rest of the file is sound, which the workers find out by
//! opening it.

/// How many bytes from the start [`sniff`] wants to see; comments before an `<svg` are the longest case.
pub const HEAD_BYTES: usize = 4096;

/// A format this platform serves or accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Photographs.
    Jpeg,
    /// Lossless pictures, as most image models make.
    Png,
    /// Google's picture format, lossy or not.
    WebP,
    /// Pictures of 256 colours, animated or not.
    Gif,
    /// Drawings as XML text.
    Svg,
    /// ISO media with a picture, in whatever codec.
    Mp4,
    /// MPEG layer III, with or without an ID3 tag before it.
    Mp3,
    /// RIFF sound, nearly always uncompressed.
    Wav,
    /// Vorbis, Opus or FLAC in Ogg pages.
    Ogg,
    /// Lossless sound.
    Flac,
    /// AAC in an ADTS stream.
    Aac,
    /// AAC in ISO media without a picture.
    M4a,
    /// Documents.
    Pdf,
}

impl Format {
    /// The media type under which such a file is stored and served.
    pub fn mime_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Gif => "image/gif",
            Self::Svg => "image/svg+xml",
            Self::Mp4 => "video/mp4",
            Self::Mp3 => "audio/mpeg",
            Self::Wav => "audio/wav",
            Self::Ogg => "audio/ogg",
            Self::Flac => "audio/flac",
            Self::Aac => "audio/aac",
            Self::M4a => "audio/mp4",
            Self::Pdf => "application/pdf",
        }
    }

    /// The usual file extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Svg => "svg",
            Self::Mp4 => "mp4",
            Self::Mp3 => "mp3",
            Self::Wav => "wav",
            Self::Ogg => "ogg",
            Self::Flac => "flac",
            Self::Aac => "aac",
            Self::M4a => "m4a",
            Self::Pdf => "pdf",
        }
    }

    /// Whether it may stand where a model wants a file of this media type, such as `image/*`. Film is let in as sound: whether
    /// there is a picture beside it, the first bytes do not say. A document is neither.
    pub fn may_be(self, wanted: &str) -> bool {
        let medium = wanted.split('/').next().unwrap_or_default();
        self.mime_type().split('/').next() == Some(medium) || (medium == "audio" && self == Self::Mp4)
    }
}

/// Names the format of a file from its first [`HEAD_BYTES`] bytes, or `None` when it is none of ours.
pub fn sniff(head: &[u8]) -> Option<Format> {
    match head {
        [0xFF, 0xD8, 0xFF, ..] => Some(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some(Format::Wav),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => Some(match brand {
            // Apple's brands for sound without a picture; every other brand says nothing about it.
            [b'M', b'4', b'A' | b'B', ..] => Format::M4a,
            _ => Format::Mp4,
        }),
        [b'O', b'g', b'g', b'S', ..] => Some(Format::Ogg),
        [b'f', b'L', b'a', b'C', ..] => Some(Format::Flac),
        [b'I', b'D', b'3', ..] => Some(Format::Mp3),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some(Format::Pdf),
        [0xFF, second, third, ..] if is_mp3_frame(*second, *third) => Some(Format::Mp3),
        // ADTS: twelve sync bits, any version bit, layer 0, with or without a checksum.
        [0xFF, second, ..] if second & 0xF6 == 0xF0 => Some(Format::Aac),
        _ if begins_svg(head) => Some(Format::Svg),
        _ => None,
    }
}

/// Eleven sync bits, layer III, and neither of the two reserved values that real frames never hold.
fn is_mp3_frame(second: u8, third: u8) -> bool {
    let is_layer_three = second & 0b1110_0110 == 0b1110_0010;
    let is_reserved_version = second & 0b0001_1000 == 0b0000_1000;
    let is_bad_bitrate = third >> 4 == 0b1111;
    let is_reserved_rate = third & 0b0000_1100 == 0b0000_1100;
    is_layer_three && !is_reserved_version && !is_bad_bitrate && !is_reserved_rate
}

/// Whether the text opens with an `<svg` element, after nothing but what XML allows before it.
fn begins_svg(head: &[u8]) -> bool {
    // The head may end inside a character; only its readable part matters.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        let end = if rest.starts_with("<?") {
            "?>"
        } else if rest.starts_with("<!--") {
            "-->"
        } else if rest.starts_with("<!DOCTYPE svg") {
            ">"
        } else {
            break;
        };
        let Some((_, after)) = rest.split_once(end) else { return false };
        rest = after.trim_start();
    }
    rest.strip_prefix("<svg").is_some_and(|after| after.starts_with([' ', '\t', '\r', '\n', '>', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], expected: Option<Format>) {
        assert_eq!(sniff(head), expected, "{:?}", String::from_utf8_lossy(head));
    }

    #[test]
    fn formats_are_told_by_their_magic_bytes() {
        check(b"\xFF\xD8\xFF\xE0\x00\x10JFIF", Some(Format::Jpeg));
        check(b"\x89PNG\r\n\x1a\n\x00\x00", Some(Format::Png));
        check(b"GIF89a", Some(Format::Gif));
        check(b"GIF88a", None);
        check(b"RIFF\x24\x00\x00\x00WEBPVP8 ", Some(Format::WebP));
        check(b"RIFF\x24\x00\x00\x00WAVEfmt ", Some(Format::Wav));
        check(b"RIFF\x24\x00\x00\x00AVI LIST", None);
        check(b"\x00\x00\x00\x20ftypisom\x00\x00", Some(Format::Mp4));
        check(b"\x00\x00\x00\x20ftypM4A \x00\x00", Some(Format::M4a));
        check(b"OggS\x00\x02", Some(Format::Ogg));
        check(b"fLaC\x00\x00", Some(Format::Flac));
        check(b"%PDF-1.7", Some(Format::Pdf));
        check(b"", None);
        check(b"{\"error\":1}", None);
    }

    #[test]
    fn mpeg_sync_words_are_read_to_the_bit() {
        check(b"ID3\x04\x00", Some(Format::Mp3));
        check(b"\xFF\xFB\x90\x00", Some(Format::Mp3));
        check(b"\xFF\xF3\x40\x00", Some(Format::Mp3));
        check(b"\xFF\xFB\xF0\x00", None);
        check(b"\xFF\xFB\x9C\x00", None);
        check(b"\xFF\xF1\x50\x80", Some(Format::Aac));
        check(b"\xFF\xF9\x50\x80", Some(Format::Aac));
        // The byte order mark of UTF-16 looks almost like a frame.
        check(b"\xFF\xFE<\x00h\x00", None);
    }

    #[test]
    fn an_svg_may_hide_behind_a_prolog_but_not_inside_a_page() {
        check(b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", Some(Format::Svg));
        check(b"\xEF\xBB\xBF<?xml version=\"1.0\"?>\n<!-- made -->\n<svg>", Some(Format::Svg));
        check(
            b"<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"x\">\n<svg\nwidth='1'>",
            Some(Format::Svg),
        );
        check(b"<html><svg></svg></html>", None);
        check(b"<svgfoo>", None);
        check(b"<!-- <svg>", None);
    }

    #[test]
    fn a_document_is_neither_picture_nor_sound_and_a_film_may_be_heard() {
        let fitting = |wanted: &str| {
            let all = [Format::Png, Format::Svg, Format::Mp4, Format::Mp3, Format::M4a, Format::Pdf];
            all.into_iter().filter(|format| format.may_be(wanted)).collect::<Vec<_>>()
        };
        assert_eq!(fitting("image/*"), [Format::Png, Format::Svg]);
        assert_eq!(fitting("audio/*"), [Format::Mp4, Format::Mp3, Format::M4a]);
        assert_eq!(fitting("video/*"), [Format::Mp4]);
    }
}
