//! A small utility on the shared services: three meters, two accounts, roles of its own.
//!
//! In: the addresses `cargo xtask test` sets. Out: databases of its own, a settings file, a gateway
//! and an ingest worker; a line to either database that can be cut.
//! Never here: what is sent, what must come of it.

use crate::house::{Running, Scratch, ask, sql, tidemark, variable};
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

pub(crate) const KEY: [u8; 16] = [7; 16];
pub(crate) const NWK_S_KEY: [u8; 16] = [8; 16];
pub(crate) const APP_S_KEY: [u8; 16] = [9; 16];
/// The meter that seals its frames; its module names itself by the IMEI.
pub(crate) const SERIAL: u64 = 4_711;
pub(crate) const IMEI: &str = "imei:867512079825846";
/// The meter that speaks CJ/T 188.
pub(crate) const ADDRESS: u64 = 12_030_077_000_001;
/// The LoRaWAN meter.
pub(crate) const DEV_ADDR: u32 = 0x2601_0203;
pub(crate) const LORA_SERIAL: u64 = 4_712;

const HOUSEHOLD: &str = include_str!("../../deploy/schedules/jingmen-household-2011.toml");

pub(crate) struct Rig {
    pub(crate) gateway: Running,
    pub(crate) ingest: Running,
    pub(crate) name: String,
    pub(crate) postgres: Line,
    pub(crate) clickhouse: Line,
    config: PathBuf,
    /// Last to go: the roles have stopped by then.
    _scratch: Scratch,
}

impl Rig {
    pub(crate) fn start(what: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("it_{what}_{}_{number}", std::process::id());
        let scratch = Scratch::new(what);
        let (postgres, postgres_url) = own_database(&name);
        let clickhouse = Line::to(&variable("TIDEMARK_TEST_CLICKHOUSE_URL"));
        let config =
            scratch.write("tidemark.toml", settings(&scratch, &name, &postgres_url, &clickhouse));
        scratch.write("master_key", "07".repeat(32));
        let registry = scratch.write("registry.json", registry().to_string());
        let run = |args: &[&OsStr]| {
            let mut command = tidemark([OsStr::new("--config"), config.as_ref()]);
            command.args(args);
            command
        };
        ask(&mut run(&["migrate".as_ref()])).ended(&[0]);
        let import = ["registry".as_ref(), "import".as_ref(), registry.as_ref()];
        ask(&mut run(&import)).ended(&[0]);
        let role = |role: &str| {
            let log = scratch.path().join(format!("{role}.log"));
            Running::start(&mut run(&[role.as_ref()]), &log)
        };
        let (ingest, gateway) = (role("ingest"), role("coap-gateway"));
        Self { gateway, ingest, name, postgres, clickhouse, config, _scratch: scratch }
    }

    pub(crate) fn tidemark(&self, args: &[&str]) -> Command {
        let mut command = tidemark([OsStr::new("--config"), self.config.as_ref()]);
        command.args(args).env("RUST_LOG", "error");
        command
    }

    /// Rows of our own ClickHouse database, past any cut line.
    pub(crate) fn rows(&self, query: &str) -> Vec<Value> {
        let url = variable("TIDEMARK_TEST_CLICKHOUSE_URL");
        let text = sql(&url, &self.name, &format!("{query} FORMAT JSONEachRow")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Uplinks by how they ended: received, stored, duplicate, rejected.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let names = ["received", "stored", "duplicate", "rejected"];
        let sums = names.map(|name| format!("toString(sum({name})) AS {name}")).join(", ");
        let rows = self.rows(&format!("SELECT {sums} FROM (SELECT * FROM ingest_ledger FINAL)"));
        names.map(|name| rows[0][name].as_str().unwrap().parse().unwrap())
    }

    /// The gateway a network server heard the LoRaWAN meter by: only this rig's.
    pub(crate) fn lora_gateway(&self) -> u64 {
        lora_gateway(&self.name)
    }

    /// The application of this rig's devices.
    pub(crate) fn application_topic(&self, device: &str) -> String {
        format!("application/{}/device/{device}/event/up", self.name)
    }
}

fn lora_gateway(name: &str) -> u64 {
    name.bytes().fold(u64::from(std::process::id()), |eui, byte| {
        eui.wrapping_mul(257).wrapping_add(u64::from(byte))
    })
}

fn settings(scratch: &Scratch, name: &str, postgres_url: &str, clickhouse: &Line) -> String {
    let home = scratch.path().display();
    let broker = variable("TIDEMARK_TEST_MQTT_URL");
    let lora_gateway = lora_gateway(name);
    let clickhouse = clickhouse.at;
    format!(
        "[registry]\nmaster_key_file = \"{home}/master_key\"\nrefresh_interval_s = 1\n\
         [postgres]\nurl = \"{postgres_url}\"\n\
         [clickhouse]\nurl = \"http://{clickhouse}\"\ndatabase = \"{name}\"\n\
         [coap_gateway]\ngateway = \"{name}\"\nlisten = \"127.0.0.1:0\"\nmqtt_url = \"{broker}\"\n\
         spool.dir = \"{home}/gateway\"\n\
         [ingest]\nworker = \"{name}\"\nmqtt_url = \"{broker}\"\nspool.dir = \"{home}/ingest\"\n\
         gateways = [\"{name}\"]\n\
         subscriptions = [\"application/{name}/device/+/event/up\", \
         \"gateway/{lora_gateway:016x}/event/up\"]\n\
         [metrics]\ncoap_gateway_listen = \"127.0.0.1:0\"\ningest_listen = \"127.0.0.1:0\"\n"
    )
}

/// Makes a database in the shared Postgres; the line to it and its address.
fn own_database(name: &str) -> (Line, String) {
    let url = variable("TIDEMARK_TEST_POSTGRES_URL");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sqlx::{AssertSqlSafe, Connection};
        let mut postgres = sqlx::PgConnection::connect(&url).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        sqlx::query(AssertSqlSafe(create)).execute(&mut postgres).await.unwrap();
    });
    let (login, place) = url.rsplit_once('@').unwrap();
    let place = place.split(['/', '?']).next().unwrap();
    let line = Line::to(&format!("http://{place}"));
    let url = format!("{login}@{}/{name}", line.at);
    (line, url)
}

