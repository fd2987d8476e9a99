//! A file on its way in: from a form into storage, and then into the database.
//!
//! The first bytes say what it is, before anything is stored; then it goes on part by part. Only when the whole form was read
//! is the object made whole, and only when it is does anybody see it. Whatever goes wrong before, a client that leaves
//! included, what was stored is thrown away. It runs as a task of the process, since the request ends with its connection.

use bytes::Bytes;

use crate::{
    ApiError, Ctx,
    form::{Field, Form},
    uploads::{Place, UploadLimits},
};
use shared::{
    file::File,
    format::{Format, HEAD_BYTES, sniff},
    id::{AccountId, FileId},
    storage::Incoming,
    upload::{self, FORMATS, KeepError, NewUpload},
};

/// The field with the file.
const FILE: &str = "file";
/// The field that OpenAI's clients send beside it.
const PURPOSE: &str = "purpose";
/// Longest purpose, in characters. OpenAI's have a dozen.
pub const PURPOSE_LEN: usize = 64;
/// Longest name, in characters; as long as file systems have them.
const NAME_LEN: usize = 255;

/// What of a form has come so far.
struct Arrival {
    ctx: Ctx,
    account: AccountId,
    id: FileId,
    /// What the account's uploads took when it began.
    used_bytes: i64,
    file: Option<Arrived>,
    purpose: Option<String>,
}

/// The file of the form.
struct Arrived {
    name: String,
    format: Format,
    size_bytes: i64,
    object: Incoming,
}

/// Takes in the file of a form.
///
/// # Errors
/// When the form or the file is refused, breaks off or comes too slowly, or cannot be stored; nothing is left of it then.
pub async fn receive(ctx: Ctx, account: AccountId, mut form: Form, place: Place) -> Result<File, ApiError> {
    let used_bytes = upload::used_bytes(&ctx.db, account, ctx.clock.now()).await?;
    let mut arrival = Arrival { ctx, account, id: FileId::new(), used_bytes, file: None, purpose: None };
    if let Err(refusal) = arrival.read(&mut form).await {
        arrival.give_up().await;
        form.discard().await;
        return Err(refusal);
    }
    let file = arrival.keep().await?;
    drop(place);
    tracing::info!(file.id = %file.id, account.id = %account, size_bytes = file.size_bytes, "file {} sent in", file.id);
    metrics::counter!("kiln_uploads_total", "type" => file.mime_type.clone()).increment(1);
    metrics::counter!("kiln_upload_bytes_total").increment(u64::try_from(file.size_bytes).unwrap_or(0));
    Ok(file)
}

impl Arrival {
    /// Reads the form to its end.
    async fn read(&mut self, form: &mut Form) -> Result<(), ApiError> {
        check_size(0, self.used_bytes, self.ctx.uploads.limits)?;
        while let Some(field) = form.next().await? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                FILE if self.file.is_some() => return Err(twice(FILE)),
                FILE => self.take_file(field).await?,
                PURPOSE if self.purpose.is_some() => return Err(twice(PURPOSE)),
                PURPOSE => self.purpose = Some(purpose(field).await?),
                _ => {
                    let name: String = name.chars().take(NAME_LEN).collect();
                    let message = format!("unknown field {name:?}: there are {FILE} and {PURPOSE}");
                    return Err(ApiError::bad_request("unknown_field", name, message));
                }
            }
        }
        match self.file {
            Some(_) => Ok(()),
            None => Err(ApiError::bad_request(
                "missing_field",
                FILE,
                "the form has no field \"file\" with a file",
            )),
        }
    }

    async fn take_file(&mut self, mut field: Field<'_>) -> Result<(), ApiError> {
        let claimed = field.file_name().map(ToOwned::to_owned);
        let head = field.head(HEAD_BYTES).await?;
        let format = recognise(&head)?;
        let key = upload::storage_key(self.account, self.id, format);
        let object = self.ctx.storage.incoming(key, format.mime_type());
        let name = harmless(claimed.as_deref().unwrap_or_default(), format);
        let file = self.file.insert(Arrived { name, format, size_bytes: 0, object });
        let mut piece = Some(head);
        while let Some(bytes) = piece {
            file.size_bytes += i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            check_size(file.size_bytes, self.used_bytes, self.ctx.uploads.limits)?;
            file.object.add(bytes).await.map_err(|error| not_stored(&error))?;
            piece = field.piece().await?;
        }
        Ok(())
    }

    /// Makes the object whole, and writes it down.
    async fn keep(self) -> Result<File, ApiError> {
        let Some(Arrived { name, format, size_bytes, mut object }) = self.file else {
            return Err(ApiError::internal());
        };
        if let Err(error) = object.finish().await {
            object.abandon().await;
            return Err(not_stored(&error));
        }
        let purpose = self.purpose.as_deref();
        let new = NewUpload { id: self.id, account: self.account, name: &name, purpose, format, size_bytes };
        let now = self.ctx.clock.now();
        let kept = upload::keep(&self.ctx.db, &new, self.ctx.uploads.limits.quota_bytes, now).await;
        if let Err(KeepError::NotActive | KeepError::NoRoom { .. }) = kept
            && let Err(error) = self.ctx.storage.delete(&new.storage_key()).await
        {
            let error = format!("{error:#}");
            tracing::warn!(file.id = %self.id, error, "a refused upload stays until the night");
        }
        Ok(kept?)
    }

    async fn give_up(self) {
        if let Some(file) = self.file {
            file.object.abandon().await;
        }
    }
}

