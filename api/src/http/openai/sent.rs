//! Files that come in a form beside its fields: into storage while they arrive, then written down as uploads.
//!
//! As with any upload nothing is in memory as a whole, the first bytes say what a file is, and only once the whole form was
//! read is anything made whole. What a file must be for its field is known when the form is at its end, and looked at by the
//! worker; how much may be sent in is judged here, as for other uploads.

use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::form::{self, Form};
use crate::{
    ApiError, Ctx,
    form::{Field, Form as Arriving},
    http::upload::{check_size, harmless, not_stored},
    request::zero,
    uploads::{Place, UploadLimits},
};
use shared::{
    file,
    format::{Format, HEAD_BYTES, sniff},
    id::{AccountId, FileId},
    storage::Incoming,
    upload::{self, KeepError, NewUpload},
};

/// Longest file of a form: OpenAI's own limit for recordings.
pub const FILE_BYTES_MAX: i64 = 25 * 1024 * 1024;
/// Longest form: a picture and its mask, and room for what is around them.
pub const FORM_BYTES_MAX: usize = 2 * 25 * 1024 * 1024 + TEXT_BYTES_MAX;
/// Most that is not in files: the longest prompt has 50 000 characters.
const TEXT_BYTES_MAX: usize = 512 * 1024;
/// Most parts of a form; the largest of OpenAI's has some twenty fields.
const PARTS_MAX: usize = 64;

/// A file of a form, which is an upload of the account by now.
#[derive(Debug)]
pub struct Sent {
    /// The field it came in, without the brackets of a list.
    pub field: String,
    /// What an input names it by.
    pub id: FileId,
    /// Where it is.
    pub storage_key: String,
    /// SHA-256 of its content.
    pub digest: Vec<u8>,
}

/// Reads a form to its end.
///
/// # Errors
/// When it is refused, breaks off or comes too slowly, or cannot be stored; nothing is left of it then.
pub async fn receive(ctx: &Ctx, account: AccountId, form: Arriving) -> Result<Form, ApiError> {
    let place = match ctx.uploads.enter(account) {
        Ok(place) => place,
        Err(refusal) => {
            form.discard().await;
            return Err(refusal);
        }
    };
    // Goes on when the caller has gone, to throw away what was stored so far.
    let received = ctx.process.spawn(take_in(ctx.clone(), account, form, place));
    received.await.map_err(|error| {
        tracing::error!(%error, "reading a form panicked");
        ApiError::internal()
    })?
}

async fn take_in(ctx: Ctx, account: AccountId, mut form: Arriving, place: Place) -> Result<Form, ApiError> {
    let used_bytes = upload::used_bytes(&ctx.db, account, ctx.clock.now()).await?;
    let mut arrival =
        Arrival { ctx, account, used_bytes, fields: Map::new(), text_bytes: 0, files: Vec::new() };
    if let Err(refusal) = arrival.read(&mut form).await {
        arrival.give_up().await;
        form.discard().await;
        return Err(refusal);
    }
    let kept = arrival.keep().await;
    drop(place);
    kept
}

/// Throws away files that nobody needs. One that cannot be deleted now goes when its time is up, as all uploads do.
pub async fn throw_away(ctx: &Ctx, files: &[Sent]) {
    for sent in files {
        let deleted = file::delete(&ctx.db, &ctx.storage, sent.id, &sent.storage_key, None).await;
        if let Err(error) = deleted {
            let error = format!("{error:#}");
            tracing::warn!(file.id = %sent.id, error, "file {} of a refused request stays for three days", sent.id);
        }
    }
}

/// What of a form has come so far.
struct Arrival {
    ctx: Ctx,
    account: AccountId,
    /// What the account's uploads took when it began.
    used_bytes: i64,
    fields: Map<String, Value>,
    text_bytes: usize,
    files: Vec<Arrived>,
}

/// A file whose bytes are on their way into storage.
struct Arrived {
    field: String,
    id: FileId,
    name: String,
    format: Format,
    size_bytes: i64,
    hash: Sha256,
    object: Incoming,
}

impl Arrival {
    async fn read(&mut self, form: &mut Arriving) -> Result<(), ApiError> {
        let mut parts = 0;
        while let Some(field) = form.next().await? {
            parts += 1;
            if parts > PARTS_MAX {
                return Err(ApiError::invalid_form(format!("the form has more than {PARTS_MAX} parts")));
            }
            if field.file_name().is_some() {
                self.take_file(field).await?
            } else {
                self.take_text(field).await?
            }
        }
        Ok(())
    }

    async fn take_text(&mut self, mut field: Field<'_>) -> Result<(), ApiError> {
        let name = field.name().unwrap_or_default().to_owned();
        let mut text = Vec::new();
        while let Some(piece) = field.piece().await? {
            self.text_bytes += piece.len();
            if self.text_bytes > TEXT_BYTES_MAX {
                let message = format!("the fields of the form hold more than {TEXT_BYTES_MAX} bytes");
                return Err(ApiError::invalid_form(message));
            }
            text.extend_from_slice(&piece);
        }
        let unreadable = |_| ApiError::bad_request("invalid_text", name.clone(), "this is not UTF-8");
        let text = String::from_utf8(text).map_err(unreadable)?;
        if name.contains('\0') || text.contains('\0') {
            return Err(zero());
        }
        form::fill_in(&mut self.fields, &name, text);
        Ok(())
    }

