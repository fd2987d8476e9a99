//! What holds for any bytes at all that somebody calls a picture, a film or a sound.
//!
//! Good small files are damaged in every way that networks and broken encoders know, and in some that only malice does. No
//! file may take the process down, hold it for long, or take more memory than the limits allow; and none that was cut may
//! pass for whole where its format can tell.

use std::time::{Duration, Instant};

use image::ImageFormat;
use peak_alloc::PeakAlloc;
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config};

use super::{
    Format, HEAD_BYTES, Kind, MediaError, ogg, preview, samples, sniff, sounds, survey, verify, vorbis,
};

/// Counts what the whole test program has allocated at any time.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Most memory for a small file: what a decoder may take, as much again for turning the picture, and room for other tests
/// of the same process.
const MEMORY_MAX_BYTES: usize = 1200 * 1024 * 1024;

/// Longest time for a small file, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(10);

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// One good file of each format and kind, small.
fn good_files() -> Vec<(Kind, Vec<u8>)> {
    vec![
        (Kind::Image, samples::png(16, 12)),
        (Kind::Image, samples::jpeg(16, 12)),
        (Kind::Image, samples::jpeg_turned_right(16, 12)),
        (Kind::Image, samples::encoded(16, 12, ImageFormat::WebP)),
        (Kind::Image, samples::encoded(16, 12, ImageFormat::Gif)),
        (Kind::Vector, drawing()),
        (Kind::Video, samples::mp4(32, 16, 3)),
        (Kind::Video, samples::mp4_for_streaming(32, 16, 3)),
        (Kind::Audio, samples::wav(8000, 300)),
        (Kind::Audio, samples::indexed_mp3(100)),
        (Kind::Audio, ogg::tests::opus()),
        (Kind::Audio, sounds::flac(20)),
        (Kind::Audio, samples::index_first(&sounds::m4a(20))),
        (Kind::Audio, sounds::m4a(20)),
        (Kind::Audio, sounds::aac(20)),
    ]
}

fn drawing() -> Vec<u8> {
    let drawing = "<?xml version=\"1.0\"?><!-- a fox --><svg width=\"64\" height=\"48\">\n\
        <svg x='1'><path d=\"M0 0L9 9\"/></svg><g><text>on &amp; off</text></g></svg>";
    drawing.as_bytes().to_vec()
}

/// A place in a file. Headers and indices are where damage does most, and they are at either end.
#[derive(Debug, Clone)]
enum Place {
    Anywhere(Index),
    Head(Index),
    Tail(Index),
}

impl Place {
    fn in_file(&self, length: usize) -> usize {
        let near = length.min(200);
        match self {
            _ if length == 0 => 0,
            Self::Anywhere(index) => index.index(length),
            Self::Head(index) => index.index(near),
            Self::Tail(index) => length - 1 - index.index(near),
        }
    }
}

/// One thing that happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    Bit(Place, u8),
    Byte(Place, u8),
    /// Four bytes in a row, where lengths, counts and offsets are.
    Number(Place, u32),
    Lost(Place, u16),
    Twice(Place, u16),
    Foreign(Place, Vec<u8>),
    Cut(Place),
}

impl Damage {
    fn strike(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let span = |at: usize, count: u16| at..(at + usize::from(count)).min(length);
        match self {
            _ if length == 0 => {}
            Self::Bit(place, bit) => bytes[place.in_file(length)] ^= 1 << (bit % 8),
            Self::Byte(place, byte) => bytes[place.in_file(length)] = *byte,
            Self::Number(place, number) => {
                let at = place.in_file(length);
                let end = (at + 4).min(length);
                bytes[at..end].copy_from_slice(&number.to_be_bytes()[..end - at]);
            }
            Self::Lost(place, count) => drop(bytes.drain(span(place.in_file(length), *count))),
            Self::Twice(place, count) => {
                let span = span(place.in_file(length), *count);
                let again = bytes[span.clone()].to_vec();
                bytes.splice(span.end..span.end, again);
            }
            Self::Foreign(place, foreign) => {
                let at = place.in_file(length);
                bytes.splice(at..at, foreign.iter().copied());
            }
            Self::Cut(place) => bytes.truncate(place.in_file(length)),
        }
    }
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<Index>().prop_map(Place::Anywhere),
        any::<Index>().prop_map(Place::Head),
        any::<Index>().prop_map(Place::Tail),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(1 << 31),
        Just(0x00FF_FFFF),
        0..300_u32,
        any::<u32>(),
    ];
    let byte = prop_oneof![Just(0), Just(0xFF), any::<u8>()];
    prop_oneof![
        4 => (place(), 0..8_u8).prop_map(|(place, bit)| Damage::Bit(place, bit)),
        4 => (place(), byte).prop_map(|(place, byte)| Damage::Byte(place, byte)),
        4 => (place(), number).prop_map(|(place, number)| Damage::Number(place, number)),
        1 => (place(), 1..64_u16).prop_map(|(place, count)| Damage::Lost(place, count)),
        1 => (place(), 1..64_u16).prop_map(|(place, count)| Damage::Twice(place, count)),
        1 => (place(), vec(any::<u8>(), 1..32)).prop_map(|(place, foreign)| Damage::Foreign(place, foreign)),
        1 => place().prop_map(Damage::Cut),
    ]
}

