//! The engine and its pool of connections.
//!
//! In: a statement's session (database, settings). Out: a connection in that state, used by one
//! statement at a time.
//! Never here: HTTP; a connection that has seen an error: the engine would show a failed
//! statement's output to the next one, so such a connection is closed.

use super::{
    exception::Exception,
    ffi::{Chdb, Connection},
    statement::{identifier, quoted},
};
use std::{
    ffi::CString,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing::{debug, warn};

/// How often a query is told to stop before it is left alone.
const KILL_ATTEMPTS: u32 = 100;
const KILL_PAUSE: Duration = Duration::from_millis(100);

/// The engine can be started once per process.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("this process runs an engine already")]
    SecondInProcess,
    #[error(transparent)]
    Library(#[from] super::ffi::LoadError),
    #[error("an argument holds a zero byte")]
    Argument(#[from] std::ffi::NulError),
    #[error("another process holds the data directory, or it is not writable or not ours")]
    DataDir,
}

/// What a pooled connection has been set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) database: String,
    /// In the order of their names.
    pub(super) settings: Vec<(String, String)>,
}

pub(super) struct Engine {
    chdb: Arc<Chdb>,
    arguments: Vec<CString>,
    connections: Mutex<Connections>,
    idle_max: usize,
}

struct Connections {
    /// The engine stops with its last connection: one is held while we serve.
    keeper: Option<Connection>,
    /// Newest last.
    idle: Vec<(Session, Connection)>,
    closed: bool,
}

impl Engine {
    /// Loads the library and opens the data directory. Blocks for up to seconds.
    pub(super) fn start(
        library: &Path,
        arguments: Vec<String>,
        idle_max: usize,
    ) -> Result<Arc<Self>, StartError> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(StartError::SecondInProcess);
        }
        let arguments = arguments.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let chdb = Chdb::load(library)?;
        let keeper = Some(chdb.connect(&arguments).ok_or(StartError::DataDir)?);
        let connections = Connections { keeper, idle: Vec::new(), closed: false };
        Ok(Arc::new(Self { chdb, arguments, connections: Mutex::new(connections), idle_max }))
    }

    /// The library's version.
    pub(super) fn version(&self) -> String {
        self.chdb.version()
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // Every change below is a single push or remove: a panic leaves nothing half done.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection in the given state. Blocks for a millisecond where a new one is opened.
    pub(super) fn connection(&self, session: &Session) -> Result<Connection, Exception> {
        {
            let mut connections = self.connections();
            if connections.closed {
                return Err(Exception::new(236, "ABORTED", "the server is shutting down"));
            }
            if let Some(n) = connections.idle.iter().rposition(|(state, _)| state == session) {
                return Ok(connections.idle.remove(n).1);
            }
        }
        let mut connection = self
            .chdb
            .connect(&self.arguments)
            .ok_or_else(|| Exception::new(203, "NO_FREE_CONNECTION", "no further connection"))?;
        if !session.database.is_empty() && session.database != "default" {
            let sql = format!("USE {}", identifier(&session.database));
            connection.query(sql.as_bytes(), "Null", &[])?;
        }
        if !session.settings.is_empty() {
            let list: Vec<String> = session
                .settings
                .iter()
                .map(|(name, value)| format!("{} = {}", identifier(name), quoted(value)))
                .collect();
            connection.query(format!("SET {}", list.join(", ")).as_bytes(), "Null", &[])?;
        }
        Ok(connection)
    }

    /// Gives back a connection whose statement succeeded and left the session as it was.
    pub(super) fn give_back(&self, session: Session, connection: Connection) {
        let evicted = {
            let mut connections = self.connections();
            if connections.closed {
                drop(connections);
                drop(connection);
                return;
            }
            connections.idle.push((session, connection));
            // The oldest goes: sessions nobody uses any more leave that way.
            (connections.idle.len() > self.idle_max).then(|| connections.idle.remove(0))
        };
        drop(evicted);
    }

    /// Stops the query that carries `marker` in a comment until `is_done` says so. Blocks.
    pub(super) fn kill(&self, marker: &str, is_done: &dyn Fn() -> bool) {
        // Cut in two, so that the KILL does not find itself.
        let (one, two) = marker.split_at(marker.len() / 2);
        let sql = format!(
            "KILL QUERY WHERE position(query, concat({}, {})) > 0 ASYNC",
            quoted(one),
            quoted(two)
        );
        let session = Session { database: String::new(), settings: Vec::new() };
        for _ in 0..KILL_ATTEMPTS {
            if is_done() {
                return;
            }
            match self.connection(&session) {
                Ok(mut connection) => match connection.query(sql.as_bytes(), "Null", &[]) {
                    Ok(_) => self.give_back(session.clone(), connection),
                    Err(error) => debug!(error = %error.0, "could not stop a query"),
                },
                Err(error) => {
                    debug!(error = %error.body(), "could not stop a query");
                    return;
                }
            }
            std::thread::sleep(KILL_PAUSE);
        }
        warn!(marker, "a query nobody waits for could not be stopped");
    }

    /// Closes every connection and stops the engine. Statements under way keep theirs; the engine
    /// stops with the last. Blocks.
    pub(super) fn close(&self) {
        let (keeper, idle) = {
            let mut connections = self.connections();
            connections.closed = true;
            (connections.keeper.take(), std::mem::take(&mut connections.idle))
        };
        drop(idle);
        drop(keeper);
        self.chdb.shutdown();
    }
}
