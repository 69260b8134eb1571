//! A private MQTT broker: mosquitto.
//!
//! In: an address. Out: a broker for clients of this machine that keeps nothing on disk.
//! Never here: topics; any promise: no broker is a link in the chain that keeps readings safe.

use crate::{
    Running, StartError, ports,
    process::{self, Signals, Start},
    user::RunAs,
};
use rustix::process::Signal;
use serde::Deserialize;
use std::{
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tracing::warn;

const SERVER: &str = "mosquitto";
/// Where Debian puts it; often not in the path of ordinary users.
const PROGRAM: &str = "/usr/sbin/mosquitto";
/// Starts tried when a chosen port was taken in the moment between.
const STARTS: u32 = 3;

/// A private MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerSettings {
    /// Directory of its configuration, log and remembered port; created when missing.
    pub data_dir: PathBuf,
    /// Loopback address to listen on, as everybody may connect; with port 0 a free port is chosen
    /// and kept for the next start.
    pub listen: SocketAddr,
    /// The program; Debian's when missing.
    pub program: Option<PathBuf>,
    /// Longest packet taken.
    pub packet_bytes_max: u32,
    /// Messages kept for a client that is slow or away; more are dropped.
    pub queued_messages_max: u32,
    /// Bytes kept for a client that is slow or away; more are dropped.
    pub queued_bytes_max: u64,
    /// How long it may take to be ready, in s.
    pub start_timeout_s: u32,
    /// How long it may take to stop, in s.
    pub stop_timeout_s: u32,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/broker"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            program: None,
            packet_bytes_max: 1 << 20,
            queued_messages_max: 100_000,
            queued_bytes_max: 512 << 20,
            start_timeout_s: 20,
            stop_timeout_s: 5,
        }
    }
}

/// Starts the broker. Ready when this returns; [`Running::url`] is `mqtt://host:port`.
///
/// # Errors
/// When it is not installed or does not start, with the end of its log.
pub async fn start(settings: &BrokerSettings) -> Result<Running, StartError> {
    if !settings.listen.ip().is_loopback() {
        return Err(StartError::Setting {
            server: SERVER,
            name: "listen",
            value: settings.listen.to_string(),
            want: "a loopback address: everybody may connect to this broker",
        });
    }
    let program = settings.program.clone().unwrap_or_else(|| PathBuf::from(PROGRAM));
    if !program.is_file() {
        return Err(StartError::NotInstalled { program: SERVER, package: "mosquitto" });
    }
    let data_dir = std::path::absolute(&settings.data_dir)
        .map_err(file("find data directory", &settings.data_dir))?;
    let run_as = RunAs::choose(SERVER, &["mosquitto", "nobody"])?;
    let mut attempt = 1;
    loop {
        let lock = process::hold(SERVER, &data_dir)?;
        let port = ports::choose(settings.listen, &data_dir)
            .map_err(|source| StartError::Port { server: SERVER, source })?;
        let address = SocketAddr::new(settings.listen.ip(), port);
        let path = data_dir.join("mosquitto.conf");
        fs::write(&path, configuration(settings, address)).map_err(file("write", &path))?;
        let input = fs::File::open(&path).map_err(file("open", &path))?;
        // Read as its input: its user need not be able to enter our directory.
        let mut command = run_as.command(program.as_os_str(), "TERM", Path::new("/"))?;
        command.args([OsString::from("-c"), OsString::from("/dev/stdin")]).stdin(input);
        let start = Start {
            server: SERVER,
            command,
            log: data_dir.join("mosquitto.log"),
            url: format!("mqtt://{address}"),
            signals: Signals {
                polite: Signal::TERM,
                firm: Signal::TERM,
                patience: Duration::from_secs(settings.stop_timeout_s.into()),
            },
            patience: Duration::from_secs(settings.start_timeout_s.into()),
            lock,
        };
        match start.run(async || accepts(address).await).await {
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

fn configuration(settings: &BrokerSettings, address: SocketAddr) -> String {
    let BrokerSettings { packet_bytes_max, queued_messages_max, queued_bytes_max, .. } = settings;
    // 65535 messages in flight is "no limit": the default of 20 makes throughput a function of
    // the consumer's commit time. Persistence would cost much and still lose what it confirmed.
    format!(
        "listener {port} {ip}\n\
         allow_anonymous true\n\
         persistence false\n\
         max_inflight_messages 65535\n\
         max_queued_messages {queued_messages_max}\n\
         max_queued_bytes {queued_bytes_max}\n\
         max_packet_size {packet_bytes_max}\n\
         set_tcp_nodelay true\n\
         connection_messages false\n\
         log_dest stderr\n\
         log_type error\n\
         log_type warning\n\
         log_type notice\n",
        port = address.port(),
        ip = address.ip(),
    )
}

/// Whether a CONNECT is answered with an accepting CONNACK.
async fn accepts(address: SocketAddr) -> bool {
    const CONNECT: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05ready";
    const DISCONNECT: &[u8] = b"\xe0\x00";
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(CONNECT).await?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await?;
        stream.write_all(DISCONNECT).await?;
        io::Result::Ok(connack)
    };
    matches!(answer.await, Ok([0x20, 2, _, 0]))
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::File { server: SERVER, what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_broker_for_everybody_stays_on_this_machine() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 0));
        let error = start(&BrokerSettings { listen, ..Default::default() }).await.unwrap_err();
        assert!(matches!(error, StartError::Setting { name: "listen", .. }), "{error}");
    }
}
