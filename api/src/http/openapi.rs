//! The document of the API (OpenAPI 3.1), put together from the page of routes.
//!
//! A handler's `#[utoipa::path]` says what is its own: parameters, body, good answers, and errors that are particular to it. What
//! follows from the route is added here, once: name and tag, who may use it, the errors that the way to any handler can end
//! with, and the headers that every answer has. An answer that a handler describes itself is left as it is. Deliberately
//! absent: servers, for the document is the same wherever it is served.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use http::{Method, header};
use serde_json::Value;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, Content, Header, HeaderBuilder, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi,
        OpenApiBuilder, Paths, Ref, RefOr, Required, ResponseBuilder, Type,
        example::{Example, ExampleBuilder},
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::Schema,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::{Tag, TagBuilder},
    },
};

use super::{REQUEST_ID, Route, examples, openai, order::IDEMPOTENCY_KEY_LEN, routes};
use crate::{
    ApiError,
    access::Access,
    error::{ErrorBody, ErrorDetail},
    request::BODY_LIMIT_BYTES,
};
use shared::{billing::Tokens, job::SubmitError};

/// How an API key, and how a login, is called among the ways to prove who one is.
const API_KEY: &str = "api_key";
const ACCESS_TOKEN: &str = "access_token";

const ABOUT: &str = "\
A durable platform for jobs of AI generation: text, pictures, video, music and speech behind one interface.

Send `Authorization: Bearer <API key or access token>`. Every error has the same body; its `code` is for programs, `param` names \
what was wrong, and the header `x-request-id` helps us find it. Unknown fields and query parameters are refused. Times are RFC 3339 \
in UTC; tokens are whole numbers. Lists are read page by page: send the `last_id` of one page as `after` of the next.";

/// What routes are about, each with the beginnings of its paths.
const TAGS: &[(&str, &str, &[&str])] = &[
    ("Jobs", "Order a generation, watch it, fetch what it made.", &["/v1/jobs"]),
    (
        "OpenAI",
        "The same for OpenAI's own clients: each call is a job, made while the caller waits.",
        openai::PATHS,
    ),
    ("Dialogs", "Conversations that jobs and chats go on in.", &["/v1/dialogs"]),
    ("Models", "What can be ordered, with which input, at what price.", &["/v1/models"]),
    ("Files", "Files that jobs work on.", &["/v1/files"]),
    ("Webhooks", "Where the ends of jobs are told, and what came of telling.", &["/v1/webhook-"]),
    ("Billing", "Tokens, plans and usage.", &["/v1/billing/", "/v1/usage", "/v1/plans"]),
    ("API keys", "Keys for programs.", &["/v1/api-keys"]),
    ("Account", "The account, its members and its data.", &["/v1/account"]),
    ("Sign-in", "How people get an account and access tokens.", &["/v1/auth/"]),
    ("Person", "Whoever is logged in.", &["/v1/me"]),
    ("Operators", "For those who run the platform.", &["/v1/admin/"]),
    ("Providers", "For the providers that jobs are made at.", &["/v1/callbacks/"]),
    (
        "Health",
        "How the service is, and what it offers.",
        &["/health/", "/metrics", "/openapi.json", "/docs"],
    ),
];

/// What bodies and answers are, most of them.
const JSON: &str = "application/json";

/// The header by which a request is known that may become a job.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The header of those that may be answered with the job itself.
const PREFER: &str = "Prefer";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    serde_json::to_string(&document()).expect("a document has nothing that JSON cannot say")
});

/// Headers that requests may have which become jobs; what their answers have is added where these are named.
#[derive(Debug)]
pub struct JobHeaders;

/// The same where the answer waits for the end of the job in any case.
#[derive(Debug)]
pub struct CallHeaders;

impl IntoParams for JobHeaders {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let prefer = said(
            PREFER,
            "`wait=N` holds the answer until the job ends, for at most N seconds, 60 at most; other preferences are passed over.",
            None,
        );
        [CallHeaders::into_params(place), vec![prefer]].concat()
    }
}

impl IntoParams for CallHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = "A name for this request, kept for 24 hours: sent again with it, it is answered with the same job, whether that has ended or not.";
        let trace =
            "The trace that this is part of, as W3C Trace Context has it; what is none is passed over.";
        vec![
            said(IDEMPOTENCY_KEY, key, Some(&format!("^[!#-~]{{1,{IDEMPOTENCY_KEY_LEN}}}$"))),
            said("traceparent", trace, None),
        ]
    }
}

