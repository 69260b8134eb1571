//! One ingest worker, from its start to its clean end.
//!
//! In: settings, the store, the registry snapshot as it changes, a clock, the wish to stop. Out:
//! uplinks stored, watermarks and acks on their way, a summary.
//! Never here: what an uplink means (see `pipeline`), Postgres.

use crate::{
    books::{Books, Picture},
    error::IngestError,
    mqtt::{Connection, ConnectionSettings},
    receive::{self, GatewayMessage},
    settings::IngestSettings,
    watermarks::Watermarks,
    worker::{OwnSpool, Tools, Worker},
};
use model::{RegistrySnapshot, clock::Clock};
use spool::Spool;
use std::{fmt, sync::Arc, time::Duration};
use store_clickhouse::Store;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};
use uplink::batch::UP_TOPIC;

/// Gateway batches between the door and the desk.
const BATCHES_WAITING: usize = 64;

/// What a worker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Uplinks by how they ended.
    pub picture: Picture,
    /// Batches stored.
    pub batches: u64,
    /// Whether everything taken in is stored; if not, its sources still keep it.
    pub drained: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Picture { received, stored, duplicate, rejected, in_flight } = self.picture;
        write!(
            f,
            "received {received} = stored {stored} + duplicate {duplicate} + rejected {rejected} \
             + in flight {in_flight}, in {} batches",
            self.batches
        )
    }
}

/// Works until `stop` is cancelled, then stores what has been taken in and ends.
///
/// Waits for a snapshot with meters in it before anything is judged; what arrives meanwhile stays
/// with its source (gateways) or in our own spool (other publishers).
///
/// # Errors
/// When the settings contradict themselves, the spool does not open, or the store refuses something
/// for a reason that waiting does not cure. A store or broker that is away is waited for.
pub async fn run(
    settings: IngestSettings,
    store: Store,
    snapshot: watch::Receiver<Arc<RegistrySnapshot>>,
    clock: Clock,
    stop: CancellationToken,
) -> Result<Summary, IngestError> {
    run_with_books(settings, store, snapshot, clock, stop, Books::default()).await
}

/// The same as [`run`], with books the caller can look into ([`Books::publish`] before a scrape).
///
/// # Errors
/// As [`run`].
pub async fn run_with_books(
    settings: IngestSettings,
    store: Store,
    mut snapshot: watch::Receiver<Arc<RegistrySnapshot>>,
    clock: Clock,
    stop: CancellationToken,
    books: Books,
) -> Result<Summary, IngestError> {
    settings.check()?;
    // Ending this worker, for whatever reason, ends nobody else.
    let stop = stop.child_token();
    let spool = Spool::open(&settings.spool)?;
    let own = OwnSpool { reader: spool.reader(), trimmer: spool.trimmer() };
    let mut doors = Doors::open(&settings, spool, clock, &stop)?;
    let give_up = give_up_after(&stop, Duration::from_secs(settings.drain_timeout_s));
    // A worker that is dropped half-way leaves no timer behind.
    let _ends_with_us = give_up.clone().drop_guard();
    let tools = Tools {
        settings: settings.clone(),
        store,
        clock,
        books: books.clone(),
        watermarks: doors.watermarks.clone(),
        handle: doors.handle.clone(),
        give_up: give_up.clone(),
    };
    let result = work(tools, own, &mut doors, &mut snapshot, &stop).await;
    // The doors close only now: the last acks and watermarks leave before them.
    stop.cancel();
    let closed = doors.close().await;
    give_up.cancel();
    let summary = match result {
        Ok(batches) => Summary { picture: books.picture(), batches, drained: true },
        Err(IngestError::GaveUp) => {
            Summary { picture: books.picture(), batches: 0, drained: false }
        }
        Err(error) => return Err(error),
    };
    closed?;
    info!(worker = %settings.worker, drained = summary.drained, "ingest ended: {summary}");
    Ok(summary)
}

/// The loop: gather, settle, again; returns the number of batches.
async fn work(
    tools: Tools,
    own: OwnSpool,
    doors: &mut Doors,
    snapshot: &mut watch::Receiver<Arc<RegistrySnapshot>>,
    stop: &CancellationToken,
) -> Result<u64, IngestError> {
    if !first_snapshot(snapshot, stop).await {
        return Ok(0);
    }
    let linger = tools.settings.linger();
    let registry = Arc::clone(&snapshot.borrow());
    let mut worker = Worker::new(tools, own, &registry).await?;
    while !stop.is_cancelled() && !doors.shut {
        gather(&mut worker, linger, doors, stop).await?;
        let registry = Arc::clone(&snapshot.borrow_and_update());
        worker.settle_all(&registry).await?;
    }
    Ok(worker.batches())
}

