//! The story played: day by day, every meter and network in its own order.
//!
//! In: the utility, where to send. Out: everything sent and acknowledged, with figures.
//! Never here: what the frames are (see `frames`), what must come of them (see `books`).
//!
//! A day ends when all of it is acknowledged, so CoAP and MQTT keep step. When the broker's
//! connection breaks, its memory may be gone with all it had acknowledged; the networks then
//! publish the last days again, as one restores from a platform's own store.

use crate::{
    coap::{CoapError, Endpoint},
    frames::{FrameError, Message, message},
    mqtt::{Lost, Publish, Publisher},
    plan::{Occasion, Plan, What},
    utility::Utility,
};

pub use crate::mqtt::{Broker, BrokerError};

use serde::Serialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{task::JoinSet, time::Instant};

/// Where to send what.
#[derive(Debug, Clone)]
pub struct PlaySettings {
    /// The CoAP gateway.
    pub coap: SocketAddr,
    /// The broker.
    pub broker: Broker,
    /// Days of the story to play, 0 being the first; the day after the last one holds the frames
    /// sent after its midnight.
    pub days: Range<usize>,
    /// How many days are published again after a broken connection.
    pub replay_days: usize,
}

/// Why playing ended early.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// A frame could not be built.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A meter gave up.
    #[error("meter {meter}")]
    Coap {
        /// Its number.
        meter: String,
        /// Why.
        source: CoapError,
    },
    /// A task died.
    #[error("a meter's task ended unexpectedly")]
    Task(#[from] tokio::task::JoinError),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Played {
    /// Exchanges with the gateway, repeated ones included.
    pub coap_exchanges: u64,
    /// Datagrams sent again because no answer came.
    pub coap_retransmissions: u64,
    /// Messages published and acknowledged.
    pub mqtt_messages: u64,
    /// Messages published again after a broken connection.
    pub mqtt_messages_again: u64,
    /// Publishes nobody was subscribed for.
    pub mqtt_unheard: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// How many sendings the days hold: what `progress` counts up to.
#[must_use]
pub fn sendings(utility: &Utility, days: Range<usize>) -> u64 {
    u64::try_from(Plan::new(utility).on(days).count()).unwrap_or(u64::MAX)
}

/// Days of the whole story, the one after the last included.
#[must_use]
pub fn all_days(utility: &Utility) -> Range<usize> {
    0..Plan::new(utility).days()
}

/// Plays the days. `progress` is told what was acknowledged, again and again.
///
/// Returns when everything is acknowledged. Gateway, broker and ingest may be away at any time:
/// it goes on trying.
///
/// # Errors
/// When a frame cannot be built or the gateway refuses a right request.
pub async fn play(
    utility: Arc<Utility>,
    settings: PlaySettings,
    progress: Arc<AtomicU64>,
) -> Result<Played, PlayError> {
    let started = Instant::now();
    let plan = Plan::new(&utility);
    let mut meters = Meters::open(&utility, settings.coap).await?;
    let name = format!("tidemark-simulators-{}-{}", utility.seed, std::process::id());
    let mut networks = Networks {
        utility: Arc::clone(&utility),
        publisher: Publisher::new(settings.broker, name),
        replay_days: settings.replay_days,
        first_day: settings.days.start,
        messages: 0,
        again: 0,
        progress: Arc::clone(&progress),
    };
    for day in settings.days {
        let (coap, mqtt) =
            tokio::join!(meters.day(&utility, &plan, day, &progress), networks.day(&plan, day));
        coap?;
        mqtt?;
    }
    let played = Played {
        coap_exchanges: meters.exchanges,
        coap_retransmissions: meters.retransmissions(),
        mqtt_messages: networks.messages,
        mqtt_messages_again: networks.again,
        mqtt_unheard: networks.publisher.unheard,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    networks.publisher.close().await;
    Ok(played)
}

/// The NB-IoT meters.
struct Meters {
    endpoints: BTreeMap<u32, Endpoint>,
    exchanges: u64,
}

impl Meters {
    async fn open(utility: &Utility, gateway: SocketAddr) -> Result<Self, PlayError> {
        let mut endpoints = BTreeMap::new();
        for meter in utility.meters.iter().filter(|meter| meter.way.is_coap()) {
            let [low, high, ..] = meter.index.wrapping_mul(257).to_le_bytes();
            let endpoint = Endpoint::open(gateway, u16::from_le_bytes([low, high]))
                .await
                .map_err(|source| PlayError::Coap { meter: meter.number.clone(), source })?;
            endpoints.insert(meter.index, endpoint);
        }
        Ok(Self { endpoints, exchanges: 0 })
    }

    fn retransmissions(&self) -> u64 {
        self.endpoints.values().map(|endpoint| endpoint.retransmissions).sum()
    }

    /// Every meter's day, all at once, each in its own order.
    async fn day(
        &mut self,
        utility: &Arc<Utility>,
        plan: &Plan,
        day: usize,
        progress: &Arc<AtomicU64>,
    ) -> Result<(), PlayError> {
        let mut work: BTreeMap<u32, Vec<What>> = BTreeMap::new();
        for sending in plan.day(day) {
            if let Some(index) = sending.what.meter().filter(|i| self.endpoints.contains_key(i)) {
                work.entry(index).or_default().push(sending.what);
            }
        }
        let mut running = JoinSet::new();
        for (index, sendings) in work {
            if let Some(endpoint) = self.endpoints.remove(&index) {
                let (utility, progress) = (Arc::clone(utility), Arc::clone(progress));
                running.spawn(async move {
                    (index, meter_day(&utility, endpoint, sendings, &progress).await)
                });
            }
        }
        while let Some(ended) = running.join_next().await {
            let (index, result) = ended?;
            let (endpoint, exchanges) = result?;
            self.exchanges += exchanges;
            self.endpoints.insert(index, endpoint);
        }
        Ok(())
    }
}

async fn meter_day(
    utility: &Utility,
    mut endpoint: Endpoint,
    sendings: Vec<What>,
    progress: &AtomicU64,
) -> Result<(Endpoint, u64), PlayError> {
    let mut exchanges = 0;
    for what in sendings {
        let result = match (what, message(utility, what)?) {
            (What::Frame { occasion: Occasion::SameExchange, .. }, _) => endpoint.repeat().await,
            (_, Message::Coap { query, payload }) => endpoint.post(query.as_deref(), payload).await,
            (_, Message::Mqtt { .. }) => return Err(FrameError::Plan.into()),
        };
        result.map_err(|source| PlayError::Coap {
            meter: what.meter().map_or_else(String::new, |index| format!("M{:05}", index + 1)),
            source,
        })?;
        exchanges += 1;
        progress.fetch_add(1, Ordering::Relaxed);
    }
    Ok((endpoint, exchanges))
}

/// The LoRaWAN networks.
struct Networks {
    utility: Arc<Utility>,
    publisher: Publisher,
    replay_days: usize,
    first_day: usize,
    messages: u64,
    again: u64,
    progress: Arc<AtomicU64>,
}

impl Networks {
    async fn day(&mut self, plan: &Plan, day: usize) -> Result<(), PlayError> {
        // After the first break, the days before it are published again in front of this one.
        let mut broken = false;
        loop {
            let back = if broken { self.replay_days } else { 0 };
            let first = day.saturating_sub(back).max(self.first_day);
            match self.publish(plan, first..day, day).await? {
                Ok(()) => return Ok(()),
                Err(Lost) => broken = true,
            }
        }
    }

    async fn publish(
        &mut self,
        plan: &Plan,
        again: Range<usize>,
        day: usize,
    ) -> Result<Result<(), Lost>, PlayError> {
        for earlier in again {
            let messages = self.messages(plan, earlier)?;
            if let Err(lost) = self.publisher.deliver(&messages).await {
                return Ok(Err(lost));
            }
            self.again += u64::try_from(messages.len()).unwrap_or(0);
        }
        let messages = self.messages(plan, day)?;
        if let Err(lost) = self.publisher.deliver(&messages).await {
            return Ok(Err(lost));
        }
        let count = u64::try_from(messages.len()).unwrap_or(0);
        self.messages += count;
        self.progress.fetch_add(count, Ordering::Relaxed);
        Ok(Ok(()))
    }

    /// A day's messages, wrong ones too: a broker that dies takes them with it like any other.
    fn messages(&self, plan: &Plan, day: usize) -> Result<Vec<Publish>, FrameError> {
        let mut messages = Vec::new();
        for sending in plan.day(day) {
            let coap = sending
                .what
                .meter()
                .and_then(|index| usize::try_from(index).ok())
                .and_then(|index| self.utility.meters.get(index))
                .is_some_and(|meter| meter.way.is_coap());
            if coap {
                continue;
            }
            if let Message::Mqtt { topic, body } = message(&self.utility, sending.what)? {
                messages.push(Publish { topic, body, wants_subscriber: true });
            }
        }
        Ok(messages)
    }
}