/// A header of a request, which may be absent.
fn said(name: &str, about: &str, pattern: Option<&str>) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(pattern);
    let header = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header);
    header.description(Some(about)).required(Required::False).schema(Some(text)).build()
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json",
    responses((status = 200, description = "An OpenAPI document.", body = Value, content_type = "application/json")),
)]
pub async fn show() -> Response {
    ([(header::CONTENT_TYPE, JSON)], DOCUMENT.as_str()).into_response()
}

/// The document of every route.
///
/// # Panics
/// When a path has no tag here, or a name stands for two types.
pub fn document() -> OpenApi {
    let mut paths = Paths::new();
    let mut schemas = BTreeMap::from([
        (ErrorBody::name().into_owned(), ErrorBody::schema()),
        (ErrorDetail::name().into_owned(), ErrorDetail::schema()),
    ]);
    for route in routes() {
        for (name, schema) in &route.schemas {
            add_schema(&mut schemas, name, schema);
        }
        paths.add_path_operation(route.path, vec![method(&route.method)], whole(route));
    }
    let mut components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(API_KEY, bearer("kiln_…", "A key of an account, made at `POST /v1/api-keys`."))
        .security_scheme(
            ACCESS_TOKEN,
            bearer("JWT", "What `POST /v1/auth/login` gives a person, for a while."),
        );
    for (name, header) in headers() {
        components = components.header(name, header);
    }
    for (name, description, error) in shared_errors() {
        components = components.response(name, answer(description, &error));
    }
    let info = InfoBuilder::new().title("Kiln").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT));
    OpenApiBuilder::new()
        .info(info)
        .tags(Some(TAGS.iter().map(|(name, about, _)| tag(name, about))))
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

fn add_schema(schemas: &mut BTreeMap<String, RefOr<Schema>>, name: &str, schema: &RefOr<Schema>) {
    let known = schemas.entry(name.to_owned()).or_insert_with(|| schema.clone());
    assert!(known == schema, "{name} is the name of two types");
}

fn tag(name: &str, about: &str) -> Tag {
    TagBuilder::new().name(name).description(Some(about)).build()
}

fn bearer(format: &str, about: &str) -> SecurityScheme {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
    SecurityScheme::Http(scheme.description(Some(about)).build())
}

fn method(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

/// What the handler says of itself, and what follows from its route.
fn whole(route: Route) -> Operation {
    let failures = failures(&route);
    let Route { method, path, access, body_limit, mut operation, .. } = route;
    let tag = TAGS.iter().find(|(_, _, beginnings)| beginnings.iter().any(|begin| path.starts_with(begin)));
    let (tag, ..) = tag.unwrap_or_else(|| panic!("{path} belongs to no tag"));
    operation.tags = Some(vec![(*tag).to_owned()]);
    operation.security = Some(ways_in(access));
    if let Access::Needs(permission) = access {
        operation.extensions = Some([("x-permission", permission.word())].into_iter().collect());
    }
    if let Some(needed) = needed(access) {
        let said = operation.description.take();
        operation.description =
            Some(said.map_or_else(|| needed.clone(), |said| format!("{said}\n\n{needed}")));
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.description.get_or_insert_with(|| format!("At most {body_limit} bytes."));
        if let Some(RefOr::T(content)) = body.content.get_mut(JSON) {
            content.examples = examples::of(&method, path).into_iter().map(example).collect();
        }
    }
    let told = match (makes_jobs(&operation), takes(&operation, PREFER)) {
        (true, true) => OF_JOBS,
        (true, false) => OF_CALLS,
        (false, _) => &[],
    };
    for (status, answer) in &mut operation.responses.responses {
        let RefOr::T(answer) = answer else { continue };
        answer.headers.insert(REQUEST_ID.to_string(), RefOr::Ref(reference("RequestId")));
        for (name, refers) in told.iter().filter(|_| status.starts_with('2')) {
            answer.headers.insert((*name).to_owned(), RefOr::Ref(reference(refers)));
        }
    }
    for (name, _, error) in shared_errors() {
        if failures.contains(&name) {
            let status = error.status().as_str().to_owned();
            let shared = RefOr::Ref(Ref::from_response_name(name));
            operation.responses.responses.entry(status).or_insert(shared);
        }
    }
    operation
}

fn example((name, body): (&'static str, Value)) -> (String, RefOr<Example>) {
    (name.to_owned(), RefOr::T(ExampleBuilder::new().value(Some(body)).build()))
}

/// Whether what it answers to may become a job.
fn makes_jobs(operation: &Operation) -> bool {
    takes(operation, IDEMPOTENCY_KEY)
}

fn takes(operation: &Operation, parameter: &str) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|one| matches!(one, RefOr::T(one) if one.name == parameter))
}