/// Waits for a registry with meters in it; `false` when told to stop before.
async fn first_snapshot(
    snapshot: &mut watch::Receiver<Arc<RegistrySnapshot>>,
    stop: &CancellationToken,
) -> bool {
    if snapshot.borrow().meters().is_empty() {
        warn!("no meter is registered yet, uplinks wait");
    }
    let registered = snapshot.wait_for(|registry| !registry.meters().is_empty());
    tokio::select! {
        () = stop.cancelled() => false,
        registered = registered => registered.is_ok(),
    }
}

/// Takes in until enough waits for a load, or the first of it has waited long enough.
async fn gather(
    worker: &mut Worker,
    linger: Duration,
    doors: &mut Doors,
    stop: &CancellationToken,
) -> Result<(), IngestError> {
    let mut until: Option<Instant> = None;
    let forever = Duration::from_secs(86_400);
    loop {
        doors.durable.mark_unchanged();
        worker.take_own()?;
        if worker.is_full() {
            return Ok(());
        }
        if worker.waiting().0 > 0 && until.is_none() {
            until = Some(Instant::now() + linger);
        }
        let deadline = until.unwrap_or_else(|| Instant::now() + forever);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            message = doors.batches.recv() => match message {
                Some(message) => {
                    worker.take_batch(message).await?;
                    until.get_or_insert_with(|| Instant::now() + linger);
                }
                None => {
                    doors.shut = true;
                    return Ok(());
                }
            },
            changed = doors.durable.changed() => if changed.is_err() {
                doors.shut = true;
                return Ok(());
            },
            () = tokio::time::sleep_until(deadline), if until.is_some() => return Ok(()),
        }
    }
}

/// Cancelled when `stop` has been for `patience`.
fn give_up_after(stop: &CancellationToken, patience: Duration) -> CancellationToken {
    let give_up = CancellationToken::new();
    let (stop, expired) = (stop.clone(), give_up.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = expired.cancelled() => {}
            () = async { stop.cancelled().await; tokio::time::sleep(patience).await } => {
                expired.cancel();
            }
        }
    });
    give_up
}

/// A task that ends with its handle: a worker that is dropped leaves nothing behind.
fn spawn<F>(task: F) -> AbortOnDropHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// The two connections with their tasks, and the voice of the watermarks.
struct Doors {
    batches: mpsc::Receiver<GatewayMessage>,
    durable: watch::Receiver<u64>,
    watermarks: Watermarks,
    handle: crate::mqtt::Handle,
    /// A door's task has ended by itself; closing says why.
    shut: bool,
    flushed: CancellationToken,
    gateways: AbortOnDropHandle<()>,
    platforms: AbortOnDropHandle<Result<(), IngestError>>,
    /// Ends with `said`, after the last watermark.
    saying: AbortOnDropHandle<()>,
    said: CancellationToken,
}

impl Doors {
    fn open(
        settings: &IngestSettings,
        spool: Spool,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Result<Self, IngestError> {
        let connection = |role: &str, filters: Vec<String>, keep_session: bool| {
            Connection::new(ConnectionSettings {
                broker: settings.mqtt_url.clone(),
                client_id: format!("tidemark-ingest-{}-{role}", settings.worker),
                filters,
                keep_session,
                packet_bytes_max: settings.mqtt_packet_bytes_max,
            })
        };
        let topics = settings.gateways.iter().map(|gateway| format!("{UP_TOPIC}/{gateway}"));
        // Gateways resend from their spools: a session of the broker would only repeat them.
        let from_gateways = connection("gateways", topics.collect(), false);
        let from_platforms = connection("platforms", settings.subscriptions.clone(), true);

        let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
        let (durable_sender, durable) = watch::channel(spool.next_sequence());
        let watermarks = Watermarks::default();
        let (flushed, said) = (CancellationToken::new(), CancellationToken::new());
        let handle = from_gateways.handle();
        let beat = Duration::from_millis(settings.watermark_interval_ms);
        let saying = spawn(watermarks.clone().publish(handle.clone(), beat, said.clone()));
        let connected = watermarks.connected();
        let gateways = spawn(receive::gateways(
            from_gateways,
            sender,
            connected,
            stop.clone(),
            flushed.clone(),
        ));
        let platforms =
            spawn(receive::platforms(from_platforms, spool, durable_sender, clock, stop.clone()));
        Ok(Self {
            batches: receiver,
            durable,
            watermarks,
            handle,
            shut: false,
            flushed,
            gateways,
            platforms,
            saying,
            said,
        })
    }

    async fn close(self) -> Result<(), IngestError> {
        let died = |task| move |source| IngestError::Task { task, source };
        self.said.cancel();
        self.saying.await.map_err(died("watermarks"))?;
        self.flushed.cancel();
        self.gateways.await.map_err(died("gateways"))?;
        self.platforms.await.map_err(died("platforms"))?
    }
}
