//! What can be wrong with one uplink, from naming its device to reading its last field.
//!
//! In: the finding of one step. Out: a stable code, a sentence, and the offset where there is one.
//! Never here: keys and payload bytes; a message may be logged.

use model::DeviceKey;

/// Why an uplink could not be identified, opened or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UplinkError {
    /// No meter of the registry has this name.
    #[error("no meter is registered for device {device}")]
    UnknownDevice {
        /// The name the envelope or the payload gives.
        device: DeviceKey,
    },
    /// Neither envelope nor payload names a device.
    #[error("neither the envelope nor its payload names a device")]
    UnnamedDevice,
    /// The payload names another device than the meter it came for.
    #[error("the payload names device {named}, which is not this meter")]
    DeviceMismatch {
        /// The name in the payload.
        named: DeviceKey,
    },
    /// The meter's profile is not one of ours.
    #[error("profile {name:?} is unknown")]
    UnknownProfile {
        /// The name in the registry or the request.
        name: String,
    },
    /// The key this frame needs is not registered.
    #[error("{what} is needed and not registered")]
    KeyMissing {
        /// Which key.
        what: &'static str,
    },
    /// The LoRaWAN message integrity code fits no known session and counter.
    #[error("message integrity code of device address {dev_addr:08x} does not fit")]
    MicMismatch {
        /// The address in the frame.
        dev_addr: u32,
    },
    /// The seal of a native frame does not fit the meter's key.
    #[error("the seal of frame {counter} of serial {serial} does not fit")]
    SealMismatch {
        /// The serial number in the clear header.
        serial: u64,
        /// The frame counter in the clear header.
        counter: u32,
    },
    /// A frame came unsealed from a meter that has a key.
    #[error("frame {counter} of serial {serial} is not sealed, and this meter has a key")]
    SealMissing {
        /// The serial number in the clear header.
        serial: u64,
        /// The frame counter in the clear header.
        counter: u32,
    },
    /// The counter was used before, and nothing in the frame makes that harmless.
    #[error("counter {counter} was used before, the last is {last}")]
    Replayed {
        /// The counter of this frame.
        counter: u32,
        /// The highest counter seen before.
        last: u32,
    },
    /// The frame ends before its last field.
    #[error("{what} needs {need} more bytes")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where the missing bytes begin.
        offset: usize,
        /// How many are missing at least.
        need: usize,
    },
    /// The frame is longer than any of its kind.
    #[error("{what} has {got} bytes, at most {limit} are allowed")]
    Oversized {
        /// What is too long.
        what: &'static str,
        /// How long it is.
        got: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The checksum over the frame does not fit.
    #[error("checksum is {found:02X}, computed {computed:02X}")]
    ChecksumMismatch {
        /// Where the checksum stands.
        offset: usize,
        /// The one in the frame.
        found: u32,
        /// The one over the frame.
        computed: u32,
    },
    /// A length in the frame contradicts the frame.
    #[error("{what}: {announced} announced, {found} found")]
    LengthMismatch {
        /// Which length.
        what: &'static str,
        /// Where it is announced.
        offset: usize,
        /// What it says.
        announced: usize,
        /// What is there.
        found: usize,
    },
    /// A byte that must be something else.
    #[error("{what}: {found:02X} found, {expected} expected")]
    Malformed {
        /// Which field.
        what: &'static str,
        /// Where it stands.
        offset: usize,
        /// The byte found.
        found: u8,
        /// What may stand there.
        expected: &'static str,
    },
    /// Well formed, and not something this codec reads.
    #[error("{what} {value:X} is not supported")]
    Unsupported {
        /// What kind of thing.
        what: &'static str,
        /// Its number.
        value: u64,
        /// Where it stands.
        offset: usize,
    },
    /// The payload is encrypted and no key was there to open it.
    #[error("encrypted in mode {mode}, and no key is registered")]
    Encrypted {
        /// The security mode its header names.
        mode: u8,
        /// Where the encrypted bytes begin.
        offset: usize,
    },
    /// The key does not open the payload, or its authentication code does not fit.
    #[error("the key does not fit")]
    KeyMismatch {
        /// Where the encrypted bytes or the authentication code begin.
        offset: usize,
    },
    /// The bytes follow no layout known here.
    #[error("the bytes follow no known layout")]
    NotRecognised,
}

impl UplinkError {
    /// The stable name of this kind of error, for counters, dead letters and scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownDevice { .. } => "unknown_device",
            Self::UnnamedDevice => "unnamed_device",
            Self::DeviceMismatch { .. } => "device_mismatch",
            Self::UnknownProfile { .. } => "unknown_profile",
            Self::KeyMissing { .. } => "key_missing",
            Self::MicMismatch { .. } => "mic_mismatch",
            Self::SealMismatch { .. } => "seal_mismatch",
            Self::SealMissing { .. } => "seal_missing",
            Self::Replayed { .. } => "replayed",
            Self::Truncated { .. } => "truncated",
            Self::Oversized { .. } => "oversized",
            Self::ChecksumMismatch { .. } => "checksum_mismatch",
            Self::LengthMismatch { .. } => "length_mismatch",
            Self::Malformed { .. } => "malformed",
            Self::Unsupported { .. } => "unsupported",
            Self::Encrypted { .. } => "encrypted",
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::NotRecognised => "not_recognised",
        }
    }

    /// The offset in the payload the error speaks of, counted from its first byte.
    #[must_use]
    pub const fn offset(&self) -> Option<usize> {
        match self {
            Self::Truncated { offset, .. }
            | Self::ChecksumMismatch { offset, .. }
            | Self::LengthMismatch { offset, .. }
            | Self::Malformed { offset, .. }
            | Self::Unsupported { offset, .. }
            | Self::Encrypted { offset, .. }
            | Self::KeyMismatch { offset } => Some(*offset),
            Self::Oversized { limit, .. } => Some(*limit),
            Self::UnknownDevice { .. }
            | Self::UnnamedDevice
            | Self::DeviceMismatch { .. }
            | Self::UnknownProfile { .. }
            | Self::KeyMissing { .. }
            | Self::MicMismatch { .. }
            | Self::SealMismatch { .. }
            | Self::SealMissing { .. }
            | Self::Replayed { .. }
            | Self::NotRecognised => None,
        }
    }
}
