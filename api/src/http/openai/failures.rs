//! How a call in OpenAI's form can fail beside what any request can, for the document of the API.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, ToSchema,
    openapi::{Content, Ref, RefOr, Response, ResponseBuilder},
};

use crate::{ErrorBody, http::openapi};

/// Failures of a call that is a job.
#[derive(Debug)]
pub struct CallFailures;

impl IntoResponses for CallFailures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let told = [
            (400, "The request is wrong, or the provider refused it: `content_policy_violation` and others."),
            (
                402,
                "`insufficient_quota`: the account, or the limit of the key, has too few tokens left for this.",
            ),
            (404, "`model_not_found`: there is no such model, or it is not for this path."),
            (500, "Something went wrong on our side."),
            (502, "The provider failed."),
            (503, "Something that we need, or every provider, is away for the moment."),
            (504, "The job was not done in time."),
        ];
        told.into_iter().map(|(status, what)| (status.to_string(), RefOr::T(failure(status, what)))).collect()
    }
}

fn failure(status: u16, what: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
    let failure = ResponseBuilder::new().description(what).content("application/json", content);
    let headers: &[_] = match status {
        503 => &[("retry-after", "RetryAfter"), ("x-should-retry", "ShouldRetry")],
        500.. => &[("x-should-retry", "ShouldRetry")],
        _ => &[],
    };
    let told = |failure: ResponseBuilder, (name, refers): &(&str, &str)| {
        failure.header_ref(*name, openapi::reference(refers))
    };
    headers.iter().fold(failure, told).build()
}
