//! A line of the page of routes: method, path, who may use it, what answers, and how long a body it reads.

use axum::{
    handler::Handler,
    routing::{self, MethodRouter},
};
use http::Method;

use super::routes;
use crate::{Ctx, access::Access, request::BODY_LIMIT_BYTES};

/// One route.
pub struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) handler: MethodRouter<Ctx>,
    /// Longest body.
    pub(super) body_limit: usize,
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
                }
            })*
        }
    };
}

methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);
