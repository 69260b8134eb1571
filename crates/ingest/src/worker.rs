//! The worker's desk: every stream it takes in, and the way from a run of records to stored rows.
//!
//! In: gateway batches, records of our own spool. Out: batches in the store, watermarks, acks.
//! Never here: connections (see `mqtt`), rules (see `pipeline`).

use crate::{
    books::Books,
    error::IngestError,
    mqtt::{Ack, Handle},
    open::{Memory, sentence},
    pipeline::{self, Lot},
    receive::GatewayMessage,
    record::Record,
    registers::Registers,
    settings::IngestSettings,
    settle::Provenance,
    stream::{Offered, Stream},
    watermarks::Watermarks,
    window::Reach,
};
use bytes::Bytes;
use metrics::{counter, gauge, histogram};
use model::{RegistrySnapshot, VeeRule, clock::Clock};
use spool::{SpoolReader, Trimmer};
use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};
use store_clickhouse::{LoadBatch, QueryError, Store, StoredRead};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use uplink::batch::decode_batch;

/// Epochs of one gateway that are followed at once: the running one and leftovers.
const EPOCHS_MAX: usize = 4;
/// Gateways beyond this many are not served; the registry of gateways comes later.
const GATEWAYS_MAX: usize = 10_000;
const TAIL_BYTES: usize = 4 << 20;

/// Our own spool, from the reading side.
pub(crate) struct OwnSpool {
    pub(crate) reader: SpoolReader,
    pub(crate) trimmer: Trimmer,
}

/// One stream as the worker follows it.
struct Followed {
    /// The gateway; `None` for our own spool.
    gateway: Option<String>,
    /// The stream's name in the store: one per epoch, epochs being random numbers.
    name: Arc<str>,
    epoch: u64,
    stream: Stream,
    memory: Memory,
    /// Uplinks settled since this process follows the stream.
    settled: usize,
}

/// What a worker works with.
pub(crate) struct Tools {
    pub(crate) settings: IngestSettings,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) books: Books,
    pub(crate) watermarks: Watermarks,
    pub(crate) handle: Handle,
    /// Cancelled when a shutdown has lasted too long.
    pub(crate) give_up: CancellationToken,
}

/// The streams a worker takes in, and the desk they go over.
pub(crate) struct Worker {
    desk: Desk,
    own: SpoolReader,
    own_stream: Followed,
    gateways: HashMap<String, Vec<Followed>>,
    acks: Vec<Ack>,
}

/// Where runs of records become stored rows, one at a time, whatever stream they are of.
struct Desk {
    tools: Tools,
    registers: Registers,
    /// Gives the disk of our own spool back.
    trimmer: Trimmer,
    /// Batches stored so far.
    batches: u64,
}

impl Worker {
    /// Sits down: asks the store how far our own spool is stored, and reads back what copies are
    /// recognised by.
    pub(crate) async fn new(
        tools: Tools,
        own: OwnSpool,
        snapshot: &RegistrySnapshot,
    ) -> Result<Self, IngestError> {
        let epoch = own.reader.epoch();
        let name = stream_name(&tools.settings.own_stream(), epoch);
        let own_stream = Followed {
            gateway: None,
            name,
            epoch,
            stream: Stream::resume(0),
            memory: Memory::default(),
            settled: 0,
        };
        let OwnSpool { reader, trimmer } = own;
        let registers = Registers::default();
        let mut worker = Self {
            desk: Desk { tools, registers, trimmer, batches: 0 },
            own: reader,
            own_stream,
            gateways: HashMap::new(),
            acks: Vec::new(),
        };
        worker.resume_own(snapshot).await?;
        Ok(worker)
    }

    async fn resume_own(&mut self, snapshot: &RegistrySnapshot) -> Result<(), IngestError> {
        let name = Arc::clone(&self.own_stream.name);
        let stored = self.desk.position(&name).await?;
        let (first, spooled) = (self.own.first_sequence(), self.own.durable_next());
        if stored > spooled {
            return Err(IngestError::SpoolBehind { stream: name.to_string(), stored, spooled });
        }
        missing(&name, first.saturating_sub(stored));
        let next = stored.max(first);
        self.own_stream.stream = Stream::resume(next);
        let reach = self.desk.reach();
        let mut at = next.saturating_sub(u64::from(reach.uplinks)).max(first);
        while at < next {
            let records =
                self.own.read(at, self.desk.tools.settings.batch_uplinks_max, TAIL_BYTES)?;
            let Some((last, _)) = records.last() else { break };
            at = last.saturating_add(1);
            for (sequence, bytes) in records.into_iter().filter(|(sequence, _)| *sequence < next) {
                let record = Record::decode(bytes.into());
                self.own_stream.memory.recall(sequence, record, snapshot, reach);
            }
        }
        info!(stream = %name, next_sequence = next, spooled, "own spool resumed");
        Ok(())
    }

