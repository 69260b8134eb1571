//! Laws of the spool: whatever was acknowledged comes back, whatever is cut, killed or trimmed.
//!
//! In: random histories. Out: the spool compared with a list. Never here: services.

#![cfg(test)]

use proptest::prelude::*;
use spool::{AppendError, OpenError, ReadError, Spool, SpoolReader, SpoolSettings};
use std::{fs, path::Path, time::Duration};

fn settings(dir: &Path, segment_bytes: u64, max_bytes: u64) -> SpoolSettings {
    SpoolSettings { dir: dir.to_owned(), segment_bytes, max_bytes }
}

fn read_all(reader: &mut SpoolReader, from: u64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut next = from;
    while next < reader.durable_next() {
        let some = reader.read(next, 7, 100).unwrap();
        assert!(!some.is_empty());
        for (sequence, bytes) in some {
            assert_eq!(sequence, next);
            next += 1;
            all.push(bytes);
        }
    }
    all
}

fn last_segment(dir: &Path) -> std::path::PathBuf {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    names.sort();
    names.pop().unwrap()
}

#[test]
fn a_tail_torn_at_any_byte_leaves_exactly_the_complete_records() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), 250, 10_000);
    let records: Vec<Vec<u8>> = (0..12_u8).map(|i| vec![i; usize::from(i) * 3]).collect();
    {
        let mut spool = Spool::open(&settings).unwrap();
        for record in &records {
            spool.append(&[record]).unwrap();
        }
    }
    let path = last_segment(dir.path());
    let first: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let whole = fs::read(&path).unwrap();
    assert!(first > 0 && whole.len() > 50, "the last of several segments, with records");
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut kept = usize::try_from(first).unwrap();
        let mut end = 0;
        while kept < records.len() && end + 16 + records[kept].len() <= cut {
            end += 16 + records[kept].len();
            kept += 1;
        }
        let mut spool = Spool::open(&settings).unwrap();
        assert_eq!(spool.cut_bytes(), u64::try_from(cut - end).unwrap(), "cut at {cut}");
        assert_eq!(spool.next_sequence(), u64::try_from(kept).unwrap(), "cut at {cut}");
        assert_eq!(read_all(&mut spool.reader(), 0), records[..kept], "cut at {cut}");
        // And it goes on from there, and what it then holds survives too.
        assert_eq!(spool.append(&[b"more"]).unwrap().start, u64::try_from(kept).unwrap());
        drop(spool);
        let spool = Spool::open(&settings).unwrap();
        assert_eq!(read_all(&mut spool.reader(), 0).last().unwrap(), b"more");
        drop(spool);
        for entry in fs::read_dir(dir.path()).unwrap() {
            let later = entry.unwrap().path();
            if later.extension().is_some_and(|e| e == "seg") && later > path {
                fs::remove_file(later).unwrap();
            }
        }
    }
}

#[test]
fn a_damaged_record_in_the_middle_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), 100, 10_000);
    {
        let mut spool = Spool::open(&settings).unwrap();
        for _ in 0..20 {
            spool.append(&[b"0123456789".as_slice()]).unwrap();
        }
    }
    let path = dir.path().join(format!("{:020}.seg", 0));
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Spool::open(&settings).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { sequence: 1, offset: 26, .. }), "{error}");
}

#[test]
fn two_spools_cannot_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), 100, 1_000);
    let spool = Spool::open(&settings).unwrap();
    assert!(matches!(Spool::open(&settings), Err(OpenError::InUse { .. })));
    let epoch = spool.epoch();
    drop(spool);
    assert_eq!(Spool::open(&settings).unwrap().epoch(), epoch, "the epoch stays");
    let other = tempfile::tempdir().unwrap();
    let other = Spool::open(&SpoolSettings { dir: other.path().join("a/b"), ..settings }).unwrap();
    assert_ne!(other.epoch(), epoch, "a new directory draws its own");
}

