//! The writing side: groups of records, made durable together, and trimming.
//!
//! In: records. Out: their sequence numbers, once they are on disk.
//! Never here: reading records back.

use crate::{
    RECORD_BYTES_MAX, SpoolSettings,
    directory::{self, OpenError, sync_dir},
    read::SpoolReader,
    record,
    shared::{Segment, Shared},
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

/// Why nothing of a group was appended. The spool stays usable after each of them.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The spool is as large as it may become; trim, then try again.
    #[error("the spool is full: {used_bytes} of {max_bytes} bytes used, {need_bytes} more needed")]
    Full {
        /// Bytes of records kept.
        used_bytes: u64,
        /// Bytes the group needs.
        need_bytes: u64,
        /// The limit set.
        max_bytes: u64,
    },
    /// A record is larger than any may be.
    #[error("record {index} of the group has {bytes} bytes; at most {RECORD_BYTES_MAX} are taken")]
    TooLarge {
        /// Which one.
        index: usize,
        /// Its size.
        bytes: usize,
    },
    /// The disk refused (full, broken, read-only).
    #[error("spool: {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The writer of a spool, and its owner: the directory is locked until it is dropped.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    segment_bytes: u64,
    max_bytes: u64,
    cut_bytes: u64,
    /// The segment being written; `None` before the first append and after a failure, when the
    /// file's tail is unknown.
    active: Option<File>,
    buffer: Vec<u8>,
    lock: File,
    #[cfg(test)]
    pub(crate) fault: Option<Fault>,
}

impl Spool {
    /// Opens the spool in `settings.dir`, or creates it, and recovers every complete record.
    ///
    /// # Errors
    /// When the directory is in use by another process, cannot be read or written, or a record
    /// in the middle of the log is damaged.
    pub fn open(settings: &SpoolSettings) -> Result<Self, OpenError> {
        let opened = directory::open(settings)?;
        let mut state = opened.state;
        if state.segments.is_empty() {
            state.segments.push(Segment::new(state.durable_next));
        }
        Ok(Self {
            shared: Shared::new(&settings.dir, opened.epoch, state),
            segment_bytes: settings.segment_bytes,
            max_bytes: settings.max_bytes,
            cut_bytes: opened.cut_bytes,
            active: None,
            buffer: Vec::new(),
            lock: opened.lock,
            #[cfg(test)]
            fault: None,
        })
    }

    /// The random number drawn when the directory was created.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The oldest record kept; [`Spool::next_sequence`] when there is none.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.shared.state().first()
    }

    /// The sequence number the next record gets.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.shared.state().durable_next
    }

    /// Bytes of records kept on disk.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.state().bytes()
    }

    /// Bytes of a torn tail that were cut off when the spool was opened.
    #[must_use]
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// A reader with its own file handles.
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared))
    }

    /// A handle that trims from another thread.
    #[must_use]
    pub fn trimmer(&self) -> Trimmer {
        Trimmer { shared: Arc::clone(&self.shared) }
    }

    /// Forgets records below `below`, see [`Trimmer::trim`].
    pub fn trim(&self, below: u64) {
        self.trimmer().trim(below);
    }

    /// Appends `records` as one group and returns their sequence numbers. When it returns, they
    /// are on disk; when it fails, no reader sees any of them (should the process die before the
    /// next append, those that reached the disk whole are found at the next open).
    ///
    /// # Errors
    /// When the spool or the disk is full, the disk fails, or a record is too large.
    pub fn append(&mut self, records: &[&[u8]]) -> Result<Range<u64>, AppendError> {
        let from = self.next_sequence();
        if records.is_empty() {
            return Ok(from..from);
        }
        let frames = self.encode(records, from)?;
        let need: u64 = frames.iter().sum();
        self.make_room(need)?;
        let mut file = match self.active.take() {
            Some(file) => file,
            None => self.resume()?,
        };
        let mut at = self.active_bytes();
        if at > 0 && at + need > self.segment_bytes {
            file = self.start_segment()?;
            at = 0;
        }
        // `active` stays empty on failure: what the file holds behind `at` is unknown then.
        self.write(&file, at).map_err(|source| AppendError::Io {
            doing: "append to",
            path: self.active_path(),
            source,
        })?;
        self.active = Some(file);
        let mut state = self.shared.state();
        let mut next = from;
        if let Some(segment) = state.segments.last_mut() {
            for frame in frames {
                segment.note(next, frame);
                next += 1;
            }
        }
        state.durable_next = next;
        drop(state);
        self.shared.grown.notify_all();
        Ok(from..next)
    }

    /// Fills the buffer with the frames of `records`; returns the size of each.
    fn encode(&mut self, records: &[&[u8]], from: u64) -> Result<Vec<u64>, AppendError> {
        self.buffer.clear();
        let mut frames = Vec::with_capacity(records.len());
        for ((index, record), sequence) in records.iter().enumerate().zip(from..) {
            if record.len() > RECORD_BYTES_MAX {
                return Err(AppendError::TooLarge { index, bytes: record.len() });
            }
            let before = self.buffer.len();
            record::encode(self.shared.epoch, sequence, record, &mut self.buffer);
            frames.push(u64::try_from(self.buffer.len() - before).unwrap_or(u64::MAX));
        }
        Ok(frames)
    }

    fn make_room(&mut self, need: u64) -> Result<(), AppendError> {
        let (used, all_trimmed) = {
            let state = self.shared.state();
            (state.bytes(), state.trimmed >= state.durable_next)
        };
        if used.saturating_add(need) <= self.max_bytes {
            return Ok(());
        }
        if all_trimmed && need <= self.max_bytes && used > 0 {
            // Only the segment being written is left, and nobody needs it.
            self.active = Some(self.start_segment()?);
            self.trim(0);
            return Ok(());
        }
        Err(AppendError::Full { used_bytes: used, need_bytes: need, max_bytes: self.max_bytes })
    }

    /// Opens the segment to write to, at the start and after a failure.
    fn resume(&mut self) -> Result<File, AppendError> {
        let (path, bytes) = (self.active_path(), self.active_bytes());
        if bytes == 0 {
            return self.create(path);
        }
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| {
            file.set_len(bytes)?;
            file.sync_all()?;
            Ok(file)
        });
        match cut {
            Ok(file) => Ok(file),
            // Its tail cannot be cut: leave it. Opening ignores what lies beyond the next
            // segment's first record.
            Err(_) => self.start_segment(),
        }
    }

    fn start_segment(&mut self) -> Result<File, AppendError> {
        let first = self.next_sequence();
        let file = self.create(self.shared.segment_path(first))?;
        let mut state = self.shared.state();
        if state.segments.last().is_none_or(|last| last.first != first) {
            state.segments.push(Segment::new(first));
        }
        Ok(file)
    }

    fn create(&self, path: PathBuf) -> Result<File, AppendError> {
        File::create(&path)
            .and_then(|file| {
                file.sync_all()?;
                sync_dir(&self.shared.dir)?;
                Ok(file)
            })
            .map_err(|source| AppendError::Io { doing: "create", path, source })
    }

    fn active_bytes(&self) -> u64 {
        self.shared.state().segments.last().map_or(0, |segment| segment.bytes)
    }

    fn active_path(&self) -> PathBuf {
        let state = self.shared.state();
        self.shared.segment_path(state.segments.last().map_or(state.durable_next, |s| s.first))
    }

    fn write(&mut self, file: &File, at: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(fault) = self.fault.take() {
            let half = self.buffer.len() / 2;
            let torn = if fault == Fault::Write { &self.buffer[..half] } else { &self.buffer[..] };
            file.write_all_at(torn, at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(&self.buffer, at)?;
        file.sync_data()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Closing alone is not enough: a child process being started at this moment holds a copy
        // of the handle, and with it the lock. Failing changes nothing about that.
        self.lock.unlock().ok();
    }
}

/// A failure a test asks for: half the group written, or all of it but not synced.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Write,
    Sync,
}