/// With what callers may prove who they are; nothing for what anyone may use.
fn ways_in(access: Access) -> Vec<SecurityRequirement> {
    let roles = match access {
        Access::Needs(permission) => vec![permission.word()],
        _ => Vec::new(),
    };
    let way = |name: &str| SecurityRequirement::new(name, roles.clone());
    match access {
        Access::Public => Vec::new(),
        Access::Person => vec![way(ACCESS_TOKEN)],
        Access::Known | Access::Needs(_) => vec![way(API_KEY), way(ACCESS_TOKEN)],
    }
}

/// Who may use it, in words.
fn needed(access: Access) -> Option<String> {
    match access {
        Access::Public => None,
        Access::Known => Some("For anyone with a key or an access token.".to_owned()),
        Access::Person => {
            Some("For people who are logged in, about themselves; no API key is let in.".to_owned())
        }
        Access::Needs(permission) => Some(format!("Needs the permission `{}`.", permission.word())),
    }
}

/// The errors that the way to the handler can end with, by their names.
fn failures(route: &Route) -> Vec<&'static str> {
    let Route { method, path, access, operation, .. } = route;
    let parameters = operation.parameters.iter().flatten();
    let said = |place: ParameterIn| {
        parameters.clone().any(|one| matches!(one, RefOr::T(one) if one.parameter_in == place))
    };
    let has_body = operation.request_body.is_some();
    let is_known = *access != Access::Public;
    // Whoever looks is counted only when turned away.
    let is_counted = path.starts_with("/v1/") && (*method != Method::GET || is_known);
    let may_end = [
        ("BadRequest", has_body || said(ParameterIn::Query) || said(ParameterIn::Header)),
        ("Unauthorized", is_known),
        ("OutOfTokens", makes_jobs(operation)),
        ("Forbidden", is_known),
        ("NotFound", said(ParameterIn::Path)),
        ("TooSlow", has_body),
        ("TooLarge", has_body),
        ("UnsupportedMediaType", has_body),
        ("KeyReused", makes_jobs(operation)),
        ("TooOften", is_counted),
        ("InternalError", true),
        ("Unavailable", true),
    ];
    may_end.into_iter().filter(|(_, may)| *may).map(|(name, _)| name).collect()
}

/// Errors that many routes share: name, when they come, and one of them.
fn shared_errors() -> [(&'static str, &'static str, ApiError); 12] {
    let unknown = ApiError::bad_request("unknown_field", "colour", "unknown field \"colour\"");
    let no_key = ApiError::unauthorized("no API key: send the header `Authorization: Bearer <key>`");
    let no_permission = ApiError::forbidden("your role has no permission \"jobs:write\"");
    let no_tokens =
        SubmitError::InsufficientTokens { needed: Tokens::new(1000).unwrap_or_default(), available: 0 };
    let no_id = ApiError::not_found("not_found", Some("id"), "no such id");
    let too_often = ApiError::too_often(
        "one address may send 1000 requests an hour that change something",
        TimeDelta::seconds(4),
    );
    [
        ("BadRequest", "The request is wrong: `param` names the field, parameter or header.", unknown),
        ("Unauthorized", "There is no key or access token, or it is not valid any more.", no_key),
        (
            "OutOfTokens",
            "The account, or the limit of the key, has too few tokens left for this.",
            no_tokens.into(),
        ),
        (
            "Forbidden",
            "The key or person may not do this, or not with this, or not from there.",
            no_permission,
        ),
        ("NotFound", "There is no such thing, or it is another account's.", no_id),
        ("TooSlow", "The body took too long to arrive.", ApiError::timed_out()),
        ("TooLarge", "The body is longer than this path reads.", ApiError::too_large(BODY_LIMIT_BYTES)),
        (
            "UnsupportedMediaType",
            "The body is not of a kind that this path reads.",
            ApiError::unsupported_media_type(),
        ),
        ("KeyReused", "The `Idempotency-Key` came before with another body.", SubmitError::KeyReused.into()),
        ("TooOften", "Too many requests; when to come again stands in `Retry-After`.", too_often),
        ("InternalError", "Something went wrong on our side.", ApiError::internal()),
        ("Unavailable", "Something that we need is away for the moment.", ApiError::unavailable()),
    ]
}