#[test]
fn a_full_spool_refuses_until_it_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&settings(dir.path(), 100, 200)).unwrap();
    let record = [7_u8; 34];
    for _ in 0..4 {
        spool.append(&[&record]).unwrap();
    }
    let full = spool.append(&[&record]).unwrap_err();
    assert!(matches!(full, AppendError::Full { used_bytes: 200, need_bytes: 50, .. }), "{full}");
    spool.trim(1);
    assert!(spool.append(&[&record]).is_err(), "half a segment gives nothing back");
    spool.trim(4);
    assert_eq!(spool.append(&[&record]).unwrap(), 4..5);
    spool.trim(5);
    assert_eq!(spool.append(&[&[1_u8; 184]]).unwrap(), 5..6, "a spool nobody needs makes room");
    let mut reader = spool.reader();
    assert!(matches!(reader.read(4, 1, 1), Err(ReadError::Trimmed { wanted: 4, first: 5 })));
    let huge = vec![0; spool::RECORD_BYTES_MAX + 1];
    assert!(matches!(spool.append(&[&huge]), Err(AppendError::TooLarge { index: 0, .. })));
    let wrong = Spool::open(&settings(&dir.path().join("x"), 100, 199));
    assert!(matches!(wrong, Err(OpenError::Sizes { .. })));
}

#[test]
fn a_reader_waits_for_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&settings(dir.path(), 1 << 20, 1 << 22)).unwrap();
    let mut reader = spool.reader();
    let waiting = std::thread::spawn(move || {
        let next = reader.wait(0, Duration::from_secs(60));
        (next, read_all(&mut reader, 0))
    });
    spool.append(&[b"a", b"b"]).unwrap();
    let (next, records) = waiting.join().unwrap();
    assert_eq!((next, records), (2, vec![b"a".to_vec(), b"b".to_vec()]));
    let large = vec![9; 300_000];
    spool.append(&[&large, b"small"]).unwrap();
    let mut reader = spool.reader();
    assert_eq!(reader.read(2, 9, 10).unwrap(), [(2, large)], "a large record comes alone");
    assert_eq!(reader.read(3, 9, 10).unwrap(), [(3, b"small".to_vec())]);
    assert_eq!(reader.read(1, 1, 10).unwrap(), [(1, b"b".to_vec())], "and one may go back");
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    Trim(u64),
    Read(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(0_usize..90, 1..6).prop_map(Step::Append),
        1 => (0_u64..200).prop_map(Step::Trim),
        2 => (0_u64..200).prop_map(Step::Read),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_history_reads_back_as_a_list_would(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 256, 4_096);
        let mut spool = Spool::open(&settings).unwrap();
        let mut reader = spool.reader();
        let mut list: Vec<Vec<u8>> = Vec::new();
        let mut trimmed = 0;
        for step in steps {
            let length = u64::try_from(list.len()).unwrap();
            match step {
                Step::Append(sizes) => {
                    let group: Vec<Vec<u8>> =
                        sizes.iter().map(|size| vec![u8::try_from(size % 251).unwrap(); *size]).collect();
                    let slices: Vec<&[u8]> = group.iter().map(Vec::as_slice).collect();
                    match spool.append(&slices) {
                        Ok(range) => {
                            prop_assert_eq!(range.start, length);
                            list.extend(group);
                            prop_assert_eq!(range.end, u64::try_from(list.len()).unwrap());
                        }
                        Err(AppendError::Full { .. }) => prop_assert!(spool.used_bytes() > 3_500),
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                Step::Trim(below) => {
                    spool.trim(below);
                    trimmed = trimmed.max(below.min(length));
                }
                Step::Read(from) => match reader.read(from, 5, 120) {
                    Ok(records) => {
                        prop_assert_eq!(records.is_empty(), from >= length);
                        for (sequence, bytes) in records {
                            prop_assert_eq!(&bytes, &list[usize::try_from(sequence).unwrap()]);
                        }
                    }
                    Err(ReadError::Trimmed { .. }) => prop_assert!(from < trimmed),
                    Err(other) => prop_assert!(false, "{}", other),
                },
                Step::Reopen => {
                    drop(spool);
                    spool = Spool::open(&settings).unwrap();
                    reader = spool.reader();
                }
            }
            prop_assert!(spool.first_sequence() <= trimmed, "nothing goes before it is trimmed");
            prop_assert_eq!(spool.next_sequence(), u64::try_from(list.len()).unwrap());
        }
        let first = spool.first_sequence();
        prop_assert_eq!(read_all(&mut reader, first), &list[usize::try_from(first).unwrap()..]);
    }
}
