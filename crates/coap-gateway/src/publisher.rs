//! The publisher: carries the spool to ingest, batch by batch, until the watermark says stored.
//!
//! In: the spool, read from its tail. Out: batches on `tidemark/up/<gateway>`; trimmed segments.
//! Never here: CoAP; belief in PUBACK, which says nothing about the store.
//!
//! Go-back-N: batches leave in order and at most `window_batches` of them run ahead of the
//! watermark (`tidemark/stored/<gateway>`). When the watermark stands still for `stall_ms`, or
//! after a reconnect, sending starts over from the watermark with a window of one batch, which
//! doubles with every step of the watermark: a store that is away is probed, not flooded. A
//! watermark that goes back is followed as far as the spool reaches, and every batch says how far
//! that is: a store that was emptied or restored gets all there is, and knows what is missing.

use crate::{
    CoapGatewaySettings,
    connection::{Connection, Heard, Lost},
};
use spool::{ReadError, SpoolReader, Trimmer};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uplink::batch::{
    self, BatchHeader, RECORD_OVERHEAD_BYTES, RECORDS_MAX, STORED_TOPIC, UP_TOPIC, Watermark,
};

/// First and longest pause before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Why the publisher cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The spool does not read back.
    #[error("read the spool from record {from}")]
    Spool {
        /// The first record wanted.
        from: u64,
        /// What is wrong with it.
        source: ReadError,
    },
    /// The reading thread died.
    #[error("the spool's reader ended unexpectedly")]
    Reader(#[source] tokio::task::JoinError),
}

/// How a session ended.
enum Ended {
    Cancelled,
    Lost(Lost),
    Failed(PublishError),
}

impl From<Lost> for Ended {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// The publishing half of a gateway.
pub(crate) struct Publisher {
    settings: CoapGatewaySettings,
    /// `None` while a read is under way.
    reader: Option<SpoolReader>,
    trimmer: Trimmer,
    epoch: u64,
    durable: watch::Receiver<u64>,
    conflict: Arc<AtomicBool>,
    up_topic: String,
    stored_topic: String,
    /// Everything below is stored.
    stored: u64,
}

/// What is on its way beyond the watermark.
struct Flight {
    /// The next record to send.
    position: u64,
    /// The end of every batch sent, oldest first.
    sent: VecDeque<u64>,
    /// How many batches may be.
    window: usize,
    /// When the watermark last moved, or the first of these batches left.
    moved_at: Instant,
    /// Since when records wait for company.
    lingering_since: Option<Instant>,
}

impl Flight {
    fn from(stored: u64) -> Self {
        Self {
            position: stored,
            sent: VecDeque::new(),
            window: 1,
            moved_at: Instant::now(),
            lingering_since: None,
        }
    }
}

impl Publisher {
    pub(crate) fn new(
        settings: &CoapGatewaySettings,
        reader: SpoolReader,
        trimmer: Trimmer,
        durable: watch::Receiver<u64>,
        conflict: Arc<AtomicBool>,
    ) -> Self {
        Self {
            epoch: reader.epoch(),
            stored: reader.first_sequence(),
            reader: Some(reader),
            trimmer,
            durable,
            conflict,
            up_topic: format!("{UP_TOPIC}/{}", settings.gateway),
            stored_topic: format!("{STORED_TOPIC}/{}", settings.gateway),
            settings: settings.clone(),
        }
    }