/// Judges the file, as a result and as something that was sent in, and makes the preview of a picture that passed: in time, and
/// within the limit of memory.
fn examine(bytes: &[u8], kind: Kind) -> Result<(), TestCaseError> {
    let file = samples::file(bytes);
    MEMORY.reset_peak_usage();
    let begun = Instant::now();
    let verdict = verify(file.path(), kind);
    if let Err(MediaError::Io(error)) = &verdict {
        return Err(TestCaseError::fail(format!("the disk is blamed: {error}")));
    }
    if let Some(format) = sniff(&bytes[..bytes.len().min(HEAD_BYTES)])
        && let Ok(Some(picture)) = survey(bytes, format)
    {
        prop_assert!(picture.width > 0 && picture.height > 0, "a picture of nothing: {picture:?}");
    }
    if kind == Kind::Image && verdict.is_ok() {
        prop_assert!(preview(file.path()).is_ok(), "a good picture has no preview");
    }
    prop_assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
    let peak = MEMORY.peak_usage();
    prop_assert!(peak < MEMORY_MAX_BYTES, "it took {peak} bytes");
    Ok(())
}

/// Damages the good files of these kinds.
fn check_damaged(kinds: &[Kind], cases: u32) {
    let files: Vec<_> = good_files().into_iter().filter(|(kind, _)| kinds.contains(kind)).collect();
    proptest!(config(cases), |(nth in any::<Index>(), strikes in vec(damage(), 1..6))| {
        let (kind, mut bytes) = nth.get(&files).clone();
        strikes.iter().for_each(|strike| strike.strike(&mut bytes));
        examine(&bytes, kind)?;
    });
}

#[test]
fn good_files_pass() {
    for (kind, bytes) in good_files() {
        let verdict = verify(samples::file(&bytes).path(), kind);
        assert!(verdict.is_ok(), "{:?}: {verdict:?}", sniff(&bytes));
    }
}

#[test]
fn no_damaged_picture_breaks_the_check_or_takes_more_than_the_limits() {
    check_damaged(&[Kind::Image, Kind::Vector], 800);
}

#[test]
fn no_damaged_film_breaks_the_check_or_takes_more_than_the_limits() {
    check_damaged(&[Kind::Video], 1500);
}

#[test]
fn no_damaged_sound_breaks_the_check_or_takes_more_than_the_limits() {
    check_damaged(&[Kind::Audio], 800);
}

#[test]
fn a_file_that_was_cut_anywhere_is_refused_where_its_format_can_tell() {
    // An index that counts frames leaves room for the padding of encoders, and a stream of frames has no end at all.
    let tells = |bytes: &[u8]| !matches!(sniff(bytes), Some(Format::Mp3 | Format::Aac));
    let files: Vec<_> = good_files().into_iter().filter(|(_, bytes)| tells(bytes)).collect();
    proptest!(config(1500), |(nth in any::<Index>(), place in place())| {
        let (kind, bytes) = nth.get(&files);
        let cut = place.in_file(bytes.len());
        let verdict = verify(samples::file(&bytes[..cut]).path(), *kind);
        prop_assert!(verdict.is_err(), "{:?} passed, cut to {cut} of {}", sniff(bytes), bytes.len());
    });
}

#[test]
fn a_flipped_bit_in_an_ogg_file_is_noticed_wherever_it_is() {
    let good = ogg::tests::opus();
    proptest!(config(500), |(at in any::<Index>(), bit in 0..8_u8)| {
        let mut bytes = good.clone();
        bytes[at.index(good.len())] ^= 1 << bit;
        prop_assert!(verify(samples::file(&bytes).path(), Kind::Audio).is_err());
    });
}

