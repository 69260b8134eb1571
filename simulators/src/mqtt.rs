//! The LoRaWAN networks: what ChirpStack and gateway bridges publish, until somebody took it.
//!
//! In: messages, in order. Out: acknowledgements for all of them.
//! Never here: what they say.
//!
//! MQTT 5, because its acknowledgement says when nobody is subscribed (reason 16): such a message
//! went nowhere and is published again. A connection is never used after an error.

use rumqttc::{
    NetworkOptions, Outgoing,
    v5::{
        AsyncClient, Event, EventLoop, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{Packet, PubAckReason},
        },
    },
};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::time::sleep;

/// Publishes under way at a time.
const WINDOW: u16 = 512;

/// First and longest pause before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long to wait for a subscriber before publishing again.
const NOBODY: Duration = Duration::from_millis(200);

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    host: String,
    port: u16,
}

/// A text that names no broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a broker address: want mqtt://host[:port]")]
pub struct BrokerError(String);

impl std::str::FromStr for Broker {
    type Err = BrokerError;
    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let wrong = || BrokerError(text.to_owned());
        let place = text.strip_prefix("mqtt://").ok_or_else(wrong)?.trim_end_matches('/');
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (place, 1883),
        };
        if host.is_empty() || host.contains(['/', '@']) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A message to publish.
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) body: Vec<u8>,
    /// Whether it counts as delivered only when somebody is subscribed.
    pub(crate) wants_subscriber: bool,
}

/// The connection broke; nothing is known of what was under way.
#[derive(Debug)]
pub(crate) struct Lost;

/// A network's side.
pub(crate) struct Publisher {
    broker: Broker,
    client_id: String,
    connection: Option<(AsyncClient, EventLoop)>,
    /// Whether there has ever been a connection.
    pub(crate) was_connected: bool,
    /// Publishes nobody was subscribed for.
    pub(crate) unheard: u64,
}

impl Publisher {
    pub(crate) fn new(broker: Broker, client_id: String) -> Self {
        Self { broker, client_id, connection: None, was_connected: false, unheard: 0 }
    }

    /// Connects, however long it takes.
    async fn connect(&mut self) -> (AsyncClient, EventLoop) {
        let mut pause = BACKOFF.0;
        loop {
            let mut options = MqttOptions::new(
                self.client_id.clone(),
                self.broker.host.clone(),
                self.broker.port,
            );
            options.set_clean_start(true);
            options.set_keep_alive(Duration::from_secs(10));
            options.set_outgoing_inflight_upper_limit(WINDOW);
            let mut network = NetworkOptions::new();
            network.set_tcp_nodelay(true);
            options.set_network_options(network);
            let (client, mut event_loop) = AsyncClient::new(options, usize::from(WINDOW) * 2);
            loop {
                match event_loop.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        self.was_connected = true;
                        return (client, event_loop);
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// Publishes all of `messages` and waits until each is acknowledged.
    pub(crate) async fn deliver(&mut self, messages: &[Publish]) -> Result<(), Lost> {
        let (client, mut event_loop) = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await,
        };
        let mut waiting: VecDeque<usize> = (0..messages.len()).collect();
        // Handed over but not yet numbered, in order; then under their packet ids.
        let mut handed: VecDeque<usize> = VecDeque::new();
        let mut flying: HashMap<u16, usize> = HashMap::new();
        let mut left = messages.len();
        // Nobody was subscribed: let what is under way come back, wait, and begin again.
        let mut unheard = false;
        while left > 0 {
            if unheard && handed.is_empty() && flying.is_empty() {
                sleep(NOBODY).await;
                unheard = false;
            }
            while !unheard
                && handed.len() + flying.len() < usize::from(WINDOW)
                && let Some(next) = waiting.pop_front()
                && let Some(message) = messages.get(next)
            {
                let body = message.body.clone();
                let topic = message.topic.clone();
                client.try_publish(topic, QoS::AtLeastOnce, false, body).map_err(|_| Lost)?;
                handed.push_back(next);
            }
            match event_loop.poll().await {
                Ok(Event::Outgoing(Outgoing::Publish(id))) => {
                    if let Some(message) = handed.pop_front() {
                        flying.insert(id, message);
                    }
                }
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    let Some(message) = flying.remove(&ack.pkid) else { continue };
                    let wanted = messages.get(message).is_some_and(|m| m.wants_subscriber);
                    if wanted && ack.reason != PubAckReason::Success {
                        self.unheard += 1;
                        unheard = true;
                        waiting.push_back(message);
                    } else {
                        left -= 1;
                    }
                }
                Ok(_) => {}
                Err(_) => return Err(Lost),
            }
        }
        self.connection = Some((client, event_loop));
        Ok(())
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        if let Some((client, mut event_loop)) = self.connection.take()
            && client.try_disconnect().is_ok()
        {
            while !matches!(
                event_loop.poll().await,
                Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)
            ) {}
        }
    }
}
