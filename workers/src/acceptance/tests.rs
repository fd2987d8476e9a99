//! Every rule as a table: what was ordered, what came, and whether it is accepted.

use serde_json::json;

use super::*;

/// A schema in which `n` and `seconds` may be asked for, and a square is meant where nothing is said.
fn schema() -> Value {
    json!({ "properties": { "n": {}, "size": { "default": "1024x1024" }, "seconds": {}, "audio": {} } })
}

fn picture(width: u32, height: u32) -> Verified {
    Verified {
        mime_type: "image/png",
        extension: "png",
        size_bytes: 1000,
        width: Some(width),
        height: Some(height),
        duration_seconds: None,
        has_sound: false,
    }
}

fn film(width: u32, height: u32, seconds: f64) -> Verified {
    Verified { mime_type: "video/mp4", duration_seconds: Some(seconds), ..picture(width, height) }
}

fn sound(seconds: f64) -> Verified {
    Verified {
        mime_type: "audio/mpeg",
        width: None,
        height: None,
        duration_seconds: Some(seconds),
        has_sound: true,
        ..picture(1, 1)
    }
}

/// Whether a file is accepted for this input, by a model without defaults.
fn check(task: &str, input: Value, file: &Verified, expected: Result<(), &str>) {
    check_of(task, input, None, file, expected);
}

/// The same, of a tool that was given a picture of this size.
fn check_of(
    task: &str,
    input: Value,
    source: Option<(u32, u32, bool)>,
    file: &Verified,
    expected: Result<(), &str>,
) {
    let source = source.map(|(width, height, is_turned)| Picture { width, height, is_turned });
    let wanted = Wanted::new(&Value::Null, &input);
    let found = Ordered { task, wanted, source, is_paid_by_picture: true }.check(file);
    match expected {
        Ok(()) => assert_eq!(found, Ok(()), "{task} {input}: {file:?}"),
        Err(why) => {
            let is_refused = found.as_ref().is_err_and(|found| found.contains(why));
            assert!(is_refused, "{task} {input}: {file:?}: {found:?}");
        }
    }
}

#[test]
fn a_picture_has_the_size_that_was_asked_for_or_one_like_it() {
    let asked = || json!({ "size": "1536x1024" });
    for (width, height, expected) in [
        (1536, 1024, Ok(())),
        (3072, 2048, Ok(())),
        (1520, 1024, Ok(())),
        (768, 512, Ok(())),
        (766, 511, Err("766×511 pixels for 1536×1024")),
        (1024, 1024, Err("1024×1024 pixels for 1536×1024")),
        (1024, 1536, Err("1024×1536 pixels for 1536×1024")),
        (1600, 1024, Err("1600×1024 pixels for 1536×1024")),
    ] {
        check("image.generate", asked(), &picture(width, height), expected);
        check("image.edit", asked(), &picture(width, height), expected);
    }
    check("image.generate", json!({ "size": "auto" }), &picture(10, 900), Ok(()));
    check("image.generate", json!({}), &picture(10, 900), Ok(()));
}

#[test]
fn a_picture_is_a_file_of_the_kind_that_was_asked_for() {
    let of = |mime_type| Verified { mime_type, ..picture(1024, 1024) };
    for task in ["image.generate", "image.edit"] {
        check(task, json!({ "output_format": "webp" }), &of("image/webp"), Ok(()));
        check(task, json!({ "output_format": "jpeg" }), &of("image/jpeg"), Ok(()));
        check(task, json!({ "output_format": "jpeg" }), &of("image/png"), Err("image/png for jpeg"));
        check(task, json!({}), &of("image/webp"), Ok(()));
    }
}

#[test]
fn what_a_model_means_where_nothing_is_said_was_asked_for_as_well() {
    let (schema, input) = (schema(), json!({ "prompt": "a fox" }));
    let wanted = Wanted::new(&schema, &input);
    let ordered = Ordered { task: "image.generate", wanted, source: None, is_paid_by_picture: true };
    assert_eq!(ordered.check(&picture(1024, 1024)), Ok(()));
    assert!(ordered.check(&picture(1536, 1024)).is_err());
}