    /// The end of what has been taken from our own spool.
    pub(crate) fn own_expected(&self) -> u64 {
        self.own_stream.stream.expected()
    }

    /// Batches stored so far.
    pub(crate) fn batches(&self) -> u64 {
        self.desk.batches
    }

    /// Whether enough waits for a load.
    pub(crate) fn is_full(&self) -> bool {
        let (records, bytes) = self.waiting();
        records >= self.desk.tools.settings.batch_uplinks_max
            || bytes >= self.desk.tools.settings.batch_bytes_max
    }

    /// Records and bytes that wait to be stored.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let streams = self.gateways.values().flatten().chain([&self.own_stream]);
        streams.map(|followed| followed.stream.waiting()).fold((0, 0), |sum, (records, bytes)| {
            (sum.0.saturating_add(records), sum.1.saturating_add(bytes))
        })
    }

    /// Takes in one publish of a gateway: what is new of it, in order.
    pub(crate) async fn take_batch(&mut self, message: GatewayMessage) -> Result<(), IngestError> {
        let GatewayMessage { gateway, payload, ack } = message;
        self.acks.push(ack);
        let (header, records) = match decode_batch(&payload) {
            Ok(batch) => batch,
            Err(error) => {
                counter!("tidemark_ingest_bad_batches_total").increment(1);
                warn!(gateway, error = sentence(&error), "batch does not read, gateway resends");
                return Ok(());
            }
        };
        if header.gateway != gateway {
            counter!("tidemark_ingest_bad_batches_total").increment(1);
            warn!(gateway, named = header.gateway, "batch names another gateway than its topic");
            return Ok(());
        }
        let Some(followed) = self.follow(&gateway, header.epoch).await? else { return Ok(()) };
        missing(&followed.name, followed.stream.skip_to(header.oldest_kept));
        // What waits are parts of the publish itself.
        let records = records.iter().map(|record| payload.slice_ref(record));
        let offered = followed.stream.offer(header.first_sequence, records);
        let stored = followed.stream.stored();
        match offered {
            Offered::Taken { records } => self.desk.tools.books.receive(records),
            Offered::Repeated => {
                counter!("tidemark_ingest_batches_repeated_total").increment(1);
                self.desk.tools.watermarks.set(&gateway, header.epoch, stored);
            }
            Offered::Gap { expected } => {
                counter!("tidemark_ingest_batches_out_of_step_total").increment(1);
                debug!(gateway, expected, got = header.first_sequence, "gateway has to go back");
                self.desk.tools.watermarks.set(&gateway, header.epoch, stored);
            }
        }
        Ok(())
    }

    /// The stream of this gateway and epoch, resumed where the store says.
    async fn follow(
        &mut self,
        gateway: &str,
        epoch: u64,
    ) -> Result<Option<&mut Followed>, IngestError> {
        let known = self.gateways.get(gateway).is_some_and(|e| e.iter().any(|f| f.epoch == epoch));
        if !known {
            if self.gateways.len() >= GATEWAYS_MAX && !self.gateways.contains_key(gateway) {
                counter!("tidemark_ingest_gateways_refused_total").increment(1);
                return Ok(None);
            }
            let name = stream_name(gateway, epoch);
            let next = self.desk.position(&name).await?;
            info!(gateway, epoch, next_sequence = next, "gateway stream followed");
            self.desk.tools.watermarks.set(gateway, epoch, next);
            let epochs = self.gateways.entry(gateway.to_owned()).or_default();
            // The oldest epoch without anything waiting makes room.
            if epochs.len() >= EPOCHS_MAX
                && let Some(idle) = epochs.iter().position(|f| f.stream.waiting().0 == 0)
            {
                let gone = epochs.remove(idle);
                self.desk.tools.watermarks.forget(gateway, gone.epoch);
            }
            epochs.push(Followed {
                gateway: Some(gateway.to_owned()),
                name,
                epoch,
                stream: Stream::resume(next),
                memory: Memory::default(),
                settled: 0,
            });
        }
        let epochs = self.gateways.get_mut(gateway);
        Ok(epochs.and_then(|epochs| epochs.iter_mut().find(|f| f.epoch == epoch)))
    }

    /// Takes what is new of our own spool, as much as fits.
    pub(crate) fn take_own(&mut self) -> Result<(), IngestError> {
        while !self.is_full() && self.own.durable_next() > self.own_expected() {
            let from = self.own_expected();
            let (waiting, _) = self.waiting();
            let room = self.desk.tools.settings.batch_uplinks_max.saturating_sub(waiting).max(1);
            let records = self.own.read(from, room, TAIL_BYTES)?;
            if records.is_empty() {
                break;
            }
            self.desk.tools.books.receive(records.len());
            self.own_stream.stream.offer(from, records.into_iter().map(|(_, bytes)| bytes.into()));
        }
        Ok(())
    }

    /// Stores everything that waits, stream by stream, then acknowledges.
    pub(crate) async fn settle_all(
        &mut self,
        snapshot: &RegistrySnapshot,
    ) -> Result<(), IngestError> {
        let started = Instant::now();
        let gateways = self.gateways.values_mut().flatten();
        for followed in [&mut self.own_stream].into_iter().chain(gateways) {
            while followed.stream.waiting().0 > 0 {
                self.desk.settle(followed, snapshot).await?;
            }
        }
        for ack in self.acks.drain(..) {
            self.desk.tools.handle.ack(&ack);
        }
        histogram!("tidemark_ingest_round_seconds").record(started.elapsed());
        Ok(())
    }
}

