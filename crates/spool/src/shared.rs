//! What the writer, the readers and the trimmers of one spool know in common.
//!
//! In: segments as they are opened, closed and deleted; the durable end. Out: where a sequence
//! number lies. Never here: record bytes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Distance between two entries of a segment's sparse index.
const INDEX_STEP_BYTES: u64 = 64 << 10;

/// One segment: the records `first..` up to the next segment's first, or the durable end.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Sequence of its first record; its file is named after it.
    pub(crate) first: u64,
    /// Bytes of durable records.
    pub(crate) bytes: u64,
    /// Every 64 KiB or so, where a record starts: (sequence, offset).
    index: Vec<(u64, u64)>,
}

impl Segment {
    pub(crate) fn new(first: u64) -> Self {
        Self { first, bytes: 0, index: Vec::new() }
    }

    /// A record that starts at the present end of the segment.
    pub(crate) fn note(&mut self, sequence: u64, frame: u64) {
        let last = self.index.last().map_or(0, |(_, offset)| *offset);
        if self.bytes >= last + INDEX_STEP_BYTES {
            self.index.push((sequence, self.bytes));
        }
        self.bytes += frame;
    }

    /// The closest known record start at or before `sequence`.
    pub(crate) fn seek(&self, sequence: u64) -> (u64, u64) {
        let after = self.index.partition_point(|(at, _)| *at <= sequence);
        after.checked_sub(1).and_then(|i| self.index.get(i)).copied().unwrap_or((self.first, 0))
    }
}

/// The log as it stands.
#[derive(Debug)]
pub(crate) struct State {
    /// Oldest first; never empty, the last one is being written.
    pub(crate) segments: Vec<Segment>,
    /// The sequence behind the last durable record.
    pub(crate) durable_next: u64,
    /// Records below may be forgotten.
    pub(crate) trimmed: u64,
}

impl State {
    pub(crate) fn first(&self) -> u64 {
        self.segments.first().map_or(self.durable_next, |segment| segment.first)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Takes out every whole segment below `trimmed`; the one being written stays.
    pub(crate) fn take_trimmed(&mut self) -> Vec<Segment> {
        let keep_from = self
            .segments
            .iter()
            .skip(1)
            .take_while(|following| following.first <= self.trimmed)
            .count();
        self.segments.drain(..keep_from).collect()
    }
}

/// The state behind its lock.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) epoch: u64,
    pub(crate) grown: Condvar,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(dir: &Path, epoch: u64, state: State) -> Arc<Self> {
        Arc::new(Self {
            dir: dir.to_owned(),
            epoch,
            grown: Condvar::new(),
            state: Mutex::new(state),
        })
    }

    /// Nothing is done under the lock that could leave the state half changed, so a panic
    /// elsewhere does not spoil it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segment_path(&self, first: u64) -> PathBuf {
        segment_path(&self.dir, first)
    }
}

pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}
