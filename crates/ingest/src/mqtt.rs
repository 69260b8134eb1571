//! One connection to the broker that mends itself.
//!
//! In: an address, topic filters. Out: publishes, in order, each with the connection it came by;
//! acks and unacknowledged publishes, tied to the connection that is alive.
//! Never here: what a publish says; durability (the broker may lose anything at any time).
//!
//! rumqttc 0.25 has habits to live with: events of a lost connection are still in its queue after
//! the reconnect (cleared here); acks of a lost connection would be sent on the next one (they
//! carry a generation and are dropped); nothing is subscribed again by itself (done on every
//! CONNACK); a refused subscription is only an event; after a collision of packet ids it never
//! recovers (rebuilt after repeated errors).

use bytes::Bytes;
use metrics::counter;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tracing::{debug, error, info, warn};
use uplink::BrokerAddress;

/// Acks and publishes that may wait for the polling task. An ack is never waited for: more than
/// this many cannot be on their way, because the broker sends at most 65,535 unacknowledged.
const REQUESTS_MAX: usize = 1 << 17;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);
const REBUILD_AFTER: u32 = 5;
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What the connection yields.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It is up (again) and its subscriptions are on their way.
    Connected,
    /// A publish.
    Message(Publish),
}

/// How to connect.
#[derive(Clone)]
pub(crate) struct ConnectionSettings {
    pub(crate) broker: BrokerAddress,
    pub(crate) client_id: String,
    pub(crate) filters: Vec<String>,
    /// Whether the broker keeps what we have not acknowledged over a disconnect.
    pub(crate) keep_session: bool,
    pub(crate) packet_bytes_max: usize,
}

/// The polling side. One task owns it.
pub(crate) struct Connection {
    settings: ConnectionSettings,
    eventloop: EventLoop,
    handle: Handle,
    failures: u32,
}

/// The speaking side; clones share it.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Mutex<Live>>);

struct Live {
    client: AsyncClient,
    generation: u64,
}

/// A publish to be acknowledged, on the connection it came by.
#[derive(Debug, Clone)]
pub(crate) struct Ack {
    generation: u64,
    publish: Publish,
}

impl Handle {
    /// Remembers a publish for a later [`Handle::ack`]; its payload is not kept.
    pub(crate) fn keep(&self, publish: &Publish) -> Ack {
        let generation = self.live().generation;
        Ack { generation, publish: Publish { payload: Bytes::new(), ..publish.clone() } }
    }

    /// Acknowledges, if the connection the publish came by is still alive.
    pub(crate) fn ack(&self, ack: &Ack) {
        let live = self.live();
        if ack.generation == live.generation && live.client.try_ack(&ack.publish).is_err() {
            // The publish is redelivered after the next reconnect, and known then.
            counter!("tidemark_ingest_acks_dropped_total").increment(1);
        }
    }

    /// Publishes without asking for an acknowledgement, if there is room.
    pub(crate) fn publish(&self, topic: &str, payload: Vec<u8>) {
        if self.live().client.try_publish(topic, QoS::AtMostOnce, false, payload).is_err() {
            counter!("tidemark_ingest_publishes_dropped_total").increment(1);
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Connects at the first [`Connection::next`].
    pub(crate) fn new(settings: ConnectionSettings) -> Self {
        let (client, eventloop) = AsyncClient::new(settings.options(), REQUESTS_MAX);
        let handle = Handle(Arc::new(Mutex::new(Live { client, generation: 0 })));
        Self { settings, eventloop, handle, failures: 0 }
    }

    /// The speaking side.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next publish that has been read from the network already; never waits.
    pub(crate) async fn next_at_hand(&mut self) -> Option<Publish> {
        while self.eventloop.network.is_some() && !self.eventloop.state.events.is_empty() {
            // With events at hand a poll only takes the first of them.
            match Box::pin(self.eventloop.poll()).await {
                Ok(Event::Incoming(Packet::Publish(publish))) => return Some(publish),
                Ok(Event::Incoming(_) | Event::Outgoing(_)) => {}
                Err(error) => self.recover(&error).await,
            }
        }
        None
    }

    /// The next publish or reconnect; errors are dealt with here. Must not be dropped half-way
    /// unless the connection is given up.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            match Box::pin(self.eventloop.poll()).await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    self.failures = 0;
                    info!(client = %self.settings.client_id, "broker connected");
                    counter!("tidemark_ingest_broker_connects_total").increment(1);
                    self.subscribe();
                    return Heard::Connected;
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => return Heard::Message(publish),
                Ok(Event::Incoming(Packet::SubAck(answer))) => {
                    if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                        error!(
                            client = %self.settings.client_id,
                            filters = ?self.settings.filters,
                            "broker refuses a subscription"
                        );
                        counter!("tidemark_ingest_subscriptions_refused_total").increment(1);
                    }
                }
                Ok(Event::Incoming(_) | Event::Outgoing(_)) => {}
                Err(error) => self.recover(&error).await,
            }
        }
    }

    /// Sends what waits (acks, publishes) and a DISCONNECT; gives up after a second.
    pub(crate) async fn close(mut self) {
        if self.eventloop.network.is_none() || self.handle.live().client.try_disconnect().is_err() {
            return;
        }
        let flushed = async {
            loop {
                match Box::pin(self.eventloop.poll()).await {
                    Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => break,
                    Ok(Event::Incoming(_) | Event::Outgoing(_)) => {}
                }
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, flushed).await.is_err() {
            debug!(client = %self.settings.client_id, "broker did not take the goodbye");
        }
    }

    async fn recover(&mut self, error: &rumqttc::ConnectionError) {
        // What is still queued belongs to the lost connection.
        self.eventloop.state.events.clear();
        self.failures = self.failures.saturating_add(1);
        counter!("tidemark_ingest_broker_errors_total").increment(1);
        if self.failures == 1 {
            let error = crate::open::sentence(error);
            warn!(client = %self.settings.client_id, error, "broker lost");
        }
        {
            let mut live = self.handle.live();
            live.generation = live.generation.saturating_add(1);
            if self.failures.is_multiple_of(REBUILD_AFTER) {
                let (client, eventloop) = AsyncClient::new(self.settings.options(), REQUESTS_MAX);
                live.client = client;
                self.eventloop = eventloop;
            }
        }
        let doublings = self.failures.saturating_sub(1).min(16);
        let pause = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_LAST);
        tokio::time::sleep(pause).await;
    }

    fn subscribe(&self) {
        if self.settings.filters.is_empty() {
            return;
        }
        let filters = self
            .settings
            .filters
            .iter()
            .map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        if self.handle.live().client.try_subscribe_many(filters).is_err() {
            // Only a malformed filter gets here: settings are checked, so it is worth a shout.
            error!(filters = ?self.settings.filters, "topic filters cannot be subscribed");
        }
    }
}

impl ConnectionSettings {
    fn options(&self) -> MqttOptions {
        let BrokerAddress { host, port, login } = &self.broker;
        let mut options = MqttOptions::new(&self.client_id, host, *port);
        options.set_clean_session(!self.keep_session);
        options.set_manual_acks(true);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(self.packet_bytes_max, self.packet_bytes_max);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        options
    }
}
