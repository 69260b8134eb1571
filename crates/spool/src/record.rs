//! The record's frame on disk.
//!
//! In: a sequence number and bytes, or bytes read back from a segment. Out: the frame, or the
//! record it holds, or why it holds none.
//! Never here: files.

/// Bytes in front of every record: length, crc32c, sequence.
pub(crate) const HEADER_BYTES: usize = 16;

/// The largest record a spool takes.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// What stands at a position of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// The record expected here, and how many bytes its frame takes.
    Record { bytes: &'a [u8], frame: usize },
    /// The frame goes on beyond the bytes at hand; this many are needed.
    Short { need: usize },
    /// No such record: torn, damaged, or of another sequence or epoch.
    Broken,
}

/// Writes the frame of record `sequence` behind `into`. The caller has checked the length.
pub(crate) fn encode(epoch: u64, sequence: u64, bytes: &[u8], into: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&checksum(epoch, length, sequence, bytes).to_le_bytes());
    into.extend_from_slice(&sequence.to_le_bytes());
    into.extend_from_slice(bytes);
}

/// Reads the record `sequence` at the start of `at`.
pub(crate) fn parse(epoch: u64, sequence: u64, at: &[u8]) -> Parsed<'_> {
    let Some((length, rest)) = at.split_first_chunk::<4>() else {
        return Parsed::Short { need: HEADER_BYTES };
    };
    let length = u32::from_le_bytes(*length);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if size > RECORD_BYTES_MAX {
        return Parsed::Broken;
    }
    let frame = HEADER_BYTES + size;
    let (Some((crc, rest)), true) = (rest.split_first_chunk::<4>(), at.len() >= frame) else {
        return Parsed::Short { need: frame };
    };
    let (Some((found, _)), Some(bytes)) =
        (rest.split_first_chunk::<8>(), at.get(HEADER_BYTES..frame))
    else {
        return Parsed::Short { need: frame };
    };
    if u64::from_le_bytes(*found) != sequence
        || u32::from_le_bytes(*crc) != checksum(epoch, length, sequence, bytes)
    {
        return Parsed::Broken;
    }
    Parsed::Record { bytes, frame }
}

/// crc32c over everything that must be right; the epoch is covered without being written.
fn checksum(epoch: u64, length: u32, sequence: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&epoch.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &sequence.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_breaks_the_record() {
        let mut frame = Vec::new();
        encode(9, 7, b"uplink", &mut frame);
        assert_eq!(parse(9, 7, &frame), Parsed::Record { bytes: b"uplink", frame: frame.len() });
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(9, 7, &flipped), Parsed::Record { .. }), "bit {bit}");
        }
        assert_eq!(parse(9, 8, &frame), Parsed::Broken);
        assert_eq!(parse(8, 7, &frame), Parsed::Broken);
    }

    #[test]
    fn a_record_cut_short_says_how_much_it_needs() {
        let mut frame = Vec::new();
        encode(9, 7, b"uplink", &mut frame);
        for cut in 0..frame.len() {
            assert!(matches!(parse(9, 7, &frame[..cut]), Parsed::Short { .. }), "cut at {cut}");
        }
    }
}
