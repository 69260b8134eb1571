//! A worker between a real broker and a real store: `TIDEMARK_TEST_MQTT_URL`,
//! `TIDEMARK_TEST_CLICKHOUSE_URL`. Every test has its own database, worker and gateway names.
//!
//! In: batches of a gateway, events of a network server. Out: the store's totals, watermarks.
//! Never here: how broker and server were started (`cargo xtask test` does that).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a step that fails, fails the test")]

use chrono::{DateTime, TimeDelta, Utc};
use ingest::{IngestSettings, Summary};
use model::{
    DeviceKey, InstalledMeter, InstantPeriod, MeterEntry, MeterId, Register, RegistrySnapshot,
    ServicePointId, Unit, clock::Clock,
};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use rust_decimal::Decimal;
use spool::SpoolSettings;
use std::{sync::Arc, time::Duration};
use store_clickhouse::{ClickhouseSettings, Counts, DeadLetterFilter, Store};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uplink::{
    Envelope, Network, Radio,
    batch::{BatchHeader, Watermark, encode_batch},
    codec::native::{self, Series},
    transport,
};

/// Far more than anything here takes; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn service(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, which starts the services")
    })
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn now() -> DateTime<Utc> {
    at("2026-03-02T12:00:00Z")
}

fn client(database: &str) -> clickhouse::Client {
    let url = service("TIDEMARK_TEST_CLICKHOUSE_URL");
    clickhouse::Client::default().with_url(url).with_database(database)
}

fn registry(meters: u32) -> RegistrySnapshot {
    let meters = (1..=meters).map(|number| MeterEntry {
        meter: MeterId::new(number),
        devices: vec![
            DeviceKey::Serial(u64::from(number)),
            DeviceKey::DevEui(0x7000 + u64::from(number)),
        ],
        profile: "native".to_owned(),
        key: None,
        lorawan: None,
        register_digits: 8,
        register_exponent: -3,
        register_unit: Unit::CubicMetre,
        hourly_max: Decimal::from(5),
        pulse_weight: None,
        installed: vec![InstalledMeter {
            service_point: ServicePointId::new(number),
            during: InstantPeriod::new(at("2026-01-01T00:00:00Z"), None).unwrap(),
        }],
    });
    RegistrySnapshot::new(meters.collect()).unwrap()
}

fn frame(serial: u64, counter: u32, hour: i64, count: i64) -> Vec<u8> {
    frame_at(serial, counter, hour * 60, count)
}

fn frame_at(serial: u64, counter: u32, minute: i64, count: i64) -> Vec<u8> {
    let series = Series {
        register: Register::VOLUME,
        unit: Unit::CubicMetre,
        exponent: -3,
        start: at("2026-03-01T00:00:00Z") + TimeDelta::minutes(minute),
        step_s: 3600,
        counts: &[count],
        suspect: false,
    };
    native::encode(serial, counter, &[series], &[]).unwrap()
}

fn envelope(payload: Vec<u8>) -> Envelope {
    Envelope {
        device: None,
        network: Network::NbIot,
        payload,
        f_port: None,
        counter: None,
        received_at_ms: now().timestamp_millis(),
        network_time_ms: None,
        dedup: None,
        radio: Radio::default(),
        source: "coap".to_owned(),
    }
}

/// A ChirpStack event of meter `serial`, its read taken in this minute.
fn event(application: &str, serial: u64, counter: u32, minute: i64) -> (String, Vec<u8>) {
    let envelope = Envelope {
        device: Some(DeviceKey::DevEui(0x7000 + serial)),
        network: Network::LorawanServer,
        f_port: Some(2),
        counter: Some(counter),
        network_time_ms: Some(now().timestamp_millis()),
        dedup: Some(u128::from(serial << 32 | u64::from(counter)).to_be_bytes()),
        ..envelope(frame_at(serial, counter, minute, minute))
    };
    transport::encode_chirpstack_v4_up(&envelope, application).unwrap()
}

/// One test's surroundings.
struct Place {
    name: String,
    dir: TempDir,
    store: Store,
    database: String,
    mqtt_url: String,
}

impl Place {
    async fn new(name: &str) -> Self {
        let url = service("TIDEMARK_TEST_CLICKHOUSE_URL");
        Self::with(name, &url, service("TIDEMARK_TEST_MQTT_URL")).await
    }

