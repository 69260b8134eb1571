//! Opening a spool's directory: the lock, the epoch, and what the segments still hold.
//!
//! In: a directory, perhaps left by a process that was killed or a machine that lost power.
//! Out: the state every complete record is in. Never here: writing records.

use crate::{
    SpoolSettings,
    record::{self, Parsed},
    shared::{Segment, State, segment_path},
};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The sizes contradict each other.
    #[error(
        "spool {dir}: max_bytes = {max_bytes} must be at least twice segment_bytes = \
         {segment_bytes}, and segment_bytes at least 1"
    )]
    Sizes {
        /// The directory.
        dir: PathBuf,
        /// As set.
        segment_bytes: u64,
        /// As set.
        max_bytes: u64,
    },
    /// Another process has it open.
    #[error("spool {dir} is in use by another process")]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A file of the spool could not be read or written.
    #[error("spool: {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The epoch file does not hold 16 hex digits.
    #[error("spool: {path} does not hold an epoch of 16 hex digits")]
    Epoch {
        /// The file.
        path: PathBuf,
    },
    /// A record in the middle of the log does not read back: the disk lost or changed it.
    #[error(
        "spool: record {sequence} is missing or damaged at byte {offset} of {path}; \
         move the directory away to go on without what it still holds"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The record that should be there.
        sequence: u64,
    },
}

/// A directory taken over.
pub(crate) struct Opened {
    pub(crate) lock: File,
    pub(crate) epoch: u64,
    pub(crate) state: State,
    pub(crate) cut_bytes: u64,
}

/// Locks `settings.dir`, reads its epoch (or draws one) and scans its segments.
pub(crate) fn open(settings: &SpoolSettings) -> Result<Opened, OpenError> {
    let dir = &settings.dir;
    if settings.segment_bytes == 0 || settings.max_bytes / 2 < settings.segment_bytes {
        return Err(OpenError::Sizes {
            dir: dir.clone(),
            segment_bytes: settings.segment_bytes,
            max_bytes: settings.max_bytes,
        });
    }
    fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let lock = lock(dir)?;
    let epoch = epoch(dir)?;
    let (segments, cut_bytes) = scan(dir, epoch)?;
    let durable_next = segments.iter().map(|(_, next)| *next).next_back().unwrap_or(0);
    let segments: Vec<_> = segments.into_iter().map(|(segment, _)| segment).collect();
    let trimmed = segments.first().map_or(durable_next, |segment| segment.first);
    Ok(Opened { lock, epoch, state: State { segments, durable_next, trimmed }, cut_bytes })
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { doing: "lock", path, source }),
    }
}

fn epoch(dir: &Path) -> Result<u64, OpenError> {
    let path = dir.join("epoch");
    match fs::read_to_string(&path) {
        Ok(text) => u64::from_str_radix(text.trim_end(), 16)
            .ok()
            .filter(|_| text.trim_end().len() == 16)
            .ok_or(OpenError::Epoch { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes)
                .map_err(|error| io_error("draw the epoch for", &path)(io::Error::other(error)))?;
            let epoch = u64::from_le_bytes(bytes);
            write_whole(dir, "epoch", format!("{epoch:016x}\n").as_bytes())?;
            Ok(epoch)
        }
        Err(source) => Err(OpenError::Io { doing: "read", path, source }),
    }
}

/// Writes a small file so that it is there whole or not at all.
fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), OpenError> {
    let (part, path) = (dir.join(format!("{name}.part")), dir.join(name));
    let mut file = File::create(&part).map_err(io_error("create", &part))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", &part))?;
    fs::rename(&part, &path).map_err(io_error("rename into", &path))?;
    sync_dir(dir).map_err(io_error("sync", dir))
}

/// Makes created, renamed and deleted names durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Every segment with the sequence behind its last record; the torn tail of the last one is cut.
fn scan(dir: &Path, epoch: u64) -> Result<(Vec<(Segment, u64)>, u64), OpenError> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let name = entry.map_err(io_error("list", dir))?.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(".seg")).map(str::parse::<u64>);
        if let Some(Ok(first)) = first {
            firsts.push(first);
        }
    }
    firsts.sort_unstable();
    let mut segments = Vec::with_capacity(firsts.len());
    let mut cut_bytes = 0;
    let ends = firsts.iter().skip(1).map(|next| Some(*next)).chain([None]);
    for (first, end) in firsts.iter().copied().zip(ends) {
        let path = segment_path(dir, first);
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        let (segment, next) = walk(&bytes, epoch, first, end);
        match end {
            // Behind a write error a new segment takes over; what the old one holds beyond its
            // start was never acknowledged, and `walk` stopped there.
            Some(end) if next == end => {}
            Some(_) => {
                return Err(OpenError::Damaged { path, offset: segment.bytes, sequence: next });
            }
            None => {
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                cut_bytes = size.saturating_sub(segment.bytes);
                if cut_bytes > 0 {
                    cut(&path, segment.bytes).map_err(io_error("cut the torn tail of", &path))?;
                }
            }
        }
        segments.push((segment, next));
    }
    Ok((segments, cut_bytes))
}

fn walk(bytes: &[u8], epoch: u64, first: u64, end: Option<u64>) -> (Segment, u64) {
    let mut segment = Segment::new(first);
    let mut next = first;
    let mut rest = bytes;
    while end.is_none_or(|end| next < end)
        && let Parsed::Record { frame, .. } = record::parse(epoch, next, rest)
    {
        segment.note(next, u64::try_from(frame).unwrap_or(u64::MAX));
        next += 1;
        rest = rest.get(frame..).unwrap_or_default();
    }
    (segment, next)
}

fn cut(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(bytes)?;
    file.sync_all()
}

pub(crate) fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io { doing, path: path.to_owned(), source }
}
