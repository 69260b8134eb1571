//! The native frame, version 1: several dated reads of several registers in one short frame.
//!
//! In: one frame of our own meters, clear or sealed. Out: reads and events; the same encoded.
//! Never here: how the key reaches the meter; the replay window (see `pipeline`).
//!
//! `docs/native-frame.md` specifies the bytes for firmware; its worked example is a test here.

mod decode;
mod encode;
mod seal;

pub use decode::{decode, header, names};
pub use encode::{EncodeError, EventOut, Series, encode, encode_sealed};
pub use seal::unseal;

/// The longest frame, in bytes: what fits one `CoAP` message without blockwise transfer.
pub const FRAME_BYTES_MAX: usize = 1024;

/// The most reads of a frame, over all its series.
pub const READS_MAX: usize = 1024;

/// The first byte: `D` marks a native frame, `1` is the version.
pub const MAGIC_V1: u8 = 0xD1;

/// Flag bit: the body is sealed.
const SEALED: u8 = 0x01;

/// Flag bit of a series: the meter doubts these reads.
const SUSPECT: u8 = 0x01;

/// Bytes of the checksum of a clear frame, and of the seal's tag.
const CHECKSUM_BYTES: usize = 4;
const TAG_BYTES: usize = 8;

/// The clear header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The meter's serial number.
    pub serial: u64,
    /// The frame counter: one more for every frame the meter sends, never used twice.
    pub counter: u32,
    /// Whether the body was sealed on the air.
    pub sealed: bool,
}

#[cfg(test)]
mod tests;
