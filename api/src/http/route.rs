//! A line of the page of routes: method, path, who may use it, what answers, how long a body it reads, and how
//! long its answer may take.

use std::time::Duration;

use axum::{
    handler::Handler,
    routing::{self, MethodRouter},
};
use http::Method;

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
}

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
    /// The same with another longest body.
    pub(super) fn with_body(self, bytes: usize) -> Self {
        Self { body_limit: bytes, ..self }
    }

    /// The same without a limit to the time: it has its own, or waits for what may take long.
    pub(super) fn unhurried(self) -> Self {
        Self { answer_limit: None, ..self }
    }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        impl Route {
            $(pub(super) fn $name<H: Handler<T, Ctx>, T: 'static>(
                path: &'static str,
                access: Access,
                handler: H,
            ) -> Self {
                Self {
                    method: Method::$method,
                    path,
                    access,
                    handler: routing::$name(handler),
                    body_limit: BODY_LIMIT_BYTES,
                    answer_limit: Some(ANSWER_MAX),
                }
            })*
        }
    };
}

methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);
