//! The store on a real server: `TIDEMARK_TEST_CLICKHOUSE_URL`. Every test has its own database.
//!
//! In: batches. Out: what comes back, before and after merges, once and repeated.
//! Never here: how the server was started (`cargo xtask test` does that).

#![expect(clippy::unwrap_used, reason = "a step that fails, fails the test")]

use chrono::{DateTime, TimeDelta, Utc};
use model::{
    DeviceKey, EventKind, Measure, MeterEvent, MeterId, ReadQuality, Register, RegisterValue,
    RuleSet, Unit, VeeRule, Verdict,
};
use store_clickhouse::{
    ClickhouseSettings, Counts, DeadLetter, DeadLetterFilter, LoadBatch, MigrateError, Position,
    RawFilter, RawUplink, Store, StoredEvent, StoredRead,
};

const OFFSET_MINUTES: i32 = 480;

fn url() -> String {
    std::env::var("TIDEMARK_TEST_CLICKHOUSE_URL").expect(
        "TIDEMARK_TEST_CLICKHOUSE_URL is not set: run `cargo xtask test`, which starts the services",
    )
}

fn client(database: &str) -> clickhouse::Client {
    clickhouse::Client::default().with_url(url()).with_database(database)
}

/// A store on its own, fresh, migrated database.
async fn store(name: &str) -> Store {
    let database = format!("store_{name}_{}", std::process::id());
    let drop = format!("DROP DATABASE IF EXISTS {database} SYNC");
    client("default").query(&drop).execute().await.unwrap();
    let settings = ClickhouseSettings { url: url(), database, ..Default::default() };
    let store = Store::new(&settings).unwrap();
    store.migrate(OFFSET_MINUTES).await.unwrap();
    store
}

