//! The buttons under a picture: what each is called, what pressing it makes, and which open a window.

use serde_json::{Value, json};

use crate::task::Task;

/// A button, without the part of its id that belongs to one picture.
struct Button {
    /// `{}` stands for that part.
    id: &'static str,
    emoji: &'static str,
    label: &'static str,
    /// What the task that it begins is called.
    action: &'static str,
    opens_window: bool,
}

const fn button(id: &'static str, emoji: &'static str, label: &'static str, action: &'static str) -> Button {
    Button { id, emoji, label, action, opens_window: false }
}

const fn window(id: &'static str, emoji: &'static str, label: &'static str, action: &'static str) -> Button {
    Button { id, emoji, label, action, opens_window: true }
}

/// Under four pictures in one.
const OF_GRID: &[Button] = &[
    button("MJ::JOB::upsample::1::{}", "", "U1", "UPSCALE"),
    button("MJ::JOB::upsample::2::{}", "", "U2", "UPSCALE"),
    button("MJ::JOB::upsample::3::{}", "", "U3", "UPSCALE"),
    button("MJ::JOB::upsample::4::{}", "", "U4", "UPSCALE"),
    button("MJ::JOB::reroll::0::{}::SOLO", "🔄", "", "REROLL"),
    button("MJ::JOB::variation::1::{}", "", "V1", "VARIATION"),
    button("MJ::JOB::variation::2::{}", "", "V2", "VARIATION"),
    button("MJ::JOB::variation::3::{}", "", "V3", "VARIATION"),
    button("MJ::JOB::variation::4::{}", "", "V4", "VARIATION"),
];

/// Under one picture.
const OF_SINGLE: &[Button] = &[
    button("MJ::JOB::upsample_v6_2x_subtle::1::{}::SOLO", "upscale_1", "Upscale (Subtle)", "UPSCALE_HD"),
    button("MJ::JOB::low_variation::1::{}::SOLO", "🪄", "Vary (Subtle)", "VARIATION"),
    button("MJ::JOB::high_variation::1::{}::SOLO", "🪄", "Vary (Strong)", "VARIATION"),
    window("MJ::Inpaint::1::{}::SOLO", "🖌️", "Vary (Region)", "INPAINT"),
    button("MJ::Outpaint::50::1::{}::SOLO", "🔍", "Zoom Out 2x", "OUTPAINT"),
    window("MJ::CustomZoom::{}", "🔍", "Custom Zoom", "ZOOM"),
    button("MJ::JOB::pan_left::1::{}::SOLO", "⬅️", "", "PAN"),
    button("MJ::JOB::animate_high::1::{}::SOLO", "🎞️", "Animate (High motion)", "VIDEO"),
    button("MJ::BOOKMARK::{}", "❤️", "", "ACTION"),
];

/// Those that a finished task of this kind has.
fn under(action: &str) -> &'static [Button] {
    match action {
        "IMAGINE" | "BLEND" | "VARIATION" | "REROLL" | "ZOOM" | "OUTPAINT" | "PAN" | "INPAINT" => OF_GRID,
        "UPSCALE" | "UPSCALE_HD" => OF_SINGLE,
        _ => &[],
    }
}

fn custom_id(button: &Button, task: &Task) -> String {
    button.id.replace("{}", &task.seed(0).name())
}

/// The buttons as the task shows them.
pub(super) fn shown(task: &Task) -> Value {
    let all = under(&task.call).iter();
    let show = |button: &Button| json!({ "customId": custom_id(button, task), "emoji": button.emoji, "label": button.label, "style": 2, "type": 2 });
    Value::Array(all.map(show).collect())
}

/// What pressing the task's button of that id begins, and whether it opens a window; `None` when there is no such button.
pub(super) fn pressed(task: &Task, id: &str) -> Option<(&'static str, bool)> {
    let found = under(&task.call).iter().find(|button| custom_id(button, task) == id)?;
    Some((found.action, found.opens_window))
}
