//! The executables as an operator meets them: started, asked, killed, stopped.
//!
//! In: the paths in `TIDEMARK_TEST_BINARY` and `TIDEMARK_TEST_SIMULATORS`. Out: a running house or
//! role, what an errand said, which processes live. Everything started here ends with its owner,
//! and even with `kill -9` of the test.
//! Never here: what must be true of the answers.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// Far more than anything here takes; reached only when something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// An environment variable that `cargo xtask test` sets.
pub(crate) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, which starts the services")
    })
}

/// `tidemark` with these arguments, tied to this thread's life.
pub(crate) fn tidemark<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = tied(&variable("TIDEMARK_TEST_BINARY"), args);
    // Addresses come from settings files alone.
    for name in ["CLICKHOUSE_URL", "DATABASE_URL", "MQTT_URL", "TIDEMARK_CONFIG"] {
        command.env_remove(name);
    }
    command
}

/// `simulators` with these arguments, tied to this thread's life.
pub(crate) fn simulators<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    tied(&variable("TIDEMARK_TEST_SIMULATORS"), args)
}

fn tied<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", program]).args(args);
    command
}

/// Looks until there is something to see.
pub(crate) fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < patience, "{what}: not within {} s", patience.as_secs());
        thread::sleep(POLL);
    }
}

/// How an errand ended and what it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    /// What it printed; it must have ended with one of these codes.
    pub(crate) fn ended(self, codes: &[i32]) -> String {
        assert!(self.code.is_some_and(|code| codes.contains(&code)), "{self:#?}");
        self.out
    }
}

/// Runs an errand to its end.
pub(crate) fn ask(command: &mut Command) -> Answer {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer { code: done.status.code(), out: text(&done.stdout), err: text(&done.stderr) }
}

/// A folder a database's user may pass through; gone afterwards, kept when the test fails.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("tidemark-{name}-{}-{number}", std::process::id());
        let path = env::temp_dir().canonicalize().unwrap().join(folder);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("data and logs stay in {}", self.0.display());
            return;
        }
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A role in the background, asked to stop when dropped.
pub(crate) struct Running {
    child: Child,
    /// Its ready line.
    pub(crate) said: Value,
}

impl Running {
    /// Starts it, its log in `log`, and waits for its ready line.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        // Reading on keeps the pipe open.
        thread::spawn(move || out.lines().for_each(drop));
        let mut running = Self { child, said: Value::Null };
        running.said = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = fs::read_to_string(log).unwrap_or_default();
            panic!("not ready: {error} in {line:?}\n{log}")
        });
        running
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    /// What the ready line says under this name.
    pub(crate) fn fact(&self, name: &str) -> String {
        let fact = self.said.get(name).and_then(Value::as_str);
        fact.unwrap_or_else(|| panic!("no {name} in {}", self.said)).to_owned()
    }

    /// Sends a signal; true when it has ended by itself within the time, with code 0 or by it.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<std::process::ExitStatus> {
        kill_process(self.pid(), signal).ok();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            thread::sleep(POLL);
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if self.end(Signal::TERM).is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// `tidemark up` on a data folder of its own. One at a time on this machine.
pub(crate) struct House {
    pub(crate) up: Running,
    pub(crate) scratch: Scratch,
    /// Last to go: then the next house may start.
    _turn: File,
}

impl House {
    pub(crate) fn start(name: &str) -> Self {
        let turn = File::create(env::temp_dir().join("tidemark-test-house.lock")).unwrap();
        turn.lock().unwrap();
        let scratch = Scratch::new(name);
        let mut up =
            tidemark([OsStr::new("up"), "--data".as_ref(), scratch.0.join("data").as_ref()]);
        let up = Running::start(&mut up, &scratch.0.join("up.log"));
        Self { up, scratch, _turn: turn }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.0.join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.data().join("tidemark.toml")
    }

    pub(crate) fn tidemark(&self, args: &[&str]) -> Command {
        let mut command = tidemark([OsStr::new("--config"), self.config().as_ref()]);
        command.args(args).env("RUST_LOG", "warn");
        command
    }

    /// Runs an errand that must end well.
    pub(crate) fn errand(&self, args: &[&str]) -> String {
        ask(&mut self.tidemark(args)).ended(&[0])
    }

    pub(crate) fn settings(&self) -> toml::Table {
        fs::read_to_string(self.config()).unwrap().parse().unwrap()
    }

    /// The process that runs a role: a child of `up` whose command line ends or goes on like this.
    pub(crate) fn role(&self, words: &[&str]) -> Option<Pid> {
        let up = self.up.pid();
        let has = |args: &[String]| {
            args.windows(words.len()).any(|part| part.iter().zip(words).all(|(a, w)| a == w))
        };
        processes().into_iter().find(|p| p.parent == Some(up) && has(&p.args)).map(|p| p.pid)
    }
}

/// A process as `/proc` shows it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Option<Pid>,
    pub(crate) args: Vec<String>,
    folder: Option<PathBuf>,
}

/// Every process that is not a zombie.
pub(crate) fn processes() -> Vec<Process> {
    let look = |entry: fs::DirEntry| -> Option<Process> {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in front may hold anything, brackets too.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        if fields.next()? == "Z" {
            return None;
        }
        let parent = Pid::from_raw(fields.next()?.parse().ok()?);
        let args = fs::read(entry.path().join("cmdline")).ok()?;
        let args = args.split(|byte| *byte == 0);
        let args = args.map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        Some(Process { pid, parent, args, folder: fs::read_link(entry.path().join("cwd")).ok() })
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(look).collect()
}

/// Processes that work on a folder: it stands in their command line, or they are in it.
pub(crate) fn at_work_on(folder: &Path) -> Vec<Process> {
    let name = folder.to_str().unwrap();
    let works = |process: &Process| {
        process.args.iter().any(|arg| arg.contains(name))
            || process.folder.as_ref().is_some_and(|cwd| cwd.starts_with(folder))
    };
    processes().into_iter().filter(works).collect()
}

/// Asks `http://host:port/path`, with POST when there is a body; the status and what it said.
pub(crate) fn http(url: &str, body: Option<&str>) -> std::io::Result<(u16, String)> {
    let place = url.strip_prefix("http://").unwrap();
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (method, body) = body.map_or(("GET", ""), |body| ("POST", body));
    let length = body.len();
    write!(
        stream,
        "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let odd = || std::io::Error::other(format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(odd)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(odd)?;
    Ok((status, body.to_owned()))
}

/// Asks ClickHouse; `None` while it is away.
pub(crate) fn sql(url: &str, database: &str, query: &str) -> Option<String> {
    let (status, text) = http(&format!("{url}/?database={database}"), Some(query)).ok()?;
    assert_eq!(status, 200, "{query}: {text}");
    Some(text)
}

/// The sum of a counter over the labels that hold `label`, on a metrics page; `None` while nobody
/// answers.
pub(crate) fn counter(metrics: &str, name: &str, label: &str) -> Option<u64> {
    let (status, page) = http(metrics, None).ok()?;
    assert_eq!(status, 200, "{page}");
    let counts = page
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Some(counts.sum())
}
