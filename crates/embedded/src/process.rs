//! A server as a child process that ends with us.
//!
//! In: a command, a way to ask whether it is ready. Out: a running server, its address, its end.
//! Never here: which server it is.
//!
//! The kernel signals the child when the *thread* that started it ends (`PR_SET_PDEATHSIG`, set by
//! `setpriv`), so every child has a thread of its own that lives as long as the child: the child
//! goes when this process goes, even by SIGKILL, and at no other time. Children are in process
//! groups of their own: Ctrl-C reaches us alone, and we stop them in our order.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

const READY_PAUSE: Duration = Duration::from_millis(20);
/// How long a child may take to die of SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a server's own log goes into an error.
const LOG_TAIL_BYTES: u64 = 2_000;
/// A log longer than this begins anew at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Why a private server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is not on this machine.
    #[error("{program} is not installed: run `cargo xtask setup`, or `apt-get install {package}`")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// Debian's package of it.
        package: &'static str,
    },
    /// A setting nobody can work with.
    #[error("embedded {server}: {name} {value:?}: {want}")]
    Setting {
        /// The server.
        server: &'static str,
        /// Name of the setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is wanted.
        want: &'static str,
    },
    /// No user to run it as.
    #[error("embedded {server} must not run as root, and none of the users {users} exists")]
    NoUser {
        /// The server.
        server: &'static str,
        /// Who was looked for.
        users: String,
    },
    /// A file or directory of ours cannot be used.
    #[error("embedded {server}: {what} {path}")]
    File {
        /// The server.
        server: &'static str,
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory is in use.
    #[error("{server} data directory {data_dir} is in use by another process")]
    InUse {
        /// The server.
        server: &'static str,
        /// The directory.
        data_dir: PathBuf,
    },
    /// The user that is to run it cannot enter its directory.
    #[error(
        "user {user} cannot enter {data_dir}: choose a data directory below one that everybody may \
         enter, such as /var/lib or /var/tmp"
    )]
    Unreachable {
        /// The user.
        user: String,
        /// The directory.
        data_dir: PathBuf,
    },
    /// No port.
    #[error("embedded {server}: find a free port")]
    Port {
        /// The server.
        server: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program cannot be run.
    #[error("run {program}")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A preparing step failed.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// The server ended before it was ready.
    #[error("{server} ended at start ({status}): {log}")]
    Ended {
        /// The server.
        server: &'static str,
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// The server did not answer in time.
    #[error("{server} was not ready after {seconds} s: {log}")]
    NotReady {
        /// The server.
        server: &'static str,
        /// How long we waited.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
}

/// A private server that runs. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct Running {
    server: &'static str,
    url: String,
    child: Child,
    signals: Signals,
    /// Held while we use the data directory.
    _lock: File,
}

/// How a server is asked to stop: politely, then firmly (SIGKILL comes after both).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signals {
    pub(crate) polite: Signal,
    pub(crate) firm: Signal,
    /// Patience after each.
    pub(crate) patience: Duration,
}

impl Running {
    /// Where clients find it, as in `mqtt://127.0.0.1:1883`; Postgres' holds its password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid.as_raw_pid().unsigned_abs()
    }

    /// Returns when the server has ended, with how it did: never before `stop` unless something is
    /// wrong.
    pub async fn ended(&self) -> String {
        self.child.ended().await
    }

    /// Stops the server and waits for its end.
    pub async fn stop(mut self) {
        self.child.stop(self.signals).await;
        info!(server = self.server, "private server stopped");
    }
}

/// A child and the thread it was started from.
#[derive(Debug)]
struct Child {
    pid: Pid,
    /// Whether the pid is no longer ours: taken with the mutex held.
    reaped: Arc<Mutex<bool>>,
    status: watch::Receiver<Option<String>>,
    on_drop: Signal,
}