#[test]
fn a_picture_has_about_the_ratio_that_was_asked_for() {
    for (ratio, width, height, expected) in [
        // What vendors really make.
        ("2:3", 832, 1248, Ok(())),
        ("3:4", 864, 1184, Ok(())),
        ("9:16", 768, 1344, Ok(())),
        ("16:9", 1344, 768, Ok(())),
        ("21:9", 1536, 672, Ok(())),
        ("21:9", 1536, 640, Ok(())),
        ("4:3", 1152, 896, Ok(())),
        ("1:1", 1024, 1024, Ok(())),
        ("16:9", 1024, 1024, Err("1024×1024 pixels for 16:9")),
        ("16:9", 768, 1344, Err("768×1344 pixels for 16:9")),
        ("16:9", 1536, 672, Err("1536×672 pixels for 16:9")),
        ("3:2", 1024, 768, Err("1024×768 pixels for 3:2")),
        ("1:1", 1024, 960, Err("1024×960 pixels for 1:1")),
    ] {
        check("image.generate", json!({ "aspect_ratio": ratio }), &picture(width, height), expected);
    }
    check("image.blend", json!({ "aspect_ratio": "2:3" }), &picture(170, 256), Ok(()));
    check("image.blend", json!({ "aspect_ratio": "2:3" }), &picture(256, 256), Err("for 2:3"));
    let own = json!({ "prompt": "a fox --ar 3:2 --v 6", "aspect_ratio": "1:1" });
    check("image.generate", own, &picture(1248, 832), Ok(()));
}

#[test]
fn fewer_pictures_will_do_where_each_is_paid_and_more_are_not_asked_for() {
    let schema = schema();
    let count = |input: Value, is_paid_by_picture: bool, made: usize| {
        let wanted = Wanted::new(&schema, &input);
        Ordered { task: "image.generate", wanted, source: None, is_paid_by_picture }.count(made)
    };
    assert_eq!(count(json!({ "n": 3 }), true, 3), Ok(3));
    assert_eq!(count(json!({ "n": 3 }), true, 1), Ok(1));
    assert_eq!(count(json!({ "n": 3 }), true, 5), Ok(3));
    assert_eq!(count(json!({ "n": 3 }), false, 3), Ok(3));
    assert_eq!(count(json!({ "n": 3 }), false, 2), Err("2 of 3 pictures".to_owned()));
    assert_eq!(count(json!({}), false, 4), Ok(1));
    // Of a model that knows no number everything counts, and so it does where it is no picture from words.
    let input = json!({});
    let wanted = Wanted::new(&Value::Null, &input);
    for task in ["image.generate", "image.action", "audio.music"] {
        let ordered = Ordered { task, wanted, source: None, is_paid_by_picture: false };
        assert_eq!(ordered.count(4), Ok(4), "{task}");
    }
}

#[test]
fn a_picture_is_enlarged_as_much_as_was_asked_for() {
    let (by_four, somehow) = (json!({ "factor": 4 }), json!({}));
    let (source, turned) = (Some((300, 200, false)), Some((300, 200, true)));
    for (input, source, width, height, expected) in [
        (&by_four, source, 1200, 800, Ok(())),
        (&by_four, source, 1184, 784, Ok(())),
        (&by_four, source, 600, 400, Err("600×400 pixels for 4 times 300×200")),
        (&by_four, source, 1200, 1200, Err("1200×1200 pixels for 4 times 300×200")),
        (&by_four, source, 2400, 1600, Err("2400×1600 pixels for 4 times 300×200")),
        (&by_four, source, 800, 1200, Err("800×1200")),
        (&by_four, turned, 800, 1200, Ok(())),
        (&by_four, turned, 1200, 800, Ok(())),
        (&by_four, None, 10, 10, Ok(())),
        (&somehow, source, 600, 400, Ok(())),
        (&somehow, source, 300, 200, Ok(())),
        (&somehow, source, 296, 200, Ok(())),
        (&somehow, source, 150, 100, Err("fewer than the 300×200 they were made from")),
        (&somehow, None, 10, 10, Ok(())),
    ] {
        check_of("image.upscale", input.clone(), source, &picture(width, height), expected);
    }
}

#[test]
fn a_tool_keeps_the_shape_of_its_picture() {
    let source = Some((4000, 3000, false));
    for task in ["image.remove_background", "image.replace_background", "image.erase", "image.face_swap"] {
        for (source, width, height, expected) in [
            (source, 4000, 3000, Ok(())),
            (source, 1333, 1000, Ok(())),
            (source, 1024, 1024, Err("1024×1024 pixels of 4000×3000")),
            (source, 3000, 4000, Err("3000×4000 pixels of 4000×3000")),
            (Some((4000, 3000, true)), 3000, 4000, Ok(())),
            (None, 10, 900, Ok(())),
        ] {
            check_of(task, json!({}), source, &picture(width, height), expected);
        }
    }
    let opaque = Verified { mime_type: "image/jpeg", ..picture(4000, 3000) };
    check_of("image.remove_background", json!({}), source, &opaque, Err("a JPEG"));
    check_of("image.erase", json!({}), source, &opaque, Ok(()));
}