    /// A place whose worker finds store and broker under these addresses.
    async fn with(name: &str, clickhouse_url: &str, mqtt_url: String) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let database = format!("ingest_{}", name.replace('-', "_"));
        let drop = format!("DROP DATABASE IF EXISTS {database} SYNC");
        client("default").query(&drop).execute().await.unwrap();
        let url = clickhouse_url.to_owned();
        let settings = ClickhouseSettings { url, database: database.clone(), ..Default::default() };
        let store = Store::new(&settings).unwrap();
        store.migrate(480).await.unwrap();
        Self { name, dir: TempDir::new().unwrap(), store, database, mqtt_url }
    }

    fn settings(&self) -> IngestSettings {
        IngestSettings {
            worker: self.name.clone(),
            mqtt_url: self.mqtt_url.parse().unwrap(),
            gateways: vec![format!("gw-{}", self.name)],
            subscriptions: vec![format!("application/{}/device/+/event/up", self.name)],
            spool: SpoolSettings { dir: self.dir.path().to_owned(), ..SpoolSettings::default() },
            linger_ms: 20,
            batch_uplinks_max: 50,
            ..IngestSettings::default()
        }
    }

    fn start(&self, registry: RegistrySnapshot) -> Running {
        let (sender, snapshot) = watch::channel(Arc::new(registry));
        let stop = CancellationToken::new();
        let worker = ingest::run(
            self.settings(),
            self.store.clone(),
            snapshot,
            Clock::Fixed(now()),
            stop.clone(),
        );
        let task = tokio::spawn(async move { worker.await.unwrap() });
        Running { stop, task, registry: sender }
    }

    async fn broker(&self) -> Broker {
        Broker::connect(
            &format!("test-{}", self.name),
            &format!("tidemark/stored/gw-{}", self.name),
        )
        .await
    }

    async fn totals(&self) -> Counts {
        self.store.totals().await.unwrap().counts
    }

    /// Looks until so many uplinks are in the ledger.
    async fn until_received(&self, uplinks: u64) -> Counts {
        let looking = async {
            loop {
                let counts = self.totals().await;
                if counts.received >= uplinks {
                    return counts;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        match found {
            Ok(counts) => counts,
            Err(_) => panic!("still {:?} after {PATIENCE:?}", self.totals().await),
        }
    }

    async fn clean_up(self) {
        let drop = format!("DROP DATABASE {} SYNC", self.database);
        client("default").query(&drop).execute().await.unwrap();
    }
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Summary>,
    registry: watch::Sender<Arc<RegistrySnapshot>>,
}

impl Running {
    async fn end(self) -> Summary {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }

    /// The nearest a test in one process comes to a kill: nothing is flushed or told.
    async fn kill(self, spool: &SpoolSettings) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        // a killed process lets go of its lock at once, an aborted task a little later
        let let_go = async {
            while spool::Spool::open(spool).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, let_go).await.expect("the spool should be let go");
    }
}

/// Stands between the worker and a service, and can be closed.
struct Door {
    address: String,
    open: watch::Sender<bool>,
}

impl Door {
    /// A door to `host:port`, open.
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut inside, _)) = listener.accept().await {
                let (target, mut state) = (target.clone(), state.clone());
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(mut outside) = TcpStream::connect(&target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut inside, &mut outside) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open }
    }

    /// Cuts every connection; new ones are cut at once until it is opened.
    fn close(&self) {
        self.open.send_replace(false);
    }

    fn open(&self) {
        self.open.send_replace(true);
    }
}

/// A gateway and network server in one: publishes, and hears watermarks.
struct Broker {
    client: AsyncClient,
    watermarks: mpsc::UnboundedReceiver<Watermark>,
    polling: JoinHandle<()>,
}

