//! A private ClickHouse engine behind ClickHouse's own HTTP interface.
//!
//! In: a data directory and an address. Out: a server that clients take for ClickHouse.
//! Never here: anything the product knows; nothing outside may know that the server is embedded.
//!
//! The engine is libchdb, loaded at run time. One engine per process and per data directory.
//! What a client may rely on: an INSERT is stored as a whole when answered with 200 (up to
//! 1 048 449 rows), and not at all when its body ends early; a failed query says so even in the
//! midst of its result; a query whose client went away is stopped.

mod answer;
mod compression;
mod engine;
mod exception;
mod ffi;
mod http;
mod request;
mod running;
mod statement;

use crate::ports;
use serde::Deserialize;
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// The version of libchdb this code is written against.
pub const LIBRARY_VERSION: &str = "26.7.3-stable.1";

/// A private ClickHouse server.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClickhouseEngineSettings {
    /// Directory of the data; created when missing.
    pub data_dir: PathBuf,
    /// Address to listen on; with port 0 a free port is chosen and kept for the next start.
    pub listen: SocketAddr,
    /// Path of `libchdb.so`; looked up as [`library_path`] says when missing.
    pub library: Option<PathBuf>,
    /// The one user, when there is a password; `default` when missing.
    pub user: Option<String>,
    /// Password of the user; nobody is asked for one when missing.
    pub password: Option<String>,
    /// Memory the engine may use for queries and merges; the process takes up to a third more and
    /// 250 MB.
    pub memory_bytes_max: u64,
    /// Memory for the cache of marks.
    pub mark_cache_bytes: u64,
    /// Statements that run at once; more wait.
    pub queries_max: usize,
    /// How long a statement waits for its turn, in s.
    pub queue_timeout_s: u32,
    /// Open connections; more wait to be accepted.
    pub connections_max: usize,
    /// Longest silence of a client within a request, and between requests, in s.
    pub idle_timeout_s: u32,
    /// Longest body of anything but an INSERT with its text in the address.
    pub query_bytes_max: usize,
    /// Longest data of one INSERT, uncompressed.
    pub insert_bytes_max: u64,
    /// Longest answer held back by `wait_end_of_query`.
    pub buffered_answer_bytes_max: usize,
    /// Compress answers even to clients on this machine.
    pub compress_on_loopback: bool,
    /// How long running statements may go on at shutdown, in s.
    pub shutdown_grace_s: u32,
}

impl Default for ClickhouseEngineSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/clickhouse"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            library: None,
            user: None,
            password: None,
            memory_bytes_max: 2 << 30,
            mark_cache_bytes: 128 << 20,
            queries_max: 16,
            queue_timeout_s: 30,
            connections_max: 256,
            idle_timeout_s: 60,
            query_bytes_max: 64 << 20,
            insert_bytes_max: 2 << 30,
            buffered_answer_bytes_max: 256 << 20,
            compress_on_loopback: false,
            shutdown_grace_s: 10,
        }
    }
}

impl fmt::Debug for ClickhouseEngineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickhouseEngineSettings")
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .field("library", &self.library)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("memory_bytes_max", &self.memory_bytes_max)
            .field("queries_max", &self.queries_max)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

