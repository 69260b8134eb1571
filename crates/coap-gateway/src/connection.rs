//! One MQTT connection, from CONNECT until the first trouble.
//!
//! In: where the broker is, what to subscribe. Out: a handle to publish, and what the broker
//! sends. Never here: what is published, retrying.
//!
//! `rumqttc` repeats, drops or stalls publishes across reconnects, depending on the broker's
//! memory. So none of its connections is ever used twice: the first error ends it, with
//! everything in it, and the caller starts over from its own log.

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS, SubscribeReasonCode,
};
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinHandle};
use uplink::BrokerAddress;

/// Larger than any batch; rumqttc's own limit of 10 KiB would turn a batch into a poison message.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// Why a connection ended or never began.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// Network, protocol, or the broker refused.
    #[error("mqtt: {0}")]
    Connection(#[source] Box<rumqttc::ConnectionError>),
    /// The broker does not let us hear the watermark.
    #[error("mqtt: the broker refused the subscription to {0}")]
    Subscription(String),
    /// The connection's task ended without a word.
    #[error("mqtt: the connection ended")]
    Ended,
    /// More publishes are waiting than ever should.
    #[error("mqtt: the broker does not take publishes")]
    Stuck,
}

/// What the broker has to say.
pub(crate) enum Heard {
    /// The subscription stands; publishing may begin.
    Ready,
    /// A message on the subscribed topic.
    Message(Vec<u8>),
}

/// A connection being driven by a task of its own, because `EventLoop::poll` does not survive
/// being dropped half way.
pub(crate) struct Connection {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Event, Lost>>,
    task: JoinHandle<()>,
    topic: String,
}

impl Connection {
    /// Starts to connect; `window` publishes may be unacknowledged at a time.
    pub(crate) fn open(
        broker: &BrokerAddress,
        client_id: String,
        topic: String,
        window: u16,
    ) -> Self {
        let mut options = MqttOptions::new(client_id, broker.host.clone(), broker.port);
        options.set_clean_session(true);
        options.set_keep_alive(Duration::from_secs(10));
        options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        options.set_inflight(window.max(1));
        if let Some((user, password)) = &broker.login {
            options.set_credentials(user, password);
        }
        let (client, mut event_loop) = AsyncClient::new(options, usize::from(window) * 2 + 16);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(5);
        event_loop.set_network_options(network);
        let (sender, events) = mpsc::channel(64);
        let task = tokio::spawn(drive(event_loop, sender));
        Self { client, events, task, topic }
    }

    /// The next thing worth hearing.
    pub(crate) async fn hear(&mut self) -> Result<Heard, Lost> {
        loop {
            match self.events.recv().await.unwrap_or(Err(Lost::Ended))? {
                Event::Incoming(Packet::ConnAck(_)) => self
                    .client
                    .try_subscribe(self.topic.clone(), QoS::AtLeastOnce)
                    .map_err(|_| Lost::Stuck)?,
                Event::Incoming(Packet::SubAck(ack)) => {
                    let refused = |code: &_| matches!(code, SubscribeReasonCode::Failure);
                    if ack.return_codes.iter().any(refused) {
                        return Err(Lost::Subscription(self.topic.clone()));
                    }
                    return Ok(Heard::Ready);
                }
                Event::Incoming(Packet::Publish(publish)) if publish.topic == self.topic => {
                    return Ok(Heard::Message(publish.payload.to_vec()));
                }
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    }

    /// Hands a publish over, to be acknowledged by the broker. Nothing is known of its fate.
    pub(crate) fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<(), Lost> {
        self.client.try_publish(topic, QoS::AtLeastOnce, false, payload).map_err(|_| Lost::Stuck)
    }

    /// Says goodbye and waits until it is said, or a second.
    pub(crate) async fn close(mut self) {
        if self.client.try_disconnect().is_ok() {
            let gone = async { while let Some(Ok(_)) = self.events.recv().await {} };
            // Gone or not, dropping the task ends it.
            drop(tokio::time::timeout(Duration::from_secs(1), gone).await);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn drive(mut event_loop: EventLoop, events: mpsc::Sender<Result<Event, Lost>>) {
    loop {
        let event = event_loop.poll().await.map_err(|error| Lost::Connection(Box::new(error)));
        let last = event.is_err();
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}
