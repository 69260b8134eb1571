//! Settings of the Postgres store.
//!
//! In: a section of the settings file. Out: checked values with their units in their names.
//! Never here: environment variables, files.

use serde::Deserialize;
use std::fmt;

/// How to reach Postgres.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`; a Unix socket as
    /// `postgres://user@localhost/database?host=/run/postgresql`.
    pub url: String,
    /// Connections kept at most by this process.
    pub max_connections: u32,
    /// How long to wait for a free connection.
    pub acquire_timeout_ms: u64,
    /// How long a statement may wait for a lock; 0 is for ever.
    pub lock_timeout_ms: u64,
    /// How long a statement may run; 0 is for ever (imports and bill runs are long).
    pub statement_timeout_ms: u64,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: "postgres://tidemark@127.0.0.1:5432/tidemark".to_owned(),
            max_connections: 8,
            acquire_timeout_ms: 10_000,
            lock_timeout_ms: 30_000,
            statement_timeout_ms: 0,
        }
    }
}

impl fmt::Debug for PostgresSettings {
    /// Without the address: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout_ms", &self.acquire_timeout_ms)
            .field("lock_timeout_ms", &self.lock_timeout_ms)
            .field("statement_timeout_ms", &self.statement_timeout_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_and_a_password_never_printed() {
        assert!(toml::from_str::<PostgresSettings>("urll = 'x'").is_err());
        let settings: PostgresSettings =
            toml::from_str("url = 'postgres://app:hush@h/d'\nmax_connections = 3").unwrap();
        assert_eq!(settings.max_connections, 3);
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
