//! libchdb's C interface: the only unsafe code of the product.
//!
//! In: the path of the shared library, statements as bytes. Out: results as owned buffers, errors
//! as the engine's own text.
//! Never here: HTTP, pooling, what a statement means.
//!
//! Signatures follow `programs/local/chdb.h` of chdb-core 26.7. What the header promises and this
//! file relies on:
//! - a connection runs one statement at a time and may be used from any thread, not from two at
//!   once: [`Connection`] is `Send`, not `Sync`, and its streams borrow it mutably;
//! - a result owns its buffer until destroyed and may be read and destroyed on any thread;
//! - the library starts threads of its own and must never be unloaded.

#![allow(unsafe_code, reason = "the one place that talks to a C library")]

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem::ManuallyDrop,
    path::Path,
    ptr, slice,
    sync::Arc,
};

type ConnectionHandle = *mut c_void;
type ResultHandle = *mut c_void;
type InsertHandle = *mut c_void;

/// What the engine says of a failed statement: `Code: 60. DB::Exception: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineText(pub(super) String);

/// What kind of statement it is. Layout of `chdb_query_analysis`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Analysis {
    struct_size: u32,
    /// How many statements the text holds.
    pub(super) statement_count: u32,
    flags: u32,
    /// 0: only reads. 3 and above: changes the session or the server.
    pub(super) query_class: u32,
}

/// Why the library is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("open the shared library")]
    Open(#[source] libloading::Error),
    #[error("find {name} in the shared library")]
    Symbol { name: &'static str, source: libloading::Error },
}

macro_rules! library {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of the library in use.
        pub(super) struct Chdb {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            /// Kept open for the life of the process: unloading crashes its threads.
            _library: ManuallyDrop<Library>,
        }

        impl Chdb {
            /// Opens the library and finds its functions. Signal handlers of its own are off.
            pub(super) fn load(path: &Path) -> Result<Arc<Self>, LoadError> {
                // SAFETY: libchdb's initialisers start nothing that touches our memory; the
                // library is never unloaded.
                let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
                    .map_err(LoadError::Open)?;
                let library = ManuallyDrop::new(library);
                $(
                    // SAFETY: the type is the one of this function in chdb.h.
                    let $name = *unsafe {
                        library.get(concat!(stringify!($name), "\0").as_bytes())
                    }
                    .map_err(|source| LoadError::Symbol { name: stringify!($name), source })?;
                )*
                let chdb = Self { $($name,)* _library: library };
                // SAFETY: takes a flag only; must come before the first connection, and does.
                unsafe { (chdb.chdb_set_signal_handlers_enabled)(0) };
                Ok(Arc::new(chdb))
            }
        }
    };
}

library! {
    chdb_version: fn() -> *const c_char;
    chdb_set_signal_handlers_enabled: fn(c_int);
    chdb_connect: fn(c_int, *mut *mut c_char) -> *mut ConnectionHandle;
    chdb_close_conn: fn(*mut ConnectionHandle);
    chdb_query_with_params_n: fn(ConnectionHandle, *const c_char, usize, *const c_char, usize,
        *const *const c_char, *const usize, *const *const c_char, *const usize, usize)
        -> ResultHandle;
    chdb_query_n: fn(ConnectionHandle, *const c_char, usize, *const c_char, usize) -> ResultHandle;
    chdb_stream_query_with_params_n: fn(ConnectionHandle, *const c_char, usize, *const c_char,
        usize, *const *const c_char, *const usize, *const *const c_char, *const usize, usize)
        -> ResultHandle;
    chdb_stream_query_n: fn(ConnectionHandle, *const c_char, usize, *const c_char, usize)
        -> ResultHandle;
    chdb_stream_fetch_result: fn(ConnectionHandle, ResultHandle) -> ResultHandle;
    chdb_stream_cancel_query: fn(ConnectionHandle, ResultHandle);
    chdb_destroy_query_result: fn(ResultHandle);
    chdb_stream_insert_n: fn(ConnectionHandle, *const c_char, usize, *const c_char, usize)
        -> InsertHandle;
    chdb_stream_append: fn(InsertHandle, *const c_void, usize) -> c_int;
    chdb_stream_done: fn(InsertHandle) -> ResultHandle;
    chdb_stream_cancel_insert: fn(InsertHandle);
    chdb_stream_insert_error: fn(InsertHandle) -> *const c_char;
    chdb_destroy_insert_stream: fn(InsertHandle);
    chdb_result_buffer: fn(ResultHandle) -> *const u8;
    chdb_result_length: fn(ResultHandle) -> usize;
    chdb_result_rows_read: fn(ResultHandle) -> u64;
    chdb_result_storage_rows_read: fn(ResultHandle) -> u64;
    chdb_result_storage_bytes_read: fn(ResultHandle) -> u64;
    chdb_result_rows_written: fn(ResultHandle) -> u64;
    chdb_result_bytes_written: fn(ResultHandle) -> u64;
    chdb_result_error: fn(ResultHandle) -> *const c_char;
    chdb_classify_query_n: fn(ConnectionHandle, *const c_char, usize, *const c_char, usize,
        *mut Analysis) -> c_int;
    chdb_shutdown: fn() -> c_int;
}

