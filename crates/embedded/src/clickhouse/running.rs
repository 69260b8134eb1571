//! Statements under way on the blocking threads.
//!
//! In: a statement and its session. Out: pieces of its result, or a committed insert.
//! Never here: HTTP.

use super::{
    answer::Piece,
    engine::{Engine, Session},
    exception::Exception,
    ffi::{Connection, QueryResult, Work},
    statement::{self, InsertData},
};
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
};

/// Statements of this class and above change the session or the server.
const CLASS_SESSION: u32 = 3;

/// A query, ready to run.
pub(super) struct Query {
    pub(super) session: Session,
    pub(super) sql: Vec<u8>,
    pub(super) format: String,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) read_only: bool,
    /// Names it among the engine's running queries.
    pub(super) marker: String,
}

/// Stops a query when dropped before it was disarmed: its client has gone.
pub(super) struct StopOnDrop {
    engine: Arc<Engine>,
    marker: String,
    done: Arc<AtomicBool>,
    armed: bool,
    runtime: Handle,
}

impl StopOnDrop {
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if !self.armed || self.done.load(Ordering::Acquire) {
            return;
        }
        let (engine, done) = (Arc::clone(&self.engine), Arc::clone(&self.done));
        let marker = std::mem::take(&mut self.marker);
        let _detached = self
            .runtime
            .spawn_blocking(move || engine.kill(&marker, &|| done.load(Ordering::Acquire)));
    }
}

/// Starts `query` on a blocking thread. `slot` is held until it has ended.
pub(super) fn start_query(
    engine: &Arc<Engine>,
    query: Query,
    slot: OwnedSemaphorePermit,
) -> (mpsc::Receiver<Piece>, StopOnDrop) {
    let (pieces, receiver) = mpsc::channel(4);
    let done = Arc::new(AtomicBool::new(false));
    let stop = StopOnDrop {
        engine: Arc::clone(engine),
        marker: query.marker.clone(),
        done: Arc::clone(&done),
        armed: true,
        runtime: Handle::current(),
    };
    let engine = Arc::clone(engine);
    let _detached = tokio::task::spawn_blocking(move || {
        run_query(&engine, query, &pieces);
        done.store(true, Ordering::Release);
        drop(slot);
    });
    (receiver, stop)
}

fn run_query(engine: &Engine, query: Query, pieces: &mpsc::Sender<Piece>) {
    let outcome = engine.connection(&query.session).and_then(|mut connection| {
        let (work, reusable) = pieces_of(&mut connection, &query, pieces)?;
        if reusable {
            engine.give_back(query.session, connection);
        }
        Ok(work)
    });
    // A receiver that is gone has nobody behind it.
    let _nobody_waits = pieces.blocking_send(match outcome {
        Ok(work) => Piece::End(work),
        Err(error) => Piece::Failed(error),
    });
}

