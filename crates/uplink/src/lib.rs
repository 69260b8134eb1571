//! Bytes to reads: transports, codecs and device profiles.
//!
//! In: what meters, network servers and platforms send. Out: envelopes, then register reads and
//! meter events; and the other way round, the same frames encoded for simulators and commands.
//! Never here: sockets, files, databases, the wall clock, whether a read is believed, money.

pub mod batch;
mod broker;
mod bytes;
pub mod codec;
mod decoded;
mod envelope;
mod error;
pub mod ndjson;
pub mod phy;
mod pipeline;
pub mod profile;
pub mod transport;

pub use broker::{BrokerAddress, BrokerAddressError};
pub use decoded::{Decoded, DecodedEvent, DecodedRead, Details};
pub use envelope::{
    ENVELOPE_BYTES_MAX, Envelope, EnvelopeError, Network, PAYLOAD_BYTES_MAX, Radio,
    SOURCE_BYTES_MAX,
};
pub use error::UplinkError;
pub use pipeline::{Opened, decode, device_of, identify, open};
pub use profile::Profile;
