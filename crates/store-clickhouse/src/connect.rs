//! One client for the whole process.
//!
//! In: settings. Out: a `Store` that may be cloned and shared.
//! Never here: SQL.

use crate::ClickhouseSettings;
use clickhouse::{Client, Compression};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::time::Duration;

/// Shorter than the 3 s (old servers) to 10 s after which servers close idle connections.
const IDLE_CONNECTION: Duration = Duration::from_secs(2);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Inserts above this are stored block by block, no longer as a whole.
const ATOMIC_ROWS: usize = 1_048_449;

/// Why the settings do not name a store.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Not `http://host:port`.
    #[error(
        "clickhouse.url {url:?}: want http://host:port; user, password and database have their \
         own settings, and TLS ends in a proxy beside us"
    )]
    Url {
        /// What was given, without anything before an `@`.
        url: String,
    },
    /// A database name that would need quoting.
    #[error("clickhouse.database {database:?}: want a lower-case letter, then letters, digits, _")]
    Database {
        /// What was given.
        database: String,
    },
    /// Outside what keeps an insert atomic.
    #[error("clickhouse.insert_rows_max {rows}: want 1 to {ATOMIC_ROWS}")]
    InsertRows {
        /// What was given.
        rows: usize,
    },
}

/// The store. Cloning is cheap and shares connections.
#[derive(Clone)]
pub struct Store {
    pub(crate) client: Client,
    /// Talks to no database in particular: for creating ours.
    pub(crate) server: Client,
    pub(crate) database: String,
    pub(crate) insert_rows_max: usize,
    pub(crate) insert_timeout: Duration,
    pub(crate) query_timeout: Duration,
}

impl Store {
    /// A store at the given address. Connects on first use.
    ///
    /// # Errors
    /// When a setting is malformed, naming it.
    pub fn new(settings: &ClickhouseSettings) -> Result<Self, ConnectError> {
        let url = checked_url(&settings.url)?;
        if !is_plain_name(&settings.database) {
            return Err(ConnectError::Database { database: settings.database.clone() });
        }
        if !(1..=ATOMIC_ROWS).contains(&settings.insert_rows_max) {
            return Err(ConnectError::InsertRows { rows: settings.insert_rows_max });
        }

        let mut connector = HttpConnector::new();
        // Nagle against delayed ACK costs 40 ms per insert.
        connector.set_nodelay(true);
        connector.set_keepalive(Some(TCP_KEEPALIVE));
        connector.set_connect_timeout(Some(Duration::from_millis(settings.connect_timeout_ms)));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .build(connector);

        let mut server =
            Client::with_http_client(http).with_url(url).with_compression(Compression::Lz4);
        if let Some(user) = &settings.user {
            server = server.with_user(user);
        }
        if let Some(password) = &settings.password {
            server = server.with_password(password);
        }
        Ok(Self {
            client: server.clone().with_database(&settings.database),
            server,
            database: settings.database.clone(),
            insert_rows_max: settings.insert_rows_max,
            insert_timeout: Duration::from_secs(settings.insert_timeout_s.into()),
            query_timeout: Duration::from_secs(settings.query_timeout_s.into()),
        })
    }

    /// The database this store lives in.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }
}

fn checked_url(url: &str) -> Result<&str, ConnectError> {
    let wrong = || {
        let shown = url.rsplit('@').next().unwrap_or_default();
        ConnectError::Url { url: shown.to_owned() }
    };
    let url = url.strip_suffix('/').unwrap_or(url);
    let host = url.strip_prefix("http://").ok_or_else(wrong)?;
    if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        return Err(wrong());
    }
    Ok(url)
}

fn is_plain_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_refused_by_name_and_without_its_password() {
        for url in ["https://ch:8443", "ch:8123", "http://", "http://u:pw@ch:8123", "http://ch/db"]
        {
            let error = checked_url(url).unwrap_err();
            assert!(error.to_string().contains("clickhouse.url"), "{url}");
            assert!(!error.to_string().contains("pw"), "{url}");
        }
        assert_eq!(checked_url("http://ch:8123/"), Ok("http://ch:8123"));
    }

    #[test]
    fn a_database_name_needs_no_quoting() {
        assert!(is_plain_name("tidemark_2"));
        for name in ["", "Tidemark", "a-b", "a`b", "1a"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
