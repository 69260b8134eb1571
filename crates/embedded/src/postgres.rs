//! A private Postgres cluster.
//!
//! In: a data directory. Out: a server on a loopback port with one superuser, one database and a
//! password nobody chose; the same again at the next start.
//! Never here: anything in the database.
//!
//! The data directory holds the cluster, the server's log, the remembered port and the password.
//! As root the server runs as `postgres` or `nobody`. It listens on TCP only: a socket's path would
//! have to stay below 108 bytes.

use crate::{
    Running, StartError, ports,
    process::{self, Signals, Start},
    random,
    user::RunAs,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};
use tracing::{info, warn};

const SERVER: &str = "postgres";
/// Debian's directory of installed versions.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Starts tried when a chosen port was taken in the moment between.
const STARTS: u32 = 3;
const OLD_SERVER_PAUSE: Duration = Duration::from_millis(50);

/// A private Postgres cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresSettings {
    /// Directory of the cluster and its password; created when missing.
    pub data_dir: PathBuf,
    /// Address to listen on; with port 0 a free port is chosen and kept for the next start.
    pub listen: SocketAddr,
    /// Superuser and owner of the database, made with the cluster.
    pub user: String,
    /// Database, made with the cluster.
    pub database: String,
    /// Directory of `initdb` and `postgres`; the newest of Debian's when missing.
    pub bin_dir: Option<PathBuf>,
    /// Most connections at once.
    pub connections_max: u16,
    /// Memory shared by all connections, in MiB.
    pub shared_buffers_mib: u32,
    /// How long the server may take to be ready, in s; after a kill it first recovers.
    pub start_timeout_s: u32,
    /// How long the server may take to stop, in s.
    pub stop_timeout_s: u32,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/postgres"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            user: "tidemark".to_owned(),
            database: "tidemark".to_owned(),
            bin_dir: None,
            connections_max: 100,
            shared_buffers_mib: 128,
            start_timeout_s: 60,
            stop_timeout_s: 20,
        }
    }
}

/// Starts the cluster, making it first where there is none. Ready when this returns;
/// [`Running::url`] works for `psql` and `sqlx` alike.
///
/// # Errors
/// When it cannot be made or does not start, with the end of the server's log.
pub async fn start(settings: &PostgresSettings) -> Result<Running, StartError> {
    for (name, value) in [("user", &settings.user), ("database", &settings.database)] {
        if !is_plain_name(value) {
            let want = "a lower-case letter, then lower-case letters, digits and _, 60 at most";
            return Err(StartError::Setting { server: SERVER, name, value: value.clone(), want });
        }
    }
    let bin_dir = settings.bin_dir.clone().or_else(newest_version).ok_or(NOT_INSTALLED)?;
    if !bin_dir.join("postgres").is_file() || !bin_dir.join("initdb").is_file() {
        return Err(NOT_INSTALLED);
    }
    let data_dir = std::path::absolute(&settings.data_dir)
        .map_err(file("find data directory", &settings.data_dir))?;
    let mut attempt = 1;
    loop {
        let lock = process::hold(SERVER, &data_dir)?;
        let run_as = RunAs::choose(SERVER, &["postgres", "nobody"])?;
        let place = Place { bin_dir: &bin_dir, data_dir: &data_dir, run_as: &run_as };
        let password = place.password()?;
        if !place.cluster().exists() {
            place.make(settings, &password).await?;
        }
        let patience = Duration::from_secs(settings.stop_timeout_s.into());
        end_old_server(&place.cluster(), patience).await?;

        let port = ports::choose(settings.listen, &data_dir)
            .map_err(|source| StartError::Port { server: SERVER, source })?;
        let address = SocketAddr::new(settings.listen.ip(), port);
        let start = Start {
            server: SERVER,
            command: place.server(settings, address)?,
            log: data_dir.join("postgres.log"),
            url: format!("postgres://{}:{password}@{address}/{}", settings.user, settings.database),
            // Fast shutdown: connections are cut, nothing needs recovery afterwards.
            signals: Signals { polite: Signal::INT, firm: Signal::QUIT, patience },
            patience: Duration::from_secs(settings.start_timeout_s.into()),
            lock,
        };
        match start.run(async || accepts(address, settings).await).await {
            Err(error @ StartError::Ended { .. })
                if settings.listen.port() == 0 && attempt < STARTS =>
            {
                warn!(attempt, %error, "trying again");
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

const NOT_INSTALLED: StartError =
    StartError::NotInstalled { program: "postgres", package: "postgresql" };

/// Where a cluster is and who runs it.
struct Place<'a> {
    bin_dir: &'a Path,
    data_dir: &'a Path,
    run_as: &'a RunAs,
}

impl Place<'_> {
    fn cluster(&self) -> PathBuf {
        self.data_dir.join("cluster")
    }

    fn command(&self, program: &str) -> Result<Command, StartError> {
        let program = self.bin_dir.join(program);
        let mut command = self.run_as.command(program.as_os_str(), "INT", self.data_dir)?;
        command.env_clear().env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        Ok(command)
    }

    /// The password of the cluster: made once, readable to us alone.
    fn password(&self) -> Result<String, StartError> {
        let path = self.data_dir.join("password");
        match fs::read_to_string(&path) {
            Ok(password) if !password.trim().is_empty() => return Ok(password.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file("read", &path)(error)),
        }
        let password = random::hex(24);
        write_secret(&path, &password).map_err(file("write", &path))?;
        Ok(password)
    }

    /// Makes the cluster beside its place and moves it there when it is complete.
    async fn make(&self, settings: &PostgresSettings, password: &str) -> Result<(), StartError> {
        let unfinished = self.data_dir.join("cluster.new");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("remove", &unfinished)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let private = || -> io::Result<()> {
            fs::create_dir(&unfinished)?;
            fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700))?;
            self.run_as.own(&unfinished)
        };
        private().map_err(file("create", &unfinished))?;
        let secret = self.data_dir.join("password.initdb");
        let handed_over = || -> io::Result<()> {
            write_secret(&secret, password)?;
            self.run_as.own(&secret)
        };
        handed_over().map_err(file("write", &secret))?;

        let mut initdb = self.command("initdb")?;
        initdb
            .arg("-D")
            .arg(&unfinished)
            .arg("--pwfile")
            .arg(&secret)
            .args(["-U", &settings.user, "-A", "scram-sha-256", "-E", "UTF8"])
            .arg("--locale=C.UTF-8");
        let made = process::step(initdb).await;
        fs::remove_file(&secret).map_err(file("remove", &secret))?;
        made?;

        // A single-user server reads statements from its input and needs no port.
        let statements = self.data_dir.join("create-database.sql");
        let sql = format!("CREATE DATABASE {}\n", settings.database);
        fs::write(&statements, sql).map_err(file("write", &statements))?;
        let input = fs::File::open(&statements).map_err(file("open", &statements))?;
        let mut single = self.command("postgres")?;
        single.arg("--single").arg("-D").arg(&unfinished).arg("postgres").stdin(input);
        process::step(single).await?;
        fs::remove_file(&statements).map_err(file("remove", &statements))?;

        fs::rename(&unfinished, self.cluster()).map_err(file("rename", &unfinished))?;
        info!(data_dir = %self.data_dir.display(), "postgres cluster made");
        Ok(())
    }

    fn server(
        &self,
        settings: &PostgresSettings,
        address: SocketAddr,
    ) -> Result<Command, StartError> {
        let mut command = self.command("postgres")?;
        command.arg("-D").arg(self.cluster());
        for setting in [
            format!("listen_addresses={}", address.ip()),
            format!("port={}", address.port()),
            "unix_socket_directories=".to_owned(),
            format!("max_connections={}", settings.connections_max),
            format!("shared_buffers={}MB", settings.shared_buffers_mib),
            "timezone=UTC".to_owned(),
            "log_timezone=UTC".to_owned(),
        ] {
            command.args(["-c", &setting]);
        }
        Ok(command)
    }
}