    async fn take_file(&mut self, mut field: Field<'_>) -> Result<(), ApiError> {
        let name = field.name().unwrap_or_default();
        let name = name.strip_suffix("[]").unwrap_or(name).to_owned();
        let claimed = field.file_name().unwrap_or_default().to_owned();
        let head = field.head(HEAD_BYTES).await?;
        let format = recognise(&head, &name)?;
        let (id, limits) = (FileId::new(), self.limits());
        let key = upload::storage_key(self.account, id, format);
        let before: i64 = self.files.iter().map(|file| file.size_bytes).sum::<i64>() + self.used_bytes;
        let object = self.ctx.storage.incoming(key, format.mime_type());
        // From here on whoever gives up finds it among the files.
        self.files.push(Arrived {
            field: name.clone(),
            id,
            name: harmless(&claimed, format),
            format,
            size_bytes: 0,
            hash: Sha256::new(),
            object,
        });
        let Some(file) = self.files.last_mut() else { return Err(ApiError::internal()) };
        let mut piece = Some(head);
        while let Some(bytes) = piece {
            file.size_bytes += i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            check_size(file.size_bytes, before, limits).map_err(|refusal| about(refusal, &name))?;
            file.hash.update(&bytes);
            file.object.add(bytes).await.map_err(|error| not_stored(&error))?;
            piece = field.piece().await?;
        }
        Ok(())
    }

    fn limits(&self) -> UploadLimits {
        let limits = self.ctx.uploads.limits;
        UploadLimits { file_bytes_max: limits.file_bytes_max.min(FILE_BYTES_MAX), ..limits }
    }

    /// Makes all files whole and writes them down, or none.
    async fn keep(self) -> Result<Form, ApiError> {
        let Self { ctx, account, fields, files, .. } = self;
        let (mut sent, mut refusal) = (Vec::with_capacity(files.len()), None);
        for file in files {
            if refusal.is_some() {
                file.object.abandon().await;
                continue;
            }
            match file.keep(&ctx, account).await {
                Ok(file) => sent.push(file),
                Err(why) => refusal = Some(why),
            }
        }
        match refusal {
            None => Ok(Form::new(fields, sent)),
            Some(refusal) => {
                throw_away(&ctx, &sent).await;
                Err(refusal)
            }
        }
    }

    async fn give_up(self) {
        for file in self.files {
            file.object.abandon().await;
        }
    }
}

impl Arrived {
    /// Makes the object whole, and writes it down.
    async fn keep(self, ctx: &Ctx, account: AccountId) -> Result<Sent, ApiError> {
        let Self { field, id, name, format, size_bytes, hash, mut object } = self;
        if let Err(error) = object.finish().await {
            object.abandon().await;
            return Err(not_stored(&error));
        }
        let new = NewUpload { id, account, name: &name, purpose: None, format, size_bytes };
        let storage_key = new.storage_key();
        let kept = upload::keep(&ctx.db, &new, ctx.uploads.limits.quota_bytes, ctx.clock.now()).await;
        if let Err(KeepError::NotActive | KeepError::NoRoom { .. }) = kept
            && let Err(error) = ctx.storage.delete(&storage_key).await
        {
            let error = format!("{error:#}");
            tracing::warn!(file.id = %id, error, "a refused upload stays until the night");
        }
        kept.map_err(|error| about(error.into(), &field))?;
        Ok(Sent { field, id, storage_key, digest: hash.finalize().to_vec() })
    }
}

/// What a file is by its first bytes.
fn recognise(head: &Bytes, field: &str) -> Result<Format, ApiError> {
    if head.is_empty() {
        return Err(ApiError::bad_request("empty_file", field, "the file is empty"));
    }
    sniff(&head[..head.len().min(HEAD_BYTES)]).ok_or_else(|| {
        let message = "the bytes of this file are of no kind that is known here; its name and claimed type do not count";
        ApiError::bad_request("invalid_input_file", field, message)
    })
}

/// A refusal of a file, about the field it came in.
fn about(mut refusal: ApiError, field: &str) -> ApiError {
    if let Some(param) = &mut refusal.param {
        field.clone_into(param);
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_field_of_the_file() {
        let refusal = recognise(&Bytes::from_static(b"MZ\x90\0"), "image").expect_err("no kind of ours");
        assert_eq!((refusal.code, refusal.param.as_deref()), ("invalid_input_file", Some("image")));
        assert_eq!(recognise(&Bytes::new(), "mask").expect_err("nothing").code, "empty_file");
        let renamed = about(ApiError::file_too_large(5), "image");
        assert_eq!(renamed.param.as_deref(), Some("image"));
        assert_eq!(about(ApiError::unavailable(), "image").param, None);
        assert!(recognise(&Bytes::from_static(b"RIFF\0\0\0\0WAVEfmt "), "file").is_ok());
    }
}