fn answer(description: &str, error: &ApiError) -> ResponseBuilder {
    let mut content = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
    content.example = serde_json::to_value(error.shown()).ok();
    let answer = ResponseBuilder::new().description(description).content(JSON, content);
    let told: &[(&str, &str)] = match error.status().as_u16() {
        401 => &[("www-authenticate", "Challenge")],
        429 => OFTEN,
        503 => &[("retry-after", "RetryAfter")],
        _ => &[],
    };
    let answer = answer.header_ref(REQUEST_ID.as_str(), reference("RequestId"));
    told.iter().fold(answer, |answer, (name, refers)| answer.header_ref(*name, reference(refers)))
}

/// A reference to one of `headers`.
pub fn reference(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// Headers of an answer to whoever has a limit.
const OFTEN: &[(&str, &str)] = &[
    ("retry-after", "RetryAfter"),
    ("ratelimit", "RateLimit"),
    ("ratelimit-policy", "RateLimitPolicy"),
    ("x-ratelimit-limit-requests", "RequestsLimit"),
    ("x-ratelimit-remaining-requests", "RequestsRemaining"),
    ("x-ratelimit-reset-requests", "RequestsReset"),
];

/// Headers of an answer that may be of a job.
const OF_JOBS: &[(&str, &str)] = &[
    ("location", "Location"),
    ("preference-applied", "PreferenceApplied"),
    ("idempotent-replayed", "IdempotentReplayed"),
    ("retry-after", "RetryAfter"),
    ("ratelimit", "RateLimit"),
    ("ratelimit-policy", "RateLimitPolicy"),
    ("x-ratelimit-limit-requests", "RequestsLimit"),
    ("x-ratelimit-remaining-requests", "RequestsRemaining"),
    ("x-ratelimit-reset-requests", "RequestsReset"),
];

/// Headers of an answer that OpenAI's clients get when their job is over.
const OF_CALLS: &[(&str, &str)] = &[
    ("x-kiln-job", "KilnJob"),
    ("idempotent-replayed", "IdempotentReplayed"),
    ("ratelimit", "RateLimit"),
    ("ratelimit-policy", "RateLimitPolicy"),
    ("x-ratelimit-limit-requests", "RequestsLimit"),
    ("x-ratelimit-remaining-requests", "RequestsRemaining"),
    ("x-ratelimit-reset-requests", "RequestsReset"),
];

/// Headers that many answers have.
fn headers() -> [(&'static str, Header); 13] {
    let whole = |about| of_kind(Type::Integer, about);
    let text = |about| of_kind(Type::String, about);
    [
        ("RequestId", text("Name of this request in our logs: yours, if you sent one in this header.")),
        ("Location", text("Where the job is.")),
        ("KilnJob", text("The id of the job that the call became.")),
        (
            "ShouldRetry",
            text("`false` where the same request would end the same way, whatever the status says."),
        ),
        ("PreferenceApplied", text("How long the answer might wait: `wait=5`.")),
        ("IdempotentReplayed", text("`true` where this request was answered before with the same job.")),
        ("RetryAfter", whole("Seconds after which to come again.")),
        ("Challenge", text("How to prove who you are: `Bearer`.")),
        ("RateLimit", text("What is left of the limit, and the seconds until all is: `\"hour\";r=99;t=36`.")),
        ("RateLimitPolicy", text("The limit: `\"hour\";q=100;w=3600`.")),
        ("RequestsLimit", whole("Requests allowed in an hour.")),
        ("RequestsRemaining", whole("Requests left.")),
        ("RequestsReset", text("Time until all of them are allowed again: `36s`.")),
    ]
}

fn of_kind(kind: Type, about: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(kind);
    HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()
}
