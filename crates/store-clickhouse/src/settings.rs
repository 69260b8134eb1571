//! Settings of the meter-data store.
//!
//! In: the `[clickhouse]` section. Out: a checked value with defaults that work.
//! Never here: how a connection is made (see `connect`).

use serde::Deserialize;
use std::fmt;

/// Where ClickHouse is and how patiently we talk to it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClickhouseSettings {
    /// Address of the HTTP interface: `http://host:8123`, without user, path or query.
    pub url: String,
    /// Database; created by `migrate` when missing. Lower-case letters, digits, underscores.
    pub database: String,
    /// User; the server's default user when missing.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// How long a TCP connect may take, in ms.
    pub connect_timeout_ms: u64,
    /// How long a query may run, in s; the server stops it by then.
    pub query_timeout_s: u32,
    /// How long the server may take to store one insert, in s.
    pub insert_timeout_s: u32,
    /// Most rows of one insert; above 1 048 449 an insert would no longer be atomic.
    pub insert_rows_max: usize,
}

impl Default for ClickhouseSettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".to_owned(),
            database: "tidemark".to_owned(),
            user: None,
            password: None,
            connect_timeout_ms: 3_000,
            query_timeout_s: 60,
            insert_timeout_s: 60,
            insert_rows_max: 500_000,
        }
    }
}

impl fmt::Debug for ClickhouseSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickhouseSettings")
            .field("url", &self.url)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("query_timeout_s", &self.query_timeout_s)
            .field("insert_timeout_s", &self.insert_timeout_s)
            .field("insert_rows_max", &self.insert_rows_max)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_reaches_a_log() {
        let settings =
            ClickhouseSettings { password: Some("geheim".to_owned()), ..Default::default() };
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