    /// Publishes until `cancel`, over as many connections as it takes.
    pub(crate) async fn run(mut self, cancel: CancellationToken) -> Result<(), PublishError> {
        let mut pause = BACKOFF.0;
        loop {
            let before = self.stored;
            match self.session(&cancel).await {
                Ended::Cancelled => return Ok(()),
                Ended::Failed(error) => return Err(error),
                Ended::Lost(lost) => {
                    metrics::counter!("tidemark_coap_gateway_connections_lost_total").increment(1);
                    tracing::warn!(error = %lost, stored = self.stored, "broker connection lost");
                }
            }
            if self.stored > before {
                pause = BACKOFF.0;
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// One connection, from the watermark on.
    async fn session(&mut self, cancel: &CancellationToken) -> Ended {
        let mut connection = Connection::open(
            &self.settings.mqtt_url,
            format!("tidemark-gateway-{}", self.settings.gateway),
            self.stored_topic.clone(),
            u16::try_from(self.settings.window_batches).unwrap_or(u16::MAX / 4),
        );
        let ended = tokio::select! {
            ended = self.carry(&mut connection) => ended,
            () = cancel.cancelled() => Ended::Cancelled,
        };
        if matches!(ended, Ended::Cancelled) {
            connection.close().await;
        }
        ended
    }

    async fn carry(&mut self, connection: &mut Connection) -> Ended {
        match self.carry_on(connection).await {
            Err(ended) => ended,
            Ok(never) => match never {},
        }
    }

    async fn carry_on(
        &mut self,
        connection: &mut Connection,
    ) -> Result<std::convert::Infallible, Ended> {
        // Before SUBACK no watermark can arrive, so nothing is sent.
        while let Heard::Message(message) = connection.hear().await? {
            self.take_watermark(&message);
        }
        tracing::info!(broker = %self.settings.mqtt_url, stored = self.stored, "publishing");
        let mut flight = Flight::from(self.stored);
        let stall = Duration::from_millis(self.settings.stall_ms);
        let linger = Duration::from_millis(self.settings.linger_ms);
        loop {
            // Looked at before reading, so that what is appended meanwhile wakes us.
            let durable = *self.durable.borrow_and_update();
            self.fill(&mut flight, connection).await?;
            let far = Instant::now() + Duration::from_secs(3600);
            let stalls_at = if flight.sent.is_empty() { far } else { flight.moved_at + stall };
            let leaves_at = flight.lingering_since.map_or(far, |since| since + linger);
            let caught_up = flight.position >= durable;
            tokio::select! {
                heard = connection.hear() => if let Heard::Message(message) = heard? {
                    let before = self.stored;
                    self.take_watermark(&message);
                    if self.stored < before {
                        flight = Flight::from(self.stored);
                    } else {
                        self.advance(&mut flight);
                    }
                },
                changed = self.durable.changed(), if caught_up => {
                    // The server has ended; what it left is carried until we are told to stop.
                    if changed.is_err() {
                        sleep_until(far).await;
                    }
                }
                () = sleep_until(leaves_at) => {}
                () = sleep_until(stalls_at) => {
                    metrics::counter!("tidemark_coap_gateway_rewinds_total").increment(1);
                    tracing::debug!(stored = self.stored, sent = flight.position, "rewinding");
                    flight = Flight::from(self.stored);
                }
            }
        }
    }

    /// Sends what the window allows.
    async fn fill(&mut self, flight: &mut Flight, connection: &Connection) -> Result<(), Ended> {
        let linger = Duration::from_millis(self.settings.linger_ms);
        while flight.sent.len() < flight.window {
            let records = self.read(&mut flight.position).await.map_err(Ended::Failed)?;
            let Some((first, _)) = records.first() else {
                flight.lingering_since = None;
                return Ok(());
            };
            let bytes: usize = records.iter().map(|(_, r)| r.len() + RECORD_OVERHEAD_BYTES).sum();
            if bytes < self.settings.batch_bytes / 2 {
                let since = *flight.lingering_since.get_or_insert_with(Instant::now);
                if since.elapsed() < linger {
                    return Ok(());
                }
            }
            flight.lingering_since = None;
            let header = BatchHeader {
                gateway: self.settings.gateway.clone(),
                epoch: self.epoch,
                first_sequence: *first,
                oldest_kept: self.oldest_kept().min(*first),
            };
            let slices: Vec<&[u8]> = records.iter().map(|(_, record)| record.as_slice()).collect();
            connection.publish(&self.up_topic, batch::encode_batch(&header, &slices))?;
            metrics::counter!("tidemark_coap_gateway_batches_total").increment(1);
            if flight.sent.is_empty() {
                flight.moved_at = Instant::now();
            }
            flight.position = records.last().map_or(*first, |(last, _)| *last) + 1;
            flight.sent.push_back(flight.position);
        }
        flight.lingering_since = None;
        Ok(())
    }

    /// One batch's records from `position`, which moves on when they were trimmed meanwhile.
    async fn read(&mut self, position: &mut u64) -> Result<Vec<(u64, Vec<u8>)>, PublishError> {
        loop {
            let Some(mut reader) = self.reader.take() else {
                // A read was given up half way, with its session.
                return Ok(Vec::new());
            };
            let (from, bytes) = (*position, self.settings.batch_bytes);
            let (reader, result) = spawn_blocking(move || {
                let result = reader.read(from, RECORDS_MAX, bytes);
                (reader, result)
            })
            .await
            .map_err(PublishError::Reader)?;
            self.reader = Some(reader);
            match result {
                Ok(records) => return Ok(records),
                Err(ReadError::Trimmed { first, .. }) => *position = first.max(self.stored),
                Err(source @ (ReadError::Damaged { .. } | ReadError::Io { .. })) => {
                    return Err(PublishError::Spool { from, source });
                }
            }
        }
    }

    /// Believes a watermark that speaks of this stream, also one that has gone back (a store that
    /// was emptied or restored); gives the disk back.
    fn take_watermark(&mut self, message: &[u8]) {
        let ignored = |reason: &'static str| {
            metrics::counter!("tidemark_coap_gateway_watermarks_ignored_total", "reason" => reason)
                .increment(1);
        };
        let watermark = match Watermark::decode(message) {
            Ok(watermark) => watermark,
            Err(error) => {
                tracing::warn!(%error, "watermark does not read");
                return ignored("malformed");
            }
        };
        // The store knows an earlier spool of ours until the first batch of this one arrives.
        if watermark.epoch != self.epoch {
            return ignored("epoch");
        }
        let durable = *self.durable.borrow();
        if watermark.next_sequence > durable {
            // The disk was set back. New uplinks would get numbers the store has seen, and be
            // dropped as duplicates: take none until somebody has looked.
            if !self.conflict.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    stored = watermark.next_sequence,
                    spooled = durable,
                    "the store holds more of this stream than the spool ever did; \
                     refusing uplinks: move the spool directory away and restart"
                );
            }
            return ignored("ahead");
        }
        self.conflict.store(false, Ordering::Relaxed);
        // What is trimmed cannot be sent, wherever the store stands.
        let next = watermark.next_sequence.max(self.oldest_kept());
        if next < self.stored {
            metrics::counter!("tidemark_coap_gateway_store_set_back_total").increment(1);
            tracing::warn!(
                stored = watermark.next_sequence,
                was = self.stored,
                sending_from = next,
                "the store has less of this stream than it had"
            );
        }
        self.stored = next;
        self.trimmer.trim(next);
    }

    /// The oldest record that can still be sent.
    fn oldest_kept(&self) -> u64 {
        // The reader is only ever away in a read, and a read is waited for.
        self.reader.as_ref().map_or(self.stored, SpoolReader::first_sequence)
    }

    /// Opens the window by what the watermark has passed.
    fn advance(&self, flight: &mut Flight) {
        let before = flight.sent.len();
        while flight.sent.front().is_some_and(|end| *end <= self.stored) {
            flight.sent.pop_front();
        }
        if flight.sent.len() < before {
            flight.moved_at = Instant::now();
            flight.window = (flight.window * 2).min(self.settings.window_batches);
        }
        if flight.position < self.stored {
            flight.position = self.stored;
        }
    }
}
