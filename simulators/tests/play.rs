//! Three days played against a real gateway and a real broker (`TIDEMARK_TEST_MQTT_URL`).
//!
//! In: the story. Out: every uplink, at a stand-in for ingest. Never here: a real ingest.
#![cfg(test)]

use coap_gateway::CoapGatewaySettings;
use model::clock::Clock;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use simulators::{PlaySettings, Utility, expected};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uplink::batch::{Watermark, decode_batch};

const DAYS: std::ops::Range<usize> = 0..3;

fn broker() -> (String, u16) {
    let url = std::env::var("TIDEMARK_TEST_MQTT_URL").expect(
        "TIDEMARK_TEST_MQTT_URL is not set: run `cargo xtask test`, which starts the services",
    );
    let url: uplink::BrokerAddress = url.parse().unwrap();
    (url.host, url.port)
}

/// What reached ingest.
#[derive(Default)]
struct Heard {
    /// Envelopes of the gateway's stream, by sequence.
    spooled: BTreeMap<u64, Vec<u8>>,
    /// Distinct messages of the networks of this story, and copies of them.
    published: BTreeSet<(String, Vec<u8>)>,
    copies: u64,
}

async fn ingest(gateway: &str) -> (AsyncClient, EventLoop) {
    let (host, port) = broker();
    let mut options = MqttOptions::new(format!("story-{gateway}"), host, port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut event_loop) = AsyncClient::new(options, 1000);
    let filters = [
        &format!("tidemark/up/{gateway}"),
        "application/+/device/+/event/up",
        "gateway/+/event/up",
    ];
    for filter in filters {
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        while !matches!(event_loop.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    }
    (client, event_loop)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_days_arrive_whole() {
    let name = format!("story-{}", std::process::id());
    // A seed of its own: other tests may play on the same broker.
    let utility = Arc::new(Utility::new(u64::from(std::process::id()), "2026-09".parse().unwrap()));
    let dir = std::env::temp_dir().join(&name);
    let (client, mut event_loop) = ingest(&name).await;
    let (host, port) = broker();
    let mut settings = CoapGatewaySettings {
        gateway: name.clone(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        mqtt_url: format!("mqtt://{host}:{port}").parse().unwrap(),
        ..CoapGatewaySettings::default()
    };
    settings.spool.dir.clone_from(&dir);
    let cancel = CancellationToken::new();
    let (ready, bound) = oneshot::channel();
    let gateway = tokio::spawn(coap_gateway::run(settings, Clock::Wall, cancel.clone(), |at| {
        ready.send(at).expect("somebody waits for the address");
    }));
    let progress = Arc::new(AtomicU64::new(0));
    let play = PlaySettings {
        coap: bound.await.unwrap(),
        broker: format!("mqtt://{host}:{port}").parse().unwrap(),
        days: DAYS,
        replay_days: 3,
    };
    let mut playing =
        tokio::spawn(simulators::play(Arc::clone(&utility), play, Arc::clone(&progress)));
    let books = expected(&utility, DAYS);
    let by_way = |coap| -> u64 {
        let ways = books.stored_by_way.iter().filter(|(way, _)| way.starts_with("coap") == coap);
        ways.map(|(_, count)| *count).sum()
    };
    let mut heard = Heard::default();
    let everything = async {
        let mut played: Option<simulators::Played> = None;
        loop {
            let published = u64::try_from(heard.published.len()).unwrap() + heard.copies;
            let spooled = u64::try_from(heard.spooled.len()).unwrap();
            // A repeated exchange is answered from memory; all others reach ingest.
            if let Some(played) = &played
                && published >= played.mqtt_messages
                && spooled >= played.coap_exchanges - books.repeated_exchanges
            {
                return played.clone();
            }
            let event = tokio::select! {
                event = event_loop.poll() => event.unwrap(),
                ended = &mut playing, if played.is_none() => {
                    played = Some(ended.unwrap().unwrap());
                    continue;
                }
            };
            if let Event::Incoming(Packet::Publish(publish)) = event {
                if publish.topic.starts_with("tidemark/up/") {
                    let (header, records) = decode_batch(&publish.payload).unwrap();
                    for (sequence, record) in (header.first_sequence..).zip(records) {
                        heard.spooled.insert(sequence, record.to_vec());
                    }
                    let next = heard.spooled.keys().next_back().map_or(0, |last| last + 1);
                    let stored = Watermark { epoch: header.epoch, next_sequence: next }.encode();
                    let topic = format!("tidemark/stored/{name}");
                    client.try_publish(topic, QoS::AtLeastOnce, false, stored).unwrap();
                } else if !heard.published.insert((publish.topic, publish.payload.to_vec())) {
                    heard.copies += 1;
                }
            }
        }
    };
    let played: simulators::Played =
        tokio::time::timeout(Duration::from_secs(120), everything).await.expect("in time");
    assert_eq!(progress.load(Ordering::Relaxed), simulators::play::sendings(&utility, DAYS));
    assert_eq!(played.mqtt_messages_again, 0);
    // Every envelope of the gateway is there once, in one unbroken sequence.
    let last = heard.spooled.keys().next_back().copied().unwrap();
    assert_eq!(last + 1, played.coap_exchanges - books.repeated_exchanges);
    assert_eq!(u64::try_from(heard.spooled.len()).unwrap(), last + 1);
    let payloads: BTreeSet<_> = heard
        .spooled
        .values()
        .map(|record| uplink::Envelope::decode(record).unwrap().payload)
        .collect();
    assert!(u64::try_from(payloads.len()).unwrap() >= by_way(true));
    assert!(u64::try_from(heard.published.len()).unwrap() >= by_way(false));
    cancel.cancel();
    gateway.await.unwrap().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}
