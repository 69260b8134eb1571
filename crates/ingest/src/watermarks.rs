//! Telling gateways how far their streams are stored.
//!
//! In: positions as they move. Out: watermarks on `tidemark/stored/<gateway>`: at once when one
//! moved or a gateway is out of step, all of them at every beat and on every connect.
//! Never here: deciding that something is stored.

use crate::mqtt::Handle;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use uplink::batch::{STORED_TOPIC, Watermark};

/// The least time between two watermarks of one gateway out of step.
const SPACING: Duration = Duration::from_millis(20);

/// The watermarks of all gateways; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watermarks {
    shared: Arc<Mutex<Shared>>,
    moved: Arc<Notify>,
    connected: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Shared {
    stored: BTreeMap<(String, u64), u64>,
    due: BTreeSet<(String, u64)>,
}

impl Watermarks {
    /// Everything of this gateway and epoch below `next_sequence` is stored; say so soon.
    pub(crate) fn set(&self, gateway: &str, epoch: u64, next_sequence: u64) {
        let key = (gateway.to_owned(), epoch);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.stored.insert(key.clone(), next_sequence);
        shared.due.insert(key);
        drop(shared);
        self.moved.notify_one();
    }

    /// This epoch of the gateway is over.
    pub(crate) fn forget(&self, gateway: &str, epoch: u64) {
        let key = (gateway.to_owned(), epoch);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.stored.remove(&key);
        shared.due.remove(&key);
    }

    /// To be notified when the connection is up again.
    pub(crate) fn connected(&self) -> Arc<Notify> {
        Arc::clone(&self.connected)
    }

    /// Publishes until `done`, and once more then.
    pub(crate) async fn publish(self, handle: Handle, beat: Duration, done: CancellationToken) {
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = done.cancelled() => break,
                () = self.moved.notified() => {
                    self.say(&handle, false);
                    tokio::time::sleep(SPACING).await;
                }
                () = self.connected.notified() => self.say(&handle, true),
                _ = beats.tick() => self.say(&handle, true),
            }
        }
        self.say(&handle, true);
    }

    fn say(&self, handle: &Handle, all: bool) {
        let marks: Vec<(String, Watermark)> = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let due = std::mem::take(&mut shared.due);
            shared
                .stored
                .iter()
                .filter(|(key, _)| all || due.contains(*key))
                .map(|((gateway, epoch), next_sequence)| {
                    let mark = Watermark { epoch: *epoch, next_sequence: *next_sequence };
                    (gateway.clone(), mark)
                })
                .collect()
        };
        for (gateway, mark) in marks {
            handle.publish(&format!("{STORED_TOPIC}/{gateway}"), mark.encode());
        }
    }
}