/// What a file is by its first bytes, if that is taken.
fn recognise(head: &Bytes) -> Result<Format, ApiError> {
    if head.is_empty() {
        return Err(ApiError::bad_request("empty_file", FILE, "the file is empty"));
    }
    let format = sniff(&head[..head.len().min(HEAD_BYTES)]);
    format.filter(|format| FORMATS.contains(format)).ok_or_else(ApiError::unsupported_file)
}

/// Whether a file may be so long, beside what the account's other uploads take.
///
/// # Errors
/// 413 when it may not.
pub fn check_size(size_bytes: i64, used_bytes: i64, limits: UploadLimits) -> Result<(), ApiError> {
    if size_bytes > limits.file_bytes_max {
        return Err(ApiError::file_too_large(limits.file_bytes_max));
    }
    match limits.quota_bytes {
        // One byte at least: where there is no room for it, nothing needs to be read.
        Some(quota) if size_bytes.max(1) > quota.saturating_sub(used_bytes) => {
            Err(ApiError::no_room(used_bytes, quota))
        }
        _ => Ok(()),
    }
}

async fn purpose(mut field: Field<'_>) -> Result<String, ApiError> {
    // A character has four bytes at most.
    let bytes = field.head(4 * PURPOSE_LEN + 1).await?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    if text.is_empty() || text.chars().count() > PURPOSE_LEN || text.chars().any(char::is_control) {
        let message = format!("purpose has 1 to {PURPOSE_LEN} characters, none of them control characters");
        return Err(ApiError::bad_request("invalid_text", PURPOSE, message));
    }
    Ok(text.to_owned())
}

fn twice(field: &str) -> ApiError {
    ApiError::bad_request("duplicate_field", field, format!("the form has the field {field:?} twice"))
}

/// The answer where our own storage failed.
pub fn not_stored(error: &anyhow::Error) -> ApiError {
    tracing::error!(error = format!("{error:#}"), "an upload could not be stored");
    ApiError::unavailable()
}

/// What a file is called without what may mislead whoever reads it: no folders, no control characters, and nothing that
/// is not seen or turns the direction of reading. One that has no name left is named by its kind.
pub fn harmless(claimed: &str, format: Format) -> String {
    let last = claimed.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|letter| !misleads(*letter)).collect();
    let name: String = name.trim().chars().take(NAME_LEN).collect();
    if name.trim_matches('.').is_empty() { format!("file.{}", format.extension()) } else { name }
}

/// Control characters, and those of Unicode that only steer how others are shown.
fn misleads(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    #[test]
    fn a_name_keeps_what_can_be_read_and_nothing_that_misleads() {
        let check = |claimed: &str, expected: &str| assert_eq!(harmless(claimed, Format::Png), expected);
        check("a fox.png", "a fox.png");
        check(" лиса & Söhne.png ", "лиса & Söhne.png");
        check("C:\\Users\\ann\\fox.png", "fox.png");
        check("../../etc/passwd", "passwd");
        check("fox\u{202E}gnp.exe\0\r\n", "foxgnp.exe");
        check("", "file.png");
        check("..", "file.png");
        check("folder/", "file.png");
        check("\u{FEFF}\u{200B}", "file.png");
        proptest!(Config { cases: 300, failure_persistence: None, ..Config::default() }, |(claimed in any::<String>())| {
            let name = harmless(&claimed, Format::Mp4);
            prop_assert!(!name.is_empty() && name.chars().count() <= NAME_LEN);
            prop_assert!(!name.contains(['/', '\\']) && !name.chars().any(misleads));
        });
    }

    #[test]
    fn a_file_is_refused_as_soon_as_it_is_too_long_or_has_no_room() {
        let limits = UploadLimits { file_bytes_max: 100, quota_bytes: Some(150) };
        let code = |size, used| check_size(size, used, limits).err().map(|error| error.message().to_owned());
        assert_eq!(code(100, 50), None);
        assert!(code(101, 0).is_some_and(|why| why.contains("longer than 100 bytes")));
        assert!(code(51, 100).is_some_and(|why| why.contains("take 100 of the 150 bytes")));
        assert!(code(0, 150).is_some(), "full before anything came");
        let boundless = UploadLimits { quota_bytes: None, ..limits };
        assert!(check_size(100, i64::MAX, boundless).is_ok());
    }

    #[test]
    fn what_a_file_is_called_does_not_say_what_it_is() {
        let kind = |head: &'static [u8]| recognise(&Bytes::from_static(head)).ok();
        assert_eq!(kind(b"%PDF-1.7"), Some(Format::Pdf));
        assert_eq!(kind(b"OggS\0\x02"), Some(Format::Ogg));
        for other in [&b""[..], b"GIF89a", b"<svg/>", b"fLaC", b"MZ\x90\0", b"{}"] {
            assert_eq!(kind(other), None, "{other:?}");
        }
    }
}
