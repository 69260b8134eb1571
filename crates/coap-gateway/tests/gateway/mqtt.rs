//! The way from the spool to ingest: everything arrives, in order, whatever the broker does.

use crate::support::{Gateway, Meter, settings};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use uplink::{
    BrokerAddress, Envelope,
    batch::{BatchHeader, Watermark, decode_batch},
};

fn broker() -> BrokerAddress {
    std::env::var("TIDEMARK_TEST_MQTT_URL")
        .expect(
            "TIDEMARK_TEST_MQTT_URL is not set: run `cargo xtask test`, which starts the services",
        )
        .parse()
        .unwrap()
}

/// Two runs of the tests may share a broker.
fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Ingest, as far as a gateway can see it: takes the stream in order, says how far it came.
struct Ingest {
    client: AsyncClient,
    event_loop: EventLoop,
    gateway: String,
    epoch: Option<u64>,
    next: u64,
    payloads: Vec<Vec<u8>>,
    /// Records seen again.
    repeated: usize,
}

impl Ingest {
    async fn start(gateway: &str) -> Self {
        let url = broker();
        let mut options = MqttOptions::new(format!("ingest-{gateway}"), url.host, url.port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut event_loop) = AsyncClient::new(options, 100);
        client.subscribe(format!("tidemark/up/{gateway}"), QoS::AtLeastOnce).await.unwrap();
        while !matches!(event_loop.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
        Self {
            client,
            event_loop,
            gateway: gateway.to_owned(),
            epoch: None,
            next: 0,
            payloads: Vec::new(),
            repeated: 0,
        }
    }

    /// The next batch: its header and numbered payloads.
    async fn batch(&mut self) -> (BatchHeader, Vec<(u64, Vec<u8>)>) {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = self.event_loop.poll().await.unwrap()
            {
                let (header, records) = decode_batch(&publish.payload).unwrap();
                assert_eq!(header.gateway, self.gateway);
                let payload = |record: &&[u8]| Envelope::decode(record).unwrap().payload;
                let numbered = (header.first_sequence..).zip(records.iter().map(payload));
                let numbered = numbered.collect();
                return (header, numbered);
            }
        }
    }

    /// Takes one batch, go-back-N.
    async fn take(&mut self) {
        let (header, records) = self.batch().await;
        assert_eq!(*self.epoch.get_or_insert(header.epoch), header.epoch);
        for (sequence, payload) in records {
            if sequence == self.next {
                self.payloads.push(payload);
                self.next += 1;
            } else {
                self.repeated += 1;
            }
        }
    }

    async fn take_until(&mut self, next: u64) {
        while self.next < next {
            self.take().await;
        }
    }

