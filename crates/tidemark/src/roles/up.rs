//! `tidemark up`: everything on one machine.
//!
//! In: a data folder. Out: private engines, broker and all roles running, each started again when
//! it dies, each child's log in `log/`, and a `tidemark.toml` every other command can use.
//! Never here: what a role does.

use crate::{
    cli::{LogFormat, UpArgs},
    settings::Settings,
    supervise::{Recipe, Supervised},
};
use anyhow::{Context, Result};
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const TEND_EVERY: Duration = Duration::from_millis(50);

/// Runs everything until shutdown.
pub(crate) async fn run(args: &UpArgs, log: LogFormat, shutdown: &CancellationToken) -> Result<()> {
    let house = House::prepare(&args.data, log)?;
    let mut running = Vec::new();
    let ended = house.start_everything(&mut running, shutdown).await;
    if ended.is_ok() {
        while shutdown.run_until_cancelled(tokio::time::sleep(TEND_EVERY)).await.is_some() {
            running.iter_mut().for_each(Supervised::tend);
        }
    }
    // Roles first, then what they stand on: the other way round than they were started.
    while let Some(child) = running.pop() {
        child.stop().await;
    }
    if shutdown.is_cancelled() { Ok(()) } else { ended }
}

/// The data folder and what it holds.
struct House {
    data: PathBuf,
    log: LogFormat,
}

impl House {
    fn prepare(data: &Path, log: LogFormat) -> Result<Self> {
        fs::create_dir_all(data.join("log"))
            .with_context(|| format!("create {}", data.display()))?;
        let data = data.canonicalize().with_context(|| format!("find {}", data.display()))?;
        // Postgres runs as another user and must be able to pass through.
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("open {} for the database user", data.display()))?;
        Ok(Self { data, log })
    }

    async fn start_everything(
        &self,
        running: &mut Vec<Supervised>,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let mut urls = Vec::new();
        for service in ["postgres", "clickhouse", "broker"] {
            let home = self.data.join(service);
            let args = vec![
                "embedded".to_owned(),
                service.to_owned(),
                "--data".to_owned(),
                home.display().to_string(),
            ];
            let said = self.start(service, args, running, shutdown).await?;
            urls.push(fact(&said, "url").with_context(|| format!("{service} has no url"))?);
        }
        let [postgres, clickhouse, broker] = urls.as_slice() else {
            anyhow::bail!("three services, three urls");
        };
        self.ensure_master_key()?;
        let config = self.write_config(postgres, clickhouse, broker)?;
        let settings = Settings::load(Some(&config))?;
        super::migrate::run(&settings).await?;
        let mut facts = vec![("config", config.display().to_string()), ("mqtt", broker.clone())];
        for (role, wanted) in
            [("coap-gateway", &["coap"][..]), ("ingest", &[]), ("console", &["console"])]
        {
            let args = vec!["--config".to_owned(), config.display().to_string(), role.to_owned()];
            let said = self.start(role, args, running, shutdown).await?;
            for name in wanted {
                facts.push((name, fact(&said, name).with_context(|| format!("{role}: {name}"))?));
            }
        }
        super::say_ready("up", &facts);
        Ok(())
    }

    async fn start(
        &self,
        name: &'static str,
        role_args: Vec<String>,
        running: &mut Vec<Supervised>,
        shutdown: &CancellationToken,
    ) -> Result<serde_json::Value> {
        let mut args = match self.log {
            LogFormat::Text => Vec::new(),
            LogFormat::Json => vec!["--log".to_owned(), "json".to_owned()],
        };
        args.extend(role_args);
        let log = self.data.join("log").join(format!("{name}.log"));
        let (child, said) = Supervised::start(Recipe { name, args, log }, shutdown).await?;
        tracing::info!(role = name, "up");
        running.push(child);
        Ok(said)
    }

    /// The key that encrypts meter keys at rest: made once, readable by us only.
    fn ensure_master_key(&self) -> Result<()> {
        let path = self.data.join("master_key");
        if path.exists() {
            return Ok(());
        }
        let mut random = [0_u8; 32];
        fs::File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut random))
            .context("read randomness for the master key")?;
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        write_private(&path, &hex)
    }

    /// Writes `tidemark.toml`. Ports of an earlier run are kept where they are still free.
    fn write_config(&self, postgres: &str, clickhouse: &str, broker: &str) -> Result<PathBuf> {
        let path = self.data.join("tidemark.toml");
        let before = Settings::load(Some(&path).filter(|path| path.exists()).map(PathBuf::as_path));
        let before = before.ok();
        let coap = free_udp(before.as_ref().map(|b| b.coap_gateway.listen))?;
        let console = free_tcp(before.as_ref().map(|b| b.console.listen))?;
        let gateway_metrics =
            free_tcp(before.as_ref().and_then(|b| b.metrics.coap_gateway_listen))?;
        let ingest_metrics = free_tcp(before.as_ref().and_then(|b| b.metrics.ingest_listen))?;
        let data = self.data.display();
        let text = format!(
            "# Written by `tidemark up` at every start; addresses of the embedded services.\n\
             [registry]\n\
             master_key_file = \"{data}/master_key\"\n\n\
             [postgres]\n\
             url = \"{postgres}\"\n\n\
             [clickhouse]\n\
             url = \"{clickhouse}\"\n\n\
             [coap_gateway]\n\
             listen = \"{coap}\"\n\
             mqtt_url = \"{broker}\"\n\
             spool.dir = \"{data}/spool/gateway-1\"\n\n\
             [ingest]\n\
             mqtt_url = \"{broker}\"\n\
             spool.dir = \"{data}/spool/ingest-1\"\n\n\
             [console]\n\
             listen = \"{console}\"\n\n\
             [metrics]\n\
             coap_gateway_listen = \"{gateway_metrics}\"\n\
             ingest_listen = \"{ingest_metrics}\"\n"
        );
        write_private(&path, &text)?;
        Ok(path)
    }
}

/// Writes a file only we may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let staging = path.with_extension("new");
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&staging)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .with_context(|| format!("write {}", staging.display()))?;
    fs::rename(&staging, path).with_context(|| format!("write {}", path.display()))
}

fn fact(said: &serde_json::Value, name: &str) -> Option<String> {
    said.get(name).and_then(serde_json::Value::as_str).map(str::to_owned)
}

/// `wanted` where it is free, else any free port on the loopback.
fn free_tcp(wanted: Option<SocketAddr>) -> Result<SocketAddr> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = wanted
        .and_then(|wanted| TcpListener::bind(wanted).ok())
        .map_or_else(|| TcpListener::bind(any), Ok)
        .context("find a free TCP port")?;
    listener.local_addr().context("the free port")
}

fn free_udp(wanted: Option<SocketAddr>) -> Result<SocketAddr> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = wanted
        .filter(|wanted| wanted.ip().is_loopback())
        .and_then(|wanted| UdpSocket::bind(wanted).ok())
        .map_or_else(|| UdpSocket::bind(any), Ok)
        .context("find a free UDP port")?;
    socket.local_addr().context("the free port")
}