impl Child {
    async fn spawn(mut command: Command, on_drop: Signal) -> io::Result<Self> {
        let (started, start) = oneshot::channel();
        let (end, status) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        let flag = Arc::clone(&reaped);
        let keeper = move || {
            let spawned = command.process_group(0).spawn();
            let mut child = match spawned {
                Ok(child) => child,
                Err(error) => {
                    let _nobody_waits = started.send(Err(error));
                    return;
                }
            };
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _nobody_waits = started.send(Ok(pid));
                // Wait without taking the pid, so that nobody signals a stranger in between.
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while waitid(WaitId::Pid(pid), options).is_err_and(|e| e == rustix::io::Errno::INTR)
                {
                }
            }
            let mut reaped = flag.lock().unwrap_or_else(PoisonError::into_inner);
            let status = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            *reaped = true;
            drop(reaped);
            let _nobody_waits = end.send(Some(status));
        };
        std::thread::Builder::new().name("child-keeper".to_owned()).spawn(keeper)?;
        let pid = start.await.map_err(|_| io::Error::other("the child's pid is no pid"))??;
        Ok(Self { pid, reaped, status, on_drop })
    }

    fn signal(&self, signal: Signal) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped && let Err(error) = kill_process(self.pid, signal) {
            warn!(pid = self.pid.as_raw_pid(), %error, "could not signal a child");
        }
    }

    async fn ended(&self) -> String {
        let mut status = self.status.clone();
        match status.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_default(),
            Err(_) => "its keeper is gone".to_owned(),
        }
    }

    async fn stop(&mut self, signals: Signals) {
        let steps = [
            (signals.polite, signals.patience),
            (signals.firm, signals.patience),
            (Signal::KILL, KILL_TIMEOUT),
        ];
        for (signal, patience) in steps {
            self.signal(signal);
            if timeout(patience, self.ended()).await.is_ok() {
                return;
            }
            warn!(pid = self.pid.as_raw_pid(), ?signal, "a child does not stop");
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.borrow().is_none() {
            self.signal(self.on_drop);
        }
    }
}

/// A server about to be started.
pub(crate) struct Start {
    pub(crate) server: &'static str,
    pub(crate) command: Command,
    pub(crate) log: PathBuf,
    pub(crate) url: String,
    pub(crate) signals: Signals,
    pub(crate) patience: Duration,
    pub(crate) lock: File,
}

impl Start {
    /// Starts it and waits until `is_ready`.
    pub(crate) async fn run(self, is_ready: impl AsyncFn() -> bool) -> Result<Running, StartError> {
        let Self { server, mut command, log, url, signals, patience, lock } = self;
        let program = command.get_program().to_string_lossy().into_owned();
        let (out, err) = open_log(&log).map_err(|source| StartError::File {
            server,
            what: "open log",
            path: log.clone(),
            source,
        })?;
        command.stdout(out).stderr(err);
        let mut child = Child::spawn(command, signals.polite)
            .await
            .map_err(|source| StartError::Run { program, source })?;
        let started = Instant::now();
        loop {
            if timeout(patience, is_ready()).await == Ok(true) {
                break;
            }
            let status = child.status.borrow().clone();
            if let Some(status) = status {
                return Err(StartError::Ended { server, status, log: tail(&log) });
            }
            if started.elapsed() > patience {
                child.stop(signals).await;
                let seconds = patience.as_secs();
                return Err(StartError::NotReady { server, seconds, log: tail(&log) });
            }
            sleep(READY_PAUSE).await;
        }
        info!(server, pid = child.pid.as_raw_pid(), elapsed = ?started.elapsed(), "private server ready");
        Ok(Running { server, url, child, signals, _lock: lock })
    }
}

fn open_log(path: &Path) -> io::Result<(Stdio, Stdio)> {
    let is_long = fs::metadata(path).is_ok_and(|file| file.len() > LOG_BYTES_MAX);
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    if is_long {
        file.set_len(0)?;
    }
    Ok((Stdio::from(file.try_clone()?), Stdio::from(file)))
}

/// The end of a log, for an error.
fn tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("(no log: {error})"))
}

/// Makes the directory and takes hold of it.
pub(crate) fn hold(server: &'static str, data_dir: &Path) -> Result<File, StartError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StartError::File { server, what, path, source }
    };
    fs::create_dir_all(data_dir).map_err(failed("create data directory", data_dir))?;
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StartError::InUse { server, data_dir: data_dir.to_owned() })
        }
        Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

/// Runs a preparing step to its end.
pub(crate) async fn step(mut command: Command) -> Result<(), StartError> {
    let program = command.get_args().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let named = program.clone();
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|source| StartError::Run { program: named, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let from = said.len().saturating_sub(1_000);
    let end = said.get(said.ceil_char_boundary(from)..).unwrap_or_default();
    Err(StartError::Failed {
        program,
        status: output.status.to_string(),
        output: end.trim().to_owned(),
    })
}
