//! A small utility in two databases of its own.
//!
//! In: the servers the test runner started. Out: stores with a registry and reads in them.
//! Never here: what is tested.

use billrun::{BillrunSettings, RunError, RunReport, RunRequest};
use chrono::{DateTime, TimeDelta, Utc};
use model::{
    MeterId, ReadQuality, Register, RegisterValue, RuleSet, Unit, VeeRule, Verdict, clock::Clock,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use store_clickhouse::{ClickhouseSettings, Counts, LoadBatch, StoredRead};
use store_postgres::{Cycle, MasterKey, PostgresSettings, RegistryFile};
use tokio_util::sync::CancellationToken;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Both stores of one test.
pub(crate) struct Utility {
    pub(crate) money: store_postgres::Store,
    pub(crate) reads: store_clickhouse::Store,
    meters: BTreeMap<String, MeterId>,
    sequence: AtomicU64,
}

fn server(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, which starts the services")
    })
}

/// Runs `test` on databases of its own; they are dropped afterwards, also when it fails.
pub(crate) fn with_utility<T: Future<Output = ()>>(test: impl FnOnce(Utility) -> T) {
    let postgres = server("TIDEMARK_TEST_POSTGRES_URL");
    let clickhouse = server("TIDEMARK_TEST_CLICKHOUSE_URL");
    let name =
        format!("billrun_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let engine = clickhouse::Client::default().with_url(&clickhouse);
    let clean = async || {
        let mut admin = PgConnection::connect(&postgres).await.expect("connect to the test server");
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        engine.query(&format!("DROP DATABASE IF EXISTS {name} SYNC")).execute().await.unwrap();
        admin
    };
    runtime.block_on(async {
        let mut admin = clean().await;
        let sql = format!("CREATE DATABASE {name}");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    });
    let (base, _) = postgres.rsplit_once('/').expect("the server's address names a database");
    let money = PostgresSettings {
        url: format!("{base}/{name}"),
        max_connections: 6,
        ..Default::default()
    };
    let reads = ClickhouseSettings {
        url: clickhouse.clone(),
        database: name.clone(),
        ..Default::default()
    };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async { test(utility(&money, &reads).await).await });
    }));
    runtime.block_on(clean());
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn utility(money: &PostgresSettings, reads: &ClickhouseSettings) -> Utility {
    let money = store_postgres::Store::connect(money).await.unwrap();
    money.migrate().await.unwrap();
    let master = MasterKey::new("test-1", &[0x5A; 32]).unwrap();
    money.import(&registry(), &master, at("2026-01-01 00:00")).await.unwrap();
    let reads = store_clickhouse::Store::new(reads).unwrap();
    reads.migrate(480).await.unwrap();
    let mut meters = BTreeMap::new();
    for cycle in money.cycles().await.unwrap() {
        for account in money.billable(&cycle, None, 1_000).await.unwrap() {
            for meter in account.agreements.iter().flat_map(|agreement| &agreement.meters) {
                meters.insert(meter.number.clone(), meter.meter);
            }
        }
    }
    let utility = Utility { money, reads, meters, sequence: AtomicU64::new(0) };
    utility.load_january().await;
    utility
}

/// A local time of the utility, UTC+8: `2026-02-01 00:00`.
pub(crate) fn at(local: &str) -> DateTime<Utc> {
    let local = chrono::NaiveDateTime::parse_from_str(local, "%Y-%m-%d %H:%M").unwrap();
    local.and_utc() - TimeDelta::hours(8)
}

/// A request for one book and cycle, with a cutoff.
pub(crate) fn request(cycle: &str, cutoff: &str) -> RunRequest {
    RunRequest {
        books: vec!["B1".to_owned()],
        cycle: cycle.to_owned(),
        cutoff: Some(at(cutoff)),
        dry_run: false,
    }
}

/// Three accounts per page, so that a run has several.
pub(crate) const SETTINGS: BillrunSettings =
    BillrunSettings { read_tolerance_h: 24, accounts_per_chunk: 3, chunks_ahead: 2 };

impl Utility {
    pub(crate) async fn run(&self, request: &RunRequest) -> Result<RunReport, RunError> {
        self.run_until(request, &CancellationToken::new(), &|_| {}).await
    }

