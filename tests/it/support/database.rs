//! A database for each test, cloned from a template that the first test to come migrates.

#![expect(clippy::disallowed_methods, reason = "the tests look at rows in ways the product never does")]

use sha2::{Digest, Sha256};
use shared::{
    catalog::{self, Catalog},
    clock::{Clock, SystemClock},
    config, db,
    id::LeaseToken,
    price,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgExecutor, PgPool};

/// Any number that no other program on the test server locks.
const TEMPLATE_LOCK: i64 = 0x6b69_6c6e;

/// A database that goes when it is dropped by [`Database::drop_now`].
#[derive(Debug, Clone)]
pub struct Database {
    pub url: String,
    name: String,
    server: String,
}

impl Database {
    /// A fresh clone of the migrated template.
    pub async fn create() -> Self {
        let server = std::env::var("KILN_TEST_DATABASE_URL").expect(
            "KILN_TEST_DATABASE_URL names a Postgres server for tests; `scripts/test NAME` starts one and sets it",
        );
        let mut admin = PgConnection::connect(&server).await.expect("connect to the test server");
        let template = template(&mut admin, &server).await;
        let name = format!("kiln_test_{}", LeaseToken::new().0.simple());
        // Cloning needs the template to itself, so tests take turns.
        run(&mut admin, &format!("select pg_advisory_lock({TEMPLATE_LOCK})")).await;
        run(&mut admin, &format!("create database {name} template {template}")).await;
        run(&mut admin, &format!("select pg_advisory_unlock({TEMPLATE_LOCK})")).await;
        Self { url: with_database(&server, &name), name, server }
    }

    /// A pool of a few connections.
    pub async fn connect(&self) -> PgPool {
        let config = config::Database { url: self.url.clone().into(), max_connections: 8 };
        db::connect(&config, "test").await.expect("connect to the test's database")
    }

    /// Removes the database, with whatever is still connected to it.
    pub async fn drop_now(self) {
        let mut admin = PgConnection::connect(&self.server).await.expect("connect to the test server");
        run(&mut admin, &format!("drop database {} with (force)", self.name)).await;
    }
}

/// The migrated template with the catalogue published, named after both so that a change makes a new one.
async fn template(admin: &mut PgConnection, server: &str) -> String {
    let mut hash = Sha256::new();
    for migration in db::MIGRATIONS.iter() {
        hash.update(&migration.checksum);
    }
    for (_, text) in catalog::FILES {
        hash.update(text);
    }
    let digest = hash.finalize();
    let name = format!("kiln_template_{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
    run(admin, &format!("select pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut *admin)
        .await
        .expect("look for the template");
    if !exists {
        let building = format!("{name}_new");
        run(admin, &format!("drop database if exists {building} with (force)")).await;
        run(admin, &format!("create database {building}")).await;
        let config = config::Database { url: with_database(server, &building).into(), max_connections: 1 };
        let pool = db::connect(&config, "template").await.expect("connect to the template");
        db::migrate(&pool).await.expect("migrate the template");
        let catalog = Catalog::load().expect("the catalogue");
        price::publish(&pool, &catalog, SystemClock.now()).await.expect("publish the catalogue");
        pool.close().await;
        run(admin, &format!("alter database {building} rename to {name}")).await;
    }
    run(admin, &format!("select pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    name
}

fn with_database(server: &str, name: &str) -> String {
    let (base, query) = server.split_once('?').unwrap_or((server, ""));
    let (address, _) = base.rsplit_once('/').expect("a database URL ends with a name");
    if query.is_empty() { format!("{address}/{name}") } else { format!("{address}/{name}?{query}") }
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The one value of a query, for looking behind the front door.
pub async fn scalar<T>(db: impl PgExecutor<'_>, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(db)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Does something behind the front door; how many rows it was done to.
pub async fn execute(db: &PgPool, sql: &str) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(AssertSqlSafe(sql.to_owned())).execute(db).await?.rows_affected())
}