async fn drop_database(store: Store) {
    let drop = format!("DROP DATABASE {} SYNC", store.database());
    client("default").query(&drop).execute().await.unwrap();
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn read(meter: u32, measured_at: &str, count: i64, stored_at: &str, sequence: u64) -> StoredRead {
    StoredRead {
        meter: MeterId::new(meter),
        register: Register::VOLUME,
        measured_at: at(measured_at),
        value: RegisterValue::new(count, -3, Unit::CubicMetre),
        quality: ReadQuality::Actual,
        verdict: Verdict::Accepted { flags: RuleSet::EMPTY },
        received_at: at(stored_at),
        stored_at: at(stored_at),
        codec: "native".into(),
        codec_version: 1,
        stream: "gw-1".into(),
        epoch: 1,
        sequence,
    }
}

fn held(read: StoredRead) -> StoredRead {
    StoredRead { verdict: Verdict::Held { failed: RuleSet::EMPTY.with(VeeRule::Spike) }, ..read }
}

fn batch(first_sequence: u64, reads: Vec<StoredRead>) -> LoadBatch {
    let received = u64::try_from(reads.len()).unwrap();
    LoadBatch {
        stream: "gw-1".into(),
        epoch: 1,
        first_sequence,
        next_sequence: first_sequence + received,
        stored_at: reads.first().map_or(DateTime::UNIX_EPOCH, |read| read.stored_at),
        reads,
        raw: vec![],
        events: vec![],
        dead_letters: vec![],
        counts: Counts { received, stored: received, ..Counts::default() },
    }
}

const T0: &str = "2026-03-01T00:00:05Z";
const T1: &str = "2026-03-01T00:01:00Z";
const T2: &str = "2026-03-02T00:00:00Z";

#[tokio::test]
async fn migrating_again_or_by_two_processes_changes_nothing() {
    let store = store("migrate").await;
    store.migrate(OFFSET_MINUTES).await.unwrap();
    let (one, two) = tokio::join!(store.migrate(OFFSET_MINUTES), store.migrate(OFFSET_MINUTES));
    one.and(two).unwrap();
    let error = store.migrate(0).await.unwrap_err();
    assert!(matches!(error, MigrateError::Changed { number: 3, .. }), "{error}");
    drop_database(store).await;
}

#[tokio::test]
async fn a_batch_comes_back_as_it_went_in() {
    let store = store("batch").await;
    assert_eq!(store.position("gw-1").await.unwrap(), None);
    let reads = vec![
        read(1, "2026-02-28T16:00:00Z", 1_234, T0, 10),
        held(StoredRead {
            register: Register::of(Measure::EnergyImport).tariff(2),
            quality: ReadQuality::Suspect,
            ..read(2, "2026-03-01T00:00:00Z", -5, T0, 11)
        }),
    ];
    let raw = RawUplink {
        meter: Some(MeterId::new(1)),
        device: Some(DeviceKey::DevEui(0x0102)),
        network: "lorawan_server".into(),
        envelope: vec![0, 1, 255, b'\n', b'\n', 13],
        received_at: at("2026-03-01T00:00:04.321Z"),
        gateway: Some(u64::MAX),
        rssi_dbm: Some(-120),
        snr_tenths: None,
        stream: "gw-1".into(),
        epoch: 1,
        sequence: 10,
        stored_at: Utc::now_for_tests(),
    };
    let unknown = RawUplink { meter: None, device: None, sequence: 12, ..raw.clone() };
    let event = StoredEvent {
        meter: MeterId::new(1),
        event: MeterEvent { kind: EventKind::BatteryLow, at: at(T0), detail: 0x8000 },
        received_at: at(T0),
        stored_at: at(T0),
        stream: "gw-1".into(),
        epoch: 1,
        sequence: 10,
    };
    let letter = DeadLetter {
        reason: "unknown_device".into(),
        message: "no meter 'x' here".to_owned(),
        offset: Some(3),
        raw: (0..=255).collect(),
        source: "application/1/device/2/event/up".to_owned(),
        device: Some(DeviceKey::Serial(4711)),
        codec: "".into(),
        codec_version: 0,
        received_at: at("2026-03-01T00:00:04.321Z"),
        stored_at: at(T0),
        stream: "gw-1".into(),
        epoch: 1,
        sequence: 12,
    };
    let batch = LoadBatch {
        raw: vec![raw.clone(), unknown.clone()],
        events: vec![event],
        dead_letters: vec![letter.clone()],
        next_sequence: 13,
        counts: Counts { received: 3, stored: 2, duplicate: 0, rejected: 1 },
        ..batch(10, reads.clone())
    };
    let loaded = store.load(&batch).await.unwrap();
    assert_eq!((loaded.reads, loaded.raw, loaded.events, loaded.dead_letters), (2, 2, 1, 1));

    let keys: Vec<_> = reads.iter().map(StoredRead::key).collect();
    assert_eq!(store.existing_reads(&keys).await.unwrap(), reads);
    assert_eq!(store.missing_reads(&reads).await.unwrap(), 0);
    assert_eq!(store.missing_reads(&[read(9, T0, 0, T0, 1), reads[0].clone()]).await.unwrap(), 1);
    assert_eq!(
        store.position("gw-1").await.unwrap(),
        Some(Position { epoch: 1, next_sequence: 13 })
    );
    assert_eq!(store.positions().await.unwrap().len(), 1);

    let by_meter = RawFilter::Meter {
        meter: MeterId::new(1),
        from: at("2026-03-01T00:00:00Z"),
        until: at(T1),
    };
    assert_eq!(store.raw_uplinks(&by_meter, 10).await.unwrap(), vec![raw.clone()]);
    let by_stream = RawFilter::Stream { stream: "gw-1".into(), epoch: 1, sequences: 10..13 };
    assert_eq!(store.raw_uplinks(&by_stream, 10).await.unwrap(), vec![raw, unknown]);

    let open = DeadLetterFilter { replayed: Some(false), ..Default::default() };
    let found = store.dead_letters(&open).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].letter, found[0].replayed_at), (&letter, None));
    store.mark_replayed(&[letter.key()], at(T1)).await.unwrap();
    assert_eq!(store.dead_letters(&open).await.unwrap(), vec![]);
    let all = DeadLetterFilter { reason: Some("unknown_device".to_owned()), ..Default::default() };
    assert_eq!(store.dead_letters(&all).await.unwrap()[0].replayed_at, Some(at(T1)));

    assert_eq!(store.refusals().await.unwrap(), [("unknown_device".to_owned(), 1)]);
    let totals = store.totals().await.unwrap();
    assert_eq!(totals.counts, batch.counts);
    assert_eq!((totals.batches, totals.last_stored_at), (1, Some(at(T0))));
    let rows = store.row_totals().await.unwrap();
    assert_eq!((rows.reads, rows.accepted, rows.held, rows.refused), (2, 1, 1, 0));
    assert_eq!((rows.events, rows.dead_letters, rows.dead_letters_open), (1, 1, 0));
    let activity = store.activity(at("2026-03-01T00:00:00Z")).await.unwrap();
    assert_eq!((activity.len(), activity[0].minute), (1, at("2026-03-01T00:00:00Z")));
    drop_database(store).await;
}

/// The wall clock, where the server's own clock decides (retention).
trait NowForTests {
    fn now_for_tests() -> DateTime<Utc>;
}

