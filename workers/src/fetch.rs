//! The files an input names, brought into memory and recognised: stored files, data URLs, URLs of the web.
//!
//! Each is limited in size while it is read, and typed by its bytes, never by what it claims. Of a picture the header is read
//! as well, so that nobody, here or at a vendor, opens one that is too large.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use crate::{
    Ctx,
    acceptance::{self, Ordered, SOURCE_FIELD},
    media::{self, Format, HEAD_BYTES, Picture},
    providers::{ErrorClass, InputFile, ProviderError},
};
use shared::{file, id::FileId, job::Claimed};

/// Longest input file; vendors take 20–30 MB at most.
const INPUT_LIMIT_BYTES: usize = 30 * 1024 * 1024;

/// Longest time one file may take: a server that drips keeps a slot from others.
const INPUT_TIMEOUT: Duration = Duration::from_secs(60);

/// The files of an input.
#[derive(Debug, Default)]
pub struct Inputs {
    /// In the order of the schema's fields.
    pub files: Vec<InputFile>,
    /// The picture that a tool is to change, where there is one.
    pub source: Option<Picture>,
}

/// Brings every file that the job's input names.
///
/// # Errors
/// [`ErrorClass::BadInput`] when a file is missing, too long, too large a picture or not of the kind that its field wants;
/// [`ErrorClass::Unavailable`] when it could not be read this time.
pub async fn inputs(ctx: &Ctx, claimed: &Claimed) -> Result<Inputs, ProviderError> {
    let Some(model) = ctx.catalog.known(&claimed.model) else { return Ok(Inputs::default()) };
    let mut inputs = Inputs::default();
    for field in &model.file_fields {
        let Some(source) = claimed.input.get(field).and_then(|value| value.as_str()) else { continue };
        let bytes = bring(ctx, claimed, field, source).await?;
        let Some(format) = sniff(&bytes) else {
            return Err(bad(field, "is of no kind that is known here"));
        };
        if let Some(wanted) = model.media_type(field).filter(|wanted| !format.may_be(wanted)) {
            return Err(bad(field, &format!("is {} where {wanted} is wanted", format.mime_type())));
        }
        let picture = survey(&bytes, format).await.map_err(|why| bad(field, &why))?;
        if field == SOURCE_FIELD {
            inputs.source = picture;
        }
        inputs.files.push(InputFile {
            field: field.clone(),
            mime_type: format.mime_type().to_owned(),
            bytes,
        });
    }
    let ordered = Ordered::new(claimed, Some(model), inputs.source);
    ordered.check_feasible().map_err(|why| bad(SOURCE_FIELD, &why))?;
    Ok(inputs)
}

/// The picture that a finished task was to change, for tasks whose result is held against it. `None` where it cannot be told any
/// more; one of the web is not asked for again, for it may have become another.
pub async fn source(ctx: &Ctx, claimed: &Claimed) -> Option<Picture> {
    let named = claimed.input.get(SOURCE_FIELD)?.as_str()?;
    if !acceptance::is_of_source(&claimed.task) || named.starts_with("http") {
        return None;
    }
    let bytes = bring(ctx, claimed, SOURCE_FIELD, named).await.ok()?;
    survey(&bytes, sniff(&bytes)?).await.ok()?
}

fn sniff(bytes: &Bytes) -> Option<Format> {
    media::sniff(&bytes[..bytes.len().min(HEAD_BYTES)])
}

/// Reads the header of a picture, on a thread that may block.
async fn survey(bytes: &Bytes, format: Format) -> Result<Option<Picture>, String> {
    let bytes = bytes.clone();
    match tokio::task::spawn_blocking(move || media::survey(&bytes, format)).await {
        Ok(looked) => looked,
        // A reader that panics over a picture has said what it thinks of it.
        Err(_) => Err("cannot be read as a picture: it contradicts itself".to_owned()),
    }
}

async fn bring(ctx: &Ctx, claimed: &Claimed, field: &str, source: &str) -> Result<Bytes, ProviderError> {
    if let Some(data) = source.strip_prefix("data:") {
        return decode(field, data);
    }
    if let Ok(id) = source.parse::<FileId>() {
        return stored(ctx, claimed, field, id).await;
    }
    download(ctx, field, source).await
}

