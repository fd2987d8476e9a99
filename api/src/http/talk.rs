//! A request that goes on in a dialog: who answers it, and what was said before.
//!
//! The one way into a dialog, for jobs, which name it in `dialog`, and for whatever else takes chats, by whichever field or
//! header it names one. What comes out is a request as any other, complete and never to change; what the dialog keeps of it goes
//! along with the order. Deliberately absent: prices and rights, which the request as it then is meets like any other.

use serde_json::Value;

use super::{dialogs, models};
use crate::{ApiError, Ctx};
use shared::{
    account::Caller,
    catalog::Model,
    dialog::{self, Continued, Dialog, MESSAGE_CHARS, MESSAGES_MAX, Owner, Room, TooLong},
    id::DialogId,
    job::Turn,
    price::Meter,
};

/// A request with what was said before.
#[derive(Debug)]
pub struct Resumed {
    /// Public name of the model that answers.
    pub model: String,
    /// The input of its job.
    pub input: Value,
    /// For the order.
    pub turn: Turn,
}

/// Goes on in a dialog of `caller` with a chat's `input`: by `model`, or else by the dialog's.
///
/// # Errors
/// 400, 404 or 409, naming the field; the input is checked before anything is put before it, so that fields have the names that
/// the caller gave them.
pub async fn resume(
    ctx: &Ctx,
    caller: &Caller,
    id: DialogId,
    model: Option<String>,
    input: Value,
) -> Result<Resumed, ApiError> {
    let recalled = dialog::recall(&ctx.db, Owner::of(caller), id, ctx.dialogs.history_bytes).await?;
    let recalled = recalled.ok_or_else(|| dialogs::unknown("dialog"))?;
    refuse_full(&recalled.dialog)?;
    let name = model.or_else(|| recalled.dialog.model.clone()).ok_or_else(|| {
        ApiError::bad_request("missing_field", "model", "neither the request nor the dialog names a model")
    })?;
    let model = ctx.catalog.get(&name).ok_or_else(|| models::unknown(&name))?;
    if model.task != dialog::TASK {
        let message =
            format!("{name} holds no conversations: jobs of the task {} have dialogs", dialog::TASK);
        return Err(ApiError::bad_request("invalid_dialog", "dialog", message));
    }
    model.check(&input)?;
    let room = room(model, &recalled.dialog, &input, ctx.dialogs.history_bytes);
    let Continued { input, said } = dialog::go_on(&recalled, input, room).map_err(refuse_long)?;
    Ok(Resumed { model: name, input, turn: Turn { dialog: id, said } })
}

/// The part in its dialog of a job that is made again. What was said before is in its input already; only whether `caller` may
/// speak there is asked anew. `None`: the dialog is gone or not theirs, and the job is made without one.
///
/// # Errors
/// 409 when the dialog is full.
pub async fn say_again(ctx: &Ctx, caller: &Caller, turn: Turn) -> Result<Option<Turn>, ApiError> {
    let found = dialog::find(&ctx.db, Owner::of(caller), turn.dialog).await?;
    let Some(dialog) = found else { return Ok(None) };
    refuse_full(&dialog)?;
    Ok(Some(turn))
}

/// How much may go before an input: as much as is set, and no more than the model reads.
fn room(model: &Model, dialog: &Dialog, input: &Value, history_bytes: i64) -> Room {
    let limits =
        model.rules.iter().filter(|rule| rule.per == Meter::PromptToken).filter_map(|rule| rule.most);
    // A token is one byte at least.
    let reads = limits.min().map_or(usize::MAX, whole);
    let taken = input.to_string().len() + dialog.system.as_ref().map_or(0, String::len);
    let history = usize::try_from(history_bytes).unwrap_or(0);
    let messages = model.schema["properties"]["messages"]["maxItems"].as_u64();
    Room { bytes: history.min(reads.saturating_sub(taken)), messages: messages.map_or(usize::MAX, whole) }
}

fn whole(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// How long it may grow is judged here and not where it grows, so it may exceed it by what is under way.
fn refuse_full(dialog: &Dialog) -> Result<(), ApiError> {
    if dialog.keeps_history && dialog.message_count >= MESSAGES_MAX {
        let message = format!(
            "the dialog holds {} messages and may hold {MESSAGES_MAX}: begin another, or forget what was said in this one",
            dialog.message_count
        );
        return Err(ApiError::conflict("dialog_full", message));
    }
    Ok(())
}

fn refuse_long(TooLong { param }: TooLong) -> ApiError {
    let message = format!("a message of a dialog has at most {MESSAGE_CHARS} characters");
    ApiError::bad_request("message_too_long", param, message)
}