    pub(crate) async fn run_until(
        &self,
        request: &RunRequest,
        stop: &CancellationToken,
        tell: billrun::Tell<'_>,
    ) -> Result<RunReport, RunError> {
        let clock = Clock::Fixed(at("2026-03-10 00:00"));
        billrun::run(request, &SETTINGS, &self.money, &self.reads, clock, tell, stop).await
    }

    pub(crate) async fn cycle(&self, name: &str) -> Cycle {
        self.money.cycle("B1", name).await.unwrap().unwrap()
    }

    /// Bill ids and totals by account number.
    pub(crate) async fn bills(&self, cycle: &str) -> BTreeMap<String, (String, String)> {
        let cycle = self.cycle(cycle).await;
        let bills = self.money.bills(&cycle, None, 1_000).await.unwrap();
        bills
            .into_iter()
            .map(|bill| (bill.account_number, (bill.id.to_string(), bill.total.to_string())))
            .collect()
    }

    /// Stores one accepted read, in litres.
    pub(crate) async fn read(&self, meter: &str, measured: &str, litres: i64, stored: &str) {
        let flags = RuleSet::EMPTY;
        self.judged(meter, measured, litres, stored, Verdict::Accepted { flags }).await;
    }

    async fn judged(&self, meter: &str, measured: &str, litres: i64, stored: &str, v: Verdict) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let read = StoredRead {
            meter: self.meters[meter],
            register: Register::VOLUME,
            measured_at: at(measured),
            value: RegisterValue::new(litres, -3, Unit::CubicMetre),
            quality: ReadQuality::Actual,
            verdict: v,
            received_at: at(stored),
            stored_at: at(stored),
            codec: "native".into(),
            codec_version: 1,
            stream: "gw-1".into(),
            epoch: 1,
            sequence,
        };
        let batch = LoadBatch {
            stream: "gw-1".into(),
            epoch: 1,
            first_sequence: sequence,
            next_sequence: sequence + 1,
            stored_at: read.stored_at,
            reads: vec![read],
            raw: vec![],
            events: vec![],
            dead_letters: vec![],
            counts: Counts { received: 1, stored: 1, ..Counts::default() },
        };
        self.reads.load(&batch).await.unwrap();
    }

    async fn load_january(&self) {
        let (begin, end) = ("2025-12-31 23:00", "2026-01-31 22:00");
        for (meter, from, to) in [
            ("M1", 1_000, 19_000),      // 18 m3
            ("M2", 99_998_000, 13_000), // rolls over: 15 m3
            ("M4", 0, 10_000),          // times 2
            ("M11", 0, 5_000),          // no tariff
            ("M12", 0, 9_000_000),      // more than the meter can pass
        ] {
            self.read(meter, begin, from, "2026-01-01 00:10").await;
            self.read(meter, end, to, "2026-02-01 00:10").await;
        }
        // Swapped on the 15th: 40 - 30 and 8 - 1.
        self.read("M3a", begin, 30_000, "2026-01-01 00:10").await;
        self.read("M3b", end, 8_000, "2026-02-01 00:10").await;
        // Opens on the 11th with a new meter.
        self.read("M9", end, 7_000, "2026-02-01 00:10").await;
        // The end is missing, or held.
        self.read("M5", begin, 0, "2026-01-01 00:10").await;
        self.read("M6", begin, 0, "2026-01-01 00:10").await;
        let failed = RuleSet::EMPTY.with(VeeRule::Spike);
        self.judged("M6", end, 6_000, "2026-02-01 00:10", Verdict::Held { failed }).await;
    }
}