    async fn say(&self, epoch: u64, next_sequence: u64) {
        let topic = format!("tidemark/stored/{}", self.gateway);
        let watermark = Watermark { epoch, next_sequence }.encode();
        self.client.publish(topic, QoS::AtLeastOnce, false, watermark).await.unwrap();
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn uplinks_arrive_in_order_and_leave_the_spool_when_stored() {
    let dir = tempfile::tempdir().unwrap();
    let name = unique("in-order");
    let mut ingest = Ingest::start(&name).await;
    let mut settings = settings(dir.path(), &name, &broker().to_string());
    settings.spool.segment_bytes = 2_000;
    settings.spool.max_bytes = 8_000;
    let gateway = Gateway::start(settings).await;
    let mut meter = Meter::of(gateway.address);
    in_time(async {
        let mut sent = 0_u64;
        // Far more than the spool may hold at once.
        while sent < 400 {
            for _ in 0..20 {
                meter.deliver(&[u8::try_from(sent % 251).unwrap(); 60]);
                sent += 1;
            }
            ingest.take_until(sent).await;
            let epoch = ingest.epoch.unwrap();
            // The first two speak of others and must not count.
            ingest.say(epoch ^ 1, u64::MAX).await;
            ingest
                .client
                .publish(format!("tidemark/stored/{name}"), QoS::AtLeastOnce, false, "?")
                .await
                .unwrap();
            ingest.say(epoch, sent).await;
            // Wait until the gateway has heard it: it forgets what is stored.
            let segments = || std::fs::read_dir(dir.path()).unwrap().count() - 2;
            while segments() > 1 {
                let polled = ingest.event_loop.poll();
                drop(tokio::time::timeout(Duration::from_millis(5), polled).await);
            }
        }
    })
    .await;
    let expected: Vec<Vec<u8>> =
        (0..400_u64).map(|n| vec![u8::try_from(n % 251).unwrap(); 60]).collect();
    assert_eq!(ingest.payloads, expected);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ingest_did_not_store_is_sent_again_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let name = unique("again");
    let mut settings = settings(dir.path(), &name, &broker().to_string());
    settings.stall_ms = 100;
    // Nobody listens yet: the broker acknowledges and drops these.
    let gateway = Gateway::start(settings.clone()).await;
    let mut meter = Meter::of(gateway.address);
    for n in 0..50_u8 {
        meter.deliver(&[n; 20]);
    }
    let mut ingest = Ingest::start(&name).await;
    in_time(ingest.take_until(50)).await;
    // It took them and died before storing: a new one starts from nothing.
    ingest.next = 0;
    ingest.payloads.clear();
    in_time(ingest.take_until(50)).await;
    assert_eq!(ingest.payloads, (0..50_u8).map(|n| vec![n; 20]).collect::<Vec<_>>());
    gateway.stop().await;
    // And a new gateway starts from its spool.
    ingest.next = 0;
    let gateway = Gateway::start(settings).await;
    in_time(ingest.take_until(50)).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_the_broker_connection_loses_and_reorders_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let name = unique("cut");
    let mut ingest = Ingest::start(&name).await;
    // A way to the broker that can be cut.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = format!("mqtt://{}", listener.local_addr().unwrap());
    let (cut, cuts) = watch::channel(0);
    let proxy = tokio::spawn(async move {
        let url = broker();
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect((url.host.as_str(), url.port)).await.unwrap();
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    });
    let mut settings = settings(dir.path(), &name, &through);
    settings.batch_bytes = 512;
    settings.linger_ms = 0;
    settings.stall_ms = 200;
    let gateway = Gateway::start(settings).await;
    let address = gateway.address;
    let meters = tokio::task::spawn_blocking(move || {
        let mut meter = Meter::of(address);
        for n in 0..2_000_u32 {
            meter.deliver(&n.to_le_bytes());
        }
    });
    in_time(async {
        let mut batches = 0_u32;
        while ingest.next < 2_000 {
            let before = ingest.next;
            ingest.take().await;
            batches += 1;
            let epoch = ingest.epoch.unwrap();
            // The watermark comes after the batch, and sometimes not at all.
            if !batches.is_multiple_of(3) {
                ingest.say(epoch, ingest.next).await;
            }
            if before / 400 != ingest.next / 400 {
                cut.send_modify(|cuts| *cuts += 1);
            }
        }
        meters.await.unwrap();
    })
    .await;
    assert!(*cut.borrow() >= 4);
    let expected: Vec<Vec<u8>> = (0..2_000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
    assert_eq!(ingest.payloads, expected);
    assert!(ingest.repeated > 0, "what was under way was sent again");
    gateway.stop().await;
    proxy.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_set_back_gets_all_that_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let name = unique("set-back");
    let mut ingest = Ingest::start(&name).await;
    let mut settings = settings(dir.path(), &name, &broker().to_string());
    settings.spool.segment_bytes = 2_000;
    settings.batch_bytes = 512;
    // Nothing but the watermark makes it go back.
    settings.stall_ms = 600_000;
    let gateway = Gateway::start(settings).await;
    let mut meter = Meter::of(gateway.address);
    in_time(async {
        for n in 0..200_u8 {
            meter.deliver(&[n; 60]);
            ingest.take_until(u64::from(n) + 1).await;
            ingest.say(ingest.epoch.unwrap(), ingest.next).await;
        }
        // Stored to the end, then emptied: the store knows nothing any more.
        let epoch = ingest.epoch.unwrap();
        ingest.say(epoch, 0).await;
        let (header, payloads) = loop {
            let (header, payloads) = ingest.batch().await;
            if header.first_sequence < 200 {
                break (header, payloads);
            }
        };
        assert!(header.oldest_kept > 0, "some were trimmed");
        assert_eq!(header.first_sequence, header.oldest_kept);
        ingest.next = header.first_sequence + u64::try_from(payloads.len()).unwrap();
        while ingest.next < 200 {
            ingest.say(epoch, ingest.next).await;
            ingest.take().await;
        }
    })
    .await;
    assert_eq!(ingest.payloads.last(), Some(&vec![199; 60]));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_ahead_of_the_spool_stops_the_intake() {
    let dir = tempfile::tempdir().unwrap();
    let name = unique("ahead");
    let mut ingest = Ingest::start(&name).await;
    let gateway = Gateway::start(settings(dir.path(), &name, &broker().to_string())).await;
    let mut meter = Meter::of(gateway.address);
    meter.deliver(b"first");
    in_time(async {
        ingest.take_until(1).await;
        let epoch = ingest.epoch.unwrap();
        ingest.say(epoch, 5).await;
        let mut codes = BTreeSet::new();
        while !codes.contains("5.03") {
            ingest.event_loop.poll().await.unwrap();
            let datagram = meter.post(b"later");
            codes.insert(meter.exchange(&datagram).header.get_code());
        }
        // Set right again, it takes uplinks again.
        ingest.say(epoch, 1).await;
        while codes.len() == 1 || meter_code(&mut meter) != "2.04" {
            ingest.event_loop.poll().await.unwrap();
            codes.insert(meter_code(&mut meter));
        }
    })
    .await;
    gateway.stop().await;
}

fn meter_code(meter: &mut Meter) -> String {
    let datagram = meter.post(b"again");
    meter.exchange(&datagram).header.get_code()
}
