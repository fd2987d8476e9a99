//! What a table weighs and how many rows are in it, as the server knows it.

use anyhow::Result;
use sqlx::{PgPool, Row};

/// A table at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// With its indexes and what is stored beside it, in MB.
    pub mb: f64,
    /// Rows; counted by those who write them, and handed in about a second later.
    pub live_rows: f64,
    /// Rows that nobody sees any more and that were not cleaned up yet, counted in the same way.
    pub dead_rows: f64,
}

/// Looks at a table by its name.
pub async fn look(db: &PgPool, name: &str) -> Result<Table> {
    let row = sqlx::query(
        "select coalesce(sum(pg_total_relation_size(relid)), 0)::float8 / 1e6, coalesce(sum(n_live_tup), 0)::float8,
                coalesce(sum(n_dead_tup), 0)::float8
         from pg_stat_user_tables where relname = $1",
    )
    .bind(name)
    .fetch_one(db)
    .await?;
    Ok(Table { mb: row.get(0), live_rows: row.get(1), dead_rows: row.get(2) })
}
