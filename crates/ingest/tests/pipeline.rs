//! The thinking part of ingest over a store made of a map: conservation, replays, splits.
//!
//! In: any mix of uplinks. Out: the books, which must not depend on batches or crashes.
//! Never here: a broker, a database, a clock.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a step that fails, fails the test"
)]

use chrono::{DateTime, TimeDelta, Utc};
use ingest::{
    ForeignMessage, Memory, Provenance, Reach, Record, Registers,
    pipeline::{self, Lot},
};
use model::{
    DeviceKey, InstalledMeter, InstantPeriod, MeterEntry, MeterId, Register, RegisterRead,
    RegistrySnapshot, ServicePointId, Unit, Verdict,
};
use proptest::prelude::*;
use rust_decimal::Decimal;
use std::{collections::BTreeMap, sync::Arc};
use store_clickhouse::{Counts, LoadBatch, ReadKey, StoredRead};
use uplink::{
    Envelope, Network, Radio,
    codec::native::{self, Series},
};
use vee::Rules;

const REACH: Reach = Reach { uplinks: 50, seconds: 900 };
const METERS: u64 = 3;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn start() -> DateTime<Utc> {
    at("2026-03-01T00:00:00Z")
}

fn registry() -> RegistrySnapshot {
    let meters = (1..=METERS).map(|serial| MeterEntry {
        meter: MeterId::new(u32::try_from(serial).unwrap()),
        devices: vec![DeviceKey::Serial(serial), DeviceKey::DevEui(serial)],
        profile: "native".to_owned(),
        key: None,
        lorawan: None,
        register_digits: 8,
        register_exponent: -3,
        register_unit: Unit::CubicMetre,
        hourly_max: Decimal::from(5),
        pulse_weight: None,
        installed: vec![InstalledMeter {
            service_point: ServicePointId::new(1),
            during: InstantPeriod::new(at("2026-01-01T00:00:00Z"), None).unwrap(),
        }],
    });
    RegistrySnapshot::new(meters.collect()).unwrap()
}

/// What one uplink of the mix is.
#[derive(Debug, Clone)]
enum Sent {
    /// Reads of one meter: from this hour on, these counts of litres.
    Reads { serial: u64, hour: u8, counts: Vec<i64>, network: Network, counter: u32 },
    /// The same bytes as an earlier uplink of the mix.
    Again { earlier: prop::sample::Index },
    /// A frame with a flipped bit.
    Corrupt,
    /// Bytes that are no envelope.
    Garbage(Vec<u8>),
    /// A message no transport could read.
    Foreign,
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let network = prop_oneof![Just(Network::NbIot), Just(Network::LorawanServer)];
    let counts = proptest::collection::vec(0i64..30_000, 1..4);
    prop_oneof![
        8 => (1..=METERS + 1, 0u8..30, counts, network, 0u32..1000).prop_map(
            |(serial, hour, counts, network, counter)| Sent::Reads { serial, hour, counts, network, counter }
        ),
        3 => any::<prop::sample::Index>().prop_map(|earlier| Sent::Again { earlier }),
        1 => Just(Sent::Corrupt),
        1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Sent::Garbage),
        1 => Just(Sent::Foreign),
    ]
}

fn envelope(serial: u64, payload: Vec<u8>, network: Network, counter: u32, n: usize) -> Record {
    let received = start() + TimeDelta::hours(40) + TimeDelta::seconds(i64::try_from(n).unwrap());
    let lorawan = network == Network::LorawanServer;
    let envelope = Envelope {
        device: lorawan.then_some(DeviceKey::DevEui(serial)),
        network,
        payload,
        f_port: lorawan.then_some(2),
        counter: lorawan.then_some(counter),
        received_at_ms: received.timestamp_millis(),
        network_time_ms: None,
        dedup: None,
        radio: Radio::default(),
        source: "test".to_owned(),
    };
    Record::Uplink(envelope.encode().into())
}

fn frame(serial: u64, hour: u8, counts: &[i64], counter: u32) -> Vec<u8> {
    let series = Series {
        register: Register::VOLUME,
        unit: Unit::CubicMetre,
        exponent: -3,
        start: start() + TimeDelta::hours(i64::from(hour)),
        step_s: 3600,
        counts,
        suspect: false,
    };
    native::encode(serial, counter, &[series], &[]).unwrap()
}

