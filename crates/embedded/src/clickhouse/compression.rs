//! LZ4 both ways: ClickHouse's blocks coming in, LZ4 frames going out.
//!
//! In: bytes as they arrive. Out: bytes, never more per block than the limit.
//! Never here: checking the blocks' checksums: TCP on one machine does not need it, and a changed
//! block fails to decompress or to parse.

use super::exception::Exception;
use bytes::{Buf, Bytes, BytesMut};
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use std::io::Write;

const CHECKSUM_BYTES: usize = 16;
/// Method, compressed size, uncompressed size.
const HEADER_BYTES: usize = 9;
/// Largest block taken, compressed or not; clients send 256 KiB to 1 MiB.
const BLOCK_BYTES_MAX: usize = 64 << 20;

const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;

/// Takes a body of compressed blocks apart (`decompress=1`).
#[derive(Default)]
pub(super) struct Blocks {
    pending: BytesMut,
}

impl Blocks {
    /// Takes what arrived and appends what it completes to `out`.
    pub(super) fn push(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), Exception> {
        self.pending.extend_from_slice(data);
        while let Some((method, stored, plain)) = self.header() {
            if !(HEADER_BYTES..=BLOCK_BYTES_MAX).contains(&stored) || plain > BLOCK_BYTES_MAX {
                return Err(Exception::new(
                    33,
                    "CANNOT_READ_ALL_DATA",
                    format_args!("compressed block of {stored} for {plain} bytes"),
                ));
            }
            let Some(block_len) = CHECKSUM_BYTES.checked_add(stored) else { break };
            if self.pending.len() < block_len {
                return Ok(());
            }
            let mut block = self.pending.split_to(block_len);
            block.advance(CHECKSUM_BYTES + HEADER_BYTES);
            append(method, &block, plain, out)?;
        }
        Ok(())
    }

    /// Whether the body ended between two blocks.
    pub(super) fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }

    /// Method, size with header, and plain size of the block at the front.
    fn header(&self) -> Option<(u8, usize, usize)> {
        let mut header = self.pending.get(CHECKSUM_BYTES..CHECKSUM_BYTES + HEADER_BYTES)?;
        let method = header.get_u8();
        let stored = usize::try_from(header.get_u32_le()).ok()?;
        let plain = usize::try_from(header.get_u32_le()).ok()?;
        Some((method, stored, plain))
    }
}

fn append(method: u8, data: &[u8], plain: usize, out: &mut BytesMut) -> Result<(), Exception> {
    let broken = |what: String| Exception::new(271, "CANNOT_DECOMPRESS", what);
    match method {
        METHOD_NONE => out.extend_from_slice(data),
        METHOD_LZ4 => {
            let text = lz4_flex::block::decompress(data, plain)
                .map_err(|error| broken(error.to_string()))?;
            if text.len() != plain {
                return Err(broken(format!("block of {} bytes, not {plain}", text.len())));
            }
            out.extend_from_slice(&text);
        }
        other => {
            return Err(Exception::new(
                89,
                "UNKNOWN_COMPRESSION_METHOD",
                format_args!("unknown compression method {other:#04x}"),
            ));
        }
    }
    Ok(())
}

/// One LZ4 frame of `data`; frames may follow each other in a body.
pub(super) fn lz4_frame(data: &[u8]) -> Bytes {
    let info = FrameInfo::new().block_size(BlockSize::Max256KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(data.len() / 2 + 64));
    // Writing to memory cannot fail; an empty body would be refused by any client.
    encoder
        .write_all(data)
        .and_then(|()| encoder.finish().map_err(std::io::Error::from))
        .map(Bytes::from)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(data: &[u8]) -> Vec<u8> {
        let packed = lz4_flex::block::compress(data);
        let mut block = vec![0; CHECKSUM_BYTES];
        block.push(METHOD_LZ4);
        block.extend_from_slice(&u32::try_from(packed.len() + HEADER_BYTES).unwrap().to_le_bytes());
        block.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
        block.extend_from_slice(&packed);
        block
    }

    proptest! {
        #[test]
        fn blocks_come_out_however_they_are_cut(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
            cut in 1_usize..50,
        ) {
            let body: Vec<u8> = parts.iter().flat_map(|part| block(part)).collect();
            let mut blocks = Blocks::default();
            let mut out = BytesMut::new();
            for piece in body.chunks(cut) {
                blocks.push(piece, &mut out).unwrap();
            }
            prop_assert!(blocks.is_complete());
            prop_assert_eq!(&out[..], &parts.concat()[..]);
        }

        #[test]
        fn no_body_stops_the_server(body: Vec<u8>) {
            let mut blocks = Blocks::default();
            let _any = blocks.push(&body, &mut BytesMut::new());
        }
    }

    #[test]
    fn a_block_that_claims_too_much_is_refused() {
        let mut huge = block(b"x");
        huge[CHECKSUM_BYTES + 5..CHECKSUM_BYTES + 9].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Blocks::default().push(&huge, &mut BytesMut::new()).unwrap_err().code(), 33);
    }
}