#[test]
fn a_picture_that_would_become_too_large_to_be_opened_is_not_begun() {
    let check = |task: &str, factor: u64, (width, height): (u32, u32), expected: Result<(), &str>| {
        let input = json!({ "factor": factor });
        let source = Some(Picture { width, height, is_turned: false });
        let wanted = Wanted::new(&Value::Null, &input);
        let found = Ordered { task, wanted, source, is_paid_by_picture: false }.check_feasible();
        assert_eq!(found, expected.map_err(str::to_owned), "{task} {factor} {width}x{height}");
    };
    check("image.upscale", 8, (1000, 1000), Ok(()));
    let why = "has 1200×1200 pixels, which are 92 megapixels 8 times as wide and high; at most 64 are made";
    check("image.upscale", 8, (1200, 1200), Err(why));
    check("image.erase", 8, (1200, 1200), Ok(()));
}

#[test]
fn a_film_is_about_as_long_as_was_asked_for() {
    for (task, seconds, expected) in [
        ("video.generate", 5.04, Ok(())),
        ("video.generate", 3.6, Ok(())),
        ("video.generate", 8.4, Ok(())),
        ("video.generate", 3.4, Err("3.4 seconds for 5")),
        ("video.generate", 8.6, Err("8.6 seconds for 5")),
        ("video.extend", 25.0, Ok(())),
        ("video.extend", 2.0, Err("2.0 seconds for 5")),
    ] {
        check(task, json!({ "seconds": 5 }), &film(1280, 720, seconds), expected);
    }
    check("video.generate", json!({}), &film(1280, 720, 0.5), Ok(()));
}

#[test]
fn a_film_has_about_the_shape_and_the_lines_that_were_asked_for() {
    for (input, width, height, expected) in [
        (json!({ "aspect_ratio": "16:9" }), 1280, 720, Ok(())),
        (json!({ "aspect_ratio": "16:9" }), 832, 480, Ok(())),
        (json!({ "aspect_ratio": "21:9" }), 640, 272, Ok(())),
        (json!({ "aspect_ratio": "16:9" }), 720, 1280, Err("720×1280 pixels for 16:9")),
        (json!({ "aspect_ratio": "16:9" }), 960, 720, Err("960×720 pixels for 16:9")),
        // A first frame has a shape of its own.
        (json!({ "aspect_ratio": "16:9", "image": "file" }), 720, 720, Ok(())),
        (json!({ "aspect_ratio": "16:9", "end_image": "file" }), 720, 720, Ok(())),
        (json!({ "resolution": "1080p" }), 1920, 1080, Ok(())),
        (json!({ "resolution": "1080P" }), 720, 1280, Ok(())),
        (json!({ "resolution": "1080P" }), 1136, 640, Err("1136×640 pixels for 1080P")),
        (json!({ "resolution": "768P" }), 1176, 504, Ok(())),
        (json!({ "resolution": "2K" }), 2048, 1152, Ok(())),
        (json!({ "resolution": "2K" }), 1136, 640, Err("1136×640 pixels for 2K")),
        (json!({ "resolution": "4k" }), 1920, 1080, Err("1920×1080 pixels for 4k")),
        (json!({ "resolution": "cinema" }), 64, 36, Ok(())),
        (json!({ "audio": false }), 64, 36, Ok(())),
        (json!({ "audio": true }), 64, 36, Err("without the sound")),
    ] {
        check("video.generate", input, &film(width, height, 5.0), expected);
    }
    let heard = Verified { has_sound: true, ..film(64, 36, 5.0) };
    check("video.generate", json!({ "audio": true }), &heard, Ok(()));
}

#[test]
fn speech_is_not_shorter_than_anybody_speaks() {
    let text = "a kiln burns ".repeat(60);
    for (input, seconds, expected) in [
        (json!({ "text": "x" }), 0.4, Ok(())),
        (json!({ "text": "x" }), 0.04, Err("0.04 seconds of sound for 1 letters")),
        (json!({ "text": text }), 40.0, Ok(())),
        (json!({ "text": text }), 5.1, Ok(())),
        (json!({ "text": text }), 4.9, Err("4.90 seconds of sound for 600 letters")),
        (json!({ "text": text, "speed": 4 }), 1.3, Ok(())),
        (json!({ "text": text, "speed": 4 }), 1.2, Err("1.20 seconds")),
        (json!({ "text": text, "speed": 0.25 }), 5.1, Ok(())),
        // Nobody says a line of dashes.
        (json!({ "text": "-".repeat(4000) }), 0.4, Ok(())),
    ] {
        check("audio.speech", input, &sound(seconds), expected);
    }
    check("audio.music", json!({ "prompt": "a fox" }), &sound(120.0), Ok(()));
    check("audio.music", json!({ "prompt": "a fox" }), &sound(0.05), Err("0.05 seconds"));
}

#[test]
fn what_has_no_rule_is_accepted() {
    check("image.action", json!({}), &picture(1, 900), Ok(()));
    check("image.vectorize", json!({}), &picture(1, 900), Ok(()));
    let unmeasured = Verified { width: None, height: None, ..picture(1, 1) };
    check("image.generate", json!({ "size": "1024x1024" }), &unmeasured, Ok(()));
}