impl Chdb {
    /// The library's version, as in `26.7.3`.
    pub(super) fn version(&self) -> String {
        // SAFETY: no arguments.
        let text = unsafe { (self.chdb_version)() };
        // SAFETY: null or a static string ended by a zero.
        unsafe { owned_text(text) }.unwrap_or_default()
    }

    /// Stops the engine; call with every connection closed. Its answer says nothing of use: it is
    /// an error whenever a table was touched.
    pub(super) fn shutdown(&self) {
        // SAFETY: no arguments; `Connection`s hold the library and are gone by the caller's word;
        // the engine answers with an error when they are not.
        let _always_an_error_once_used = unsafe { (self.chdb_shutdown)() };
    }

    /// A further connection to the engine; the first one starts it. The data directory comes from
    /// `--path=…` among the arguments. `None`: the directory cannot be used, or another process
    /// holds it; the engine does not say which.
    pub(super) fn connect(self: &Arc<Self>, arguments: &[CString]) -> Option<Connection> {
        let mut pointers: Vec<*mut c_char> = std::iter::once(c"chdb".as_ptr())
            .chain(arguments.iter().map(|argument| argument.as_ptr()))
            .map(<*const c_char>::cast_mut)
            .collect();
        let count = c_int::try_from(pointers.len()).ok()?;
        // SAFETY: `count` pointers to strings ended by a zero that outlive the call; the engine
        // copies them and writes to none.
        let handle = unsafe { (self.chdb_connect)(count, pointers.as_mut_ptr()) };
        (!handle.is_null()).then(|| Connection { chdb: Arc::clone(self), handle })
    }
}

/// Text of the engine, copied; `None` for null or empty.
///
/// # Safety
/// `text` is null or points to a string ended by a zero.
unsafe fn owned_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and ended by a zero by the caller's word.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

/// One session of the engine. Runs one statement at a time.
pub(super) struct Connection {
    chdb: Arc<Chdb>,
    handle: *mut ConnectionHandle,
}

// SAFETY: the engine ties a connection to no thread; being no `Sync`, it is used by one at a time.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: from `chdb_connect`, closed once; streams borrow the connection and are gone.
        unsafe { (self.chdb.chdb_close_conn)(self.handle) }
    }
}

impl Connection {
    fn raw(&self) -> ConnectionHandle {
        // SAFETY: `chdb_connect` gave a pointer to a handle, valid until closed.
        unsafe { *self.handle }
    }

    fn result(&self, handle: ResultHandle) -> Result<QueryResult, EngineText> {
        if handle.is_null() {
            return Err(EngineText("Code: 1001. DB::Exception: no result (STD_EXCEPTION)".into()));
        }
        let result = QueryResult { chdb: Arc::clone(&self.chdb), handle };
        // SAFETY: a live result.
        let error = unsafe { (self.chdb.chdb_result_error)(handle) };
        // SAFETY: null or a string that lives as long as the result.
        match unsafe { owned_text(error) } {
            Some(text) => Err(EngineText(text)),
            None => Ok(result),
        }
    }