impl Broker {
    async fn connect(id: &str, watermark_topic: &str) -> Self {
        let url = service("TIDEMARK_TEST_MQTT_URL");
        let (host, port) = url.strip_prefix("mqtt://").unwrap().rsplit_once(':').unwrap();
        let mut options = MqttOptions::new(id, host, port.parse().unwrap());
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut eventloop) = AsyncClient::new(options, 1000);
        client.subscribe(watermark_topic, QoS::AtLeastOnce).await.unwrap();
        let (sender, watermarks) = mpsc::unbounded_channel();
        let (ready_sender, ready) = tokio::sync::oneshot::channel();
        let polling = tokio::spawn(async move {
            let mut ready = Some(ready_sender);
            loop {
                match eventloop.poll().await.unwrap() {
                    Event::Incoming(Packet::SubAck(_)) => {
                        ready.take().map(|ready| ready.send(()));
                    }
                    Event::Incoming(Packet::Publish(publish)) => {
                        sender.send(Watermark::decode(&publish.payload).unwrap()).ok();
                    }
                    Event::Incoming(_) | Event::Outgoing(_) => {}
                }
            }
        });
        ready.await.unwrap();
        Self { client, watermarks, polling }
    }

    async fn publish(&self, topic: &str, body: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, body).await.unwrap();
    }

    async fn send(&self, gateway: &str, epoch: u64, first_sequence: u64, envelopes: &[Vec<u8>]) {
        self.send_kept(gateway, epoch, 0, first_sequence, envelopes).await;
    }

    /// What a gateway sends that has nothing before `oldest_kept` any more.
    async fn send_kept(
        &self,
        gateway: &str,
        epoch: u64,
        oldest_kept: u64,
        first_sequence: u64,
        envelopes: &[Vec<u8>],
    ) {
        let gateway = gateway.to_owned();
        let topic = format!("tidemark/up/{gateway}");
        let header = BatchHeader { gateway, epoch, first_sequence, oldest_kept };
        let records: Vec<&[u8]> = envelopes.iter().map(Vec::as_slice).collect();
        self.publish(&topic, encode_batch(&header, &records)).await;
    }

    /// The next watermark of this epoch that has moved to `next_sequence` at least.
    async fn watermark(&mut self, epoch: u64, next_sequence: u64) {
        let hearing = async {
            loop {
                let mark = self.watermarks.recv().await.unwrap();
                if mark.epoch == epoch && mark.next_sequence >= next_sequence {
                    assert_eq!(mark.next_sequence, next_sequence);
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, hearing).await.expect("a watermark should have come");
    }

    /// Sends a gateway's whole stream again and again, as one that rewinds does, until it is
    /// stored.
    async fn send_until_stored(&mut self, gateway: &str, epoch: u64, envelopes: &[Vec<u8>]) {
        let whole = u64::try_from(envelopes.len()).unwrap();
        let mut stored = 0_u64;
        let sending = async {
            while stored < whole {
                for (n, run) in envelopes.chunks(30).enumerate() {
                    let first = u64::try_from(n * 30).unwrap();
                    if first + 30 > stored {
                        self.send(gateway, epoch, first, run).await;
                    }
                }
                let heard = tokio::time::timeout(Duration::from_secs(2), async {
                    loop {
                        let mark = self.watermarks.recv().await.unwrap();
                        if mark.epoch == epoch && mark.next_sequence > stored {
                            break mark.next_sequence;
                        }
                    }
                });
                if let Ok(next) = heard.await {
                    stored = next;
                }
            }
        };
        tokio::time::timeout(PATIENCE, sending).await.expect("the stream should be stored");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

fn hourly(meters: u64, hours: i64) -> Vec<Vec<u8>> {
    (0..hours)
        .flat_map(|hour| {
            (1..=meters).map(move |serial| {
                let counter = u32::try_from(hour).unwrap();
                envelope(frame(serial, counter, hour, hour * 10)).encode()
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_told_what_is_stored_and_asked_for_what_is_missing() {
    let place = Place::new("gateway").await;
    let gateway = format!("gw-{}", place.name);
    let mut broker = place.broker().await;
    let running = place.start(registry(10));
    let envelopes = hourly(10, 12);
    broker.send_until_stored(&gateway, 7, &envelopes).await;
    // what was missed, repeated or out of step changes nothing
    broker.send(&gateway, 7, 150, &envelopes[..5]).await;
    broker.send(&gateway, 7, 0, &envelopes[..30]).await;
    broker.publish(&format!("tidemark/up/{gateway}"), b"no batch".to_vec()).await;
    let mixed = [
        envelope(frame(1, 99, 20, 999)).encode(),
        envelope(frame(1, 99, 20, 999)).encode(),
        envelope(frame(77, 1, 20, 1)).encode(),
        envelope(frame(1, 1, 20, 1)[..20].to_vec()).encode(),
        b"not an envelope".to_vec(),
    ];
    broker.send(&gateway, 7, 120, &mixed).await;
    broker.watermark(7, 125).await;
    // another spool in the gateway: another epoch, whatever its number
    broker.send_until_stored(&gateway, 3, &[envelope(frame(2, 1, 30, 400)).encode()]).await;
    let counts = place.totals().await;
    assert_eq!(counts, Counts { received: 126, stored: 122, duplicate: 1, rejected: 3 });
    let summary = running.end().await;
    assert!(summary.drained && summary.picture.residue() == 0 && summary.picture.in_flight == 0);
    assert_eq!(summary.picture.received, 126);
    let letters = place.store.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    let mut reasons: Vec<&str> = letters.iter().map(|l| &*l.letter.reason).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["bad_envelope", "checksum_mismatch", "unknown_device"]);
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_where_the_one_before_was_killed() {
    let place = Place::new("killed").await;
    let gateway = format!("gw-{}", place.name);
    let mut broker = place.broker().await;
    let envelopes = hourly(10, 30);
    for upto in [60, 130, 210] {
        let running = place.start(registry(10));
        broker.send_until_stored(&gateway, 5, &envelopes[..upto]).await;
        // more on its way while the worker dies
        broker.send(&gateway, 5, u64::try_from(upto).unwrap(), &envelopes[upto..upto + 30]).await;
        running.kill(&place.settings().spool).await;
    }
    let running = place.start(registry(10));
    broker.send_until_stored(&gateway, 5, &envelopes).await;
    running.end().await;
    let counts = place.totals().await;
    assert_eq!(counts, Counts { received: 300, stored: 300, duplicate: 0, rejected: 0 });
    assert_eq!(place.store.row_totals().await.unwrap().reads, 300);
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_store_goes_on_with_what_the_gateway_still_has() {
    let place = Place::new("emptied").await;
    let gateway = format!("gw-{}", place.name);
    let mut broker = place.broker().await;
    let envelopes = hourly(10, 12);
    let running = place.start(registry(10));
    let sending = async {
        // the gateway has trimmed the first 40 and sends what it believes to be missing
        while broker.watermarks.try_recv().map(|mark| mark.next_sequence) != Ok(40) {
            broker.send_kept(&gateway, 6, 40, 90, &envelopes[90..]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // told how far it is stored, it goes back as far as it can
        broker.send_kept(&gateway, 6, 40, 40, &envelopes[40..80]).await;
        broker.send_kept(&gateway, 6, 40, 80, &envelopes[80..]).await;
        while broker.watermarks.recv().await.map(|mark| mark.next_sequence) != Some(120) {}
    };
    tokio::time::timeout(PATIENCE, sending).await.expect("the stream should be stored");
    let summary = running.end().await;
    assert_eq!((summary.picture.received, summary.picture.residue()), (80, 0));
    // the ledger has what was received, not what is missing
    let counts = place.totals().await;
    assert_eq!(counts, Counts { received: 80, stored: 80, duplicate: 0, rejected: 0 });
    assert_eq!(place.store.row_totals().await.unwrap().reads, 80);
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_others_are_kept_while_no_worker_listens() {
    let place = Place::new("events").await;
    let broker = place.broker().await;
    // nobody is registered yet: what comes is kept, not judged
    let running = place.start(RegistrySnapshot::default());
    let subscribed = async {
        // the session exists once an event has reached the spool
        loop {
            let (topic, body) = event(&place.name, 1, 1, 1);
            broker.publish(&topic, body).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let kept = std::fs::read_dir(place.dir.path()).unwrap().any(|file| {
                let file = file.unwrap();
                file.path().extension().is_some_and(|e| e == "seg")
                    && file.metadata().unwrap().len() > 0
            });
            if kept {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, subscribed).await.expect("an event should be spooled");
    assert_eq!(place.totals().await.received, 0);
    running.registry.send_replace(Arc::new(registry(3)));
    place.until_received(1).await;
    let first = running.end().await;

    // while nobody listens the broker keeps them; each comes twice, and some nobody can read
    for counter in 2..=20 {
        for _copy in 0..2 {
            let (topic, body) = event(&place.name, 2, counter, i64::from(counter));
            broker.publish(&topic, body).await;
        }
    }
    broker.publish(&format!("application/{}/device/x/event/up", place.name), b"{".to_vec()).await;
    let running = place.start(registry(3));
    let before = first.picture.received;
    place.until_received(before + 39).await;
    let summary = running.end().await;
    assert_eq!(summary.picture.received, 39);
    assert_eq!((summary.picture.stored, summary.picture.duplicate), (19, 19));
    assert_eq!(summary.picture.rejected, 1);
    let counts = place.totals().await;
    assert_eq!(counts.received, before + 39);
    assert_eq!(counts.stored, 20);
    assert!(counts.balance());
    assert_eq!(place.store.row_totals().await.unwrap().reads, 20);
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_replayed_once_its_meter_is_registered() {
    let place = Place::new("replay").await;
    let gateway = format!("gw-{}", place.name);
    let mut broker = place.broker().await;
    let running = place.start(registry(1));
    let stranger = |hour| envelope(frame(2, 1, hour, 10 * hour)).encode();
    broker.send_until_stored(&gateway, 1, &[stranger(1), stranger(2), b"junk".to_vec()]).await;
    running.end().await;
    assert_eq!(place.totals().await.rejected, 3);

    let replay = async |meters| {
        let filter = DeadLetterFilter { replayed: Some(false), ..Default::default() };
        let rules = vee::Rules::default();
        let replayed =
            ingest::replay_dead_letters(&place.store, &registry(meters), &filter, &rules, now())
                .await
                .unwrap();
        (replayed.letters, replayed.stored, replayed.duplicate, replayed.rejected)
    };
    assert_eq!(replay(1).await, (3, 0, 0, 3));
    assert_eq!(replay(2).await, (3, 2, 0, 1));
    assert_eq!(replay(2).await, (1, 0, 0, 1));
    let rows = place.store.row_totals().await.unwrap();
    assert_eq!((rows.reads, rows.dead_letters, rows.dead_letters_open), (2, 3, 1));
    // the ledger still counts each uplink once, as it ended at first
    let counts = place.totals().await;
    assert_eq!(counts, Counts { received: 3, stored: 0, duplicate: 0, rejected: 3 });
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_waited_for() {
    let url = service("TIDEMARK_TEST_CLICKHOUSE_URL");
    let door = Door::to(url.strip_prefix("http://").unwrap().to_owned()).await;
    let behind = format!("http://{}", door.address);
    let place = Place::with("away", &behind, service("TIDEMARK_TEST_MQTT_URL")).await;
    let gateway = format!("gw-{}", place.name);
    let mut broker = place.broker().await;
    let running = place.start(registry(10));
    let envelopes = hourly(10, 12);
    broker.send_until_stored(&gateway, 2, &envelopes[..60]).await;
    door.close();
    for (n, run) in envelopes[60..].chunks(10).enumerate() {
        broker.send(&gateway, 2, u64::try_from(60 + n * 10).unwrap(), run).await;
    }
    // what was sent waits with the worker: nobody sends it again
    door.open();
    broker.watermark(2, 120).await;
    let summary = running.end().await;
    assert!(summary.drained);
    let counts = place.totals().await;
    assert_eq!(counts, Counts { received: 120, stored: 120, duplicate: 0, rejected: 0 });
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_again_and_again_loses_no_event() {
    let url = service("TIDEMARK_TEST_MQTT_URL");
    let door = Door::to(url.strip_prefix("mqtt://").unwrap().to_owned()).await;
    let behind = format!("mqtt://{}", door.address);
    let store = service("TIDEMARK_TEST_CLICKHOUSE_URL");
    let place = Place::with("cut", &store, behind).await;
    let broker = place.broker().await;
    let running = place.start(registry(3));
    // the session exists once something has come through it
    let first = async {
        while place.totals().await.received == 0 {
            let (topic, body) = event(&place.name, 1, 1, 1);
            broker.publish(&topic, body).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, first).await.expect("an event should come through");
    for n in 0..400_u32 {
        let (topic, body) = event(&place.name, 2, 100 + n, i64::from(n));
        broker.publish(&topic, body).await;
        if n % 80 == 40 {
            door.close();
            tokio::task::yield_now().await;
            door.open();
        }
    }
    let all_stored = async {
        while place.store.row_totals().await.unwrap().reads < 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_stored).await.expect("every event should be stored");
    let summary = running.end().await;
    assert_eq!(summary.picture.residue(), 0);
    let counts = place.totals().await;
    assert_eq!((counts.stored, counts.rejected), (401, 0));
    place.clean_up().await;
}