/// Forgets records, from any thread.
#[derive(Debug, Clone)]
pub struct Trimmer {
    shared: Arc<Shared>,
}

impl Trimmer {
    /// Records below `below` are no longer needed. Disk space comes back in whole segments, so
    /// some may still be readable, also after reopening. Never goes backwards, never beyond what
    /// is durable. A segment that cannot be deleted now is deleted (or trimmed) another time.
    pub fn trim(&self, below: u64) {
        let mut gone = {
            let mut state = self.shared.state();
            state.trimmed = below.min(state.durable_next).max(state.trimmed);
            state.take_trimmed()
        };
        // Oldest first, so that a kill in between leaves no hole.
        let deleted = gone
            .iter()
            .take_while(|segment| fs::remove_file(self.shared.segment_path(segment.first)).is_ok())
            .count();
        gone.drain(..deleted);
        if !gone.is_empty() {
            self.shared.state().segments.splice(..0, gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_write_nothing_of_it_is_left_and_the_spool_goes_on() {
        for fault in [Fault::Write, Fault::Sync] {
            for before in 0..3_u64 {
                let dir = tempfile::tempdir().unwrap();
                let settings = SpoolSettings {
                    dir: dir.path().to_owned(),
                    segment_bytes: 40,
                    max_bytes: 4096,
                };
                let mut spool = Spool::open(&settings).unwrap();
                for _ in 0..before {
                    spool.append(&[b"kept"]).unwrap();
                }
                spool.fault = Some(fault);
                let error = spool.append(&[b"lost", b"lost"]).unwrap_err();
                assert!(matches!(error, AppendError::Io { .. }), "{error}");
                assert_eq!(spool.next_sequence(), before);
                assert!(spool.reader().read(before, 9, 999).unwrap().is_empty());
                assert_eq!(spool.append(&[b"next"]).unwrap(), before..before + 1);
                let read = spool.reader().read(before, 9, 999).unwrap();
                assert_eq!(read, [(before, b"next".to_vec())]);
                // Killed right after another failure.
                spool.fault = Some(fault);
                assert!(spool.append(&[b"lost"]).is_err());
                drop(spool);
                let mut spool = Spool::open(&settings).unwrap();
                // A whole record that was written but not confirmed may come back; half of one
                // may not.
                let unconfirmed = u64::from(fault == Fault::Sync);
                assert_eq!(spool.next_sequence(), before + 1 + unconfirmed);
                spool.append(&[b"last"]).unwrap();
            }
        }
    }
}
