//! The connection to Postgres and the schema in it.
//!
//! In: settings. Out: a store ready to be asked. Never here: what is asked (see the siblings).

use crate::PostgresSettings;
use sqlx::{
    PgPool,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, time::Duration};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Why a question to Postgres failed: what was being done, and what Postgres said below it.
#[derive(Debug, thiserror::Error)]
#[error("postgres: {doing}")]
pub struct DatabaseError {
    /// What was being done: `read the cycles of book B1`.
    pub doing: String,
    /// What the driver says.
    pub source: sqlx::Error,
}

/// Adds what was being done to a driver's error.
pub(crate) fn doing(what: impl Into<String>) -> impl FnOnce(sqlx::Error) -> DatabaseError {
    move |source| DatabaseError { doing: what.into(), source }
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address in the settings is not one.
    #[error("postgres.url is not a Postgres address")]
    Address(#[source] sqlx::Error),
    /// Nobody answers there, or not us.
    #[error("connect to Postgres at {at}")]
    Unreachable {
        /// Host, port and database, without user and password.
        at: String,
        /// What the driver says.
        source: sqlx::Error,
    },
}

/// Why the schema cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
#[error("bring the Postgres schema up to date")]
pub struct MigrationError(#[from] MigrateError);

/// Registry and money side. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
}

impl Store {
    /// Connects. Does not touch the schema: see [`Store::migrate`].
    ///
    /// # Errors
    /// When the address is wrong or nobody answers.
    pub async fn connect(settings: &PostgresSettings) -> Result<Self, ConnectError> {
        let options = PgConnectOptions::from_str(&settings.url).map_err(ConnectError::Address)?;
        let at = format!(
            "{}:{}/{}",
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or_default()
        );
        let options = options.application_name("tidemark").options([
            ("lock_timeout", settings.lock_timeout_ms.to_string()),
            ("statement_timeout", settings.statement_timeout_ms.to_string()),
            ("timezone", "UTC".to_owned()),
            // Questions carry arrays of thousands of entries: a plan made without looking at
            // them expects ten, and loops.
            ("plan_cache_mode", "force_custom_plan".to_owned()),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections.max(1))
            // A future dropped while its BEGIN was on the way leaves a transaction open that the
            // pool knows nothing of. This ends it, and asks whether the server is there, in the
            // round trip the pool's own question would take.
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await.map(|_done| true)
                })
            })
            .acquire_timeout(Duration::from_millis(settings.acquire_timeout_ms))
            .connect_with(options)
            .await
            .map_err(|source| ConnectError::Unreachable { at, source })?;
        Ok(Self { pool })
    }

    /// Brings the schema up to date. Safe to call from several processes at once.
    ///
    /// # Errors
    /// When a migration fails, or the database holds one this program does not know.
    pub async fn migrate(&self) -> Result<(), MigrationError> {
        Ok(MIGRATIONS.run(&self.pool).await?)
    }

    /// Asks Postgres whether it is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map_err(doing("ping"))?;
        Ok(())
    }

    /// Closes every connection; questions asked afterwards fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