    /// What kind of statement `sql` is.
    pub(super) fn classify(&self, sql: &[u8]) -> Analysis {
        let size = u32::try_from(size_of::<Analysis>()).unwrap_or_default();
        let mut analysis = Analysis { struct_size: size, ..Analysis::default() };
        // SAFETY: a live connection, `sql` with its length, no dialect, a struct of stated size.
        let _status = unsafe {
            (self.chdb.chdb_classify_query_n)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                ptr::null(),
                0,
                &raw mut analysis,
            )
        };
        analysis
    }

    /// Runs a statement and holds its whole result.
    ///
    /// After an error this connection must be dropped: output of the failed statement would show
    /// up in the next one's.
    pub(super) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<QueryResult, EngineText> {
        let bound = Parameters::new(parameters);
        let (text, form) = (sql.as_ptr().cast(), format.as_ptr().cast());
        // SAFETY: a live connection; every pointer goes with its length and outlives the call.
        let handle = unsafe {
            if parameters.is_empty() {
                (self.chdb.chdb_query_n)(self.raw(), text, sql.len(), form, format.len())
            } else {
                (self.chdb.chdb_query_with_params_n)(
                    self.raw(),
                    text,
                    sql.len(),
                    form,
                    format.len(),
                    bound.names.as_ptr(),
                    bound.name_lengths.as_ptr(),
                    bound.values.as_ptr(),
                    bound.value_lengths.as_ptr(),
                    bound.names.len(),
                )
            }
        };
        self.result(handle)
    }

    /// Starts a SELECT whose result comes in chunks. Other statements are refused by the engine.
    pub(super) fn stream(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<QueryStream<'_>, EngineText> {
        let bound = Parameters::new(parameters);
        let (text, form) = (sql.as_ptr().cast(), format.as_ptr().cast());
        // SAFETY: as in `query`.
        let handle = unsafe {
            if parameters.is_empty() {
                (self.chdb.chdb_stream_query_n)(self.raw(), text, sql.len(), form, format.len())
            } else {
                (self.chdb.chdb_stream_query_with_params_n)(
                    self.raw(),
                    text,
                    sql.len(),
                    form,
                    format.len(),
                    bound.names.as_ptr(),
                    bound.name_lengths.as_ptr(),
                    bound.values.as_ptr(),
                    bound.value_lengths.as_ptr(),
                    bound.names.len(),
                )
            }
        };
        let stream = self.result(handle)?;
        Ok(QueryStream { connection: self, stream, done: false })
    }

    /// Starts an INSERT of data in `format`; `sql` ends before its FORMAT clause.
    pub(super) fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
    ) -> Result<InsertStream<'_>, EngineText> {
        // SAFETY: a live connection; both texts with their lengths.
        let handle = unsafe {
            (self.chdb.chdb_stream_insert_n)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
            )
        };
        if handle.is_null() {
            return Err(EngineText("Code: 1001. DB::Exception: no insert (STD_EXCEPTION)".into()));
        }
        let insert = InsertStream { connection: self, handle, done: false };
        match insert.error() {
            Some(text) => Err(text),
            None => Ok(insert),
        }
    }
}

/// A result and its buffer.
pub(super) struct QueryResult {
    chdb: Arc<Chdb>,
    handle: ResultHandle,
}

// SAFETY: a result stands by itself: the engine neither shares nor ties it to a thread.
unsafe impl Send for QueryResult {}

impl Drop for QueryResult {
    fn drop(&mut self) {
        // SAFETY: a live result, destroyed once.
        unsafe { (self.chdb.chdb_destroy_query_result)(self.handle) }
    }
}

impl AsRef<[u8]> for QueryResult {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a live result.
        let (buffer, length) = unsafe {
            (
                (self.chdb.chdb_result_buffer)(self.handle),
                (self.chdb.chdb_result_length)(self.handle),
            )
        };
        if buffer.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the buffer holds `length` bytes, is never written again and lives as long as
        // the result, which `self` borrows.
        unsafe { slice::from_raw_parts(buffer, length) }
    }
}

/// What a statement read and wrote.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    pub(super) result_rows: u64,
    pub(super) read_rows: u64,
    pub(super) read_bytes: u64,
    pub(super) written_rows: u64,
    pub(super) written_bytes: u64,
}

