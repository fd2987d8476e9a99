//! A page of a list, as every list answers. Handlers ask for one row more than the page holds, to know whether more follow.

use std::fmt::Display;

use serde::Serialize;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        ObjectBuilder, Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::Type,
    },
};

use crate::request::{PAGE_DEFAULT, PAGE_MAX};

/// The `limit` of a list, for its document; `page_limit` reads it.
#[derive(Debug)]
pub struct Paging;

impl IntoParams for Paging {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(PAGE_MAX))
            .default(Some(PAGE_DEFAULT.into()));
        let limit = ParameterBuilder::new()
            .name("limit")
            .parameter_in(ParameterIn::Query)
            .description(Some("Most entries of one page."))
            .required(Required::False)
            .schema(Some(number));
        vec![limit.build()]
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    #[schema(pattern = "^list$")]
    object: &'static str,
    /// The entries of this page.
    data: Vec<T>,
    /// Whether more follow.
    has_more: bool,
    /// Id of the last entry, to be sent as `after` for the next page; null where there is none.
    #[schema(required)]
    last_id: Option<String>,
}

/// A list that always comes as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeList<T> {
    #[schema(pattern = "^list$")]
    object: &'static str,
    /// All of its entries.
    data: Vec<T>,
    /// Always false.
    has_more: bool,
}

impl<T> WholeList<T> {
    /// A list of all there is.
    pub fn of(data: Vec<T>) -> Self {
        Self { object: "list", data, has_more: false }
    }
}

impl<V> List<V> {
    /// The rows that fit on a page, as they are shown, and the id of the last one.
    pub fn of<T, I: Display>(
        rows: Vec<T>,
        limit: i64,
        id: impl Fn(&T) -> I,
        show: impl FnMut(T) -> V,
    ) -> Self {
        let (rows, has_more) = cut(rows, limit);
        let last_id = rows.last().map(|row| id(row).to_string());
        Self::cut_off(rows.into_iter().map(show).collect(), has_more, last_id)
    }

    /// A page that was cut off already.
    pub fn cut_off(data: Vec<V>, has_more: bool, last_id: Option<String>) -> Self {
        Self { object: "list", data, has_more, last_id }
    }
}

/// The rows that fit, and whether there was one too many.
pub fn cut<T>(mut rows: Vec<T>, limit: i64) -> (Vec<T>, bool) {
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > page;
    rows.truncate(page);
    (rows, has_more)
}