/// A data URL (RFC 2397) in base 64.
fn decode(field: &str, data: &str) -> Result<Bytes, ProviderError> {
    let (kind, body) = data.split_once(',').ok_or_else(|| bad(field, "is not a whole data URL"))?;
    if !kind.ends_with(";base64") {
        return Err(bad(field, "must be a data URL in base64"));
    }
    let bytes = BASE64_STANDARD.decode(body.trim()).map_err(|_| bad(field, "is not right base64"))?;
    if bytes.is_empty() {
        return Err(bad(field, "is empty"));
    }
    Ok(bytes.into())
}

async fn stored(ctx: &Ctx, claimed: &Claimed, field: &str, id: FileId) -> Result<Bytes, ProviderError> {
    let away = |error: String| ProviderError::new(ErrorClass::Unavailable, error);
    let found = file::locate(&ctx.db, claimed.account, id).await.map_err(|error| away(error.to_string()))?;
    let Some(found) = found else {
        return Err(bad(field, "names a file that is not there, or no longer"));
    };
    let limit = u64::try_from(INPUT_LIMIT_BYTES).unwrap_or(u64::MAX);
    if u64::try_from(found.size_bytes).is_ok_and(|size| size > limit) {
        return Err(bad(field, &format!("is longer than {INPUT_LIMIT_BYTES} bytes")));
    }
    ctx.storage.get_bytes(&found.storage_key, limit).await.map_err(|error| away(format!("{error:#}")))
}

async fn download(ctx: &Ctx, field: &str, url: &str) -> Result<Bytes, ProviderError> {
    let request = ctx.web.get(url).map_err(|why| bad(field, &why))?;
    let away = |error: reqwest::Error| {
        ProviderError::new(
            ErrorClass::Unavailable,
            format!("{field} could not be read: {}", error.without_url()),
        )
    };
    let response = request.timeout(INPUT_TIMEOUT).send().await.map_err(away)?;
    let status = response.status();
    if status.is_client_error() {
        return Err(bad(field, &format!("could not be read: its server answered {status}")));
    }
    let response = response.error_for_status().map_err(away)?;
    let mut bytes = BytesMut::new();
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.map_err(away)?);
        if bytes.len() > INPUT_LIMIT_BYTES {
            return Err(bad(field, &format!("is longer than {INPUT_LIMIT_BYTES} bytes")));
        }
    }
    Ok(bytes.freeze())
}

fn bad(field: &str, what: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, format!("{field} {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;
    use crate::providers::data_url;

    #[test]
    fn a_data_url_is_what_was_put_into_it_and_never_breaks() {
        let config = || Config { cases: 500, failure_persistence: None, ..Config::default() };
        proptest!(config(), |(bytes in vec(any::<u8>(), 1..200), mime_type in "[a-z]{1,9}/[a-z0-9.+-]{1,9}(; ?[a-z]=[a-z])?")| {
            let file = InputFile { field: "image".into(), mime_type, bytes: bytes.clone().into() };
            let url = data_url(&file);
            prop_assert_eq!(decode("image", url.strip_prefix("data:").unwrap()).unwrap(), bytes);
        });
        let near = "[a-z/;]{0,12}(;base64)?,?[A-Za-z0-9+/= \n,_-]{0,40}";
        proptest!(config(), |(text in prop_oneof![near.prop_map(String::from), any::<String>()])| {
            match decode("image", &text) {
                Ok(bytes) => prop_assert!(!bytes.is_empty() && bytes.len() < text.len() && text.contains(";base64,")),
                Err(error) => prop_assert_eq!(error.class, ErrorClass::BadInput),
            }
        });
    }

    #[test]
    fn a_data_url_is_decoded_or_refused_by_name() {
        assert_eq!(decode("image", "image/png;base64,aGk=").unwrap(), Bytes::from("hi"));
        for bad in ["image/png;base64", "image/png,hi", "image/png;base64,***", "image/png;base64,"] {
            let error = decode("image", bad).unwrap_err();
            assert_eq!(error.class, ErrorClass::BadInput, "{bad}");
            assert!(error.message.starts_with("image "), "{bad}: {}", error.message);
        }
    }
}