#[test]
fn bytes_of_any_kind_behind_the_mark_of_any_format_are_judged() {
    let marks: Vec<_> = good_files().into_iter().map(|(kind, bytes)| (kind, bytes[..12].to_vec())).collect();
    proptest!(config(600), |(nth in any::<Index>(), kept in 0..13_usize, rest in vec(any::<u8>(), 0..400))| {
        let (kind, mark) = nth.get(&marks);
        let bytes = [&mark[..kept], &rest].concat();
        prop_assert_eq!(sniff(&bytes), sniff(&bytes[..bytes.len().min(HEAD_BYTES)]));
        examine(&bytes, *kind)?;
        examine(&bytes, Kind::Pcm)?;
    });
}

#[test]
fn a_vorbis_stream_of_nonsense_under_right_checksums_is_judged() {
    let packet = (0..4_u8, vec(any::<u8>(), 0..240)).prop_map(|(kind, rest)| match kind {
        0 => rest,
        // The three headers of Vorbis; of the third, sane beginnings of its books.
        1 => [&b"\x01vorbis\0\0\0\0\x02\x44\xAC\0\0"[..], &rest].concat(),
        2 => [&b"\x03vorbis"[..], &rest].concat(),
        _ => [&b"\x05vorbis\x00BCV\x01\x00\x10\x00\x00"[..], &rest].concat(),
    });
    proptest!(config(300), |(packets in vec(packet, 1..5))| {
        let last = packets.len() - 1;
        let flags = |number| if number == 0 { 2 } else { 0 } | if number == last { 4 } else { 0 };
        let pages = packets.iter().enumerate().map(|(number, packet)| {
            ogg::tests::page(flags(number), 48_000, u32::try_from(number).unwrap(), &packet[..packet.len().min(255)])
        });
        examine(&pages.collect::<Vec<_>>().concat(), Kind::Audio)?;
    });
}

#[test]
fn a_forged_vorbis_setup_is_refused_before_room_is_made_for_it() {
    let lookup = vorbis::tests::Lookup::Lattice(2);
    // More dimensions than these, and the reader before the decoder gives up by itself.
    let books = vec![(1 << 17, 16, lookup); 256];
    let setup = vorbis::tests::setup(&books);
    assert!(setup.len() < 6000, "{} bytes that ask for two gigabytes", setup.len());
    let bytes = [
        ogg::tests::page(2, 0, 0, vorbis::tests::IDENTIFICATION),
        ogg::tests::page(0, 0, 1, &setup),
        ogg::tests::page(4, 48_000, 2, &samples::noise(200)),
    ]
    .concat();
    examine(&bytes, Kind::Audio).unwrap();
    let verdict = verify(samples::file(&bytes).path(), Kind::Audio);
    assert!(matches!(verdict, Err(MediaError::TooLarge(_))), "{verdict:?}");
}

/// A word with each of its characters as it is, as a capital, or as its number in XML, and what browsers pass over between.
fn disguised(word: &'static str) -> impl Strategy<Value = String> {
    vec((0..6_u8, 0..3_usize), word.len()).prop_map(move |ways| {
        let spell = |(c, (way, zeros)): (char, &(u8, usize))| {
            let (code, zeros) = (u32::from(c), "0".repeat(*zeros));
            match way {
                0 => format!("&#{zeros}{code};"),
                1 => format!("&#x{zeros}{code:x};"),
                2 => format!("&#x{zeros}{code:X};"),
                3 => format!("&#10;{}", c.to_ascii_uppercase()),
                4 => format!("{c}\n"),
                _ => c.to_string(),
            }
        };
        word.chars().zip(&ways).map(spell).collect()
    })
}

#[test]
fn a_drawing_that_could_run_something_is_refused_however_it_is_spelt() {
    let event = ("[oO][nN][a-zA-Z]{3,12}", "[ \\t\\r\\n]", "[ \\t\\r\\n]{0,3}", "['\"]").prop_map(
        |(name, before, after, quote)| format!("<path{before}{name}{after}={after}{quote}x(){quote}/>"),
    );
    let link = disguised("javascript:").prop_map(|word| format!("<a href=\"{word}x()\">x</a>"));
    let script = "(s:)?[sS][cC][rR][iI][pP][tT]".prop_map(|name| format!("<{name}>x()</{name}>"));
    proptest!(config(500), |(bait in prop_oneof![event, link, script], before in "(<g/>| ){0,3}")| {
        let text = format!("<svg width=\"9\">{before}{bait}</svg>");
        prop_assert!(verify(samples::file(text.as_bytes()).path(), Kind::Vector).is_err(), "{text}");
    });
}