/// Runs it; whether the connection may serve others afterwards. On an error it may not.
fn pieces_of(
    connection: &mut Connection,
    query: &Query,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(Work, bool), Exception> {
    let analysis = connection.classify(&query.sql);
    if analysis.statement_count > 1 {
        return Err(Exception::new(62, "SYNTAX_ERROR", "multi-statements are not allowed"));
    }
    if query.read_only && analysis.query_class != 0 {
        return Err(Exception::new(164, "READONLY", "GET may only read"));
    }
    let text = String::from_utf8_lossy(&query.sql);
    let format = statement::explicit_format(&text).unwrap_or(&query.format);
    let first_word = statement::first_word(&text);
    let selects = matches!(first_word.as_str(), "SELECT" | "WITH");
    let streams = selects && analysis.query_class == 0 && statement::streams_in_chunks(format);

    let marked = [b"/* ", query.marker.as_bytes(), b" */ ", &query.sql].concat();
    if streams {
        let names_types = match format {
            "RowBinaryWithNames" => Some(false),
            "RowBinaryWithNamesAndTypes" => Some(true),
            _ => None,
        };
        return stream(connection, query, &marked, names_types, pieces);
    }
    let result = connection.query(&marked, &query.format, &query.parameters)?;
    let work = result.work();
    if !result.as_ref().is_empty() {
        let _nobody_waits = pieces.blocking_send(Piece::Data(Bytes::from_owner(result)));
    }
    // USE, SET and temporary tables stay with their connection: it is not for others.
    let touches_session = analysis.query_class >= CLASS_SESSION
        || matches!(first_word.as_str(), "USE" | "SET")
        || text.to_ascii_uppercase().contains("TEMPORARY");
    Ok((work, !touches_session))
}

fn stream(
    connection: &mut Connection,
    query: &Query,
    sql: &[u8],
    header_with_types: Option<bool>,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(Work, bool), Exception> {
    let mut work = Work::default();
    let mut stream = connection.stream(sql, &query.format, &query.parameters)?;
    let mut is_first = true;
    while let Some(chunk) = stream.next()? {
        let more = chunk.work();
        work.result_rows = work.result_rows.saturating_add(more.result_rows);
        work.read_rows = work.read_rows.saturating_add(more.read_rows);
        work.read_bytes = work.read_bytes.saturating_add(more.read_bytes);
        let header = match header_with_types {
            Some(types) if !is_first => header_len(&chunk, types)?,
            _ => 0,
        };
        is_first = false;
        let data = Bytes::from_owner(chunk).split_off(header);
        if data.is_empty() {
            continue;
        }
        if pieces.blocking_send(Piece::Data(data)).is_err() {
            // Nobody reads any more. Dropping the stream cancels the query.
            return Ok((work, false));
        }
    }
    Ok((work, true))
}

/// The engine repeats the header in every chunk; clients expect it once.
fn header_len(chunk: &QueryResult, with_types: bool) -> Result<usize, Exception> {
    statement::row_binary_header_len(chunk.as_ref(), with_types)
        .ok_or_else(|| Exception::new(33, "CANNOT_READ_ALL_DATA", "chunk without its header"))
}

/// An insert under way: data, then the commit token.
pub(super) struct RunningInsert {
    /// Data in any pieces.
    pub(super) data: mpsc::Sender<Bytes>,
    /// Sent only when the body has ended cleanly; dropped otherwise, and then nothing is stored.
    pub(super) commit: oneshot::Sender<()>,
    /// How it ended.
    pub(super) outcome: oneshot::Receiver<Result<Work, Exception>>,
}

/// Starts an insert on a blocking thread. `slot` is held until it has ended.
pub(super) fn start_insert(
    engine: &Arc<Engine>,
    session: &Session,
    insert: &InsertData<'_>,
    slot: OwnedSemaphorePermit,
) -> RunningInsert {
    let (data, mut received) = mpsc::channel::<Bytes>(4);
    let (commit, committed) = oneshot::channel::<()>();
    let (ended, outcome) = oneshot::channel();
    let engine = Arc::clone(engine);
    let sql = with_settings(insert, &session.settings);
    let format = insert.format.to_owned();
    // Settings went into the statement: the connection stays plain and serves all inserts.
    let session = Session { database: session.database.clone(), settings: Vec::new() };
    let _detached = tokio::task::spawn_blocking(move || {
        let result = engine.connection(&session).and_then(|mut connection| {
            let mut insert = connection.insert(sql.as_bytes(), &format)?;
            while let Some(piece) = received.blocking_recv() {
                insert.append(&piece)?;
            }
            if committed.blocking_recv().is_err() {
                drop(insert);
                return Err(Exception::network("the client gave up the INSERT"));
            }
            let work = insert.finish()?;
            engine.give_back(session, connection);
            Ok(work)
        });
        drop(received);
        drop(slot);
        let _nobody_waits = ended.send(result);
    });
    RunningInsert { data, commit, outcome }
}

fn with_settings(insert: &InsertData<'_>, settings: &[(String, String)]) -> String {
    let mut sql = insert.head.to_owned();
    for (n, (name, value)) in settings.iter().enumerate() {
        sql.push_str(if n == 0 && !insert.has_settings { " SETTINGS " } else { ", " });
        sql.push_str(&statement::identifier(name));
        sql.push_str(" = ");
        sql.push_str(&statement::quoted(value));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_an_insert_travel_in_its_text() {
        let settings = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "it's".to_owned())];
        let cases = [
            ("INSERT INTO t FORMAT CSV", "INSERT INTO t SETTINGS `a` = '1', `b` = 'it\\'s'"),
            (
                "INSERT INTO t SETTINGS c = 2 FORMAT CSV",
                "INSERT INTO t SETTINGS c = 2, `a` = '1', `b` = 'it\\'s'",
            ),
        ];
        for (sql, expected) in cases {
            let insert = statement::insert_data(sql.as_bytes()).unwrap();
            assert_eq!(with_settings(&insert, &settings), expected);
        }
    }
}
