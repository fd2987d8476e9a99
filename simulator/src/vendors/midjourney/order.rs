//! What the proxy accepts, field by field. Pictures are data URLs that must decode.

use serde_json::Value;

use super::buttons;
use crate::{
    content::mp4,
    fields::{Complaint, Fields},
    picture,
    task::{Ending, Makes, Task},
};

/// The most a picture may weigh; the proxies name no limit.
const PICTURE_BYTES_MAX: usize = 30 * 1024 * 1024;
/// The longest prompt that is read.
const PROMPT_CHARS_MAX: usize = 50_000;
/// trueai's limits for our name of the work and for where to ring.
const STATE_CHARS_MAX: usize = 255;
const HOOK_CHARS_MAX: usize = 2000;
/// The sides of four pictures in one, for a shape of 1:1; small, as tests decode them.
const GRID_SIDE: u16 = 256;
/// How long a clip is, and how much longer each extension makes it.
const CLIP_SECONDS: u16 = 5;
const EXTENSION_SECONDS: u16 = 4;

/// Work, understood.
#[derive(Debug)]
pub(super) struct Order {
    /// What the task will be called.
    pub action: &'static str,
    /// The prompt; the button's id where one was pressed, else what is done and for which name of the client's.
    pub prompt: String,
    /// Width and height.
    pub frame: (u16, u16),
    /// Length of a film.
    pub seconds: u16,
    /// What kind of file it makes.
    pub makes: Makes,
    /// The client's own name for the work.
    pub state: Option<String>,
    /// Where to ring.
    pub hook: Option<String>,
    /// Whether it waits for a second step.
    pub opens_window: bool,
}

/// The second step of a task, understood.
#[derive(Debug)]
pub(super) struct Window {
    /// Which task.
    pub task: Task,
    /// The button's id and the words.
    pub prompt: String,
}

impl Order {
    /// Reads work of this kind; `None` when a task that it follows is not there.
    pub fn read(
        kind: &str,
        body: &Value,
        find: impl Fn(&str) -> Option<Task>,
    ) -> Result<Option<Self>, Complaint> {
        let fields = Fields::of(body, "body")?;
        let common = Self {
            action: "IMAGINE",
            prompt: String::new(),
            frame: (GRID_SIDE, GRID_SIDE),
            seconds: 1,
            makes: Makes::Png,
            state: fields.optional_text("state", STATE_CHARS_MAX)?.map(str::to_owned),
            hook: fields.optional_text("notifyHook", HOOK_CHARS_MAX)?.map(str::to_owned),
            opens_window: false,
        };
        match kind {
            "imagine" => imagine(&fields, common).map(Some),
            "action" => action(&fields, common, find),
            "blend" => blend(&fields, common).map(Some),
            "describe" => describe(&fields, common).map(Some),
            "swap" => swap(&fields, common).map(Some),
            "video" => film(&fields, common, find),
            other => Err(Complaint::general(format!("there is no submit/{other}"))),
        }
    }

    /// The same, called by what it does where nothing was said.
    fn nameless(self, action: &'static str) -> Self {
        let prompt = format!("{action} {}", self.state.as_deref().unwrap_or_default());
        Self { action, prompt, ..self }
    }
}

fn only(fields: &Fields<'_>, own: &[&str]) -> Result<(), Complaint> {
    fields.only(&[own, &["state", "notifyHook", "accountFilter"]].concat())
}

fn imagine(fields: &Fields<'_>, common: Order) -> Result<Order, Complaint> {
    only(fields, &["prompt", "botType", "base64Array"])?;
    fields.choice("botType", &["MID_JOURNEY", "NIJI_JOURNEY"])?;
    if fields.get("base64Array").is_some() {
        fields.list("base64Array")?;
    }
    let prompt = fields.text("prompt", PROMPT_CHARS_MAX)?;
    Ok(Order { prompt: prompt.to_owned(), frame: shape(prompt)?, ..common })
}

/// The frame that `--ar` asks for.
fn shape(prompt: &str) -> Result<(u16, u16), Complaint> {
    let Some((_, after)) = prompt.split_once("--ar ") else { return Ok((GRID_SIDE, GRID_SIDE)) };
    let wrong = || Complaint::of("prompt", "Invalid parameter: --ar");
    let (width, height) =
        after.split_whitespace().next().and_then(|ratio| ratio.split_once(':')).ok_or_else(wrong)?;
    let side =
        |text: &str| text.parse::<u16>().ok().filter(|side| (1..=100).contains(side)).ok_or_else(wrong);
    let (width, height) = (side(width)?, side(height)?);
    let longer = width.max(height);
    Ok(picture::drawable((GRID_SIDE * width / longer, GRID_SIDE * height / longer)))
}