fn records(mix: &[Sent]) -> Vec<Record> {
    let mut records: Vec<Record> = vec![];
    for (n, sent) in mix.iter().enumerate() {
        let record = match sent {
            Sent::Reads { serial, hour, counts, network, counter } => {
                let payload = frame(*serial, *hour, counts, *counter);
                envelope(*serial, payload, *network, *counter, n)
            }
            Sent::Again { earlier } => match records.len() {
                0 => Record::Uplink(vec![].into()),
                len => records[earlier.index(len)].clone(),
            },
            Sent::Corrupt => {
                let mut payload = frame(1, 3, &[7], 1);
                *payload.last_mut().unwrap() ^= 1;
                envelope(1, payload, Network::NbIot, 1, n)
            }
            Sent::Garbage(bytes) => Record::Uplink(bytes.clone().into()),
            Sent::Foreign => {
                let code = "malformed_json";
                Record::Foreign(ForeignMessage::new("t", b"{", 0, code, "no".to_owned()))
            }
        };
        records.push(record);
    }
    records
}

/// A store made of maps: the first row under a key stays.
#[derive(Debug, Clone, Default, PartialEq)]
struct Shelf {
    reads: BTreeMap<ReadKey, (StoredRead, Verdict)>,
    letters: BTreeMap<(u64, String), Vec<u8>>,
    counts: Counts,
    position: u64,
}

impl Shelf {
    fn put(&mut self, batch: &LoadBatch) {
        for read in &batch.reads {
            self.reads.entry(read.key()).or_insert((read.clone(), read.verdict));
        }
        for letter in &batch.dead_letters {
            let key = (letter.sequence, letter.reason.to_string());
            self.letters.entry(key).or_insert(letter.raw.clone());
        }
    }

    fn commit(&mut self, batch: &LoadBatch) {
        assert!(batch.counts.balance());
        assert_eq!(batch.first_sequence, self.position);
        self.counts += batch.counts;
        self.position = batch.next_sequence;
    }

    fn latest(&self, meters: &[MeterId]) -> Vec<(MeterId, RegisterRead)> {
        let accepted = self.reads.values().filter(|(read, verdict)| {
            meters.contains(&read.meter) && matches!(verdict, Verdict::Accepted { .. })
        });
        let read = |read: &StoredRead| RegisterRead {
            register: read.register,
            value: read.value,
            measured_at: read.measured_at,
            quality: read.quality,
        };
        accepted.map(|(stored, _)| (stored.meter, read(stored))).collect()
    }
}

/// What of the books must not depend on how the work was cut: reads with value, uplink and verdict;
/// dead letters; counts.
type Essence = (Vec<(ReadKey, i64, u64, Verdict)>, Vec<(u64, String)>, Counts);

fn essence(shelf: &Shelf) -> Essence {
    let reads = shelf
        .reads
        .iter()
        .map(|(key, (read, verdict))| (*key, read.value.count, read.sequence, *verdict));
    (reads.collect(), shelf.letters.keys().cloned().collect(), shelf.counts)
}

/// One process: works from the shelf's position to the end, or until it is killed.
struct Life {
    lot: usize,
    /// Killed after this many lots, the last of them stored but not committed.
    lots: usize,
}

fn live(shelf: &mut Shelf, records: &[Record], life: &Life) {
    let registry = registry();
    let (mut registers, mut memory) = (Registers::default(), Memory::default());
    let stream: Arc<str> = Arc::from("gw");
    let from = usize::try_from(shelf.position).unwrap();
    for (sequence, record) in (0..).zip(records).take(from).skip(from.saturating_sub(50)) {
        memory.recall(sequence, record.clone(), &registry, REACH);
    }
    for (n, run) in records[from..].chunks(life.lot).enumerate() {
        if n >= life.lots {
            return;
        }
        let first_sequence = u64::try_from(from + n * life.lot).unwrap();
        let lot = Lot { first_sequence, records: run.to_vec() };
        let now = start() + TimeDelta::days(3);
        let opened = pipeline::open(lot, &registry, &mut memory, REACH, now);
        let meters = pipeline::unknown_meters(&opened, &registers);
        registers.learn(&meters, shelf.latest(&meters));
        // as the worker does: everything is asked for right after a start
        let keys = pipeline::questionable_keys(&opened, &registers, n * life.lot < 40);
        let existing: Vec<StoredRead> =
            keys.iter().filter_map(|key| shelf.reads.get(key)).map(|(r, _)| r.clone()).collect();
        let place = Provenance { stream: &stream, epoch: 1, stored_at: now };
        let rules = Rules::default();
        let batch =
            pipeline::judge(opened, first_sequence, place, &mut registers, &existing, &rules);
        shelf.put(&batch);
        if n + 1 == life.lots {
            return;
        }
        shelf.commit(&batch);
    }
}

