//! A line of the page of routes: method, path, who may use it, what answers, how long a body it reads, and how
//! long its answer may take.
//!
//! A handler comes with its own description, `#[utoipa::path]`, which names the same method and path: a route that is not in
//! the document of the API, or stands there otherwise than it is served, cannot be built.

use std::time::Duration;

use axum::routing::MethodRouter;
use http::Method;
use utoipa::openapi::{
    HttpMethod, RefOr,
    path::{Operation, Paths},
    schema::Schema,
};
use utoipa_axum::router::UtoipaMethodRouter;

use super::routes;
use crate::{Ctx, access::Access, request::BODY_LIMIT_BYTES};

/// Longest time until an answer begins: that for the longest body and the longest wait that callers may ask for, a minute each, and
/// half a minute for us.
const ANSWER_MAX: Duration = Duration::from_secs(150);

/// One route.
pub struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) handler: MethodRouter<Ctx>,
    /// Longest body.
    pub(super) body_limit: usize,
    /// Longest time until its answer begins.
    pub(super) answer_limit: Option<Duration>,
    /// What the handler says of itself.
    pub(super) operation: Operation,
    /// The types it names, and those that they name.
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
}

/// A handler, its name and what it says of itself.
pub type Described = (&'static str, UtoipaMethodRouter<Ctx>);

/// The page of routes, as it is written, with each handler's description beside the handler.
macro_rules! documented {
    ($(Route::$method:ident($path:expr, $access:expr, $($handler:ident)::+ $(,)?) $(.$more:ident($($with:expr)?))*),* $(,)?) => {
        vec![$(
            Route::$method($path, $access, (stringify!($($handler)::+), utoipa_axum::routes!($($handler)::+)))
                $(.$more($($with)?))*
        ),*]
    };
}
pub(super) use documented;

/// A route as tests and documents see it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// HTTP method.
    pub method: Method,
    /// Path with its parameters in braces.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
}

/// Every route of the API.
pub fn listed() -> Vec<Listed> {
    let list = |route: Route| Listed { method: route.method, path: route.path, access: route.access };
    routes().into_iter().map(list).collect()
}

impl Route {
    fn new(method: Method, path: &'static str, access: Access, described: Described) -> Self {
        let (name, (schemas, paths, handler)) = described;
        let mut operation = operation(&paths, &method, path)
            .unwrap_or_else(|| panic!("{name} does not describe itself as {method} {path}"));
        operation.operation_id = Some(operation_id(name, operation.operation_id.as_deref()));
        Self {
            method,
            path,
            access,
            handler,
            body_limit: BODY_LIMIT_BYTES,
            answer_limit: Some(ANSWER_MAX),
            operation,
            schemas,
        }
    }

    /// The same with another longest body.
    pub(super) fn with_body(self, bytes: usize) -> Self {
        Self { body_limit: bytes, ..self }
    }

    /// The same without a limit to the time: it has its own, or waits for what may take long.
    pub(super) fn unhurried(self) -> Self {
        Self { answer_limit: None, ..self }
    }
}

fn operation(paths: &Paths, method: &Method, path: &str) -> Option<Operation> {
    let method = match *method {
        Method::GET => HttpMethod::Get,
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => return None,
    };
    paths.get_path_operation(path, method).cloned()
}

/// The name of an operation: module and function, which together are unique, if the handler names none itself.
fn operation_id(handler: &str, given: Option<&str>) -> String {
    let parts: Vec<_> = handler.split("::").map(str::trim).collect();
    match given {
        Some(given) if parts.last() != Some(&given) => given.to_owned(),
        _ => parts.join("_"),
    }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        impl Route {
            $(pub(super) fn $name(path: &'static str, access: Access, handler: Described) -> Self {
                Self::new(Method::$method, path, access, handler)
            })*
        }
    };
}

methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);