fn action(
    fields: &Fields<'_>,
    common: Order,
    find: impl Fn(&str) -> Option<Task>,
) -> Result<Option<Order>, Complaint> {
    only(fields, &["taskId", "customId", "enableRemix"])?;
    fields.flag("enableRemix")?;
    let Some(parent) = find(fields.text("taskId", 64)?) else { return Ok(None) };
    let id = fields.text("customId", 500)?;
    if parent.ending != Some(Ending::Succeeded) {
        return Err(Complaint::of("taskId", "the related task has not succeeded"));
    }
    let Some((action, opens_window)) = buttons::pressed(&parent, id) else {
        return Err(Complaint::of("customId", "there is no such button"));
    };
    let makes = if action == "VIDEO" { Makes::Mp4 } else { Makes::Png };
    Ok(Some(Order { action, prompt: id.to_owned(), frame: parent.frame, makes, opens_window, ..common }))
}

fn blend(fields: &Fields<'_>, common: Order) -> Result<Order, Complaint> {
    only(fields, &["base64Array", "dimensions"])?;
    let pictures = fields.list("base64Array")?;
    if !(2..=5).contains(&pictures.len()) {
        return Err(Complaint::of("base64Array", "2 to 5 pictures are needed"));
    }
    for item in pictures {
        let boxed = serde_json::json!({ "base64Array": item });
        picture::size(&Fields::of(&boxed, "base64Array")?, "base64Array", PICTURE_BYTES_MAX)?;
    }
    let frame = match fields.choice("dimensions", &["PORTRAIT", "SQUARE", "LANDSCAPE"])? {
        Some("PORTRAIT") => (GRID_SIDE * 2 / 3, GRID_SIDE),
        Some("LANDSCAPE") => (GRID_SIDE, GRID_SIDE * 2 / 3),
        _ => (GRID_SIDE, GRID_SIDE),
    };
    Ok(Order { frame: picture::drawable(frame), ..common }.nameless("BLEND"))
}

fn describe(fields: &Fields<'_>, common: Order) -> Result<Order, Complaint> {
    only(fields, &["base64", "link"])?;
    if fields.get("link").is_none() {
        picture::size(fields, "base64", PICTURE_BYTES_MAX)?;
    }
    Ok(common.nameless("DESCRIBE"))
}

fn swap(fields: &Fields<'_>, common: Order) -> Result<Order, Complaint> {
    only(fields, &["sourceBase64", "targetBase64"])?;
    picture::size(fields, "sourceBase64", PICTURE_BYTES_MAX)?;
    let frame = picture::drawable(picture::size(fields, "targetBase64", PICTURE_BYTES_MAX)?);
    Ok(Order { frame, ..common }.nameless("SWAP_FACE"))
}

fn film(
    fields: &Fields<'_>,
    common: Order,
    find: impl Fn(&str) -> Option<Task>,
) -> Result<Option<Order>, Complaint> {
    only(
        fields,
        &[
            "prompt",
            "motion",
            "image",
            "endImage",
            "loop",
            "videoType",
            "batchSize",
            "taskId",
            "index",
            "action",
        ],
    )?;
    fields.choice("motion", &["low", "high"])?;
    fields.flag("loop")?;
    let kind = fields.choice("videoType", &["vid_1.1_i2v_480", "vid_1.1_i2v_720"])?;
    let lines = if kind == Some("vid_1.1_i2v_720") { 720 } else { 480 };
    if fields.integer("batchSize", 1..=4)? != Some(1) {
        return Err(Complaint::of("batchSize", "only single clips are made here"));
    }
    let prompt = fields.text("prompt", PROMPT_CHARS_MAX)?.to_owned();
    let film = Order { action: "VIDEO", prompt, seconds: CLIP_SECONDS, makes: Makes::Mp4, ..common };
    for name in ["image", "endImage"] {
        if fields.get(name).is_some() {
            picture::size(fields, name, PICTURE_BYTES_MAX)?;
        }
    }
    if fields.choice("action", &["extend"])?.is_none() {
        return Ok(Some(Order { frame: mp4::frame_of(16, 9, lines), ..film }));
    }
    fields.integer("index", 0..=3)?;
    let Some(parent) = find(fields.text("taskId", 64)?) else { return Ok(None) };
    if parent.makes != Makes::Mp4 || parent.ending != Some(Ending::Succeeded) {
        return Err(Complaint::of("taskId", "the related task has made no film"));
    }
    let seconds = parent.seconds + EXTENSION_SECONDS;
    Ok(Some(Order { action: "VIDEO_EXTEND", frame: parent.frame, seconds, ..film }))
}

impl Window {
    /// Reads the second step of a task.
    pub fn read(body: &Value, find: impl Fn(&str) -> Option<Task>) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        only(&fields, &["taskId", "prompt", "maskBase64"])?;
        let Some(task) = find(fields.text("taskId", 64)?) else {
            return Err(Complaint::of("taskId", "there is no such task"));
        };
        let words = fields.text("prompt", PROMPT_CHARS_MAX)?;
        if task.call == "INPAINT" || fields.get("maskBase64").is_some() {
            picture::size(&fields, "maskBase64", PICTURE_BYTES_MAX)?;
        }
        let prompt = format!("{} {words}", task.prompt);
        Ok(Self { task, prompt })
    }
}