fn whole(records: &[Record], lot: usize) -> Shelf {
    let mut shelf = Shelf::default();
    live(&mut shelf, records, &Life { lot, lots: usize::MAX });
    shelf
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_uplink_ends_exactly_once(mix in proptest::collection::vec(any_sent(), 0..60)) {
        let records = records(&mix);
        let shelf = whole(&records, 60);
        prop_assert!(shelf.counts.balance());
        prop_assert_eq!(shelf.counts.received, u64::try_from(records.len()).unwrap());
        prop_assert!(u64::try_from(shelf.letters.len()).unwrap() >= shelf.counts.rejected);
    }

    #[test]
    fn cutting_the_work_into_lots_changes_nothing(
        mix in proptest::collection::vec(any_sent(), 0..60), lot in 1usize..60,
    ) {
        let records = records(&mix);
        prop_assert_eq!(essence(&whole(&records, lot)), essence(&whole(&records, 60)));
    }

    #[test]
    fn a_kill_at_any_moment_gives_the_same_books(
        mix in proptest::collection::vec(any_sent(), 0..60),
        lives in proptest::collection::vec((1usize..40, 1usize..4), 0..6),
        last in 1usize..60,
    ) {
        let records = records(&mix);
        let mut shelf = Shelf::default();
        for (lot, lots) in lives {
            live(&mut shelf, &records, &Life { lot, lots });
        }
        live(&mut shelf, &records, &Life { lot: last, lots: usize::MAX });
        prop_assert_eq!(essence(&shelf), essence(&whole(&records, 60)));
    }

    #[test]
    fn sending_a_day_twice_changes_no_read(mix in proptest::collection::vec(any_sent(), 0..40)) {
        let once = records(&mix);
        let twice = [once.clone(), once.clone()].concat();
        let (one, two) = (whole(&once, 7), whole(&twice, 7));
        prop_assert_eq!(essence(&one).0, essence(&two).0);
        prop_assert_eq!(two.counts.stored, one.counts.stored);
        prop_assert_eq!(two.counts.received, 2 * one.counts.received);
    }
}

/// How each of these uplinks ends, as a word.
fn endings(records: &[Record]) -> String {
    let mut words = vec![];
    let mut before = Counts::default();
    let mut shelf = Shelf::default();
    for n in 1..=records.len() {
        live(&mut shelf, &records[..n], &Life { lot: 1, lots: usize::MAX });
        let now = shelf.counts;
        words.push(if now.stored > before.stored {
            "stored"
        } else if now.duplicate > before.duplicate {
            "duplicate"
        } else {
            "rejected"
        });
        before = now;
    }
    let letters: Vec<_> = shelf.letters.keys().map(|(n, reason)| format!("{n} {reason}")).collect();
    format!("{}; {}", words.join(", "), letters.join(", "))
}

#[test]
fn uplinks_end_as_the_trade_expects() {
    let nb = |hour, counts: &[i64], n| envelope(1, frame(1, hour, counts, 1), Network::NbIot, 1, n);
    let cases: &[(&str, Vec<Record>, &str)] = &[
        ("a retransmission", vec![nb(1, &[10], 0), nb(1, &[10], 1)], "stored, duplicate; "),
        (
            "another value for the same hour is put aside, never overwrites",
            vec![nb(1, &[10], 0), nb(1, &[11], 1), nb(1, &[10], 2)],
            "stored, rejected, duplicate; 1 conflict",
        ),
        (
            "a frame that repeats an hour and brings a new one is stored",
            vec![nb(1, &[10], 0), nb(1, &[10, 20], 1)],
            "stored, stored; ",
        ),
        (
            "a new hour is stored though the old one conflicts",
            vec![nb(1, &[10], 0), nb(1, &[11, 20], 1)],
            "stored, stored; 1 conflict",
        ),
        (
            "a spike is held, not refused",
            vec![nb(1, &[10], 0), nb(2, &[90_000], 1)],
            "stored, stored; ",
        ),
        (
            "more digits than the register has",
            vec![nb(1, &[100_000_000], 0)],
            "rejected; 0 too_many_digits",
        ),
        ("a clock in the future", vec![nb(255, &[10], 0)], "rejected; 0 future_time"),
        (
            "a meter nobody registered",
            vec![envelope(9, frame(9, 1, &[1], 1), Network::NbIot, 1, 0)],
            "rejected; 0 unknown_device",
        ),
        ("a damaged frame", records(&[Sent::Corrupt]), "rejected; 0 checksum_mismatch"),
        ("no envelope", vec![Record::Uplink(vec![].into())], "rejected; 0 bad_envelope"),
        ("no event", records(&[Sent::Foreign]), "rejected; 0 malformed_json"),
        (
            "one frame heard twice through a network server",
            vec![
                envelope(1, frame(1, 1, &[1], 5), Network::LorawanServer, 5, 0),
                envelope(1, frame(1, 1, &[1], 5), Network::LorawanServer, 5, 1),
            ],
            "stored, duplicate; ",
        ),
    ];
    for (name, records, want) in cases {
        assert_eq!(endings(records), *want, "{name}");
    }
}