impl QueryResult {
    /// What was read and written for it.
    pub(super) fn work(&self) -> Work {
        let Self { chdb, handle } = self;
        // SAFETY: a live result; these only read counters.
        unsafe {
            Work {
                result_rows: (chdb.chdb_result_rows_read)(*handle),
                read_rows: (chdb.chdb_result_storage_rows_read)(*handle),
                read_bytes: (chdb.chdb_result_storage_bytes_read)(*handle),
                written_rows: (chdb.chdb_result_rows_written)(*handle),
                written_bytes: (chdb.chdb_result_bytes_written)(*handle),
            }
        }
    }
}

/// A SELECT under way. Dropping it early cancels it.
pub(super) struct QueryStream<'a> {
    connection: &'a mut Connection,
    stream: QueryResult,
    done: bool,
}

impl QueryStream<'_> {
    /// The next chunk; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<QueryResult>, EngineText> {
        if self.done {
            return Ok(None);
        }
        // SAFETY: the stream belongs to this connection, which is ours alone while it lasts.
        let handle = unsafe {
            (self.connection.chdb.chdb_stream_fetch_result)(
                self.connection.raw(),
                self.stream.handle,
            )
        };
        let chunk = self.connection.result(handle).inspect_err(|_| self.done = true)?;
        if chunk.as_ref().is_empty() && chunk.work().result_rows == 0 {
            self.done = true;
            return Ok(None);
        }
        Ok(Some(chunk))
    }
}

impl Drop for QueryStream<'_> {
    fn drop(&mut self) {
        if !self.done {
            // SAFETY: a stream under way on this connection; the result itself is destroyed after.
            unsafe {
                (self.connection.chdb.chdb_stream_cancel_query)(
                    self.connection.raw(),
                    self.stream.handle,
                );
            }
        }
    }
}

/// An INSERT under way. Dropping it stores nothing.
pub(super) struct InsertStream<'a> {
    connection: &'a mut Connection,
    handle: InsertHandle,
    done: bool,
}

impl InsertStream<'_> {
    fn error(&self) -> Option<EngineText> {
        // SAFETY: a live insert.
        let text = unsafe { (self.connection.chdb.chdb_stream_insert_error)(self.handle) };
        // SAFETY: null or a string that lives as long as the insert.
        unsafe { owned_text(text) }.map(EngineText)
    }

    /// Hands on some bytes; waits while the engine is behind.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), EngineText> {
        // SAFETY: a live insert; the data with its length, copied before the call returns.
        let status = unsafe {
            (self.connection.chdb.chdb_stream_append)(self.handle, data.as_ptr().cast(), data.len())
        };
        if status == 0 {
            return Ok(());
        }
        let silent = || EngineText("Code: 1001. DB::Exception: append failed".into());
        Err(self.error().unwrap_or_else(silent))
    }

    /// Stores everything handed on.
    pub(super) fn finish(mut self) -> Result<Work, EngineText> {
        self.done = true;
        // SAFETY: a live insert that is neither done nor cancelled.
        let handle = unsafe { (self.connection.chdb.chdb_stream_done)(self.handle) };
        self.connection.result(handle).map(|result| result.work())
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: a live insert; cancelled unless done, destroyed once.
        unsafe {
            if !self.done {
                (self.connection.chdb.chdb_stream_cancel_insert)(self.handle);
            }
            (self.connection.chdb.chdb_destroy_insert_stream)(self.handle);
        }
    }
}

/// Parameters as the C interface takes them: pointers into the borrowed pairs.
struct Parameters {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl Parameters {
    /// Valid while `pairs` is borrowed, which the callers keep through the call.
    fn new(pairs: &[(String, String)]) -> Self {
        Self {
            names: pairs.iter().map(|(name, _)| name.as_ptr().cast()).collect(),
            name_lengths: pairs.iter().map(|(name, _)| name.len()).collect(),
            values: pairs.iter().map(|(_, value)| value.as_ptr().cast()).collect(),
            value_lengths: pairs.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

/// Ends the process at once, without running destructors: those of the engine may meet its own
/// threads.
pub(super) fn exit_now(code: i32) -> ! {
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    // SAFETY: takes a number and does not return.
    unsafe { _exit(code) }
}