fn registry() -> Value {
    let hex = |key: [u8; 16]| key.map(|byte| format!("{byte:02x}")).concat();
    let schedule = |code: &str, from: &str| {
        json!({
            "code": code, "organisation": "JM", "name": code, "commodity": "water",
            "versions": [{"from": from, "document": "none", "text": HOUSEHOLD}],
        })
    };
    let model = |code: &str, profile: &str, exponent: i8| {
        json!({
            "code": code, "profile": profile, "register_digits": 8,
            "register_exponent": exponent, "register_unit": "m3", "calibre_mm": 15,
            "hourly_max": "3.125",
        })
    };
    let place =
        |code: &str| json!({"code": code, "commodity": "water", "address": "1 Bank Street"});
    let installed = |meter: &str, place: &str| {
        json!({
            "meter": meter, "service_point": place, "from": "2025-02-20T16:00:00Z",
            "opening_count": 0,
        })
    };
    let agreement = |account: &str, place: &str, household: &str, schedule: &str| {
        json!({
            "account": account, "service_point": place, "household": household,
            "schedule": schedule, "class": "household", "from": "2025-03-01",
        })
    };
    let household =
        |code: &str| json!({"code": code, "persons": [{"from": "2025-01-01", "persons": 3}]});
    json!({
        "organisations": [{"code": "JM", "name": "Jingmen Water"}],
        "schedules": [schedule("NOW", "2011-03-01"), schedule("LATER", "2099-01-01")],
        "books": [{
            "code": "B1", "organisation": "JM", "name": "North bank", "read_day": 1,
            "cycles": [{"name": "2025-03", "from": "2025-03-01", "until": "2025-04-01"}],
        }],
        "customers": [{"number": "C1", "name": "A. Reader"}],
        "accounts": [
            {"number": "A1", "customer": "C1", "book": "B1"},
            {"number": "A2", "customer": "C1", "book": "B1"},
        ],
        "households": [household("H1"), household("H2")],
        "service_points": [place("S1"), place("S2"), place("S3")],
        "meter_models": [model("N", "native", -3), model("C", "cjt188-2004", -2)],
        "meters": [
            {"number": "M1", "model": "N", "devices": [format!("serial:{SERIAL}"), IMEI],
             "key": hex(KEY)},
            {"number": "M2", "model": "C", "devices": [format!("cjt188:{ADDRESS:014}")]},
            {"number": "M3", "model": "N", "devices": [format!("serial:{LORA_SERIAL}")],
             "lorawan": {"dev_addr": format!("{DEV_ADDR:08x}"), "nwk_s_key": hex(NWK_S_KEY),
                         "app_s_key": hex(APP_S_KEY)}},
        ],
        "installed_meters": [installed("M1", "S1"), installed("M2", "S2"), installed("M3", "S3")],
        "agreements": [agreement("A1", "S1", "H1", "NOW"), agreement("A2", "S2", "H2", "LATER")],
    })
}

/// A TCP line that can be cut and mended.
pub(crate) struct Line {
    /// Where to connect.
    pub(crate) at: SocketAddr,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(url: &str) -> Self {
        let place = url.strip_prefix("http://").unwrap().trim_end_matches('/');
        let target = place.to_socket_addrs().unwrap().next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (cut, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let line = Self { at, cut: Arc::clone(&cut), open: Arc::clone(&open) };
        thread::spawn(move || {
            for here in listener.incoming().flatten() {
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(there) = TcpStream::connect(target) else { continue };
                let ends = [(&here, &there), (&there, &here)];
                for (from, to) in ends.map(|(a, b)| (a.try_clone(), b.try_clone())) {
                    let (mut from, mut to) = (from.unwrap(), to.unwrap());
                    thread::spawn(move || {
                        io::copy(&mut from, &mut to).ok();
                        to.shutdown(Shutdown::Both).ok();
                    });
                }
                open.lock().unwrap().extend([here, there]);
            }
        });
        line
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}