impl Desk {
    /// One run of one stream: opened, judged, stored, announced.
    async fn settle(
        &mut self,
        followed: &mut Followed,
        snapshot: &RegistrySnapshot,
    ) -> Result<(), IngestError> {
        let (first_sequence, run) = followed
            .stream
            .next_run(self.tools.settings.batch_uplinks_max, self.tools.settings.batch_bytes_max);
        let uplinks = run.len();
        let own = followed.gateway.is_none();
        let record = |bytes: Bytes| if own { Record::decode(bytes) } else { Record::Uplink(bytes) };
        let lot = Lot { first_sequence, records: run.into_iter().map(record).collect() };

        let (now, reach) = (self.tools.clock.now(), self.reach());
        let opened = pipeline::open(lot, snapshot, &mut followed.memory, reach, now);
        // Right after a restart everything is asked for: what was stored but not yet committed may
        // be newer than anything remembered.
        let all = followed.settled < self.tools.settings.batch_uplinks_max;
        let existing = self.look_up(&opened, all).await?;
        let place = Provenance {
            stream: &followed.name,
            epoch: followed.epoch,
            stored_at: self.tools.clock.now(),
        };
        let rules = self.tools.settings.rules;
        let batch =
            pipeline::judge(opened, first_sequence, place, &mut self.registers, &existing, &rules);
        self.load(&batch).await?;

        followed.stream.confirm(uplinks);
        followed.settled = followed.settled.saturating_add(uplinks);
        self.tools.books.settle(&batch.counts);
        self.batches = self.batches.saturating_add(1);
        count(&batch);
        match &followed.gateway {
            Some(gateway) => {
                self.tools.watermarks.set(gateway, followed.epoch, batch.next_sequence)
            }
            None => self.trim(batch.next_sequence),
        }
        Ok(())
    }

    fn reach(&self) -> Reach {
        Reach {
            uplinks: self.tools.settings.dedupe_window_uplinks,
            seconds: self.tools.settings.dedupe_window_s,
        }
    }

    /// Gives our own spool's disk back, except for what copies are recognised by.
    fn trim(&self, stored: u64) {
        let keep = u64::from(self.tools.settings.dedupe_window_uplinks);
        self.trimmer.trim(stored.saturating_sub(keep));
    }

