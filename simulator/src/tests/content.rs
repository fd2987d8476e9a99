//! Every format is decoded by a library that did not write it.

use std::io::Cursor;

use symphonia::core::{
    codecs::audio::AudioDecoderOptions,
    formats::{FormatOptions, TrackType, probe::Hint},
    io::MediaSourceStream,
    meta::MetadataOptions,
};

use crate::{
    content::{audio, mp4, png},
    seed::Seed,
};

#[test]
fn a_picture_has_the_size_of_its_ratio_and_differs_from_its_twin() {
    for (ratio, size) in png::SIZES {
        let file = png::picture(&Seed::of("a fox", ratio), *size).unwrap();
        let picture = image::load_from_memory(&file).unwrap();
        assert_eq!((picture.width(), picture.height()), *size);
    }
    let twin = |id| png::picture(&Seed::of("a fox", id), (64, 64)).unwrap();
    assert_ne!(twin("1"), twin("2"));
    assert_eq!(twin("1"), twin("1"));
}

#[test]
fn a_film_is_as_long_and_as_shaped_as_asked_for() {
    let mut seen = Vec::new();
    for (frame, seconds) in [
        ((1280, 720), 5),
        ((720, 1280), 10),
        ((768, 768), 6),
        ((960, 720), 5),
        ((540, 720), 5),
        ((1680, 720), 5),
        ((256, 64), 1),
    ] {
        let file = mp4::video(&Seed::of("a fox", "1"), frame, seconds).unwrap();
        assert!(file.len() < 128 * 1024, "{} bytes", file.len());
        let film = re_mp4::Mp4::read_bytes(&file).unwrap();
        let track = film.tracks().values().next().unwrap();
        assert_eq!((track.width, track.height), frame);
        assert_eq!(track.samples.len(), usize::from(seconds) * 2);
        assert_eq!(track.duration, u64::from(seconds) * track.timescale);
        assert!(track.codec_string(&film).unwrap().starts_with("avc1."));
        assert!(!seen.contains(&file));
        seen.push(file);
    }
}

#[test]
fn a_frame_has_its_lines_along_the_shorter_side() {
    for (shape, lines, frame) in [
        ((16, 9), 720, (1280, 720)),
        ((9, 16), 1080, (1080, 1920)),
        ((1, 1), 768, (768, 768)),
        ((21, 9), 540, (1260, 540)),
        ((16, 9), 768, (1364, 768)),
        ((0, 0), 36, (36, 36)),
    ] {
        assert_eq!(mp4::frame_of(shape.0, shape.1, lines), frame, "{shape:?} {lines}");
    }
}

#[test]
fn speech_decodes_and_lasts_as_long_as_asked_for() {
    let seed = Seed::of("a fox", "1");
    let (rate, samples) = decode(audio::mp3(&seed, 2000));
    assert_eq!(rate, 32_000);
    assert!(samples.len().abs_diff(64_000) < 2 * 1152, "{} samples", samples.len());
    assert!(samples.iter().all(|sample| *sample == 0.0));

    let (rate, samples) = decode(audio::wav(&seed, 2000).unwrap());
    assert_eq!((rate, samples.len()), (24_000, 48_000));
    assert!(samples.iter().any(|sample| sample.abs() > 0.2));

    assert_eq!(audio::pcm(&seed, 2000).len(), 96_000);
    assert_ne!(audio::mp3(&seed, 2000), audio::mp3(&Seed::of("a fox", "2"), 2000));
}

fn decode(file: Vec<u8>) -> (u32, Vec<f32>) {
    let source = MediaSourceStream::new(Box::new(Cursor::new(file)), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default())
        .unwrap();
    let track = format.default_track(TrackType::Audio).unwrap();
    let params = track.codec_params.as_ref().unwrap().audio().unwrap().clone();
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(&params, &AudioDecoderOptions::default())
        .unwrap();
    let mut samples = Vec::new();
    let mut piece = Vec::new();
    while let Some(packet) = format.next_packet().unwrap() {
        let sound = decoder.decode(&packet).unwrap();
        piece.resize(sound.samples_interleaved(), 0.0_f32);
        sound.copy_to_slice_interleaved(&mut piece);
        samples.extend_from_slice(&piece);
    }
    (params.sample_rate.unwrap(), samples)
}