/// Ends what is left of an earlier server: we hold the directory's lock, so nobody needs it. Then
/// takes away its pid file, which would stop ours where the pid has been given to somebody else.
async fn end_old_server(cluster: &Path, patience: Duration) -> Result<(), StartError> {
    let pid_file = cluster.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&pid_file) else {
        return Ok(());
    };
    let postmaster = text.lines().next().and_then(|line| line.trim().parse().ok());
    let postmaster = postmaster.and_then(Pid::from_raw);
    let started = Instant::now();
    let mut signal = Some(Signal::INT);
    loop {
        let left = processes_in(cluster);
        if left.is_empty() {
            break;
        }
        if let Some(signal) = signal.take()
            && let Some(pid) = postmaster.filter(|pid| left.contains(pid))
        {
            info!(pid = pid.as_raw_pid(), ?signal, "stopping the postgres of an earlier run");
            if let Err(error) = kill_process(pid, signal) {
                warn!(pid = pid.as_raw_pid(), %error, "could not signal it");
            }
        }
        if started.elapsed() > patience.saturating_mul(2) {
            let data_dir = cluster.to_owned();
            return Err(StartError::InUse { server: SERVER, data_dir });
        }
        if started.elapsed() > patience {
            signal = Some(Signal::QUIT);
        }
        sleep(OLD_SERVER_PAUSE).await;
    }
    match fs::remove_file(&pid_file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file("remove", &pid_file)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Processes whose working directory is `dir`: all those of a cluster.
fn processes_in(dir: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .collect()
}

/// Whether the server has got as far as asking for the password.
async fn accepts(address: SocketAddr, settings: &PostgresSettings) -> bool {
    let body = format!("user\0{}\0database\0{}\0\0", settings.user, settings.database);
    let Ok(length) = u32::try_from(body.len().saturating_add(8)) else {
        return false;
    };
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(&196_608_u32.to_be_bytes()); // protocol 3.0
    message.extend_from_slice(body.as_bytes());
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&message).await?;
        stream.read_u8().await
    };
    // 'R': authentication request; anything else is an error, "starting up" among them.
    matches!(answer.await, Ok(b'R'))
}

fn newest_version() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?;
    versions
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin_dir = entry.path().join("bin");
            bin_dir.join("postgres").is_file().then_some((version, bin_dir))
        })
        .max()
        .map(|(_, bin_dir)| bin_dir)
}

fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}

fn is_plain_name(name: &str) -> bool {
    name.len() <= 60
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::File { server: SERVER, what, path, source }
}