impl NowForTests for Utc {
    fn now_for_tests() -> DateTime<Utc> {
        let now = model::clock::Clock::Wall.now();
        DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap()
    }
}

#[tokio::test]
async fn loading_a_batch_again_changes_nothing() {
    let store = store("again").await;
    let first = batch(
        0,
        vec![
            read(1, "2026-02-28T16:00:00Z", 10, T0, 0),
            read(1, "2026-02-28T17:00:00Z", 11, T0, 1),
        ],
    );
    let later = |batch: &LoadBatch, stored_at: &str| {
        let mut batch = batch.clone();
        batch.stored_at = at(stored_at);
        batch.reads.iter_mut().for_each(|read| read.stored_at = at(stored_at));
        batch
    };
    store.load(&first).await.unwrap();
    store.load(&first).await.unwrap();
    store.load(&later(&first, T2)).await.unwrap();

    let meter = MeterId::new(1);
    let between = || store.reads_between(meter, at("2026-02-01T00:00:00Z"), at(T2), 10);
    assert_eq!(between().await.unwrap(), first.reads);
    assert_eq!(store.totals().await.unwrap().counts, first.counts);
    for table in ["reads", "reads_daily", "ingest_ledger"] {
        let optimize = format!("OPTIMIZE TABLE {table} FINAL");
        client(store.database()).query(&optimize).execute().await.unwrap();
    }
    assert_eq!(between().await.unwrap(), first.reads);
    assert_eq!(store.totals().await.unwrap().counts, first.counts);
    drop_database(store).await;
}

#[tokio::test]
async fn a_later_value_for_the_same_instant_never_changes_an_answer() {
    let store = store("first_stays").await;
    let midnight = at("2026-02-28T16:00:00Z");
    let meters = [1, 2, 3].map(MeterId::new);
    let ask = || {
        store.boundary_reads(&meters, &[Register::VOLUME], midnight, TimeDelta::hours(48), at(T2))
    };
    store
        .load(&batch(
            0,
            vec![
                read(1, "2026-02-28T16:00:00Z", 10, T0, 0),
                held(read(2, "2026-02-28T16:00:00Z", 20, T0, 1)),
                read(2, "2026-02-28T15:00:00Z", 19, T0, 2),
                // two of one key in one batch: the first counts
                read(3, "2026-02-28T16:00:00Z", 30, T0, 3),
                read(3, "2026-02-28T16:00:00Z", 31, T0, 3),
            ],
        ))
        .await
        .unwrap();
    let before = ask().await.unwrap();
    let counts: Vec<_> = before.iter().map(|b| (b.meter.number(), b.read.value.count)).collect();
    assert_eq!(counts, [(1, 10), (2, 19), (3, 30)]);

    // The same instants again with other values, one even accepted that was held.
    store
        .load(&batch(
            5,
            vec![
                read(1, "2026-02-28T16:00:00Z", 99, T1, 5),
                read(2, "2026-02-28T16:00:00Z", 99, T1, 6),
                read(3, "2026-02-28T16:00:00Z", 99, T1, 7),
            ],
        ))
        .await
        .unwrap();
    assert_eq!(ask().await.unwrap(), before);
    client(store.database()).query("OPTIMIZE TABLE reads FINAL").execute().await.unwrap();
    assert_eq!(ask().await.unwrap(), before);
    drop_database(store).await;
}

#[tokio::test]
async fn a_boundary_keeps_its_edges_and_its_cutoff() {
    let store = store("edges").await;
    store
        .load(&batch(
            0,
            vec![
                read(1, "2026-02-28T16:00:00Z", 10, T0, 0), // on the boundary: inside
                read(2, "2026-02-28T16:00:01Z", 20, T0, 1), // a second after: outside
                read(3, "2026-02-28T15:00:00Z", 30, T0, 2), // as old as the tolerance: outside
                read(4, "2026-02-28T15:00:01Z", 40, T0, 3), // a second younger: inside
                read(5, "2026-02-28T15:30:00Z", 50, T0, 4), // hidden later by a late one
            ],
        ))
        .await
        .unwrap();
    store.load(&batch(5, vec![read(5, "2026-02-28T15:59:00Z", 51, T2, 5)])).await.unwrap();
    let meters: Vec<_> = (1..=5).map(MeterId::new).collect();
    let cases: [(&str, &[(u32, i64)]); 3] = [
        (T1, &[(1, 10), (4, 40), (5, 50)]),
        (T2, &[(1, 10), (4, 40), (5, 51)]),
        ("2026-03-01T00:00:04Z", &[]),
    ];
    for (stored_until, expected) in cases {
        let found = store
            .boundary_reads(
                &meters,
                &[Register::VOLUME],
                at("2026-02-28T16:00:00Z"),
                TimeDelta::hours(1),
                at(stored_until),
            )
            .await
            .unwrap();
        let found: Vec<_> = found.iter().map(|b| (b.meter.number(), b.read.value.count)).collect();
        assert_eq!(found, expected, "stored until {stored_until}");
    }
    drop_database(store).await;
}