/// Why the private ClickHouse does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The library is nowhere.
    #[error(
        "libchdb {LIBRARY_VERSION} is not at {looked_at}: run `cargo xtask setup`, which fetches \
         it, or name the file in CHDB_LIB"
    )]
    NoLibrary {
        /// Where it was expected.
        looked_at: PathBuf,
    },
    /// A limit of zero.
    #[error("embedded clickhouse: {name} must not be 0")]
    ZeroLimit {
        /// Name of the setting.
        name: &'static str,
    },
    /// The data directory cannot be made or written.
    #[error("prepare data directory {data_dir}")]
    DataDir {
        /// The directory.
        data_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The engine does not start.
    #[error("start the ClickHouse engine of {library} on {data_dir}")]
    Engine {
        /// The library in use.
        library: PathBuf,
        /// The directory.
        data_dir: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where libchdb is: `$CHDB_LIB`, else
/// `${XDG_CACHE_HOME:-~/.cache}/tidemark/libchdb/<version>/libchdb.so`.
///
/// # Errors
/// [`ServeError::NoLibrary`] when there is no such file.
pub fn library_path() -> Result<PathBuf, ServeError> {
    let named = std::env::var_os("CHDB_LIB").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = cache.map(PathBuf::from).or_else(home).unwrap_or_default();
        cache.join("tidemark/libchdb").join(LIBRARY_VERSION).join("libchdb.so")
    });
    existing(&path)
}

fn existing(path: &Path) -> Result<PathBuf, ServeError> {
    if path.is_file() {
        Ok(path.to_owned())
    } else {
        Err(ServeError::NoLibrary { looked_at: path.to_owned() })
    }
}

/// Serves until `shutdown` is cancelled; `ready` gets the bound address once clients may come.
///
/// The data is safe whenever the process ends. After a shutdown the process should end by
/// [`exit_now`].
///
/// # Errors
/// When the engine or the listener cannot start; never later.
pub async fn serve(
    settings: ClickhouseEngineSettings,
    shutdown: CancellationToken,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    for (name, limit) in
        [("queries_max", settings.queries_max), ("connections_max", settings.connections_max)]
    {
        if limit == 0 {
            return Err(ServeError::ZeroLimit { name });
        }
    }
    let library = match &settings.library {
        Some(path) => existing(path)?,
        None => library_path()?,
    };
    let no_data_dir = |source| ServeError::DataDir { data_dir: settings.data_dir.clone(), source };
    // The engine joins a relative path to itself; see the case in `tests/clickhouse_killed.rs`.
    let store = std::path::absolute(&settings.data_dir).map_err(no_data_dir)?.join("store");
    std::fs::create_dir_all(&store).map_err(no_data_dir)?;

    let listen = settings.listen;
    let refused = |source| ServeError::Listen { listen, source };
    let listener = ports::listen(listen, &settings.data_dir).map_err(refused)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;

    let arguments = vec![
        format!("--path={}", store.display()),
        format!("--max_server_memory_usage={}", settings.memory_bytes_max),
        format!("--mark_cache_size={}", settings.mark_cache_bytes),
    ];
    let (path, idle_max) = (library.clone(), settings.queries_max);
    let started =
        tokio::task::spawn_blocking(move || engine::Engine::start(&path, arguments, idle_max));
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ServeError::Engine {
        library: library.clone(),
        data_dir: settings.data_dir.clone(),
        source,
    };
    let engine = match started.await {
        Ok(Ok(engine)) => engine,
        Ok(Err(error)) => return Err(failed(error.into())),
        Err(error) => return Err(failed(error.into())),
    };

    let server = Arc::new(http::Server::new(engine, settings));
    http::announce(address, &server.engine.version(), &server.settings);
    ready(address);
    server.run(listener, &shutdown).await;
    let engine = Arc::clone(&server.engine);
    if let Err(error) = tokio::task::spawn_blocking(move || engine.close()).await {
        tracing::warn!(%error, "closing the engine");
    }
    tracing::info!(%address, "embedded clickhouse stopped");
    Ok(())
}

/// Ends the process at once with `code`, without running exit handlers: those of the engine may
/// meet threads of its own that still run. Flush what you have written first.
pub fn exit_now(code: i32) -> ! {
    ffi::exit_now(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_with_the_command_that_fetches_it() {
        let error = existing(Path::new("/nowhere/libchdb.so")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/libchdb.so") && error.contains("cargo xtask setup"));
    }

    #[test]
    fn a_password_never_reaches_a_log() {
        let password = Some("geheim".to_owned());
        let settings = ClickhouseEngineSettings { password, ..Default::default() };
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
