//! The page to read the API on: Swagger UI over our own document, with every file of it in this binary.
//!
//! Nothing is fetched from elsewhere, and the page's policy tells browsers to refuse whatever would. What a reader tries out goes
//! to the API that served the page. Deliberately absent: anything that is not in the document.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use utoipa_swagger_ui::Config;

use crate::{ApiError, request::PathId};

/// The files that the page names; Swagger UI has others, for other ways to build it in.
const FILES: [&str; 6] = [
    "favicon-32x32.png",
    "index.css",
    "swagger-initializer.js",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-ui.css",
];

/// Swagger UI sets styles on what it draws, and has its pictures in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files change only with the binary.
const KEEP: &str = "public, max-age=3600";

/// The page itself names its files and the document relative to where it stands, so that it works behind any prefix.
static SETTINGS: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let settings = Config::new(["openapi.json"])
        .use_base_layout()
        .doc_expansion("none")
        .default_models_expand_depth(0)
        .filter(true)
        .try_it_out_enabled(true)
        .request_snippets_enabled(true)
        .display_request_duration(true)
        .validator_url("none");
    Arc::new(settings)
});

/// This document as a page, to read and to try out.
#[utoipa::path(
    get, path = "/docs",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")),
)]
pub async fn page() -> Response {
    guarded(Html(include_str!("docs.html")).into_response())
}

/// A file of the page.
#[utoipa::path(
    get, path = "/docs/{file}",
    params(("file" = String, Path, description = "Name of the file, as the page says it.", example = "index.css")),
    responses((
        status = 200,
        description = "The file.",
        content((String = "text/css"), (String = "text/javascript"), (String = "image/png")),
    )),
)]
pub async fn asset(PathId(name): PathId<String>) -> Result<Response, ApiError> {
    let unknown = || ApiError::not_found("not_found", Some("file"), "the page has no such file");
    let name = FILES.into_iter().find(|known| *known == name).ok_or_else(unknown)?;
    let file = utoipa_swagger_ui::serve(name, SETTINGS.clone()).map_err(|error| {
        tracing::error!(%error, file = name, "no file of the page");
        ApiError::internal()
    })?;
    let file = file.ok_or_else(unknown)?;
    let kind = [(header::CONTENT_TYPE, file.content_type), (header::CACHE_CONTROL, KEEP.to_owned())];
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    Ok(guarded((kind, bytes).into_response()))
}

fn guarded(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