#[tokio::test]
async fn the_rollup_answers_a_local_midnight_like_the_reads_themselves() {
    let store = store("rollup").await;
    // 40 meters, a read about every 7 h over ten days with shifting minutes, some held, loaded in
    // three batches out of order.
    let mut reads = Vec::new();
    for meter in 1_u32..=40 {
        for n in 0..34_u32 {
            let shift = i64::from((meter * 7 + n * 13) % 60);
            let when = at("2026-02-20T00:00:00Z")
                + TimeDelta::hours(i64::from(n) * 7)
                + TimeDelta::minutes(shift);
            let sequence = u64::from(meter * 100 + n);
            let read = read(meter, &when.to_rfc3339(), i64::from(n), T0, sequence);
            reads.push(if (meter + n).is_multiple_of(11) { held(read) } else { read });
        }
        // Exactly on a midnight of the utility: closes the day before.
        reads.push(read(meter, "2026-02-24T16:00:00Z", 1_000, T0, u64::from(meter * 100 + 90)));
    }
    reads.sort_by_key(|read| (read.sequence % 3, read.meter));
    for (n, chunk) in reads.chunks(500).enumerate() {
        store.load(&batch(u64::try_from(n).unwrap() * 500, chunk.to_vec())).await.unwrap();
    }
    let meters: Vec<_> = (1..=41).map(MeterId::new).collect();
    let registers = [Register::VOLUME];
    for day in 21..=29 {
        let midnight = at("2026-02-01T16:00:00Z") + TimeDelta::days(day - 1);
        for hours in [1, 24, 25, 72] {
            let tolerance = TimeDelta::hours(hours);
            let raw = store
                .boundary_reads(&meters, &registers, midnight, tolerance, at(T1))
                .await
                .unwrap();
            let rolled = store
                .boundary_reads_by_day(&meters, &registers, midnight, tolerance, at(T1))
                .await
                .unwrap();
            assert_eq!(raw, rolled, "midnight {midnight}, tolerance {hours} h");
        }
    }
    let latest = store.latest_reads(&meters).await.unwrap();
    assert_eq!(latest.len(), 40);
    assert!(latest.iter().all(|read| read.read.value.count >= 32));
    drop_database(store).await;
}

#[tokio::test]
async fn reads_of_many_months_load_as_one_batch() {
    let store = store("months").await;
    let reads: Vec<_> = (0..150_u32)
        .map(|n| {
            let when = at("2014-01-15T00:00:00Z") + TimeDelta::days(i64::from(n) * 30);
            read(1, &when.to_rfc3339(), i64::from(n), T0, u64::from(n))
        })
        .collect();
    store.load(&batch(0, reads.clone())).await.unwrap();
    assert_eq!(store.missing_reads(&reads).await.unwrap(), 0);
    drop_database(store).await;
}

#[tokio::test]
async fn what_cannot_be_loaded_is_refused_for_good_and_what_may_pass_is_not() {
    let store = store("refused").await;
    let mut unbalanced = batch(0, vec![read(1, T0, 1, T0, 0)]);
    unbalanced.counts.rejected = 1;
    assert!(!store.load(&unbalanced).await.unwrap_err().is_retriable());

    let absurd = batch(0, vec![read(1, "2200-01-01T00:00:00Z", 1, T0, 0)]);
    assert!(!store.load(&absurd).await.unwrap_err().is_retriable());
    assert_eq!(store.position("gw-1").await.unwrap(), None);

    let nobody = ClickhouseSettings { url: "http://127.0.0.1:9".to_owned(), ..Default::default() };
    let away = Store::new(&nobody).unwrap();
    let good = batch(0, vec![read(1, T0, 1, T0, 0)]);
    assert!(away.load(&good).await.unwrap_err().is_retriable());

    let drop = format!("DROP DATABASE {} SYNC", store.database());
    client("default").query(&drop).execute().await.unwrap();
    assert!(!store.load(&good).await.unwrap_err().is_retriable());
}