/// Household blocks by the year (20 and 25 m3, so that February depends on January), a shop with a
/// capacity part, one agreement whose tariff begins too late.
fn registry() -> RegistryFile {
    let mut text = String::from(
        r#"
[[organisations]]
code = "JM"
name = "Water"

[[schedules]]
code = "HOME"
organisation = "JM"
name = "Household"
commodity = "water"
[[schedules.versions]]
from = "2011-03-01"
document = "test"
text = '''
name = "home"
[[version]]
valid_from = "2011-03-01"
document = "test"
source = "golden W3, by the year"
usage_unit = "m3"
window = "year"
[[version.item]]
id = "water"
ledger_account = "revenue.water"
label_zh = "水费"
label_en = "Water"
rule = "usage"
block = [{ until = "20", price = "1.62" }, { until = "25", price = "2.43" }, { price = "3.24" }]
'''

[[schedules]]
code = "SHOP"
organisation = "JM"
name = "Shops"
commodity = "water"
[[schedules.versions]]
from = "2011-03-01"
document = "test"
text = '''
name = "shop"
[[version]]
valid_from = "2011-03-01"
document = "test"
source = "made up"
usage_unit = "m3"
[[version.item]]
id = "capacity"
ledger_account = "revenue.capacity"
label_zh = "容量水费"
label_en = "Capacity"
rule = "standing"
per = "month"
calibre = [{ mm = 15, price = "6.00" }]
[[version.item]]
id = "water"
ledger_account = "revenue.water"
label_zh = "水费"
label_en = "Water"
rule = "usage"
price = "1.80"
'''

[[schedules]]
code = "LATE"
organisation = "JM"
name = "Begins too late"
commodity = "water"
[[schedules.versions]]
from = "2026-01-02"
document = "test"
text = '''
name = "late"
[[version]]
valid_from = "2026-01-02"
document = "test"
source = "made up"
usage_unit = "m3"
[[version.item]]
id = "water"
ledger_account = "revenue.water"
label_zh = "水费"
label_en = "Water"
rule = "usage"
price = "1.00"
'''

[[books]]
code = "B1"
organisation = "JM"
name = "North bank"
read_day = 1
cycles = [
    { name = "2026-01", from = "2026-01-01", until = "2026-02-01" },
    { name = "2026-02", from = "2026-02-01", until = "2026-03-01" },
]

[[customers]]
number = "C1"
name = "A. Reader"

[[meter_models]]
code = "AQUA"
profile = "native"
register_digits = 8
register_exponent = -3
register_unit = "m3"
calibre_mm = 15
hourly_max = "3.125"
"#,
    );
    // Account, schedule, agreement from, until; meters with place, from, until, counts, multiplier.
    for n in 1..=12 {
        text.push_str(&format!(
            "\n[[accounts]]\nnumber = \"A{n:02}\"\ncustomer = \"C1\"\nbook = \"B1\"\n\
             [[service_points]]\ncode = \"S{n}\"\ncommodity = \"water\"\naddress = \"{n} Bank St\"\n"
        ));
        let (from, until) = match n {
            7 => ("2020-01-01", "until = \"2025-12-31\"\n"),
            9 => ("2026-01-11", ""),
            _ => ("2020-01-01", ""),
        };
        let schedule = match n {
            4 => "SHOP",
            11 => "LATE",
            _ => "HOME",
        };
        if n != 8 {
            text.push_str(&format!(
                "[[agreements]]\naccount = \"A{n:02}\"\nservice_point = \"S{n}\"\n\
                 schedule = \"{schedule}\"\nclass = \"household\"\nfrom = \"{from}\"\n{until}"
            ));
        }
    }
    let old = "2019-12-31T16:00:00Z";
    let swap = "2026-01-15T02:00:00Z";
    for (number, place, from, rest) in [
        ("M1", 1, old, ""),
        ("M2", 2, old, ""),
        ("M3a", 3, old, "until = \"2026-01-15T02:00:00Z\"\nclosing_count = 40000\n"),
        ("M3b", 3, swap, "opening_count = 1000\n"),
        ("M4", 4, old, "multiplier = \"2\"\n"),
        ("M5", 5, old, ""),
        ("M6", 6, old, ""),
        ("M7", 7, old, ""),
        ("M9", 9, "2026-01-10T16:00:00Z", ""),
        ("M11", 11, old, ""),
        ("M12", 12, old, ""),
    ] {
        let serial: u32 = number.bytes().fold(0, |n, byte| n * 31 + u32::from(byte));
        let opening = if rest.contains("opening") { "" } else { "opening_count = 0\n" };
        text.push_str(&format!(
            "\n[[meters]]\nnumber = \"{number}\"\nmodel = \"AQUA\"\ndevices = [\"serial:{serial}\"]\n\
             [[installed_meters]]\nmeter = \"{number}\"\nservice_point = \"S{place}\"\n\
             from = \"{from}\"\n{opening}{rest}"
        ));
    }
    RegistryFile::from_toml(&text).unwrap()
}
