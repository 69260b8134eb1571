//! receive: the two doors. Batches of our gateways go on as they are; uplinks others publish are
//! put into our own spool first and acknowledged then.
//!
//! In: publishes. Out: gateway batches on a channel; records in the spool.
//! Never here: decoding, the store.

use crate::{
    error::IngestError,
    mqtt::{Ack, Connection, Heard},
    open::sentence,
    record::{ForeignMessage, Record},
};
use chrono::{DateTime, Utc};
use metrics::counter;
use model::clock::Clock;
use rumqttc::Publish;
use spool::{AppendError, Spool};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uplink::batch::UP_TOPIC;

/// The most messages spooled with one `fdatasync`.
const GROUP_MAX: usize = 256;
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// A publish of a gateway of ours.
#[derive(Debug)]
pub(crate) struct GatewayMessage {
    pub(crate) gateway: String,
    pub(crate) payload: bytes::Bytes,
    pub(crate) ack: Ack,
}

/// The door of our gateways. When the channel is full nothing is read: the broker and then the
/// gateways wait. Goes on polling after `stop` until `flushed`, so that the last watermarks leave.
pub(crate) async fn gateways(
    mut connection: Connection,
    batches: mpsc::Sender<GatewayMessage>,
    connected: Arc<Notify>,
    stop: CancellationToken,
    flushed: CancellationToken,
) {
    let handle = connection.handle();
    let prefix = format!("{UP_TOPIC}/");
    loop {
        let heard = tokio::select! {
            () = flushed.cancelled() => break,
            heard = connection.next() => heard,
        };
        match heard {
            Heard::Connected => connected.notify_one(),
            Heard::Message(publish) if !stop.is_cancelled() => {
                let Some(gateway) = publish.topic.strip_prefix(&prefix) else { continue };
                let message = GatewayMessage {
                    gateway: gateway.to_owned(),
                    ack: handle.keep(&publish),
                    payload: publish.payload,
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    sent = batches.send(message) => if sent.is_err() { break },
                }
            }
            Heard::Message(_) => {}
        }
    }
    connection.close().await;
}

/// The door of everybody else: spool, `fdatasync`, then PUBACK. Returns when `stop` is cancelled.
pub(crate) async fn platforms(
    mut connection: Connection,
    mut spool: Spool,
    durable: watch::Sender<u64>,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    let handle = connection.handle();
    loop {
        let first = tokio::select! {
            () = stop.cancelled() => break,
            heard = connection.next() => heard,
        };
        let Heard::Message(first) = first else { continue };
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Some(publish) = connection.next_at_hand().await
        {
            group.push(publish);
        }
        let received_at = clock.now();
        let records: Vec<Vec<u8>> =
            group.iter().flat_map(|publish| records_of(publish, received_at)).collect();
        // Not polled meanwhile: no reconnect can slip in between here and the acks.
        match append(spool, records, &stop).await? {
            Appended::Durable(back) => spool = back,
            Appended::Stopped => break,
        }
        durable.send_replace(spool.next_sequence());
        for publish in &group {
            handle.ack(&handle.keep(publish));
        }
    }
    connection.close().await;
    Ok(())
}

/// What a publish carries: its uplinks, or itself where no transport can read it. Events that are
/// no uplinks (joins, acks, statistics) carry nothing.
fn records_of(publish: &Publish, received_at: DateTime<Utc>) -> Vec<Vec<u8>> {
    match uplink::transport::open_event(&publish.topic, &publish.payload, received_at) {
        Ok(envelopes) if envelopes.is_empty() => {
            counter!("tidemark_ingest_events_ignored_total").increment(1);
            Vec::new()
        }
        Ok(envelopes) => envelopes
            .iter()
            .map(|envelope| Record::Uplink(envelope.encode().into()).encode())
            .collect(),
        Err(error) => {
            let at_ms = received_at.timestamp_millis();
            let message = sentence(&error);
            let (topic, body) = (&publish.topic, &publish.payload);
            let message = ForeignMessage::new(topic, body, at_ms, error.code(), message);
            vec![Record::Foreign(message).encode()]
        }
    }
}

enum Appended {
    Durable(Spool),
    Stopped,
}

/// Appends a group, however long it takes: a full spool waits for the store, a failing disk for a
/// person. Nothing is acknowledged meanwhile.
async fn append(
    mut spool: Spool,
    records: Vec<Vec<u8>>,
    stop: &CancellationToken,
) -> Result<Appended, IngestError> {
    if records.is_empty() {
        return Ok(Appended::Durable(spool));
    }
    let records = Arc::new(records);
    let mut told = false;
    loop {
        let group = Arc::clone(&records);
        let (back, result) = tokio::task::spawn_blocking(move || {
            let records: Vec<&[u8]> = group.iter().map(Vec::as_slice).collect();
            let result = spool.append(&records);
            (spool, result)
        })
        .await
        .map_err(|source| IngestError::Task { task: "spool", source })?;
        spool = back;
        match result {
            Ok(_) => return Ok(Appended::Durable(spool)),
            Err(failure @ AppendError::TooLarge { .. }) => {
                return Err(IngestError::Spool { source: failure });
            }
            Err(failure @ AppendError::Full { .. }) if !told => {
                warn!(error = sentence(&failure), "spool full, platform uplinks wait");
            }
            Err(failure @ AppendError::Io { .. }) if !told => {
                error!(error = sentence(&failure), "spool failed, platform uplinks wait");
            }
            Err(AppendError::Full { .. } | AppendError::Io { .. }) => {}
        }
        told = true;
        counter!("tidemark_ingest_spool_refusals_total").increment(1);
        tokio::select! {
            () = stop.cancelled() => return Ok(Appended::Stopped),
            () = tokio::time::sleep(FULL_PAUSE) => {}
        }
    }
}