    /// What the store has under the keys in question.
    async fn look_up(
        &mut self,
        opened: &[crate::open::Opened<'_>],
        all: bool,
    ) -> Result<Vec<StoredRead>, IngestError> {
        self.registers.bound(self.tools.settings.registers_known_max);
        let meters = pipeline::unknown_meters(opened, &self.registers);
        if !meters.is_empty() {
            let store = self.tools.store.clone();
            let latest = self.ask(|| store.latest_reads(&meters)).await?;
            self.registers.learn(&meters, latest.into_iter().map(|read| (read.meter, read.read)));
            gauge!("tidemark_ingest_registers_known").set(gauge_value(self.registers.len()));
        }
        let keys = pipeline::questionable_keys(opened, &self.registers, all);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.tools.store.clone();
        self.ask(|| store.existing_reads(&keys)).await
    }

    async fn position(&self, stream: &str) -> Result<u64, IngestError> {
        let position = self.ask(|| self.tools.store.position(stream)).await?;
        Ok(position.map_or(0, |position| position.next_sequence))
    }

    /// Asks until there is an answer: the store may be away.
    async fn ask<T, F>(&self, question: impl Fn() -> F) -> Result<T, IngestError>
    where
        F: Future<Output = Result<T, QueryError>>,
    {
        let mut attempt = 0;
        loop {
            match question().await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_retriable() => self.pause(&mut attempt, &error).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Loads until it is stored: the store may be away.
    async fn load(&self, batch: &LoadBatch) -> Result<(), IngestError> {
        let mut attempt = 0;
        loop {
            match self.tools.store.load(batch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retriable() => self.pause(&mut attempt, &error).await?,
                Err(source) => {
                    return Err(IngestError::Load {
                        stream: batch.stream.to_string(),
                        first_sequence: batch.first_sequence,
                        source,
                    });
                }
            }
        }
    }

    /// Waits before the next attempt, longer each time, not in step with other workers.
    async fn pause(
        &self,
        attempt: &mut u32,
        error: &(dyn std::error::Error + Sync),
    ) -> Result<(), IngestError> {
        counter!("tidemark_ingest_store_retries_total").increment(1);
        if *attempt == 0 {
            warn!(error = sentence(error), "store away, trying again");
        }
        let pause = backoff(&self.tools.settings, *attempt);
        *attempt = attempt.saturating_add(1);
        tokio::select! {
            () = self.tools.give_up.cancelled() => Err(IngestError::GaveUp),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}

/// A stream's name in the store. Epochs are random numbers, not an order, so each has a stream of
/// its own: the store's position of a stream is then the position in that epoch.
fn stream_name(source: &str, epoch: u64) -> Arc<str> {
    Arc::from(format!("{source}@{epoch:016x}"))
}

/// Says that uplinks of a stream were trimmed at their source and are not in the store: it is new,
/// or older than it was.
fn missing(stream: &str, uplinks: u64) {
    if uplinks > 0 {
        counter!("tidemark_ingest_gap_uplinks_total").increment(uplinks);
        error!(stream, uplinks, "uplinks are missing: neither the store nor their source has them");
    }
}

/// Doubled each time up to the longest pause, less up to a quarter by the worker's name.
fn backoff(settings: &IngestSettings, attempt: u32) -> Duration {
    let doubled = settings.store_retry_first_ms.saturating_mul(1 << attempt.min(30));
    let pause = doubled.min(settings.store_retry_last_ms).max(1);
    let salt = settings
        .worker
        .bytes()
        .fold(u64::from(attempt), |salt, byte| salt.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let jitter = salt % (pause / 4).max(1);
    Duration::from_millis(pause.saturating_sub(jitter))
}

fn count(batch: &LoadBatch) {
    for letter in &batch.dead_letters {
        let reason = letter.reason.to_string();
        counter!("tidemark_ingest_dead_letters_total", "reason" => reason).increment(1);
    }
    for rule in VeeRule::ALL {
        let spoke = batch.reads.iter().filter(|read| read.verdict.rules().contains(*rule)).count();
        if spoke > 0 {
            let spoke = u64::try_from(spoke).unwrap_or(u64::MAX);
            counter!("tidemark_ingest_rules_total", "rule" => rule.name()).increment(spoke);
        }
    }
    let reads = u64::try_from(batch.reads.len()).unwrap_or(u64::MAX);
    counter!("tidemark_ingest_reads_total").increment(reads);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
fn gauge_value(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_never_vanish() {
        let settings = IngestSettings::default();
        for attempt in 0..100 {
            let pause = backoff(&settings, attempt);
            assert!(pause >= Duration::from_millis(75), "{attempt}: {pause:?}");
            assert!(pause <= Duration::from_secs(10), "{attempt}: {pause:?}");
        }
        assert!(backoff(&settings, 9) > backoff(&settings, 3));
    }
}
