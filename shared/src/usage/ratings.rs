//! What people thought of results, counted by who made them.
//!
//! Read as it is, along an index on its time: few people say anything.

use sqlx::PgPool;

use super::{Span, next, start_of};

/// What was said of the results of a model by a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ratings {
    /// Public model name.
    pub model: String,
    /// The adapter's name.
    pub provider: String,
    /// How often they were liked.
    pub likes: i64,
    /// How often they were not.
    pub dislikes: i64,
}

/// What was said on the days of `span`, what was disliked most first.
///
/// # Errors
/// When the database fails.
pub async fn ratings(db: &PgPool, span: Span) -> Result<Vec<Ratings>, sqlx::Error> {
    sqlx::query_as!(
        Ratings,
        r#"select j.model, j.provider, count(*) filter (where f.rating = 'like') as "likes!",
                  count(*) filter (where f.rating = 'dislike') as "dislikes!"
           from feedback f join jobs j on j.id = f.job_id
           where f.given_at >= $1 and f.given_at < $2
           group by j.model, j.provider
           order by count(*) filter (where f.rating = 'dislike') desc, j.model, j.provider"#,
        start_of(span.from()),
        start_of(next(span.to())),
    )
    .fetch_all(db)
    .await
}
